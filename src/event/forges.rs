//! Webhooks of Gitea, Forgejo and GitLab, in GitHub's vocabulary.

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::github::{self, NotAnEvent, branch, full_ref, missing, text};
use super::push::{is_no_commit, repository_json, sender_json};
use super::{ChangedFiles, Event};
use crate::id::RepositoryName;

/// A forge that is not GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    /// Also Forgejo: same payloads.
    Gitea,
    GitLab,
}

/// Translates a delivery. `event` is the value of the forge's event header (`X-Gitea-Event`, `X-Gitlab-Event`).
///
/// Gitea's payloads have GitHub's shape and are kept verbatim. GitLab's are rewritten to it, so that workflows read
/// `github.event` as usual; the original is under the key `gitlab`.
///
/// # Errors
/// It starts nothing, or what every delivery has is missing.
pub fn from_payload(forge: Forge, now: Timestamp, event: &str, payload: Json) -> Result<Event, NotAnEvent> {
    match forge {
        Forge::Gitea => gitea(now, event, payload),
        Forge::GitLab => gitlab(now, event, payload),
    }
}

fn gitea(now: Timestamp, event: &str, payload: Json) -> Result<Event, NotAnEvent> {
    let action = text(&payload, "/action").unwrap_or_default().to_owned();
    let (name, action) = match (event, action.as_str()) {
        ("pull_request_comment", "reviewed")
        | ("pull_request_approved" | "pull_request_rejected" | "pull_request_review", _) => {
            ("pull_request_review", "submitted".to_owned())
        }
        ("pull_request_comment", _) => ("issue_comment", action),
        ("pull_request_sync", _) => ("pull_request", "synchronize".to_owned()),
        ("pull_request" | "pull_request_assign" | "pull_request_label" | "pull_request_milestone", _) => {
            ("pull_request", gitea_action(&action))
        }
        ("pull_request_review_request", _) => ("pull_request", action),
        ("issues" | "issue_assign" | "issue_label" | "issue_milestone", _) => ("issues", gitea_action(&action)),
        ("release", "updated") => ("release", "edited".to_owned()),
        ("wiki", _) => ("gollum", action),
        ("package", "created") => ("registry_package", "published".to_owned()),
        (other, _) => (other, action),
    };
    let mut translated = github::from_payload(now, name, payload)?;
    translated.action = Some(action).filter(|action| !action.is_empty());
    if name.starts_with("pull_request") {
        // There is no merge commit: the head of the pull request is what runs.
        let number = translated.payload.get("number").or_else(|| translated.payload.pointer("/pull_request/number"));
        if translated.git_ref.starts_with("refs/pull/")
            && let Some(number) = number.and_then(Json::as_u64)
        {
            translated.git_ref = format!("refs/pull/{number}/head");
        }
        if let Some(head) = text(&translated.payload, "/pull_request/head/sha") {
            translated.sha = head.to_owned();
        }
    }
    Ok(translated)
}

fn gitea_action(action: &str) -> String {
    match action {
        "synchronized" => "synchronize",
        "label_updated" => "labeled",
        "label_cleared" => "unlabeled",
        other => other,
    }
    .to_owned()
}

fn gitlab(now: Timestamp, event: &str, payload: Json) -> Result<Event, NotAnEvent> {
    let full_name =
        text(&payload, "/project/path_with_namespace").ok_or_else(|| missing("project.path_with_namespace"))?;
    let repository = RepositoryName(full_name.to_owned());
    let default_branch = text(&payload, "/project/default_branch").unwrap_or("main").to_owned();
    let page = text(&payload, "/project/web_url").unwrap_or_default();
    let server = page.strip_suffix(full_name).unwrap_or("https://gitlab.com").trim_end_matches('/').to_owned();
    let clone = text(&payload, "/project/git_http_url").unwrap_or_default().to_owned();
    let actor =
        text(&payload, "/user/username").or_else(|| text(&payload, "/user_username")).unwrap_or_default().to_owned();
    let translated = match event {
        "Push Hook" | "Tag Push Hook" => gitlab_push(&payload, &default_branch, &actor)?,
        "Merge Request Hook" => gitlab_merge_request(&payload)?,
        "Release Hook" => gitlab_release(&payload)?,
        "Issue Hook" | "Confidential Issue Hook" => gitlab_issue(&payload, &default_branch)?,
        "Note Hook" | "Confidential Note Hook" => gitlab_note(&payload, &default_branch),
        _ => return Err(NotAnEvent::StartsNothing),
    };
    let mut shaped = translated.payload;
    if let Json::Object(shaped) = &mut shaped {
        let number = |pointer: &str| payload.pointer(pointer).filter(|id| id.is_u64()).cloned();
        let mut described = repository_json(&repository, &default_branch, &server, &clone);
        if let Some(id) = number("/project/id") {
            described["id"] = id;
        }
        let mut sender = sender_json(&actor);
        if let Some(id) = number("/user/id").or_else(|| number("/user_id")) {
            sender["id"] = id;
        }
        shaped.insert("repository".to_owned(), described);
        shaped.insert("sender".to_owned(), sender);
        shaped.insert("gitlab".to_owned(), payload);
    }
    Ok(Event {
        name: translated.name.to_owned(),
        action: translated.action.map(str::to_owned),
        payload: shaped,
        repository,
        git_ref: translated.git_ref,
        sha: translated.sha,
        head_ref: translated.head_ref,
        base_ref: translated.base_ref,
        actor,
        default_branch,
        changed_files: ChangedFiles::Unknown,
        head_message: None,
        received_at: now,
        delivery: None,
        workflow: None,
        server_url: server,
    })
}

/// A delivery of GitLab in GitHub's words, without what all of them share.
struct Translated {
    name: &'static str,
    action: Option<&'static str>,
    payload: Json,
    git_ref: String,
    sha: String,
    head_ref: Option<String>,
    base_ref: Option<String>,
}

fn gitlab_push(payload: &Json, default_branch: &str, actor: &str) -> Result<Translated, NotAnEvent> {
    let git_ref = text(payload, "/ref").ok_or_else(|| missing("the ref"))?;
    let before = text(payload, "/before").unwrap_or_default();
    let after = text(payload, "/after").unwrap_or_default();
    let deleted = is_no_commit(after);
    let commits = payload.get("commits").cloned().unwrap_or_else(|| json!([]));
    let head = commits.as_array().and_then(|commits| commits.last()).cloned();
    Ok(Translated {
        name: "push",
        action: None,
        git_ref: full_ref(git_ref, "refs/heads/"),
        // `checkout_sha` is the commit, also of an annotated tag.
        sha: text(payload, "/checkout_sha").or(Some(after).filter(|_| !deleted)).unwrap_or_default().to_owned(),
        head_ref: None,
        base_ref: None,
        payload: json!({
            "ref": git_ref,
            "before": before,
            "after": after,
            "created": is_no_commit(before),
            "deleted": deleted,
            "forced": false,
            "base_ref": null,
            "compare": text(payload, "/project/web_url").map(|page| format!("{page}/-/compare/{before}...{after}")),
            "commits": commits,
            "head_commit": head,
            "pusher": { "name": actor, "email": payload.get("user_email") },
            "default_branch": default_branch,
        }),
    })
}

fn gitlab_merge_request(payload: &Json) -> Result<Translated, NotAnEvent> {
    let attributes = payload.get("object_attributes").ok_or_else(|| missing("object_attributes"))?;
    let number = attributes.get("iid").and_then(Json::as_u64).ok_or_else(|| missing("object_attributes.iid"))?;
    let source = text(attributes, "/source_branch").unwrap_or_default();
    let target = text(attributes, "/target_branch").unwrap_or_default();
    let sha = text(attributes, "/last_commit/id").unwrap_or_default();
    let merged = text(attributes, "/state") == Some("merged") || text(attributes, "/action") == Some("merge");
    let (name, action) = match text(attributes, "/action").unwrap_or_default() {
        "open" => ("pull_request", "opened"),
        "close" | "merge" => ("pull_request", "closed"),
        "reopen" => ("pull_request", "reopened"),
        "approved" | "approval" => ("pull_request_review", "submitted"),
        "unapproved" | "unapproval" => ("pull_request_review", "dismissed"),
        // Only new commits come with the old revision.
        "update" if attributes.get("oldrev").is_some() => ("pull_request", "synchronize"),
        _ => ("pull_request", gitlab_change(payload)),
    };
    let page = text(payload, "/project/path_with_namespace").unwrap_or_default();
    let side = |side: &str, branch: &str, sha: &str| {
        let full_name = text(attributes, &format!("/{side}/path_with_namespace")).unwrap_or(page);
        json!({ "ref": branch, "sha": sha, "repo": { "full_name": full_name } })
    };
    Ok(Translated {
        name,
        action: Some(action),
        git_ref: if merged { branch(target) } else { format!("refs/merge-requests/{number}/head") },
        sha: sha.to_owned(),
        head_ref: Some(source.to_owned()),
        base_ref: Some(target.to_owned()),
        payload: json!({
            "action": action,
            "number": number,
            "pull_request": {
                "number": number,
                "title": attributes.get("title"),
                "body": attributes.get("description"),
                "state": if merged || action == "closed" { "closed" } else { "open" },
                "draft": attributes.get("draft").or_else(|| attributes.get("work_in_progress")),
                "merged": merged,
                "merge_commit_sha": attributes.get("merge_commit_sha"),
                "html_url": attributes.get("url"),
                "user": { "login": text(payload, "/user/username") },
                "labels": gitlab_labels(payload),
                "head": side("source", source, sha),
                "base": side("target", target, ""),
            },
        }),
    })
}

/// What an update without new commits changed.
fn gitlab_change(payload: &Json) -> &'static str {
    let changed = |key: &str| payload.pointer(&format!("/changes/{key}")).is_some();
    let count =
        |when: &str| payload.pointer(&format!("/changes/labels/{when}")).and_then(Json::as_array).map_or(0, Vec::len);
    if changed("labels") {
        if count("current") < count("previous") { "unlabeled" } else { "labeled" }
    } else if changed("assignees") {
        "assigned"
    } else if changed("reviewers") {
        "review_requested"
    } else if changed("milestone_id") {
        "milestoned"
    } else {
        "edited"
    }
}

fn gitlab_labels(payload: &Json) -> Json {
    let labels = payload.get("labels").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    labels.iter().map(|label| json!({ "name": label.get("title"), "color": label.get("color") })).collect()
}

fn gitlab_release(payload: &Json) -> Result<Translated, NotAnEvent> {
    let tag = text(payload, "/tag").ok_or_else(|| missing("the tag"))?;
    let action = match text(payload, "/action").unwrap_or_default() {
        "create" => "published",
        "delete" => "deleted",
        _ => "edited",
    };
    Ok(Translated {
        name: "release",
        action: Some(action),
        git_ref: full_ref(tag, "refs/tags/"),
        sha: text(payload, "/commit/id").unwrap_or_default().to_owned(),
        head_ref: None,
        base_ref: None,
        payload: json!({
            "action": action,
            "release": {
                "tag_name": tag,
                "name": payload.get("name"),
                "body": payload.get("description"),
                "html_url": payload.get("url"),
                "draft": false,
                "prerelease": false,
            },
        }),
    })
}

fn gitlab_issue(payload: &Json, default_branch: &str) -> Result<Translated, NotAnEvent> {
    let attributes = payload.get("object_attributes").ok_or_else(|| missing("object_attributes"))?;
    let action = match text(attributes, "/action").unwrap_or_default() {
        "open" => "opened",
        "close" => "closed",
        "reopen" => "reopened",
        _ => gitlab_change(payload),
    };
    Ok(Translated {
        name: "issues",
        action: Some(action),
        git_ref: branch(default_branch),
        sha: String::new(),
        head_ref: None,
        base_ref: None,
        payload: json!({
            "action": action,
            "issue": {
                "number": attributes.get("iid"),
                "title": attributes.get("title"),
                "body": attributes.get("description"),
                "html_url": attributes.get("url"),
                "user": { "login": text(payload, "/user/username") },
                "labels": gitlab_labels(payload),
            },
        }),
    })
}

fn gitlab_note(payload: &Json, default_branch: &str) -> Translated {
    let subject = payload.get("issue").or_else(|| payload.get("merge_request"));
    let field = |key: &str| subject.and_then(|subject| subject.get(key));
    Translated {
        name: "issue_comment",
        action: Some("created"),
        git_ref: branch(default_branch),
        sha: String::new(),
        head_ref: None,
        base_ref: None,
        payload: json!({
            "action": "created",
            "comment": {
                "body": payload.pointer("/object_attributes/note"),
                "html_url": payload.pointer("/object_attributes/url"),
                "user": { "login": text(payload, "/user/username") },
            },
            "issue": { "number": field("iid"), "title": field("title"), "body": field("description") },
        }),
    }
}
