//! `towline why`: explains a selection, a condition or a wait.

use std::io::{self, Write};

use http::Method;
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::output::{say, text};
use super::plan::source::{Planned, prepare};
use super::plan::{self, refused};
use super::remote::{Target, block};
use super::{ENVIRONMENT, INVALID, SUCCESS};
use crate::plan::forecast::{Forecast, Verdict, forecast};

/// Arguments of `towline why`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("workflow", |argument| argument.help(
    "A workflow file, the name of one in .towline/workflows or .github/workflows, or the number of a run"
)))]
pub(super) struct Arguments {
    #[command(flatten)]
    plan: plan::Arguments,

    /// Only this job, by its id; of a run also by its name or number.
    #[arg(long, value_name = "ID")]
    job: Option<String>,

    #[command(flatten)]
    target: Target,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    if let Some(run) = arguments.plan.run_number() {
        return block(of_run(arguments, run));
    }
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

/// Why each job of a run of the daemon is where it is.
async fn of_run(arguments: &Arguments, run: u64) -> anyhow::Result<u8> {
    let body = arguments.target.json(Method::GET, &format!("/api/v3/towline/runs/{run}"), None).await?;
    let jobs = body["jobs"].as_array().cloned().unwrap_or_default();
    let wanted = |job: &&Json| match &arguments.job {
        Some(wanted) => {
            job["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
                || wanted.parse::<u64>().is_ok_and(|wanted| job["id"] == wanted)
        }
        None => true,
    };
    let found: Vec<&Json> = jobs.iter().filter(wanted).collect();
    if let (true, Some(wanted)) = (found.is_empty(), &arguments.job) {
        let names: Vec<String> = jobs.iter().map(|job| text(&job["name"])).collect();
        anyhow::bail!("run {run} has no job {wanted:?}; there are {}", names.join(", "));
    }
    if arguments.plan.json {
        let listed: Vec<Json> = found
            .iter()
            .map(|job| json!({"id": job["id"], "name": job["name"], "state": job["state"], "why": because(job)}))
            .collect();
        say(&format!("{}\n", json!({"run": run, "state": body["state"], "jobs": listed})))?;
        return Ok(SUCCESS);
    }
    let title = format!("Run {run}, {}: {}.\n", text(&body["name"]), text(&body["state"]));
    say(&title)?;
    for message in body["messages"].as_array().into_iter().flatten() {
        say(&format!("  {}\n", text(message)))?;
    }
    for job in found {
        say(&format!("\n{} (ID {}): {}\n", text(&job["name"]), job["id"], text(&job["state"])))?;
        let why = because(job);
        if !why.is_empty() {
            say(&format!("  {why}\n"))?;
        }
    }
    Ok(SUCCESS)
}

/// The sentence about a job: what it waits for, where it runs, which step failed.
fn because(job: &Json) -> String {
    let reason = text(&job["reason"]);
    if !reason.is_empty() {
        return reason;
    }
    let steps = || job["steps"].as_array().into_iter().flatten();
    let host = text(&job["runner_name"]);
    if job["status"] == "in_progress" {
        let step = steps().rfind(|step| step["status"] == "in_progress").or_else(|| steps().next_back());
        let step = step
            .map_or_else(String::new, |step| format!("; step {} is {}", text(&step["number"]), text(&step["name"])));
        return format!("it runs on {host} since {}{step}", text(&job["started_at"]));
    }
    let failed = steps().find(|step| step["conclusion"] == "failure");
    match (failed, job["conclusion"].as_str()) {
        (Some(step), _) => format!("step {} failed on {host}: {}", text(&step["number"]), text(&step["name"])),
        (None, Some("success")) => format!("it ran on {host} until {}", text(&job["completed_at"])),
        _ => String::new(),
    }
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
