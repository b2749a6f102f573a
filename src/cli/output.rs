//! What commands print: lines, columns, JSON whole or by field, and errors.

use std::io::Write as _;

use anyhow::Result;
use serde_json::{Map, Value};

use super::{ENVIRONMENT, INVALID, SUCCESS};

/// A command line that asks for what cannot be; its exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// `--json`, as `gh` has it; without names of fields it prints all of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Json {
    /// Print JSON: these fields, separated by commas, or all of them.
    #[arg(id = "json", long = "json", value_name = "FIELDS")]
    fields: Option<Option<String>>,
}

impl Json {
    /// Whether JSON is asked for.
    pub(super) fn is_wanted(&self) -> bool {
        self.fields.is_some()
    }

    /// Prints an object, or a list of them, and says the exit code.
    ///
    /// # Errors
    ///
    /// [`Refused`] for a field that none of them has; it lists those there are.
    pub(super) fn print(&self, value: &Value) -> Result<u8> {
        let shown = match &self.fields {
            Some(Some(names)) => select(value, &names.split(',').map(str::trim).collect::<Vec<_>>())?,
            _ => value.clone(),
        };
        say(&format!("{shown:#}\n"))?;
        Ok(SUCCESS)
    }
}

/// The named fields of an object or of each of a list, in the order of the names and under the names that were given.
fn select(value: &Value, names: &[&str]) -> Result<Value> {
    let objects: Vec<&Map<String, Value>> = match value {
        Value::Array(all) => all.iter().filter_map(Value::as_object).collect(),
        Value::Object(one) => vec![one],
        _ => Vec::new(),
    };
    for name in names {
        if !objects.is_empty() && objects.iter().all(|one| field(one, name).is_none()) {
            let mut known: Vec<&str> = objects.iter().flat_map(|one| one.keys().map(String::as_str)).collect();
            known.sort_unstable();
            known.dedup();
            return Err(Refused(format!("there is no field '{name}'; there are {}", known.join(", "))).into());
        }
    }
    let chosen = |one: &Map<String, Value>| -> Value {
        let pairs = names.iter().map(|name| ((*name).to_owned(), field(one, name).cloned().unwrap_or_default()));
        Value::Object(pairs.collect())
    };
    Ok(match value {
        Value::Object(one) => chosen(one),
        _ => objects.into_iter().map(chosen).collect(),
    })
}

/// A field by the name that the API has for it, or by the one that `gh` has: `headBranch` is `head_branch`.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    let renamed = match name {
        "databaseId" => "id",
        "workflowDatabaseId" => "workflow_id",
        "workflowName" => "name",
        "number" => "run_number",
        "attempt" => "run_attempt",
        "startedAt" => "run_started_at",
        "url" => "html_url",
        _ => {
            let mut snake = String::new();
            for letter in name.chars() {
                if letter.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            return object.get(&snake);
        }
    };
    object.get(renamed)
}

/// Writes text to standard output.
pub(super) fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

/// Says what is wrong on standard error.
pub(super) fn complain(text: &str) {
    // Nobody reads a closed standard error.
    let _ = writeln!(std::io::stderr().lock(), "error: {text}");
}

/// Says on standard error what is odd and no error.
pub(super) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "warning: {text}");
}

/// The exit code of what a command came to; says its error.
pub(super) fn exit_code(done: Result<u8>) -> u8 {
    done.unwrap_or_else(|error| {
        // A reader that went away (`| head`) ends the command quietly.
        let closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        if error.downcast_ref().is_some_and(closed) {
            return SUCCESS;
        }
        complain(&format!("{error:#}"));
        if error.is::<Refused>() { INVALID } else { ENVIRONMENT }
    })
}

/// Rows as aligned columns, the first row being the head.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A head and the rows of a list under it.
pub(super) fn listed<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<Vec<String>> {
    let head = head.map(str::to_owned).to_vec();
    std::iter::once(head).chain(rows.into_iter().map(|row| row.to_vec())).collect()
}

/// Text of a field; nothing when it is absent. What a terminal would obey is taken out.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The items of a list in an answer.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Refused, select};

    #[test]
    fn fields_have_the_names_of_the_api_and_those_of_gh() {
        let runs = json!([{"id": 7, "head_branch": "main", "run_number": 3}, {"id": 8, "head_branch": "dev", "run_number": 4}]);
        let chosen = select(&runs, &["databaseId", "headBranch", "run_number"]).unwrap();
        assert_eq!(
            chosen,
            json!([
                {"databaseId": 7, "headBranch": "main", "run_number": 3},
                {"databaseId": 8, "headBranch": "dev", "run_number": 4},
            ])
        );
        assert_eq!(select(&runs[0], &["id"]).unwrap(), json!({"id": 7}));
        assert_eq!(select(&json!([]), &["anything"]).unwrap(), json!([]));
    }

    #[test]
    fn a_field_that_is_not_there_is_refused_with_those_that_are() {
        let error = select(&json!([{"b": 1}, {"a": 2}]), &["a", "colour"]).unwrap_err();
        assert!(error.is::<Refused>());
        assert_eq!(error.to_string(), "there is no field 'colour'; there are a, b");
    }
}
