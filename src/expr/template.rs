//! Scalars of files: plain text, or text with `${{ }}` in it (E16).

use super::{Expression, Fault, Names, SyntaxError, SyntaxErrorKind};

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// What a scalar is.
#[derive(Clone, Debug)]
pub enum Template {
    /// There is no `${{` in it.
    Text(String),
    /// It is exactly one `${{ }}`, which keeps the type of its value; or text around such parts has made it a
    /// `format(…)`, whose value is a string.
    Expression(Expression),
    /// It is `${{ insert }}`: as a key of a mapping, its value joins the mapping.
    Insert,
}

/// Whether there is an expression in the text.
#[must_use]
pub fn has_expression(text: &str) -> bool {
    text.contains(OPEN)
}

/// Reads a scalar. Offsets of errors count bytes of the scalar.
///
/// # Errors
/// The first malformed expression; one that is not closed, or empty; a whole that is longer than an expression may be.
pub fn parse(text: &str, names: &Names) -> Result<Template, SyntaxError> {
    let parts = parts(text)?;
    let mut arguments: Vec<Expression> = Vec::new();
    for part in &parts {
        if let Part::Expression { source, offset } = *part {
            if source.trim() == "insert" && !names.has_context("insert") {
                if parts.len() == 1 {
                    return Ok(Template::Insert);
                }
                return Err(error(
                    offset,
                    source.len(),
                    Fault::Syntax,
                    "The directive 'insert' is not allowed in this context. Directives are not supported for \
                     expressions that are embedded within a string. Directives are only supported when the entire \
                     value is an expression.",
                ));
            }
            let expression = Expression::parse_trimmed(source, names).map_err(|mut error| {
                error.offset += offset;
                error
            })?;
            arguments.push(expression);
        }
    }
    if arguments.is_empty() {
        return Ok(Template::Text(text.to_owned()));
    }
    if parts.len() == 1 {
        return Ok(Template::Expression(arguments.swap_remove(0)));
    }
    let mut format = String::from("format('");
    let mut count = 0;
    for part in &parts {
        match part {
            Part::Text(literal) => {
                format.push_str(&literal.replace('\'', "''").replace('{', "{{").replace('}', "}}"));
            }
            Part::Expression { .. } => {
                format.push_str(&format!("{{{count}}}"));
                count += 1;
            }
        }
    }
    format.push('\'');
    for argument in &arguments {
        format.push_str(", ");
        format.push_str(argument.source());
    }
    format.push(')');
    // Parsed anew, because GitHub applies the limits of length, depth and arguments to this form.
    Expression::parse(&format, names).map(Template::Expression).map_err(|error| SyntaxError {
        offset: 0,
        length: text.len(),
        help: Some("with an expression in it, the whole text counts as one expression".to_owned()),
        ..error
    })
}

enum Part<'a> {
    Text(&'a str),
    /// Without `${{ }}`; `offset` is where `source` begins.
    Expression {
        source: &'a str,
        offset: usize,
    },
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, SyntaxError> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find(OPEN).map(|open| at + open) {
        if open > at {
            parts.push(Part::Text(&text[at..open]));
        }
        let start = open + OPEN.len();
        let Some(length) = end(&text[start..]) else {
            let message = "The expression is not closed. An unescaped ${{ sequence was found, but the closing }} \
                           sequence was not found.";
            return Err(error(open, text.len() - open, Fault::Unclosed, message));
        };
        let source = &text[start..start + length];
        if source.trim().is_empty() {
            let whole = OPEN.len() + length + CLOSE.len();
            return Err(error(open, whole, Fault::Syntax, "An expression was expected"));
        }
        parts.push(Part::Expression { source, offset: start });
        at = start + length + CLOSE.len();
    }
    if at < text.len() {
        parts.push(Part::Text(&text[at..]));
    }
    Ok(parts)
}

/// Where the `}}` stands that is not inside a string.
fn end(text: &str) -> Option<usize> {
    let mut in_string = false;
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\'' => in_string = !in_string,
            b'}' if !in_string && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
    }
    None
}

fn error(offset: usize, length: usize, fault: Fault, message: &str) -> SyntaxError {
    let kind = if fault == Fault::Unclosed { SyntaxErrorKind::Lexing } else { SyntaxErrorKind::Parsing };
    SyntaxError { kind, fault, message: message.to_owned(), offset, length, help: None }
}
