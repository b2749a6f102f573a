//! Does an event start a workflow? The answer with its reasons (T1–T15).

use super::Event;
use crate::workflow::model::Workflow;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub selected: bool,
    /// One sentence.
    pub reason: String,
    /// Every test that was made, in order; the last one decided.
    pub trace: Vec<Check>,
}

/// One test on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `on`, `types`, `branches`, `paths`, …
    pub what: String,
    pub passed: bool,
    /// The values that were compared.
    pub detail: String,
}

/// Tests the event against `on`.
#[must_use]
pub fn select(workflow: &Workflow, event: &Event) -> Selection {
    let _ = (workflow, event);
    unimplemented!()
}
