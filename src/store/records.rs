//! The engine's records: writing its changes, and reading them all back.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::codec::{Key, decode, delete_prefix, encode, get_pieces, number_at, put_pieces, scan_pieces};
use super::trees::{Name, Trees, Write};
use super::writer::Pending;
use super::{Store, StoreError};
use crate::engine::record::{EnvironmentRules, HostRecord, StoredRun};
use crate::engine::{Change, JobRecord, Records, RunRecord};
use crate::id::{JobId, RepositoryName, RunId};
use crate::run::{JobPhase, RunStatus};

pub(super) const COUNTERS: &[u8] = b"counters";
const QUEUE_PAUSED: &[u8] = b"queue_paused";
const NUMBER: &str = "number";

/// The last ids given out.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) run: u64,
    pub(super) job: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Start {
    run: RunId,
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Environment {
    repository: RepositoryName,
    name: String,
    rules: EnvironmentRules,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunNumber {
    repository: RepositoryName,
    workflow_path: String,
    number: u64,
}

impl Store {
    /// Makes changes durable in one transaction. What is queued first is written first.
    ///
    /// # Errors
    /// The disk is full or cannot be written; nothing was changed, or all of it will be: try the same again.
    pub async fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.inner.writer.commit(self.encoded(changes)?).await?;
        self.committed(changes);
        Ok(())
    }

    /// Begins to make changes durable that follow those begun before, without waiting for them: they are written in this
    /// order, and when some are not, none of those after them are, until [`Store::begin_anew`]. When it has ended well,
    /// [`Store::committed`] is to be called.
    ///
    /// What a change does to records that changes under way put there is not seen: see [`Store::must_wait`].
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn begin_commit(&self, changes: &[Change]) -> Result<Pending, StoreError> {
        Ok(self.inner.writer.commit_next(self.encoded(changes)?))
    }

    /// Whether changes can only be begun when those under way are written, because what they delete is looked up.
    pub(crate) fn must_wait<'a>(changes: &[Change], mut under_way: impl Iterator<Item = &'a Change>) -> bool {
        let deletes = changes.iter().any(|change| matches!(change, Change::DeleteRun { .. } | Change::Stopped { .. }));
        let ends = || {
            changes.iter().any(|change| matches!(change, Change::Job(job) if job.state.phase == JobPhase::Completed))
        };
        if deletes {
            under_way.next().is_some()
        } else {
            under_way.any(|one| matches!(one, Change::Stopping(_))) && ends()
        }
    }

    /// After changes that were begun failed: lets others begin. None may be under way.
    pub(crate) fn begin_anew(&self) {
        self.inner.writer.begin_anew();
    }

    /// What lists remember is brought up to date with changes that were written.
    pub(crate) fn committed(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Run(record) => self.inner.lists.touch(record.id),
                Change::DeleteRun { run, .. } => {
                    self.inner.lists.touch(*run);
                    self.inner.lists.deleted();
                }
                _ => {}
            }
        }
    }

    fn encoded(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::with_capacity(changes.len() * 2);
        let mut stopping = HashSet::new();
        for change in changes {
            if let Change::Stopping(record) = change {
                stopping.insert(record.order.job);
            }
            encode_change(self.trees(), &mut writes, change, &stopping)?;
        }
        Ok(writes)
    }

    /// Whether something new can be accepted: readiness and admission ask this.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn check_space(&self) -> Result<(), StoreError> {
        self.inner.writer.check_space()
    }

    /// Everything the engine is rebuilt from. A run whose records cannot be understood is left out and logged.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn load(&self) -> Result<Records, StoreError> {
        load(self.trees())
    }

    /// A run and its latest attempt as stored, over or not; for a re-run.
    ///
    /// # Errors
    /// The records cannot be read or understood.
    pub fn stored_run(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        stored_run(self.trees(), run)
    }
}

pub(super) fn attempt_key(run: RunId, attempt: u32) -> Vec<u8> {
    Key::new().u64(run.0).u32(attempt).bytes()
}

pub(super) fn job_key(run: RunId, attempt: u32, job: JobId) -> Vec<u8> {
    Key::new().u64(run.0).u32(attempt).u64(job.0).bytes()
}

pub(super) fn repository_key(repository: &RepositoryName) -> Key {
    Key::new().name(&repository.0.to_lowercase())
}

fn encode_change(
    trees: &Trees,
    writes: &mut Vec<Write>,
    change: &Change,
    stopping: &HashSet<JobId>,
) -> Result<(), StoreError> {
    match change {
        Change::Counters { run, job } => {
            writes.push(Write::put(Name::Meta, COUNTERS.to_vec(), encode(&Counters { run: *run, job: *job })));
        }
        Change::RunNumber { repository, workflow_path, number } => {
            let key = Key::new().name(NUMBER).name(&repository.0).name(workflow_path).bytes();
            let value =
                RunNumber { repository: repository.clone(), workflow_path: workflow_path.clone(), number: *number };
            writes.push(Write::put(Name::Meta, key, encode(&value)));
        }
        Change::Delivery { key, run, at } => {
            writes.push(Write::put(Name::Starts, key.clone().into_bytes(), encode(&Start { run: *run, at: *at })));
        }
        Change::ForgetDelivery { key } => writes.push(Write::delete(Name::Starts, key.clone().into_bytes())),
        Change::Spec(spec) => {
            put_pieces(writes, Name::Specs, &attempt_key(spec.run, spec.attempt), &encode(&**spec));
        }
        Change::Graph { run, attempt, state } => {
            put_pieces(writes, Name::Graphs, &attempt_key(*run, *attempt), &encode(state));
        }
        Change::Run(record) => {
            let id = Key::new().u64(record.id.0).bytes();
            let listed = repository_key(&record.repository).u64(record.id.0).bytes();
            if record.status == RunStatus::Completed {
                writes.push(Write::delete(Name::Active, id.clone()));
            } else {
                put_once(trees, writes, Name::Active, id.clone(), Vec::new())?;
            }
            put_once(trees, writes, Name::ByRepository, listed, Vec::new())?;
            writes.push(Write::put(Name::Runs, id, encode(record)));
        }
        Change::Job(record) => {
            let job = record.state.id;
            writes.push(Write::index_job(job, Some((record.run, record.attempt))));
            put_pieces(writes, Name::Jobs, &job_key(record.run, record.attempt, job), &encode(record));
            // Whoever stops it after a restart has to know how far it had come.
            let stops = || {
                let key = Key::new().u64(job.0).bytes();
                Ok::<_, StoreError>(stopping.contains(&job) || get_pieces(trees, Name::Stopping, &key)?.is_some())
            };
            if record.state.phase == JobPhase::Completed && !stops()? {
                delete_prefix(trees, writes, Name::Journal, &Key::new().u64(job.0).bytes())?;
            }
        }
        Change::DeleteRun { run } => delete_run(trees, writes, *run)?,
        Change::Host(record) => {
            writes.push(Write::put(Name::Hosts, record.name.0.clone().into_bytes(), encode(record)));
        }
        Change::ForgetHost { name } => writes.push(Write::delete(Name::Hosts, name.0.clone().into_bytes())),
        Change::QueuePaused(paused) => {
            writes.push(Write::put(Name::Meta, QUEUE_PAUSED.to_vec(), encode(paused)));
        }
        Change::Stopping(record) => {
            put_pieces(writes, Name::Stopping, &Key::new().u64(record.order.job.0).bytes(), &encode(record));
        }
        Change::Stopped { job } => {
            let key = Key::new().u64(job.0).bytes();
            delete_prefix(trees, writes, Name::Stopping, &key)?;
            delete_prefix(trees, writes, Name::Journal, &key)?;
        }
        Change::Requeued { job } => delete_prefix(trees, writes, Name::Journal, &Key::new().u64(job.0).bytes())?,
        Change::Environment { repository, name, rules } => {
            let key = repository_key(repository).name(&name.to_lowercase()).bytes();
            writes.push(match rules {
                Some(rules) => {
                    let (repository, name, rules) = (repository.clone(), name.clone(), rules.clone());
                    Write::put(Name::Environments, key, encode(&Environment { repository, name, rules }))
                }
                None => Write::delete(Name::Environments, key),
            });
        }
    }
    Ok(())
}

/// Puts what hardly ever changes, unless it is there: to look is cheaper than to write.
fn put_once(
    trees: &Trees,
    writes: &mut Vec<Write>,
    tree: Name,
    key: Vec<u8>,
    value: Vec<u8>,
) -> Result<(), StoreError> {
    if trees.get(tree, &key)?.as_deref() != Some(value.as_slice()) {
        writes.push(Write::put(tree, key, value));
    }
    Ok(())
}

fn delete_run(trees: &Trees, writes: &mut Vec<Write>, run: RunId) -> Result<(), StoreError> {
    let id = Key::new().u64(run.0).bytes();
    if let Some(record) = trees.get(Name::Runs, &id)? {
        let record: RunRecord = decode("run", &record)?;
        writes.push(Write::delete(Name::ByRepository, repository_key(&record.repository).u64(run.0).bytes()));
    }
    scan_pieces(trees, Name::Jobs, &id, |key, _| {
        let job = JobId(number_at(key, 12));
        let single = Key::new().u64(job.0).bytes();
        delete_prefix(trees, writes, Name::Journal, &single)?;
        writes.push(Write::index_job(job, None));
        if trees.get(Name::JobIndex, &single)?.is_some() {
            writes.push(Write::delete(Name::JobIndex, single));
        }
        Ok(true)
    })?;
    for tree in [Name::Specs, Name::Graphs, Name::Jobs] {
        delete_prefix(trees, writes, tree, &id)?;
    }
    writes.push(Write::delete(Name::Active, id.clone()));
    writes.push(Write::delete(Name::Runs, id));
    Ok(())
}

/// Everything the engine is rebuilt from.
pub(super) fn load(trees: &Trees) -> Result<Records, StoreError> {
    let mut records = Records::default();
    if let Some(value) = trees.get(Name::Meta, COUNTERS)? {
        let counters: Counters = decode("counters", &value)?;
        (records.last_run, records.last_job) = (counters.run, counters.job);
    }
    if let Some(value) = trees.get(Name::Meta, QUEUE_PAUSED)? {
        records.queue_paused = decode("queue", &value)?;
    }
    for item in trees.tree(Name::Meta).scan_prefix(Key::new().name(NUMBER).bytes()) {
        let number: RunNumber = decode("run number", &item?.1)?;
        records.run_numbers.insert((number.repository, number.workflow_path), number.number);
    }
    for item in trees.tree(Name::Starts) {
        let (key, value) = item?;
        let start: Start = decode("start", &value)?;
        records.deliveries.push((String::from_utf8_lossy(&key).into_owned(), start.run, start.at));
    }
    for item in trees.tree(Name::Hosts) {
        records.hosts.push(decode::<HostRecord>("host", &item?.1)?);
    }
    for item in trees.tree(Name::Environments) {
        let environment: Environment = decode("environment", &item?.1)?;
        records.environments.push((environment.repository, environment.name, environment.rules));
    }
    scan_pieces(trees, Name::Stopping, &[], |_, value| {
        records.stopping.push(decode("job that is being stopped", value)?);
        Ok(true)
    })?;
    for key in trees.tree(Name::Active).iter().keys() {
        let run = RunId(number_at(&key?, 0));
        match stored_run(trees, run) {
            Ok(Some(stored)) => records.runs.push(stored),
            Ok(None) => log::error!("run {run} is marked as running but has no record; it is left out"),
            Err(error) => log::error!("run {run} cannot be taken up again: {error}"),
        }
    }
    Ok(records)
}

fn stored_run(trees: &Trees, run: RunId) -> Result<Option<StoredRun>, StoreError> {
    let Some(record) = trees.get(Name::Runs, &Key::new().u64(run.0).bytes())? else { return Ok(None) };
    let record: RunRecord = decode("run", &record)?;
    let key = attempt_key(run, record.attempt);
    let Some(spec) = get_pieces(trees, Name::Specs, &key)? else { return Ok(None) };
    let spec = decode("run's spec", &spec)?;
    let state = get_pieces(trees, Name::Graphs, &key)?.map(|value| decode("run's graph", &value)).transpose()?;
    Ok(Some(StoredRun { jobs: jobs(trees, run, record.attempt)?, record, spec, state }))
}

/// The environments of a repository with their rules.
pub(super) fn environments(
    trees: &Trees,
    repository: &RepositoryName,
) -> Result<Vec<(String, EnvironmentRules)>, StoreError> {
    let records = trees.tree(Name::Environments).scan_prefix(repository_key(repository).bytes()).values();
    let decoded = records.map(|item| decode::<Environment>("environment", &item?));
    decoded.map(|item| item.map(|environment| (environment.name, environment.rules))).collect()
}

pub(super) fn jobs(trees: &Trees, run: RunId, attempt: u32) -> Result<Vec<JobRecord>, StoreError> {
    let mut jobs = Vec::new();
    scan_pieces(trees, Name::Jobs, &attempt_key(run, attempt), |_, value| {
        jobs.push(decode::<JobRecord>("job", value)?);
        Ok(true)
    })?;
    Ok(jobs)
}
