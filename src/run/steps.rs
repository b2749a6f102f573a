//! The state of the steps inside one job: which run, how they conclude, what the `steps` context holds. The runner
//! keeps one [`JobStatus`] and one [`StepsContext`] per job, and one more of each per composite action.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::conclusion::Conclusion;
use crate::expr::{EvaluationError, Expression, Functions, Object, Scope, StatusFunction};

/// How far a job, or a composite action, has come: what `job.status` and `github.action_status` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    failed: bool,
    cancelled: bool,
}

impl JobStatus {
    /// Takes the conclusion (after continue-on-error) of a step that ended. Skipped steps change nothing.
    pub fn record(&mut self, conclusion: Conclusion) {
        match conclusion.as_result() {
            "failure" => self.failed = true,
            "cancelled" => self.cancelled = true,
            _ => {}
        }
    }

    /// The job was cancelled by someone, by fail-fast or by its time limit.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// Whether the job was cancelled.
    #[must_use]
    pub fn is_cancelled(self) -> bool {
        self.cancelled
    }

    /// The conclusion if nothing more happened. A cancel outweighs a failure, as when the runner merges results.
    #[must_use]
    pub fn conclusion(self) -> Conclusion {
        match self {
            Self { cancelled: true, .. } => Conclusion::Cancelled,
            Self { failed: true, .. } => Conclusion::Failure,
            Self { .. } => Conclusion::Success,
        }
    }

    /// `success`, `failure` or `cancelled`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.conclusion().as_str()
    }
}

/// What status functions and `hashFiles` answer to a step (I2, I3).
pub struct StepFunctions<'a> {
    /// The status of the job.
    pub job: JobStatus,
    /// The status of the composite action the step is a main step of; `None` for steps of the job itself and for
    /// every `pre` and `post`, which read the job's status (I3).
    pub action: Option<JobStatus>,
    /// Hashes that the host has computed already, by patterns.
    pub hashes: &'a BTreeMap<Vec<String>, String>,
}

impl Functions for StepFunctions<'_> {
    fn status(&self, function: StatusFunction, jobs: &[String]) -> Result<bool, EvaluationError> {
        if !jobs.is_empty() {
            return Err(EvaluationError::Failed("status functions take no arguments in a step".to_owned()));
        }
        // A cancelled job is neither success nor failure, inside a composite too (I5).
        let status = if self.job.cancelled { self.job } else { self.action.unwrap_or(self.job) };
        Ok(match function {
            StatusFunction::Always => true,
            StatusFunction::Cancelled => self.job.cancelled,
            StatusFunction::Success => status.conclusion() == Conclusion::Success,
            StatusFunction::Failure => status.conclusion() == Conclusion::Failure,
        })
    }

    fn hash_files(&self, patterns: &[String]) -> Result<String, EvaluationError> {
        match self.hashes.get(patterns) {
            Some(hash) => Ok(hash.clone()),
            None => Err(EvaluationError::HashFiles(patterns.to_vec())),
        }
    }
}

/// Whether a step with this condition runs now. Also asked again for the running step when a cancel arrives (Z1).
///
/// # Errors
/// A condition that raises fails its step, even when it would have been skipped (I4); or files must be hashed first.
pub fn should_run(
    condition: &Expression,
    contexts: &Object,
    functions: &StepFunctions<'_>,
) -> Result<bool, EvaluationError> {
    let value = condition.evaluate(&Scope { contexts, functions })?;
    Ok(is_truthy(&value))
}

/// The conclusion of a step: its outcome, where continue-on-error turns a failure into success (S9, I6). A cancelled
/// step stays cancelled.
#[must_use]
pub fn conclude(outcome: Conclusion, continue_on_error: bool) -> Conclusion {
    if continue_on_error && outcome.as_result() == "failure" { Conclusion::Success } else { outcome }
}

/// The `steps` context of a job or of a composite action (X10). A step is absent until it has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepsContext {
    steps: IndexMap<String, StepEntry>,
}

/// One step of the `steps` context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct StepEntry {
    outputs: Map<String, Json>,
    outcome: Option<Conclusion>,
    conclusion: Option<Conclusion>,
}

impl StepsContext {
    /// Sets an output. Names compare without case; the last value stays, under the first spelling.
    pub fn set_output(&mut self, step: &str, name: &str, value: &str) {
        let outputs = &mut self.entry(step).outputs;
        let known = outputs.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        outputs.insert(known.unwrap_or_else(|| name.to_owned()), Json::from(value));
    }

    /// The step ended: its outcome before, its conclusion after continue-on-error (I6).
    pub fn finish(&mut self, step: &str, outcome: Conclusion, conclusion: Conclusion) {
        let entry = self.entry(step);
        entry.outcome = Some(outcome);
        entry.conclusion = Some(conclusion);
    }

    /// The context as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let steps = self.steps.iter().map(|(id, entry)| {
            let mut object = Map::new();
            object.insert("outputs".to_owned(), Json::Object(entry.outputs.clone()));
            if let Some(outcome) = entry.outcome {
                object.insert("outcome".to_owned(), json!(outcome.as_result()));
            }
            if let Some(conclusion) = entry.conclusion {
                object.insert("conclusion".to_owned(), json!(conclusion.as_result()));
            }
            (id.clone(), Json::Object(object))
        });
        Json::Object(steps.collect())
    }

    fn entry(&mut self, step: &str) -> &mut StepEntry {
        let known = self.steps.keys().find(|id| id.eq_ignore_ascii_case(step)).cloned();
        self.steps.entry(known.unwrap_or_else(|| step.to_owned())).or_default()
    }
}

fn is_truthy(value: &crate::expr::Value) -> bool {
    use crate::expr::Value;
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Number(number) => *number != 0.0 && !number.is_nan(),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
