//! Webhooks of Gitea, Forgejo and GitLab, in GitHub's vocabulary.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::Event;
use super::github::NotAnEvent;

/// A forge that is not GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    /// Also Forgejo: same payloads.
    Gitea,
    GitLab,
}

/// Translates a delivery. `event` is the value of the forge's event header (`X-Gitea-Event`, `X-Gitlab-Event`).
///
/// # Errors
/// It starts nothing, or what every delivery has is missing.
pub fn from_payload(forge: Forge, now: Timestamp, event: &str, payload: Json) -> Result<Event, NotAnEvent> {
    let _ = (forge, now, event, payload);
    unimplemented!()
}
