//! Cancelling: a run, a called workflow, one job, the siblings of a failed leg (M7, Z1).

use jiff::Timestamp;

use super::{Cancel, Conclusion, JobPhase, Run, RunEffect, RunStatus};
use crate::id::JobId;

impl Run {
    /// Someone cancels the run. Conditions of jobs are evaluated again; jobs whose condition still holds go on, the
    /// others are stopped (Z1). With `force` everything ends at once.
    pub(super) fn cancel(&mut self, now: Timestamp, force: bool, effects: &mut Vec<RunEffect>) {
        let wish = if force { Cancel::Forced } else { Cancel::Requested };
        if self.state.cancel >= wish {
            return;
        }
        self.state.cancel = wish;
        effects.push(RunEffect::RunChanged);
        if self.state.status == RunStatus::Pending {
            // It never began: its jobs are expanded as cancelled.
            self.state.status = RunStatus::Queued;
            return;
        }
        self.cancel_within(now, None, force, effects);
    }

    /// One job, or the workflow that a call started.
    pub(super) fn cancel_job(
        &mut self,
        now: Timestamp,
        job: JobId,
        force: bool,
        reason: &str,
        effects: &mut Vec<RunEffect>,
    ) {
        if let Some(state) = self.state.jobs.get_mut(&job) {
            if state.phase != JobPhase::Completed {
                state.reason.get_or_insert_with(|| reason.to_owned());
            }
            return self.cancel_leaf(now, job, force, effects);
        }
        let Some((place, index)) = self.call_leg(job) else { return };
        self.cancel_call(now, place, index, force, effects);
    }

    /// Ends the other legs after a failure (M7). Their conditions are not asked: fail-fast means all of them.
    pub(super) fn cancel_siblings(
        &mut self,
        now: Timestamp,
        place: (usize, usize),
        failed: usize,
        effects: &mut Vec<RunEffect>,
    ) {
        for index in 0..self.node(place).legs.len() {
            let leg = &self.node(place).legs[index];
            if index == failed || leg.result.is_some() {
                continue;
            }
            let job = leg.job;
            if self.state.jobs.contains_key(&job) {
                self.cancel_leaf(now, job, false, effects);
            } else {
                self.cancel_call(now, place, index, false, effects);
            }
        }
    }

    fn cancel_call(
        &mut self,
        now: Timestamp,
        place: (usize, usize),
        index: usize,
        force: bool,
        effects: &mut Vec<RunEffect>,
    ) {
        let leg = &self.node(place).legs[index];
        match leg.scope {
            _ if leg.result.is_some() => {}
            None => self.show_ended_leg(now, place, index, Conclusion::Cancelled, None, effects),
            Some(scope) => {
                let wish = if force { Cancel::Forced } else { Cancel::Requested };
                if self.state.scopes[scope].cancel < wish {
                    self.state.scopes[scope].cancel = wish;
                    self.cancel_within(now, Some(scope), force, effects);
                }
            }
        }
    }

    /// Everything below a scope (`None`: everything) that does not survive.
    fn cancel_within(&mut self, now: Timestamp, scope: Option<usize>, force: bool, effects: &mut Vec<RunEffect>) {
        let Some(plan) = self.plan.clone() else { return };
        let below = |run: &Run, inner: usize| match scope {
            None => true,
            Some(scope) => run.is_within(inner, scope),
        };
        let open = self.state.jobs.values().filter(|job| job.phase != JobPhase::Completed && below(self, job.scope));
        let open: Vec<(JobId, usize, String)> = open.map(|job| (job.id, job.scope, job.node.clone())).collect();
        for (id, scope, node) in open {
            let position = self.state.scopes[scope].nodes.get_index_of(&node).unwrap_or_default();
            let template = self.template(&plan, (scope, position));
            let contexts = self.contexts(&plan, scope, template);
            let survives = !force && self.condition(&plan, (scope, position), &contexts, true) == Ok(true);
            if !survives {
                self.cancel_leaf(now, id, force, effects);
            }
        }
        // Calls that are held back or wait for their group never open.
        for scope in 0..self.state.scopes.len() {
            if !below(self, scope) {
                continue;
            }
            for position in 0..self.state.scopes[scope].nodes.len() {
                for index in 0..self.node((scope, position)).legs.len() {
                    let leg = &self.node((scope, position)).legs[index];
                    let waits = leg.scope.is_none() && leg.result.is_none();
                    if waits && !self.state.jobs.contains_key(&leg.job) {
                        self.show_ended_leg(now, (scope, position), index, Conclusion::Cancelled, None, effects);
                    }
                }
            }
        }
    }

    /// A job that does not survive: told to stop when it runs, ended when it does not.
    pub(super) fn cancel_leaf(&mut self, now: Timestamp, job: JobId, force: bool, effects: &mut Vec<RunEffect>) {
        let Some(state) = self.state.jobs.get_mut(&job) else { return };
        let wish = if force { Cancel::Forced } else { Cancel::Requested };
        match state.phase {
            JobPhase::Completed => {}
            JobPhase::InProgress if !force => {
                if state.cancel < wish {
                    state.cancel = wish;
                    effects.push(RunEffect::JobChanged(job));
                    effects.push(RunEffect::CancelJob { job, force });
                }
            }
            phase => {
                state.cancel = wish;
                if phase != JobPhase::Pending {
                    effects.push(RunEffect::CancelJob { job, force });
                }
                self.conclude(now, job, Conclusion::Cancelled, effects);
            }
        }
    }

    fn is_within(&self, inner: usize, outer: usize) -> bool {
        self.chain(inner).any(|scope| std::ptr::eq(scope, &self.state.scopes[outer]))
    }

    /// The leg of a call, by the id it asks for its group with.
    pub(super) fn call_leg(&self, job: JobId) -> Option<((usize, usize), usize)> {
        self.state.scopes.iter().enumerate().find_map(|(scope, state)| {
            state.nodes.values().enumerate().find_map(|(position, node)| {
                node.legs.iter().position(|leg| leg.job == job).map(|index| ((scope, position), index))
            })
        })
    }
}
