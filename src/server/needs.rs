//! Which box of the graph needs which, across called workflows: a job that needs a call needs the last jobs inside it,
//! and the first jobs inside need what the call needs.

use std::collections::HashMap;

use crate::run::{RunSpec, RunState};
use crate::workflow::{self, model::Workflow};

use super::source::plain_text;
use super::view::PendingView;

/// Box → boxes it needs, and the boxes of which nothing is made yet.
#[derive(Debug, Default)]
pub(super) struct Needs {
    of: HashMap<String, Vec<String>>,
    pub(super) pending: Vec<PendingView>,
}

/// The name of a box: a job of one workflow file in execution.
pub(super) fn key(scope: usize, node: &str) -> String {
    format!("{scope}:{node}")
}

impl Needs {
    pub(super) fn of(&self, key: &str) -> Vec<String> {
        self.of.get(key).cloned().unwrap_or_default()
    }
}

/// Reads the needs out of the files an attempt was made of.
pub(super) fn of(spec: &RunSpec, graph: &RunState) -> Needs {
    let models: Vec<Option<Workflow>> = graph
        .scopes
        .iter()
        .map(|scope| match &scope.workflow {
            None => workflow::parse(&spec.workflow_path, &spec.workflow_text).0,
            Some(key) => spec.called.get(key).and_then(|called| workflow::parse(key, &called.text).0),
        })
        .collect();
    let mut needs = HashMap::new();
    for (scope, model) in models.iter().enumerate() {
        for node in model.iter().flat_map(|model| model.jobs.keys()) {
            let mut found = Vec::new();
            before(graph, &models, scope, node, &mut found, 0);
            found.dedup();
            needs.insert(key(scope, node), found);
        }
    }
    let mut pending = Vec::new();
    for (scope, state) in graph.scopes.iter().enumerate().filter(|_| graph.conclusion.is_none()) {
        for (node, _) in state.nodes.iter().filter(|(_, node)| !node.expanded && node.result.is_none()) {
            let key = key(scope, node);
            let job = models.get(scope).and_then(Option::as_ref).and_then(|model| model.jobs.get(node));
            // A name with an expression is known when it is expanded.
            let name = job.and_then(|job| job.name.as_ref()).and_then(plain_text).unwrap_or_else(|| node.clone());
            let needs = needs.get(&key).cloned().unwrap_or_default();
            pending.push(PendingView { key, name, needs });
        }
    }
    Needs { of: needs, pending }
}

/// GitHub allows ten levels of calls (R6); a record cannot lead deeper.
const DEPTH: usize = 12;

fn before(
    graph: &RunState,
    models: &[Option<Workflow>],
    scope: usize,
    node: &str,
    found: &mut Vec<String>,
    depth: usize,
) {
    let Some(job) = models.get(scope).and_then(Option::as_ref).and_then(|model| model.jobs.get(node)) else { return };
    if depth > DEPTH {
        return;
    }
    if job.needs.is_empty()
        && let Some(caller) = graph.scopes.get(scope).and_then(|scope| scope.caller.as_ref())
    {
        return before(graph, models, caller.scope, &caller.node, found, depth + 1);
    }
    for need in &job.needs {
        ends(graph, models, scope, need, found, depth + 1);
    }
}

/// The boxes with which a job ends: itself, or the last ones inside a call.
fn ends(
    graph: &RunState,
    models: &[Option<Workflow>],
    scope: usize,
    node: &str,
    found: &mut Vec<String>,
    depth: usize,
) {
    let legs = graph.scopes.get(scope).and_then(|scope| scope.nodes.get(node)).map(|node| node.legs.as_slice());
    let inner: Vec<usize> = legs.unwrap_or_default().iter().filter_map(|leg| leg.scope).collect();
    if inner.is_empty() || depth > DEPTH {
        found.push(key(scope, node));
        return;
    }
    for inner in inner {
        let Some(model) = models.get(inner).and_then(Option::as_ref) else { continue };
        let needed =
            |name: &String| model.jobs.values().any(|job| job.needs.iter().any(|need| need.eq_ignore_ascii_case(name)));
        for last in model.jobs.keys().filter(|name| !needed(name)) {
            ends(graph, models, inner, last, found, depth + 1);
        }
    }
}
