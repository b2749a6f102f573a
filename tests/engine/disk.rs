//! What is durable in the simulated world: the changes of the engine, kept as values. Every write is checked against
//! what must never change.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use towline::engine::record::{Change, HostRecord, JobRecord, Records, RunRecord, StoppingRecord, StoredRun};
use towline::id::{JobId, RepositoryName, RunId};
use towline::plan::Files;
use towline::queue::{GroupKey, PENDING_LIMIT};
use towline::run::{RunSpec, RunState, RunStatus};

#[derive(Default)]
pub struct Disk {
    /// Shared by all worlds: what a file says is no part of what goes wrong.
    files: Files,
    last_run: u64,
    last_job: u64,
    numbers: BTreeMap<(RepositoryName, String), u64>,
    pub runs: BTreeMap<RunId, RunRecord>,
    specs: HashMap<(RunId, u32), RunSpec>,
    graphs: HashMap<(RunId, u32), RunState>,
    pub jobs: BTreeMap<(RunId, u32, JobId), JobRecord>,
    pub starts: HashMap<String, (RunId, Timestamp)>,
    hosts: BTreeMap<String, HostRecord>,
    paused: bool,
    pub stopping: BTreeMap<JobId, StoppingRecord>,
    environments: BTreeMap<(RepositoryName, String), towline::engine::record::EnvironmentRules>,
}

impl Disk {
    pub fn reading(files: Files) -> Self {
        Self { files, ..Self::default() }
    }

    /// One transaction.
    pub fn commit(&mut self, changes: Vec<Change>) {
        let mut touched = false;
        let mut highest = 0;
        for change in changes {
            match change {
                Change::Counters { run, job } => {
                    assert!(run >= self.last_run && job >= self.last_job, "a counter went back");
                    (self.last_run, self.last_job) = (run, job);
                }
                Change::RunNumber { repository, workflow_path, number } => {
                    let before = self.numbers.insert((repository, workflow_path), number).unwrap_or(0);
                    assert_eq!(number, before + 1, "a run number was left out or given twice");
                }
                Change::Delivery { key, run, at } => {
                    let before = self.starts.insert(key, (run, at));
                    assert!(before.is_none(), "one delivery started two runs");
                }
                Change::ForgetDelivery { key } => drop(self.starts.remove(&key)),
                Change::Spec(spec) => drop(self.specs.insert((spec.run, spec.attempt), (*spec).clone())),
                Change::Graph { run, attempt, state } => drop(self.graphs.insert((run, attempt), *state)),
                Change::Run(record) => {
                    touched = true;
                    let before = self.runs.get(&record.id);
                    if let Some(before) = before
                        && before.status == RunStatus::Completed
                    {
                        let rerun = record.attempt == before.attempt + 1;
                        assert!(rerun || before.conclusion == record.conclusion, "a finished run changed: {record:?}");
                    }
                    self.runs.insert(record.id, *record);
                }
                Change::Job(record) => {
                    highest = highest.max(record.state.id.0);
                    let key = (record.run, record.attempt, record.state.id);
                    if let Some(before) = self.jobs.get(&key)
                        && before.state.conclusion.is_some()
                    {
                        assert_eq!(before.state, record.state, "a finished job changed");
                    }
                    self.jobs.insert(key, *record);
                }
                Change::DeleteRun { run } => {
                    let record = self.runs.remove(&run);
                    assert!(
                        record.is_none_or(|record| record.status == RunStatus::Completed),
                        "an open run was deleted"
                    );
                    self.jobs.retain(|(of, ..), _| *of != run);
                }
                Change::Host(record) => drop(self.hosts.insert(record.name.0.clone(), record)),
                Change::ForgetHost { name } => drop(self.hosts.remove(&name.0)),
                Change::QueuePaused(paused) => self.paused = paused,
                // The journals of jobs are their runners'.
                Change::Requeued { .. } => {}
                Change::Stopping(record) => drop(self.stopping.insert(record.order.job, *record)),
                Change::Stopped { job } => drop(self.stopping.remove(&job)),
                Change::Environment { repository, name, rules } => {
                    match rules {
                        Some(rules) => drop(self.environments.insert((repository, name), rules)),
                        None => drop(self.environments.remove(&(repository, name))),
                    };
                }
            }
        }
        assert!(highest <= self.last_job, "a job has an id that may be given out again");
        if touched {
            self.check_groups();
        }
    }

    /// No group has two holders; `single` has at most one pending, `max` at most a hundred.
    fn check_groups(&self) {
        let mut granted: BTreeSet<&GroupKey> = BTreeSet::new();
        let mut pending: HashMap<&GroupKey, usize> = HashMap::new();
        let mut first: HashMap<&GroupKey, u64> = HashMap::new();
        let mut holders: HashMap<&GroupKey, u64> = HashMap::new();
        for record in self.runs.values() {
            if record.status == RunStatus::Completed {
                assert!(record.claims.is_empty(), "a finished run holds a group: {record:?}");
            }
            for claim in &record.claims {
                if claim.granted {
                    assert!(granted.insert(&claim.key), "{:?} has two holders", claim.key);
                    holders.insert(&claim.key, claim.ticket);
                } else {
                    *pending.entry(&claim.key).or_default() += 1;
                    let first = first.entry(&claim.key).or_insert(u64::MAX);
                    *first = claim.ticket.min(*first);
                }
            }
        }
        for (key, ticket) in &first {
            let holder = holders.get(key).copied().unwrap_or(0);
            assert!(holder < *ticket, "somebody who came later got {key:?} first");
        }
        for (key, count) in pending {
            assert!(granted.contains(key), "somebody waits for {key:?}, which nobody holds");
            let limit = if key.name.starts_with("single") { 1 } else { PENDING_LIMIT };
            assert!(key.is_device() || count <= limit, "{count} wait for {key:?}");
        }
    }

    /// What a daemon that starts reads.
    pub fn records(&self) -> Records {
        let stored = |record: &RunRecord| {
            let key = (record.id, record.attempt);
            let jobs =
                self.jobs.range((record.id, record.attempt, JobId(0))..=(record.id, record.attempt, JobId(u64::MAX)));
            StoredRun {
                record: record.clone(),
                spec: self.specs[&key].clone(),
                state: self.graphs.get(&key).cloned(),
                jobs: jobs.map(|(_, job)| job.clone()).collect(),
            }
        };
        Records {
            files: self.files.clone(),
            last_run: self.last_run,
            last_job: self.last_job,
            run_numbers: self.numbers.clone(),
            runs: self.runs.values().filter(|run| run.status != RunStatus::Completed).map(stored).collect(),
            deliveries: self.starts.iter().map(|(key, (run, at))| (key.clone(), *run, *at)).collect(),
            hosts: self.hosts.values().cloned().collect(),
            queue_paused: self.paused,
            stopping: self.stopping.values().cloned().collect(),
            environments: self
                .environments
                .iter()
                .map(|((repository, name), rules)| (repository.clone(), name.clone(), rules.clone()))
                .collect(),
        }
    }

    /// A run as a re-run reads it.
    pub fn stored(&self, run: RunId) -> Option<StoredRun> {
        let record = self.runs.get(&run)?;
        let key = (run, record.attempt);
        let jobs = self.jobs.range((run, record.attempt, JobId(0))..=(run, record.attempt, JobId(u64::MAX)));
        Some(StoredRun {
            record: record.clone(),
            spec: self.specs[&key].clone(),
            state: self.graphs.get(&key).cloned(),
            jobs: jobs.map(|(_, job)| job.clone()).collect(),
        })
    }
}
