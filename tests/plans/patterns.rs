//! Branch, tag and path patterns (T2, T3).

use serde_json::Value as Json;
use towline::event::filters::{PatternKind, Patterns, check};

use super::{all_cases, known, same};

fn texts(value: &Json) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn t3_patterns_match() {
    let Some(data) = known("patterns", "match.json") else { return };
    all_cases("patterns/match", data["cases"].as_array().expect("cases"), |case| {
        let patterns = Patterns::new(texts(&case["patterns"]));
        let inputs = texts(&case["inputs"]);
        if let Some(expect) = case["include_filter_passes"].as_bool() {
            same("include_filter_passes", patterns.pass(&inputs), expect)?;
        }
        if let Some(expect) = case["ignore_filter_rejects"].as_bool() {
            same("ignore_filter_rejects", patterns.ignore(&inputs), expect)?;
        }
        Ok(())
    });
}

#[test]
fn t3_pattern_syntax() {
    let Some(data) = known("patterns", "syntax.json") else { return };
    all_cases("patterns/syntax", data["cases"].as_array().expect("cases"), |case| {
        let pattern = case["pattern"].as_str().expect("a pattern");
        for kind in texts(&case["kinds"]) {
            let faults = check(pattern, if kind == "ref" { PatternKind::Ref } else { PatternKind::Path });
            same(&format!("valid as {kind} ({faults:?})"), faults.is_empty(), case["valid"] == true)?;
            if !faults.is_empty() {
                let style_only = faults.iter().all(|fault| fault.style_only);
                same("lint_only", style_only, case["lint_only"] == true)?;
            }
            // Whatever the pattern is, it compiles and answers.
            let _ = Patterns::new([pattern]).matches(pattern);
        }
        Ok(())
    });
}
