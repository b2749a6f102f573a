//! `${{ }}`: lex, parse, evaluate, functions, contexts, availability tables.
//!
//! The language is GitHub's (semantics §7 to §9): a [`template`] turns a scalar of a file into plain text or one
//! [`Expression`], [`condition`] does the same for `if`, [`Names`] says what may be named where, and a [`Scope`] gives
//! the names values. This room knows nothing of workflows: who fills the contexts is somebody else's matter.
//!
//! Pure: no I/O, no clock, no async.

mod ast;
pub mod condition;
mod evaluate;
mod fold;
mod functions;
mod json;
mod lexer;
mod memory;
mod names;
mod number;
mod parser;
mod reference;
pub mod template;
#[cfg(test)]
mod tests;
mod trace;
mod value;

pub use fold::{equal_ignoring_case, fold};
pub use functions::NoFunctions;
pub use memory::{MAX_MEMORY, MAX_MEMORY_ALONE};
pub use names::Names;
pub use reference::{Reference, Segment};
pub use value::{Object, Value};

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most UTF-16 units an expression may have (E15).
pub const MAX_LENGTH: usize = 21_000;
/// The most levels of operators, calls and properties (E15).
pub const MAX_DEPTH: usize = 50;

/// A parsed expression. Cheap to clone, and shared freely between threads.
#[derive(Clone, Debug)]
pub struct Expression {
    source: Arc<str>,
    root: Arc<ast::Node>,
}

impl Expression {
    /// Parses an expression (without `${{ }}`). A text without any symbol is null, as in GitHub's library; where an
    /// expression is due, [`template`] and [`condition`] say what an empty one means.
    ///
    /// # Errors
    /// The first fault: bad token, bad grammar, unknown context or function, too long, too deep.
    pub fn parse(source: &str, names: &Names) -> Result<Self, SyntaxError> {
        let root = parser::parse(source, names)?;
        Ok(Self { source: source.trim().into(), root: Arc::new(root) })
    }

    /// As [`Expression::parse`], but white space around the text counts in offsets only, not in messages.
    fn parse_trimmed(source: &str, names: &Names) -> Result<Self, SyntaxError> {
        Self::parse(source.trim(), names)
            .map_err(|error| SyntaxError { offset: error.offset + source.len() - source.trim_start().len(), ..error })
    }

    /// The text it was parsed from, without white space around it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates, with the memory that GitHub grants expressions in workflow files.
    ///
    /// # Errors
    /// What went wrong at run time; or that a hash of files is needed before it can be evaluated.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        self.evaluate_within(scope, MAX_MEMORY)
    }

    /// Evaluates with at most so many bytes of intermediate results, counted as GitHub counts them.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate_within(&self, scope: &Scope<'_>, max_memory: usize) -> Result<Value, EvaluationError> {
        evaluate::evaluate(&self.root, scope, max_memory)
    }

    /// Evaluates, and says how the value came about, in the lines of a debug log of GitHub's (H8); without the last of them when
    /// it failed.
    pub fn evaluate_traced(&self, scope: &Scope<'_>) -> (Result<Value, EvaluationError>, Vec<String>) {
        evaluate::traced(&self.root, scope, MAX_MEMORY)
    }

    /// Whether `success()`, `failure()`, `always()` or `cancelled()` is called anywhere (I1). Text inside strings does
    /// not count.
    #[must_use]
    pub fn calls_status_function(&self) -> bool {
        self.root.any(&mut |node| matches!(node, ast::Node::Call { function: ast::Function::Status(_), .. }))
    }

    /// Whether `hashFiles()` is called anywhere.
    #[must_use]
    pub fn calls_hash_files(&self) -> bool {
        self.root.any(&mut |node| matches!(node, ast::Node::Call { function: ast::Function::HashFiles, .. }))
    }

    /// The contexts it reads, each with the properties that follow as far as they are known without evaluating,
    /// in the order of the text.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        reference::references(&self.root)
    }

    /// Whether it reads this context. Names compare without case.
    #[must_use]
    pub fn reads_context(&self, name: &str) -> bool {
        self.root
            .any(&mut |node| matches!(node, ast::Node::Context { name: read, .. } if equal_ignoring_case(read, name)))
    }
}

impl PartialEq for Expression {
    /// The same text is the same expression.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Expression::parse(&source, &Names::ANY).map_err(serde::de::Error::custom)
    }
}

/// What an expression sees.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Context name → value. A context that is allowed but absent here is null.
    pub contexts: &'a Object,
    pub functions: &'a dyn Functions,
}

/// Functions whose answers depend on where the expression stands.
pub trait Functions {
    /// `success`, `failure`, `always`, `cancelled`, with job ids where the job-if grammar allows them (N5).
    ///
    /// # Errors
    /// When the function has no meaning here.
    fn status(&self, function: StatusFunction, jobs: &[String]) -> Result<bool, EvaluationError>;

    /// `hashFiles(patterns…)`: an answer known already, or [`EvaluationError::HashFiles`].
    ///
    /// # Errors
    /// [`EvaluationError::HashFiles`] with the patterns when they must be computed on the host first.
    fn hash_files(&self, patterns: &[String]) -> Result<String, EvaluationError>;
}

/// The status functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFunction {
    Success,
    Failure,
    Always,
    Cancelled,
}

impl StatusFunction {
    /// As GitHub's documentation spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Always => "always",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why an expression was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub kind: SyntaxErrorKind,
    pub fault: Fault,
    /// GitHub's text.
    pub message: String,
    /// Byte offset in the expression.
    pub offset: usize,
    /// Bytes of the symbol that is at fault; 0 at the end of the text.
    pub length: usize,
    /// How to mend it.
    pub help: Option<String>,
}

impl SyntaxError {
    /// The diagnostic code that stands for this fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        use crate::diagnostic::codes;
        match self.fault {
            Fault::Syntax => codes::EXPRESSION_SYNTAX,
            Fault::Unclosed => codes::EXPRESSION_UNCLOSED,
            Fault::UnknownContext => codes::UNKNOWN_CONTEXT,
            Fault::UnknownFunction => codes::UNKNOWN_FUNCTION,
            Fault::Limit => codes::EXPRESSION_LIMIT,
        }
    }
}

impl std::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// Which stage refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxErrorKind {
    Lexing,
    Parsing,
}

/// What kind of fault it is, whatever the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A symbol out of place, a wrong number of arguments, nothing where an expression is due.
    Syntax,
    /// `${{` without `}}`.
    Unclosed,
    UnknownContext,
    UnknownFunction,
    /// Too long or too deep.
    Limit,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvaluationError {
    Failed(String),
    /// The patterns must be hashed on the host; then evaluate again.
    HashFiles(Vec<String>),
}

impl std::fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::HashFiles(patterns) => write!(f, "hashFiles({}) is not known yet", patterns.join(", ")),
        }
    }
}

impl std::error::Error for EvaluationError {}
