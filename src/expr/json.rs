//! toJSON and fromJSON (E11, E12).

use super::memory::Memory;
use super::{EvaluationError, Value};

/// JSON with two spaces of indentation, as the runner writes it.
pub(super) fn write(value: &Value, memory: &Memory) -> Result<String, EvaluationError> {
    let mut text = String::new();
    write_value(&mut text, value, 0, memory)?;
    Ok(text)
}

fn write_value(text: &mut String, value: &Value, level: usize, memory: &Memory) -> Result<(), EvaluationError> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_display_string()),
        Value::String(string) => write_string(text, string),
        Value::Array(items) if items.is_empty() => text.push_str("[]"),
        Value::Object(object) if object.is_empty() => text.push_str("{}"),
        Value::Array(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                new_line(text, position > 0, level + 1);
                write_value(text, item, level + 1, memory)?;
            }
            new_line(text, false, level);
            text.push(']');
        }
        Value::Object(object) => {
            text.push('{');
            for (position, (key, item)) in object.iter().enumerate() {
                new_line(text, position > 0, level + 1);
                write_string(text, key);
                text.push_str(": ");
                write_value(text, item, level + 1, memory)?;
            }
            new_line(text, false, level);
            text.push('}');
        }
    }
    // Two bytes are counted per character, which has at most four: half the length is a lower bound.
    memory.check(text.len() / 2)
}

fn new_line(text: &mut String, comma: bool, level: usize) {
    if comma {
        text.push(',');
    }
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", level));
}

/// Escapes what the runner's JSON library escapes: control characters and the three Unicode line ends.
fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..'\u{20}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// Any JSON text, white space around it allowed.
pub(super) fn read(text: &str) -> Result<Value, EvaluationError> {
    let failed = |why: &dyn std::fmt::Display| EvaluationError::Failed(format!("Error parsing fromJson: {why}"));
    if text.trim().is_empty() {
        return Err(failed(&"empty input"));
    }
    serde_json::from_str(text).map_err(|error| failed(&error))
}
