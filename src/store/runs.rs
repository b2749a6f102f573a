//! Lists and single records for pages, the API and commands.

use jiff::{SignedDuration, Timestamp};

use super::codec::{Key, decode, get_pieces, number_at};
use super::lists::Narrowed;
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
    /// One of these, compared without case; empty: any.
    pub among: Vec<RepositoryName>,
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

/// GitHub looks no further in a list that is narrowed.
pub const MOST_NARROWED: usize = 1000;
/// The longest narrowed list that is kept in memory.
const MOST_REMEMBERED: usize = 20_000;
/// How far back the newest of a kind are looked for.
const MOST_LOOKED_AT: usize = 20_000;
/// How far a clock may have been set back between two runs.
const SLACK: SignedDuration = SignedDuration::from_hours(24);

/// Texts that the record of a wanted run holds: most records can be passed over without reading them as JSON.
struct Sieve(Vec<memchr::memmem::Finder<'static>>);

impl Sieve {
    fn of(filter: &RunFilter) -> Self {
        let texts = [&filter.workflow_path, &filter.branch, &filter.event, &filter.sha].into_iter().flatten();
        // A text that JSON writes otherwise would not be found.
        let plain = texts.filter(|text| text.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\'));
        let mut finders: Vec<_> = plain.map(|text| memchr::memmem::Finder::new(text.as_bytes()).into_owned()).collect();
        if let Some(StatusFilter::Conclusion(conclusion)) = filter.status {
            let text = serde_json::to_string(&conclusion).unwrap_or_default();
            finders.push(memchr::memmem::Finder::new(text.as_bytes()).into_owned());
        }
        Self(finders)
    }

    fn lets_through(&self, record: &[u8]) -> bool {
        self.0.iter().all(|finder| finder.find(record).is_some())
    }
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
            && (self.among.is_empty() || self.among.iter().any(|one| one.0.eq_ignore_ascii_case(&run.repository.0)))
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
    /// Runs, newest first, after `skip` others. A list that is narrowed by more than the repository counts at most
    /// [`MOST_NARROWED`] runs, as GitHub does, or as many as the page needs. May read many records: not for a worker
    /// thread.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn runs(&self, filter: &RunFilter, skip: usize, limit: usize) -> Result<RunPage, StoreError> {
        let trees = self.trees();
        let prefix = filter.repository.as_ref().map(|repository| repository_key(repository).bytes());
        if filter.is_plain() {
            let tree = if prefix.is_some() { Name::ByRepository } else { Name::Runs };
            let (ids, total) = self.inner.lists.page(trees, tree, &prefix.unwrap_or_default(), skip, limit)?;
            let records = ids.into_iter().filter_map(|id| run_record(trees, RunId(id)).transpose());
            return Ok(RunPage { runs: records.collect::<Result<_, _>>()?, total });
        }
        let most = skip.saturating_add(limit).max(MOST_NARROWED);
        let active = matches!(filter.status, Some(StatusFilter::Status(status)) if status != RunStatus::Completed);
        let page = |narrowed: &Narrowed| {
            let total = narrowed.ids.len().min(most);
            let ids = narrowed.ids.iter().take(total).skip(skip).take(limit);
            let records = ids.filter_map(|id| run_record(trees, RunId(*id)).transpose());
            Ok(RunPage { runs: records.collect::<Result<_, _>>()?, total })
        };
        if active || most > MOST_REMEMBERED {
            let mut narrowed = Narrowed::default();
            search(trees, filter, prefix.as_deref(), active, most, &mut narrowed)?;
            return page(&narrowed);
        }
        let wants = |id| Ok(run_record(trees, RunId(id))?.is_some_and(|record| filter.matches(&record)));
        self.inner.lists.narrowed(filter, wants, |narrowed| {
            search(trees, filter, prefix.as_deref(), active, most, narrowed)?;
            page(narrowed)
        })
    }

    /// The newest runs that are wanted. Nothing is counted: reading ends with the last of them. Not for a worker thread.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn newest(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let trees = self.trees();
        let prefix = filter.repository.as_ref().map(|repository| repository_key(repository).bytes());
        let (keys, at) = match &prefix {
            Some(prefix) => (trees.tree(Name::ByRepository).scan_prefix(prefix), prefix.len()),
            None => (trees.tree(Name::Runs).iter(), 0),
        };
        let sieve = Sieve::of(filter);
        let oldest = filter.created_from.map(|from| from - SLACK);
        let mut found = Vec::new();
        for key in keys.keys().rev().take(MOST_LOOKED_AT) {
            if found.len() == limit {
                break;
            }
            let id = Key::new().u64(number_at(&key?, at)).bytes();
            let Some(bytes) = trees.get(Name::Runs, &id)? else { continue };
            if sieve.lets_through(&bytes) {
                let record: RunRecord = decode("run", &bytes)?;
                if oldest.is_some_and(|oldest| record.created_at < oldest) {
                    break;
                }
                found.extend(Some(record).filter(|record| filter.matches(record)));
            }
        }
        Ok(found)
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
        let Some((run, attempt)) = trees.job_at(job)? else { return Ok(None) };
        let key = job_key(run, attempt, job);
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

/// Looks for runs that a filter wants, on from where the list ends, until it has `most` of them.
fn search(
    trees: &Trees,
    filter: &RunFilter,
    prefix: Option<&[u8]>,
    active: bool,
    most: usize,
    list: &mut Narrowed,
) -> Result<(), StoreError> {
    if list.whole || list.ids.len() >= most {
        return Ok(());
    }
    let (tree, prefix) = match prefix {
        // What is not over has an index of its own, which is short.
        _ if active => (Name::Active, &[][..]),
        Some(prefix) => (Name::ByRepository, prefix),
        None => (Name::Runs, &[][..]),
    };
    let end = [prefix, &list.looked_to.unwrap_or(u64::MAX).to_be_bytes()].concat();
    let sieve = Sieve::of(filter);
    // Runs are numbered as they come; a clock that was set back must not hide any.
    let oldest = filter.created_from.map(|from| from - SLACK);
    for key in trees.tree(tree).range(prefix.to_vec()..end).keys().rev() {
        let id = number_at(&key?, prefix.len());
        list.looked_to = Some(id);
        let Some(bytes) = trees.get(Name::Runs, &Key::new().u64(id).bytes())? else { continue };
        if !sieve.lets_through(&bytes) {
            continue;
        }
        let record: RunRecord = decode("run", &bytes)?;
        if oldest.is_some_and(|oldest| record.created_at < oldest) {
            break;
        }
        if filter.matches(&record) {
            list.ids.push(id);
            if list.ids.len() >= most {
                return Ok(());
            }
        }
    }
    list.whole = true;
    Ok(())
}

pub(super) fn run_record(trees: &Trees, run: RunId) -> Result<Option<RunRecord>, StoreError> {
    let value = trees.get(Name::Runs, &Key::new().u64(run.0).bytes())?;
    value.map(|value| decode("run", &value)).transpose()
}
