//! `strategy.matrix` → combinations (M1–M6), and what else a strategy says (M7, M8).

use std::fmt::Write as _;

use crate::expr::{Object, Value};

/// A run may have so many legs of one matrix (M6).
pub const MAX_LEGS: usize = 256;

/// Combinations are looked at one by one before excludes thin them out; beyond this nothing can be meant.
const MAX_PRODUCT: usize = 100_000;

/// Names of legs are cut to this length (M9).
const MAX_NAME: usize = 100;

/// A strategy, evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    /// One entry without values when there is no matrix.
    pub legs: Vec<Combination>,
    pub has_matrix: bool,
    pub fail_fast: bool,
    /// `None`: all at once.
    pub max_parallel: Option<usize>,
}

/// One leg of a matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Combination {
    /// `matrix`.
    pub values: Object,
    /// What the name shows: the values that make this leg, without what `include` added (M9).
    pub segments: Vec<String>,
}

impl Combination {
    /// The default name of a leg: `name (a, b)` (M9).
    #[must_use]
    pub fn name(&self, base: &str) -> String {
        if self.segments.is_empty() {
            return base.to_owned();
        }
        let mut name = base.to_owned();
        for (index, segment) in self.segments.iter().enumerate() {
            let _ = write!(name, "{}{segment}", if index == 0 { " (" } else { ", " });
        }
        name.push(')');
        if name.chars().count() > MAX_NAME {
            name = name.chars().take(MAX_NAME - 3).collect();
            name.push_str("...");
        }
        name
    }
}

/// Reads an evaluated `strategy`; null stands for none.
///
/// # Errors
/// GitHub's sentence about what is wrong with it.
pub fn strategy(value: &Value) -> Result<Strategy, String> {
    let none = Value::Null;
    let field = |key: &str| value.get(key).unwrap_or(&none);
    if !matches!(value, Value::Null | Value::Object(_)) {
        return Err(format!("strategy must be a mapping, not {}", value.kind()));
    }
    let fail_fast = match field("fail-fast") {
        Value::Null => true,
        value => boolean(value).ok_or_else(|| "fail-fast must be a boolean".to_owned())?,
    };
    let max_parallel = match field("max-parallel") {
        Value::Null => None,
        value => {
            let number = value.to_number();
            if number.is_nan() {
                return Err("max-parallel must be a number".to_owned());
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
            Some(number as usize).filter(|&number| number > 0)
        }
    };
    let (legs, has_matrix) = match field("matrix") {
        Value::Null => (vec![Combination::default()], false),
        matrix => (expand(matrix)?, true),
    };
    Ok(Strategy { legs, has_matrix, fail_fast, max_parallel })
}

/// A boolean, or text that spells one.
pub(crate) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Expands an evaluated matrix. Order is that of declaration, the last vector varies fastest (M1); excludes come before
/// includes (M3); an include that matches no combination stands alone (M4). Nothing is left when everything is excluded.
///
/// # Errors
/// GitHub's sentence about what is wrong with it, or that there are too many combinations (M6).
pub fn expand(matrix: &Value) -> Result<Vec<Combination>, String> {
    let Value::Object(matrix) = matrix else {
        return Err(format!("Matrix must be a mapping, not {}", matrix.kind()));
    };
    let mut vectors: Vec<(&str, &[Value])> = Vec::new();
    let mut excludes = Vec::new();
    let mut includes = Vec::new();
    for (key, value) in matrix.iter() {
        if key.eq_ignore_ascii_case("include") {
            includes = entries(key, value)?;
        } else if key.eq_ignore_ascii_case("exclude") {
            excludes = entries(key, value)?;
        } else {
            let items = value.as_array().ok_or_else(|| format!("Matrix vector '{key}' must be a sequence"))?;
            if items.is_empty() {
                return Err(format!("Matrix vector '{key}' does not contain any values"));
            }
            vectors.push((key, items));
        }
    }
    if vectors.is_empty() && includes.is_empty() {
        return Err("Matrix must define at least one vector".to_owned());
    }
    let is_vector = |name: &str| vectors.iter().any(|(key, _)| crate::expr::equal_ignoring_case(key, name));
    for exclude in &excludes {
        if exclude.is_empty() {
            return Err("Matrix exclude filter must not be empty".to_owned());
        }
        if let Some(key) = exclude.keys().find(|key| !is_vector(key)) {
            return Err(format!("Matrix exclude key '{key}' does not match any key within the matrix"));
        }
    }
    let mut combinations = cross_product(&vectors, &excludes)?;
    let originals = combinations.len();
    for include in &includes {
        if include.is_empty() {
            return Err("Matrix include mapping does not contain any values".to_owned());
        }
        let mut matched = false;
        for combination in &mut combinations[..originals] {
            // Only vector values are compared, and they are never changed: extras cannot steer later entries.
            if include
                .iter()
                .filter(|(key, _)| is_vector(key))
                .all(|(key, value)| matches(&combination.values, key, value))
            {
                matched = true;
                for (key, value) in include.iter().filter(|(key, _)| !is_vector(key)) {
                    combination.values.insert(key, value.clone());
                }
            }
        }
        if !matched {
            if combinations.len() >= MAX_LEGS {
                return Err(too_many("more than 256"));
            }
            // What it shares with the vectors comes first, in its name as well.
            let (shared, own): (Vec<_>, Vec<_>) = include.iter().partition(|(key, _)| is_vector(key));
            combinations
                .push(combination(shared.into_iter().chain(own).map(|(key, value)| (key, value.clone())).collect()));
        }
    }
    Ok(combinations)
}

fn entries<'a>(key: &str, value: &'a Value) -> Result<Vec<&'a Object>, String> {
    if matches!(value, Value::Null) {
        return Ok(Vec::new());
    }
    let items = value.as_array().ok_or_else(|| format!("Matrix {key} must be a sequence"))?;
    items
        .iter()
        .map(|item| item.as_object().ok_or_else(|| format!("Matrix {key} must be a sequence of mappings")))
        .collect()
}

fn cross_product(vectors: &[(&str, &[Value])], excludes: &[&Object]) -> Result<Vec<Combination>, String> {
    let mut combinations = Vec::new();
    if vectors.is_empty() {
        return Ok(combinations);
    }
    let product = vectors.iter().fold(1_usize, |product, (_, items)| product.saturating_mul(items.len()));
    if product > MAX_PRODUCT {
        return Err(too_many(&product.to_string()));
    }
    for index in 0..product {
        // The last vector varies fastest: read the index as a number whose lowest digit is the last vector.
        let mut rest = index;
        let mut chosen: Vec<(&str, &Value)> = Vec::with_capacity(vectors.len());
        for (key, items) in vectors.iter().rev() {
            chosen.push((*key, &items[rest % items.len()]));
            rest /= items.len();
        }
        let values: Object = chosen.into_iter().rev().map(|(key, value)| (key, value.clone())).collect();
        let excluded = excludes.iter().any(|exclude| exclude.iter().all(|(key, value)| matches(&values, key, value)));
        if !excluded {
            if combinations.len() >= MAX_LEGS {
                return Err(too_many(&if excludes.is_empty() {
                    product.to_string()
                } else {
                    "more than 256".to_owned()
                }));
            }
            combinations.push(combination(values));
        }
    }
    Ok(combinations)
}

fn too_many(count: &str) -> String {
    format!("Matrix makes {count} jobs, but at most {MAX_LEGS} are allowed per run")
}

fn combination(values: Object) -> Combination {
    let mut segments = Vec::new();
    for value in values.values() {
        leaves(value, &mut segments);
    }
    Combination { values, segments }
}

fn leaves(value: &Value, segments: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| leaves(item, segments)),
        Value::Object(object) => object.values().for_each(|item| leaves(item, segments)),
        leaf => {
            let text = leaf.to_display_string();
            if !text.is_empty() {
                segments.push(text);
            }
        }
    }
}

/// Whether a combination has what a filter asks for at a key: leaf by leaf with the `==` of expressions, so objects
/// match partially and what is missing is null (M2).
fn matches(values: &Object, key: &str, filter: &Value) -> bool {
    values.get(key).is_some_and(|value| agrees(value, filter))
}

fn agrees(value: &Value, filter: &Value) -> bool {
    match filter {
        Value::Object(filter) => {
            filter.iter().all(|(key, filter)| agrees(value.get(key).unwrap_or(&Value::Null), filter))
        }
        Value::Array(filter) => filter.iter().enumerate().all(|(index, filter)| {
            agrees(value.as_array().and_then(|items| items.get(index)).unwrap_or(&Value::Null), filter)
        }),
        leaf => value.loosely_equals(leaf),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{expand, strategy};
    use crate::expr::Value;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "tables of literals read better")]
    fn check(matrix: Json, expect: Json) {
        let ours = match expand(&Value::from_json(&matrix)) {
            Ok(legs) => legs.iter().map(|leg| leg.values.to_json()).collect(),
            Err(message) => json!(message),
        };
        assert_eq!(ours, expect, "{matrix}");
    }

    #[test]
    fn m1_the_last_vector_varies_fastest() {
        check(
            json!({ "a": [1, 2], "b": ["x", "y"] }),
            json!([{ "a": 1, "b": "x" }, { "a": 1, "b": "y" }, { "a": 2, "b": "x" }, { "a": 2, "b": "y" }]),
        );
        check(json!({ "a": [] }), json!("Matrix vector 'a' does not contain any values"));
        check(json!({ "a": 1 }), json!("Matrix vector 'a' must be a sequence"));
        check(json!({}), json!("Matrix must define at least one vector"));
        check(json!([]), json!("Matrix must be a mapping, not Array"));
    }

    #[test]
    fn m2_exclude_compares_loosely() {
        check(json!({ "a": ["X", "y"], "exclude": [{ "A": "x" }] }), json!([{ "a": "y" }]));
        check(json!({ "a": [1, 2], "exclude": [{ "a": "1" }] }), json!([{ "a": 2 }]));
        check(json!({ "a": [1], "exclude": [{ "a": 1 }] }), json!([]));
        check(json!({ "a": [{ "n": 1, "m": 2 }, 3], "exclude": [{ "a": { "n": 1 } }] }), json!([{ "a": 3 }]));
    }

    #[test]
    fn m3_m4_include() {
        check(
            json!({ "a": [1, 2], "include": [{ "a": 1, "x": "p" }, { "a": 3, "x": "q" }, { "a": 3, "y": "r" }, { "x": "s" }] }),
            json!([{ "a": 1, "x": "s" }, { "a": 2, "x": "s" }, { "a": 3, "x": "q" }, { "a": 3, "y": "r" }]),
        );
    }

    #[test]
    fn m4_a_leg_of_its_own_begins_with_the_vectors() {
        let matrix = json!({"os": ["a"], "v": [1], "include": [{"z": "last", "v": 2, "y": {"x": 3}, "os": "b"}]});
        let legs = expand(&Value::from_json(&matrix)).expect("it expands");
        assert_eq!(legs[1].values.keys().collect::<Vec<_>>(), ["v", "os", "z", "y"]);
        assert_eq!(legs[1].name("j"), "j (2, b, last, 3)");
        let empty = json!({"os": ["a"], "include": [{}]});
        assert_eq!(
            expand(&Value::from_json(&empty)).map(|_| ()),
            Err("Matrix include mapping does not contain any values".to_owned())
        );
    }

    #[test]
    fn m5_only_include() {
        check(json!({ "include": [{ "x": 1 }, { "x": 2 }] }), json!([{ "x": 1 }, { "x": 2 }]));
        check(json!({ "include": [] }), json!("Matrix must define at least one vector"));
    }

    #[test]
    fn m6_at_most_256_legs() {
        let vector = |count: usize| Json::from((0..count).collect::<Vec<_>>());
        assert_eq!(
            expand(&Value::from_json(&json!({ "a": vector(16), "b": vector(16) }))).expect("allowed").len(),
            256
        );
        check(
            json!({ "a": vector(100), "b": vector(100) }),
            json!("Matrix makes 10000 jobs, but at most 256 are allowed per run"),
        );
        let huge =
            json!({ "a": vector(5000), "b": vector(5000), "c": vector(5000), "d": vector(5000), "e": vector(5000) });
        assert!(expand(&Value::from_json(&huge)).is_err());
        let excludes: Vec<Json> = (1..30).map(|a| json!({ "a": a })).collect();
        let thinned = json!({ "a": vector(30), "b": vector(30), "exclude": excludes });
        assert_eq!(expand(&Value::from_json(&thinned)).expect("allowed").len(), 30);
    }

    #[test]
    fn m9_names_show_the_values_that_make_a_leg() {
        let names = |matrix: Json| -> Vec<String> {
            expand(&Value::from_json(&matrix)).expect("allowed").iter().map(|leg| leg.name("build")).collect()
        };
        assert_eq!(
            names(
                json!({ "os": ["linux"], "node": [{ "v": 18, "lts": true }], "include": [{ "extra": 1 }, { "os": "mac" }] })
            ),
            ["build (linux, 18, true)", "build (mac)"]
        );
        let long = "x".repeat(200);
        assert_eq!(names(json!({ "a": [long] }))[0].len(), 100);
        assert!(names(json!({ "a": [long] }))[0].ends_with("..."));
        assert_eq!(names(json!({ "a": [""] })), ["build"]);
    }

    #[test]
    fn m7_m8_defaults() {
        let check = |value: Json| {
            let strategy = strategy(&Value::from_json(&value)).expect("allowed");
            (strategy.fail_fast, strategy.max_parallel, strategy.legs.len(), strategy.has_matrix)
        };
        assert_eq!(check(json!(null)), (true, None, 1, false));
        assert_eq!(check(json!({ "matrix": { "a": [1, 2] } })), (true, None, 2, true));
        assert_eq!(
            check(json!({ "fail-fast": false, "max-parallel": 2, "matrix": { "a": [1] } })),
            (false, Some(2), 1, true)
        );
    }
}
