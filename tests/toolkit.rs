//! Tests of the area `toolkit` against known answers: what GitHub's own runner does with a step's output.

mod commands;
mod containers;
mod masking;
mod problem_matchers;

use std::path::Path;

use serde_json::Value as Json;

/// Runs `check` on every case of a table and prints how many there were. A failing case names itself.
fn each_case(table: &Path, mut check: impl FnMut(&Json)) {
    let text = std::fs::read(table).unwrap();
    let table_json: Json = serde_json::from_slice(&text).unwrap();
    let cases = table_json["cases"].as_array().unwrap();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(case))).is_err() {
            panic!("{}: {id}", table.display());
        }
    }
    println!("{}: {} passed, 0 skipped", table.file_name().unwrap().to_string_lossy(), cases.len());
    assert!(!cases.is_empty());
}

fn texts(json: &Json) -> Vec<String> {
    json.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}
