//! The `github` context (X8).

use serde_json::{Map, Value as Json};

use super::Event;

/// What the `github` context says of the run, beside its event.
#[derive(Clone, Debug)]
pub struct RunFacts<'a> {
    pub run_id: u64,
    pub run_number: u64,
    pub run_attempt: u32,
    /// Name of the triggered workflow.
    pub workflow: &'a str,
    pub workflow_path: &'a str,
    pub workflow_sha: &'a str,
    pub triggering_actor: &'a str,
    pub retention_days: u32,
}

/// All keys that are known before a host is chosen. A job adds `job`, a runner `token`, `workspace`, `event_path`, …
#[must_use]
pub fn github_context(event: &Event, run: &RunFacts<'_>) -> Map<String, Json> {
    let _ = (event, run);
    unimplemented!()
}
