//! What would become of the jobs of a file if everything that runs succeeds: what `towline plan` and `towline why` say
//! about conditions before anything ran.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use super::Plan;
use super::fields::JobFunctions;
use crate::expr::{Expression, Object, Scope, Value};
use crate::workflow::model::Job;

/// One job as it would go.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The jobs it needs, with the results they would have.
    pub needs: Vec<(String, &'static str)>,
    /// What its condition reads, with values; outputs of other jobs are null.
    pub values: Vec<(String, Json)>,
    pub verdict: Verdict,
}

/// Whether a job would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Runs,
    Skipped,
    /// Its condition reads outputs that only exist when the jobs before it have run.
    Open,
    /// Its condition cannot be evaluated: the job fails.
    Raises(String),
}

impl Verdict {
    /// A word for people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Skipped => "skipped",
            Self::Open => "depends on outputs",
            Self::Raises(_) => "fails",
        }
    }

    /// Whether it runs, where that is known.
    #[must_use]
    pub fn runs(&self) -> Option<bool> {
        match self {
            Self::Runs => Some(true),
            Self::Skipped | Self::Raises(_) => Some(false),
            Self::Open => None,
        }
    }

    fn result(&self) -> &'static str {
        match self {
            Self::Runs | Self::Open => "success",
            Self::Skipped => "skipped",
            Self::Raises(_) => "failure",
        }
    }
}

/// Follows the graph of one file (`None`: the triggered one). In file order, by job id.
#[must_use]
pub fn forecast(plan: &Plan, key: Option<&str>, inputs: &Map<String, Json>) -> IndexMap<String, Forecast> {
    let jobs = &plan.file(key).jobs;
    let contexts = plan.contexts(inputs);
    let mut found: BTreeMap<&str, Forecast> = BTreeMap::new();
    // The needs were checked to have no cycle, so every turn settles at least one job.
    for _ in 0..jobs.len() {
        let before = found.len();
        for job in jobs
            .values()
            .filter(|job| job.needs.iter().all(|need| found.contains_key(need.as_str())))
            .collect::<Vec<_>>()
        {
            if !found.contains_key(job.id.as_str()) {
                let forecast = one(jobs, job, &contexts, &found);
                found.insert(&job.id, forecast);
            }
        }
        if found.len() == before {
            break;
        }
    }
    jobs.keys().filter_map(|id| found.remove(id.as_str()).map(|forecast| (id.clone(), forecast))).collect()
}

fn one(jobs: &IndexMap<String, Job>, job: &Job, contexts: &Object, known: &BTreeMap<&str, Forecast>) -> Forecast {
    let result_of = |id: &str| known.get(id).map_or("", |forecast| forecast.verdict.result());
    let needs: Vec<(String, &'static str)> = job.needs.iter().map(|id| (id.clone(), result_of(id))).collect();
    let context: Map<String, Json> =
        needs.iter().map(|(id, result)| (id.clone(), json!({ "result": result, "outputs": {} }))).collect();
    let mut contexts = contexts.clone();
    contexts.insert("needs", Value::from_json(&Json::Object(context)));
    let mut ancestors = BTreeMap::new();
    let mut open: Vec<&str> = job.needs.iter().map(String::as_str).collect();
    while let Some(id) = open.pop() {
        if ancestors.insert(id.to_owned(), result_of(id)).is_none()
            && let Some(job) = jobs.get(id)
        {
            open.extend(job.needs.iter().map(String::as_str));
        }
    }
    let functions = JobFunctions { ancestors: &ancestors, cancelled: false };
    let reads_outputs = job.condition.references().iter().any(|reference| {
        reference.context.eq_ignore_ascii_case("needs")
            && reference.property(1).is_none_or(|property| property.eq_ignore_ascii_case("outputs"))
    });
    let verdict = match job.condition.evaluate(&Scope { contexts: &contexts, functions: &functions }) {
        _ if reads_outputs => Verdict::Open,
        Ok(value) if value.is_truthy() => Verdict::Runs,
        Ok(_) => Verdict::Skipped,
        Err(error) => Verdict::Raises(error.to_string()),
    };
    Forecast { needs, values: values_read(&job.condition, &contexts), verdict }
}

/// The values an expression reads, by the path it reads them at.
pub(crate) fn values_read(expression: &Expression, contexts: &Object) -> Vec<(String, Json)> {
    let mut seen: Vec<(String, Json)> = Vec::new();
    for reference in expression.references() {
        let mut name = reference.context.clone();
        let mut value = contexts.get(&reference.context).cloned().unwrap_or(Value::Null);
        for position in 0..reference.path.len() {
            let Some(property) = reference.property(position) else { break };
            name = format!("{name}.{property}");
            value = match &value {
                Value::Array(items) => property.parse().ok().and_then(|index: usize| items.get(index).cloned()),
                other => other.get(property).cloned(),
            }
            .unwrap_or(Value::Null);
        }
        if !seen.iter().any(|(known, _)| *known == name) {
            seen.push((name, value.to_json()));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::values_read;
    use crate::expr::{Expression, Names, Object, Value};

    #[test]
    fn values_are_shown_with_their_paths() {
        let contexts: Object =
            [("github", Value::from_json(&json!({ "ref": "r", "event": { "n": [1, 2] } })))].into_iter().collect();
        let text = "github.ref == 'x' || github.event.n[1] && github.ref && vars.none";
        let expression = Expression::parse(text, &Names::ANY).expect("an expression");
        assert_eq!(
            values_read(&expression, &contexts),
            [
                ("github.ref".to_owned(), json!("r")),
                ("github.event.n.1".to_owned(), json!(2)),
                ("vars.none".to_owned(), json!(null)),
            ]
        );
    }
}
