//! What a job has learned from outside so far, keyed and durable.
//!
//! The runner is a plain program that walks a job's steps. After a crash it is run again from the top: whatever it
//! asks of the outside is answered from the journal as long as it knows the answer, and nothing is printed twice.
//! The first question without an answer is where the job really goes on. So composite actions, post steps and
//! conditions need no saved stack, and a step whose end is recorded is never looked at again.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::JobError;

/// The key of the first entry: the job's nonce and its slot.
pub(super) const OPENED: &str = "opened";

/// One answer, with how far the log and the host's output had come when it was recorded: one record, one
/// transaction, so the two can never disagree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub key: String,
    pub value: Json,
    /// Length of the job's log file in bytes.
    pub log: u64,
    /// Lines in the job's log file.
    pub lines: u64,
    /// Offset in the host's main spool.
    pub spool: u64,
    /// The highest step on the host's main spool whose end was handled.
    pub ended: u32,
}

/// Where the entries of one job are kept.
pub trait JournalStore: Send + Sync {
    /// Takes an entry; entries become durable in order.
    ///
    /// # Errors
    /// The store cannot be written; the job must not go on.
    fn append(&self, sequence: u64, entry: &[u8]) -> Result<(), String>;

    /// Returns when everything taken so far is durable.
    fn durable(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// The journal of one job.
pub(crate) struct Journal {
    store: Option<Box<dyn JournalStore>>,
    known: HashMap<String, Json>,
    /// Entries not yet asked for since the start.
    unread: usize,
    sequence: u64,
}

impl Journal {
    pub(crate) fn new(store: Option<Box<dyn JournalStore>>, entries: &[Entry]) -> Self {
        let known: HashMap<_, _> = entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
        Self { store, unread: known.len(), sequence: entries.len() as u64, known }
    }

    /// Whether everything recorded has been read again: from here on the job is really going on.
    pub(crate) fn is_live(&self) -> bool {
        self.unread == 0
    }

    /// The recorded answer.
    pub(crate) fn recall<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, JobError> {
        let Some(value) = self.known.remove(key) else {
            return Ok(None);
        };
        self.unread -= 1;
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| JobError::Journal(format!("the record {key} of this job cannot be read: {error}")))
    }

    /// Records an answer.
    pub(crate) fn record(&mut self, entry: &Entry) -> Result<(), JobError> {
        let bytes = serde_json::to_vec(entry).map_err(|error| JobError::Journal(error.to_string()))?;
        if let Some(store) = &self.store {
            store.append(self.sequence, &bytes).map_err(JobError::Journal)?;
        }
        self.sequence += 1;
        Ok(())
    }

    /// Whether an answer is there that was not recalled yet.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.known.contains_key(key)
    }

    /// Waits until all records are on the disk. What follows may be done because of them.
    pub(crate) async fn durable(&self) -> Result<(), JobError> {
        match &self.store {
            Some(store) => store.durable().await.map_err(JobError::Journal),
            None => Ok(()),
        }
    }
}
