//! The pages' addresses: who may see them, what they show, and the forms they send.

use askama::Template;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::id::{JobId, RepositoryName, RunId};
use crate::run::Which;
use crate::store::RunFilter;

use super::api::{actions, lists};
use super::app::{App, Asked, Caller, Fault, query};
use super::auth::{Auth, Role, Via};
use super::pages::{self, Chrome, Excerpt, Filter, LogWindow, NoteRow, RunRow, Section};
use super::source::PAGE_OF_RUNS;
use super::view::{JobView, RunView, State as Look, step_state};
use super::{assets, form, format, graph, logs, streams};

/// Lines of a step that are in a page at once.
const WINDOW: u64 = 500;

/// All pages.
pub(super) fn routes(app: &App) -> Router<App> {
    let run = "/{owner}/{name}/actions/runs/{id}";
    Router::new()
        .route("/", get(overview))
        .route("/runs", get(all_runs))
        .route("/workflows", get(workflows))
        .route("/queue", get(queue))
        .route("/hosts", get(hosts))
        .route("/deliveries", get(deliveries))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .route("/{owner}/{name}", get(repository_runs))
        .route("/{owner}/{name}/actions", get(repository_runs))
        .route("/{owner}/{name}/actions/workflows/{file}", get(workflow))
        .route("/{owner}/{name}/actions/workflows/{file}/dispatch", post(dispatch))
        .route("/{owner}/{name}/actions/workflows/{file}/enable", post(enable))
        .route("/{owner}/{name}/actions/workflows/{file}/disable", post(disable))
        .route("/{owner}/{name}/actions/workflows/{file}/badge.svg", get(badge))
        .route(run, get(latest))
        .route(&format!("{run}/attempts/{{attempt}}"), get(attempt))
        .route(&format!("{run}/cancel"), post(cancel))
        .route(&format!("{run}/rerun"), post(rerun))
        .route(&format!("{run}/rerun-failed"), post(rerun_failed))
        .route(&format!("{run}/job/{{job}}"), get(job))
        .route(&format!("{run}/job/{{job}}/rerun"), post(rerun_job))
        .route(&format!("{run}/job/{{job}}/live"), get(live))
        .route(&format!("{run}/job/{{job}}/steps/{{step}}"), get(step))
        .fallback(|caller: Visitor| async move { caller.fault(&Fault::NotFound) })
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .route("/assets/{file}", get(assets::serve))
}

/// Headers of every page. Nothing is fetched from elsewhere, nothing is framed, no markup in a log can do anything.
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    app.metrics.answered(response.status().as_u16());
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    response
}

/// Someone who looks at a page.
struct Visitor {
    caller: Caller,
    uri: Uri,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let uri = Asked::of(parts);
        match Caller::recognise(app, parts) {
            Ok(caller) => Ok(Self { caller, uri }),
            Err(fault) => Err((fault.status(), fault.message()).into_response()),
        }
    }
}

impl Visitor {
    fn chrome(&self, here: &'static str) -> Chrome {
        let client = &self.caller.client;
        Chrome {
            now: self.caller.now,
            here,
            user: (client.role > Role::Nobody).then(|| client.name.clone()),
            role: client.role,
            session: client.via == Via::Session,
            csrf: self.caller.csrf.clone(),
            live: client.role > Role::Nobody,
            live_query: String::new(),
        }
    }

    /// A page, or what stands in its way. Who is not signed in is led to the form and back.
    fn show(&self, page: Result<impl Template, Fault>) -> Response {
        match page {
            Ok(page) => html(StatusCode::OK, &page),
            Err(fault) => self.fault(&fault),
        }
    }

    fn fault(&self, fault: &Fault) -> Response {
        if matches!(fault, Fault::Unauthorized) {
            let next = form::encode(self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
            return see_other(&format!("/login?next={next}"));
        }
        let (heading, text) = match fault {
            Fault::NotFound => ("Not here", "There is nothing at this address, or you may not see it.".to_owned()),
            Fault::Forbidden(text) => ("Not allowed", text.clone()),
            other => ("That did not work", other.message()),
        };
        let chrome = Chrome { live: false, ..self.chrome("") };
        html(fault.status(), &pages::Message { chrome, heading: heading.to_owned(), text })
    }

    fn may_see(&self) -> Result<(), Fault> {
        self.caller.at_least(Role::Viewer)
    }

    fn sees(&self, run: &RunView) -> bool {
        self.caller.client.sees(&run.repository)
    }
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let mut response = (status, text).into_response();
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            log::error!(error:% = error; "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn see_other(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

async fn overview(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let now = visitor.caller.now;
        let mut active = app.source.active().await?;
        active.retain(|run| visitor.sees(run));
        let (mut recent, _) = app.source.runs(RunFilter::default(), 0, 100).await?;
        recent.retain(|run| visitor.sees(run));
        let waiting = app.source.waiting(&active).await?;
        let mut running = Vec::new();
        for run in active.into_iter().take(20) {
            let jobs = app.source.jobs(&run).await?.iter().map(JobView::state).collect();
            running.push(RunRow { run, jobs });
        }
        let broken = broken(&recent);
        recent.retain(|run| run.state().is_final());
        recent.truncate(12);
        let hosts = app.source.hosts(now).await?;
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
    let (mut runs, mut total) = match lists::run_filter(repository.clone(), &pairs)? {
        Some(wanted) if filter.q.is_empty() => app.source.runs(wanted, page.skip(), page.size).await?,
        Some(wanted) => app.source.search(wanted, &filter.q, page.skip(), page.size).await?,
        None => (Vec::new(), 0),
    };
    let all = total;
    if !visitor.caller.client.repositories.is_empty() && repository.is_none() {
        runs.retain(|run| visitor.sees(run));
        total = runs.len();
    }
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
        next: (page.number * page.size < all).then(|| link(page.number + 1)),
    })
}

async fn all_runs(State(app): State<App>, visitor: Visitor) -> Response {
    visitor.show(list(&app, &visitor, None).await)
}

/// The repository as it is known, if this visitor may see it.
async fn known(app: &App, visitor: &Visitor, path: (String, String)) -> Result<RepositoryName, Fault> {
    let wanted = RepositoryName(format!("{}/{}", path.0, path.1));
    visitor.caller.see(&wanted)?;
    let all = app.source.repositories().await?;
    all.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(wanted.as_str())).ok_or(Fault::NotFound)
}

async fn repository_runs(State(app): State<App>, visitor: Visitor, Path(path): Path<(String, String)>) -> Response {
    let page = async {
        let repository = known(&app, &visitor, path).await?;
        list(&app, &visitor, Some(repository)).await
    };
    visitor.show(page.await)
}

async fn queue(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut active = app.source.active().await?;
        active.retain(|run| visitor.sees(run));
        Ok(pages::Queue { chrome: visitor.chrome("Queue"), waiting: app.source.waiting(&active).await? })
    };
    visitor.show(page.await)
}

async fn hosts(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut hosts = app.source.hosts(visitor.caller.now).await?;
        for host in &mut hosts {
            // What runs in a slot belongs to its repository.
            for slot in &mut host.jobs {
                if !visitor.caller.client.sees(&slot.repository) {
                    slot.name = "busy".to_owned();
                }
            }
        }
        Ok(pages::Hosts { chrome: visitor.chrome("Hosts"), hosts })
    };
    visitor.show(page.await)
}

async fn deliveries(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut deliveries = app.source.deliveries(0, 100).await?;
        let client = &visitor.caller.client;
        deliveries.retain(|one| client.repositories.is_empty() || client.sees(&RepositoryName(one.repository.clone())));
        Ok(pages::Deliveries { chrome: visitor.chrome("Deliveries"), deliveries })
    };
    visitor.show(page.await)
}

async fn workflows(State(app): State<App>, visitor: Visitor) -> Response {
    let page = async {
        visitor.may_see()?;
        let mut workflows = Vec::new();
        for repository in app.source.repositories().await? {
            if visitor.caller.client.sees(&repository) {
                workflows.extend(app.source.workflows(&repository, 30).await?);
            }
        }
        Ok(pages::Workflows { chrome: visitor.chrome("Workflows"), workflows })
    };
    visitor.show(page.await)
}

async fn workflow_page(
    app: &App,
    visitor: &Visitor,
    (owner, name, file): (String, String, String),
    problem: Option<String>,
) -> Result<pages::Workflow, Fault> {
    let repository = known(app, visitor, (owner, name)).await?;
    let workflow = actions::workflow_named(app, &repository, &file, 30).await?;
    Ok(pages::Workflow { chrome: visitor.chrome("Workflows"), workflow, problem })
}

async fn workflow(State(app): State<App>, visitor: Visitor, Path(path): Path<(String, String, String)>) -> Response {
    visitor.show(workflow_page(&app, &visitor, path, None).await)
}

/// A badge for a README: state of the last run of a workflow, as text in two boxes.
async fn badge(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, file)): Path<(String, String, String)>,
) -> Response {
    let found = async {
        let repository = known(&app, &visitor, (owner, name)).await?;
        actions::workflow_named(&app, &repository, &file, 20).await
    };
    let (label, word, colour) = match found.await {
        Ok(view) => {
            let state = view.state();
            let colour = match state {
                Look::Success => "#17783f",
                state if state.is_bad() => "#c22734",
                _ => "#59626d",
            };
            (view.workflow.name, state.word(), colour)
        }
        Err(_) => ("workflow".to_owned(), "unknown", "#59626d"),
    };
    let label = format::cut(&label, 60);
    let width = |text: &str| text.chars().count() * 7 + 14;
    let (left, right) = (width(&label), width(word));
    let label = askama::filters::escape(&label, askama::filters::Html).map(|safe| safe.to_string()).unwrap_or_default();
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"20\" role=\"img\" aria-label=\"{label}: {word}\"><rect width=\"{0}\" height=\"20\" rx=\"4\" fill=\"#24292f\"/><path d=\"M{left} 0h{1}a4 4 0 014 4v12a4 4 0 01-4 4H{left}z\" fill=\"{colour}\"/><g fill=\"#fff\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\" text-anchor=\"middle\"><text x=\"{2}\" y=\"14\">{label}</text><text x=\"{3}\" y=\"14\">{word}</text></g></svg>",
        left + right,
        right - 4,
        left / 2,
        left + right / 2,
    );
    let mut response = svg.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn latest(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Response {
    let page = async {
        let repository = known(&app, &visitor, (owner, name)).await?;
        let run = app.source.run(RunId(id)).await?.filter(|run| run.repository == repository).ok_or(Fault::NotFound)?;
        let attempts = run.attempt;
        run_page(&app, &visitor, run, attempts).await
    };
    visitor.show(page.await)
}

async fn attempt(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Response {
    let page = async {
        let repository = known(&app, &visitor, (owner, name)).await?;
        let attempts = app.source.run(RunId(id)).await?.ok_or(Fault::NotFound)?.attempt;
        let run = app.source.attempt(RunId(id), attempt).await?;
        let run = run.filter(|run| run.repository == repository).ok_or(Fault::NotFound)?;
        run_page(&app, &visitor, run, attempts).await
    };
    visitor.show(page.await)
}

async fn run_page(app: &App, visitor: &Visitor, run: RunView, attempts: u32) -> Result<pages::Run, Fault> {
    let jobs = app.source.jobs(&run).await?;
    let link = |job: &JobView| pages::job_path(&run.repository, &run.id, &job.id);
    let graph = graph::svg(visitor.caller.now, &jobs, link);
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
    let mut chrome = visitor.chrome("Runs");
    chrome.live_query = format!("?run={}", run.id);
    chrome.live = chrome.live && run.attempt == attempts;
    Ok(pages::Run { chrome, attempts, graph, excerpts, annotations: notes, artifacts: Vec::new(), jobs, run })
}

/// Reads files beside the workers.
async fn beside<T: Send + 'static>(read: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

type JobPath = (String, String, u64, u64);

async fn find_job(app: &App, visitor: &Visitor, (owner, name, run, job): JobPath) -> Result<(RunView, JobView), Fault> {
    let repository = known(app, visitor, (owner, name)).await?;
    let found = app.source.job(JobId(job)).await?;
    found.filter(|(of, _)| of.repository == repository && of.id.0 == run).ok_or(Fault::NotFound)
}

async fn job(State(app): State<App>, visitor: Visitor, Path(path): Path<JobPath>) -> Response {
    let page = async {
        let (run, job) = find_job(&app, &visitor, path).await?;
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
fn read_job(
    all: &crate::store::Logs,
    job: &JobView,
    step: Option<u64>,
    from: Option<u64>,
    find: &str,
) -> Result<JobParts, Fault> {
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
fn window(
    all: &crate::store::Logs,
    job: &JobView,
    step: &crate::run::report::StepState,
    from: Option<u64>,
) -> Result<LogWindow, Fault> {
    let log = logs::id(job);
    let total = match logs::range(step, all.length(log)?) {
        Some((start, end)) => logs::count(all, log, start, end)?,
        None => 0,
    };
    let first = from.map_or(total.saturating_sub(WINDOW), |from| from.saturating_sub(1).min(total));
    let (lines, total) = logs::window(all, log, step, first, WINDOW)?;
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
async fn step(
    State(app): State<App>,
    visitor: Visitor,
    Path((owner, name, run, job, number)): Path<(String, String, u64, u64, u32)>,
) -> Response {
    let found = async {
        let (_, job) = find_job(&app, &visitor, (owner, name, run, job)).await?;
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

async fn live(State(app): State<App>, visitor: Visitor, headers: HeaderMap, Path(path): Path<JobPath>) -> Response {
    match find_job(&app, &visitor, path).await {
        Ok((_, job)) => {
            let pairs = query(&visitor.uri);
            streams::follow_page(&app, &job, &headers, form::first(&pairs, "from"))
        }
        Err(fault) => visitor.fault(&fault),
    }
}

/// The fields of a form that we made for this session; otherwise nothing is done.
fn sent(app: &App, visitor: &Visitor, headers: &HeaderMap, body: &Bytes) -> Result<Vec<(String, String)>, Fault> {
    visitor.caller.at_least(Role::Operator)?;
    let pairs = form::pairs(&String::from_utf8_lossy(body));
    let csrf = form::first(&pairs, "csrf").unwrap_or_default();
    if app.auth.csrf_is_good(headers, csrf) {
        Ok(pairs)
    } else {
        Err(Fault::Forbidden(
            "This form is too old or not ours. Go back, reload the page and send it again.".to_owned(),
        ))
    }
}

type RunPath = (String, String, u64);

async fn changed_run(
    app: &App,
    visitor: &Visitor,
    headers: &HeaderMap,
    body: &Bytes,
    (owner, name, id): RunPath,
) -> Result<RunView, Fault> {
    let repository = known(app, visitor, (owner, name)).await?;
    sent(app, visitor, headers, body)?;
    app.source.run(RunId(id)).await?.filter(|run| run.repository == repository).ok_or(Fault::NotFound)
}

fn back(visitor: &Visitor, done: Result<String, Fault>) -> Response {
    match done {
        Ok(to) => see_other(&to),
        Err(fault) => visitor.fault(&fault),
    }
}

async fn cancel(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(path): Path<RunPath>,
    body: Bytes,
) -> Response {
    let done = async {
        let run = changed_run(&app, &visitor, &headers, &body, path).await?;
        actions::cancel_run(&app, &visitor.caller, &run, false).await?;
        Ok(pages::run_path(&run))
    };
    back(&visitor, done.await)
}

async fn again(app: App, visitor: Visitor, headers: HeaderMap, path: RunPath, body: Bytes, which: Which) -> Response {
    let done = async {
        let run = changed_run(&app, &visitor, &headers, &body, path).await?;
        actions::rerun_run(&app, &visitor.caller, &run, which, false).await?;
        Ok(pages::run_path(&run))
    };
    back(&visitor, done.await)
}

async fn rerun(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(path): Path<RunPath>,
    body: Bytes,
) -> Response {
    again(app, visitor, headers, path, body, Which::All).await
}

async fn rerun_failed(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(path): Path<RunPath>,
    body: Bytes,
) -> Response {
    again(app, visitor, headers, path, body, Which::Failed).await
}

async fn rerun_job(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path((owner, name, run, job)): Path<JobPath>,
    body: Bytes,
) -> Response {
    again(app, visitor, headers, (owner, name, run), body, Which::Job(JobId(job))).await
}

type WorkflowPath = (String, String, String);

async fn switch(app: App, visitor: Visitor, headers: HeaderMap, path: WorkflowPath, body: Bytes, on: bool) -> Response {
    let done = async {
        let repository = known(&app, &visitor, (path.0, path.1)).await?;
        sent(&app, &visitor, &headers, &body)?;
        let view = actions::workflow_named(&app, &repository, &path.2, 0).await?;
        actions::switch_workflow(&app, &visitor.caller, &view, on).await?;
        Ok(pages::workflow_path(&repository, &view.workflow))
    };
    back(&visitor, done.await)
}

async fn enable(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(path): Path<WorkflowPath>,
    body: Bytes,
) -> Response {
    switch(app, visitor, headers, path, body, true).await
}

async fn disable(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(path): Path<WorkflowPath>,
    body: Bytes,
) -> Response {
    switch(app, visitor, headers, path, body, false).await
}

async fn dispatch(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(path): Path<WorkflowPath>,
    body: Bytes,
) -> Response {
    let done = async {
        let repository = known(&app, &visitor, (path.0.clone(), path.1.clone())).await?;
        let pairs = sent(&app, &visitor, &headers, &body)?;
        let view = actions::workflow_named(&app, &repository, &path.2, 0).await?;
        let git_ref = form::first(&pairs, "ref").unwrap_or(&view.default_branch).to_owned();
        let mut inputs = serde_json::Map::new();
        for input in view.inputs.iter().flatten() {
            let value = form::first(&pairs, &format!("input.{}", input.name));
            // A box that is not ticked sends nothing.
            let value = value.or((input.kind == super::view::InputKind::Boolean).then_some("false"));
            if let Some(value) = value.filter(|value| !value.is_empty() || input.required) {
                inputs.insert(input.name.clone(), value.into());
            }
        }
        let run = actions::dispatch_workflow(&app, &visitor.caller, &view, &git_ref, inputs).await?;
        Ok(format!("{}/runs/{run}", pages::repository_path(&repository)))
    };
    match done.await {
        Ok(to) => see_other(&to),
        // What is wrong with the inputs is said above the form.
        Err(Fault::Invalid(problem)) => visitor.show(workflow_page(&app, &visitor, path, Some(problem)).await),
        Err(fault) => visitor.fault(&fault),
    }
}

/// A path on this server, never another site's address.
fn safe_next(next: Option<&str>) -> String {
    let next = next.unwrap_or("/");
    let good =
        next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.chars().any(char::is_control);
    if good { next.to_owned() } else { "/".to_owned() }
}

async fn login_form(visitor: Visitor) -> Response {
    let next = safe_next(form::first(&query(&visitor.uri), "next"));
    let chrome = Chrome { live: false, ..visitor.chrome("") };
    html(StatusCode::OK, &pages::Login { chrome, problem: None, next })
}

async fn login(State(app): State<App>, visitor: Visitor, body: Bytes) -> Response {
    let pairs = form::pairs(&String::from_utf8_lossy(&body));
    let next = safe_next(form::first(&pairs, "next"));
    let token = form::first(&pairs, "token").unwrap_or_default();
    match app.auth.sign_in(visitor.caller.now, &visitor.caller.peer, token) {
        Ok(cookie) => {
            let mut response = see_other(&next);
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(refusal) => {
            let fault = Fault::Refused(refusal);
            let problem = if fault.status() == StatusCode::UNAUTHORIZED {
                "That token is not known.".to_owned()
            } else {
                fault.message()
            };
            let chrome = Chrome { live: false, ..visitor.chrome("") };
            html(fault.status(), &pages::Login { chrome, problem: Some(problem), next })
        }
    }
}

async fn logout(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Bytes) -> Response {
    let pairs = form::pairs(&String::from_utf8_lossy(&body));
    if !app.auth.csrf_is_good(&headers, form::first(&pairs, "csrf").unwrap_or_default()) {
        return visitor.fault(&Fault::Forbidden("Go back, reload the page and sign out again.".to_owned()));
    }
    let mut response = see_other("/login");
    if let Ok(cookie) = HeaderValue::from_str(&Auth::sign_out()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
