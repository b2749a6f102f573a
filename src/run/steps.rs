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
    Ok(value.is_truthy())
}

/// The same, and how it came about, for debug logs (H8).
pub fn should_run_traced(
    condition: &Expression,
    contexts: &Object,
    functions: &StepFunctions<'_>,
) -> (Result<bool, EvaluationError>, Vec<String>) {
    let (value, lines) = condition.evaluate_traced(&Scope { contexts, functions });
    (value.map(|value| value.is_truthy()), lines)
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

    /// The outputs of a step.
    pub fn outputs_of(&self, step: &str) -> impl Iterator<Item = (&str, &str)> {
        let found = self.steps.iter().find(|(id, _)| id.eq_ignore_ascii_case(step));
        let outputs = found.into_iter().flat_map(|(_, entry)| &entry.outputs);
        outputs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
    }

    fn entry(&mut self, step: &str) -> &mut StepEntry {
        let known = self.steps.keys().find(|id| id.eq_ignore_ascii_case(step)).cloned();
        self.steps.entry(known.unwrap_or_else(|| step.to_owned())).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{JobStatus, StepFunctions, StepsContext, conclude, should_run};
    use crate::expr::Names;
    use crate::expr::{EvaluationError, Object, Value, condition};
    use crate::run::Conclusion;

    fn status(conclusions: &[Conclusion]) -> JobStatus {
        let mut status = JobStatus::default();
        conclusions.iter().for_each(|&conclusion| status.record(conclusion));
        status
    }

    fn runs(text: &str, job: JobStatus, action: Option<JobStatus>) -> Result<bool, EvaluationError> {
        let hashes = BTreeMap::new();
        let condition = condition::parse(text, &Names::ANY).expect("a condition");
        should_run(&condition, &Object::new(), &StepFunctions { job, action, hashes: &hashes })
    }

    #[test]
    fn i2_status_of_the_job() {
        let (green, red) = (status(&[Conclusion::Success, Conclusion::Skipped]), status(&[Conclusion::Failure]));
        let mut cancelled = red;
        cancelled.cancel();
        for (text, on_green, on_red, on_cancel) in [
            ("", true, false, false),
            ("success()", true, false, false),
            ("failure()", false, true, false),
            ("always()", true, true, true),
            ("cancelled()", false, false, true),
            ("!cancelled()", true, true, false),
            ("'failure()' == ''", false, false, false),
            ("true", true, false, false),
        ] {
            assert_eq!(runs(text, green, None), Ok(on_green), "{text} when green");
            assert_eq!(runs(text, red, None), Ok(on_red), "{text} when red");
            assert_eq!(runs(text, cancelled, None), Ok(on_cancel), "I5: {text} when cancelled");
        }
    }

    #[test]
    fn i3_inside_a_composite_the_action_counts() {
        let (green, red) = (JobStatus::default(), status(&[Conclusion::Failure]));
        assert_eq!(runs("success()", red, Some(green)), Ok(true));
        assert_eq!(runs("failure()", green, Some(red)), Ok(true));
        let mut cancelled = JobStatus::default();
        cancelled.cancel();
        assert_eq!(runs("cancelled()", cancelled, Some(green)), Ok(true));
        assert_eq!(runs("success()", cancelled, Some(green)), Ok(false));
    }

    #[test]
    fn i4_a_condition_that_raises_is_an_error() {
        assert!(matches!(runs("fromJSON('not json')", JobStatus::default(), None), Err(EvaluationError::Failed(_))));
        // Even where the step would have been skipped, unless the operator never came to it.
        assert_eq!(runs("fromJSON('not json')", status(&[Conclusion::Failure]), None), Ok(false));
        assert!(runs("always() && fromJSON('x')", status(&[Conclusion::Failure]), None).is_err());
    }

    #[test]
    fn s9_i6_continue_on_error() {
        for (outcome, forgiven, expect) in [
            (Conclusion::Success, true, Conclusion::Success),
            (Conclusion::Failure, true, Conclusion::Success),
            (Conclusion::Failure, false, Conclusion::Failure),
            (Conclusion::Cancelled, true, Conclusion::Cancelled),
            (Conclusion::Skipped, true, Conclusion::Skipped),
        ] {
            assert_eq!(conclude(outcome, forgiven), expect);
        }
    }

    #[test]
    fn x10_steps_context() {
        let mut steps = StepsContext::default();
        steps.set_output("Build", "Path", "a");
        steps.set_output("build", "path", "b");
        assert_eq!(steps.to_json(), json!({ "Build": { "outputs": { "Path": "b" } } }));
        steps.finish("build", Conclusion::Failure, Conclusion::Success);
        steps.finish("later", Conclusion::Skipped, Conclusion::Skipped);
        assert_eq!(
            Value::from_json(&steps.to_json()).to_json(),
            json!({
                "Build": { "outputs": { "Path": "b" }, "outcome": "failure", "conclusion": "success" },
                "later": { "outputs": {}, "outcome": "skipped", "conclusion": "skipped" },
            })
        );
    }
}
