//! Files that GitHub refuses: they must be refused here, and the places that GitHub's parser names must be named.

use serde_json::Value as Json;
use towline::workflow::check;

use super::{conclude, errors, json, listed};
use crate::support;

/// Places that GitHub's TypeScript parser names and we do not, with the reason.
const OTHER_PLACES: &[(&str, &str)] = &[
    ("expand_object.yaml", "its parser refuses `env: ${{ … }}`, which GitHub accepts"),
    ("env-from-json.yaml", "its parser refuses `env: ${{ … }}`, which GitHub accepts"),
];

#[test]
fn actionlint_err() {
    suite("actionlint", &["err.json", "examples.json"]);
}

#[test]
fn schema_invalid() {
    suite("schema/tests", &["workflow-invalid.json"]);
}

fn suite(folder: &str, indices: &[&str]) {
    let Some(folder) = support::conformance(folder) else { return };
    for index in indices {
        let entries = json(&folder.join(index));
        let entries = entries["files"].as_array().unwrap();
        let mut failures = Vec::new();
        let mut skipped = Vec::new();
        let mut due = 0;
        let (mut places, mut named) = (0, 0);
        for entry in entries {
            let name = entry["file"].as_str().unwrap();
            let expected: Vec<&str> =
                entry["github_parser_errors"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
            let required = !expected.is_empty() || entry["valid"] == false;
            let path = folder.join(name);
            let diagnostics = check(name, &std::fs::read_to_string(&path).unwrap(), &|_| None);
            let found = errors(&diagnostics);
            if !required {
                continue;
            }
            due += 1;
            if let Some((_, reason)) = OTHER_PLACES.iter().find(|(id, _)| name.ends_with(id)) {
                skipped.push((name, *reason));
                continue;
            }
            if found.is_empty() {
                failures.push(format!("{name} is accepted; GitHub says\n    {}", expected.join("\n    ")));
            }
            for message in expected {
                let Some((line, column)) = place(message) else { continue };
                places += 1;
                let here = found.iter().any(|diagnostic| {
                    diagnostic.span.is_some_and(|span| (span.start.line, span.start.column) == (line, column))
                });
                if here {
                    named += 1;
                } else {
                    failures.push(format!("{name}: nothing for {message}\n{}", listed(&found)));
                }
            }
        }
        eprintln!("{index}: {named} of {places} places");
        conclude(index, due, &failures, &skipped);
    }
}

fn place(message: &str) -> Option<(usize, usize)> {
    let (_, rest) = message.split_once("(Line: ")?;
    let (line, rest) = rest.split_once(", Col: ")?;
    let (column, _) = rest.split_once(')')?;
    Some((line.parse().ok()?, column.parse().ok()?))
}
