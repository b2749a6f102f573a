//! Pull requests (merge requests) of sources that are polled: what changed since the last look becomes the deliveries
//! that a webhook would have brought.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::config::SourceKind;

/// What is remembered of one pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    open: bool,
    head: String,
    draft: bool,
    /// Title and base branch: when one of them changes it was edited.
    told: (String, String),
}

/// A delivery in the forge's own words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Delivery {
    pub(super) event: &'static str,
    pub(super) id: String,
    pub(super) payload: Json,
}

/// Compares a list of pull requests, newest first, with what was seen before. At the first look (`known` is `None`)
/// everything is noted and nothing told. `project` is what GitLab's webhooks say of the project.
pub(super) fn changes(
    kind: SourceKind,
    known: Option<&BTreeMap<u64, Seen>>,
    list: &[Json],
    project: &Json,
) -> (BTreeMap<u64, Seen>, Vec<Delivery>) {
    let mut now = known.cloned().unwrap_or_default();
    let mut deliveries = Vec::new();
    // Oldest first, as they happened.
    for one in list.iter().rev() {
        let Some((number, seen)) = read(kind, one) else { continue };
        let before = now.insert(number, seen.clone());
        if known.is_none() {
            continue;
        }
        for action in actions(before.as_ref(), &seen) {
            let id = format!("request {number} {action} {} {}", seen.head, updated(one));
            let old = before.as_ref().map(|before| before.head.as_str());
            let payload = match kind {
                SourceKind::GitLab => merge_request(one, project, action, old),
                _ => pull_request(one, number, action, old),
            };
            let event = if kind == SourceKind::GitLab { "Merge Request Hook" } else { "pull_request" };
            deliveries.push(Delivery { event, id, payload });
        }
    }
    (now, deliveries)
}

fn updated(one: &Json) -> &str {
    one.get("updated_at").and_then(Json::as_str).unwrap_or_default()
}

fn read(kind: SourceKind, one: &Json) -> Option<(u64, Seen)> {
    let text = |pointer: &str| one.pointer(pointer).and_then(Json::as_str);
    let (number, head, base, open) = match kind {
        SourceKind::GitLab => ("/iid", "/sha", "/target_branch", "opened"),
        _ => ("/number", "/head/sha", "/base/ref", "open"),
    };
    let number = one.pointer(number)?.as_u64()?;
    let seen = Seen {
        open: text("/state") == Some(open),
        head: text(head)?.to_owned(),
        draft: one.get("draft") == Some(&Json::Bool(true)),
        told: (text("/title").unwrap_or_default().to_owned(), text(base).unwrap_or_default().to_owned()),
    };
    Some((number, seen))
}

/// What happened between two looks, in GitHub's words.
fn actions(before: Option<&Seen>, now: &Seen) -> Vec<&'static str> {
    let Some(before) = before else {
        // One that was closed before we ever saw it open is over.
        return if now.open { vec!["opened"] } else { Vec::new() };
    };
    let mut actions = Vec::new();
    if !before.open && now.open {
        actions.push("reopened");
    }
    if before.head != now.head && now.open && before.open {
        actions.push("synchronize");
    }
    if before.told != now.told {
        actions.push("edited");
    }
    match (before.draft, now.draft) {
        (true, false) => actions.push("ready_for_review"),
        (false, true) => actions.push("converted_to_draft"),
        _ => {}
    }
    if before.open && !now.open {
        actions.push("closed");
    }
    actions
}

/// GitHub's and Gitea's shape. The list lacks what only a single pull request has.
fn pull_request(one: &Json, number: u64, action: &str, old: Option<&str>) -> Json {
    let mut pull = one.clone();
    if let Some(pull) = pull.as_object_mut() {
        let merged = pull.get("merged_at").is_some_and(|at| !at.is_null());
        pull.entry("merged").or_insert(Json::Bool(merged));
    }
    let mut payload = json!({
        "action": action,
        "number": number,
        "pull_request": pull,
        "repository": one.pointer("/base/repo"),
        "sender": one.get("user"),
    });
    if let (Some(payload), Some(old), "synchronize") = (payload.as_object_mut(), old, action) {
        payload.insert("before".to_owned(), json!(old));
        payload.insert("after".to_owned(), one.pointer("/head/sha").cloned().unwrap_or_default());
    }
    payload
}

/// The shape of GitLab's `Merge Request Hook`.
fn merge_request(one: &Json, project: &Json, action: &str, old: Option<&str>) -> Json {
    let text = |key: &str| one.get(key).and_then(Json::as_str);
    let merged = text("state") == Some("merged");
    let word = match action {
        "opened" => "open",
        "reopened" => "reopen",
        "closed" if merged => "merge",
        "closed" => "close",
        _ => "update",
    };
    let path = project.get("path_with_namespace").cloned().unwrap_or_default();
    let own = one.get("source_project_id") == one.get("target_project_id");
    // A fork's name is not in the list; that it is another one is what matters.
    let source = if own { path.clone() } else { json!(format!("project-{}", one["source_project_id"])) };
    let mut attributes = json!({
        "iid": one.get("iid"),
        "id": one.get("id"),
        "title": text("title"),
        "description": one.get("description"),
        "state": text("state"),
        "action": word,
        "source_branch": text("source_branch"),
        "target_branch": text("target_branch"),
        "source_project_id": one.get("source_project_id"),
        "target_project_id": one.get("target_project_id"),
        "merge_commit_sha": one.get("merge_commit_sha"),
        "draft": one.get("draft"),
        "url": one.get("web_url"),
        "created_at": one.get("created_at"),
        "updated_at": one.get("updated_at"),
        "last_commit": { "id": text("sha") },
        "source": { "path_with_namespace": source },
        "target": { "path_with_namespace": path },
    });
    let mut changed = json!({});
    match (action, attributes.as_object_mut()) {
        ("synchronize", Some(attributes)) => {
            attributes.insert("oldrev".to_owned(), json!(old));
        }
        ("ready_for_review" | "converted_to_draft", _) => {
            let now = action == "converted_to_draft";
            changed = json!({ "draft": { "previous": !now, "current": now } });
        }
        ("edited", _) => changed = json!({ "title": { "current": text("title") } }),
        _ => {}
    }
    json!({
        "object_kind": "merge_request",
        "user": one.get("author"),
        "project": project,
        "object_attributes": attributes,
        "changes": changed,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use serde_json::{Value as Json, json};

    use super::changes;
    use crate::config::SourceKind;
    use crate::event::forges::{self, Forge};
    use crate::event::github;

    fn pull(number: u64, state: &str, head: &str) -> Json {
        let repo = json!({ "full_name": "ada/app", "default_branch": "main", "html_url": "https://forge.lan/ada/app" });
        json!({
            "number": number, "state": state, "title": "t", "draft": false, "updated_at": "2026-11-21T12:00:00Z",
            "merged_at": null, "user": { "login": "bob" },
            "head": { "sha": head, "ref": "topic", "repo": repo }, "base": { "ref": "main", "sha": "b", "repo": repo },
        })
    }

    #[test]
    fn what_happened_between_two_looks_is_told_in_order() {
        let project = Json::Null;
        let kind = SourceKind::GitHub;
        let (seen, told) = changes(kind, None, &[pull(1, "open", "a")], &project);
        assert!(told.is_empty());
        let (again, told) = changes(kind, Some(&seen), &[pull(1, "open", "a")], &project);
        assert_eq!((again, told.len()), (seen.clone(), 0));
        let list = [pull(2, "open", "c"), pull(1, "closed", "b"), pull(3, "closed", "x")];
        let (seen, told) = changes(kind, Some(&seen), &list, &project);
        let actions: Vec<(u64, &str)> = told
            .iter()
            .map(|one| (one.payload["number"].as_u64().unwrap_or(0), one.payload["action"].as_str().unwrap_or("")))
            .collect();
        assert_eq!(actions, [(1, "closed"), (2, "opened")]);
        let (_, told) = changes(kind, Some(&seen), &[pull(2, "open", "d")], &project);
        assert_eq!((&told[0].payload["action"], &told[0].payload["before"]), (&json!("synchronize"), &json!("c")));
        let event = github::from_payload(Timestamp::UNIX_EPOCH, "pull_request", told[0].payload.clone());
        let event = event.expect("what a webhook says");
        assert_eq!((event.git_ref.as_str(), event.actor.as_str()), ("refs/pull/2/merge", "bob"));
        assert!(!event.is_from_fork());
    }

    #[test]
    fn merge_requests_are_told_as_gitlab_does() {
        let project = json!({
            "path_with_namespace": "ada/app", "default_branch": "main", "web_url": "https://lab.lan/ada/app",
        });
        let request = |state: &str, sha: &str, from: u64| {
            json!({
                "iid": 4, "id": 40, "title": "t", "state": state, "sha": sha, "draft": false,
                "source_branch": "topic", "target_branch": "main", "source_project_id": from, "target_project_id": 1,
                "author": { "username": "bob" }, "updated_at": "x",
            })
        };
        let known = BTreeMap::new();
        let (seen, told) = changes(SourceKind::GitLab, Some(&known), &[request("opened", "a", 2)], &project);
        let read = |payload: &Json| {
            forges::from_payload(Forge::GitLab, Timestamp::UNIX_EPOCH, "Merge Request Hook", payload.clone())
                .expect("what a webhook says")
        };
        let event = read(&told[0].payload);
        assert_eq!((event.name.as_str(), event.action.as_deref()), ("pull_request", Some("opened")));
        assert!(event.is_from_fork());
        let (seen, told) = changes(SourceKind::GitLab, Some(&seen), &[request("opened", "b", 2)], &project);
        assert_eq!(read(&told[0].payload).action.as_deref(), Some("synchronize"));
        let (_, told) = changes(SourceKind::GitLab, Some(&seen), &[request("merged", "b", 2)], &project);
        let event = read(&told[0].payload);
        assert_eq!((event.action.as_deref(), event.git_ref.as_str()), (Some("closed"), "refs/heads/main"));
    }
}
