//! YAML values that may hold expressions, kept unevaluated until their contexts exist.

use serde::{Deserialize, Serialize};

use crate::expr::{EvaluationError, Expression, Scope, Value};

/// A node of a workflow or action file. A scalar with `${{ }}` embedded in text has become one `format(…)`
/// expression when the file was decoded, as GitHub does it, so a token is either plain or one expression (E16).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Token {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    /// Serialised as its source text; parsing it again cannot fail because it was parsed before.
    Expression(Expression),
    Sequence(Vec<Token>),
    /// Pairs in file order. A key is a `String`, or an `Expression`; `${{ insert }}` is [`Token::Insert`].
    Mapping(Vec<(Token, Token)>),
    /// The key `${{ insert }}`: its value's pairs join the surrounding mapping.
    Insert,
}

impl Token {
    /// Evaluates every expression inside. Mapping keys become strings; `insert` pairs are merged in place.
    ///
    /// # Errors
    /// The first expression that cannot be evaluated, or that needs a hash of files first.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        let _ = scope;
        unimplemented!()
    }
}
