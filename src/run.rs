//! The state of a run: jobs, steps, conclusions, outputs, cancel.
//!
//! A [`Run`] is told facts ([`RunInput`]) and answers with what must happen ([`RunEffect`]). It never asks back: what a
//! host must know is in the [`order::Order`]. Inputs may be repeated; a finished job or run never changes.
//!
//! Pure: no I/O, no clock, no async.

mod advance;
mod cancel;
pub mod conclusion;
mod inputs;
pub mod order;
mod ordering;
pub mod report;
mod rerun;
pub mod state;
pub mod steps;

use std::sync::Arc;

use jiff::Timestamp;

pub use crate::plan::fields::{Concurrency, ConcurrencyQueue};
pub use conclusion::Conclusion;
pub use rerun::{Rerun, Which};
pub use state::{Cancel, Held, JobPhase, JobState, RunSpec, RunState, RunStatus, Told};

use crate::event::context::RunFacts;
use crate::id::{HostName, JobId};
use crate::plan::{Files, Material, Plan, Refused};
use report::Report;

/// Days that logs and artifacts are kept, as `github.retention_days` tells.
const RETENTION_DAYS: u32 = 90;

/// A run: what it was made of, and where it is.
#[derive(Clone, Debug)]
pub struct Run {
    spec: Arc<RunSpec>,
    state: RunState,
    /// Derived from the spec; `None` when its files are refused.
    plan: Option<Arc<Plan>>,
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
    /// Someone has looked at a held job.
    Release {
        job: JobId,
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
    /// Tell the runner of a held job to go on.
    ReleaseJob(JobId),
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
    pub fn start(
        now: Timestamp,
        spec: RunSpec,
        files: &Files,
        ids: &mut dyn FnMut() -> JobId,
    ) -> (Run, Vec<RunEffect>) {
        let planned = plan(&spec, files);
        let state = RunState::new(now, planned.as_ref().map(|plan| plan.title.clone()).unwrap_or_default());
        let mut run = Run { spec: Arc::new(spec), state, plan: None };
        let mut effects = vec![RunEffect::RunChanged];
        match planned {
            Err(refused) => {
                run.state.title = run.spec.event.title().unwrap_or_else(|| run.spec.workflow_path.clone());
                run.refuse(now, refused, &mut effects);
            }
            Ok(plan) => {
                run.state.scopes.push(state::ScopeState::new(&plan.workflow, None, None, run.spec.inputs.clone()));
                run.plan = Some(Arc::new(plan));
                run.begin(now, ids, &mut effects);
            }
        }
        (run, effects)
    }

    /// A run as it was stored.
    ///
    /// # Errors
    /// The stored texts are no longer accepted, though the run is not over.
    pub fn restore(spec: RunSpec, state: RunState, files: &Files) -> Result<Run, String> {
        let plan = match plan(&spec, files) {
            Ok(plan) => Some(Arc::new(plan)),
            Err(refused) if state.status != RunStatus::Completed => return Err(refused.message),
            Err(_) => None,
        };
        Ok(Run { spec: Arc::new(spec), state, plan })
    }

    /// What must be done again after a restart: who waits for a group, what wants a host, what was told to stop. Each is
    /// harmless when it was done before.
    #[must_use]
    pub fn outstanding(&self) -> Vec<RunEffect> {
        let mut effects = Vec::new();
        if self.state.status == RunStatus::Completed {
            return effects;
        }
        if self.state.status == RunStatus::Pending {
            let concurrency = self.plan.as_ref().and_then(|plan| plan.concurrency.clone());
            effects.extend(concurrency.map(|concurrency| RunEffect::Admit { job: None, concurrency }));
        }
        for leg in self.state.scopes.iter().flat_map(|scope| scope.nodes.values()).flat_map(|node| &node.legs) {
            let waits = leg.released && leg.scope.is_none() && leg.result.is_none();
            if let Some(concurrency) = leg.concurrency.clone().filter(|_| waits) {
                effects.push(RunEffect::Admit { job: Some(leg.job), concurrency });
            }
        }
        for job in self.state.jobs.values() {
            match job.phase {
                JobPhase::Queued | JobPhase::Waiting => effects.push(RunEffect::Enqueue(job.pending())),
                JobPhase::InProgress if job.cancel != Cancel::No => {
                    effects.push(RunEffect::CancelJob { job: job.id, force: job.cancel == Cancel::Forced });
                }
                _ => {}
            }
            if job.phase == JobPhase::InProgress && job.held.as_ref().is_some_and(|held| held.released) {
                effects.push(RunEffect::ReleaseJob(job.id));
            }
        }
        effects
    }

    /// What the run was made of.
    #[must_use]
    pub fn spec(&self) -> &Arc<RunSpec> {
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

    /// The workflows, parsed; `None` when they were refused.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    /// Asks for the group, or goes on at once.
    fn begin(&mut self, now: Timestamp, ids: &mut dyn FnMut() -> JobId, effects: &mut Vec<RunEffect>) {
        match self.plan.as_ref().and_then(|plan| plan.concurrency.clone()) {
            Some(concurrency) => {
                self.state.status = RunStatus::Pending;
                effects.push(RunEffect::Admit { job: None, concurrency });
            }
            None => self.advance(now, ids, effects),
        }
    }

    fn refuse(&mut self, now: Timestamp, refused: Refused, effects: &mut Vec<RunEffect>) {
        self.state.startup_failure = Some(refused.message);
        self.state.status = RunStatus::Completed;
        self.state.conclusion = Some(Conclusion::StartupFailure);
        self.state.started_at = Some(now);
        self.state.completed_at = Some(now);
        effects.push(RunEffect::Finished(Conclusion::StartupFailure));
    }
}

/// The plan of a run: every run derives it from its spec in the same way.
fn plan(spec: &RunSpec, files: &Files) -> Result<Plan, Refused> {
    let facts = RunFacts {
        run_id: spec.run.0,
        run_number: spec.run_number,
        run_attempt: spec.attempt,
        workflow: "",
        workflow_path: &spec.workflow_path,
        workflow_sha: &spec.workflow_sha,
        triggering_actor: &spec.triggering_actor,
        retention_days: RETENTION_DAYS,
    };
    Plan::new(&Material {
        event: &spec.event,
        facts,
        workflow_path: &spec.workflow_path,
        workflow_text: &spec.workflow_text,
        called: &spec.called,
        inputs: &spec.inputs,
        vars: &spec.vars,
        only: spec.only.as_deref(),
        partial: false,
        files,
    })
}

#[cfg(test)]
mod tests;
