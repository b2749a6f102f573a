//! Events, filters, matrices, plans and runs: known answers, and the commands `plan` and `why`.

mod commands;
mod events;
mod graph;
mod matrix;
mod patterns;
mod properties;
mod steps;

use serde_json::Value as Json;

/// A file of known answers, or `None` with a note when they are not there.
fn known(folder: &str, file: &str) -> Option<Json> {
    let path = crate::support::conformance(folder)?.join(file);
    let text = std::fs::read_to_string(&path).expect("the file of known answers can be read");
    Some(serde_json::from_str(&text).expect("known answers are JSON"))
}

/// Runs every case, prints the count, and fails with all differences at once.
fn all_cases(suite: &str, cases: &[Json], mut case: impl FnMut(&Json) -> Result<(), String>) {
    let mut failures = Vec::new();
    for (index, data) in cases.iter().enumerate() {
        let id = data["id"].as_str().or(data["file"].as_str()).map_or_else(|| index.to_string(), str::to_owned);
        if let Err(difference) = case(data) {
            failures.push(format!("{id}: {difference}"));
        }
    }
    println!("{suite}: {} of {} passed, 0 skipped", cases.len() - failures.len(), cases.len());
    assert!(!cases.is_empty(), "{suite} has no cases");
    assert!(failures.is_empty(), "{suite}:\n{}", failures.join("\n"));
}

/// A difference as a sentence, unless the two are equal.
#[expect(clippy::needless_pass_by_value, reason = "literals and options read better without a reference")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what} is {ours:?}, expected {theirs:?}")) }
}
