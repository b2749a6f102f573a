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
pub use selection::{Selection, select};

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
