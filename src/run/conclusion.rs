//! How a step, a job or a run ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The words GitHub uses for the end of a step, job or run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    Success,
    Failure,
    Cancelled,
    Skipped,
    TimedOut,
    /// The workflow file was refused; no job ran.
    StartupFailure,
    ActionRequired,
    Neutral,
    Stale,
}

impl Conclusion {
    /// GitHub's word, as in the API and in `steps.X.conclusion`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::TimedOut => "timed_out",
            Self::StartupFailure => "startup_failure",
            Self::ActionRequired => "action_required",
            Self::Neutral => "neutral",
            Self::Stale => "stale",
        }
    }

    /// The word seen by `needs.X.result`, `job.status` and status functions, which know four.
    #[must_use]
    pub fn as_result(self) -> &'static str {
        match self {
            Self::Success | Self::Neutral => "success",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            _ => "failure",
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
