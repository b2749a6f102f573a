//! Telling forges what became of a commit: GitHub (checks of an App, or statuses by token), Gitea, Forgejo, GitLab; and
//! people, and a collector of traces.
//!
//! A job's state becomes a [`Report`]; the [`Outbox`] keeps it durable until the forge has it, and only the latest of
//! each. Knows nothing of how runs come about. `octocrab` types stay in `forge/client`.

mod client;
mod deployment;
pub(crate) mod http;
pub(crate) mod login;
mod notice;
mod outbox;
mod reporter;
mod traces;
mod updates;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{Source, SourceKind};
use crate::id::RepositoryName;
use crate::run::report::{Annotation, AnnotationLevel};
use crate::run::{Conclusion, JobPhase};

pub use client::{CANCEL, Client, Error, Fetched, Known, RERUN_FAILED};
pub use deployment::Deployment;
pub use notice::{Notice, Notifier, Ways, way};
pub use outbox::{Clients, Dead, Letter, Outbox, Shown, SourceOf};
pub use reporter::{Reporter, job_report, run_report};
pub use traces::{Collector, Tracer};
pub use updates::Updates;

/// What a forge is told about one job (or about a run that has none).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub repository: RepositoryName,
    /// The commit it is shown on.
    pub sha: String,
    /// `workflow / job (event)` (U2); one line of the commit's list.
    pub context: String,
    pub state: State,
    /// A few words: what it is doing, or how it ended.
    pub description: String,
    /// What became of it, as Markdown: what a check shows on its page.
    #[serde(default)]
    pub summary: String,
    /// The page with the details.
    pub url: String,
    /// Ours, told back by the forge when somebody asks for a re-run.
    pub external_id: String,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub annotations: Vec<Annotation>,
}

/// Where a job is, in the words that all forges share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Running,
    Ended(Conclusion),
}

impl State {
    pub(crate) fn of(phase: JobPhase, conclusion: Option<Conclusion>) -> Self {
        match (phase, conclusion) {
            (JobPhase::Completed, conclusion) => Self::Ended(conclusion.unwrap_or(Conclusion::Neutral)),
            (JobPhase::InProgress, _) => Self::Running,
            _ => Self::Queued,
        }
    }

    /// The word of a commit status. A skipped job counts as success for what requires it (N9).
    fn status(self, kind: SourceKind) -> &'static str {
        if kind == SourceKind::GitLab {
            return match self {
                Self::Queued => "pending",
                Self::Running => "running",
                Self::Ended(Conclusion::Success | Conclusion::Neutral) => "success",
                Self::Ended(Conclusion::Skipped) => "skipped",
                Self::Ended(Conclusion::Cancelled | Conclusion::Stale) => "canceled",
                Self::Ended(_) => "failed",
            };
        }
        match self {
            Self::Queued | Self::Running => "pending",
            Self::Ended(Conclusion::Success | Conclusion::Neutral | Conclusion::Skipped) => "success",
            Self::Ended(Conclusion::Failure | Conclusion::TimedOut) => "failure",
            Self::Ended(_) => "error",
        }
    }

    /// Status and conclusion of a check.
    fn check(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Queued => ("queued", None),
            Self::Running => ("in_progress", None),
            // Only GitHub itself may say `startup_failure` and `stale`.
            Self::Ended(Conclusion::StartupFailure) => ("completed", Some("failure")),
            Self::Ended(Conclusion::Stale) => ("completed", Some("neutral")),
            Self::Ended(conclusion) => ("completed", Some(conclusion.as_str())),
        }
    }
}

/// GitHub's word for the weight of an annotation.
fn level(level: AnnotationLevel) -> &'static str {
    match level {
        AnnotationLevel::Notice => "notice",
        AnnotationLevel::Warning => "warning",
        AnnotationLevel::Failure => "failure",
    }
}

/// Whether a source has somebody to report to, and we may.
#[must_use]
pub fn reports(source: &Source) -> bool {
    let forge = !matches!(source.kind, SourceKind::Git | SourceKind::Directory);
    forge && source.report && (source.token.is_some() || source.app.is_some())
}

/// At most so many characters, the last one an ellipsis when something was cut.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_word_that_its_forge_knows() {
        let ended = [
            Conclusion::Success,
            Conclusion::Failure,
            Conclusion::Cancelled,
            Conclusion::Skipped,
            Conclusion::TimedOut,
            Conclusion::StartupFailure,
            Conclusion::ActionRequired,
            Conclusion::Neutral,
            Conclusion::Stale,
        ];
        let states = ended.into_iter().map(State::Ended).chain([State::Queued, State::Running]);
        let checks = ["success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"];
        for state in states {
            assert!(["pending", "success", "failure", "error"].contains(&state.status(SourceKind::GitHub)));
            let lab = ["pending", "running", "success", "failed", "canceled", "skipped"];
            assert!(lab.contains(&state.status(SourceKind::GitLab)));
            let (status, conclusion) = state.check();
            assert_eq!(status == "completed", conclusion.is_some());
            assert!(conclusion.is_none_or(|conclusion| checks.contains(&conclusion)), "{conclusion:?}");
        }
    }

    #[test]
    fn long_descriptions_are_cut_at_characters() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
