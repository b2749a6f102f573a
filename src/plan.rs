//! Which workflows an event starts and what jobs they hold: selection, graph, matrix, reusable workflows, permissions, names.
//!
//! A [`Plan`] is made from texts and an event alone. Jobs stay templates in it: matrices, names, labels and conditions may
//! read results of other jobs and are evaluated by the run, with the functions of [`fields`] and [`matrix`].
//!
//! Pure: no I/O, no clock, no async.

pub mod calls;
pub mod fields;
mod files;
pub mod forecast;
pub mod matrix;
pub mod outline;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::diagnostic::Diagnostic;
use crate::event::Event;
use crate::event::context::{RunFacts, github_context};
use crate::expr::{NoFunctions, Object, Scope, Value};
use crate::workflow;
use crate::workflow::model::Workflow;
use calls::{CallTarget, CalledWorkflow};
use fields::Concurrency;
pub use files::Files;

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Material<'a> {
    pub event: &'a Event,
    /// For the `github` context; its `workflow` is filled in from the file.
    pub facts: RunFacts<'a>,
    pub workflow_path: &'a str,
    pub workflow_text: &'a str,
    /// By [`CallTarget::key`].
    pub called: &'a BTreeMap<String, CalledWorkflow>,
    pub inputs: &'a Map<String, Json>,
    pub vars: &'a Map<String, Json>,
    /// Only this job of the triggered workflow, and those it needs.
    pub only: Option<&'a str>,
    /// Files of other repositories that are not in `called` stay unread: the plan is to be looked at, not to be run.
    pub partial: bool,
    /// Files that were read before.
    pub files: &'a Files,
}

/// A workflow and all that it calls, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub workflow: Arc<Workflow>,
    /// By [`CallTarget::key`].
    pub called: BTreeMap<String, Arc<Workflow>>,
    /// The run's title (S1).
    pub title: String,
    pub concurrency: Option<Concurrency>,
    pub github: Map<String, Json>,
    /// The same as values, made once: payloads may be large.
    github_value: Value,
    vars: Value,
}

/// Why no job of a workflow may run: what GitHub calls a startup failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// One line per fault, with file, line and column where there are any.
    pub message: String,
    /// The faults of the files themselves.
    pub diagnostics: Vec<Diagnostic>,
}

impl Refused {
    fn because(message: impl Into<String>) -> Self {
        Self { message: message.into(), diagnostics: Vec::new() }
    }

    fn from_diagnostics(diagnostics: Vec<Diagnostic>) -> Self {
        let lines = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(|diagnostic| {
            let place = diagnostic
                .span
                .map_or_else(String::new, |span| format!(" (Line: {}, Col: {})", span.start.line, span.start.column));
            format!("{}{place}: {}", diagnostic.path, diagnostic.message)
        });
        Self { message: lines.collect::<Vec<_>>().join("\n"), diagnostics }
    }
}

/// Leaves a job and its transitive needs.
fn keep_only(workflow: &mut Workflow, only: &str) -> Result<(), Refused> {
    let find = |id: &str| workflow.jobs.keys().find(|key| key.eq_ignore_ascii_case(id)).cloned();
    let Some(first) = find(only) else {
        let known: Vec<&str> = workflow.jobs.keys().map(String::as_str).collect();
        return Err(Refused::because(format!("there is no job '{only}'; the workflow has {}", known.join(", "))));
    };
    let mut kept = vec![first];
    let mut next = 0;
    while let Some(id) = kept.get(next).cloned() {
        next += 1;
        for need in &workflow.jobs[&id].needs {
            if let Some(need) = find(need).filter(|need| !kept.contains(need)) {
                kept.push(need);
            }
        }
    }
    workflow.jobs.retain(|id, _| kept.contains(id));
    Ok(())
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl Plan {
    /// Reads the files, and evaluates what belongs to the run as a whole.
    ///
    /// # Errors
    /// A file is refused, a called file is missing or cannot be called, the run's name or group cannot be evaluated.
    pub fn new(material: &Material<'_>) -> Result<Self, Refused> {
        let mut workflow = material.files.read(material.workflow_path, material.workflow_text)?;
        if let Some(only) = material.only {
            keep_only(Arc::make_mut(&mut workflow), only)?;
        }
        let called = calls::load(&workflow, material)?;
        let facts = RunFacts { workflow: workflow.display_name(), ..material.facts.clone() };
        let github = github_context(material.event, &facts);
        let github_value = Value::from_map(&github);
        let vars = Value::from_map(material.vars);
        let mut plan = Self { workflow, called, title: String::new(), concurrency: None, github, github_value, vars };
        let contexts = plan.contexts(material.inputs);
        let scope = Scope { contexts: &contexts, functions: &NoFunctions };
        plan.title = match &plan.workflow.run_name {
            Some(token) => {
                let name = token
                    .evaluate(&scope)
                    .map_err(|error| Refused::because(format!("Error when evaluating 'run-name'. {error}")))?;
                name.to_display_string()
            }
            None => String::new(),
        };
        if plan.title.trim().is_empty() {
            let title = material.event.title();
            plan.title = title.unwrap_or_else(|| plan.workflow.display_name().to_owned());
        }
        plan.concurrency = match &plan.workflow.concurrency {
            Some(token) => fields::concurrency(token, &scope)
                .map_err(|error| Refused::because(format!("Error when evaluating 'concurrency'. {error}")))?,
            None => None,
        };
        Ok(plan)
    }

    /// The triggered workflow (`None`) or a called one.
    ///
    /// # Panics
    /// Never for keys that came from this plan, unless it is partial.
    #[must_use]
    pub fn file(&self, key: Option<&str>) -> &Workflow {
        match key {
            None => &self.workflow,
            Some(key) => self.called.get(key).expect("every call was loaded when the plan was made"),
        }
    }

    /// The contexts every expression of a workflow may read: `github`, `inputs`, `vars`.
    #[must_use]
    pub fn contexts(&self, inputs: &Map<String, Json>) -> Object {
        let mut contexts = Object::new();
        contexts.insert("github", self.github_value.clone());
        contexts.insert("inputs", Value::from_map(inputs));
        contexts.insert("vars", self.vars.clone());
        contexts
    }

    /// The file that a call in this file names.
    ///
    /// # Errors
    /// The reference has no known form.
    pub fn target(&self, from: Option<&str>, uses: &str) -> Result<CallTarget, String> {
        calls::resolve(uses, from)
    }
}

/// Reads a workflow file.
///
/// # Errors
/// Its diagnostics.
pub fn parse(path: &str, text: &str) -> Result<Workflow, Refused> {
    match workflow::parse(path, text) {
        (Some(workflow), _) => Ok(workflow),
        (None, diagnostics) => Err(Refused::from_diagnostics(diagnostics)),
    }
}
