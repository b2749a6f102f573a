//! The `github` context (X8).

use serde_json::{Map, Value as Json, json};

use super::Event;

/// What the `github` context says of the run, beside its event.
#[derive(Clone, Debug)]
pub struct RunFacts<'a> {
    pub run_id: u64,
    pub run_number: u64,
    pub run_attempt: u32,
    /// Name of the triggered workflow.
    pub workflow: &'a str,
    pub workflow_path: &'a str,
    pub workflow_sha: &'a str,
    pub triggering_actor: &'a str,
    pub retention_days: u32,
}

/// All keys that are known before a host is chosen. A job adds `job`, a runner `token`, `workspace`, `event_path`, …
/// Numbers of the run are strings, as on GitHub.
#[must_use]
pub fn github_context(event: &Event, run: &RunFacts<'_>) -> Map<String, Json> {
    let payload = &event.payload;
    let id = |pointer: &str| match payload.pointer(pointer) {
        Some(Json::Number(number)) => number.to_string(),
        Some(Json::String(text)) => text.clone(),
        _ => String::new(),
    };
    let repository = event.repository.as_str();
    let server = event.server_url.trim_end_matches('/');
    let (api, graphql) = api_urls(server);
    let sender_is_actor = payload.pointer("/sender/login").and_then(Json::as_str) == Some(event.actor.as_str());
    let visibility = match payload.pointer("/repository/visibility").and_then(Json::as_str) {
        Some(visibility) => visibility,
        None if payload.pointer("/repository/private") == Some(&Json::Bool(false)) => "public",
        None => "private",
    };
    let entries = [
        ("ref", json!(event.git_ref)),
        ("sha", json!(event.sha)),
        ("repository", json!(repository)),
        ("repository_owner", json!(event.repository.owner())),
        ("repository_owner_id", json!(id("/repository/owner/id"))),
        ("repositoryUrl", json!(repository_url(server, repository))),
        ("run_id", json!(run.run_id.to_string())),
        ("run_number", json!(run.run_number.to_string())),
        ("retention_days", json!(run.retention_days.to_string())),
        ("run_attempt", json!(run.run_attempt.to_string())),
        ("repository_visibility", json!(visibility)),
        ("repository_id", json!(id("/repository/id"))),
        ("actor_id", json!(if sender_is_actor { id("/sender/id") } else { String::new() })),
        ("actor", json!(event.actor)),
        ("triggering_actor", json!(run.triggering_actor)),
        ("workflow", json!(run.workflow)),
        ("head_ref", json!(event.head_ref.as_deref().unwrap_or_default())),
        ("base_ref", json!(event.base_ref.as_deref().unwrap_or_default())),
        ("event_name", json!(event.name)),
        ("event", payload.clone()),
        ("server_url", json!(server)),
        ("api_url", json!(api)),
        ("graphql_url", json!(graphql)),
        ("ref_name", json!(event.ref_name())),
        ("ref_protected", json!(false)),
        ("ref_type", json!(event.ref_type())),
        ("secret_source", json!(if event.is_from_fork() { "None" } else { "Actions" })),
        ("workflow_ref", json!(format!("{repository}/{}@{}", run.workflow_path, event.git_ref))),
        ("workflow_sha", json!(run.workflow_sha)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Addresses of the REST and GraphQL APIs of a server: github.com has its own host for them, every other server has
/// paths below its address.
#[must_use]
pub fn api_urls(server: &str) -> (String, String) {
    match server {
        "https://github.com" => ("https://api.github.com".to_owned(), "https://api.github.com/graphql".to_owned()),
        _ => (format!("{server}/api/v3"), format!("{server}/api/graphql")),
    }
}

fn repository_url(server: &str, repository: &str) -> String {
    let host = server.split_once("://").map_or(server, |(_, host)| host);
    format!("git://{host}/{repository}.git")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{RunFacts, github_context};
    use crate::event::{Place, dispatch};

    #[test]
    fn x8_numbers_of_the_run_are_strings() {
        let place = Place::example();
        let mut event = dispatch::schedule(jiff::Timestamp::UNIX_EPOCH, &place, "w.yml", "0 0 * * *");
        event.payload["repository"]["id"] = json!(7);
        let facts = RunFacts {
            run_id: 12,
            run_number: 3,
            run_attempt: 2,
            workflow: "CI",
            workflow_path: ".github/workflows/ci.yml",
            workflow_sha: "abc",
            triggering_actor: "mona",
            retention_days: 90,
        };
        let github = github_context(&event, &facts);
        for (key, expect) in [
            ("run_id", json!("12")),
            ("run_number", json!("3")),
            ("run_attempt", json!("2")),
            ("retention_days", json!("90")),
            ("repository_id", json!("7")),
            ("ref", json!("refs/heads/main")),
            ("ref_name", json!("main")),
            ("ref_type", json!("branch")),
            ("ref_protected", json!(false)),
            ("head_ref", json!("")),
            ("repository_owner", json!("octo")),
            ("api_url", json!("https://api.github.com")),
            ("workflow_ref", json!("octo/hello/.github/workflows/ci.yml@refs/heads/main")),
        ] {
            assert_eq!(github[key], expect, "github.{key}");
        }
    }
}
