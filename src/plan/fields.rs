//! Fields of a job that GitHub's service evaluates before a runner gets it: labels, times, environment, groups, names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::matrix::{Combination, boolean};
use crate::expr::{EvaluationError, Functions, NoFunctions, Object, Scope, StatusFunction, Value};
use crate::workflow::LONGEST_GROUP;
use crate::workflow::model::{Job, JobBody};
use crate::workflow::token::Token;

/// Minutes a job may run when it does not say (S7).
pub const TIMEOUT: f64 = 360.0;
/// Minutes for `always()` and post steps after a cancel when a job does not say (S8).
pub const CANCEL_TIMEOUT: f64 = 5.0;

/// A concurrency group, evaluated (Q1–Q4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// As written; compares without case within the repository.
    pub group: String,
    pub cancel_in_progress: bool,
    pub queue: ConcurrencyQueue,
}

/// How many may wait for a concurrency group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcurrencyQueue {
    /// One; a newcomer cancels it (Q2).
    #[default]
    Single,
    /// A hundred, in order (Q4).
    Max,
}

/// The environment of a job (G1); its address is evaluated when the job ends.
#[derive(Clone, Debug)]
pub struct Environment {
    pub name: String,
    pub url: Option<Token>,
    pub deployment: bool,
}

/// What the queue and the runner must know of a job.
#[derive(Clone, Debug)]
pub struct JobFields {
    pub labels: Vec<String>,
    pub group: Option<String>,
    pub timeout_minutes: f64,
    pub cancel_timeout_minutes: f64,
    pub continue_on_error: bool,
    pub environment: Option<Environment>,
    pub concurrency: Option<Concurrency>,
}

/// Evaluates the fields of one leg. `contexts` holds github, inputs, vars, needs, strategy and matrix (X3).
///
/// # Errors
/// A sentence that names the field.
pub fn job_fields(job: &Job, contexts: &Object) -> Result<JobFields, String> {
    let scope = Scope { contexts, functions: &NoFunctions };
    let in_field =
        |field: &str, error: String| format!("Error when evaluating '{field}' for job '{}'. {error}", job.id);
    let minutes = |token: &Option<Token>, field: &str, default: f64| match token {
        None => Ok(default),
        Some(token) => {
            let value = token.evaluate(&scope).map_err(|error| in_field(field, error.to_string()))?;
            match value.to_number() {
                _ if matches!(value, Value::Null) => Ok(default),
                number if number.is_nan() || number < 0.0 => {
                    Err(in_field(field, format!("'{}' is not a number of minutes", value.to_display_string())))
                }
                number => Ok(number),
            }
        }
    };
    let (labels, group) = match &job.body {
        JobBody::Call { .. } => (Vec::new(), None),
        JobBody::Steps { runs_on, .. } => {
            let value = runs_on.evaluate(&scope).map_err(|error| in_field("runs-on", error.to_string()))?;
            labels(&value).map_err(|error| in_field("runs-on", error))?
        }
    };
    Ok(JobFields {
        labels,
        group,
        timeout_minutes: minutes(&job.timeout_minutes, "timeout-minutes", TIMEOUT)?,
        cancel_timeout_minutes: minutes(&job.cancel_timeout_minutes, "cancel-timeout-minutes", CANCEL_TIMEOUT)?,
        continue_on_error: match &job.continue_on_error {
            None => false,
            Some(token) => {
                let value = token.evaluate(&scope).map_err(|error| in_field("continue-on-error", error.to_string()))?;
                match value {
                    Value::Null => false,
                    value => boolean(&value).ok_or_else(|| {
                        in_field("continue-on-error", format!("'{}' is not a boolean", value.to_display_string()))
                    })?,
                }
            }
        },
        environment: match &job.environment {
            None => None,
            Some(token) => environment(token, &scope).map_err(|error| in_field("environment", error))?,
        },
        concurrency: match &job.concurrency {
            None => None,
            Some(token) => concurrency(token, &scope).map_err(|error| in_field("concurrency", error))?,
        },
    })
}

/// `runs-on`: labels and group (S5).
fn labels(value: &Value) -> Result<(Vec<String>, Option<String>), String> {
    let label = |value: &Value| match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Value::Number(_) => Ok(value.to_display_string()),
        other => Err(format!("a label must be a non-empty string, not '{}'", other.to_display_string())),
    };
    let list = |value: &Value| match value {
        Value::Array(items) => items.iter().map(label).collect::<Result<Vec<_>, _>>(),
        Value::Null => Ok(Vec::new()),
        other => Ok(vec![label(other)?]),
    };
    match value {
        Value::Object(object) => {
            let labels = object.get("labels").map_or_else(|| Ok(Vec::new()), list)?;
            let group = object.get("group").map(Value::to_display_string).filter(|group| !group.is_empty());
            if labels.is_empty() && group.is_none() {
                return Err("it names neither a group nor labels".to_owned());
            }
            Ok((labels, group))
        }
        other => match list(other)? {
            labels if labels.is_empty() => Err("it names no labels".to_owned()),
            labels => Ok((labels, None)),
        },
    }
}

fn environment(token: &Token, scope: &Scope<'_>) -> Result<Option<Environment>, String> {
    // The address may read what only exists when the job ends, so a mapping is taken apart unevaluated.
    let field = |key: &str| match token {
        Token::Mapping(pairs) => pairs.iter().find_map(|(name, value)| match name {
            Token::String(name) if name.eq_ignore_ascii_case(key) => Some(value),
            _ => None,
        }),
        _ => None,
    };
    let evaluate = |token: &Token| token.evaluate(scope).map_err(|error| error.to_string());
    let (name, url, deployment) = if let Token::Mapping(_) = token {
        let name = field("name").map(&evaluate).transpose()?;
        let deployment = field("deployment").map(&evaluate).transpose()?;
        (name, field("url").cloned(), deployment)
    } else {
        match evaluate(token)? {
            Value::Object(object) => {
                let url = object.get("url").map(|url| Token::String(url.to_display_string()));
                (object.get("name").cloned(), url, object.get("deployment").cloned())
            }
            value => (Some(value), None, None),
        }
    };
    let name = name.map(|name| name.to_display_string()).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let deployment = deployment.as_ref().and_then(boolean).unwrap_or(true);
    Ok(Some(Environment { name, url, deployment }))
}

/// `concurrency`: a string, or a mapping of group, cancel-in-progress and queue.
///
/// # Errors
/// The group is empty or too long, or an expression cannot be evaluated.
pub fn concurrency(token: &Token, scope: &Scope<'_>) -> Result<Option<Concurrency>, String> {
    let value = token.evaluate(scope).map_err(|error| error.to_string())?;
    let (group, cancel, queue) = match &value {
        Value::Null => return Ok(None),
        Value::Object(object) => (
            object.get("group").cloned().unwrap_or(Value::Null),
            object.get("cancel-in-progress").cloned().unwrap_or(Value::Null),
            object.get("queue").map(Value::to_display_string).unwrap_or_default(),
        ),
        other => (other.clone(), Value::Null, String::new()),
    };
    let group = group.to_display_string();
    if group.trim().is_empty() {
        return Err("the concurrency group must not be empty".to_owned());
    }
    if group.encode_utf16().count() > LONGEST_GROUP {
        return Err(format!("the concurrency group has more than {LONGEST_GROUP} characters"));
    }
    let cancel_in_progress = boolean(&cancel).unwrap_or_else(|| cancel.is_truthy());
    let queue = match queue.as_str() {
        "max" => ConcurrencyQueue::Max,
        "" | "single" => ConcurrencyQueue::Single,
        other => return Err(format!("queue must be 'single' or 'max', not '{other}'")),
    };
    if queue == ConcurrencyQueue::Max && cancel_in_progress {
        return Err("'queue: max' cannot be combined with 'cancel-in-progress: true'".to_owned());
    }
    Ok(Some(Concurrency { group, cancel_in_progress, queue }))
}

/// The name of a leg within its own file (M9): `name` where it reads the matrix, else the name or id with the leg's
/// values behind it.
///
/// # Errors
/// A sentence.
pub fn leg_name(job: &Job, leg: &Combination, contexts: &Object) -> Result<String, String> {
    let Some(token) = &job.name else { return Ok(leg.name(&job.id)) };
    let scope = Scope { contexts, functions: &NoFunctions };
    let value = token
        .evaluate(&scope)
        .map_err(|error| format!("Error when evaluating 'name' for job '{}'. {error}", job.id))?;
    let name = value.to_display_string();
    Ok(match name.trim() {
        "" => leg.name(&job.id),
        _ if reads_matrix(token) => name,
        _ => leg.name(&name),
    })
}

/// The name of a job that was never expanded (N9).
#[must_use]
pub fn unexpanded_name(job: &Job, contexts: &Object) -> String {
    let readable = job.name.as_ref().filter(|token| !reads_matrix(token));
    let scope = Scope { contexts, functions: &NoFunctions };
    let name = readable.and_then(|token| token.evaluate(&scope).ok()).map(|name| name.to_display_string());
    name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| job.id.clone())
}

fn reads_matrix(token: &Token) -> bool {
    matches!(token, Token::Expression(expression) if expression.reads_context("matrix"))
}

/// What status functions answer to a job's condition (N5): results of all ancestors, and whether the run was cancelled.
pub struct JobFunctions<'a> {
    /// Ids of all transitive ancestors, with `needs.X.result`.
    pub ancestors: &'a BTreeMap<String, &'static str>,
    pub cancelled: bool,
}

impl Functions for JobFunctions<'_> {
    fn status(&self, function: StatusFunction, jobs: &[String]) -> Result<bool, EvaluationError> {
        let named = jobs
            .iter()
            .map(|job| {
                let found = self.ancestors.iter().find(|(id, _)| id.eq_ignore_ascii_case(job));
                found.map(|(_, result)| *result).ok_or_else(|| {
                    EvaluationError::Failed(format!("{}('{job}'): no job it needs has this id", function.name()))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let results = if jobs.is_empty() { self.ancestors.values().copied().collect() } else { named };
        Ok(match function {
            StatusFunction::Always => true,
            StatusFunction::Cancelled => self.cancelled,
            StatusFunction::Success => !self.cancelled && results.iter().all(|result| *result == "success"),
            StatusFunction::Failure => !self.cancelled && results.contains(&"failure"),
        })
    }

    fn hash_files(&self, _: &[String]) -> Result<String, EvaluationError> {
        Err(EvaluationError::Failed("hashFiles() cannot be used before a job runs".to_owned()))
    }
}
