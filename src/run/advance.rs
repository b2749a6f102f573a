//! What can go on, goes on: jobs whose needs are done are expanded into legs, legs are let go, results are drawn together.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::report::{Annotation, AnnotationLevel};
use super::state::{Caller, LegState, NodeState, ScopeState, aggregate};
use super::{Cancel, Conclusion, JobPhase, JobState, Run, RunEffect, RunStatus};
use crate::expr::{NoFunctions, Object, Scope, Value};
use crate::id::JobId;
use crate::plan::fields::{self, JobFunctions};
use crate::plan::forecast::values_read;
use crate::plan::matrix::{self, Combination};
use crate::plan::{Plan, calls};
use crate::workflow::model::{Job, JobBody};

/// Jobs and calls of one run: a bound on what nested calls with matrices may make.
const MAX_JOBS: usize = 10_000;

/// The place of a job template in a run: scope, and position of the job in its file.
type Place = (usize, usize);

impl Run {
    /// Does everything that is possible now.
    pub(super) fn advance(&mut self, now: Timestamp, ids: &mut dyn FnMut() -> JobId, effects: &mut Vec<RunEffect>) {
        let Some(plan) = self.plan.clone() else { return };
        if matches!(self.state.status, RunStatus::Pending | RunStatus::Completed) {
            return;
        }
        loop {
            let mut progress = false;
            let mut scope = 0;
            while scope < self.state.scopes.len() {
                for position in 0..self.state.scopes[scope].nodes.len() {
                    progress |= self.advance_node(now, &plan, (scope, position), ids, effects);
                }
                scope += 1;
            }
            if !progress {
                break;
            }
            effects.push(RunEffect::RunChanged);
        }
        if self.state.scopes[0].is_done() {
            self.finish(now, effects);
        }
    }

    fn advance_node(
        &mut self,
        now: Timestamp,
        plan: &Arc<Plan>,
        place: Place,
        ids: &mut dyn FnMut() -> JobId,
        effects: &mut Vec<RunEffect>,
    ) -> bool {
        let node = self.node(place);
        if node.result.is_some() {
            return false;
        }
        if !node.expanded {
            let job = self.template(plan, place);
            let nodes = &self.state.scopes[place.0].nodes;
            if !job.needs.iter().all(|need| nodes.get(need).is_some_and(|node| node.result.is_some())) {
                return false;
            }
            self.expand(now, plan, place, ids, effects);
            return true;
        }
        let mut progress = self.conclude_calls(now, plan, place, effects);
        progress |= self.release(now, plan, place, effects);
        let node = self.node_mut(place);
        if node.legs.iter().all(|leg| leg.result.is_some()) {
            node.result = Some(aggregate(node.legs.iter().filter_map(|leg| leg.result)));
            progress = true;
        }
        progress
    }

    /// Evaluates the condition and the strategy of a job whose needs are done.
    fn expand(
        &mut self,
        now: Timestamp,
        plan: &Arc<Plan>,
        place: Place,
        ids: &mut dyn FnMut() -> JobId,
        effects: &mut Vec<RunEffect>,
    ) {
        let job = self.template(plan, place);
        let contexts = self.contexts(plan, place.0, job);
        self.node_mut(place).expanded = true;
        if self.forced(place.0) {
            let name = fields::unexpanded_name(job, &contexts);
            return self.lone_leg(now, place, name, Conclusion::Cancelled, None, ids, effects);
        }
        let cancelled = self.is_cancelled(place.0);
        match self.condition(plan, place, &contexts, cancelled) {
            Err(message) => {
                let name = fields::unexpanded_name(job, &contexts);
                let message = format!("Error when evaluating 'if' for job '{}'. {message}", job.id);
                return self.lone_leg(now, place, name, Conclusion::Failure, Some(message), ids, effects);
            }
            Ok(false) => {
                let name = fields::unexpanded_name(job, &contexts);
                // What would have run but for the cancel was cancelled; the rest is skipped as always (N3, N9).
                let stopped = cancelled && self.condition(plan, place, &contexts, false) == Ok(true);
                if stopped {
                    return self.lone_leg(now, place, name, Conclusion::Cancelled, None, ids, effects);
                }
                let reason = self.why_skipped(place, job, &contexts);
                self.lone_leg(now, place, name, Conclusion::Skipped, None, ids, effects);
                let leg = self.node(place).legs.first().map(|leg| leg.job);
                if let Some(state) = leg.and_then(|leg| self.state.jobs.get_mut(&leg)) {
                    state.reason = Some(reason);
                }
                return;
            }
            Ok(true) => {}
        }
        let strategy = match &job.strategy {
            None => Ok(Value::Null),
            Some(token) => token
                .evaluate(&Scope { contexts: &contexts, functions: &NoFunctions })
                .map_err(|error| error.to_string()),
        };
        let strategy = match strategy.and_then(|value| matrix::strategy(&value)) {
            Ok(strategy) if self.job_count() + strategy.legs.len() <= MAX_JOBS => strategy,
            Ok(_) => {
                let message = format!("A run may not have more than {MAX_JOBS} jobs");
                return self.lone_leg(now, place, job.id.clone(), Conclusion::Failure, Some(message), ids, effects);
            }
            Err(message) => {
                let name = fields::unexpanded_name(job, &contexts);
                let message = format!("Error when evaluating 'strategy' for job '{}'. {message}", job.id);
                return self.lone_leg(now, place, name, Conclusion::Failure, Some(message), ids, effects);
            }
        };
        if strategy.legs.is_empty() {
            // Every combination is excluded: there is nothing to run.
            let name = fields::unexpanded_name(job, &contexts);
            return self.lone_leg(now, place, name, Conclusion::Skipped, None, ids, effects);
        }
        let total = strategy.legs.len();
        let node = self.node_mut(place);
        node.fail_fast = strategy.fail_fast;
        node.max_parallel = strategy.max_parallel.unwrap_or(0);
        for (index, leg) in strategy.legs.iter().enumerate() {
            let matrix = if strategy.has_matrix { leg.values.to_json() } else { Json::Null };
            self.node_mut(place).legs.push(LegState {
                job: ids(),
                matrix,
                name: String::new(),
                scope: None,
                concurrency: None,
                released: false,
                result: None,
                continue_on_error: false,
            });
            self.prepare(now, plan, place, index, total, leg, &contexts, effects);
        }
    }

    /// Names a leg and evaluates its fields; a fault is the leg's failure.
    #[expect(clippy::too_many_arguments, reason = "what a leg is made of")]
    pub(super) fn prepare(
        &mut self,
        now: Timestamp,
        plan: &Arc<Plan>,
        place: Place,
        index: usize,
        total: usize,
        leg: &Combination,
        contexts: &Object,
        effects: &mut Vec<RunEffect>,
    ) {
        let job = self.template(plan, place);
        let contexts = self.leg_contexts(contexts, place, index, total);
        let prepared = fields::leg_name(job, leg, &contexts)
            .map_err(|message| (fields::unexpanded_name(job, &contexts), message))
            .and_then(|name| match fields::job_fields(job, &contexts) {
                Ok(fields) => Ok((name, fields)),
                Err(message) => Err((name, message)),
            });
        let is_call = matches!(job.body, JobBody::Call { .. });
        match prepared {
            Ok((name, fields)) => {
                let leg = &mut self.node_mut(place).legs[index];
                leg.name = name;
                leg.continue_on_error = fields.continue_on_error;
                if is_call {
                    leg.concurrency = fields.concurrency;
                    return;
                }
                let mut state = self.leaf(now, place, index);
                state.labels = fields.labels;
                state.group = fields.group;
                state.timeout_minutes = fields.timeout_minutes;
                state.cancel_timeout_minutes = fields.cancel_timeout_minutes;
                state.continue_on_error = fields.continue_on_error;
                state.deploys = fields.environment.as_ref().is_some_and(|environment| environment.deployment);
                state.environment = fields.environment.map(|environment| environment.name);
                state.concurrency = fields.concurrency;
                effects.push(RunEffect::JobChanged(state.id));
                self.state.jobs.insert(state.id, state);
            }
            Err((name, message)) => {
                self.node_mut(place).legs[index].name = name;
                self.show_ended_leg(now, place, index, Conclusion::Failure, Some(message), effects);
            }
        }
    }

    /// Lets legs go, as many at once as `max-parallel` allows (M8); for calls it counts calls (M11).
    fn release(&mut self, now: Timestamp, plan: &Arc<Plan>, place: Place, effects: &mut Vec<RunEffect>) -> bool {
        let is_call = matches!(self.template(plan, place).body, JobBody::Call { .. });
        let node = self.node(place);
        let limit = if node.max_parallel == 0 { usize::MAX } else { node.max_parallel };
        let mut active = node.legs.iter().filter(|leg| leg.released && leg.result.is_none()).count();
        let mut progress = false;
        for index in 0..node.legs.len() {
            let leg = &self.node(place).legs[index];
            if active >= limit {
                break;
            }
            if leg.released || leg.result.is_some() {
                continue;
            }
            let (id, concurrency) = (leg.job, leg.concurrency.clone());
            self.node_mut(place).legs[index].released = true;
            active += 1;
            progress = true;
            if !is_call {
                if let Some(job) = self.state.jobs.get_mut(&id) {
                    job.phase = JobPhase::Queued;
                    effects.push(RunEffect::JobChanged(id));
                    effects.push(RunEffect::Enqueue(job.pending()));
                }
            } else if let Some(concurrency) = concurrency {
                effects.push(RunEffect::Admit { job: Some(id), concurrency });
            } else {
                self.start_call(now, plan, place, index, effects);
            }
        }
        progress
    }

    /// Opens the called workflow of a leg.
    pub(super) fn start_call(
        &mut self,
        now: Timestamp,
        plan: &Arc<Plan>,
        place: Place,
        index: usize,
        effects: &mut Vec<RunEffect>,
    ) {
        let job = self.template(plan, place);
        let JobBody::Call { uses, with, .. } = &job.body else { return };
        let from = self.state.scopes[place.0].workflow.as_deref();
        let total = self.node(place).legs.len();
        let contexts = self.leg_contexts(&self.contexts(plan, place.0, job), place, index, total);
        let opened = plan.target(from, uses).and_then(|target| {
            let key = target.key();
            let workflow = plan.called.get(&key).ok_or_else(|| format!("the workflow '{uses}' was not found"))?;
            let interface = workflow.on.call.clone().unwrap_or_default();
            let inputs = calls::inputs(&interface, with.as_ref(), &contexts, &plan.contexts(&Map::new()))?;
            Ok((key, inputs))
        });
        match opened {
            Ok((key, inputs)) => {
                let node = self.state.scopes[place.0].nodes.get_index(place.1).map(|(id, _)| id.clone());
                let caller = Caller { scope: place.0, node: node.unwrap_or_default(), leg: index };
                let scope = self.state.scopes.len();
                let workflow = plan.file(Some(&key));
                self.state.scopes.push(ScopeState::new(workflow, Some(key.clone()), Some(caller), inputs));
                self.node_mut(place).legs[index].scope = Some(scope);
            }
            Err(message) => {
                let message = format!("Error when evaluating 'with' for job '{}'. {message}", job.id);
                self.show_ended_leg(now, place, index, Conclusion::Failure, Some(message), effects);
            }
        }
    }

    /// Ends the legs whose called workflow has ended, with its outputs (R5, R8).
    fn conclude_calls(&mut self, now: Timestamp, plan: &Arc<Plan>, place: Place, effects: &mut Vec<RunEffect>) -> bool {
        let mut progress = false;
        for index in 0..self.node(place).legs.len() {
            let leg = &self.node(place).legs[index];
            let Some(scope) = leg.scope.filter(|_| leg.result.is_none()) else { continue };
            if !self.state.scopes[scope].is_done() {
                continue;
            }
            let result = self.state.scopes[scope].result();
            match self.call_outputs(plan, scope) {
                Ok(outputs) => self.end_leg(now, place, index, result, &outputs, effects),
                Err(message) => self.show_ended_leg(now, place, index, Conclusion::Failure, Some(message), effects),
            }
            progress = true;
        }
        progress
    }

    /// `on.workflow_call.outputs`, from the `jobs` context that exists only here (R5).
    fn call_outputs(&self, plan: &Plan, scope: usize) -> Result<Map<String, Json>, String> {
        let state = &self.state.scopes[scope];
        let Some(interface) = &plan.file(state.workflow.as_deref()).on.call else { return Ok(Map::new()) };
        if interface.outputs.is_empty() {
            return Ok(Map::new());
        }
        let mut contexts = plan.contexts(&state.inputs);
        let jobs: Object = state.nodes.iter().map(|(id, node)| (id.as_str(), result_value(node))).collect();
        contexts.insert("jobs", jobs);
        let scope = Scope { contexts: &contexts, functions: &NoFunctions };
        let mut outputs = Map::new();
        for (name, output) in &interface.outputs {
            let value = output.value.evaluate(&scope).map_err(|error| {
                format!("Error when evaluating the output '{name}' of the called workflow. {error}")
            })?;
            outputs.insert(name.clone(), json!(value.to_display_string()));
        }
        Ok(outputs)
    }

    /// A job that is shown as one job and has ended at once: skipped, cancelled before it began, or faulty.
    #[expect(clippy::too_many_arguments, reason = "what a leg is made of")]
    fn lone_leg(
        &mut self,
        now: Timestamp,
        place: Place,
        name: String,
        conclusion: Conclusion,
        message: Option<String>,
        ids: &mut dyn FnMut() -> JobId,
        effects: &mut Vec<RunEffect>,
    ) {
        let node = self.node_mut(place);
        node.legs = vec![LegState {
            job: ids(),
            matrix: Json::Null,
            name,
            scope: None,
            concurrency: None,
            released: true,
            result: None,
            continue_on_error: false,
        }];
        self.show_ended_leg(now, place, 0, conclusion, message, effects);
    }

    /// Ends a leg that never ran, and shows it as a job.
    pub(super) fn show_ended_leg(
        &mut self,
        now: Timestamp,
        place: Place,
        index: usize,
        conclusion: Conclusion,
        message: Option<String>,
        effects: &mut Vec<RunEffect>,
    ) {
        let mut job = self.leaf(now, place, index);
        job.phase = JobPhase::Completed;
        job.conclusion = Some(conclusion);
        job.completed_at = Some(now);
        job.annotations.extend(message.map(failure_annotation));
        effects.push(RunEffect::JobChanged(job.id));
        self.state.jobs.insert(job.id, job);
        self.end_leg(now, place, index, conclusion, &Map::new(), effects);
    }

    /// A job as it is when nothing has happened to it.
    fn leaf(&self, now: Timestamp, place: Place, index: usize) -> JobState {
        let scope = &self.state.scopes[place.0];
        let (node, state) = scope.nodes.get_index(place.1).expect("places come from the nodes themselves");
        let leg = &state.legs[index];
        let mut path = node.clone();
        for scope in self.chain(place.0) {
            if let Some(above) = &scope.caller {
                path = format!("{}/{path}", above.node);
            }
        }
        JobState {
            id: leg.job,
            path,
            name: self.shown_name(place, index),
            scope: place.0,
            node: node.clone(),
            leg: index,
            phase: JobPhase::Pending,
            conclusion: None,
            cancel: Cancel::No,
            labels: Vec::new(),
            group: None,
            concurrency: None,
            environment: None,
            deploys: false,
            timeout_minutes: fields::TIMEOUT,
            cancel_timeout_minutes: fields::CANCEL_TIMEOUT,
            continue_on_error: leg.continue_on_error,
            host: None,
            detached: None,
            workspace: None,
            held: None,
            created_at: now,
            started_at: None,
            completed_at: None,
            steps: Vec::new(),
            annotations: Vec::new(),
            outputs: Map::new(),
            environment_url: None,
            reason: None,
        }
    }

    /// The name with those of its callers: `caller / callee` (R8).
    pub(super) fn shown_name(&self, place: Place, index: usize) -> String {
        let mut name = self.node(place).legs[index].name.clone();
        for scope in self.chain(place.0) {
            if let Some(above) = &scope.caller {
                let caller = &self.state.scopes[above.scope].nodes[&above.node].legs[above.leg];
                name = format!("{} / {name}", caller.name);
            }
        }
        name
    }

    /// The result of a leg counts: its outputs join the others (N7), and fail-fast may end its siblings (M7).
    pub(super) fn end_leg(
        &mut self,
        now: Timestamp,
        place: Place,
        index: usize,
        conclusion: Conclusion,
        outputs: &Map<String, Json>,
        effects: &mut Vec<RunEffect>,
    ) {
        let node = self.node_mut(place);
        let leg = &mut node.legs[index];
        if leg.result.is_some() {
            return;
        }
        let failed = conclusion.as_result() == "failure";
        // S9: a forgiven failure is a success to whoever needs it.
        let result = if failed && leg.continue_on_error { Conclusion::Success } else { conclusion };
        leg.result = Some(result);
        if leg.concurrency.is_some() && leg.released {
            effects.push(RunEffect::Release { job: Some(leg.job) });
        }
        for (key, value) in outputs {
            if value.as_str() != Some("") && !value.is_null() {
                let known = node.outputs.keys().find(|known| known.eq_ignore_ascii_case(key)).cloned();
                node.outputs.insert(known.unwrap_or_else(|| key.clone()), value.clone());
            }
        }
        if result.as_result() == "failure" && node.fail_fast && node.legs.len() > 1 {
            self.cancel_siblings(now, place, index, effects);
        }
    }

    fn finish(&mut self, now: Timestamp, effects: &mut Vec<RunEffect>) {
        let result = self.state.scopes[0].result();
        let conclusion = match result {
            Conclusion::Success => Conclusion::Success,
            _ if self.state.cancel != Cancel::No => Conclusion::Cancelled,
            other => other,
        };
        self.state.status = RunStatus::Completed;
        self.state.conclusion = Some(conclusion);
        self.state.completed_at = Some(now);
        if self.plan.as_ref().is_some_and(|plan| plan.concurrency.is_some()) {
            effects.push(RunEffect::Release { job: None });
        }
        effects.push(RunEffect::RunChanged);
        effects.push(RunEffect::Finished(conclusion));
    }

    /// Evaluates the condition of a job (N3, N5, X2).
    pub(super) fn condition(
        &self,
        plan: &Plan,
        place: Place,
        contexts: &Object,
        cancelled: bool,
    ) -> Result<bool, String> {
        let job = self.template(plan, place);
        let ancestors = self.ancestors(plan, place);
        let functions = JobFunctions { ancestors: &ancestors, cancelled };
        let value = job.condition.evaluate(&Scope { contexts, functions: &functions });
        value.map(|value| value.is_truthy()).map_err(|error| error.to_string())
    }

    /// Why a condition was false, with what it read.
    fn why_skipped(&self, place: Place, job: &Job, contexts: &Object) -> String {
        const MOST: usize = 100;
        let nodes = &self.state.scopes[place.0].nodes;
        let needs = job.needs.iter().filter_map(|need| {
            let result = nodes.get(need)?.result?.as_result();
            (result != "success").then(|| format!("{need} ended as {result}"))
        });
        let values = values_read(&job.condition, contexts).into_iter().map(|(name, value)| {
            let text = value.to_string();
            let cut: String = text.chars().take(MOST).collect();
            format!("{name} is {cut}{}", if cut.len() < text.len() { "…" } else { "" })
        });
        let why: Vec<String> = needs.chain(values).collect();
        let source = job.condition.source().trim();
        if why.is_empty() {
            format!("its condition `{source}` is false")
        } else {
            format!("its condition `{source}` is false: {}", why.join(", "))
        }
    }

    /// Results of all jobs that this one needs, directly or not (N5).
    fn ancestors(&self, plan: &Plan, place: Place) -> BTreeMap<String, &'static str> {
        let scope = &self.state.scopes[place.0];
        let workflow = plan.file(scope.workflow.as_deref());
        let mut found = BTreeMap::new();
        let mut open: Vec<&str> = self.template(plan, place).needs.iter().map(String::as_str).collect();
        while let Some(id) = open.pop() {
            let Some(job) = workflow.jobs.get(id) else { continue };
            let result = scope.nodes.get(id).and_then(|node| node.result).map_or("", Conclusion::as_result);
            if found.insert(id.to_owned(), result).is_none() {
                open.extend(job.needs.iter().map(String::as_str));
            }
        }
        found
    }

    /// `github`, `inputs`, `vars` and `needs`.
    pub(super) fn contexts(&self, plan: &Plan, scope: usize, job: &Job) -> Object {
        let mut contexts = plan.contexts(&self.state.scopes[scope].inputs);
        contexts.insert("needs", Value::from_json(&Json::Object(self.needs(scope, job))));
        contexts
    }

    /// `needs`: the direct ones (X2).
    pub(super) fn needs(&self, scope: usize, job: &Job) -> Map<String, Json> {
        let nodes = &self.state.scopes[scope].nodes;
        let known = job.needs.iter().filter_map(|id| nodes.get(id).map(|node| (id.clone(), result_json(node))));
        known.collect()
    }

    /// The contexts of a leg: also `strategy` and `matrix`.
    pub(super) fn leg_contexts(&self, contexts: &Object, place: Place, index: usize, total: usize) -> Object {
        let node = self.node(place);
        let mut contexts = contexts.clone();
        contexts.insert("strategy", Value::from_json(&Json::Object(strategy_context(node, index, total))));
        contexts.insert("matrix", Value::from_json(&node.legs[index].matrix));
        contexts
    }

    pub(super) fn is_cancelled(&self, scope: usize) -> bool {
        self.state.cancel != Cancel::No || self.chain(scope).any(|scope| scope.cancel != Cancel::No)
    }

    fn forced(&self, scope: usize) -> bool {
        self.state.cancel == Cancel::Forced || self.chain(scope).any(|scope| scope.cancel == Cancel::Forced)
    }

    /// A scope and those it was called from, innermost first.
    pub(super) fn chain(&self, scope: usize) -> impl Iterator<Item = &ScopeState> {
        std::iter::successors(self.state.scopes.get(scope), |inner| {
            inner.caller.as_ref().and_then(|caller| self.state.scopes.get(caller.scope))
        })
    }

    pub(super) fn template<'p>(&self, plan: &'p Plan, place: Place) -> &'p Job {
        let workflow = plan.file(self.state.scopes[place.0].workflow.as_deref());
        workflow.jobs.get_index(place.1).map(|(_, job)| job).expect("nodes are made from the jobs of the file")
    }

    pub(super) fn node(&self, place: Place) -> &NodeState {
        &self.state.scopes[place.0].nodes[place.1]
    }

    pub(super) fn node_mut(&mut self, place: Place) -> &mut NodeState {
        &mut self.state.scopes[place.0].nodes[place.1]
    }

    fn job_count(&self) -> usize {
        self.state.jobs.len() + self.state.scopes.len()
    }
}

/// `strategy` (M10).
pub(super) fn strategy_context(node: &NodeState, index: usize, total: usize) -> Map<String, Json> {
    let max_parallel = if node.max_parallel == 0 { total } else { node.max_parallel };
    [
        ("fail-fast", json!(node.fail_fast)),
        ("job-index", json!(index)),
        ("job-total", json!(total)),
        ("max-parallel", json!(max_parallel)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn result_json(node: &NodeState) -> Json {
    json!({
        "result": node.result.map_or("", Conclusion::as_result),
        "outputs": node.outputs,
    })
}

fn result_value(node: &NodeState) -> Value {
    Value::from_json(&result_json(node))
}

pub(super) fn failure_annotation(message: String) -> Annotation {
    Annotation {
        level: AnnotationLevel::Failure,
        message,
        title: None,
        file: None,
        line: None,
        end_line: None,
        column: None,
        end_column: None,
        step: None,
    }
}
