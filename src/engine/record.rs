//! What is remembered of runs, jobs and hosts: read by pages and the API, and enough to rebuild the engine.
//!
//! These are values; how they are written is the store's business. The texts and the event of a run are its
//! [`RunSpec`], its graph is a [`RunState`] without jobs, each job is a [`JobRecord`] of its own: a step that ends
//! writes one small record.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{HostName, JobId, RepositoryName, RunId};
use crate::plan::Files;
use crate::queue::{GroupKey, Holder};
use crate::run::order::Order;
use crate::run::{Conclusion, JobState, RunSpec, RunState, RunStatus};

/// One run as listed. The fields are those of its latest attempt where attempts differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    /// Counts the runs of one workflow from 1; constant over attempts.
    pub run_number: u64,
    pub attempt: u32,
    pub repository: RepositoryName,
    pub workflow_path: String,
    /// The `name` of the workflow; its path when it has none or cannot be read.
    pub workflow_name: String,
    pub title: String,
    pub event: String,
    pub git_ref: String,
    pub sha: String,
    pub actor: String,
    /// Who started this attempt.
    pub triggering_actor: String,
    pub status: RunStatus,
    /// Waits for an approval before anything of it is planned: it came from a fork.
    pub held: bool,
    pub conclusion: Option<Conclusion>,
    pub created_at: Timestamp,
    /// When this attempt was made.
    pub attempted_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    /// The key under which it was asked for; asking again answers with this run.
    pub delivery: Option<String>,
    /// What was said about it besides its jobs: why it could not start, who cancelled it.
    pub messages: Vec<String>,
    pub paused: bool,
    /// The concurrency groups that it, its calls and its jobs hold or wait for.
    pub claims: Vec<GroupClaim>,
    pub reviews: Vec<Review>,
}

/// A concurrency group that is held or waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupClaim {
    pub holder: Holder,
    pub key: GroupKey,
    pub granted: bool,
    /// Order of arrival among all claims.
    pub ticket: u64,
}

/// One job of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub run: RunId,
    pub attempt: u32,
    pub state: JobState,
    /// When it first wanted a host.
    pub queued_at: Option<Timestamp>,
    /// Times it was given to a host; more than one only after a host died.
    pub tries: u32,
    /// Hosts that died under it.
    pub lost_on: Vec<HostName>,
}

/// What an operator said about a host; facts come from configuration and probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    pub name: HostName,
    /// Takes no new jobs until resumed; running jobs end.
    pub draining: bool,
    pub paused: bool,
}

/// Protection rules of an environment of a repository (G2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRules {
    /// Names of those who may approve, one is enough; empty: nobody has to.
    pub reviewers: Vec<String>,
    pub prevent_self_review: bool,
    pub wait_minutes: u32,
    /// Patterns on branch or tag names, or on full refs when they begin with `refs/`; empty: every ref may deploy.
    pub branches: Vec<String>,
}

/// An approval or a refusal of jobs that wait for an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub attempt: u32,
    /// Compares without case.
    pub environment: String,
    pub approved: bool,
    pub reviewer: String,
    pub comment: String,
    pub at: Timestamp,
}

/// A job that was ended by force while its runner still stops it. Its run may be over; a restart follows it all the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoppingRecord {
    pub host: HostName,
    pub order: Order,
    /// Slots it holds until it has stopped.
    pub weight: u32,
}

/// One change of what is remembered. All changes of one step of the engine are one transaction.
#[derive(Clone, Debug)]
pub enum Change {
    /// The last ids given out; they never repeat.
    Counters {
        run: u64,
        job: u64,
    },
    /// The last number given to a run of this workflow.
    RunNumber {
        repository: RepositoryName,
        workflow_path: String,
        number: u64,
    },
    /// A start that was asked for under a key.
    Delivery {
        key: String,
        run: RunId,
        at: Timestamp,
    },
    ForgetDelivery {
        key: String,
    },
    Spec(Arc<RunSpec>),
    /// The graph of an attempt, without its jobs.
    Graph {
        run: RunId,
        attempt: u32,
        state: Box<RunState>,
    },
    Run(Box<RunRecord>),
    Job(Box<JobRecord>),
    /// All attempts, jobs and logs of a finished run.
    DeleteRun {
        run: RunId,
    },
    Host(HostRecord),
    ForgetHost {
        name: HostName,
    },
    QueuePaused(bool),
    /// A job that had a host waits for one again: what its runner has learned holds no more.
    Requeued {
        job: JobId,
    },
    Stopping(Box<StoppingRecord>),
    /// It has stopped, or was given up.
    Stopped {
        job: JobId,
    },
    Environment {
        repository: RepositoryName,
        name: String,
        rules: Option<EnvironmentRules>,
    },
}

/// A run that is not over, as stored.
#[derive(Clone, Debug)]
pub struct StoredRun {
    pub record: RunRecord,
    pub spec: RunSpec,
    /// `None` when the run is held.
    pub state: Option<RunState>,
    pub jobs: Vec<JobRecord>,
}

impl StoredRun {
    /// The state with its jobs, as [`crate::run::Run::restore`] wants it.
    #[must_use]
    pub fn whole_state(&self) -> Option<RunState> {
        let mut state = self.state.clone()?;
        state.jobs = self.jobs.iter().map(|job| (job.state.id, job.state.clone())).collect();
        Some(state)
    }
}

/// Everything the engine is rebuilt from.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub last_run: u64,
    pub last_job: u64,
    /// Repository and workflow path → last run number.
    pub run_numbers: BTreeMap<(RepositoryName, String), u64>,
    /// Only runs that are not over.
    pub runs: Vec<StoredRun>,
    pub deliveries: Vec<(String, RunId, Timestamp)>,
    pub hosts: Vec<HostRecord>,
    pub queue_paused: bool,
    pub stopping: Vec<StoppingRecord>,
    /// Workflow files that were read before.
    pub files: Files,
    pub environments: Vec<(RepositoryName, String, EnvironmentRules)>,
}

impl Records {
    /// The job with this id, if it is of a run that is not over.
    #[must_use]
    pub fn job(&self, job: JobId) -> Option<&JobRecord> {
        self.runs.iter().flat_map(|run| &run.jobs).find(|record| record.state.id == job)
    }
}
