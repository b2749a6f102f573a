//! What the engine is told, and what it wants done.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::record::{Change, EnvironmentRules, StoredRun};
use crate::id::{HostName, JobId, RepositoryName, RunId};
use crate::queue::{Capacity, HostFacts};
use crate::run::order::Order;
use crate::run::report::Report;
use crate::run::{Conclusion, JobPhase, Rerun, RunSpec, RunStatus};

/// A fact or a wish.
#[derive(Clone, Debug)]
pub enum Input {
    /// Start a run. `run`, `run_number` and `attempt` of the spec are filled in by the engine. The same `key` (delivery
    /// and workflow) never starts a second run: it answers with the first.
    StartRun {
        key: Option<String>,
        /// Hold it until [`Input::ReleaseRun`]: it comes from a fork whose author is not trusted.
        held: bool,
        spec: Box<RunSpec>,
    },
    /// Let a held run go.
    ReleaseRun {
        run: RunId,
        actor: String,
    },
    /// The word of the runner that has the job on this host. From any other host it is ignored: the job was lost there
    /// and is elsewhere now.
    Report {
        job: JobId,
        host: HostName,
        report: Report,
    },
    /// The job could not be handed to its host: nothing of it has begun there. The host is left alone for a while.
    DispatchFailed {
        job: JobId,
        host: HostName,
        reason: String,
    },
    /// A host is configured and answers.
    HostUp(HostFacts),
    /// A host cannot be reached. Its jobs are thought to go on.
    HostDown {
        host: HostName,
    },
    /// A host is no longer configured.
    HostRemoved {
        host: HostName,
    },
    Drain {
        host: HostName,
        draining: bool,
    },
    PauseHost {
        host: HostName,
        paused: bool,
    },
    /// A host is in its quiet hours until then: it ends what runs and takes nothing new. `None`: they are over.
    QuietHours {
        host: HostName,
        until: Option<Timestamp>,
    },
    /// Keeps the waiting jobs of a run from starting; running ones go on.
    PauseRun {
        run: RunId,
        paused: bool,
    },
    PauseQueue {
        paused: bool,
    },
    /// Cancels a run; `force` does not wait for `always()` (U6, Z1).
    Cancel {
        run: RunId,
        force: bool,
        actor: String,
    },
    CancelJob {
        job: JobId,
        force: bool,
        actor: String,
    },
    /// Lets a job end that failed and is held for somebody to look at it.
    ReleaseJob {
        job: JobId,
    },
    /// A new attempt of a finished run, which the caller read from the store.
    Rerun {
        run: Box<StoredRun>,
        wish: Rerun,
    },
    /// A reviewer's word on the jobs of a run that wait for an environment.
    Review {
        run: RunId,
        environment: String,
        approved: bool,
        reviewer: String,
        /// May review although not listed (an admin).
        bypass: bool,
        comment: String,
    },
    /// Sets or removes the protection rules of an environment.
    SetEnvironment {
        repository: RepositoryName,
        name: String,
        rules: Option<EnvironmentRules>,
    },
    Configure(Settings),
    /// Forgets a finished run.
    Delete {
        run: RunId,
    },
    /// The time asked for by [`Effect::SetTimer`] has come.
    Tick,
    /// Somebody set the clock forward by this much, or back.
    ClockSet {
        by: SignedDuration,
    },
}

/// Something the shell must do. Doing it twice is harmless. Effects are done in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Always first: make these durable, in one transaction, before anything that follows.
    Persist(Vec<Change>),
    /// Start a job on a host.
    Dispatch {
        job: JobId,
        host: HostName,
        order: Box<Order>,
    },
    /// Take up a job that was dispatched before a restart: follow it if it began, begin it if it did not.
    Attach {
        job: JobId,
        host: HostName,
        order: Box<Order>,
    },
    /// Tell the runner of a job to stop.
    CancelJob {
        job: JobId,
        host: HostName,
        force: bool,
    },
    /// Tell the runner of a held job to go on.
    ReleaseJob {
        job: JobId,
    },
    /// Send [`Input::Tick`] at this time; replaces the time set before.
    SetTimer(Timestamp),
    Update(Update),
    /// What to tell the sender of the input.
    Answer(Answer),
}

/// What the sender of an input is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    /// The run that was started, now or by an earlier input with the same key.
    Run {
        run: RunId,
        run_number: u64,
        attempt: u32,
        repeated: bool,
    },
    /// There is no such run, job or host, or it is over.
    Unknown(String),
    /// It may not be done now: a sentence.
    Refused(String),
}

/// What subscribers see change: small values, details are in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Update {
    Run {
        run: RunId,
        attempt: u32,
        repository: RepositoryName,
        workflow_path: String,
        status: RunStatus,
        conclusion: Option<Conclusion>,
    },
    /// A job, its steps or annotations changed.
    Job {
        run: RunId,
        attempt: u32,
        job: JobId,
        name: String,
        phase: JobPhase,
        conclusion: Option<Conclusion>,
        host: Option<HostName>,
        /// The step that runs now, or ended last.
        step: Option<u32>,
    },
    Host {
        host: Capacity,
    },
    HostRemoved {
        host: HostName,
    },
    Queue {
        waiting: usize,
        running: usize,
        paused: bool,
    },
    RunDeleted {
        run: RunId,
    },
}

/// What is configured of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Label → labels wanted instead, besides GitHub's names.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Label → slots that a job asking for it takes.
    pub weights: BTreeMap<String, u32>,
    /// Repository → priority of its jobs; 0 when absent.
    pub priorities: BTreeMap<RepositoryName, i32>,
    /// How many jobs may run at once on all hosts together; 0 for as many as there are slots.
    pub jobs: u32,
    /// How long a job may wait for a host (S7).
    pub queue_minutes: u32,
    /// How long a job may wait for an approval (G2).
    pub approval_minutes: u32,
    /// How long a run may take in all (S7).
    pub run_minutes: u32,
    /// How often a job whose host died is tried on another one when no step of it had begun.
    pub retries: u32,
    /// The same for jobs of which a step had begun; it may then run twice.
    pub retries_of_started: u32,
    /// How long a host is left alone after a dispatch failed; doubles up to 16 times.
    pub backoff_seconds: u32,
}

impl Settings {
    /// GitHub's limits and no configured labels.
    #[must_use]
    pub fn github() -> Self {
        Self {
            labels: BTreeMap::new(),
            weights: BTreeMap::new(),
            priorities: BTreeMap::new(),
            jobs: 0,
            queue_minutes: 24 * 60,
            approval_minutes: 30 * 24 * 60,
            run_minutes: 35 * 24 * 60,
            retries: 2,
            retries_of_started: 0,
            backoff_seconds: 10,
        }
    }
}
