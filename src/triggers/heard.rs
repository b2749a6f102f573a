//! Sources that both tell us and are asked: what happens there starts its runs once, whoever says it first.
//!
//! One telling of a kind cancels those of the other kind that say the same and have not been matched yet. So what happens
//! twice (a branch that is pushed back to where it was, a title that is edited again) is told twice, and runs twice.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::service::{Error, Triggers};
use crate::config::{Source, TriggerKind};
use crate::event::Event;

const SPACE: &str = "heard";
/// A poll that failed for long still knows what webhooks brought meanwhile.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Of one source.
const MOST_KEPT: usize = 1000;

/// How something came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// By a webhook, directly or over a relay.
    Told,
    /// By a poll.
    Asked,
}

/// That something happened.
#[derive(Clone, Debug)]
pub(super) struct Telling<'a> {
    /// Of the delivery: the same one again is answered as before.
    pub(super) id: &'a str,
    pub(super) way: Way,
    pub(super) what: String,
}

/// What is remembered of a telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    at: Timestamp,
    id: String,
    way: Way,
    what: String,
    /// It has its other half.
    matched: bool,
    /// It came second.
    twice: bool,
}

impl Triggers {
    /// Whether this was heard of before, the other way. From now on it has been heard of.
    pub(super) async fn is_heard_twice(&self, source: &Source, telling: Telling<'_>) -> Result<bool, Error> {
        let told = source.triggers.contains(&TriggerKind::Webhook) || source.relay.is_some();
        if !told || !source.triggers.contains(&TriggerKind::Poll) {
            return Ok(false);
        }
        let _alone = self.inner.hearing.lock().await;
        let key = source.name.as_str();
        let stored = self.store().get(SPACE, key)?;
        let mut heard: Vec<Heard> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let twice = hear(&mut heard, self.clock().now(), telling);
        let bytes = serde_json::to_vec(&heard).map_err(|error| Error::Malformed(error.to_string()))?;
        self.store().put(SPACE, key, &bytes).await?;
        Ok(twice)
    }
}

fn hear(heard: &mut Vec<Heard>, now: Timestamp, telling: Telling<'_>) -> bool {
    heard.retain(|one| now.duration_since(one.at) < KEPT);
    if let Some(before) = heard.iter().find(|one| one.id == telling.id && one.way == telling.way) {
        return before.twice;
    }
    let mut twice = false;
    for other in heard.iter_mut().filter(|one| one.way != telling.way && !one.matched && one.what == telling.what) {
        other.matched = true;
        twice = true;
    }
    let Telling { id, way, what } = telling;
    heard.push(Heard { at: now, id: id.to_owned(), way, what, matched: twice, twice });
    let surplus = heard.len().saturating_sub(MOST_KEPT);
    heard.drain(..surplus);
    twice
}

/// A move of a ref, as webhooks and polls can both say it.
pub(super) fn push(git_ref: &str, commit: &str) -> String {
    let gone = commit.bytes().all(|byte| byte == b'0');
    format!("push {git_ref} {}", if gone { "gone" } else { commit })
}

/// What an event is about, as webhooks and polls can both say it.
pub(super) fn what(event: &Event) -> String {
    if event.name == "push" {
        return push(&event.git_ref, if event.is_deletion() { "" } else { &event.sha });
    }
    let of = |pointer: &str| event.payload.pointer(pointer).map(Json::to_string).unwrap_or_default();
    let mut what = vec![event.name.clone(), event.action.clone().unwrap_or_default()];
    what.extend(
        [
            "/pull_request/head/sha",
            "/pull_request/number",
            "/issue/number",
            "/comment/id",
            "/review/id",
            "/release/id",
            "/forkee/id",
            "/label/name",
        ]
        .into_iter()
        .map(of),
    );
    what.join(" ")
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{Telling, Way, hear, push};

    #[test]
    fn each_thing_counts_once_whoever_says_it_first() {
        use Way::{Asked, Told};
        let mut heard = Vec::new();
        let mut now = Timestamp::UNIX_EPOCH;
        for (way, id, what, twice) in [
            (Told, "w1", "a", false),
            (Asked, "p1", "a", true),
            // The same deliveries once more.
            (Told, "w1", "a", false),
            (Asked, "p1", "a", true),
            // The poll was faster.
            (Asked, "p2", "b", false),
            (Told, "w2", "b", true),
            // Back to where it was: that is news.
            (Told, "w3", "a", false),
            (Asked, "p3", "a", true),
            // Twice between two looks, which see one change.
            (Told, "w4", "c", false),
            (Told, "w5", "c", false),
            (Asked, "p4", "c", true),
            (Asked, "p5", "c", false),
        ] {
            assert_eq!(hear(&mut heard, now, Telling { id, way, what: what.to_owned() }), twice, "{id}");
            now += SignedDuration::from_secs(60);
        }
        now += SignedDuration::from_hours(25);
        assert!(!hear(&mut heard, now, Telling { id: "w6", way: Told, what: "c".to_owned() }));
        assert_eq!(heard.len(), 1);
    }

    #[test]
    fn a_ref_that_is_gone_has_no_commit() {
        assert_eq!(push("refs/heads/x", &"0".repeat(40)), push("refs/heads/x", ""));
        assert_ne!(push("refs/heads/x", &"a".repeat(40)), push("refs/heads/x", ""));
    }
}
