//! What the engine knows: runs that are not over, their jobs on the way to a host, hosts, groups, deliveries, timers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::input::Settings;
use super::record::{EnvironmentRules, HostRecord, RunRecord};
use crate::id::{HostName, JobId, RepositoryName, RunId};
use crate::plan::Files;
use crate::queue::{GroupKey, Groups, HostFacts, Queue};
use crate::run::{Cancel, PendingJob, Run, RunSpec};

/// The state of everything that runs or waits.
#[derive(Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) files: Files,
    pub(super) last_run: u64,
    pub(super) last_job: u64,
    pub(super) run_numbers: HashMap<(RepositoryName, String), u64>,
    pub(super) runs: HashMap<RunId, ActiveRun>,
    /// Jobs that want a host or have one, and calls that hold or want a group.
    pub(super) jobs: HashMap<JobId, ActiveJob>,
    pub(super) queue: Queue,
    /// Jobs that were ended by force while their runner still stops them: they keep their slots until it has.
    pub(super) stopping: HashMap<JobId, HostName>,
    pub(super) groups: Groups,
    pub(super) last_ticket: u64,
    pub(super) hosts: BTreeMap<HostName, HostMemory>,
    pub(super) deliveries: HashMap<String, (RunId, Timestamp)>,
    /// Deliveries by age, so that old ones can be forgotten.
    pub(super) delivery_ages: BTreeSet<(Timestamp, String)>,
    pub(super) environments: HashMap<(RepositoryName, String), EnvironmentRules>,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    /// The time the shell was last asked to call at.
    pub(super) timer: Option<Timestamp>,
}

/// The key of an environment: neither name has a case.
pub(super) fn environment_key(repository: &RepositoryName, name: &str) -> (RepositoryName, String) {
    (RepositoryName(repository.0.to_lowercase()), name.to_lowercase())
}

/// A run that is not over.
#[derive(Debug)]
pub(super) struct ActiveRun {
    /// `None` while the run is held: nothing of it is planned.
    pub(super) run: Option<Run>,
    /// The spec of a held run.
    pub(super) held: Option<Box<RunSpec>>,
    pub(super) record: RunRecord,
    /// Its entries in [`Engine::jobs`].
    pub(super) jobs: BTreeSet<JobId>,
}

/// A job on its way to a host, on a host, or a call with a group.
#[derive(Debug)]
pub(super) struct ActiveJob {
    pub(super) run: RunId,
    /// `None` for a call, which never wants a host.
    pub(super) pending: Option<PendingJob>,
    pub(super) stage: Stage,
    pub(super) queued_at: Timestamp,
    /// Since when it is in its stage.
    pub(super) stage_since: Timestamp,
    pub(super) tries: u32,
    pub(super) lost_on: Vec<HostName>,
    pub(super) cancel: Cancel,
    /// The group it holds or waits for.
    pub(super) group: Option<GroupKey>,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its environment does not let it through yet: the wait timer ends then, or someone has to approve.
    Protected { until: Option<Timestamp>, approval: bool },
    /// Waits for its group.
    Grouped,
    /// Its run is paused.
    Held,
    /// Waits for a host.
    Queued,
    /// Has a host.
    Assigned { host: HostName },
    /// A call: its group is granted or it waits for it.
    Call,
}

/// What the engine remembers of a host besides what the queue knows.
#[derive(Debug)]
pub(super) struct HostMemory {
    pub(super) record: HostRecord,
    /// `None` when the host is not configured now.
    pub(super) facts: Option<HostFacts>,
    /// Dispatches that failed in a row.
    pub(super) failures: u32,
}

/// What is due at a time. Each looks at the state when it is due: one that is no longer needed does nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The wait timer or the approval limit of a protected job.
    Protection(JobId),
    /// A job has waited for a host for too long.
    QueueLimit(JobId),
    /// A job should have ended by itself long ago.
    JobLimit(JobId),
    /// A job that was told to stop has not.
    CancelLimit(JobId),
    /// The same, after it was forced.
    ForceLimit(JobId),
    RunLimit(RunId),
    /// A host that was left alone may be tried again.
    Wake,
    ForgetDeliveries,
}
