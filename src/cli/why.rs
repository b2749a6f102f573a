//! `towline why`: explains a selection, a condition or a wait.

use std::io::{self, Write};

use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::plan::source::{Planned, prepare};
use super::plan::{self, refused};
use super::{ENVIRONMENT, INVALID, SUCCESS};
use crate::plan::forecast::{Forecast, Verdict, forecast};

/// Arguments of `towline why`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: plan::Arguments,

    /// Only this job, by its id.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let planned = match prepare(&arguments.plan) {
        Ok(planned) => planned,
        Err(refusal) => return refused(refusal, arguments.plan.json),
    };
    let jobs = &planned.plan.workflow.jobs;
    if let Some(wanted) = &arguments.job
        && !jobs.keys().any(|id| id.eq_ignore_ascii_case(wanted))
    {
        let known: Vec<&str> = jobs.keys().map(String::as_str).collect();
        let near = crate::diagnostic::nearest(wanted, known.iter().copied());
        let mend =
            near.map_or_else(|| format!("there are {}", known.join(", ")), |near| format!("did you mean '{near}'?"));
        let message = format!("the workflow has no job '{wanted}'; {mend}");
        return refused(plan::source::Refusal::Invalid(vec![message]), arguments.plan.json).max(INVALID);
    }
    let mut forecasts = forecast(&planned.plan, None, &planned.inputs);
    forecasts.retain(|id, _| arguments.job.as_ref().is_none_or(|wanted| id.eq_ignore_ascii_case(wanted)));
    let printed = if arguments.plan.json { print_json(&planned, &forecasts) } else { print(&planned, &forecasts) };
    printed.map_or(ENVIRONMENT, |()| SUCCESS)
}

fn print_json(planned: &Planned, forecasts: &IndexMap<String, Forecast>) -> io::Result<()> {
    let jobs: Vec<Json> = forecasts
        .iter()
        .map(|(id, forecast)| {
            let needs: serde_json::Map<String, Json> =
                forecast.needs.iter().map(|(id, result)| (id.clone(), json!(result))).collect();
            let values: serde_json::Map<String, Json> = forecast.values.iter().cloned().collect();
            json!({
                "id": id,
                "if": planned.plan.workflow.jobs[id].condition.source(),
                "verdict": forecast.verdict.word(),
                "error": if let Verdict::Raises(error) = &forecast.verdict { json!(error) } else { Json::Null },
                "needs": needs,
                "values": values,
            })
        })
        .collect();
    let object = json!({
        "selected": planned.selection.selected,
        "reason": planned.selection.reason,
        "trace": planned.selection.trace,
        "jobs": jobs,
    });
    writeln!(io::stdout().lock(), "{object}")
}

fn print(planned: &Planned, forecasts: &IndexMap<String, Forecast>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let verdict = if planned.selection.selected { "starts" } else { "does not start" };
    writeln!(out, "{} {verdict}: {}.", planned.plan.workflow.display_name(), planned.selection.reason)?;
    for check in &planned.selection.trace {
        writeln!(out, "  {} {}: {}", if check.passed { "yes" } else { "no " }, check.what, check.detail)?;
    }
    for (id, forecast) in forecasts {
        writeln!(out, "\n{id}: {}", forecast.verdict.word())?;
        for (id, result) in &forecast.needs {
            writeln!(out, "  needs {id}: {result}")?;
        }
        writeln!(out, "  if {}", planned.plan.workflow.jobs[id].condition.source())?;
        for (name, value) in &forecast.values {
            writeln!(out, "    {name} = {}", shortened(&value.to_string()))?;
        }
        if let Verdict::Raises(error) = &forecast.verdict {
            writeln!(out, "  error: {error}")?;
        }
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}
