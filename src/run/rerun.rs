//! Further attempts of a run (U1): what succeeded keeps its results and outputs, the rest and all that depends on it
//! runs again.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::state::{NodeState, RunState};
use super::{Cancel, Conclusion, Run, RunEffect, RunStatus};
use crate::expr::Value;
use crate::id::JobId;
use crate::plan::calls::Called;
use crate::plan::matrix::Combination;
use crate::plan::{Files, Plan};

/// GitHub allows so many attempts after the first.
const MAX_RERUNS: u32 = 50;

/// And for so many days.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A wish for the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerun {
    pub which: Which,
    /// `github.triggering_actor` of the attempt.
    pub actor: String,
    /// With step and job debug logging.
    pub debug: bool,
    /// How long failed jobs keep their host; 0: as before.
    pub hold_minutes: u32,
    /// The files it calls, found anew, for when all jobs run again; nothing: those it had (R9). Jobs that keep their results were
    /// planned with the files of their attempt.
    pub called: Option<Called>,
}

/// Which jobs run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those that failed or were cancelled, and all that depend on them.
    Failed,
    /// This one and all that depend on it.
    Job(JobId),
}

impl Run {
    /// The next attempt of a finished run. Jobs that do not run again keep their ids, results and outputs; of a matrix
    /// only the legs concerned run again.
    ///
    /// # Errors
    /// A sentence: the run is not over, its files are refused, the job is unknown, nothing failed, too many attempts.
    pub fn rerun(
        &self,
        now: Timestamp,
        wish: &Rerun,
        files: &Files,
        ids: &mut dyn FnMut() -> JobId,
    ) -> Result<(Run, Vec<RunEffect>), String> {
        if self.state.status != RunStatus::Completed {
            return Err("the run is not over yet".to_owned());
        }
        if self.spec.attempt > MAX_RERUNS {
            return Err(format!("a run may be repeated at most {MAX_RERUNS} times"));
        }
        if now.duration_since(self.spec.event.received_at) > MAX_AGE {
            return Err("a run may be repeated for 30 days; start a new one".to_owned());
        }
        let mut spec = (*self.spec).clone();
        spec.attempt += 1;
        spec.triggering_actor.clone_from(&wish.actor);
        spec.debug |= wish.debug;
        if wish.hold_minutes > 0 {
            spec.hold_minutes = wish.hold_minutes;
        }
        if wish.which == Which::All {
            if let Some(called) = &wish.called {
                spec.called.clone_from(called);
            }
            return Ok(Run::start(now, spec, files, ids));
        }
        if self.plan.is_none() {
            return Err("its files were refused, so no job of it can run again".to_owned());
        }
        if let Which::Job(job) = wish.which
            && !self.state.jobs.contains_key(&job)
        {
            return Err(format!("the run has no job {job}"));
        }
        let again = |run: &Run, job: JobId| match wish.which {
            Which::Job(wanted) => job == wanted,
            _ => run.state.jobs.get(&job).and_then(|job| job.conclusion).is_some_and(is_repeated),
        };
        // The plan is made anew: `github.run_attempt` and the actor have changed.
        let plan = Arc::new(super::plan(&spec, files).map_err(|refused| refused.message)?);
        let state = RunState {
            status: RunStatus::Queued,
            conclusion: None,
            started_at: None,
            completed_at: None,
            created_at: now,
            cancel: Cancel::No,
            ..self.state.clone()
        };
        let mut run = Run { spec: Arc::new(spec), state, plan: Some(Arc::clone(&plan)) };
        for scope in &mut run.state.scopes {
            scope.cancel = Cancel::No;
        }
        let mut effects = vec![RunEffect::RunChanged];
        if !run.reset_scope(now, &plan, 0, &|job| again(self, job), ids, &mut effects) {
            return Err("no job of the run failed".to_owned());
        }
        run.begin(now, ids, &mut effects);
        Ok((run, effects))
    }

    /// Takes back what runs again below a scope; says whether that is anything.
    fn reset_scope(
        &mut self,
        now: Timestamp,
        plan: &Arc<Plan>,
        scope: usize,
        again: &dyn Fn(JobId) -> bool,
        ids: &mut dyn FnMut() -> JobId,
        effects: &mut Vec<RunEffect>,
    ) -> bool {
        let mut touched = vec![false; self.state.scopes[scope].nodes.len()];
        for (position, touched) in touched.iter_mut().enumerate() {
            *touched = self.reset_legs(now, plan, (scope, position), again, ids, effects);
        }
        // Whoever needs a job that runs again starts from nothing; ids may stand in any order, so until nothing changes.
        let direct = touched.clone();
        loop {
            let mut changed = false;
            for position in 0..touched.len() {
                let needs = &self.template(plan, (scope, position)).needs;
                let nodes = &self.state.scopes[scope].nodes;
                let depends = needs.iter().filter_map(|id| nodes.get_index_of(id)).any(|need| touched[need]);
                if depends && (!touched[position] || direct[position] && self.node((scope, position)).expanded) {
                    touched[position] = true;
                    self.forget(scope, position);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        touched.contains(&true)
    }

    fn reset_legs(
        &mut self,
        now: Timestamp,
        plan: &Arc<Plan>,
        place: (usize, usize),
        again: &dyn Fn(JobId) -> bool,
        ids: &mut dyn FnMut() -> JobId,
        effects: &mut Vec<RunEffect>,
    ) -> bool {
        let total = self.node(place).legs.len();
        let mut touched = false;
        for index in 0..total {
            let leg = self.node(place).legs[index].clone();
            if let Some(scope) = leg.scope {
                if self.reset_scope(now, plan, scope, again, ids, effects) {
                    touched = true;
                    self.node_mut(place).legs[index].result = None;
                }
                continue;
            }
            if !again(leg.job) {
                continue;
            }
            touched = true;
            let shown = self.state.jobs.get(&leg.job);
            let is_ordinary = shown.is_some_and(|job| job.started_at.is_some() || !job.labels.is_empty());
            if !is_ordinary {
                // It never came to legs: a faulty condition, strategy or field, or a call that never opened.
                self.forget(place.0, place.1);
                return true;
            }
            self.state.jobs.shift_remove(&leg.job);
            let node = self.node_mut(place);
            node.result = None;
            let leg = &mut node.legs[index];
            leg.job = ids();
            leg.released = false;
            leg.result = None;
            let values = Value::from_json(&leg.matrix).as_object().cloned().unwrap_or_default();
            let combination = Combination { values, segments: Vec::new() };
            let name = leg.name.clone();
            let job = self.template(plan, place);
            let contexts = self.contexts(plan, place.0, job);
            self.prepare(now, plan, place, index, total, &combination, &contexts, effects);
            // The name is that of the first attempt: a leg is recognised by it.
            let id = self.node(place).legs[index].job;
            self.node_mut(place).legs[index].name = name;
            let shown = self.shown_name(place, index);
            if let Some(job) = self.state.jobs.get_mut(&id) {
                job.name = shown;
            }
        }
        if touched {
            self.node_mut(place).result = None;
        }
        touched
    }

    /// A job as if it had never been reached, with everything below it.
    fn forget(&mut self, scope: usize, position: usize) {
        let node = std::mem::take(self.node_mut((scope, position)));
        for leg in &node.legs {
            self.state.jobs.shift_remove(&leg.job);
            if let Some(inner) = leg.scope {
                for position in 0..self.state.scopes[inner].nodes.len() {
                    self.forget(inner, position);
                }
                // The scope stays as an empty place, since others are counted by their position.
                self.state.scopes[inner].nodes.values_mut().for_each(|node| *node = NodeState::abandoned());
            }
        }
    }
}

/// Whether "re-run failed jobs" repeats a job that ended so.
fn is_repeated(conclusion: Conclusion) -> bool {
    matches!(conclusion.as_result(), "failure" | "cancelled")
}
