//! What the steps of a job wrote to `GITHUB_STEP_SUMMARY`: one small file beside the log, read by the run's page.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::run::report::Summary;

/// More are not shown for one job (W3).
const MOST: usize = 20;

/// The summaries of one job, in the order in which their steps ended.
pub(super) struct Summaries {
    path: PathBuf,
    list: Vec<Summary>,
}

impl Summaries {
    /// Beside a job's log.
    pub(super) fn beside(log: &Path) -> Self {
        Self { path: Summary::path_beside(log), list: Vec::new() }
    }

    /// Takes the summary of a step. What comes after the twentieth is dropped, as on GitHub.
    pub(super) fn add(&mut self, step: u32, text: String) {
        if self.list.len() < MOST {
            self.list.push(Summary { step, text });
        }
    }

    /// Writes the file anew. It is made again from the journal after a crash, so it is whole or it is the one before.
    pub(super) fn write(&self) {
        if self.list.is_empty() {
            return;
        }
        let unfinished = self.path.with_extension("unfinished");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(&serde_json::to_vec(&self.list)?)?;
            fs::rename(&unfinished, &self.path)
        };
        // A page without its summary is no reason to fail a job.
        if let Err(error) = write() {
            log::warn!("cannot write the summaries {}: {error}", self.path.display());
        }
    }
}
