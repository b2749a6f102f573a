//! The border to the expression room: scalars and conditions as a file holds them.
//!
//! Pure: no I/O, no clock, no async.

use crate::expr::template::{self, Template};
use crate::expr::{Expression, Names, SyntaxError, Value, condition};

/// A scalar that has been read.
pub(super) enum Scalar {
    Text(String),
    Expression(Expression),
    Insert,
}

pub(super) fn is_template(text: &str) -> bool {
    template::has_expression(text)
}

/// Reads a scalar. A `${{ }}` that holds nothing but a string in quotes is that string.
pub(super) fn scalar(text: &str, names: &Names) -> Result<Scalar, SyntaxError> {
    Ok(match template::parse(text, names)? {
        Template::Text(text) => Scalar::Text(text),
        Template::Insert => Scalar::Insert,
        Template::Expression(expression) => match quoted(expression.source()) {
            Some(text) => Scalar::Text(text),
            None => Scalar::Expression(expression),
        },
    })
}

/// The text of an expression that is one string literal.
fn quoted(source: &str) -> Option<String> {
    let inner = source.strip_prefix('\'')?.strip_suffix('\'')?;
    let unescaped = inner.replace("''", "\u{0}");
    (!unescaped.contains('\'')).then(|| unescaped.replace('\u{0}', "'"))
}

pub(super) fn condition(text: &str, names: &Names) -> Result<Expression, SyntaxError> {
    condition::parse(text, names)
}

pub(super) fn hook_condition(text: &str, names: &Names) -> Result<Expression, SyntaxError> {
    condition::parse_hook(text, names)
}

pub(super) fn success() -> Expression {
    condition::success()
}

pub(super) fn always() -> Expression {
    condition::always()
}

/// A number as GitHub spells it in text (E5).
pub(super) fn number_text(number: f64) -> String {
    Value::Number(number).to_display_string()
}
