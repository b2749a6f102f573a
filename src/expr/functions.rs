//! The functions (E8 to E14). Arguments are evaluated when they are needed, and only then.

use super::ast::{Function, Node};
use super::evaluate::{Evaluator, Outcome};
use super::fold::fold;
use super::memory::text_size;
use super::{EvaluationError, Functions, StatusFunction, Value, json};

/// Surroundings without a job: neither status functions nor files.
#[derive(Clone, Copy, Debug)]
pub struct NoFunctions;

impl Functions for NoFunctions {
    fn status(&self, function: StatusFunction, _: &[String]) -> Result<bool, EvaluationError> {
        Err(failed(format!("{}() has no meaning here", function.name())))
    }

    fn hash_files(&self, _: &[String]) -> Result<String, EvaluationError> {
        Err(failed("hashFiles() has no meaning here".to_owned()))
    }
}

fn failed(message: String) -> EvaluationError {
    EvaluationError::Failed(message)
}

/// The parser has checked the number of arguments.
pub(super) fn call(on: &mut Evaluator<'_>, function: Function, nodes: &[Node]) -> Result<Outcome, EvaluationError> {
    Ok(Outcome::Plain(match function {
        Function::Case => return case(on, nodes),
        Function::Contains => {
            let (search, item) = two(on, nodes)?;
            Value::Bool(contains(&search, &item))
        }
        Function::StartsWith => compare_text(on, nodes, |text, part| text.starts_with(part))?,
        Function::EndsWith => compare_text(on, nodes, |text, part| text.ends_with(part))?,
        Function::Format => format(on, nodes)?,
        Function::Join => join(on, nodes)?,
        Function::ToJson => {
            let value = on.value(&nodes[0])?;
            Value::string(json::write(&value, &on.memory)?)
        }
        Function::FromJson => {
            let text = on.value(&nodes[0])?.to_display_string();
            json::read(&text)?
        }
        Function::HashFiles => Value::string(on.scope.functions.hash_files(&texts(on, nodes)?)?),
        Function::Status(status) => Value::Bool(on.scope.functions.status(status, &texts(on, nodes)?)?),
    }))
}

fn two(on: &mut Evaluator<'_>, nodes: &[Node]) -> Result<(Value, Value), EvaluationError> {
    Ok((on.value(&nodes[0])?, on.value(&nodes[1])?))
}

fn texts(on: &mut Evaluator<'_>, nodes: &[Node]) -> Result<Vec<String>, EvaluationError> {
    nodes.iter().map(|node| Ok(on.value(node)?.to_display_string())).collect()
}

/// Pairs of predicate and value, then the default (E14).
fn case(on: &mut Evaluator<'_>, nodes: &[Node]) -> Result<Outcome, EvaluationError> {
    let (default, pairs) = nodes.split_last().expect("the parser asks for three arguments at least");
    for pair in pairs.chunks_exact(2) {
        match on.value(&pair[0])? {
            Value::Bool(true) => return on.node(&pair[1]),
            Value::Bool(false) => {}
            _ => return Err(failed("case predicate must evaluate to a boolean value".to_owned())),
        }
    }
    on.node(default)
}

fn contains(search: &Value, item: &Value) -> bool {
    match search {
        Value::Array(items) => items.iter().any(|each| each.loosely_equals(item)),
        Value::Object(_) => false,
        search => item.is_primitive() && fold(&search.to_display_string()).contains(&*fold(&item.to_display_string())),
    }
}

fn compare_text(
    on: &mut Evaluator<'_>,
    nodes: &[Node],
    compare: fn(&str, &str) -> bool,
) -> Result<Value, EvaluationError> {
    let (text, part) = two(on, nodes)?;
    Ok(Value::Bool(
        text.is_primitive()
            && part.is_primitive()
            && compare(&fold(&text.to_display_string()), &fold(&part.to_display_string())),
    ))
}

/// A separator that is no primitive is ignored (E10).
fn join(on: &mut Evaluator<'_>, nodes: &[Node]) -> Result<Value, EvaluationError> {
    let list = on.value(&nodes[0])?;
    let Value::Array(items) = &list else {
        return Ok(Value::string(if list.is_primitive() { list.to_display_string() } else { String::new() }));
    };
    let separator = match nodes.get(1).map(|node| on.value(node)).transpose()? {
        Some(separator) if separator.is_primitive() => separator.to_display_string(),
        _ => ",".to_owned(),
    };
    let mut text = String::new();
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            text.push_str(&separator);
        }
        text.push_str(&item.to_display_string());
        // Two bytes are counted per character, which has at most four: half the length is a lower bound.
        on.memory.check(text.len() / 2)?;
    }
    Ok(Value::string(text))
}

/// `{0}`, `{{` and `}}` (E9). Arguments that the text does not mention are not evaluated.
fn format(on: &mut Evaluator<'_>, nodes: &[Node]) -> Result<Value, EvaluationError> {
    let template = on.value(&nodes[0])?.to_display_string();
    let mut results: Vec<Option<String>> = vec![None; nodes.len() - 1];
    let mut text = String::new();
    for piece in pieces(&template)? {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            Piece::Argument { index, specifiers } => {
                let Some(known) = results.get_mut(index) else {
                    return Err(failed(format!(
                        "The following format string references more arguments than were supplied: {template}"
                    )));
                };
                let result = match known {
                    Some(result) => result,
                    None => known.insert(on.value(&nodes[index + 1])?.to_display_string()),
                };
                if !specifiers.is_empty() {
                    let kind = on.value(&nodes[index + 1])?.kind();
                    return Err(failed(format!(
                        "The format specifiers '{specifiers}' are not valid for objects of type '{kind}'"
                    )));
                }
                text.push_str(result);
            }
        }
        on.memory.check(text.len() / 2)?;
    }
    // A text with many four-byte characters is bounded here, exactly.
    on.memory.check(text_size(&text))?;
    Ok(Value::string(text))
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Argument { index: usize, specifiers: String },
}

/// The pieces of a format string.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece<'_>>, EvaluationError> {
    let invalid = || failed(format!("The following format string is invalid: {template}"));
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        let after = &rest[brace + 1..];
        if after.starts_with(&rest[brace..=brace]) {
            // A doubled brace stands for one.
            pieces.push(Piece::Text(&rest[..=brace]));
            rest = &after[1..];
        } else if rest[brace..].starts_with('{') {
            if brace > 0 {
                pieces.push(Piece::Text(&rest[..brace]));
            }
            let digits = after.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            // GitHub reads the index as a byte.
            let index = after[..digits].parse::<u8>().map_err(|_| invalid())?;
            let (specifiers, behind) = specifiers(&after[digits..]).ok_or_else(invalid)?;
            pieces.push(Piece::Argument { index: index.into(), specifiers });
            rest = behind;
        } else {
            return Err(invalid());
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// What stands between the index and the closing brace, and the text behind the brace.
fn specifiers(text: &str) -> Option<(String, &str)> {
    if let Some(behind) = text.strip_prefix('}') {
        return Some((String::new(), behind));
    }
    let mut rest = text.strip_prefix(':')?;
    let mut specifiers = String::new();
    loop {
        let brace = rest.find('}')?;
        specifiers.push_str(&rest[..brace]);
        rest = &rest[brace + 1..];
        match rest.strip_prefix('}') {
            Some(behind) => {
                specifiers.push('}');
                rest = behind;
            }
            None => return Some((specifiers, rest)),
        }
    }
}
