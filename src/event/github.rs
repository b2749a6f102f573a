//! Webhooks of GitHub.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::activity::{self, Origin};
use super::push::is_no_commit;
use super::{ChangedFiles, Event};
use crate::id::RepositoryName;

/// Why a delivery is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAnEvent {
    /// A webhook that starts no workflow (`ping`, `star`, `installation`, …).
    StartsNothing,
    /// What is missing or wrong.
    Malformed(String),
}

impl std::fmt::Display for NotAnEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StartsNothing => f.write_str("this webhook starts no workflow"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for NotAnEvent {}

/// Reads a delivery: ref, commit and actor per event. `event` is the value of `X-GitHub-Event`. What the payload does not
/// tell (the tip of the default branch, the merge commit) is an empty `sha`, to be filled in by who has the repository;
/// changed files are [`ChangedFiles::Unknown`].
///
/// # Errors
/// It starts nothing, or what every delivery has is missing.
pub fn from_payload(now: Timestamp, event: &str, payload: Json) -> Result<Event, NotAnEvent> {
    if activity::kind(event).is_none() {
        return Err(NotAnEvent::StartsNothing);
    }
    let repository = text(&payload, "/repository/full_name").ok_or_else(|| missing("repository.full_name"))?;
    let default_branch = text(&payload, "/repository/default_branch").unwrap_or("main").to_owned();
    let facts = facts(event, &payload, &default_branch);
    let git_ref = facts.git_ref.ok_or_else(|| missing("the ref"))?;
    Ok(Event {
        name: event.to_owned(),
        action: text(&payload, "/action").map(str::to_owned),
        repository: RepositoryName(repository.to_owned()),
        git_ref,
        sha: facts.sha.unwrap_or_default(),
        head_ref: facts.head_ref,
        base_ref: facts.base_ref,
        actor: actor(&payload),
        default_branch,
        changed_files: ChangedFiles::Unknown,
        head_message: None,
        received_at: now,
        delivery: None,
        workflow: (event == "workflow_dispatch")
            .then(|| text(&payload, "/workflow"))
            .flatten()
            .map(|path| path.split('@').next().unwrap_or(path).to_owned()),
        server_url: server_url(&payload, repository),
        payload,
    })
}

/// Where an event happened, as far as its payload tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Full ref; `Some("")` when the event has none (a deployment of a bare commit).
    pub git_ref: Option<String>,
    pub sha: Option<String>,
    pub head_ref: Option<String>,
    pub base_ref: Option<String>,
}

/// Reads ref and commit of any payload (T7–T9, T20). Events that GitHub does not know happen on the default branch.
#[must_use]
pub fn facts(event: &str, payload: &Json, default_branch: &str) -> Facts {
    let default_branch = text(payload, "/repository/default_branch").unwrap_or(default_branch);
    let origin = activity::kind(event).map_or(Origin::DefaultBranch, |kind| kind.origin);
    let owned = |pointer: &str| text(payload, pointer).map(str::to_owned);
    let mut facts = Facts::default();
    if event.starts_with("pull_request") {
        facts.head_ref = owned("/pull_request/head/ref");
        facts.base_ref = owned("/pull_request/base/ref");
    }
    match origin {
        Origin::DefaultBranch => facts.git_ref = Some(branch(default_branch)),
        Origin::Push => {
            facts.git_ref = owned("/ref").map(|name| full_ref(&name, "refs/heads/"));
            let is_tag = facts.git_ref.as_deref().is_some_and(|git_ref| git_ref.starts_with("refs/tags/"));
            // `after` of an annotated tag is the tag object; runs get the commit.
            let commit = is_tag.then(|| owned("/head_commit/id")).flatten();
            let deleted = payload.get("deleted") == Some(&Json::Bool(true));
            facts.sha = commit.or_else(|| owned("/after")).filter(|sha| !deleted && !is_no_commit(sha));
        }
        Origin::PullRequest => pull_request(payload, &mut facts),
        Origin::Created => {
            let prefix = if text(payload, "/ref_type") == Some("tag") { "refs/tags/" } else { "refs/heads/" };
            facts.git_ref = owned("/ref").map(|name| full_ref(&name, prefix));
            facts.sha = owned("/sha").filter(|sha| is_commit(sha));
        }
        Origin::Deployment => {
            facts.sha = owned("/deployment/sha");
            facts.git_ref = Some(match text(payload, "/deployment/ref") {
                Some(name) if !is_commit(name) => full_ref(name, "refs/heads/"),
                _ => String::new(),
            });
        }
        Origin::Release => {
            facts.git_ref = owned("/release/tag_name").map(|name| full_ref(&name, "refs/tags/"));
            facts.sha = owned("/release/target_commitish").filter(|sha| is_commit(sha));
        }
        Origin::MergeGroup => {
            facts.git_ref = owned("/merge_group/head_ref").map(|name| full_ref(&name, "refs/heads/"));
            facts.sha = owned("/merge_group/head_sha");
        }
        Origin::Package => {
            let version = "/registry_package/package_version";
            let tag = owned(&format!("{version}/release/tag_name")).map(|name| full_ref(&name, "refs/tags/"));
            facts.git_ref = tag.or_else(|| Some(branch(default_branch)));
            facts.sha = owned(&format!("{version}/target_oid"))
                .or_else(|| owned(&format!("{version}/target_commitish")))
                .filter(|sha| is_commit(sha));
        }
        Origin::Chosen => {
            let name = text(payload, "/ref").unwrap_or(default_branch);
            facts.git_ref = Some(full_ref(name, "refs/heads/"));
        }
    }
    facts
}

/// A merged pull request is on its base branch, any other on its merge ref (T7).
fn pull_request(payload: &Json, facts: &mut Facts) {
    let closed = text(payload, "/action") == Some("closed");
    let merged = payload.pointer("/pull_request/merged") == Some(&Json::Bool(true));
    facts.sha = text(payload, "/pull_request/merge_commit_sha").map(str::to_owned);
    facts.git_ref = if closed && merged {
        facts.base_ref.as_deref().map(branch)
    } else {
        let number = payload.get("number").or_else(|| payload.pointer("/pull_request/number"));
        number.and_then(Json::as_u64).map(|number| format!("refs/pull/{number}/merge"))
    };
}

/// Who did it: the sender, or who pushed.
fn actor(payload: &Json) -> String {
    ["/sender/login", "/pusher/login", "/pusher/name", "/sender/username"]
        .iter()
        .find_map(|pointer| text(payload, pointer))
        .unwrap_or_default()
        .to_owned()
}

/// The address of the server: the repository's page without its name.
pub(super) fn server_url(payload: &Json, repository: &str) -> String {
    text(payload, "/repository/html_url")
        .and_then(|page| page.strip_suffix(repository))
        .map_or("https://github.com", |server| server.trim_end_matches('/'))
        .to_owned()
}

pub(super) fn text<'a>(payload: &'a Json, pointer: &str) -> Option<&'a str> {
    payload.pointer(pointer).and_then(Json::as_str)
}

pub(super) fn missing(what: &str) -> NotAnEvent {
    NotAnEvent::Malformed(format!("the payload does not say {what}"))
}

pub(super) fn branch(name: &str) -> String {
    full_ref(name, "refs/heads/")
}

pub(super) fn full_ref(name: &str, prefix: &str) -> String {
    if name.starts_with("refs/") { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Whether a text is a whole commit id, of SHA-1 or SHA-256.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value as Json, json};

    use super::{NotAnEvent, from_payload};

    fn repository() -> Json {
        json!({ "full_name": "o/r", "default_branch": "trunk", "html_url": "https://forge.lan:3000/o/r" })
    }

    #[test]
    fn t7_a_merged_pull_request_runs_on_its_base_branch() {
        let payload = json!({
            "action": "closed",
            "number": 7,
            "pull_request": {
                "merged": true, "merge_commit_sha": "abc", "head": { "ref": "topic" }, "base": { "ref": "main" },
            },
            "repository": repository(),
            "sender": { "login": "mona" },
        });
        let event = from_payload(Timestamp::UNIX_EPOCH, "pull_request", payload.clone()).expect("an event");
        assert_eq!((event.git_ref.as_str(), event.sha.as_str()), ("refs/heads/main", "abc"));
        assert_eq!((event.head_ref.as_deref(), event.base_ref.as_deref()), (Some("topic"), Some("main")));
        assert_eq!((event.actor.as_str(), event.server_url.as_str()), ("mona", "https://forge.lan:3000"));
        // T8: the same delivery as `pull_request_target` runs in the default branch.
        let event = from_payload(Timestamp::UNIX_EPOCH, "pull_request_target", payload).expect("an event");
        assert_eq!(event.git_ref, "refs/heads/trunk");
    }

    #[test]
    fn t20_a_deleted_branch_has_no_commit_of_its_own() {
        let payload = json!({
            "ref": "refs/heads/old", "after": "0".repeat(40), "deleted": true, "repository": repository(),
        });
        let event = from_payload(Timestamp::UNIX_EPOCH, "push", payload).expect("an event");
        assert_eq!((event.git_ref.as_str(), event.sha.as_str()), ("refs/heads/old", ""));
        assert!(event.is_deletion());
    }

    #[test]
    fn an_annotated_tag_runs_its_commit() {
        let payload = json!({
            "ref": "refs/tags/v1", "after": "a".repeat(40), "head_commit": { "id": "b".repeat(40) },
            "repository": repository(),
        });
        let event = from_payload(Timestamp::UNIX_EPOCH, "push", payload).expect("an event");
        assert_eq!(event.sha, "b".repeat(40));
    }

    #[test]
    fn deployments_of_a_commit_have_no_ref() {
        let sha = "c".repeat(40);
        let payload = json!({ "deployment": { "ref": sha, "sha": sha }, "repository": repository() });
        let event = from_payload(Timestamp::UNIX_EPOCH, "deployment", payload).expect("an event");
        assert_eq!((event.git_ref.as_str(), event.sha.as_str(), event.ref_type()), ("", sha.as_str(), ""));
    }

    #[test]
    fn what_starts_nothing_is_told_from_what_is_broken() {
        let check = |event: &str, payload: Json| from_payload(Timestamp::UNIX_EPOCH, event, payload).map(|_| ());
        assert_eq!(check("ping", json!({})), Err(NotAnEvent::StartsNothing));
        assert!(matches!(check("push", json!({})), Err(NotAnEvent::Malformed(_))));
        assert!(matches!(check("push", json!({ "repository": repository() })), Err(NotAnEvent::Malformed(_))));
        assert!(matches!(check("push", json!([1, 2])), Err(NotAnEvent::Malformed(_))));
    }
}
