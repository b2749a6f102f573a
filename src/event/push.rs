//! Plain `git push`, in the shape of GitHub's payload.

use jiff::Timestamp;

use super::{ChangedFiles, Event};
use crate::id::RepositoryName;

/// The id git gives for "no commit".
pub const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

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

/// The `push` event.
#[must_use]
pub fn push(now: Timestamp, push: Push) -> Event {
    let _ = (now, push);
    unimplemented!()
}
