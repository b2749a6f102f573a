//! Runs the jobs that the engine hands out: a slot on the host, the log, the secrets, then the runner.
//!
//! The daemon and `towline exec` use the same executor; what differs is where secrets and journals come from.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::id::{HostName, JobId};
use crate::run::order::Order;
use crate::run::report::Report;
use crate::transport::Target;

use super::ending;
use super::journal::{Entry, JournalStore, OPENED};
use super::log::LogFile;
use super::quota::{self, Slots};
use super::{Assignment, Runner, ServicesAddress, Told};

/// What was recorded of a job, and where to record from now on; nowhere when nothing outlives this process.
pub type Journalled = (Vec<Entry>, Option<Box<dyn JournalStore>>);

/// What the executor asks of its surroundings.
pub trait Surroundings: Send + Sync + 'static {
    /// Secrets of the workflow that was triggered, before calls pass on what they pass on.
    fn secrets(&self, order: &Order) -> BTreeMap<String, SecretString>;
    /// What an earlier process recorded of a job, and where to record from now on.
    ///
    /// # Errors
    /// The store cannot be read.
    fn journal(&self, job: JobId) -> Result<Journalled, String>;
    /// Where the job's log is kept, and who is told how long it is.
    fn log(&self, order: &Order) -> (PathBuf, watch::Sender<u64>);
    /// The job has ended: its log is complete, its records are no longer needed.
    fn ended(&self, order: &Order);
    /// A token in place of `current`, the job's `GITHUB_TOKEN`, when that one ends before long.
    fn renewed<'a>(&'a self, order: &'a Order, current: &'a str) -> BoxFuture<'a, Option<SecretString>>;
    /// Variables of the machine's environment for this job, below everything a workflow says.
    fn machine_env(&self, order: &Order) -> Vec<(String, String)>;
}

/// Runs jobs on hosts. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    runner: Runner,
    surroundings: Arc<dyn Surroundings>,
    reports: mpsc::Sender<(JobId, HostName, Report)>,
    tracker: TaskTracker,
    services: ServicesAddress,
    state: Arc<Mutex<State>>,
    /// Changes when a job is no longer here.
    gone: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    hosts: BTreeMap<HostName, Target>,
    /// Those that run, and whether they have said their last word.
    running: BTreeMap<JobId, bool>,
    /// Bytes of workspaces that a host may keep.
    quotas: BTreeMap<HostName, u64>,
    /// Hosts whose workspaces are being looked through.
    tidied: BTreeSet<HostName>,
    /// Slots in use by host.
    slots: BTreeMap<HostName, BTreeSet<u32>>,
    /// Bytes of one job's log; `None` for any number.
    log_limit: Option<u64>,
}

impl Executor {
    /// Reports of all jobs go to `reports`, each job's in order. Jobs find the services for actions from the first one on.
    pub fn new(
        runner: Runner,
        surroundings: Arc<dyn Surroundings>,
        reports: mpsc::Sender<(JobId, HostName, Report)>,
        tracker: TaskTracker,
        services: ServicesAddress,
    ) -> Self {
        let gone = watch::Sender::new(());
        Self { runner, surroundings, reports, tracker, services, state: Arc::default(), gone }
    }

    /// Makes a host known, or changes the way to it; jobs that run keep the way they have.
    pub fn set_host(&self, target: Target) {
        self.state().hosts.insert(target.name.clone(), target);
    }

    /// Sets how many bytes of workspaces a host may keep: seen to after each job. `None`: as many as there are.
    pub fn set_quota(&self, name: &HostName, quota: Option<u64>) {
        let mut state = self.state();
        match quota {
            Some(quota) => drop(state.quotas.insert(name.clone(), quota)),
            None => drop(state.quotas.remove(name)),
        }
    }

    /// Forgets a host.
    pub fn remove_host(&self, name: &HostName) {
        let mut state = self.state();
        state.hosts.remove(name);
        state.quotas.remove(name);
    }

    /// Starts a job, or picks up one that was started before. A second call for the same job does nothing; one that comes when
    /// the job has said its last word here begins it anew as soon as nothing of it is left.
    ///
    /// # Errors
    /// The host is not known, or the job's records or log cannot be opened: nothing was started.
    pub fn start(&self, host: &HostName, mut order: Arc<Order>, told: watch::Receiver<Told>) -> Result<(), String> {
        let job = order.job;
        match self.state().running.get(&job) {
            None => {}
            Some(false) => return Ok(()),
            Some(true) => {
                self.start_behind(host.clone(), order, told);
                return Ok(());
            }
        }
        let (entries, journal_store) = self.surroundings.journal(job)?;
        let (target, slot) = {
            let mut state = self.state();
            if state.running.contains_key(&job) {
                return Ok(());
            }
            let target = state.hosts.get(host).cloned().ok_or_else(|| format!("the host {host} is not configured"))?;
            let slots = state.slots.entry(host.clone()).or_default();
            let slot = match slot_of(&entries) {
                Some(slot) => slot,
                None => (1..).find(|slot| !slots.contains(slot)).unwrap_or(u32::MAX),
            };
            slots.insert(slot);
            state.running.insert(job, false);
            (target, slot)
        };
        let (path, length) = self.surroundings.log(&order);
        let log = LogFile::open(&path, length).map_err(|error| {
            self.release(host, job, slot);
            format!("cannot open the log of job {job}: {error}")
        })?;
        let log = log.limited(self.state().log_limit.unwrap_or(u64::MAX));
        let secrets = self.surroundings.secrets(&order);
        if !order.debug && super::secrets::wants_debug(&secrets, &order.vars) {
            Arc::make_mut(&mut order).debug = true;
        }
        let (report_sender, mut reports) = mpsc::channel(256);
        let machine_env = self.surroundings.machine_env(&order);
        let assignment = Assignment {
            order: order.clone(),
            target,
            slot,
            secrets,
            machine_env,
            log,
            journal: entries,
            journal_store,
            reports: report_sender,
            told,
            services: self.services.clone(),
            surroundings: self.surroundings.clone(),
        };
        let this = self.clone();
        let host = host.clone();
        let out = self.reports.clone();
        let forward_host = host.clone();
        let speaker = self.clone();
        self.tracker.spawn(async move {
            while let Some(report) = reports.recv().await {
                if matches!(report, Report::Finished { .. } | Report::Unreached { .. }) {
                    speaker.state().running.entry(job).and_modify(|is_over| *is_over = true);
                }
                if out.send((job, forward_host.clone(), report)).await.is_err() {
                    break;
                }
            }
        });
        self.tracker.spawn(async move {
            let reports = assignment.reports.clone();
            // A fault of ours ends the job it is met in, and is told, rather than leave the job without anybody.
            if AssertUnwindSafe(this.runner.run(assignment)).catch_unwind().await.is_err() {
                log::error!(job = job.0, host:% = host; "job {job} met a fault of this program");
                let at = this.runner.clock.now();
                drop(reports.send(Report::Finished { at, result: ending::broken() }).await);
            }
            drop(reports);
            this.surroundings.ended(&order);
            this.release(&host, job, slot);
            this.tidy(&host).await;
        });
        Ok(())
    }

    /// Keeps the slot of a job that is about to be picked up: what runs there needs its workspace, also when it is given up here.
    pub fn keep_slot(&self, host: &HostName, job: JobId) {
        // What cannot be read now is told by the start.
        let slot = self.surroundings.journal(job).ok().and_then(|(entries, _)| slot_of(&entries));
        if let Some(slot) = slot {
            self.state().slots.entry(host.clone()).or_default().insert(slot);
        }
    }

    /// Starts a job once an earlier stay of it is over.
    fn start_behind(&self, host: HostName, order: Arc<Order>, told: watch::Receiver<Told>) {
        let this = self.clone();
        self.tracker.spawn(async move {
            let job = order.job;
            this.let_go(job).await;
            if let Err(reason) = this.start(&host, order, told) {
                drop(this.reports.send((job, host, Report::Unreached { reason })).await);
            }
        });
    }

    /// Returns when nothing is left here of a job that has said its last word; at once for all others.
    pub async fn let_go(&self, job: JobId) {
        let mut gone = self.gone.subscribe();
        while self.state().running.get(&job) == Some(&true) {
            // The sender is in `self`.
            drop(gone.changed().await);
        }
    }

    /// Jobs that start from now on keep this many bytes of their log.
    pub fn set_log_limit(&self, bytes: u64) {
        self.state().log_limit = Some(bytes);
    }

    /// Jobs that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.state().running.len()
    }

    /// Sees to the quota of a host, if it has one and nobody is at it already.
    async fn tidy(&self, host: &HostName) {
        let (target, quota) = {
            let mut state = self.state();
            let (Some(target), Some(quota)) = (state.hosts.get(host).cloned(), state.quotas.get(host).copied()) else {
                return;
            };
            if !state.tidied.insert(host.clone()) {
                return;
            }
            (target, quota)
        };
        let slots = HostSlots { executor: self, host };
        match quota::enforce(&self.runner.hosts, &target, quota, &slots).await {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => {
                log::info!(host:% = host; "removed the workspaces {} on {host}: its quota is full", gone.join(", "));
            }
            Err(error) => log::warn!(host:% = host; "cannot look through the workspaces on {host}: {error}"),
        }
        self.state().tidied.remove(host);
    }

    fn release(&self, host: &HostName, job: JobId, slot: u32) {
        let mut state = self.state();
        state.running.remove(&job);
        if let Some(slots) = state.slots.get_mut(host) {
            slots.remove(&slot);
        }
        drop(state);
        self.gone.send_replace(());
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot that a job was given by an earlier process.
fn slot_of(entries: &[Entry]) -> Option<u32> {
    let opened = entries.iter().find(|entry| entry.key == OPENED)?;
    u32::try_from(opened.value.get(1)?.as_u64()?).ok()
}

/// The slots of one host.
struct HostSlots<'a> {
    executor: &'a Executor,
    host: &'a HostName,
}

impl Slots for HostSlots<'_> {
    fn take(&self, slot: u32) -> bool {
        self.executor.state().slots.entry(self.host.clone()).or_default().insert(slot)
    }

    fn give_back(&self, slot: u32) {
        if let Some(slots) = self.executor.state().slots.get_mut(self.host) {
            slots.remove(&slot);
        }
    }
}
