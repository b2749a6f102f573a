//! GitHub's reader tests: the converted workflow, or the errors with their places.

use std::collections::HashMap;

use serde_json::{Value as Json, json};
use towline::workflow::model::{JobBody, Permission, Permissions, Step, StepBody, Workflow};
use towline::workflow::token::Token;
use towline::workflow::{Limits, check_within, parse};

use super::{conclude, errors, listed};
use crate::support;

const SKIPPED: &[(&str, &str)] = &[
    ("errors-anchor-tag.yml", "refuses every anchor; GitHub accepts anchors since 2025-08 (S16)"),
    ("errors-reusable-workflow-max-result-size.yml", "counts bytes of GitHub's own in-memory form"),
];

struct Case {
    options: Json,
    path: String,
    text: String,
    called: HashMap<String, String>,
    expected: Json,
}

fn case(name: &str, content: &str) -> Case {
    let mut documents: Vec<&str> = content.split("\n---\n").collect();
    let expected = documents.pop().unwrap();
    let mut documents = documents.into_iter();
    let options = serde_yaml::from_str(documents.next().unwrap()).unwrap_or(Json::Null);
    let text = documents.next().unwrap();
    let mut called = HashMap::new();
    while let (Some(path), Some(text)) = (documents.next(), documents.next()) {
        called.insert(path.trim().to_owned(), text.to_owned());
    }
    Case {
        options,
        path: format!(".github/workflows/{name}"),
        text: text.to_owned(),
        called,
        expected: serde_json::from_str(expected).unwrap(),
    }
}

impl Case {
    fn limits(&self) -> Limits {
        let mut limits = Limits::GITHUB;
        let number = |key: &str| self.options[key].as_u64().map(|number| usize::try_from(number).unwrap());
        if let Some(depth) = number("max-depth") {
            limits.depth = depth;
        }
        if let Some(nesting) = number("max-nested-reusable-workflows-depth") {
            limits.nesting = nesting;
        }
        if let Some(jobs) = number("max-job-limit") {
            limits.jobs = jobs;
        }
        if self.options["permissions-policy"] == "LimitedRead" {
            let scopes = ["contents", "packages"].map(|scope| (scope.to_owned(), Permission::Read));
            limits.default_permissions = Some(Permissions::Scopes(scopes.into_iter().collect()));
        }
        limits
    }

    fn failure(&self) -> Option<String> {
        let files = |name: &str| self.called.get(name).cloned();
        let diagnostics = check_within(&self.path, &self.text, &files, &self.limits());
        let found = errors(&diagnostics);
        if let Some(expected) = self.expected["errors"].as_array() {
            if found.is_empty() {
                return Some("accepted".to_owned());
            }
            for error in expected {
                let message = error["Message"].as_str().unwrap();
                let Some((path, line, column)) = place(message) else { continue };
                let here = found.iter().any(|diagnostic| {
                    diagnostic.path == path
                        && diagnostic.span.is_some_and(|span| (span.start.line, span.start.column) == (line, column))
                });
                if !here {
                    return Some(format!("nothing at {line}:{column} for {message}\n{}", listed(&found)));
                }
            }
            return None;
        }
        if !found.is_empty() {
            return Some(format!("refused:\n{}", listed(&found)));
        }
        self.differences()
    }

    fn differences(&self) -> Option<String> {
        let (Some(workflow), _) = parse(&self.path, &self.text) else { return Some("no model".to_owned()) };
        let mut differences = jobs(&workflow, &self.expected["jobs"], &self.called);
        compare(
            &mut differences,
            "permissions",
            &permissions_json(workflow.permissions.as_ref()),
            &self.expected["permissions"],
        );
        compare(&mut differences, "env", &optional(workflow.env.as_ref()), &self.expected["env"]);
        compare(
            &mut differences,
            "concurrency",
            &optional(workflow.concurrency.as_ref()),
            &self.expected["concurrency"],
        );
        if let Some(events) = self.expected["events"].as_object() {
            for (name, expected) in events {
                event(&mut differences, &workflow, name, expected);
            }
        }
        (!differences.is_empty()).then(|| differences.join("\n"))
    }
}

/// `path (Line: 5, Col: 3): text`
fn place(message: &str) -> Option<(&str, usize, usize)> {
    let (path, rest) = message.split_once(" (Line: ")?;
    let (line, rest) = rest.split_once(", Col: ")?;
    let (column, _) = rest.split_once(')')?;
    let path = path.strip_prefix("In ").unwrap_or(path);
    Some((path, line.parse().ok()?, column.parse().ok()?))
}

fn compare(differences: &mut Vec<String>, what: &str, ours: &Json, expected: &Json) {
    if bare(expected) != *ours {
        differences.push(format!("  {what}: {ours} instead of {}", bare(expected)));
    }
}

/// Without the places that some files hold.
fn bare(json: &Json) -> Json {
    match json {
        Json::Object(object) if object.contains_key("file") && object.contains_key("type") => match &object["type"] {
            kind if kind == 0 => object["lit"].clone(),
            _ => Json::Object(
                object
                    .iter()
                    .filter(|(key, _)| !matches!(key.as_str(), "file" | "line" | "col"))
                    .map(|(key, value)| (key.clone(), bare(value)))
                    .collect(),
            ),
        },
        Json::Object(object) => Json::Object(object.iter().map(|(key, value)| (key.clone(), bare(value))).collect()),
        Json::Array(items) => Json::Array(items.iter().map(bare).collect()),
        Json::Number(number) => number_json(number.as_f64().unwrap()),
        other => other.clone(),
    }
}

fn number_json(number: f64) -> Json {
    if number.is_finite() {
        json!(number)
    } else if number.is_nan() {
        json!("NaN")
    } else {
        json!(if number > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

fn token_json(token: &Token) -> Json {
    match token {
        Token::Null => Json::Null,
        Token::Bool(value) => json!(value),
        Token::Number(value) => number_json(*value),
        Token::String(text) => json!(text),
        Token::Expression(expression) => json!({"type": 3.0, "expr": expression.source()}),
        Token::Sequence(items) => json!({"type": 1.0, "seq": items.iter().map(token_json).collect::<Vec<_>>()}),
        Token::Mapping(pairs) => {
            let map: Vec<Json> =
                pairs.iter().map(|(key, value)| json!({"Key": token_json(key), "Value": token_json(value)})).collect();
            if map.is_empty() { json!({"type": 2.0}) } else { json!({"type": 2.0, "map": map}) }
        }
        Token::Insert => json!({"type": 4.0, "directive": "insert"}),
    }
}

fn optional(token: Option<&Token>) -> Json {
    token.map_or(Json::Null, token_json)
}

fn jobs(workflow: &Workflow, expected: &Json, called: &HashMap<String, String>) -> Vec<String> {
    let mut differences = Vec::new();
    let expected = expected.as_array().map_or(&[][..], Vec::as_slice);
    let ids: Vec<&str> = workflow.jobs.keys().map(String::as_str).collect();
    let expected_ids: Vec<Json> = expected.iter().map(|job| bare(&job["id"])).collect();
    compare(&mut differences, "job ids", &json!(ids), &json!(expected_ids));
    for (job, expected) in workflow.jobs.values().zip(expected) {
        let mut different = |key: &str, ours: &Json| {
            compare(&mut differences, &format!("job {} {key}", job.id), ours, &expected[key]);
        };
        different("if", &json!({"type": 3.0, "expr": job.condition.source()}));
        if !job.needs.is_empty() {
            different("needs", &json!(job.needs));
        }
        let name = job.name.as_ref().map_or_else(|| json!(job.id), token_json);
        different("name", &name);
        if job.permissions.is_some() && called.is_empty() {
            different("permissions", &permissions_json(job.permissions.as_ref()));
        }
        match &job.body {
            JobBody::Steps { runs_on, container, services, steps } => {
                different("type", &json!("job"));
                different("runs-on", &token_json(runs_on));
                different("container", &optional(container.as_ref()));
                different("services", &optional(services.as_ref()));
                different("strategy", &optional(job.strategy.as_ref()));
                different("env", &optional(job.env.as_ref()));
                different("environment", &optional(job.environment.as_ref()));
                different("concurrency", &optional(job.concurrency.as_ref()));
                different("outputs", &optional(job.outputs.as_ref()));
                different("continue-on-error", &optional(job.continue_on_error.as_ref()));
                different("timeout-minutes", &optional(job.timeout_minutes.as_ref()));
                different("cancel-timeout-minutes", &optional(job.cancel_timeout_minutes.as_ref()));
                let steps: Vec<Json> = steps.iter().map(step_json).collect();
                if !steps.is_empty() || !expected["steps"].is_null() {
                    different("steps", &json!(steps));
                }
            }
            JobBody::Call { uses, .. } => {
                different("type", &json!("reusableWorkflowJob"));
                different("ref", &json!(uses));
                let read = called.get(uses).map(|text| parse(uses, text).0);
                // A run that skips called workflows has none of their jobs.
                if let (Some(inner), Some([_, ..])) = (read, expected["jobs"].as_array().map(Vec::as_slice)) {
                    match inner {
                        Some(inner) => differences.extend(jobs(&inner, &expected["jobs"], called)),
                        None => differences.push(format!("  {uses} is refused")),
                    }
                }
            }
        }
    }
    differences
}

fn step_json(step: &Step) -> Json {
    let mut json = json!({"id": step.id});
    let control = !matches!(step.body, StepBody::Run { .. } | StepBody::Uses { .. });
    if let Some(name) = &step.name {
        json["name"] = token_json(name);
    } else if control {
        json["name"] = json!(step.default_name(None));
    }
    if !control {
        json["if"] = json!({"type": 3.0, "expr": step.condition.source()});
    }
    let mut set = |key: &str, token: Option<&Token>| {
        if let Some(token) = token {
            json[key] = token_json(token);
        }
    };
    set("continue-on-error", step.continue_on_error.as_ref());
    set("timeout-minutes", step.timeout_minutes.as_ref());
    set("env", step.env.as_ref());
    match &step.body {
        StepBody::Run { script, shell, working_directory } => {
            set("run", Some(script));
            set("shell", shell.as_ref());
            set("working-directory", working_directory.as_ref());
        }
        StepBody::Uses { uses, with } => {
            set("uses", Some(&Token::String(uses.to_string())));
            set("with", with.as_ref());
        }
        StepBody::Wait(targets) => json["wait"] = json!(targets),
        StepBody::WaitAll => json["wait-all"] = json!(true),
        StepBody::Cancel(target) => json["cancel"] = json!(target),
        StepBody::Parallel(steps) => json["parallel"] = json!(steps.iter().map(step_json).collect::<Vec<_>>()),
    }
    if step.background {
        json["background"] = json!(true);
    }
    json
}

/// The scopes that GitHub's tests know, without those that grant nothing.
fn permissions_json(permissions: Option<&Permissions>) -> Json {
    const SCOPES: &[&str] = &[
        "actions",
        "checks",
        "contents",
        "deployments",
        "discussions",
        "id-token",
        "issues",
        "packages",
        "pages",
        "pull-requests",
        "repository-projects",
        "security-events",
        "statuses",
    ];
    let all = |level: &str| SCOPES.iter().map(|scope| ((*scope).to_owned(), json!(level))).collect();
    match permissions {
        None => Json::Null,
        Some(Permissions::ReadAll) => Json::Object(all("read")),
        Some(Permissions::WriteAll) => Json::Object(all("write")),
        Some(Permissions::Scopes(scopes)) => Json::Object(
            scopes
                .iter()
                .filter(|(_, level)| **level != Permission::None)
                .map(|(scope, level)| (scope.clone(), json!(level)))
                .collect(),
        ),
    }
}

fn event(differences: &mut Vec<String>, workflow: &Workflow, name: &str, expected: &Json) {
    let Some(trigger) = workflow.on.events.get(name) else {
        differences.push(format!("  event {name} is missing"));
        return;
    };
    let lists = [
        ("types", &trigger.types),
        ("branches", &trigger.branches),
        ("branches-ignore", &trigger.branches_ignore),
        ("tags", &trigger.tags),
        ("tags-ignore", &trigger.tags_ignore),
        ("paths", &trigger.paths),
        ("paths-ignore", &trigger.paths_ignore),
        ("workflows", &trigger.workflows),
        ("names", &trigger.names),
        ("versions", &trigger.versions),
    ];
    for (key, list) in lists {
        let ours = list.as_ref().map_or(Json::Null, |list| json!(list));
        compare(differences, &format!("event {name} {key}"), &ours, &expected[key]);
    }
    let inputs = match name {
        "workflow_dispatch" => workflow.on.dispatch.as_ref().map(|dispatch| &dispatch.inputs),
        "workflow_call" => workflow.on.call.as_ref().map(|call| &call.inputs),
        _ => None,
    };
    for (id, input) in inputs.into_iter().flatten() {
        let expected = &expected["inputs"][id];
        compare(differences, &format!("{name} input {id} type"), &json!(input.kind), &expected["type"]);
        compare(
            differences,
            &format!("{name} input {id} default"),
            &optional(input.default.as_ref()),
            &expected["default"],
        );
    }
    if name == "schedule" {
        let crons: Vec<&str> = workflow.on.schedules.iter().map(|schedule| schedule.cron.as_str()).collect();
        let expected: Vec<&str> =
            expected.as_array().unwrap().iter().filter_map(|entry| entry["cron"].as_str()).collect();
        compare(differences, "schedule", &json!(crons), &json!(expected));
    }
}

#[test]
fn reader() {
    let Some(folder) = support::conformance("workflow-parser/reader") else { return };
    let mut names: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut failures = Vec::new();
    let mut skipped = Vec::new();
    for name in &names {
        if let Some(entry) = SKIPPED.iter().find(|(id, _)| id == name) {
            skipped.push(*entry);
            continue;
        }
        let case = case(name, &std::fs::read_to_string(folder.join(name)).unwrap());
        if let Some(failure) = case.failure() {
            failures.push(format!("{name}: {failure}"));
        }
    }
    conclude("workflow-parser/reader", names.len(), &failures, &skipped);
}
