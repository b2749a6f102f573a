//! The page of a job: its steps with windows into its log, search, and the lines that follow.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};

use crate::id::JobId;
use crate::run::Which;
use crate::run::report::StepState;
use crate::server::app::{App, Fault, query};
use crate::server::pages::{self, LogWindow, Section};
use crate::server::view::{JobView, RunView, State as Look, step_state};
use crate::server::{access, deeds, form, logs, streams};
use crate::store::Logs;

use super::{Sent, Visitor, beside, runs};

/// Lines of a step that are in a page at once.
const WINDOW: u64 = 500;

type JobPath = (String, String, u64, u64);

async fn find(app: &App, visitor: &Visitor, (owner, name, run, job): JobPath) -> Result<(RunView, JobView), Fault> {
    let found = access::job(app, &visitor.caller, (owner, name), job).await?;
    if found.0.id.0 == run { Ok(found) } else { Err(Fault::NotFound) }
}

pub(super) async fn page(State(app): State<App>, visitor: Visitor, Path(path): Path<JobPath>) -> Response {
    let page = async {
        let (run, job) = find(&app, &visitor, path).await?;
        let jobs = app.source.jobs(&run).await?;
        let pairs = query(&visitor.uri);
        let number = |name| form::first(&pairs, name).and_then(|value| value.parse::<u64>().ok());
        let find = form::first(&pairs, "find").unwrap_or_default().to_owned();
        let (step, from) = (number("step"), number("from"));
        let (all, of, wanted) = (app.source.logs.clone(), job.clone(), find.clone());
        let read = move || read_job(&all, &of, step, from, &wanted);
        let (sections, end, first_error, found) = beside(read).await?;
        let mut chrome = visitor.chrome("Runs");
        chrome.live_query = format!("?run={}", run.id);
        let (hits, more_hits) = found.map_or((None, false), |(hits, more)| (Some(hits), more));
        Ok(pages::Job { chrome, run, job, jobs, sections, end, first_error, find, hits, more_hits })
    };
    visitor.show(page.await)
}

type JobParts = (Vec<Section>, u64, Option<String>, Option<(Vec<pages::LogHit>, bool)>);

/// What of a job's log is in its page: the step asked for, else the one that failed or runs.
fn read_job(all: &Logs, job: &JobView, step: Option<u64>, from: Option<u64>, find: &str) -> Result<JobParts, Fault> {
    let log = logs::id(job);
    let over = job.state().is_final();
    let end = all.length(log)?;
    let default = job
        .failed_step()
        .or_else(|| job.steps.iter().rev().find(|step| !over && step_state(step, over) == Look::Running))
        .map(|step| u64::from(step.number));
    let open = step.or(default);
    let mut sections = Vec::new();
    for one in &job.steps {
        let state = step_state(one, over);
        let is_open = open == Some(u64::from(one.number));
        let empty = logs::range(one, end).is_none_or(|(start, end)| start == end);
        let window = if is_open || state == Look::Running {
            Some(window(all, job, one, from.filter(|_| is_open))?)
        } else {
            empty.then(LogWindow::default)
        };
        sections.push(Section { step: one.clone(), state, open: is_open || state == Look::Running, window });
    }
    let error = logs::first_error(all, job)?;
    let error = error.map(|(step, line)| format!("?step={step}&from={}#s{step}-{line}", line.saturating_sub(50)));
    let found = (!find.is_empty()).then(|| logs::search(all, job, find, 200)).transpose()?;
    Ok((sections, end, error, found))
}

/// Some lines of a step: from a line, or the last ones.
fn window(all: &Logs, job: &JobView, step: &StepState, from: Option<u64>) -> Result<LogWindow, Fault> {
    let log = logs::id(job);
    let total = match logs::range(step, all.length(log)?) {
        Some((start, end)) => logs::count(all, log, start, end)?,
        None => 0,
    };
    let first = from.map_or(total.saturating_sub(WINDOW), |from| from.saturating_sub(1).min(total));
    let lines = logs::window(all, log, step, first, WINDOW)?;
    let after = total.saturating_sub(first + lines.len() as u64);
    let link = |from: u64| format!("?step={0}&from={from}#step-{0}", step.number);
    Ok(LogWindow {
        step: step.number,
        before: first,
        before_link: link(first.saturating_sub(WINDOW) + 1),
        after,
        after_link: link(first + lines.len() as u64 + 1),
        lines,
    })
}

/// The lines of one step as a fragment, for the script.
pub(super) async fn step(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, run, job, number)): Path<(String, String, u64, u64, u32)>,
) -> Response {
    let found = async {
        let (_, job) = find(&app, &visitor, (owner, name, run, job)).await?;
        let step = job.steps.iter().find(|step| step.number == number).cloned().ok_or(Fault::NotFound)?;
        let all = app.source.logs.clone();
        beside(move || window(&all, &job, &step, None)).await
    };
    match found.await {
        Ok(window) => {
            let mut response = window.html().into_response();
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(fault) => visitor.fault(&fault),
    }
}

pub(super) async fn live(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(path): Path<JobPath>,
) -> Response {
    match find(&app, &visitor, path).await {
        Ok((_, job)) => {
            let pairs = query(&visitor.uri);
            streams::follow_page(&app, &job, &headers, form::first(&pairs, "from"))
        }
        Err(fault) => visitor.fault(&fault),
    }
}

pub(super) async fn rerun(
    State(app): State<App>,
    Path((owner, name, run, job)): Path<JobPath>,
    sent: Sent,
) -> Response {
    runs::again(&app, &sent, (owner, name, run), Which::Job(JobId(job))).await
}

/// Lets a held job end and leads back to it.
pub(super) async fn release(State(app): State<App>, Path(path): Path<JobPath>, sent: Sent) -> Response {
    let (owner, name, run, job) = path;
    let done = async {
        let run = runs::changed(&app, &sent, (owner, name, run)).await?;
        let found = app.source.job(JobId(job)).await?.filter(|(of, _)| of.id == run.id);
        let (_, job) = found.ok_or(Fault::NotFound)?;
        deeds::release_job(&app, sent.caller(), &run, &job).await?;
        Ok(pages::job_path(&run.repository, &run.id, &job.id))
    };
    sent.back(done.await)
}
