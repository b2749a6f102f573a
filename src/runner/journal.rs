//! What a job has learned from outside so far, keyed and durable.
//!
//! The runner is a plain program that walks a job's steps. After a crash it is run again from the top: whatever it
//! asks of the outside is answered from the journal as long as it knows the answer, and nothing is printed twice.
//! The first question without an answer is where the job really goes on. So composite actions, post steps and
//! conditions need no saved stack, and a step whose end is recorded is never looked at again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::JobError;

/// The key of the first entry: the job's nonce and its slot.
pub(super) const OPENED: &str = "opened";

/// What the job itself, not what runs beside it, has recorded of a step that runs beside it (S14).
const OF_THE_JOB: [&str; 6] = ["begin", "finish", "coe", "never", JOINED, "post"];
/// The job has what its background step did.
pub(super) const JOINED: &str = "joined";

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
    /// Bytes and lines of the log of the background step that recorded this; the numbers above are then those of the job's
    /// last record of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<(u64, u64)>,
}

/// How far what the recorder writes and reads has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Position {
    Job(JobPosition),
    /// Where the last record was: in the middle of a step, whose output is read again from its beginning.
    Unmoved,
    /// Bytes and lines of the log beside the job's.
    Beside(u64, u64),
}

/// See [`Entry`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JobPosition {
    pub(super) log: u64,
    pub(super) lines: u64,
    pub(super) spool: u64,
    pub(super) ended: u32,
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

/// The journal of one job, or the part of it that a background step reads and writes.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    /// Entries not yet asked for since the start.
    known: HashMap<String, Known>,
    /// The key of the background step whose part this is.
    own: Option<String>,
    /// Where its last record was.
    beside: Option<(u64, u64)>,
}

struct Known {
    value: Json,
    beside: Option<(u64, u64)>,
}

/// What all parts of a journal have in common.
struct Shared {
    store: Option<Box<dyn JournalStore>>,
    written: Mutex<Written>,
}

struct Written {
    sequence: u64,
    /// At the last record of the job itself: what a record of a background step says of the job.
    position: JobPosition,
}

/// The part of a background step.
pub(super) struct Part {
    pub(super) journal: Journal,
    /// How far its log had come.
    pub(super) log: (u64, u64),
    /// The job has its end already.
    pub(super) joined: bool,
}

impl Journal {
    pub(crate) fn new(store: Option<Box<dyn JournalStore>>, entries: &[Entry]) -> Self {
        let known = entries.iter().map(|entry| {
            let known = Known { value: entry.value.clone(), beside: entry.beside };
            (entry.key.clone(), known)
        });
        let position = entries.last().map(|last| JobPosition {
            log: last.log,
            lines: last.lines,
            spool: last.spool,
            ended: last.ended,
        });
        let written = Written { sequence: entries.len() as u64, position: position.unwrap_or_default() };
        let shared = Arc::new(Shared { store, written: Mutex::new(written) });
        Self { known: known.collect(), shared, own: None, beside: None }
    }

    /// Takes out what a background step recorded: from here on it reads and records by itself.
    pub(super) fn part(&mut self, key: &str) -> Part {
        let keys: Vec<String> = self.known.keys().filter(|known| is_of_step(known, key)).cloned().collect();
        let known: HashMap<String, Known> = keys.into_iter().filter_map(|key| self.known.remove_entry(&key)).collect();
        let end = known.get(&format!("{key}/end"));
        // An earlier version recorded the end of such a step when the job had it.
        let joined = self.knows(&format!("{key}/{JOINED}")) || end.is_some_and(|end| end.beside.is_none());
        let log = known.values().filter_map(|known| known.beside).max().unwrap_or_default();
        let shared = Arc::clone(&self.shared);
        let journal = Self { known, shared, own: Some(key.to_owned()), beside: Some(log) };
        Part { journal, log, joined }
    }

    /// Whether everything recorded has been read again: from here on the job is really going on.
    pub(crate) fn is_live(&self) -> bool {
        self.known.is_empty()
    }

    /// The recorded answer.
    pub(crate) fn recall<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, JobError> {
        let full = self.full(key);
        let Some(known) = self.known.remove(&*full) else {
            return Ok(None);
        };
        serde_json::from_value(known.value)
            .map(Some)
            .map_err(|error| JobError::Journal(format!("the record {key} of this job cannot be read: {error}")))
    }

    /// Records an answer.
    pub(super) fn record(&mut self, key: &str, value: Json, position: Position) -> Result<(), JobError> {
        let mut written = self.shared.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, beside) = match position {
            Position::Job(position) => (position, None),
            Position::Unmoved => (written.position, self.beside),
            Position::Beside(bytes, lines) => (written.position, Some((bytes, lines))),
        };
        let JobPosition { log, lines, spool, ended } = at;
        let entry = Entry { key: self.full(key).into_owned(), value, log, lines, spool, ended, beside };
        let bytes = serde_json::to_vec(&entry).map_err(|error| JobError::Journal(error.to_string()))?;
        if let Some(store) = &self.shared.store {
            store.append(written.sequence, &bytes).map_err(JobError::Journal)?;
        }
        written.sequence += 1;
        written.position = at;
        self.beside = beside;
        Ok(())
    }

    /// Whether an answer is there that was not recalled yet.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.known.contains_key(&*self.full(key))
    }

    /// Waits until all records are on the disk. What follows may be done because of them.
    pub(crate) async fn durable(&self) -> Result<(), JobError> {
        match &self.shared.store {
            Some(store) => store.durable().await.map_err(JobError::Journal),
            None => Ok(()),
        }
    }

    /// What a background step learns of the job as a whole is under its own key: another might have asked the same.
    fn full<'a>(&self, key: &'a str) -> Cow<'a, str> {
        match &self.own {
            Some(own) if !is_of_step(key, own) => Cow::Owned(format!("{own}/{key}")),
            _ => Cow::Borrowed(key),
        }
    }
}

/// Whether a record is what runs beside the job learned in the step with this key.
fn is_of_step(record: &str, key: &str) -> bool {
    let Some(rest) = record.strip_prefix(key) else { return false };
    let first = |rest: &str| rest.split('/').next().is_some_and(|first| OF_THE_JOB.contains(&first));
    match rest.as_bytes().first() {
        Some(b'/') => !first(&rest[1..]),
        // Steps inside of it. Their post steps are the job's.
        Some(b'.') => rest.split_once('/').is_none_or(|(_, rest)| !matches!(rest.split('/').next(), Some("post"))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(key: &str, beside: Option<(u64, u64)>) -> Entry {
        Entry { key: key.to_owned(), value: json!(key), log: 7, lines: 1, spool: 3, ended: 2, beside }
    }

    #[test]
    fn a_background_step_has_a_part_of_its_own() {
        let keys = [
            ("3/begin", None),
            ("3/finish", None),
            ("3/post/end", None),
            ("3.1/post/end", None),
            ("3.1.2/post", None),
            ("33/end", None),
            ("3/action", Some((1, 1))),
            ("3/end", Some((50, 4))),
            ("3/containers/relay", Some((9, 1))),
            ("3.1/if", Some((60, 5))),
            ("3.1/hash/src/post/**", Some((60, 5))),
        ];
        let entries: Vec<Entry> = keys.iter().map(|(key, beside)| entry(key, *beside)).collect();
        let mut journal = Journal::new(None, &entries);
        let Part { journal: mut part, log, joined } = journal.part("3");
        assert_eq!((log, joined), ((60, 5), false));
        for (key, of_step) in keys.map(|(key, beside)| (key, beside.is_some())) {
            assert_eq!(part.knows(key), of_step, "{key}");
            assert_eq!(journal.knows(key), !of_step, "{key}");
        }
        assert_eq!(part.recall::<String>("containers/relay").unwrap().as_deref(), Some("3/containers/relay"));
        for key in ["3/action", "3/end", "3.1/if", "3.1/hash/src/post/**"] {
            assert!(!part.is_live());
            assert!(part.recall::<String>(key).unwrap().is_some(), "{key}");
        }
        assert!(part.is_live() && !journal.is_live());
    }

    #[test]
    fn a_record_in_the_middle_of_a_step_moves_nothing() {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<Entry>>>);
        impl JournalStore for Kept {
            fn append(&self, _: u64, entry: &[u8]) -> Result<(), String> {
                self.0.lock().unwrap().push(serde_json::from_slice(entry).unwrap());
                Ok(())
            }

            fn durable(&self) -> BoxFuture<'_, Result<(), String>> {
                Box::pin(std::future::ready(Ok(())))
            }
        }
        let kept = Kept::default();
        let mut journal = Journal::new(Some(Box::new(kept.clone())), &[]);
        let at = JobPosition { log: 70, lines: 7, spool: 50, ended: 3 };
        journal.record("4/end", json!(1), Position::Job(at)).unwrap();
        journal.record("masks/1", json!(["a"]), Position::Unmoved).unwrap();
        let mut part = journal.part("6").journal;
        part.record("masks/1", json!(["b"]), Position::Unmoved).unwrap();
        part.record("6.1/end", json!(1), Position::Beside(90, 9)).unwrap();
        part.record("masks/2", json!(["c"]), Position::Unmoved).unwrap();
        let entries = kept.0.lock().unwrap().clone();
        assert!(entries.iter().all(|entry| (entry.log, entry.lines, entry.spool, entry.ended) == (70, 7, 50, 3)));
        let beside: Vec<_> = entries.iter().map(|entry| entry.beside).collect();
        assert_eq!(beside, [None, None, Some((0, 0)), Some((90, 9)), Some((90, 9))]);
        let mut journal = Journal::new(None, &entries);
        let Part { journal: mut part, log, .. } = journal.part("6");
        assert_eq!(log, (90, 9));
        assert_eq!(part.recall("masks/1").unwrap(), Some(vec!["b".to_owned()]));
        assert_eq!(journal.recall("masks/1").unwrap(), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn the_end_of_a_step_that_an_earlier_version_recorded_is_the_jobs() {
        let mut journal = Journal::new(None, &[entry("3/beside", None), entry("3/end", None), entry("4/end", None)]);
        assert!(journal.part("3").joined);
        let mut journal = Journal::new(None, &[entry("3/beside", None)]);
        assert!(!journal.part("3").joined);
        let mut journal = Journal::new(None, &[entry("3/end", Some((1, 1))), entry("3/joined", None)]);
        assert!(journal.part("3").joined);
    }
}
