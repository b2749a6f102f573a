//! `towline plan`: shows the jobs an event would start; nothing is executed.

pub(in crate::cli) mod source;

use std::io::{self, IsTerminal, Write};

use serde_json::json;

use super::given::Given;
use super::{ENVIRONMENT, INVALID, SUCCESS};
use crate::plan::outline::{PlannedJob, outline};
use source::{Planned, Refusal, prepare};

/// Arguments of `towline plan` and of `towline why`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    given: Given,

    /// Prints one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    /// The number of a run of the daemon, when it is given in place of a workflow.
    pub(super) fn run_number(&self) -> Option<u64> {
        let number = self.given.workflow.to_str()?.parse().ok()?;
        (!self.given.workflow.exists()).then_some(number)
    }
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let planned = match prepare(arguments) {
        Ok(planned) => planned,
        Err(refusal) => return refused(refusal, arguments.json),
    };
    let jobs = if planned.selection.selected { outline(&planned.plan, &planned.inputs) } else { Vec::new() };
    let printed = if arguments.json {
        let object = json!({
            "selected": planned.selection.selected,
            "reason": planned.selection.reason,
            "name": planned.plan.workflow.display_name(),
            "title": planned.plan.title,
            "event": planned.event.name,
            "ref": planned.event.git_ref,
            "jobs": jobs,
        });
        writeln!(io::stdout().lock(), "{object}")
    } else {
        print(&planned, &jobs)
    };
    printed.map_or(ENVIRONMENT, |()| SUCCESS)
}

fn print(planned: &Planned, jobs: &[PlannedJob]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let verdict = if planned.selection.selected { "starts" } else { "does not start" };
    writeln!(out, "{} {verdict}: {}.", planned.plan.workflow.display_name(), planned.selection.reason)?;
    if jobs.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 4]> = jobs
        .iter()
        .map(|job| {
            let on = job.uses.as_ref().map_or_else(|| job.runs_on.join(", "), |uses| format!("calls {uses}"));
            let note = match (&job.error, job.runs, job.dynamic) {
                (Some(error), ..) => format!("error: {error}"),
                (None, Some(false), _) => format!("skipped: {}", job.condition),
                (None, None, _) => format!("if {}", job.condition),
                (None, Some(true), false) if job.unread => "not read: it lies in another repository".to_owned(),
                (None, Some(true), true) => "legs depend on results".to_owned(),
                (None, Some(true), false) => String::new(),
            };
            [job.name.clone(), on, job.needs.join(", "), note]
        })
        .collect();
    let heads = ["JOB", "RUNS ON", "NEEDS", ""].map(str::to_owned);
    let width =
        |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    writeln!(out)?;
    for row in [&heads].into_iter().chain(&rows) {
        let line = format!(
            "{:a$}  {:b$}  {:c$}  {}",
            row[0],
            row[1],
            row[2],
            row[3],
            a = widths[0],
            b = widths[1],
            c = widths[2]
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Prints why there is no answer, and says the exit code.
pub(super) fn refused(refusal: Refusal, as_json: bool) -> u8 {
    let mut err = io::stderr().lock();
    let (reason, code) = match refusal {
        Refusal::Diagnostics(faults) => {
            for (fault, text) in &faults {
                let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                let _ = writeln!(err, "{}", crate::diagnostic::text(fault, Some(text), color));
            }
            let first = faults.iter().find(|(fault, _)| fault.is_error());
            (first.map_or_else(String::new, |(fault, _)| fault.message.clone()), INVALID)
        }
        Refusal::Invalid(messages) => {
            for message in &messages {
                let _ = writeln!(err, "error: {message}");
            }
            (messages.join("; "), INVALID)
        }
        Refusal::Environment(message) => {
            let _ = writeln!(err, "error: {message}");
            (message, ENVIRONMENT)
        }
    };
    if as_json {
        let object = json!({ "selected": false, "reason": reason, "jobs": [] });
        let _ = writeln!(io::stdout().lock(), "{object}");
    }
    code
}
