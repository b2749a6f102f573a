//! What has outlived its time: which runs, logs and backups.

use std::fs;

use jiff::Timestamp;

use super::runs::run_record;
use super::trees::Name;
use super::{Store, StoreError};
use crate::id::RunId;
use crate::run::RunStatus;

use super::codec::number_at;

impl Store {
    /// Runs that ended before `before`, oldest first, at most `limit`. Reads old records only.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn ended_before(&self, before: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let mut found = Vec::new();
        for key in self.trees().tree(Name::Runs).iter().keys() {
            let Some(record) = run_record(self.trees(), RunId(number_at(&key?, 0)))? else { continue };
            if record.created_at >= before || found.len() == limit {
                break;
            }
            if record.completed_at.is_some_and(|ended| ended < before) {
                found.push(record.id);
            }
        }
        Ok(found)
    }

    /// Removes the logs of runs that ended before `before`, and then those of the runs that ended first, until at most
    /// `bytes` remain. Logs of runs that are not over stay. Returns how many runs lost theirs. Looks at every log file.
    ///
    /// # Errors
    /// The database cannot be read, or a file not be removed.
    pub fn trim_logs(&self, before: Timestamp, bytes: u64) -> Result<usize, StoreError> {
        let entries = fs::read_dir(self.directory().join("logs")).into_iter().flatten().flatten();
        let runs = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok().map(RunId));
        let mut kept = Vec::new();
        let mut total = 0;
        let mut removed = 0;
        for run in runs {
            let size = self.logs().size(run);
            match run_record(self.trees(), run)? {
                Some(record) if record.status != RunStatus::Completed => total += size,
                Some(record) if record.completed_at.is_none_or(|ended| ended >= before) => {
                    total += size;
                    kept.push((record.completed_at, run, size));
                }
                // Its time is over, or its record is gone and with it every way to the log.
                _ => {
                    self.logs().remove_run(run)?;
                    removed += 1;
                }
            }
        }
        kept.sort_unstable();
        for (_, run, size) in kept {
            if total <= bytes {
                break;
            }
            self.logs().remove_run(run)?;
            total -= size;
            removed += 1;
        }
        Ok(removed)
    }
}
