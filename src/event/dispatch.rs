//! Events that no push and no webhook brings: dispatches, schedules, chained runs (T10–T13).

use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::Event;
use crate::id::RepositoryName;
use crate::workflow::model::Dispatch;

/// Where an event without a push happens.
#[derive(Clone, Debug)]
pub struct Place {
    pub repository: RepositoryName,
    /// Full ref.
    pub git_ref: String,
    pub sha: String,
    /// Short name.
    pub default_branch: String,
    pub actor: String,
    pub server_url: String,
}

/// Inputs of a dispatch, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DispatchInputs {
    /// `inputs`: typed.
    pub typed: Map<String, Json>,
    /// `github.event.inputs`: always strings.
    pub strings: Map<String, Json>,
    /// Deprecated inputs that were given.
    pub warnings: Vec<String>,
}

/// Checks what was given against what the workflow declares: unknown names, missing required ones, types, choices;
/// defaults are filled in (T11).
///
/// # Errors
/// One sentence per fault.
pub fn check_inputs(dispatch: &Dispatch, given: &IndexMap<String, Json>) -> Result<DispatchInputs, Vec<String>> {
    let _ = (dispatch, given);
    unimplemented!()
}

/// `workflow_dispatch` for one workflow file.
#[must_use]
pub fn workflow_dispatch(now: Timestamp, place: &Place, workflow: &str, inputs: &DispatchInputs) -> Event {
    let _ = (now, place, workflow, inputs);
    unimplemented!()
}

/// `schedule` for one workflow file; `cron` as written (T10).
#[must_use]
pub fn schedule(now: Timestamp, place: &Place, workflow: &str, cron: &str) -> Event {
    let _ = (now, place, workflow, cron);
    unimplemented!()
}

/// `repository_dispatch` (T12).
///
/// # Errors
/// A sentence: a limit of the event type or of the payload was exceeded.
pub fn repository_dispatch(
    now: Timestamp,
    place: &Place,
    event_type: &str,
    client_payload: Json,
) -> Result<Event, String> {
    let _ = (now, place, event_type, client_payload);
    unimplemented!()
}

/// A run that was made, began or ended, as the event `workflow_run` sees it (T13).
#[derive(Clone, Debug)]
pub struct ChainedRun<'a> {
    /// `requested`, `in_progress`, `completed`.
    pub action: &'a str,
    pub run: u64,
    pub run_number: u64,
    pub run_attempt: u32,
    pub workflow: &'a str,
    pub workflow_path: &'a str,
    pub title: &'a str,
    pub conclusion: Option<&'a str>,
    /// The event that started it.
    pub event: &'a Event,
}

/// `workflow_run`.
#[must_use]
pub fn workflow_run(now: Timestamp, place: &Place, chained: &ChainedRun<'_>) -> Event {
    let _ = (now, place, chained);
    unimplemented!()
}
