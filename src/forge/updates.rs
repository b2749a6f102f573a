//! Updates for those who tell others: none is missed, neither by falling behind nor by a restart.
//!
//! How far a follower has come is kept in the store. What changed after that is told again: whoever follows must not
//! mind hearing the same twice.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::clock::Clock;
use crate::engine::{RunRecord, Update};
use crate::store::{Store, StoreError};

const SPACE: &str = "followers";
/// How often it is written down how far a follower has come.
const REMEMBER: SignedDuration = SignedDuration::from_secs(5);
/// So many of the newest runs are looked through for what was missed.
const LOOKED_THROUGH: usize = 2000;

/// The updates of one follower.
pub struct Updates {
    /// The follower's own word.
    name: &'static str,
    store: Store,
    clock: Clock,
    live: broadcast::Receiver<Update>,
    missed: VecDeque<Update>,
    /// Everything before this was handled, as far as the store knows.
    remembered: Timestamp,
}

impl Updates {
    /// Takes up where the follower of this name left off. One that was never there before begins now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        name: &'static str,
        store: Store,
        clock: Clock,
        live: broadcast::Receiver<Update>,
    ) -> Result<Self, StoreError> {
        let before = store.get(SPACE, name)?.and_then(|at| String::from_utf8(at).ok()?.parse::<Timestamp>().ok());
        let now = clock.now();
        let mut updates = Self { name, store, clock, live, missed: VecDeque::new(), remembered: Timestamp::MIN };
        if let Some(before) = before {
            updates.look_back(before)?;
        }
        updates.remembered = before.unwrap_or(now);
        Ok(updates)
    }

    /// The next update; the one before counts as handled. `None`: there will be no more.
    ///
    /// # Errors
    /// The store cannot be read or written; asking again goes on.
    pub async fn next(&mut self) -> Result<Option<Update>, StoreError> {
        loop {
            if let Some(update) = self.missed.pop_front() {
                return Ok(Some(update));
            }
            let now = self.clock.now();
            // What is remembered of a time to come was written before the clock was set back.
            let is_due = now < self.remembered || now.duration_since(self.remembered) >= REMEMBER;
            if is_due && self.live.is_empty() {
                // A little earlier than now: an update may be on its way.
                let until = now - SignedDuration::from_secs(1);
                self.store.put(SPACE, self.name, until.to_string().as_bytes()).await?;
                self.remembered = now;
            }
            match self.live.recv().await {
                Ok(update) => return Ok(Some(update)),
                Err(RecvError::Closed) => return Ok(None),
                Err(RecvError::Lagged(_)) => self.look_back(self.remembered - REMEMBER)?,
            }
        }
    }

    /// Queues what changed since a time, as it is now.
    fn look_back(&mut self, since: Timestamp) -> Result<(), StoreError> {
        for run in self.store.runs_changed_since(since, LOOKED_THROUGH)? {
            for job in self.store.jobs(run.id, run.attempt)? {
                self.missed.push_back(Update::Job {
                    run: run.id,
                    attempt: run.attempt,
                    job: job.state.id,
                    name: job.state.name,
                    phase: job.state.phase,
                    conclusion: job.state.conclusion,
                    host: job.state.host,
                    step: None,
                });
            }
            self.missed.push_back(of_run(run));
        }
        Ok(())
    }
}

fn of_run(run: RunRecord) -> Update {
    Update::Run {
        run: run.id,
        attempt: run.attempt,
        repository: run.repository,
        workflow_path: run.workflow_path,
        status: run.status,
        conclusion: run.conclusion,
    }
}
