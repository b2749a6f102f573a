//! Webhooks of GitHub.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::Event;

/// Why a delivery is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAnEvent {
    /// A webhook that starts no workflow (`ping`, `star`, `installation`, …).
    StartsNothing,
    /// What is missing or wrong.
    Malformed(String),
}

impl std::fmt::Display for NotAnEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StartsNothing => f.write_str("this webhook starts no workflow"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for NotAnEvent {}

/// Reads a delivery: ref, commit and actor per event. `event` is the value of `X-GitHub-Event`. What the payload does not
/// tell (the tip of the default branch, the merge commit) is an empty `sha`, to be filled in by who has the repository;
/// changed files are [`super::ChangedFiles::Unknown`].
///
/// # Errors
/// It starts nothing, or what every delivery has is missing.
pub fn from_payload(now: Timestamp, event: &str, payload: Json) -> Result<Event, NotAnEvent> {
    let _ = (now, event, payload);
    unimplemented!()
}
