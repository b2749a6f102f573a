//! Facts that a run is told.

use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::advance::failure_annotation;
use super::report::{JobResult, Report, StepState};
use super::state::{Detached, Held};
use super::{Conclusion, JobPhase, JobState, Run, RunEffect, RunInput, RunStatus};
use crate::id::{HostName, JobId};

/// More annotations than this are not kept for one job.
const MAX_ANNOTATIONS: usize = 1000;

impl Run {
    /// Takes a fact and says what must happen. Facts about jobs that have ended, or that are not of this run, change
    /// nothing; so does any fact that is told twice.
    pub fn apply(&mut self, now: Timestamp, input: RunInput, ids: &mut dyn FnMut() -> JobId) -> Vec<RunEffect> {
        let mut effects = Vec::new();
        if self.state.status == RunStatus::Completed {
            return effects;
        }
        match input {
            RunInput::Admitted { job: None } => {
                if self.state.status == RunStatus::Pending {
                    self.state.status = RunStatus::Queued;
                    effects.push(RunEffect::RunChanged);
                }
            }
            RunInput::Admitted { job: Some(job) } => self.admit_call(now, job, &mut effects),
            RunInput::Refused { job: None, reason } => {
                if self.state.status == RunStatus::Pending {
                    self.cancel(now, true, &mut effects);
                    self.state.startup_failure.get_or_insert(reason);
                }
            }
            RunInput::Refused { job: Some(job), reason } => {
                self.cancel_job(now, job, false, &reason, &mut effects);
            }
            RunInput::Waiting { job, waiting } => self.wait(job, waiting, &mut effects),
            RunInput::Failed { job, reason } => self.fail(now, job, reason, &mut effects),
            RunInput::Started { job, host } => self.started(now, job, host, &mut effects),
            RunInput::Requeued { job, reason } => self.requeue(job, reason, &mut effects),
            RunInput::Report { job, report } => self.report(now, job, report, &mut effects),
            RunInput::Release { job } => self.release_held(job, &mut effects),
            RunInput::Cancel { force } => self.cancel(now, force, &mut effects),
            RunInput::CancelJob { job, force, reason } => self.cancel_job(now, job, force, &reason, &mut effects),
        }
        if !effects.is_empty() {
            self.advance(now, ids, &mut effects);
        }
        effects
    }

    fn admit_call(&mut self, now: Timestamp, job: JobId, effects: &mut Vec<RunEffect>) {
        let (Some(plan), Some((place, index))) = (self.plan.clone(), self.call_leg(job)) else { return };
        let leg = &self.node(place).legs[index];
        if leg.concurrency.is_some() && leg.released && leg.scope.is_none() && leg.result.is_none() {
            effects.push(RunEffect::RunChanged);
            self.start_call(now, &plan, place, index, effects);
        }
    }

    fn release_held(&mut self, job: JobId, effects: &mut Vec<RunEffect>) {
        if let Some(held) = self.open_job(job).and_then(|state| state.held.as_mut()).filter(|held| !held.released) {
            held.released = true;
            effects.push(RunEffect::JobChanged(job));
            effects.push(RunEffect::ReleaseJob(job));
        }
    }

    fn open_job(&mut self, job: JobId) -> Option<&mut JobState> {
        self.state.jobs.get_mut(&job).filter(|job| job.phase != JobPhase::Completed)
    }

    fn wait(&mut self, job: JobId, waiting: bool, effects: &mut Vec<RunEffect>) {
        let Some(state) = self.open_job(job) else { return };
        let (from, to) =
            if waiting { (JobPhase::Queued, JobPhase::Waiting) } else { (JobPhase::Waiting, JobPhase::Queued) };
        if state.phase == from {
            state.phase = to;
            effects.push(RunEffect::JobChanged(job));
        }
    }

    fn fail(&mut self, now: Timestamp, job: JobId, reason: String, effects: &mut Vec<RunEffect>) {
        let Some(state) = self.open_job(job) else { return };
        state.annotations.push(failure_annotation(reason.clone()));
        state.reason = Some(reason);
        self.conclude(now, job, Conclusion::Failure, effects);
    }

    fn started(&mut self, now: Timestamp, job: JobId, host: HostName, effects: &mut Vec<RunEffect>) {
        let Some(state) = self.open_job(job) else { return };
        if state.phase == JobPhase::InProgress && state.host.as_ref() == Some(&host) {
            return;
        }
        state.phase = JobPhase::InProgress;
        state.host = Some(host);
        state.started_at.get_or_insert(now);
        effects.push(RunEffect::JobChanged(job));
        if self.state.status == RunStatus::Queued {
            self.state.status = RunStatus::InProgress;
            self.state.started_at.get_or_insert(now);
            effects.push(RunEffect::RunChanged);
        }
    }

    fn requeue(&mut self, job: JobId, reason: String, effects: &mut Vec<RunEffect>) {
        let Some(state) = self.open_job(job).filter(|job| job.phase == JobPhase::InProgress) else { return };
        state.phase = JobPhase::Queued;
        state.host = None;
        state.detached = None;
        state.workspace = None;
        state.held = None;
        state.steps.clear();
        state.started_at = None;
        state.reason = Some(reason);
        effects.push(RunEffect::JobChanged(job));
        effects.push(RunEffect::Enqueue(state.pending()));
    }

    fn report(&mut self, now: Timestamp, job: JobId, report: Report, effects: &mut Vec<RunEffect>) {
        let others = match &report {
            Report::Finished { .. } => {
                self.state.jobs.values().filter(|other| other.id != job).map(|other| weight(&other.outputs)).sum()
            }
            _ => 0,
        };
        let Some(state) = self.open_job(job) else { return };
        let before = effects.len();
        match report {
            Report::Started { at, workspace } => {
                let workspace = Some(workspace);
                if state.phase != JobPhase::InProgress || state.started_at.is_none() || state.workspace != workspace {
                    state.phase = JobPhase::InProgress;
                    state.started_at.get_or_insert(at);
                    state.workspace = workspace;
                    effects.push(RunEffect::JobChanged(job));
                }
            }
            Report::Steps { steps } => {
                let changed = steps.into_iter().map(|step| put_step(&mut state.steps, step)).fold(false, |a, b| a | b);
                if changed {
                    effects.push(RunEffect::JobChanged(job));
                }
            }
            Report::Step { step } => {
                if put_step(&mut state.steps, step) {
                    effects.push(RunEffect::JobChanged(job));
                }
            }
            Report::Annotation { annotation } => {
                if state.annotations.len() < MAX_ANNOTATIONS && !state.annotations.contains(&annotation) {
                    state.annotations.push(annotation);
                    effects.push(RunEffect::JobChanged(job));
                }
            }
            Report::Detached { at, reason } => {
                let detached = Some(Detached { since: at, reason });
                if state.detached != detached {
                    state.detached = detached;
                    effects.push(RunEffect::JobChanged(job));
                }
            }
            Report::Attached { .. } => {
                if state.detached.take().is_some() {
                    effects.push(RunEffect::JobChanged(job));
                }
            }
            Report::Held { until } => {
                // Told again after a restart, it stays released.
                let same = state.held.as_ref().map(|held| held.until) == until;
                if !same {
                    state.held = until.map(|until| Held { until, released: false });
                    effects.push(RunEffect::JobChanged(job));
                }
            }
            // It is not this job's any more: the engine gives it to a host again.
            Report::Unreached { .. } => {}
            Report::Finished { at, result } => {
                let result = within_limits(result, others);
                state.outputs = result.outputs;
                state.environment_url = result.environment_url;
                if result.reason.is_some() {
                    state.reason = result.reason;
                }
                state.detached = None;
                state.held = None;
                self.conclude(at, job, result.conclusion, effects);
            }
        }
        // A job that speaks runs, also when its start was not heard.
        if effects.len() > before && self.state.status == RunStatus::Queued {
            self.state.status = RunStatus::InProgress;
            self.state.started_at.get_or_insert(now);
            effects.push(RunEffect::RunChanged);
        }
    }

    /// The end of a job; there is only one.
    pub(super) fn conclude(
        &mut self,
        now: Timestamp,
        job: JobId,
        conclusion: Conclusion,
        effects: &mut Vec<RunEffect>,
    ) {
        let Some(state) = self.open_job(job) else { return };
        state.phase = JobPhase::Completed;
        state.conclusion = Some(conclusion);
        state.completed_at = Some(now);
        let outputs: Map<String, Json> = state.outputs.clone();
        let (scope, node, leg) = (state.scope, state.node.clone(), state.leg);
        effects.push(RunEffect::JobChanged(job));
        if let Some(position) = self.state.scopes[scope].nodes.get_index_of(&node) {
            self.end_leg(now, (scope, position), leg, conclusion, &outputs, effects);
        }
    }
}

/// What the outputs of one job may weigh, and those of all jobs of a run (N6).
const MOST_OUTPUTS: usize = 1 << 20;
const MOST_OUTPUTS_OF_RUN: usize = 50 << 20;

/// The weight of outputs: bytes in UTF-16, as GitHub counts them.
fn weight(outputs: &Map<String, Json>) -> usize {
    let units = |text: &str| 2 * if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
    outputs.iter().map(|(name, value)| units(name) + value.as_str().map_or(0, units)).sum()
}

/// A job with more outputs than it may have fails, and has none; `others` is what the run has already.
fn within_limits(result: JobResult, others: usize) -> JobResult {
    let own = weight(&result.outputs);
    let reason = if own > MOST_OUTPUTS {
        "the outputs of the job weigh more than 1 MB; hand files on as artifacts"
    } else if others + own > MOST_OUTPUTS_OF_RUN {
        "the outputs of all jobs of the run weigh more than 50 MB; hand files on as artifacts"
    } else {
        return result;
    };
    let conclusion = match result.conclusion {
        Conclusion::Success => Conclusion::Failure,
        other => other,
    };
    JobResult { conclusion, outputs: Map::new(), reason: result.reason.or(Some(reason.to_owned())), ..result }
}

/// Puts a step in its place by number; says whether anything changed.
fn put_step(steps: &mut Vec<StepState>, step: StepState) -> bool {
    match steps.binary_search_by_key(&step.number, |step| step.number) {
        Ok(at) if steps[at] == step => false,
        Ok(at) => {
            steps[at] = step;
            true
        }
        Err(at) => {
            steps.insert(at, step);
            true
        }
    }
}
