//! Lists and single records for pages, the API and commands.

use jiff::Timestamp;

use super::codec::{Key, decode, get_pieces, number_at, short_at};
use super::records::{attempt_key, environments, job_key, jobs, repository_key};
use super::trees::{Name, Trees};
use super::{Store, StoreError};
use crate::engine::record::EnvironmentRules;
use crate::engine::{JobRecord, RunRecord};
use crate::id::{JobId, RepositoryName, RunId};
use crate::run::{Conclusion, RunSpec, RunState, RunStatus};

/// Which runs are wanted; `None` wants any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Compares without case.
    pub repository: Option<RepositoryName>,
    pub workflow_path: Option<String>,
    /// Short branch or tag name.
    pub branch: Option<String>,
    pub event: Option<String>,
    pub actor: Option<String>,
    pub status: Option<StatusFilter>,
    pub sha: Option<String>,
    pub created_from: Option<Timestamp>,
    /// Inclusive.
    pub created_to: Option<Timestamp>,
}

/// GitHub's `status` parameter takes either word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    Status(RunStatus),
    Conclusion(Conclusion),
}

/// A part of a list, newest first, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunPage {
    pub runs: Vec<RunRecord>,
    pub total: usize,
}

impl RunFilter {
    /// Whether a run is wanted.
    #[must_use]
    pub fn matches(&self, run: &RunRecord) -> bool {
        let same = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let branch = run
            .git_ref
            .strip_prefix("refs/heads/")
            .or_else(|| run.git_ref.strip_prefix("refs/tags/"))
            .unwrap_or(&run.git_ref);
        self.repository.as_ref().is_none_or(|wanted| wanted.0.eq_ignore_ascii_case(&run.repository.0))
            && same(&self.workflow_path, &run.workflow_path)
            && same(&self.branch, branch)
            && same(&self.event, &run.event)
            && self.actor.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(&run.actor))
            && same(&self.sha, &run.sha)
            && self.created_from.is_none_or(|from| run.created_at >= from)
            && self.created_to.is_none_or(|to| run.created_at <= to)
            && self.status.is_none_or(|status| match status {
                StatusFilter::Status(status) => run.status == status,
                StatusFilter::Conclusion(conclusion) => run.conclusion == Some(conclusion),
            })
    }

    /// Whether only the repository is asked for, so that records need not be read to be counted.
    fn is_plain(&self) -> bool {
        Self { repository: None, ..self.clone() } == Self::default()
    }
}

impl Store {
    /// Runs, newest first, after `skip` others. May read every record of the repository: not for a worker thread.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn runs(&self, filter: &RunFilter, skip: usize, limit: usize) -> Result<RunPage, StoreError> {
        let trees = self.trees();
        let mut page = RunPage::default();
        let plain = filter.is_plain();
        let mut each = |run: RunId| -> Result<(), StoreError> {
            let wanted = page.total >= skip && page.runs.len() < limit;
            if plain && !wanted {
                page.total += 1;
                return Ok(());
            }
            let Some(record) = run_record(trees, run)? else { return Ok(()) };
            if filter.matches(&record) {
                if wanted {
                    page.runs.push(record);
                }
                page.total += 1;
            }
            Ok(())
        };
        match &filter.repository {
            Some(repository) => {
                let prefix = repository_key(repository).bytes();
                for key in trees.tree(Name::ByRepository).scan_prefix(&prefix).keys().rev() {
                    each(RunId(number_at(&key?, prefix.len())))?;
                }
            }
            None => {
                for key in trees.tree(Name::Runs).iter().keys().rev() {
                    each(RunId(number_at(&key?, 0)))?;
                }
            }
        }
        Ok(page)
    }

    /// Runs that are not over or changed since a time, oldest first, among the newest `limit`: what somebody who looked
    /// last at that time may not have seen. Not for a worker thread.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn runs_changed_since(&self, since: Timestamp, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let trees = self.trees();
        let mut found = Vec::new();
        for key in trees.tree(Name::Runs).iter().keys().rev().take(limit) {
            let record = run_record(trees, RunId(number_at(&key?, 0)))?;
            let wanted = |run: &RunRecord| run.status != RunStatus::Completed || run.updated_at >= since;
            found.extend(record.filter(wanted));
        }
        found.reverse();
        Ok(found)
    }

    /// How the newest run before this one, of the same workflow and ref, ended, of those conclusions that count. Looks
    /// back a thousand runs of the repository.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn conclusion_before(
        &self,
        run: &RunRecord,
        counts: impl Fn(Conclusion) -> bool,
    ) -> Result<Option<Conclusion>, StoreError> {
        const LOOKED_BACK: usize = 1000;
        let trees = self.trees();
        let prefix = repository_key(&run.repository).bytes();
        let end = repository_key(&run.repository).u64(run.id.0).bytes();
        let earlier = trees.tree(Name::ByRepository).range(prefix.clone()..end).keys().rev().take(LOOKED_BACK);
        for key in earlier {
            let Some(record) = run_record(trees, RunId(number_at(&key?, prefix.len())))? else { continue };
            let conclusion = record.conclusion.filter(|conclusion| counts(*conclusion));
            if conclusion.is_some() && record.workflow_path == run.workflow_path && record.git_ref == run.git_ref {
                return Ok(conclusion);
            }
        }
        Ok(None)
    }

    /// One run.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn run(&self, run: RunId) -> Result<Option<RunRecord>, StoreError> {
        run_record(self.trees(), run)
    }

    /// What an attempt was made of: event, texts, inputs.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn spec(&self, run: RunId, attempt: u32) -> Result<Option<RunSpec>, StoreError> {
        let value = get_pieces(self.trees(), Name::Specs, &attempt_key(run, attempt))?;
        value.map(|value| decode("run's spec", &value)).transpose()
    }

    /// The graph of an attempt, without its jobs.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn graph(&self, run: RunId, attempt: u32) -> Result<Option<RunState>, StoreError> {
        let value = get_pieces(self.trees(), Name::Graphs, &attempt_key(run, attempt))?;
        value.map(|value| decode("run's graph", &value)).transpose()
    }

    /// The jobs of an attempt in order of their ids, with steps and annotations.
    ///
    /// # Errors
    /// The records cannot be read or understood.
    pub fn jobs(&self, run: RunId, attempt: u32) -> Result<Vec<JobRecord>, StoreError> {
        jobs(self.trees(), run, attempt)
    }

    /// One job.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn job(&self, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        let trees = self.trees();
        let Some(at) = trees.get(Name::JobIndex, &Key::new().u64(job.0).bytes())? else { return Ok(None) };
        let key = job_key(RunId(number_at(&at, 0)), short_at(&at, 8), job);
        get_pieces(trees, Name::Jobs, &key)?.map(|value| decode("job", &value)).transpose()
    }

    /// The environments of a repository that have rules, in order.
    ///
    /// # Errors
    /// The records cannot be read or understood.
    pub fn environments(&self, repository: &RepositoryName) -> Result<Vec<(String, EnvironmentRules)>, StoreError> {
        environments(self.trees(), repository)
    }

    /// The repositories that have had runs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn repositories(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let trees = self.trees();
        let mut found = Vec::new();
        let mut from: Vec<u8> = Vec::new();
        // One look per repository: the next key after all of its runs.
        while let Some(item) = trees.tree(Name::ByRepository).range(from.clone()..).keys().next() {
            let key = item?;
            let name_end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
            if let Some(record) = run_record(trees, RunId(number_at(&key, name_end + 1)))? {
                found.push(record.repository);
            }
            from = key[..name_end].to_vec();
            from.push(1);
        }
        Ok(found)
    }
}

fn run_record(trees: &Trees, run: RunId) -> Result<Option<RunRecord>, StoreError> {
    let value = trees.get(Name::Runs, &Key::new().u64(run.0).bytes())?;
    value.map(|value| decode("run", &value)).transpose()
}
