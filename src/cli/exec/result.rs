//! The JSON object at the end of `towline exec --json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use crate::engine::record::{JobRecord, RunRecord};
use crate::id::JobId;
use crate::run::report::{StepKind, StepState};
use crate::run::{Conclusion, RunState};

/// The result of a run in the form that scripts rely on.
pub(super) fn json(
    run: &RunRecord,
    state: Option<&RunState>,
    jobs: &BTreeMap<JobId, JobRecord>,
    now: Timestamp,
) -> Json {
    let mut listed: Vec<Json> = jobs.values().map(|job| job_json(job, state)).collect();
    listed.extend(state.into_iter().flat_map(calls));
    json!({
        "conclusion": run.conclusion.map(Conclusion::as_str),
        "run_id": run.id.0,
        "duration_ms": milliseconds(Some(run.created_at), Some(run.completed_at.unwrap_or(now))),
        "jobs": listed,
    })
}

/// The result when the event started nothing.
pub(super) fn nothing(reason: &str) -> Json {
    json!({ "conclusion": "success", "run_id": null, "duration_ms": 0, "jobs": [], "reason": reason })
}

fn job_json(record: &JobRecord, state: Option<&RunState>) -> Json {
    let job = &record.state;
    let leg = state.and_then(|state| state.scopes.get(job.scope)?.nodes.get(&job.node)?.legs.get(job.leg));
    // What the jobs that need it see: a failure that was allowed is a success (S9).
    let conclusion = leg.and_then(|leg| leg.result).or(job.conclusion);
    let steps: Vec<Json> = job.steps.iter().filter(|step| step.kind == StepKind::Main).map(step_json).collect();
    json!({
        "id": job.path,
        "name": job.name,
        "conclusion": conclusion.map(Conclusion::as_str),
        "outputs": job.outputs,
        "matrix": leg.map_or(Json::Null, |leg| leg.matrix.clone()),
        "host": job.host,
        "duration_ms": milliseconds(job.started_at, job.completed_at),
        "reason": job.reason,
        "steps": steps,
    })
}

fn step_json(step: &StepState) -> Json {
    json!({
        "id": step.id,
        "name": step.name,
        "outcome": step.outcome.map(Conclusion::as_str),
        "conclusion": step.conclusion.map(Conclusion::as_str),
        "exit_code": step.exit_code,
        "duration_ms": milliseconds(step.started_at, step.completed_at),
    })
}

/// Calls of reusable workflows, whose results are those of the jobs inside (R8).
fn calls(state: &RunState) -> Vec<Json> {
    let callers = state.scopes.iter().filter_map(|scope| scope.caller.as_ref());
    let mut listed: Vec<(usize, &str)> = callers.map(|caller| (caller.scope, caller.node.as_str())).collect();
    listed.dedup();
    let mut calls = Vec::new();
    for (scope, node) in listed {
        let Some(found) = state.scopes.get(scope).and_then(|scope| scope.nodes.get(node)) else { continue };
        let path = path(state, scope, node);
        calls.push(json!({
            "id": path,
            "name": path,
            "conclusion": found.result.map(Conclusion::as_str),
            "outputs": found.outputs,
            "steps": [],
        }));
    }
    calls
}

fn path(state: &RunState, scope: usize, node: &str) -> String {
    match state.scopes.get(scope).and_then(|scope| scope.caller.as_ref()) {
        Some(caller) => format!("{}/{node}", path(state, caller.scope, &caller.node)),
        None => node.to_owned(),
    }
}

fn milliseconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Json {
    match (from, to) {
        (Some(from), Some(to)) => json!(to.duration_since(from).as_millis().max(0)),
        _ => Json::Null,
    }
}
