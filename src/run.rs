//! The state of a run: jobs, steps, conclusions, outputs, cancel.
//!
//! A [`Run`] is told facts ([`RunInput`]) and answers with what must happen ([`RunEffect`]). It never asks back: what a
//! host must know is in the [`order::Order`]. Inputs may be repeated; a finished job or run never changes.
//!
//! Pure: no I/O, no clock, no async.

pub mod conclusion;
pub mod order;
pub mod report;
pub mod state;
pub mod steps;

use jiff::Timestamp;

pub use conclusion::Conclusion;
pub use state::{Cancel, Concurrency, ConcurrencyQueue, JobPhase, JobState, RunSpec, RunState, RunStatus};

use crate::id::{HostName, JobId};
use order::Order;
use report::Report;

/// A run: what it was made of, and where it is.
#[derive(Clone, Debug)]
pub struct Run {
    spec: RunSpec,
    state: RunState,
}

/// What a run learns.
#[derive(Clone, Debug)]
pub enum RunInput {
    /// The concurrency group of the run (`None`) or of a call has room.
    Admitted {
        job: Option<JobId>,
    },
    /// It was displaced while it waited, or the group's queue is full: cancelled.
    Refused {
        job: Option<JobId>,
        reason: String,
    },
    /// A protection rule of the job's environment holds it; `false` when it was let through.
    Waiting {
        job: JobId,
        waiting: bool,
    },
    /// A queued job cannot or may not run: rejected by a reviewer, forbidden branch, waited too long.
    Failed {
        job: JobId,
        reason: String,
    },
    /// A host took the job.
    Started {
        job: JobId,
        host: HostName,
    },
    /// The host died and policy lets the job be tried on another one: it wants a host again.
    Requeued {
        job: JobId,
        reason: String,
    },
    Report {
        job: JobId,
        report: Report,
    },
    /// Someone cancels the run, or a newer holder of its concurrency group does.
    Cancel {
        force: bool,
    },
    /// The same for one job (its concurrency group, or a time limit of the queue).
    CancelJob {
        job: JobId,
        force: bool,
        reason: String,
    },
}

/// What must happen because of an input. Performing one twice is harmless.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEffect {
    /// The run (`None`) or a call wants its concurrency group; answer with [`RunInput::Admitted`] or `Refused`.
    Admit {
        job: Option<JobId>,
        concurrency: Concurrency,
    },
    /// It holds or wants the group no longer.
    Release {
        job: Option<JobId>,
    },
    Enqueue(PendingJob),
    /// Take it from the queue (nothing more is heard of it), or tell its runner to stop.
    CancelJob {
        job: JobId,
        force: bool,
    },
    /// Something a page or a forge shows of this job changed.
    JobChanged(JobId),
    /// The run's own status, title or times changed.
    RunChanged,
    /// The run is over; the last effect it ever gives.
    Finished(Conclusion),
}

/// A job that wants a host.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingJob {
    pub job: JobId,
    pub name: String,
    /// All must match, without case (S5).
    pub labels: Vec<String>,
    /// `runs-on.group`.
    pub group: Option<String>,
    pub concurrency: Option<Concurrency>,
    /// The environment whose rules must let it through first.
    pub environment: Option<String>,
    pub timeout_minutes: f64,
}

impl Run {
    /// Makes a run: parses its workflows and asks for its concurrency group, or at once for its first jobs. A file that
    /// is refused gives a run that has ended with `startup_failure`.
    pub fn start(now: Timestamp, spec: RunSpec, ids: &mut dyn FnMut() -> JobId) -> (Run, Vec<RunEffect>) {
        let _ = (now, spec, ids);
        unimplemented!()
    }

    /// A run as it was stored.
    ///
    /// # Errors
    /// The stored texts are no longer accepted.
    pub fn restore(spec: RunSpec, state: RunState) -> Result<Run, String> {
        Ok(Run { spec, state })
    }

    /// Takes a fact and says what must happen.
    pub fn apply(&mut self, now: Timestamp, input: RunInput, ids: &mut dyn FnMut() -> JobId) -> Vec<RunEffect> {
        let _ = (now, input, ids);
        unimplemented!()
    }

    /// The next attempt of a finished run (U1): jobs that are not run again keep their outputs and results.
    ///
    /// # Errors
    /// The run is not over, the job is unknown, or nothing failed.
    pub fn rerun(
        &self,
        now: Timestamp,
        mode: &Rerun,
        ids: &mut dyn FnMut() -> JobId,
    ) -> Result<(Run, Vec<RunEffect>), String> {
        let _ = (now, mode, ids);
        unimplemented!()
    }

    /// What a runner needs to run this job; `None` for unknown jobs.
    #[must_use]
    pub fn order(&self, job: JobId) -> Option<Order> {
        let _ = job;
        unimplemented!()
    }

    /// What must be done again after a restart: what is queued, what waits for a group, what was told to stop.
    #[must_use]
    pub fn outstanding(&self) -> Vec<RunEffect> {
        unimplemented!()
    }

    /// What the run was made of.
    #[must_use]
    pub fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// Where the run is.
    #[must_use]
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// One job.
    #[must_use]
    pub fn job(&self, job: JobId) -> Option<&JobState> {
        self.state.jobs.get(&job)
    }
}

/// A wish for the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerun {
    pub which: Which,
    pub actor: String,
    pub debug: bool,
}

/// Which jobs run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those that did not succeed, and all that depend on them.
    Failed,
    /// This one and all that depend on it.
    Job(JobId),
}
