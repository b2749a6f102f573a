//! The trees and what one transaction over them is.

use std::collections::{BTreeMap, btree_map};

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::StoreError;
use super::codec::{number_at, short_at};
use crate::id::{JobId, RunId};

/// The trees, in the order of [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub(super) enum Name {
    /// Counters, run numbers, flags.
    Meta,
    /// Run → record.
    Runs,
    /// Runs that are not over.
    Active,
    /// Run, attempt → what it was made of; in pieces.
    Specs,
    /// Run, attempt → its graph; in pieces.
    Graphs,
    /// Run, attempt, job → record; in pieces.
    Jobs,
    /// A block of jobs → run and attempt of each: see [`job_block`]. Single jobs are of older versions.
    JobIndex,
    /// Repository, run: for lists.
    ByRepository,
    /// Key of a start → run.
    Starts,
    Hosts,
    /// Repository, environment → rules.
    Environments,
    /// Job, sequence → what its runner knows; in pieces.
    Journal,
    /// Deliveries as they came; in pieces.
    Inbox,
    /// Source, delivery id → number in the inbox.
    InboxIndex,
    Audit,
    /// Space, key → bytes of other rooms; in pieces.
    Keys,
    Tokens,
    Secrets,
    /// Job → what a runner still stops; in pieces.
    Stopping,
}

pub(super) const NAMES: [(Name, &str); 19] = [
    (Name::Meta, "meta"),
    (Name::Runs, "runs"),
    (Name::Active, "active"),
    (Name::Specs, "specs"),
    (Name::Graphs, "graphs"),
    (Name::Jobs, "jobs"),
    (Name::JobIndex, "job_index"),
    (Name::ByRepository, "by_repository"),
    (Name::Starts, "starts"),
    (Name::Hosts, "hosts"),
    (Name::Environments, "environments"),
    (Name::Journal, "journal"),
    (Name::Inbox, "inbox"),
    (Name::InboxIndex, "inbox_index"),
    (Name::Audit, "audit"),
    (Name::Keys, "keys"),
    (Name::Tokens, "tokens"),
    (Name::Secrets, "secrets"),
    (Name::Stopping, "stopping"),
];

/// The open database.
#[derive(Debug)]
pub(super) struct Trees {
    database: sled::Db,
    trees: Vec<sled::Tree>,
}

/// One change of a record.
#[derive(Clone, Debug)]
pub(super) struct Write {
    tree: Name,
    key: Vec<u8>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Put(Vec<u8>),
    Delete,
    /// One entry of a block.
    Entry(u8, Option<Entry>),
}

/// Run and attempt.
type Entry = [u8; ENTRY];
const ENTRY: usize = 12;
/// Jobs of one block.
const BLOCK: u64 = 64;

impl Write {
    pub(super) fn put(tree: Name, key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { tree, key, what: What::Put(value) }
    }

    pub(super) fn delete(tree: Name, key: Vec<u8>) -> Self {
        Self { tree, key, what: What::Delete }
    }

    /// Where a job is to be found; `None`: nowhere any more.
    pub(super) fn index_job(job: JobId, at: Option<(RunId, u32)>) -> Self {
        let (key, place) = job_block(job);
        let entry = at.map(|(run, attempt)| {
            let mut entry = [0; ENTRY];
            entry[..8].copy_from_slice(&run.0.to_be_bytes());
            entry[8..].copy_from_slice(&attempt.to_be_bytes());
            entry
        });
        Self { tree: Name::JobIndex, key, what: What::Entry(place, entry) }
    }
}

/// Jobs that were numbered together are under one key, each as its place and its entry: a leaf of a tree holds few keys,
/// and each leaf costs memory for as long as the daemon runs.
fn job_block(job: JobId) -> (Vec<u8>, u8) {
    let mut key = (job.0 / BLOCK).to_be_bytes().to_vec();
    // Longer than the key of a single job.
    key.push(b'b');
    (key, u8::try_from(job.0 % BLOCK).unwrap_or(u8::MAX))
}

/// Puts an entry into a block, or takes it out; says whether that changed anything.
fn change_block(block: &mut Vec<u8>, place: u8, entry: Option<&Entry>) -> bool {
    let at = block.chunks_exact(1 + ENTRY).position(|one| one[0] >= place).unwrap_or(block.len() / (1 + ENTRY));
    let range = at * (1 + ENTRY)..(at + 1) * (1 + ENTRY);
    let there = block.get(range.clone()).filter(|one| one[0] == place);
    match (there, entry) {
        (None, None) => return false,
        (Some(there), Some(entry)) if there[1..] == *entry => return false,
        (there, entry) => {
            let replaced = if there.is_some() { range } else { range.start..range.start };
            let new = entry.map(|entry| [&[place], &entry[..]].concat()).unwrap_or_default();
            drop(block.splice(replaced, new));
        }
    }
    true
}

impl Trees {
    pub(super) fn new(database: sled::Db) -> Result<Self, sled::Error> {
        let trees = NAMES.iter().map(|(_, name)| database.open_tree(name)).collect::<Result<_, _>>()?;
        Ok(Self { database, trees })
    }

    pub(super) fn tree(&self, name: Name) -> &sled::Tree {
        &self.trees[name as usize]
    }

    /// Writes all or nothing. Durable only after [`Trees::flush`].
    pub(super) fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut batches: BTreeMap<Name, sled::Batch> = BTreeMap::new();
        // Blocks that are changed, each read once.
        let mut blocks: BTreeMap<(Name, Vec<u8>), (Vec<u8>, bool)> = BTreeMap::new();
        for Write { tree, key, what } in writes {
            match what {
                What::Put(value) => batches.entry(tree).or_default().insert(key, value),
                What::Delete => batches.entry(tree).or_default().remove(key),
                What::Entry(place, entry) => {
                    let (block, changed) = match blocks.entry((tree, key)) {
                        btree_map::Entry::Occupied(there) => there.into_mut(),
                        btree_map::Entry::Vacant(vacant) => {
                            let block = self.get(tree, &vacant.key().1)?.map(|block| block.to_vec());
                            vacant.insert((block.unwrap_or_default(), false))
                        }
                    };
                    *changed |= change_block(block, place, entry.as_ref());
                }
            }
        }
        for ((tree, key), (block, _)) in blocks.into_iter().filter(|(_, (_, changed))| *changed) {
            let batch = batches.entry(tree).or_default();
            if block.is_empty() { batch.remove(key) } else { batch.insert(key, block) }
        }
        // One tree needs no transaction: a batch is atomic by itself.
        if batches.len() <= 1 {
            let written = batches.into_iter().try_for_each(|(tree, batch)| self.tree(tree).apply_batch(batch));
            return written.map_err(|error| StoreError::Write(error.to_string()));
        }
        let trees: Vec<&sled::Tree> = batches.keys().map(|tree| self.tree(*tree)).collect();
        let result: Result<(), TransactionError<()>> = trees.as_slice().transaction(|views| {
            for (view, batch) in views.iter().zip(batches.values()) {
                view.apply_batch(batch)?;
            }
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        result.map_err(|error| match error {
            TransactionError::Storage(error) => StoreError::Write(error.to_string()),
            TransactionError::Abort(()) => StoreError::Write("the transaction was given up".to_owned()),
        })
    }

    /// Hands everything written so far to the operating system.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.database.flush().map(drop).map_err(|error| StoreError::Write(error.to_string()))
    }

    /// The run and the attempt of a job.
    pub(super) fn job_at(&self, job: JobId) -> Result<Option<(RunId, u32)>, StoreError> {
        let (key, place) = job_block(job);
        let block = self.get(Name::JobIndex, &key)?;
        let entry = block.as_ref().and_then(|block| block.chunks_exact(1 + ENTRY).find(|one| one[0] == place));
        let entry = match entry {
            Some(entry) => Some(entry[1..].to_vec()),
            None => self.get(Name::JobIndex, &job.0.to_be_bytes())?.map(|entry| entry.to_vec()),
        };
        Ok(entry.map(|entry| (RunId(number_at(&entry, 0)), short_at(&entry, 8))))
    }

    /// The value of a key.
    pub(super) fn get(&self, name: Name, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.tree(name).get(key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_a_block_come_and_go_by_themselves() {
        let database = sled::Config::new().temporary(true).flush_every_ms(None).open().unwrap();
        let trees = Trees::new(database).unwrap();
        let index = |job: u64, run: Option<u64>| Write::index_job(JobId(job), run.map(|run| (RunId(run), 1)));
        trees.apply([130, 128, 129, 5, 191, 129].map(|job| index(job, Some(job + 1))).to_vec()).unwrap();
        trees.apply(vec![index(129, Some(7)), index(5, None), index(6, None)]).unwrap();
        let found = [128, 129, 130, 191, 5, 6, 192].map(|job| trees.job_at(JobId(job)).unwrap().map(|(run, _)| run.0));
        assert_eq!(found, [Some(129), Some(7), Some(131), Some(192), None, None, None]);
        assert_eq!(trees.tree(Name::JobIndex).len(), 1, "an empty block is gone");
        // As an older version wrote it.
        let old = [&9_u64.to_be_bytes()[..], &2_u32.to_be_bytes()].concat();
        trees.apply(vec![Write::put(Name::JobIndex, 6_u64.to_be_bytes().to_vec(), old)]).unwrap();
        assert_eq!(trees.job_at(JobId(6)).unwrap(), Some((RunId(9), 2)));
    }
}
