//! What the steps of a job wrote to `GITHUB_STEP_SUMMARY`: one small file beside the log, read by the run's page.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::run::report::Summary;

/// More are not shown for one job (W3).
const MOST: usize = 20;

/// The summaries of one job, in the order in which their steps ended.
pub(super) struct Summaries {
    /// Nothing: they will be others'.
    path: Option<PathBuf>,
    list: Vec<Summary>,
}

impl Summaries {
    /// Beside a job's log.
    pub(super) fn beside(log: &Path) -> Self {
        Self { path: Some(Summary::path_beside(log)), list: Vec::new() }
    }

    /// Those of a step that runs beside the job, which has them when it waits for the step.
    pub(super) fn aside() -> Self {
        Self { path: None, list: Vec::new() }
    }

    /// Takes those of such a step.
    pub(super) fn adopt(&mut self, other: Self) {
        for summary in other.list {
            self.add(summary.step, summary.text);
        }
    }

    /// Takes the summary of a step. What comes after the twentieth is dropped, as on GitHub.
    pub(super) fn add(&mut self, step: u32, text: String) {
        if self.list.len() < MOST {
            self.list.push(Summary { step, text });
        }
    }

    /// Writes the file anew. It is made again from the journal after a crash, so it is whole or it is the one before.
    pub(super) fn write(&self) {
        let Some(path) = self.path.as_ref().filter(|_| !self.list.is_empty()) else { return };
        let unfinished = path.with_extension("unfinished");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(&serde_json::to_vec(&self.list)?)?;
            fs::rename(&unfinished, path)
        };
        // A page without its summary is no reason to fail a job.
        if let Err(error) = write() {
            log::warn!("cannot write the summaries {}: {error}", path.display());
        }
    }
}
