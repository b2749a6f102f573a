//! Files that GitHub accepts.

use std::path::Path;

use serde_json::Value as Json;
use towline::workflow::model::{ActionRuns, JobBody};
use towline::workflow::{check, cron, parse, parse_action};

use super::{conclude, errors, json, listed};
use crate::support;

/// Why a file is refused, if it is.
fn refusal(path: &Path, text: &str) -> Option<String> {
    let diagnostics = check(&path.to_string_lossy(), text, &|_| None);
    let found = errors(&diagnostics);
    (!found.is_empty()).then(|| format!("{}:\n{}", path.display(), listed(&found)))
}

fn files(index: &Json) -> impl Iterator<Item = &Json> {
    index["files"].as_array().unwrap().iter()
}

fn name(entry: &Json) -> &str {
    entry["file"].as_str().unwrap()
}

/// Whether GitHub's own parser is silent about it.
fn undisputed(entry: &Json) -> bool {
    entry["github_parser_errors"].as_array().is_none_or(Vec::is_empty)
}

#[test]
fn actionlint_ok() {
    let Some(folder) = support::conformance("actionlint") else { return };
    let index = json(&folder.join("ok.json"));
    let mut failures = Vec::new();
    for entry in files(&index).filter(|entry| undisputed(entry)) {
        let path = folder.join(name(entry));
        failures.extend(refusal(&path, &std::fs::read_to_string(&path).unwrap()));
    }
    conclude("actionlint/ok", files(&index).count(), &failures, &[]);
}

#[test]
fn starter_workflows() {
    let Some(folder) = support::conformance("starter-workflows") else { return };
    let index = json(&folder.join("index.json"));
    let mut failures = Vec::new();
    let mut skipped = Vec::new();
    for entry in files(&index) {
        if !undisputed(entry) {
            skipped.push((name(entry), "GitHub's own parser refuses the template until it is edited by hand"));
            continue;
        }
        let path = folder.join(name(entry));
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (placeholder, value) in index["substitutions"].as_object().unwrap() {
            text = text.replace(placeholder, value.as_str().unwrap());
        }
        failures.extend(refusal(&path, &text));
        let ids: Vec<String> =
            parse(name(entry), &text).0.map_or_else(Vec::new, |workflow| workflow.jobs.into_keys().collect());
        let expected: Vec<&str> = entry["jobs"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
        if ids != expected {
            failures.push(format!("{}: jobs {ids:?} instead of {expected:?}", name(entry)));
        }
    }
    conclude("starter-workflows", files(&index).count(), &failures, &skipped);
}

#[test]
fn schema_valid() {
    let Some(folder) = support::conformance("schema/tests") else { return };
    let index = json(&folder.join("workflow-valid.json"));
    let mut failures = Vec::new();
    for entry in files(&index) {
        let path = folder.join(name(entry));
        failures.extend(refusal(&path, &std::fs::read_to_string(&path).unwrap()));
    }
    conclude("schema/tests/workflow-valid", files(&index).count(), &failures, &[]);
}

#[test]
fn schema_actions() {
    let Some(folder) = support::conformance("schema/tests") else { return };
    let mut failures = Vec::new();
    let mut total = 0;
    for (kind, valid) in [("action-valid", true), ("action-invalid", false)] {
        for entry in std::fs::read_dir(folder.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            total += 1;
            // Rules that a JSON schema cannot hold, and that GitHub's runner has: unique ids of steps, and conditions
            // that are expressions.
            let valid = valid
                && !path.ends_with("action-valid/composite-run-steps.json")
                && !path.ends_with("action-valid/javascript.json");
            let text = std::fs::read_to_string(&path).unwrap();
            let (action, diagnostics) = parse_action(&path.to_string_lossy(), &text);
            if action.is_some() != valid {
                let all: Vec<_> = diagnostics.iter().collect();
                failures.push(format!("{}: valid should be {valid}\n{}", path.display(), listed(&all)));
            }
        }
    }
    conclude("schema/tests/action-*", total, &failures, &[]);
}

#[test]
fn act_and_server_workflows() {
    for suite in ["act-runner", "server-workflows"] {
        let Some(folder) = support::conformance(suite) else { return };
        let mut failures = Vec::new();
        let mut total = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let directory = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(directory.join("case.json")) else { continue };
            let case: Json = serde_json::from_str(&text).unwrap();
            let Some(workflow) = case["workflow"].as_str() else { continue };
            let root = directory.join("repo");
            let path = root.join(workflow);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            total += 1;
            let files = |path: &str| std::fs::read_to_string(root.join(path)).ok();
            let diagnostics = check(workflow, &text, &files);
            let found = errors(&diagnostics);
            // act hands on a secret that the called file does not declare; GitHub refuses that, as its reader tests show.
            if directory.ends_with("uses-workflow-local") {
                assert!(found.iter().all(|diagnostic| diagnostic.code == "TL141") && !found.is_empty());
                continue;
            }
            // `invalid` may also be found out when the run is planned, so only the other direction is asked for.
            if case["conclusion"] != "invalid" && !found.is_empty() {
                failures.push(format!("{}:\n{}", directory.display(), listed(&found)));
            }
        }
        conclude(suite, total, &failures, &[]);
    }
}

#[test]
fn cron_syntax() {
    let Some(folder) = support::conformance("cron") else { return };
    let table = json(&folder.join("syntax.json"));
    let cases = table["cases"].as_array().unwrap();
    let mut failures = Vec::new();
    for case in cases {
        let parsed = cron::parse(case["cron"].as_str().unwrap());
        if let Some(valid) = case["valid"].as_bool()
            && parsed.is_ok() != valid
        {
            failures.push(format!("{}: {parsed:?}", case["id"]));
        }
        if let Some(often) = case["more_often_than_every_5_minutes"].as_bool()
            && parsed.as_ref().is_ok_and(cron::Cron::more_often_than_every_5_minutes) != often
        {
            failures.push(format!("{}: {parsed:?} is more often: {}", case["id"], !often));
        }
    }
    conclude("cron", cases.len(), &failures, &[]);
}

#[test]
fn action_manifests() {
    let Some(folder) = support::conformance("action-manifests") else { return };
    let index = json(&folder.join("index.json"));
    let mut failures = Vec::new();
    for entry in files(&index) {
        let text = std::fs::read_to_string(folder.join(name(entry))).unwrap();
        failures.extend(manifest(name(entry), &text, &entry["expected"]));
    }
    conclude("action-manifests", files(&index).count(), &failures, &[]);
}

fn manifest(path: &str, text: &str, expected: &Json) -> Option<String> {
    let (action, diagnostics) = parse_action(path, text);
    let found = errors(&diagnostics);
    if expected["valid"] == false {
        let named = expected["error_contains"].as_str().filter(|text| text.starts_with("Missing"));
        let said = named.is_none_or(|text| found.iter().any(|diagnostic| diagnostic.message.contains(text)));
        return (found.is_empty() || !said).then(|| format!("{path}: not refused as expected\n{}", listed(&found)));
    }
    let Some(action) = action else { return Some(format!("{path}:\n{}", listed(&found))) };
    let mut read = serde_json::json!({
        "valid": true,
        "name": action.name,
        "description": action.description,
        "inputs": {},
        "deprecated_inputs": {},
    });
    for (name, input) in &action.inputs {
        let default = input.default.as_ref().and_then(towline::workflow::token::Token::plain_text);
        read["inputs"][name] = serde_json::json!(default.unwrap_or_default());
        if let Some(message) = &input.deprecation_message {
            read["deprecated_inputs"][name] = serde_json::json!(message);
        }
    }
    let text_of = |token: &towline::workflow::token::Token| match token {
        towline::workflow::token::Token::Expression(expression) => format!("${{{{ {} }}}}", expression.source()),
        other => other.plain_text().unwrap_or_default(),
    };
    match &action.runs {
        ActionRuns::Composite { steps } => {
            read["using"] = "composite".into();
            read["steps"] = serde_json::json!(steps.len());
        }
        ActionRuns::JavaScript { using, main, pre, pre_if, post, post_if } => {
            read["using"] = serde_json::json!(using);
            read["main"] = serde_json::json!(main);
            read["pre"] = serde_json::json!(pre);
            read["pre_if"] = serde_json::json!(pre_if.source());
            read["post"] = serde_json::json!(post);
            read["post_if"] = serde_json::json!(post_if.source());
        }
        ActionRuns::Docker { image, args, env, entrypoint, pre_entrypoint, pre_if, post_entrypoint, post_if } => {
            read["using"] = "docker".into();
            read["image"] = serde_json::json!(image);
            read["entrypoint"] = serde_json::json!(entrypoint);
            read["pre_entrypoint"] = serde_json::json!(pre_entrypoint);
            read["pre_if"] = serde_json::json!(pre_if.source());
            read["post_entrypoint"] = serde_json::json!(post_entrypoint);
            read["post_if"] = serde_json::json!(post_if.source());
            if let Some(towline::workflow::token::Token::Sequence(args)) = args {
                read["args"] = args.iter().map(text_of).collect();
            }
            if let Some(towline::workflow::token::Token::Mapping(env)) = env {
                read["env"] = env
                    .iter()
                    .map(|(key, value)| (text_of(key), text_of(value).into()))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
            }
        }
    }
    let different: Vec<String> = expected
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, value)| read[*key] != **value)
        .map(|(key, value)| format!("  {key}: {} instead of {value}", read[key]))
        .collect();
    (!different.is_empty()).then(|| format!("{path}:\n{}", different.join("\n")))
}

#[test]
fn the_documentation_of_calls_holds() {
    let text = "on: push\njobs:\n  call:\n    uses: ./.github/workflows/deploy.yml\n    secrets: inherit\n";
    let (workflow, diagnostics) = parse(".github/workflows/ci.yml", text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert!(matches!(workflow.unwrap().jobs["call"].body, JobBody::Call { .. }));
}
