//! Overview, lists of runs, the page of a run, and what its buttons do.

use axum::extract::{Path, State};
use axum::response::Response;

use crate::id::RepositoryName;
use crate::run::Which;
use crate::server::api::lists;
use crate::server::app::{App, Fault, query};
use crate::server::pages::{
    self, ArtifactRow, BrokenRow, Excerpt, Filter, NoteRow, RunRow, SummaryRow, WaitingEnvironment,
};
use crate::server::source::PAGE_OF_RUNS;
use crate::server::view::{JobView, RunView, State as Look, Status};
use crate::server::{access, deeds, form, format, graph, logs, markdown};
use crate::services::Artifact;
use crate::store::RunFilter;

use super::{Sent, Visitor, beside};

pub(super) async fn overview(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let active = app.source.active(&visitor.caller.client.repositories).await?;
        let seen = RunFilter { among: visitor.caller.client.repositories.clone(), ..RunFilter::default() };
        let (mut recent, _) = app.source.runs(seen, 0, 100).await?;
        let waiting = app.source.waiting(&active).await?;
        let mut running = Vec::new();
        for run in active.into_iter().take(20) {
            let progress = app.source.progress(&run).await?;
            running.push(RunRow { run, progress });
        }
        let mut rows = Vec::new();
        for run in broken(&recent) {
            let jobs = app.source.progress(&run).await?.jobs;
            rows.push(BrokenRow::new(run, &jobs));
        }
        let broken = rows;
        recent.retain(|run| run.state().is_final());
        recent.truncate(12);
        let hosts = visitor.hosts(&app).await?;
        Ok(pages::Overview::new(visitor.chrome("Overview"), broken, running, waiting, hosts, recent))
    };
    visitor.show(page.await)
}

/// The last run that says something of each workflow and branch, where it failed. A green run ends the breakage.
fn broken(runs: &[RunView]) -> Vec<RunView> {
    let mut seen = std::collections::HashSet::new();
    let telling = runs.iter().filter(|run| run.state().is_bad() || run.state() == Look::Success);
    let last = telling.filter(|run| seen.insert((&run.repository, &run.workflow.path, &run.git_ref)));
    last.filter(|run| run.state().is_bad()).take(8).cloned().collect()
}

fn filter_of(pairs: &[(String, String)]) -> Filter {
    let text = |name| form::first(pairs, name).unwrap_or_default().to_owned();
    Filter {
        q: text("q"),
        status: text("status"),
        branch: text("branch"),
        event: text("event"),
        actor: text("actor"),
        workflow: text("workflow"),
    }
}

async fn list(app: &App, visitor: &Visitor, repository: Option<RepositoryName>) -> Result<pages::Runs, Fault> {
    visitor.may_see()?;
    let pairs = query(&visitor.uri);
    let filter = filter_of(&pairs);
    let page = lists::Page { size: PAGE_OF_RUNS, ..lists::Page::of(&pairs) };
    let wanted = lists::run_filter(repository.clone(), &pairs)?;
    // What is hidden is not counted either.
    let wanted = wanted.map(|wanted| RunFilter { among: visitor.caller.client.repositories.clone(), ..wanted });
    let (runs, total) = match wanted {
        Some(wanted) if filter.q.is_empty() => app.source.runs(wanted, page.skip(), page.size).await?,
        Some(wanted) => app.source.search(wanted, &filter.q, page.skip(), page.size).await?,
        None => (Vec::new(), 0),
    };
    let link = |number: usize| {
        let rest = pairs.iter().filter(|(name, value)| name != "page" && !value.is_empty());
        let mut all: Vec<String> =
            rest.map(|(name, value)| format!("{}={}", form::encode(name), form::encode(value))).collect();
        all.push(format!("page={number}"));
        format!("?{}", all.join("&"))
    };
    Ok(pages::Runs {
        chrome: visitor.chrome("Runs"),
        heading: repository.as_ref().map_or_else(|| "Runs".to_owned(), |name| format!("Runs of {name}")),
        repository,
        filter,
        total,
        runs,
        previous: (page.number > 1).then(|| link(page.number - 1)),
        next: (page.number * page.size < total).then(|| link(page.number + 1)),
    })
}

pub(super) async fn all(State(app): State<App>, visitor: Visitor) -> Response {
    visitor.show(list(&app, &visitor, None).await)
}

pub(super) async fn of_repository(
    State(app): State<App>,
    visitor: Visitor,
    Path(path): Path<(String, String)>,
) -> Response {
    let page = async {
        let repository = access::repository(&app, &visitor.caller, path).await?;
        list(&app, &visitor, Some(repository)).await
    };
    visitor.show(page.await)
}

pub(super) async fn latest(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Response {
    let page = async {
        let run = access::run(&app, &visitor.caller, (owner, name), id).await?;
        let attempts = run.attempt;
        run_page(&app, &visitor, run, attempts).await
    };
    visitor.show(page.await)
}

pub(super) async fn attempt(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Response {
    let page = async {
        let run = access::attempt(&app, &visitor.caller, (owner, name), id, attempt).await?;
        let attempts = app.source.run(run.id).await?.ok_or(Fault::NotFound)?.attempt;
        run_page(&app, &visitor, run, attempts).await
    };
    visitor.show(page.await)
}

async fn run_page(app: &App, visitor: &Visitor, run: RunView, attempts: u32) -> Result<pages::Run, Fault> {
    let (jobs, pending) = app.source.jobs_and_pending(&run).await?;
    let link = |job: &JobView| pages::job_path(&run.repository, &run.id, &job.id);
    let graph = graph::svg(visitor.caller.now, &jobs, &pending, link);
    let failed: Vec<JobView> = jobs.iter().filter(|job| job.state().is_bad()).take(5).cloned().collect();
    let all = app.source.logs.clone();
    let read = move || {
        let excerpts = failed.into_iter().map(|job| {
            let step = job.failed_step().cloned();
            let lines = step.as_ref().map(|step| logs::excerpt(&all, logs::id(&job), step, 20)).transpose()?;
            Ok((job, step, lines.unwrap_or_default()))
        });
        excerpts.collect::<Result<Vec<_>, Fault>>()
    };
    let excerpts = beside(read).await?.into_iter().map(|(job, step, lines)| Excerpt {
        state: job.state(),
        step: step.as_ref().map_or_else(|| job.state().word().to_owned(), |step| step.name.clone()),
        link: match &step {
            Some(step) => format!("{}?step={}#step-{}", link(&job), step.number, step.number),
            None => link(&job),
        },
        reason: job.reason.clone().unwrap_or_else(|| "The step wrote nothing.".to_owned()),
        job: job.name,
        lines,
    });
    let excerpts = excerpts.collect();
    let mut notes: Vec<NoteRow> = jobs
        .iter()
        .flat_map(|job| job.annotations.iter().map(|note| NoteRow { job: job.name.clone(), annotation: note.clone() }))
        .collect();
    // The failing thing first.
    notes.sort_by_key(|note| std::cmp::Reverse(note.annotation.level));
    let summaries = summaries(app, &jobs).await?;
    let mut chrome = visitor.chrome("Runs");
    chrome.live_query = format!("?run={}", run.id);
    chrome.live = chrome.live && run.attempt == attempts;
    let waiting = waiting(app, visitor, &run, &jobs).await?;
    Ok(pages::Run {
        chrome,
        attempts,
        graph,
        excerpts,
        annotations: notes,
        summaries,
        artifacts: artifacts(app, &run),
        pending: pending.len(),
        waiting,
        jobs,
        run,
    })
}

/// What the jobs of a run left to be fetched.
fn artifacts(app: &App, run: &RunView) -> Vec<ArtifactRow> {
    let all = app.auth.services().map(|services| services.artifacts(run.id.0)).unwrap_or_default();
    let row = |artifact: Artifact| ArtifactRow {
        link: format!("/api/v3/repos/{}/actions/artifacts/{}/zip", run.repository, artifact.id),
        size: format::size(artifact.size),
        until: artifact.expires_at,
        name: artifact.name,
    };
    all.into_iter().map(row).collect()
}

/// What the jobs of a run wrote to `GITHUB_STEP_SUMMARY`.
async fn summaries(app: &App, jobs: &[JobView]) -> Result<Vec<SummaryRow>, Fault> {
    let mut ended: Vec<JobView> = jobs.iter().filter(|job| job.started_at.is_some()).cloned().collect();
    ended.sort_by_key(|job| (job.completed_at.is_none(), job.completed_at));
    let all = app.source.logs.clone();
    let read = move || {
        let mut rows = Vec::new();
        for job in ended {
            let parts = all.summaries(logs::id(&job))?;
            if !parts.is_empty() {
                let html = parts.iter().map(|part| markdown::html(&part.text)).collect();
                rows.push(SummaryRow { job: job.name, html });
            }
        }
        Ok(rows)
    };
    beside(read).await
}

pub(super) type RunPath = (String, String, u64);

pub(super) async fn changed(app: &App, sent: &Sent, (owner, name, id): RunPath) -> Result<RunView, Fault> {
    access::run(app, sent.caller(), (owner, name), id).await
}

pub(super) async fn cancel(State(app): State<App>, Path(path): Path<RunPath>, sent: Sent) -> Response {
    let done = async {
        let run = changed(&app, &sent, path).await?;
        deeds::cancel(&app, sent.caller(), &run, false).await?;
        Ok(pages::run_path(&run))
    };
    sent.back(done.await)
}

/// Starts the next attempt and leads to it.
pub(super) async fn again(app: &App, sent: &Sent, path: RunPath, which: Which) -> Response {
    let done = async {
        let run = changed(app, sent, path).await?;
        let again = deeds::Again { which, debug: false, hold_minutes: 0 };
        deeds::rerun(app, sent.caller(), &run, &again).await?;
        Ok(pages::run_path(&run))
    };
    sent.back(done.await)
}

pub(super) async fn rerun(State(app): State<App>, Path(path): Path<RunPath>, sent: Sent) -> Response {
    again(&app, &sent, path, Which::All).await
}

pub(super) async fn rerun_failed(State(app): State<App>, Path(path): Path<RunPath>, sent: Sent) -> Response {
    again(&app, &sent, path, Which::Failed).await
}

/// The environments that jobs of a run wait for, and whether this visitor may speak.
async fn waiting(
    app: &App,
    visitor: &Visitor,
    run: &RunView,
    jobs: &[JobView],
) -> Result<Vec<WaitingEnvironment>, Fault> {
    let held = jobs.iter().filter(|job| job.status == Status::Waiting && job.conclusion.is_none());
    let names: std::collections::BTreeSet<&String> = held.filter_map(|job| job.environment.as_ref()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let rules = app.environments(&run.repository).await?;
    let client = &visitor.caller.client;
    let found = names.into_iter().map(|name| {
        let rules = rules.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, rules)| rules);
        let rules = rules.cloned().unwrap_or_default();
        WaitingEnvironment {
            name: name.clone(),
            wants_approval: !rules.reviewers.is_empty(),
            may_review: deeds::may_review(client, &rules, run),
            reviewers: rules.reviewers,
        }
    });
    Ok(found.collect())
}

pub(super) async fn release(State(app): State<App>, Path(path): Path<RunPath>, sent: Sent) -> Response {
    let done = async {
        let run = changed(&app, &sent, path).await?;
        deeds::release(&app, sent.caller(), &run).await?;
        Ok(pages::run_path(&run))
    };
    sent.back(done.await)
}

pub(super) async fn review(State(app): State<App>, Path(path): Path<RunPath>, sent: Sent) -> Response {
    let done = async {
        let run = changed(&app, &sent, path).await?;
        let approved = match sent.text("word") {
            "approve" => true,
            "reject" => false,
            _ => return Err(Fault::Invalid("Approve or reject.".to_owned())),
        };
        deeds::review(&app, sent.caller(), &run, sent.text("environment"), approved, sent.text("comment")).await?;
        Ok(pages::run_path(&run))
    };
    sent.back(done.await)
}
