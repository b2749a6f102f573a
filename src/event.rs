//! Events in GitHub's vocabulary, the `github` context they give, and which workflows they start.
//!
//! Pure: no I/O, no clock, no async.

pub mod activity;
pub mod context;
pub mod dispatch;
pub mod filters;
pub mod forges;
pub mod github;
pub mod push;
pub mod selection;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::id::RepositoryName;

pub use context::github_context;
pub use dispatch::Place;
pub use selection::{Selection, looks_at_files, select};

/// What happened. Accepted once, durable, then planned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// `push`, `pull_request`, `schedule`, …
    pub name: String,
    /// `opened`, `completed`, …: the payload's `action`.
    pub action: Option<String>,
    /// Verbatim; `github.event`.
    pub payload: Json,
    pub repository: RepositoryName,
    /// Full ref: `refs/heads/main`, `refs/pull/7/merge`. `GITHUB_REF`.
    pub git_ref: String,
    /// `GITHUB_SHA`.
    pub sha: String,
    /// `GITHUB_HEAD_REF`, pull requests only.
    pub head_ref: Option<String>,
    /// `GITHUB_BASE_REF`, pull requests only.
    pub base_ref: Option<String>,
    pub actor: String,
    /// Short name.
    pub default_branch: String,
    pub changed_files: ChangedFiles,
    /// The message of a pull request's head commit, which no payload holds: it may say `[skip ci]` (T15).
    #[serde(default)]
    pub head_message: Option<String>,
    pub received_at: Timestamp,
    /// The delivery that brought it; de-duplicates.
    pub delivery: Option<String>,
    /// Path of the one workflow it is for (dispatch, schedule); otherwise all that match.
    pub workflow: Option<String>,
    /// `https://github.com`, or the base address of the forge.
    pub server_url: String,
}

/// What a push or pull request changed, for path filters (T4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangedFiles {
    /// Could not be computed, or over the limits: path filters let the event through.
    Unknown,
    Known(Vec<String>),
}

impl Event {
    /// `github.ref_name`: the short name of the branch or tag, `7/merge` of a pull request.
    #[must_use]
    pub fn ref_name(&self) -> &str {
        ref_name(&self.git_ref)
    }

    /// `github.ref_type`: `tag` or `branch`; empty when the event has no ref.
    #[must_use]
    pub fn ref_type(&self) -> &'static str {
        match self.git_ref.as_str() {
            "" => "",
            tag if tag.starts_with("refs/tags/") => "tag",
            _ => "branch",
        }
    }

    /// Whether a branch or tag was deleted by a push (T20).
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.name == "push" && self.payload.get("deleted") == Some(&Json::Bool(true))
    }

    /// Whether a pull request comes from another repository: no secrets, a read-only token (T7). `pull_request_target`
    /// runs what the base says and is trusted.
    #[must_use]
    pub fn is_from_fork(&self) -> bool {
        if !matches!(self.name.as_str(), "pull_request" | "pull_request_review" | "pull_request_review_comment") {
            return false;
        }
        let id = |side: &str| self.payload.pointer(&format!("/pull_request/{side}/repo/full_name"));
        // A deleted fork has no repository any more.
        id("base").is_some() && id("head") != id("base")
    }

    /// The title GitHub gives a run of this event when the workflow has no `run-name` (S1): the first line of the head
    /// commit, the title of a pull request, release or issue.
    #[must_use]
    pub fn title(&self) -> Option<String> {
        let text = |pointer: &str| self.payload.pointer(pointer).and_then(Json::as_str);
        let title = match self.name.as_str() {
            "push" => text("/head_commit/message"),
            "pull_request" | "pull_request_target" | "pull_request_review" | "pull_request_review_comment" => {
                text("/pull_request/title")
            }
            "issues" | "issue_comment" => text("/issue/title"),
            "discussion" | "discussion_comment" => text("/discussion/title"),
            "release" => text("/release/name").filter(|name| !name.is_empty()).or_else(|| text("/release/tag_name")),
            "merge_group" => text("/merge_group/head_commit/message"),
            "repository_dispatch" => self.action.as_deref(),
            _ => None,
        };
        title.and_then(|title| title.lines().next()).map(str::trim).filter(|title| !title.is_empty()).map(str::to_owned)
    }
}

/// The short name of a full ref.
#[must_use]
pub fn ref_name(git_ref: &str) -> &str {
    ["refs/heads/", "refs/tags/", "refs/pull/", "refs/"]
        .iter()
        .find_map(|prefix| git_ref.strip_prefix(prefix))
        .unwrap_or(git_ref)
}
