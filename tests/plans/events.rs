//! Deliveries of forges and the run context they give (T6–T9, T20).

use jiff::Timestamp;
use serde_json::Value as Json;
use towline::event::forges::{self, Forge};
use towline::event::github::{self, NotAnEvent};
use towline::event::{Event, activity};

use super::{all_cases, known, same};

fn payload(file: &str) -> Json {
    known("webhooks", file).expect("the payload is beside its index")
}

#[test]
fn t7_t9_github_deliveries() {
    let Some(index) = known("webhooks", "github-index.json") else { return };
    all_cases("webhooks/github", index["payloads"].as_array().expect("payloads"), |case| {
        let name = case["headers"]["X-GitHub-Event"].as_str().expect("an event header");
        let payload = payload(case["file"].as_str().expect("a file"));
        let context = &case["context"];
        let event = match github::from_payload(Timestamp::UNIX_EPOCH, name, payload.clone()) {
            Err(NotAnEvent::StartsNothing) => {
                return same("triggers_workflows", false, context["triggers_workflows"] == true);
            }
            Err(other) => return Err(other.to_string()),
            Ok(event) => event,
        };
        same("triggers_workflows", true, context["triggers_workflows"] == true)?;
        same("payload", &event.payload, &payload)?;
        same("repository", Some(event.repository.as_str()), case["repository"].as_str())?;
        same("action", event.action.as_deref(), case["action"].as_str())?;
        let text = |key: &str| context[key].as_str();
        let fields = [
            ("event_name", Some(event.name.as_str())),
            ("ref", Some(event.git_ref.as_str())),
            ("ref_name", Some(event.ref_name())),
            ("ref_type", Some(event.ref_type())),
            ("sha", Some(event.sha.as_str())),
            ("head_ref", event.head_ref.as_deref()),
            ("base_ref", event.base_ref.as_deref()),
        ];
        for (key, ours) in fields {
            if let Some(expect) = text(key) {
                same(key, ours, Some(expect))?;
            }
        }
        if let Some(short) = text("deployment_ref") {
            same("deployment_ref", event.ref_name(), short)?;
        }
        if let Some(deleted) = context["deleted"].as_bool() {
            same("deleted", event.is_deletion(), deleted)?;
        }
        let kind = activity::kind(&event.name).expect("it triggers workflows");
        if let Some(expect) = context["starts_with_plain_on"].as_bool() {
            same("starts_with_plain_on", kind.starts_by_default(event.action.as_deref()), expect)?;
        }
        if let Some(expect) = context["activity_type_known"].as_bool() {
            let action = event.action.as_deref().unwrap_or_default();
            same("activity_type_known", kind.types.contains(&action), expect)?;
        }
        Ok(())
    });
}

#[test]
fn deliveries_of_other_forges() {
    let Some(index) = known("webhooks", "forges-index.json") else { return };
    all_cases("webhooks/forges", index["payloads"].as_array().expect("payloads"), |case| {
        let payload = payload(case["file"].as_str().expect("a file"));
        let (header, name) = case["headers"].as_object().and_then(|headers| headers.iter().next()).expect("a header");
        let name = name.as_str().expect("an event name");
        let event = match header.as_str() {
            "X-Gitlab-Event" => forges::from_payload(Forge::GitLab, Timestamp::UNIX_EPOCH, name, payload),
            "X-GitHub-Event" => github::from_payload(Timestamp::UNIX_EPOCH, name, payload),
            _ => forges::from_payload(Forge::Gitea, Timestamp::UNIX_EPOCH, name, payload),
        }
        .map_err(|error| error.to_string())?;
        same("repository", Some(event.repository.as_str()), case["repository"].as_str())?;
        if let Some(git_ref) = case["ref"].as_str() {
            let ours = if git_ref.starts_with("refs/") { event.git_ref.as_str() } else { event.ref_name() };
            same("ref", ours, git_ref)?;
        }
        // On GitHub a pull request runs its merge commit, elsewhere its head.
        let is_github_pull_request = header == "X-GitHub-Event" && event.name == "pull_request";
        if let Some(sha) = case["sha"].as_str() {
            let ours = if is_github_pull_request { head_sha(&event) } else { event.sha.as_str() };
            same("sha", ours, sha)?;
        }
        let known_action = activity::kind(&event.name).is_some_and(|kind| {
            kind.types.is_empty() || event.action.as_deref().is_none_or(|action| kind.types.contains(&action))
        });
        same(&format!("GitHub's word {:?} for the action", event.action), known_action, true)
    });
}

fn head_sha(event: &Event) -> &str {
    event.payload.pointer("/pull_request/head/sha").and_then(Json::as_str).unwrap_or_default()
}

#[test]
fn ref_and_sha_per_event() {
    let Some(data) = known("webhooks", "ref-sha.json") else { return };
    all_cases("webhooks/ref-sha", data["cases"].as_array().expect("cases"), |case| {
        let text = |key: &str| case[key].as_str().expect("a text");
        let default_branch = text("default_branch_ref").trim_start_matches("refs/heads/");
        let facts = github::facts(text("event_name"), &case["event"], default_branch);
        let git_ref = facts.git_ref.unwrap_or_else(|| text("default_branch_ref").to_owned());
        for (key, expect) in case["expect"].as_object().expect("expectations") {
            let ours = match key.as_str() {
                "ref" => git_ref.clone(),
                "ref_name" => towline::event::ref_name(&git_ref).to_owned(),
                "sha" => facts.sha.clone().unwrap_or_else(|| text("head_sha").to_owned()),
                other => return Err(format!("this test does not know {other}")),
            };
            same(key, Some(ours.as_str()), expect.as_str())?;
        }
        Ok(())
    });
}

#[test]
fn t6_t18_events_and_their_types() {
    let Some(data) = known("webhooks", "events.json") else { return };
    let mut names = 0;
    for (name, facts) in data["events"].as_object().expect("events") {
        let list = |key: &str| -> Option<Vec<&str>> {
            facts[key].as_array().map(|types| types.iter().filter_map(Json::as_str).collect())
        };
        if name == "workflow_call" {
            continue; // Started by a caller, never by a delivery.
        }
        let kind = activity::kind(name).unwrap_or_else(|| panic!("{name} is not known"));
        assert_eq!(kind.types, list("types").unwrap_or_default(), "types of {name}");
        assert_eq!(kind.default_types.map(<[_]>::to_vec), list("default_types"), "default types of {name}");
        names += 1;
    }
    println!("webhooks/events: {names} passed, workflow_call is no delivery");
    assert!(names > 0);
}
