//! Plain `git push`, in the shape of GitHub's payload.

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::{ChangedFiles, Event};
use crate::id::{RepositoryName, user_number};

/// The id git gives for "no commit".
pub const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// GitHub lists at most so many commits of a push.
const COMMITS_LISTED: usize = 2048;

/// One ref that a push changed, with what the repository knows of it.
#[derive(Clone, Debug)]
pub struct Push {
    pub repository: RepositoryName,
    /// Full ref.
    pub git_ref: String,
    /// [`NO_COMMIT`] when the ref is new.
    pub before: String,
    /// [`NO_COMMIT`] when the ref was deleted.
    pub after: String,
    pub forced: bool,
    /// Oldest first; the last one is the head commit.
    pub commits: Vec<Commit>,
    pub changed_files: ChangedFiles,
    pub pusher: String,
    pub pusher_email: Option<String>,
    /// Short name.
    pub default_branch: String,
    /// Tip of the default branch: what a delete runs on (T20).
    pub default_sha: String,
    pub server_url: String,
    /// Path of the repository on disk, or its address: `repository.clone_url`.
    pub clone_url: String,
}

/// A commit of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    pub tree: String,
    pub message: String,
    /// RFC 3339, as git prints it with `%cI`.
    pub timestamp: String,
    pub author: Person,
    pub committer: Person,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub modified: Vec<String>,
}

/// Who wrote or committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
}

/// The `push` event. An annotated tag's head commit is the commit it points at.
#[must_use]
pub fn push(now: Timestamp, push: Push) -> Event {
    let created = is_no_commit(&push.before);
    let deleted = is_no_commit(&push.after);
    let server = push.server_url.trim_end_matches('/');
    let address = format!("{server}/{}", push.repository);
    let commits: Vec<Json> = push.commits.iter().map(|commit| commit_json(commit, &address)).collect();
    let listed = commits.len().saturating_sub(COMMITS_LISTED);
    let compare = if created || deleted {
        format!("{address}/commit/{}", push.after.get(..12).unwrap_or(&push.after))
    } else {
        let short = |sha: &str| sha.get(..12).unwrap_or(sha).to_owned();
        format!("{address}/compare/{}...{}", short(&push.before), short(&push.after))
    };
    let payload = json!({
        "ref": push.git_ref,
        "before": push.before,
        "after": push.after,
        "repository": repository_json(&push.repository, &push.default_branch, server, &push.clone_url),
        "pusher": { "name": push.pusher, "email": push.pusher_email },
        "sender": sender_json(&push.pusher),
        "created": created,
        "deleted": deleted,
        "forced": push.forced,
        "base_ref": null,
        "compare": compare,
        "commits": &commits[listed..],
        "head_commit": commits.last().filter(|_| !deleted),
    });
    Event {
        name: "push".to_owned(),
        action: None,
        payload,
        repository: push.repository,
        git_ref: push.git_ref,
        sha: if deleted { push.default_sha } else { push.after },
        head_ref: None,
        base_ref: None,
        actor: push.pusher,
        default_branch: push.default_branch,
        changed_files: push.changed_files,
        head_message: None,
        received_at: now,
        delivery: None,
        workflow: None,
        server_url: push.server_url,
    }
}

/// Whether a commit id stands for "none", in SHA-1 and SHA-256 repositories.
#[must_use]
pub fn is_no_commit(sha: &str) -> bool {
    sha.bytes().all(|byte| byte == b'0')
}

/// `repository` of a payload, with the keys that workflows read. Numbers are those that the API says for the same names.
pub(crate) fn repository_json(repository: &RepositoryName, default_branch: &str, server: &str, clone: &str) -> Json {
    let address = format!("{server}/{repository}");
    let owner = repository.owner();
    json!({
        "id": repository.number(),
        "name": repository.name(),
        "full_name": if repository.as_str().contains('/') { repository.to_string() } else { format!("{owner}/{repository}") },
        "owner": { "id": user_number(owner), "name": owner, "login": owner, "type": "User" },
        "private": true,
        "visibility": "private",
        "html_url": address,
        "url": address,
        "clone_url": clone,
        "default_branch": default_branch,
        "master_branch": default_branch,
        "fork": false,
    })
}

/// A person in a payload.
pub(crate) fn sender_json(login: &str) -> Json {
    json!({ "id": user_number(login), "login": login, "type": "User" })
}

fn commit_json(commit: &Commit, address: &str) -> Json {
    let person = |person: &Person| json!({ "name": person.name, "email": person.email, "username": person.name });
    json!({
        "id": commit.id,
        "tree_id": commit.tree,
        "distinct": true,
        "message": commit.message,
        "timestamp": commit.timestamp,
        "url": format!("{address}/commit/{}", commit.id),
        "author": person(&commit.author),
        "committer": person(&commit.committer),
        "added": commit.added,
        "removed": commit.removed,
        "modified": commit.modified,
    })
}

/// An empty payload object with a repository and a sender.
pub(super) fn base_payload(
    repository: &RepositoryName,
    default_branch: &str,
    server: &str,
    actor: &str,
) -> Map<String, Json> {
    let server = server.trim_end_matches('/');
    let clone = format!("{server}/{repository}.git");
    let mut payload = Map::new();
    payload.insert("repository".to_owned(), repository_json(repository, default_branch, server, &clone));
    payload.insert("sender".to_owned(), sender_json(actor));
    payload
}
