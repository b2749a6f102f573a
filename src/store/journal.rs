//! What the runner of a job has learned so far: entries by number, durable before the job goes on. They are deleted
//! in the transaction that ends the job.

use super::codec::{Key, encode_raw, payload, put_pieces, scan_pieces};
use super::trees::Name;
use super::{Store, StoreError};
use crate::id::JobId;

impl Store {
    /// Makes an entry durable; the future ends when it is. The same number written twice is one entry.
    ///
    /// # Errors
    /// The disk is full or cannot be written; the job must not go on.
    pub async fn append_journal(&self, job: JobId, sequence: u64, entry: &[u8]) -> Result<(), StoreError> {
        self.append_journal_entries(job, &[(sequence, entry)]).await
    }

    /// The same for several entries with their numbers, in one sync of the disk.
    ///
    /// # Errors
    /// As [`Store::append_journal`].
    pub async fn append_journal_entries<E: AsRef<[u8]>>(
        &self,
        job: JobId,
        entries: &[(u64, E)],
    ) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        for (sequence, entry) in entries {
            let key = Key::new().u64(job.0).u64(*sequence).bytes();
            put_pieces(&mut writes, Name::Journal, &key, &encode_raw(entry.as_ref()));
        }
        self.inner.writer.commit(writes).await
    }

    /// All entries of a job in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn journal(&self, job: JobId) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut entries = Vec::new();
        scan_pieces(self.trees(), Name::Journal, &Key::new().u64(job.0).bytes(), |_, value| {
            entries.push(payload("journal entry", value)?);
            Ok(true)
        })?;
        Ok(entries)
    }

    /// Whether any entry of any job is one that `wanted` says yes to.
    pub(crate) fn any_journal(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<bool, StoreError> {
        let mut found = false;
        scan_pieces(self.trees(), Name::Journal, &[], |_, value| {
            found = wanted(&payload("journal entry", value)?);
            Ok(!found)
        })?;
        Ok(found)
    }
}
