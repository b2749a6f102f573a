//! Reports on their way: durable, only the latest of each context, tried until the forge has them or they are dead.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Sent};
use super::{Report, reports};
use crate::clock::Clock;
use crate::config::Source;
use crate::id::RepositoryName;
use crate::store::{Store, StoreError};

const SPACE: &str = "outbox";
const CHECKS: &str = "outbox-checks";
const DEAD: &str = "outbox-dead";
/// Two days of trying.
const MOST_ATTEMPTS: u32 = 60;
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The source of a repository.
pub type SourceOf = Arc<dyn Fn(&RepositoryName) -> Option<Source> + Send + Sync>;

/// The outbox of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    clock: Clock,
    source_of: SourceOf,
    changed: Arc<Notify>,
}

/// A report that no forge took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dead {
    pub report: Report,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    report: Report,
    attempts: u32,
    not_before: Timestamp,
    /// Of the last attempt.
    reason: String,
}

impl Outbox {
    #[must_use]
    pub fn new(store: Store, clock: Clock, source_of: SourceOf) -> Self {
        Self { store, clock, source_of, changed: Arc::default() }
    }

    /// Takes a report; an older one of the same context that has not left yet is forgotten.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn put(&self, report: Report) -> Result<(), StoreError> {
        let key = key(&report);
        let waiting = Waiting { report, attempts: 0, not_before: Timestamp::MIN, reason: String::new() };
        self.write(&key, &waiting).await?;
        self.changed.notify_one();
        Ok(())
    }

    /// Reports that no forge took.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn dead(&self) -> Result<Vec<Dead>, StoreError> {
        let found = self.store.scan(DEAD, "")?;
        Ok(found.iter().filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect())
    }

    /// How many reports have not left yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn waiting(&self) -> Result<usize, StoreError> {
        self.store.scan(SPACE, "").map(|found| found.len())
    }

    /// Sends until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let next = match self.turn().await {
                Ok(next) => next,
                Err(error) => {
                    log::error!("the outbox cannot be read or written: {error}");
                    Some(self.clock.now() + SignedDuration::from_secs(10))
                }
            };
            let pause = next.map_or(LONGEST_WAIT, |next| {
                Duration::try_from(next.duration_since(self.clock.now())).unwrap_or(Duration::ZERO)
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(pause + Duration::from_millis(5)) => {}
            }
        }
    }

    /// Sends everything that is due; says when the next is.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn turn(&self) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock.now();
        let mut next: Option<Timestamp> = None;
        for (key, value) in self.store.scan(SPACE, "")? {
            let Ok(waiting) = serde_json::from_slice::<Waiting>(&value) else {
                log::error!("a report in the outbox cannot be understood and is dropped: {key}");
                self.store.delete(SPACE, &key).await?;
                continue;
            };
            let again = if waiting.not_before > now {
                Some(waiting.not_before)
            } else {
                self.one(&key, &value, waiting).await?
            };
            next = [next, again].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Sends one; says when to try again.
    async fn one(&self, key: &str, value: &[u8], mut waiting: Waiting) -> Result<Option<Timestamp>, StoreError> {
        let source = (self.source_of)(&waiting.report.repository).filter(reports);
        let Some(source) = source else {
            // Nobody to tell any more.
            self.store.delete(SPACE, key).await?;
            return Ok(None);
        };
        let check = self.store.get(CHECKS, key)?.and_then(|number| String::from_utf8(number).ok()?.parse().ok());
        let sent = match Client::new(&source) {
            Ok(client) => client.send(&waiting.report, check).await,
            Err(error) => Err(error),
        };
        // A newer report may have come in between: it is due at once, and this answer is about the old one.
        let newer = self.store.get(SPACE, key)?.is_none_or(|now| now != value);
        match sent {
            Ok(sent) => {
                if let Sent::Check(number) = sent
                    && check != Some(number)
                {
                    self.store.put(CHECKS, key, number.to_string().as_bytes()).await?;
                }
                if newer {
                    return Ok(Some(self.clock.now()));
                }
                self.store.delete(SPACE, key).await?;
                Ok(None)
            }
            Err(_) if newer => Ok(Some(self.clock.now())),
            Err(error) => {
                let now = self.clock.now();
                waiting.attempts += 1;
                waiting.reason = error.to_string();
                if !error.is_transient() || waiting.attempts >= MOST_ATTEMPTS {
                    log::error!("{} was not told about {}: {error}", waiting.report.repository, waiting.report.context);
                    let dead = Dead { report: waiting.report, reason: waiting.reason, at: now };
                    let bytes = serde_json::to_vec(&dead).unwrap_or_default();
                    self.store.put(DEAD, key, &bytes).await?;
                    self.store.delete(SPACE, key).await?;
                    return Ok(None);
                }
                let doubled = FIRST_WAIT.saturating_mul(1 << waiting.attempts.min(16).saturating_sub(1));
                let pause = error.retry_after().unwrap_or(doubled).min(LONGEST_WAIT);
                waiting.not_before = now + SignedDuration::try_from(pause).unwrap_or(SignedDuration::ZERO);
                self.write(key, &waiting).await?;
                Ok(Some(waiting.not_before))
            }
        }
    }

    async fn write(&self, key: &str, waiting: &Waiting) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(waiting)
            .map_err(|error| StoreError::Decode { what: "report", reason: error.to_string() })?;
        self.store.put(SPACE, key, &bytes).await
    }
}

fn key(report: &Report) -> String {
    format!("{} {} {}", report.repository, report.sha, report.context)
}
