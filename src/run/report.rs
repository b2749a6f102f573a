//! What a runner says about its job. The engine learns of a job only through these.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::conclusion::Conclusion;

/// One fact about a running job, in the order it happened. A report may arrive twice (it is repeated after a crash).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// The job's shell on the host is open.
    Started {
        at: Timestamp,
        /// Where it works there.
        workspace: String,
    },
    /// All steps that will be shown, in order; sent again when steps are added (pre, post).
    Steps {
        steps: Vec<StepState>,
    },
    /// A step changed.
    Step {
        step: StepState,
    },
    Annotation {
        annotation: Annotation,
    },
    /// The host cannot be reached; the job is thought to go on (`detached`).
    Detached {
        at: Timestamp,
        reason: String,
    },
    /// It can again.
    Attached {
        at: Timestamp,
    },
    /// It failed and is kept until then, or until it is released; `None`: that is over.
    Held {
        until: Option<Timestamp>,
    },
    /// Its host could not be reached and has not heard of the job: nothing of it has begun. Nothing comes after this.
    Unreached {
        reason: String,
    },
    Finished {
        at: Timestamp,
        result: JobResult,
    },
}

/// A step as shown and stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepState {
    /// From 1, "Set up job" is 1 as on GitHub.
    pub number: u32,
    pub id: String,
    pub name: String,
    pub kind: StepKind,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub outcome: Option<Conclusion>,
    pub conclusion: Option<Conclusion>,
    /// Byte range in the job's log file.
    pub log_start: Option<u64>,
    pub log_end: Option<u64>,
    /// First line of the step in the job's log, from 0.
    pub first_line: Option<u64>,
    pub exit_code: Option<i32>,
}

/// What a step wrote to `GITHUB_STEP_SUMMARY`: Markdown, masked, at most 1 MiB (W3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The number of the step.
    pub step: u32,
    pub text: String,
}

impl Summary {
    /// The file with the summaries of a job: a JSON list beside its log.
    #[must_use]
    pub fn path_beside(log: &Path) -> PathBuf {
        log.with_extension("summaries")
    }
}

impl StepState {
    /// A step that has not begun.
    #[must_use]
    pub fn new(number: u32, name: String, kind: StepKind) -> Self {
        Self {
            number,
            id: String::new(),
            name,
            kind,
            started_at: None,
            completed_at: None,
            outcome: None,
            conclusion: None,
            log_start: None,
            log_end: None,
            first_line: None,
            exit_code: None,
        }
    }
}

/// Why a step is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    SetUp,
    Pre,
    Main,
    Post,
    Complete,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    pub conclusion: Conclusion,
    /// Outputs that may leave the job: those that held a secret are gone (N6).
    pub outputs: Map<String, Json>,
    pub environment_url: Option<String>,
    /// Why, when the machine and not the job is at fault: a sentence that names the host and the way out.
    pub reason: Option<String>,
    /// The host died; the job may be tried elsewhere where policy allows.
    pub host_lost: bool,
}

/// A notice, warning or error shown on a run's page and on the commit (W6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    pub level: AnnotationLevel,
    pub message: String,
    pub title: Option<String>,
    /// Relative to the repository.
    pub file: Option<String>,
    pub line: Option<u64>,
    pub end_line: Option<u64>,
    pub column: Option<u64>,
    pub end_column: Option<u64>,
    /// The number of the step that said it.
    pub step: Option<u32>,
}

/// The weight of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnotationLevel {
    Notice,
    Warning,
    Failure,
}
