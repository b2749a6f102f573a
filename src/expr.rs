//! `${{ }}`: lex, parse, evaluate, functions, contexts, availability tables.
//!
//! Pure: no I/O, no clock, no async.

mod value;

pub use value::{Object, Value};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    source: String,
}

impl Expression {
    /// Parses an expression (without `${{ }}`).
    ///
    /// # Errors
    /// The first fault: bad token, bad grammar, unknown context or function, too long, too deep.
    pub fn parse(source: &str, names: &Names) -> Result<Self, SyntaxError> {
        let _ = (source, names);
        unimplemented!()
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates.
    ///
    /// # Errors
    /// What went wrong at run time; or that a hash of files is needed before it can be evaluated.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        let _ = scope;
        unimplemented!()
    }
}

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

/// Which contexts and functions may be named at one place of a file.
#[derive(Clone, Debug)]
pub struct Names {
    _private: (),
}

impl Names {
    /// Everything the language knows: for text that was checked before.
    pub const ANY: Names = Names { _private: () };
}

/// What an expression sees.
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

/// Why an expression was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub kind: SyntaxErrorKind,
    pub message: String,
    /// Byte offset in the expression.
    pub offset: usize,
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
