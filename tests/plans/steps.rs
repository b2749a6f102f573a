//! Step conditions, continue-on-error, job result and the `steps` context (§9).

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use towline::expr::{EvaluationError, Names, Object, Value, condition};
use towline::run::Conclusion;
use towline::run::steps::{JobStatus, StepFunctions, StepsContext, conclude, should_run};

use super::{all_cases, known, same};

fn conclusion(word: &str) -> Conclusion {
    serde_json::from_value(json!(word)).expect("a conclusion")
}

#[test]
fn i1_i6_steps_of_a_job() {
    let Some(data) = known("job-execution", "steps-runner.json") else { return };
    all_cases("job-execution", data["cases"].as_array().expect("cases"), |case| {
        let mut job = JobStatus::default();
        if case["job_status"] == "cancelled" || case["cancelled"] == true {
            job.cancel();
        }
        let mut steps = StepsContext::default();
        let mut ran = Vec::new();
        let mut last = None;
        for (index, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
            let id = step["id"].as_str().map_or_else(|| format!("step{index}"), str::to_owned);
            let hashes = BTreeMap::new();
            let functions = StepFunctions { job, action: None, hashes: &hashes };
            let contexts: Object = [("steps", Value::from_json(&steps.to_json()))].into_iter().collect();
            let text = step["if"].as_str().unwrap_or_default();
            let condition = condition::parse(text, &Names::ANY).map_err(|error| error.to_string())?;
            let (runs, outcome) = match should_run(&condition, &contexts, &functions) {
                Ok(true) => (true, conclusion(step["outcome"].as_str().expect("an outcome"))),
                Ok(false) => (false, Conclusion::Skipped),
                Err(EvaluationError::Failed(_)) => (false, Conclusion::Failure),
                Err(error) => return Err(error.to_string()),
            };
            let concluded = conclude(outcome, step["continue-on-error"] == true);
            job.record(concluded);
            steps.finish(&id, outcome, concluded);
            ran.push(json!(runs));
            last = Some((outcome, concluded));
        }
        if !case["steps_that_run"].is_null() {
            same("steps_that_run", &Json::from(ran), &case["steps_that_run"])?;
        }
        if let Some(result) = case["job_result"].as_str() {
            same("job_result", job.as_str(), result)?;
        }
        let (outcome, concluded) = last.expect("a case has steps");
        if let Some(expect) = case["outcome"].as_str() {
            same("outcome", outcome.as_str(), expect)?;
        }
        if let Some(expect) = case["conclusion"].as_str() {
            same("conclusion", concluded.as_str(), expect)?;
        }
        for (id, expect) in case["steps_context"].as_object().into_iter().flatten() {
            for key in ["outcome", "conclusion"] {
                same(&format!("steps.{id}.{key}"), &steps.to_json()[id][key], &expect[key])?;
            }
        }
        Ok(())
    });
}
