//! Below `/repos/OWNER/NAME/actions`: runs, jobs, logs, workflows, runners.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use jiff::ToSpan;
use serde_json::{Value, json};

use crate::engine::Input;
use crate::id::{JobId, RepositoryName, RunId};
use crate::run::{Rerun, Which};
use crate::server::app::{App, Asked, Caller, Fault, accepts, answered, query};
use crate::server::archive::{Archive, Names, step_file};
use crate::server::auth::Role;
use crate::server::source::DispatchRequest;
use crate::server::view::{JobView, RunView, Status, WorkflowView};
use crate::server::{form, logs, streams, wire};

use super::lists::{self, Page};
use super::repositories::{job_of, known};

type OwnerName = (String, String);

pub(super) async fn runs(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(path): Path<OwnerName>,
) -> Result<Response, Fault> {
    let repository = known(&app, &caller, path).await?;
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
    let items = runs.iter().map(|run| wire::run(&caller.base, run)).collect();
    Ok(lists::answer(caller, uri, page, total, "workflow_runs", items))
}

/// A run of this repository; of another one it does not exist.
async fn find(app: &App, caller: &Caller, path: OwnerName, id: u64) -> Result<RunView, Fault> {
    let repository = known(app, caller, path).await?;
    app.source.run(RunId(id)).await?.filter(|run| run.repository == repository).ok_or(Fault::NotFound)
}

async fn find_attempt(app: &App, caller: &Caller, path: OwnerName, id: u64, attempt: u32) -> Result<RunView, Fault> {
    let repository = known(app, caller, path).await?;
    let run = app.source.attempt(RunId(id), attempt).await?;
    run.filter(|run| run.repository == repository).ok_or(Fault::NotFound)
}

pub(super) async fn run(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Json<Value>, Fault> {
    let run = find(&app, &caller, (owner, name), id).await?;
    Ok(Json(wire::run(&caller.base, &run)))
}

pub(super) async fn attempt(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Result<Json<Value>, Fault> {
    let run = find_attempt(&app, &caller, (owner, name), id, attempt).await?;
    Ok(Json(wire::run(&caller.base, &run)))
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
    let run = find(&app, &caller, (owner, name), id).await?;
    let all = form::first(&query(&uri), "filter") == Some("all");
    list_jobs(&app, &caller, &uri, &run, all).await
}

pub(super) async fn attempt_jobs(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Result<Response, Fault> {
    let run = find_attempt(&app, &caller, (owner, name), id, attempt).await?;
    list_jobs(&app, &caller, &uri, &run, false).await
}

pub(super) async fn job(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Json<Value>, Fault> {
    let repository = known(&app, &caller, (owner, name)).await?;
    let (run, job) = job_of(&app, &repository, id).await?;
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
    let repository = known(&app, &caller, (owner, name)).await?;
    let (_, job) = job_of(&app, &repository, id).await?;
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
    let run = find(&app, &caller, (owner, name), id).await?;
    Ok(to_signed(&app, &caller, &format!("/api/v3/towline/signed/runs/{id}/attempts/{}/logs.zip", run.attempt)))
}

pub(super) async fn attempt_logs(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id, attempt)): Path<(String, String, u64, u32)>,
) -> Result<Response, Fault> {
    find_attempt(&app, &caller, (owner, name), id, attempt).await?;
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
    let run = find(&app, &caller, (owner, name), id).await?;
    let millis = i64::try_from(run.elapsed(caller.now).as_millis()).unwrap_or(i64::MAX);
    Ok(Json(json!({"billable": {}, "run_duration_ms": millis})))
}

/// An empty object, as GitHub answers changes.
fn done(status: StatusCode) -> Response {
    (status, Json(json!({}))).into_response()
}

async fn cancelled(app: &App, caller: &Caller, path: OwnerName, id: u64, force: bool) -> Result<Response, Fault> {
    let run = find(app, caller, path, id).await?;
    caller.change(&run.repository, Role::Operator)?;
    if run.state().is_final() {
        return Err(Fault::Conflict("Cannot cancel a workflow run that is completed.".to_owned()));
    }
    cancel_run(app, caller, &run, force).await?;
    Ok(done(StatusCode::ACCEPTED))
}

/// Cancels a run for a client that may.
pub(in crate::server) async fn cancel_run(app: &App, caller: &Caller, run: &RunView, force: bool) -> Result<(), Fault> {
    let action = if force { "run.force-cancel" } else { "run.cancel" };
    app.audit(&caller.client, action, &format!("{}#{}", run.repository, run.id), "").await?;
    answered(app.source.engine.send(Input::Cancel { run: run.id, force, actor: caller.client.name.clone() }).await?)?;
    Ok(())
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
    let run = find(&app, &caller, (owner, name), id).await?;
    caller.change(&run.repository, Role::Operator)?;
    if !run.state().is_final() {
        return Err(Fault::Forbidden("A run can be deleted when it has ended.".to_owned()));
    }
    app.audit(&caller.client, "run.delete", &format!("{}#{}", run.repository, run.id), &run.title).await?;
    answered(app.source.engine.send(Input::Delete { run: run.id }).await?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn again(app: &App, caller: &Caller, run: &RunView, which: Which, body: &Bytes) -> Result<Response, Fault> {
    caller.change(&run.repository, Role::Operator)?;
    let wish: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?
    };
    let debug = wish["enable_debug_logging"].as_bool().unwrap_or(false);
    rerun_run(app, caller, run, which, debug).await?;
    Ok(done(StatusCode::CREATED))
}

/// Starts the next attempt of a run for a client that may.
pub(in crate::server) async fn rerun_run(
    app: &App,
    caller: &Caller,
    run: &RunView,
    which: Which,
    debug: bool,
) -> Result<(), Fault> {
    if !run.state().is_final() {
        return Err(Fault::Forbidden("This workflow run is still running and cannot be re-run.".to_owned()));
    }
    app.audit(&caller.client, "run.rerun", &format!("{}#{}", run.repository, run.id), &format!("{which:?}")).await?;
    let wish = Rerun { which, actor: caller.client.name.clone(), debug };
    answered(app.source.engine.rerun(run.id, wish).await?)?;
    Ok(())
}

pub(super) async fn rerun(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let run = find(&app, &caller, (owner, name), id).await?;
    again(&app, &caller, &run, Which::All, &body).await
}

pub(super) async fn rerun_failed(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let run = find(&app, &caller, (owner, name), id).await?;
    again(&app, &caller, &run, Which::Failed, &body).await
}

pub(super) async fn rerun_job(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let repository = known(&app, &caller, (owner, name)).await?;
    let (run, job) = job_of(&app, &repository, id).await?;
    again(&app, &caller, &run, Which::Job(job.id), &body).await
}

pub(super) async fn approve(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let run = find(&app, &caller, (owner, name), id).await?;
    caller.change(&run.repository, Role::Operator)?;
    if run.status != Status::Waiting {
        return Err(Fault::Forbidden("This run is not waiting for an approval.".to_owned()));
    }
    app.audit(&caller.client, "run.approve", &format!("{}#{}", run.repository, run.id), "").await?;
    answered(app.source.engine.send(Input::ReleaseRun { run: run.id, actor: caller.client.name.clone() }).await?)?;
    Ok(done(StatusCode::CREATED))
}

/// The environments that jobs of a run wait for.
async fn environments(app: &App, run: &RunView) -> Result<Vec<String>, Fault> {
    let jobs = app.source.jobs(run).await?;
    let waiting = jobs.iter().filter(|job| job.status == Status::Waiting && job.conclusion.is_none());
    let mut names: Vec<String> = waiting.filter_map(|job| job.environment.clone()).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn environment_id(run: &RunView, name: &str) -> u64 {
    crate::server::view::stable_id(&["environment", run.repository.as_str(), &name.to_lowercase()])
}

pub(super) async fn pending_deployments(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Json<Value>, Fault> {
    let run = find(&app, &caller, (owner, name), id).await?;
    let may = caller.client.role >= Role::Operator;
    let items: Vec<Value> = environments(&app, &run)
        .await?
        .iter()
        .map(|name| {
            let id = environment_id(&run, name);
            let url = format!("{}/api/v3/repos/{}/environments/{}", caller.base.0, run.repository, form::encode(name));
            json!({
                "environment": {"id": id, "node_id": format!("EN_{id}"), "name": name, "url": url, "html_url": url},
                "wait_timer": 0, "wait_timer_started_at": null, "current_user_can_approve": may, "reviewers": [],
            })
        })
        .collect();
    Ok(Json(items.into()))
}

pub(super) async fn review_deployments(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let run = find(&app, &caller, (owner, name), id).await?;
    caller.change(&run.repository, Role::Operator)?;
    let wish: Value = serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?;
    let approved = match wish["state"].as_str() {
        Some("approved") => true,
        Some("rejected") => false,
        _ => return Err(Fault::Invalid("state must be approved or rejected".to_owned())),
    };
    let ids: Vec<u64> = wish["environment_ids"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let chosen: Vec<String> =
        environments(&app, &run).await?.into_iter().filter(|name| ids.contains(&environment_id(&run, name))).collect();
    if chosen.is_empty() {
        return Err(Fault::Invalid("None of these environments is waited for.".to_owned()));
    }
    for environment in chosen {
        let subject = format!("{}#{} {environment}", run.repository, run.id);
        app.audit(&caller.client, if approved { "run.approve" } else { "run.reject" }, &subject, "").await?;
        let review = Input::Review {
            run: run.id,
            environment,
            approved,
            reviewer: caller.client.name.clone(),
            bypass: caller.client.role == Role::Admin,
            comment: wish["comment"].as_str().unwrap_or_default().to_owned(),
        };
        answered(app.source.engine.send(review).await?)?;
    }
    Ok(Json(json!([])).into_response())
}

pub(super) async fn workflows(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(path): Path<OwnerName>,
) -> Result<Response, Fault> {
    let repository = known(&app, &caller, path).await?;
    let page = Page::of(&query(&uri));
    let (part, total) = lists::part(app.source.workflows(&repository, 0).await?, page);
    let items = part.iter().map(|one| wire::workflow(&caller.base, one)).collect();
    Ok(lists::answer(&caller, &uri, page, total, "workflows", items))
}

/// A workflow by its id or its file name.
async fn find_workflow(app: &App, caller: &Caller, path: OwnerName, wanted: &str) -> Result<WorkflowView, Fault> {
    let repository = known(app, caller, path).await?;
    workflow_named(app, &repository, wanted, 0).await
}

/// A workflow of a repository by id, file name or path.
pub(in crate::server) async fn workflow_named(
    app: &App,
    repository: &RepositoryName,
    wanted: &str,
    recent: usize,
) -> Result<WorkflowView, Fault> {
    let all = app.source.workflows(repository, recent).await?;
    let found = all.into_iter().find(|one| {
        let name = &one.workflow;
        name.id.to_string() == wanted || name.file() == wanted || name.path == wanted
    });
    found.ok_or(Fault::NotFound)
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
    let run = dispatch_workflow(&app, &caller, &view, git_ref, inputs).await?;
    if wish["return_run_details"].as_bool() != Some(true) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let api = format!("{}/api/v3/repos/{}/actions/runs/{run}", caller.base.0, view.repository);
    let html = format!("{}/{}/actions/runs/{run}", caller.base.0, view.repository);
    Ok(Json(json!({"workflow_run_id": run.0, "run_url": api, "html_url": html})).into_response())
}

/// Starts a workflow for a client that may.
pub(in crate::server) async fn dispatch_workflow(
    app: &App,
    caller: &Caller,
    view: &WorkflowView,
    git_ref: &str,
    inputs: serde_json::Map<String, Value>,
) -> Result<RunId, Fault> {
    if !view.enabled {
        return Err(Fault::Invalid("Cannot trigger a 'workflow_dispatch' on a disabled workflow".to_owned()));
    }
    let subject = format!("{} {}", view.repository, view.workflow.path);
    app.audit(&caller.client, "workflow.dispatch", &subject, git_ref).await?;
    let request = DispatchRequest {
        repository: view.repository.clone(),
        workflow_path: view.workflow.path.clone(),
        git_ref: git_ref.to_owned(),
        inputs,
        actor: caller.client.name.clone(),
    };
    (app.source.outside.dispatch)(request).await.map_err(Fault::Invalid)
}

async fn switch(app: &App, caller: &Caller, path: OwnerName, workflow: &str, on: bool) -> Result<Response, Fault> {
    let view = find_workflow(app, caller, path, workflow).await?;
    caller.change(&view.repository, Role::Operator)?;
    switch_workflow(app, caller, &view, on).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Enables or disables a workflow for a client that may.
pub(in crate::server) async fn switch_workflow(
    app: &App,
    caller: &Caller,
    view: &WorkflowView,
    on: bool,
) -> Result<(), Fault> {
    let action = if on { "workflow.enable" } else { "workflow.disable" };
    app.audit(&caller.client, action, &format!("{} {}", view.repository, view.workflow.path), "").await?;
    Ok(app.source.set_enabled(view, on).await?)
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
    known(&app, &caller, path).await?;
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
    known(&app, &caller, path).await?;
    Ok(Json(json!({"enabled": true, "allowed_actions": "all", "sha_pinning_required": false})))
}
