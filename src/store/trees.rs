//! The trees and what one transaction over them is.

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::StoreError;

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
    /// Job → run, attempt.
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

/// One put or delete.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) tree: Name,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl Write {
    pub(super) fn put(tree: Name, key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { tree, key, value: Some(value) }
    }

    pub(super) fn delete(tree: Name, key: Vec<u8>) -> Self {
        Self { tree, key, value: None }
    }
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
        let mut batches: Vec<(usize, sled::Batch)> = Vec::new();
        for write in writes {
            let index = write.tree as usize;
            let at = batches.iter().position(|(tree, _)| *tree == index).unwrap_or_else(|| {
                batches.push((index, sled::Batch::default()));
                batches.len() - 1
            });
            match write.value {
                Some(value) => batches[at].1.insert(write.key, value),
                None => batches[at].1.remove(write.key),
            }
        }
        // One tree needs no transaction: a batch is atomic by itself.
        if let [(tree, batch)] = batches.as_mut_slice() {
            let batch = std::mem::take(batch);
            return self.trees[*tree].apply_batch(batch).map_err(|error| StoreError::Write(error.to_string()));
        }
        let trees: Vec<&sled::Tree> = batches.iter().map(|(tree, _)| &self.trees[*tree]).collect();
        let result: Result<(), TransactionError<()>> = trees.as_slice().transaction(|views| {
            for (view, (_, batch)) in views.iter().zip(&batches) {
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

    /// The value of a key.
    pub(super) fn get(&self, name: Name, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.tree(name).get(key)?)
    }
}
