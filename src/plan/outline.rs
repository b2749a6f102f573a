//! The jobs of a plan before anything ran: what `towline plan` shows.
//!
//! Whatever depends on results of other jobs is shown as it is written; the rest is evaluated.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::forecast::forecast;
use super::matrix::{Combination, strategy};
use super::{Plan, calls, fields};
use crate::expr::{NoFunctions, Object, Scope, Value};
use crate::workflow::model::{Job, JobBody};
use crate::workflow::token::Token;

/// More jobs than this are not listed: calls may multiply.
const MAX_LISTED: usize = 10_000;

/// One job, or one leg of its matrix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedJob {
    /// `caller/callee`.
    pub id: String,
    /// `caller / callee (a, b)`.
    pub name: String,
    /// Ids as in [`PlannedJob::id`].
    pub needs: Vec<String>,
    /// Labels; expressions as written where they depend on results. Empty for calls.
    pub runs_on: Vec<String>,
    /// The leg's values; null without a matrix, or when it depends on results.
    pub matrix: Json,
    /// Whether its legs are only known once the jobs it needs have ended.
    pub dynamic: bool,
    /// The condition in force.
    #[serde(rename = "if")]
    pub condition: String,
    /// Whether it runs if everything that runs succeeds; null when that depends on outputs.
    pub runs: Option<bool>,
    /// The workflow that it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// Whether that workflow was left unread: it lies in another repository, and its jobs are not listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// What cannot be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Lists the jobs in the order of the files; those of a called workflow follow their call.
#[must_use]
pub fn outline(plan: &Plan, inputs: &Map<String, Json>) -> Vec<PlannedJob> {
    let mut jobs = Vec::new();
    list(plan, None, inputs, "", "", &mut jobs);
    jobs
}

fn list(
    plan: &Plan,
    key: Option<&str>,
    inputs: &Map<String, Json>,
    path: &str,
    callers: &str,
    jobs: &mut Vec<PlannedJob>,
) {
    let contexts = plan.contexts(inputs);
    let forecasts = forecast(plan, key, inputs);
    for job in plan.file(key).jobs.values() {
        let strategy_token = job.strategy.as_ref();
        let dynamic = strategy_token.is_some_and(|token| reads(token, "needs"));
        let (legs, has_matrix, error) = match strategy_token.filter(|_| !dynamic) {
            None => (vec![Combination::default()], false, None),
            Some(token) => {
                let evaluated = evaluate(token, &contexts).and_then(|value| strategy(&value));
                match evaluated {
                    Ok(strategy) => (strategy.legs, strategy.has_matrix, None),
                    Err(error) => (vec![Combination::default()], false, Some(error)),
                }
            }
        };
        let total = legs.len();
        for (index, leg) in legs.iter().enumerate() {
            if jobs.len() >= MAX_LISTED {
                return;
            }
            let matrix = if has_matrix { leg.values.to_json() } else { Json::Null };
            let mut contexts = contexts.clone();
            contexts.insert("matrix", Value::from_json(&matrix));
            contexts
                .insert("strategy", Value::from_json(&serde_json::json!({ "job-index": index, "job-total": total })));
            let depends = |token: &Token| reads(token, "needs") || dynamic && reads(token, "matrix");
            let (name, name_error) = match &job.name {
                Some(token) if depends(token) => (written(token), None),
                _ => match fields::leg_name(job, leg, &contexts) {
                    Ok(name) => (name, None),
                    Err(error) => (job.id.clone(), Some(error)),
                },
            };
            let (runs_on, labels_error, uses) = match &job.body {
                JobBody::Call { uses, .. } => (Vec::new(), None, Some(uses.clone())),
                JobBody::Steps { runs_on, .. } if depends(runs_on) => (vec![written(runs_on)], None, None),
                JobBody::Steps { .. } => match fields::job_fields(job, &contexts) {
                    Ok(fields) if fields.labels.is_empty() => (fields.group.into_iter().collect(), None, None),
                    Ok(fields) => (fields.labels, None, None),
                    Err(error) => (Vec::new(), Some(error), None),
                },
            };
            let shown = format!("{callers}{name}");
            let target = uses.as_ref().and_then(|uses| plan.target(key, uses).ok()).map(|target| target.key());
            jobs.push(PlannedJob {
                id: format!("{path}{}", job.id),
                name: shown.clone(),
                needs: job.needs.iter().map(|id| format!("{path}{id}")).collect(),
                runs_on,
                matrix,
                dynamic,
                condition: job.condition.source().to_owned(),
                runs: forecasts.get(&job.id).and_then(|forecast| forecast.verdict.runs()),
                uses,
                unread: target.is_some_and(|target| !plan.called.contains_key(&target)),
                error: error.clone().or(name_error).or(labels_error),
            });
            called(plan, key, job, &contexts, &format!("{path}{}/", job.id), &format!("{shown} / "), jobs);
        }
    }
}

/// The jobs of the workflow that a job calls, with its inputs as far as they are known.
fn called(
    plan: &Plan,
    key: Option<&str>,
    job: &Job,
    contexts: &Object,
    path: &str,
    callers: &str,
    jobs: &mut Vec<PlannedJob>,
) {
    let JobBody::Call { uses, with, .. } = &job.body else { return };
    let Ok(target) = plan.target(key, uses) else { return };
    let key = target.key();
    let Some(workflow) = plan.called.get(&key) else { return };
    let interface = workflow.on.call.clone().unwrap_or_default();
    let inputs = calls::inputs(&interface, with.as_ref(), contexts, &plan.contexts(&Map::new())).unwrap_or_default();
    list(plan, Some(&key), &inputs, path, callers, jobs);
}

fn evaluate(token: &Token, contexts: &Object) -> Result<Value, String> {
    token.evaluate(&Scope { contexts, functions: &NoFunctions }).map_err(|error| error.to_string())
}

/// Whether any expression of a value reads this context.
#[must_use]
pub fn reads(token: &Token, context: &str) -> bool {
    match token {
        Token::Expression(expression) => expression.reads_context(context),
        Token::Sequence(items) => items.iter().any(|item| reads(item, context)),
        Token::Mapping(pairs) => pairs.iter().any(|(key, value)| reads(key, context) || reads(value, context)),
        _ => false,
    }
}

/// A value as it stands in the file, expressions in their braces.
fn written(token: &Token) -> String {
    match token {
        Token::Expression(expression) => format!("${{{{ {} }}}}", expression.source()),
        Token::String(text) => text.clone(),
        Token::Number(number) => Value::Number(*number).to_display_string(),
        Token::Bool(value) => value.to_string(),
        Token::Null | Token::Insert => String::new(),
        Token::Sequence(items) => items.iter().map(written).collect::<Vec<_>>().join(", "),
        Token::Mapping(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", written(key), written(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests;
