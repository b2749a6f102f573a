//! Sources that nobody tells us about: homes behind a router, servers without webhooks. Their refs are asked for from
//! time to time, and what moved is taken as a push.
//!
//! The first look at a source only notes where its refs are. A push that a webhook brought as well starts nothing twice.

mod forge;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::hook::{HookPush, HookRef};
use super::inventory;
use super::service::{Error, Triggers};
use crate::config::{Source, TriggerKind};
use crate::git::{self, NULL_ID};
use crate::id::RepositoryName;

const SPACE: &str = "poll";
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// The longest sleep: a source may be configured meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// An interval of nothing at all must not turn into a busy loop.
const SHORTEST_SLEEP: Duration = Duration::from_millis(200);

/// Polls until told to stop. A source that cannot be reached is asked less and less often.
pub async fn run(triggers: Triggers, stop: CancellationToken) {
    // By what has passed, not by the clock: that may be set back by hours.
    let mut due: HashMap<RepositoryName, (Duration, u32)> = HashMap::new();
    loop {
        let mut sleep = LONGEST_SLEEP;
        for source in triggers.inventory().all() {
            if !source.triggers.contains(&TriggerKind::Poll) {
                continue;
            }
            let (at, failures) = due.get(&source.name).copied().unwrap_or((Duration::ZERO, 0));
            let now = triggers.clock().passed();
            if now < at {
                sleep = sleep.min(at.saturating_sub(now));
                continue;
            }
            let mut wanted = SignedDuration::ZERO;
            let failures = match look(&triggers, &source).await {
                Ok(_) => 0,
                Err(error) => {
                    log::warn!("{} cannot be polled: {error}", source.name);
                    if let Error::Forge(error) = &error {
                        // A forge at its limit says when it may be asked again.
                        let patience = error.retry_after().and_then(|pause| SignedDuration::try_from(pause).ok());
                        wanted = patience.unwrap_or_default();
                        if error.is_about_credentials() {
                            triggers.clients().forget(&source);
                        }
                    }
                    (failures + 1).min(12)
                }
            };
            let interval = SignedDuration::try_from(source.poll_interval).unwrap_or(LONGEST_PAUSE);
            let pause = interval.saturating_mul(1 << failures).min(LONGEST_PAUSE.max(interval)).max(wanted);
            let pause = Duration::try_from(pause).unwrap_or_default();
            sleep = sleep.min(pause);
            due.insert(source.name.clone(), (triggers.clock().passed().saturating_add(pause), failures));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(sleep.max(SHORTEST_SLEEP)) => {}
        }
    }
}

/// Where the refs of a source were.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refs {
    /// Since when it has been known. Part of the ids of moves: a branch that moves there and back and there again has moved
    /// three times.
    since: Timestamp,
    refs: BTreeMap<String, String>,
}

/// Asks once; gives how much that was not known: refs that moved, and what the forge's API tells besides.
///
/// # Errors
/// The source cannot be reached, or what it said not be kept.
pub async fn look(triggers: &Triggers, source: &Source) -> Result<usize, Error> {
    let url = inventory::clone_url(source).ok_or_else(|| Error::UnknownSource(source.name.to_string()))?;
    let credentials = triggers.inventory().credentials(source).await?;
    let now: BTreeMap<String, String> = git::ls_remote(&url, &credentials)
        .await?
        .into_iter()
        .filter(|one| one.name.starts_with("refs/"))
        .map(|one| (one.name, one.id))
        .collect();
    let store = triggers.store();
    let stored = store.get(SPACE, source.name.as_str())?;
    let known: Option<Refs> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut moved = 0;
    if let Some(known) = known.as_ref().filter(|known| known.refs != now) {
        let movers = forge::movers(triggers, source).await;
        for one in differences(&known.refs, &now) {
            moved += 1;
            // The same move has the same id, should we not come to note it.
            let id = format!("{} {}..{} since {}", one.name, one.old, one.new, known.since);
            let by = movers.iter().find(|mover| mover.moved(&one)).map(|mover| mover.login.as_str());
            let push = HookPush {
                id,
                repository: url.clone(),
                pusher: by.unwrap_or(source.name.owner()).to_owned(),
                refs: vec![one],
                options: Vec::new(),
                at: triggers.clock().now(),
            };
            triggers.polled(source, push).await?;
        }
    }
    if known.is_none_or(|known| known.refs != now) {
        let refs = Refs { since: triggers.clock().now(), refs: now };
        let bytes = serde_json::to_vec(&refs).map_err(|error| Error::Malformed(error.to_string()))?;
        store.put(SPACE, source.name.as_str(), &bytes).await?;
    }
    if forge::is_asked(source) {
        moved += forge::look(triggers, source).await?;
    }
    Ok(moved)
}

fn differences(known: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<HookRef> {
    let of = |old: Option<&String>, new: Option<&String>, name: &str| {
        let id = |id: Option<&String>| id.cloned().unwrap_or_else(|| NULL_ID.to_owned());
        HookRef { old: id(old), new: id(new), name: name.to_owned() }
    };
    let changed = now.iter().filter(|(name, id)| known.get(*name) != Some(*id));
    let gone = known.iter().filter(|(name, _)| !now.contains_key(*name));
    changed
        .map(|(name, id)| of(known.get(name), Some(id), name))
        .chain(gone.map(|(name, id)| of(Some(id), None, name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_moved_and_gone_refs_are_told() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect()
        };
        let found =
            differences(&map(&[("a", "1"), ("b", "1"), ("c", "1")]), &map(&[("a", "1"), ("b", "2"), ("d", "3")]));
        let told: Vec<(&str, &str, &str)> =
            found.iter().map(|one| (one.name.as_str(), one.old.as_str(), one.new.as_str())).collect();
        assert_eq!(told, [("b", "1", "2"), ("d", NULL_ID, "3"), ("c", "1", NULL_ID)]);
    }
}
