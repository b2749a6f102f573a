//! The text of `if`: an expression with or without `${{ }}`, made complete by the implicit `success()` (I1).

use super::template::{self, Template};
use super::{Expression, Names, SyntaxError};

/// The condition that is in force for an `if` of a job or step: `success()` when the text is empty,
/// `success() && (text)` when it calls no status function, else the text.
///
/// Text around a `${{ }}` makes the whole a string, which is true unless empty (E17).
///
/// # Errors
/// The text's first fault; offsets count bytes of the text.
pub fn parse(text: &str, names: &Names) -> Result<Expression, SyntaxError> {
    let Some(written) = written(text, names)? else {
        return Ok(success());
    };
    if written.calls_status_function() {
        return Ok(written);
    }
    Expression::parse(&format!("success() && ({})", written.source()), &Names::ANY).map_err(|error| SyntaxError {
        offset: 0,
        length: text.len(),
        ..error
    })
}

/// The condition that is in force when `if` is absent.
#[must_use]
pub fn success() -> Expression {
    fixed("success()")
}

/// The condition of `pre` and `post` steps: `always()` when the text is empty, else the text as it stands (A2).
///
/// # Errors
/// The text's first fault; offsets count bytes of the text.
pub fn parse_hook(text: &str, names: &Names) -> Result<Expression, SyntaxError> {
    Ok(written(text, names)?.unwrap_or_else(always))
}

/// The condition of `pre` and `post` steps that have none.
#[must_use]
pub fn always() -> Expression {
    fixed("always()")
}

fn fixed(source: &str) -> Expression {
    Expression::parse(source, &Names::ANY).expect("a call of a status function is a valid expression")
}

/// The expression as the author wrote it; `None` when there is nothing but white space.
///
/// # Errors
/// The text's first fault; offsets count bytes of the text.
pub fn written(text: &str, names: &Names) -> Result<Option<Expression>, SyntaxError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if template::has_expression(text) {
        match template::parse(text, names)? {
            Template::Expression(expression) => return Ok(Some(expression)),
            // Not an expression after all: read as one below, and reported there.
            Template::Text(_) | Template::Insert => {}
        }
    }
    Expression::parse_trimmed(text, names).map(Some)
}
