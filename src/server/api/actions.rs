//! Below `/repos/OWNER/NAME/actions`: runs, jobs, logs, workflows, runners.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use jiff::ToSpan;
use serde_json::{Value, json};

use crate::id::{JobId, RepositoryName, RunId};
use crate::run::Which;
use crate::server::access::OwnerName;
use crate::server::app::{App, Asked, Caller, Fault, accepts, query};
use crate::server::archive::{Archive, Names, step_file};
use crate::server::auth::Role;
use crate::server::view::{JobView, RunView, WorkflowView};
use crate::server::{access, deeds, form, logs, streams, wire};

use super::lists::{self, Page};

pub(super) async fn runs(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(path): Path<OwnerName>,
) -> Result<Response, Fault> {
    let repository = access::repository(&app, &caller, path).await?;
    list_runs(&app, &caller, &uri, repository, None).await
}

async fn list_runs(
    app: &App,
    caller: &Caller,
    uri: &Uri,
    repository: RepositoryName,
    workflow: Option<String>,
) -> Result<Response, Fault> {
    let pairs = query(uri);
    let page = Page::of(&pairs);
    let (runs, total) = match lists::run_filter(Some(repository), &pairs)? {
        Some(mut filter) => {
            filter.workflow_path = workflow;
            app.source.runs(filter, page.skip(), page.size).await?
        }
        None => (Vec::new(), 0),
    };
    let items: Vec<String> = runs.iter().map(|run| app.fragments.run(&caller.base, run)).collect();
    Ok(lists::answer_text(caller, uri, page, total, "workflow_runs", &items))
}

pub(super) async fn run(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    Ok(answer(&app, &caller, &run))
}

/// A run as JSON, with its tag.
fn answer(app: &App, caller: &Caller, run: &RunView) -> Response {
    let (text, tag) = app.fragments.answer(&caller.base, run);
    let mut response = lists::json_text(text);
    response.headers_mut().insert(header::ETAG, tag);
    response
}

pub(super) async fn attempt(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Result<Response, Fault> {
    let run = access::attempt(&app, &caller, (owner, name), id, attempt).await?;
    Ok(answer(&app, &caller, &run))
}

async fn list_jobs(app: &App, caller: &Caller, uri: &Uri, run: &RunView, all: bool) -> Result<Response, Fault> {
    let page = Page::of(&query(uri));
    let mut jobs: Vec<(RunView, JobView)> = Vec::new();
    if all {
        for number in 1..run.attempt {
            if let Some(earlier) = app.source.attempt(run.id, number).await? {
                let of_it = app.source.jobs(&earlier).await?;
                jobs.extend(of_it.into_iter().map(|job| (earlier.clone(), job)));
            }
        }
    }
    jobs.extend(app.source.jobs(run).await?.into_iter().map(|job| (run.clone(), job)));
    let (part, total) = lists::part(jobs, page);
    let items = part.iter().map(|(run, job)| wire::job(&caller.base, run, job)).collect();
    Ok(lists::answer(caller, uri, page, total, "jobs", items))
}

pub(super) async fn run_jobs(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    let all = form::first(&query(&uri), "filter") == Some("all");
    list_jobs(&app, &caller, &uri, &run, all).await
}

pub(super) async fn attempt_jobs(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Result<Response, Fault> {
    let run = access::attempt(&app, &caller, (owner, name), id, attempt).await?;
    list_jobs(&app, &caller, &uri, &run, false).await
}

pub(super) async fn job(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Json<Value>, Fault> {
    let (run, job) = access::job(&app, &caller, (owner, name), id).await?;
    Ok(Json(wire::job(&caller.base, &run, &job)))
}

/// GitHub's answers to "the log of this": an address that is good for a minute, without credentials.
fn to_signed(app: &App, caller: &Caller, path: &str) -> Response {
    let signed = app.auth.sign(path, caller.now + 1.minute());
    let mut response = StatusCode::FOUND.into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("{}{signed}", caller.base.0)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn check_signature(app: &App, uri: &Uri) -> Result<(), Fault> {
    let pairs = query(uri);
    let (until, signature) = (form::first(&pairs, "until").unwrap_or(""), form::first(&pairs, "sig").unwrap_or(""));
    if app.auth.is_signed(app.clock.now(), uri.path(), until, signature) { Ok(()) } else { Err(Fault::NotFound) }
}

pub(super) async fn job_logs(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Asked(uri): Asked,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let (_, job) = access::job(&app, &caller, (owner, name), id).await?;
    let pairs = query(&uri);
    if form::first(&pairs, "follow").is_some_and(|value| value != "0") {
        let from = form::first(&pairs, "from");
        if accepts(&headers, "text/event-stream") {
            return Ok(streams::follow_events(&app, &job, &headers, from));
        }
        return Ok(streams::follow_text(&app, &job, &headers, from));
    }
    Ok(to_signed(&app, &caller, &format!("/api/v3/towline/signed/jobs/{id}/log.txt")))
}

pub(super) async fn signed_job_log(
    State(app): State<App>,
    Asked(uri): Asked,
    Path(id): Path<u64>,
) -> Result<Response, Fault> {
    check_signature(&app, &uri)?;
    let (_, job) = app.source.job(JobId(id)).await?.ok_or(Fault::NotFound)?;
    let (log, all) = (logs::id(&job), app.source.logs.clone());
    // Read piece by piece: a log may be larger than memory.
    let body = Body::from_stream(stream::unfold(0_u64, move |at| {
        let all = all.clone();
        async move {
            let read = tokio::task::spawn_blocking(move || all.read(log, at, 256 * 1024)).await;
            let bytes = read.ok()?.ok().filter(|bytes| !bytes.is_empty())?;
            let next = at + bytes.len() as u64;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(bytes)), next))
        }
    }));
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

pub(super) async fn run_logs(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    Ok(to_signed(&app, &caller, &format!("/api/v3/towline/signed/runs/{id}/attempts/{}/logs.zip", run.attempt)))
}

pub(super) async fn attempt_logs(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Result<Response, Fault> {
    access::attempt(&app, &caller, (owner, name), id, attempt).await?;
    Ok(to_signed(&app, &caller, &format!("/api/v3/towline/signed/runs/{id}/attempts/{attempt}/logs.zip")))
}

/// A file of a log archive holds at most this much; a longer log is whole in the job's own log.
const ARCHIVE_FILE: u64 = 256 << 20;

pub(super) async fn signed_run_logs(
    State(app): State<App>,
    Asked(uri): Asked,
    Path((id, attempt)): Path<(u64, u32)>,
) -> Result<Response, Fault> {
    check_signature(&app, &uri)?;
    let run = app.source.attempt(RunId(id), attempt).await?.ok_or(Fault::NotFound)?;
    let jobs = app.source.jobs(&run).await?;
    let all = app.source.logs.clone();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::convert::Infallible>>(4);
    // The thread ends when the client is gone: sending fails then.
    tokio::task::spawn_blocking(move || {
        let (mut archive, mut names) = (Archive::default(), Names::default());
        for (at, job) in jobs.iter().enumerate() {
            let log = logs::id(job);
            let Ok(length) = all.length(log) else { continue };
            let folder = names.job(&job.name);
            let time = job.started_at.unwrap_or(job.created_at);
            let mut files = vec![(format!("{at}_{folder}.txt"), 0, length)];
            for step in &job.steps {
                if let Some((start, end)) = logs::range(step, length) {
                    files.push((format!("{folder}/{}", step_file(step.number, &step.name)), start, end));
                }
            }
            for (name, start, end) in files {
                let end = end.min(start + ARCHIVE_FILE);
                let mut content = Vec::new();
                while start + (content.len() as u64) < end {
                    let from = start + content.len() as u64;
                    match all.read(log, from, end - from) {
                        Ok(bytes) if !bytes.is_empty() => content.extend(bytes),
                        _ => break,
                    }
                }
                let Some(file) = archive.file(&name, time, &content) else { break };
                if sender.blocking_send(Ok(file.into())).is_err() {
                    return;
                }
            }
        }
        // Nobody waits for the end any more when this fails.
        let _ = sender.blocking_send(Ok(archive.finish().into()));
    });
    let body = Body::from_stream(stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    }));
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=logs_{id}.zip")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

pub(super) async fn run_timing(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Json<Value>, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    let millis = i64::try_from(run.elapsed(caller.now).as_millis()).unwrap_or(i64::MAX);
    Ok(Json(json!({"billable": {}, "run_duration_ms": millis})))
}

/// An empty object, as GitHub answers changes.
fn done(status: StatusCode) -> Response {
    (status, Json(json!({}))).into_response()
}

async fn cancelled(app: &App, caller: &Caller, path: OwnerName, id: u64, force: bool) -> Result<Response, Fault> {
    let run = access::run(app, caller, path, id).await?;
    caller.change(&run.repository, Role::Operator)?;
    deeds::cancel(app, caller, &run, force).await?;
    Ok(done(StatusCode::ACCEPTED))
}

pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    cancelled(&app, &caller, (owner, name), id, false).await
}

pub(super) async fn force_cancel(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    cancelled(&app, &caller, (owner, name), id, true).await
}

pub(super) async fn delete_run(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    caller.change(&run.repository, Role::Operator)?;
    deeds::delete(&app, &caller, &run).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn again(app: &App, caller: &Caller, run: &RunView, which: Which, body: &Bytes) -> Result<Response, Fault> {
    caller.change(&run.repository, Role::Operator)?;
    let wish: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?
    };
    let wish = deeds::Again {
        which,
        debug: wish["enable_debug_logging"].as_bool().unwrap_or(false),
        hold_minutes: wish["hold_minutes"].as_u64().map_or(0, |minutes| u32::try_from(minutes).unwrap_or(u32::MAX)),
    };
    deeds::rerun(app, caller, run, &wish).await?;
    Ok(done(StatusCode::CREATED))
}

pub(super) async fn rerun(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    again(&app, &caller, &run, Which::All, &body).await
}

pub(super) async fn rerun_failed(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    again(&app, &caller, &run, Which::Failed, &body).await
}

pub(super) async fn rerun_job(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let (run, job) = access::job(&app, &caller, (owner, name), id).await?;
    again(&app, &caller, &run, Which::Job(job.id), &body).await
}

pub(super) async fn approve(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let run = access::run(&app, &caller, (owner, name), id).await?;
    caller.change(&run.repository, Role::Operator)?;
    deeds::release(&app, &caller, &run).await?;
    Ok(done(StatusCode::CREATED))
}

pub(super) async fn workflows(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(path): Path<OwnerName>,
) -> Result<Response, Fault> {
    let repository = access::repository(&app, &caller, path).await?;
    let page = Page::of(&query(&uri));
    let (part, total) = lists::part(app.source.workflows(&repository, 0).await?, page);
    let items = part.iter().map(|one| wire::workflow(&caller.base, one)).collect();
    Ok(lists::answer(&caller, &uri, page, total, "workflows", items))
}

/// A workflow by its id or its file name.
async fn find_workflow(app: &App, caller: &Caller, path: OwnerName, wanted: &str) -> Result<WorkflowView, Fault> {
    let repository = access::repository(app, caller, path).await?;
    access::workflow(app, &repository, wanted, 0).await
}

pub(super) async fn workflow(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, workflow)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let view = find_workflow(&app, &caller, (owner, name), &workflow).await?;
    Ok(Json(wire::workflow(&caller.base, &view)))
}

pub(super) async fn workflow_runs(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path((owner, name, workflow)): Path<(String, String, String)>,
) -> Result<Response, Fault> {
    let view = find_workflow(&app, &caller, (owner, name), &workflow).await?;
    list_runs(&app, &caller, &uri, view.repository, Some(view.workflow.path)).await
}

pub(super) async fn workflow_timing(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, workflow)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    find_workflow(&app, &caller, (owner, name), &workflow).await?;
    Ok(Json(json!({"billable": {}})))
}

pub(super) async fn dispatch(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, workflow)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let view = find_workflow(&app, &caller, (owner, name), &workflow).await?;
    caller.change(&view.repository, Role::Operator)?;
    let mut wish: Value =
        serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?;
    let inputs = match wish["inputs"].take() {
        Value::Object(inputs) => inputs,
        Value::Null => serde_json::Map::new(),
        _ => return Err(Fault::Invalid("inputs must be an object".to_owned())),
    };
    let Some(git_ref) = wish["ref"].as_str().filter(|git_ref| !git_ref.is_empty()) else {
        return Err(Fault::Invalid("Invalid request.\n\n\"ref\" wasn't supplied.".to_owned()));
    };
    let run = deeds::dispatch(&app, &caller, &view, git_ref, inputs).await?;
    if wish["return_run_details"].as_bool() != Some(true) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let api = format!("{}/api/v3/repos/{}/actions/runs/{run}", caller.base.0, view.repository);
    let html = format!("{}/{}/actions/runs/{run}", caller.base.0, view.repository);
    Ok(Json(json!({"workflow_run_id": run.0, "run_url": api, "html_url": html})).into_response())
}

async fn switch(app: &App, caller: &Caller, path: OwnerName, workflow: &str, on: bool) -> Result<Response, Fault> {
    let view = find_workflow(app, caller, path, workflow).await?;
    caller.change(&view.repository, Role::Operator)?;
    deeds::switch(app, caller, &view, on).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn enable(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, workflow)): Path<(String, String, String)>,
) -> Result<Response, Fault> {
    switch(&app, &caller, (owner, name), &workflow, true).await
}

pub(super) async fn disable(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, workflow)): Path<(String, String, String)>,
) -> Result<Response, Fault> {
    switch(&app, &caller, (owner, name), &workflow, false).await
}

pub(super) async fn runners(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(path): Path<OwnerName>,
) -> Result<Response, Fault> {
    access::repository(&app, &caller, path).await?;
    let page = Page::of(&query(&uri));
    let (part, total) = lists::part(app.source.hosts(caller.now).await?, page);
    let items = part.iter().map(wire::runner).collect();
    Ok(lists::answer(&caller, &uri, page, total, "runners", items))
}

pub(super) async fn permissions(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<OwnerName>,
) -> Result<Json<Value>, Fault> {
    access::repository(&app, &caller, path).await?;
    Ok(Json(json!({"enabled": true, "allowed_actions": "all", "sha_pinning_required": false})))
}
