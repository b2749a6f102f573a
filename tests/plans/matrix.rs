//! Matrices (M1–M6).

use serde_json::Value as Json;
use towline::expr::Value;
use towline::plan::matrix::expand;

use super::{all_cases, known, same};

/// Keys without case where a case says so; numbers as numbers.
fn comparable(value: &Json, fold: bool) -> Json {
    match value {
        Json::Object(object) => {
            let mut pairs: Vec<(String, Json)> = object
                .iter()
                .map(|(key, value)| (if fold { key.to_lowercase() } else { key.clone() }, comparable(value, fold)))
                .collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(pairs.into_iter().collect())
        }
        Json::Array(items) => items.iter().map(|item| comparable(item, fold)).collect(),
        Json::Number(number) => Json::from(number.as_f64()),
        other => other.clone(),
    }
}

#[test]
fn m1_m6_matrices_expand() {
    let Some(data) = known("matrix", "expand.json") else { return };
    all_cases("matrix", data["cases"].as_array().expect("cases"), |case| {
        let expanded = expand(&Value::from_json(&case["matrix"]));
        if let Some(expect) = case["error"].as_str() {
            return same("the error", expanded.err().as_deref(), Some(expect));
        }
        let legs = expanded?;
        let fold = case["keys_case_insensitive"] == true;
        let mut ours: Vec<Json> = legs.iter().map(|leg| comparable(&leg.values.to_json(), fold)).collect();
        let expect = case["combinations"].as_array().expect("combinations");
        let mut expect: Vec<Json> = expect.iter().map(|leg| comparable(leg, fold)).collect();
        if case["ordered"] != true {
            ours.sort_by_key(Json::to_string);
            expect.sort_by_key(Json::to_string);
        }
        same("combinations", ours, expect)
    });
}
