//! Towline's own additions: hosts, queue, reasons, deliveries, audit, tokens, updates.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::engine::Input;
use crate::id::{JobId, RepositoryName, RunId};
use crate::server::app::{App, Asked, Caller, Fault, query};
use crate::server::auth::{self, Role, Via};
use crate::server::deeds::HostDeed;
use crate::server::streams::{self, UpdateFilter};
use crate::server::view::{DeliveryView, HostView, RunView, step_state};
use crate::server::{deeds, form, format, wire};
use crate::store::RunFilter;

use super::lists::{self, Page};

pub(super) async fn events(State(app): State<App>, caller: Caller, Asked(uri): Asked) -> Result<Response, Fault> {
    let pairs = query(&uri);
    let number = |name| form::first(&pairs, name).and_then(|value| value.parse().ok());
    let filter = UpdateFilter { run: number("run").map(RunId), job: number("job").map(JobId) };
    match caller.client.via {
        // A share link hears of its run, and of nothing else.
        Via::Share(run) if filter.run == Some(run) => {}
        _ => caller.at_least(Role::Viewer)?,
    }
    Ok(streams::updates(&app, &caller, filter))
}

fn host(host: &HostView) -> Value {
    let jobs: Vec<Value> = host
        .jobs
        .iter()
        .filter(|slot| !slot.hidden)
        .map(|slot| {
            json!({
                "id": slot.job.0, "run_id": slot.run.0, "repository": slot.repository, "name": slot.name,
                "started_at": slot.started_at.map(format::api),
            })
        })
        .collect();
    json!({
        "name": host.name, "address": host.address, "state": host.state.word(), "reason": host.reason,
        "labels": host.labels, "slots": host.slots, "slots_used": host.jobs.len(), "jobs": jobs,
        "facts": host.facts.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "last_seen_at": host.last_seen.map(format::api),
        "load": host.load.map(|(load, _)| load),
        "latency_ms": host.latency.map(|latency| i64::try_from(latency.as_millis()).unwrap_or(i64::MAX)),
    })
}

pub(super) async fn hosts(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let client = &caller.client;
    let all = app.source.hosts(caller.now).await?.into_iter();
    let seen = all.map(|one| one.for_client(client.sees_all(), |repository| client.sees(repository)));
    let hosts: Vec<Value> = seen.map(|one| host(&one)).collect();
    Ok(Json(json!({"total_count": hosts.len(), "hosts": hosts})))
}

pub(super) async fn queue(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let seen = app.source.active(&caller.client.repositories).await?;
    let waiting: Vec<Value> = app
        .source
        .waiting(&seen)
        .await?
        .iter()
        .map(|one| {
            json!({
                "job_id": one.job.0, "run_id": one.run.0, "repository": one.repository, "name": one.name,
                "title": one.title, "labels": one.labels, "since": format::api(one.since), "reason": one.reason,
                "state": one.state.word(),
            })
        })
        .collect();
    let paused = app.source.engine.summary().borrow().paused;
    Ok(Json(json!({"total_count": waiting.len(), "paused": paused, "jobs": waiting})))
}

pub(super) async fn runs(State(app): State<App>, caller: Caller, Asked(uri): Asked) -> Result<Response, Fault> {
    caller.at_least(Role::Viewer)?;
    let pairs = query(&uri);
    let page = Page::of(&pairs);
    let repository = form::first(&pairs, "repository").map(RepositoryName::from);
    // What a client may not see is not counted for it either.
    let wanted = lists::run_filter(repository, &pairs)?;
    let wanted = wanted.map(|wanted| RunFilter { among: caller.client.repositories.clone(), ..wanted });
    let (runs, total) = match wanted {
        Some(filter) => match form::first(&pairs, "q").filter(|text| !text.is_empty()) {
            Some(text) => app.source.search(filter, text, page.skip(), page.size).await?,
            None => app.source.runs(filter, page.skip(), page.size).await?,
        },
        None => (Vec::new(), 0),
    };
    let items: Vec<String> = runs.iter().map(|run| app.fragments.run(&caller.base, run)).collect();
    Ok(lists::answer_text(&caller, &uri, page, total, "workflow_runs", &items))
}

/// A run by its number alone, with its jobs: one request for scripts and `towline run view`.
pub(super) async fn run(State(app): State<App>, caller: Caller, Path(id): Path<u64>) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let run = find(&app, &caller, id).await?;
    let jobs = app.source.jobs(&run).await?;
    let mut body = wire::run(&caller.base, &run);
    let listed: Vec<Value> = jobs
        .iter()
        .map(|job| {
            let mut one = wire::job(&caller.base, &run, job);
            one["state"] = job.state().word().into();
            one["reason"] = job.reason.clone().into();
            one["detached"] = job.detached.clone().into();
            one["held_until"] = job.held_until.map(format::api).into();
            for (shown, step) in one["steps"].as_array_mut().into_iter().flatten().zip(&job.steps) {
                shown["state"] = step_state(step, job.completed_at.is_some()).word().into();
            }
            one
        })
        .collect();
    body["jobs"] = listed.into();
    body["state"] = run.state().word().into();
    body["messages"] = run.messages.clone().into();
    Ok(Json(body))
}

/// Lets a job end that failed and is held.
pub(super) async fn release_job(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<StatusCode, Fault> {
    let (run, job) = app.source.job(JobId(id)).await?.ok_or(Fault::NotFound)?;
    caller.change(&run.repository, Role::Operator)?;
    deeds::release_job(&app, &caller, &run, &job).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a job works, and the way there.
pub(super) async fn place(State(app): State<App>, caller: Caller, Path(id): Path<u64>) -> Result<Json<Value>, Fault> {
    let (run, job) = app.source.job(JobId(id)).await?.ok_or(Fault::NotFound)?;
    caller.change(&run.repository, Role::Operator)?;
    let place = job.host.as_ref().zip(job.workspace.as_ref());
    let (host, workspace) = place.ok_or_else(|| Fault::Conflict("This job has not been on a host.".to_owned()))?;
    let ssh = app
        .source
        .way_to(host)
        .ok_or_else(|| Fault::Conflict(format!("The host {host} is not configured any more.")))?;
    Ok(Json(json!({"job_id": id, "host": host.as_str(), "workspace": workspace, "ssh": ssh, "local": ssh.is_empty()})))
}

async fn find(app: &App, caller: &Caller, id: u64) -> Result<RunView, Fault> {
    let run = app.source.run(RunId(id)).await?.ok_or(Fault::NotFound)?;
    caller.see(&run.repository)?;
    Ok(run)
}

pub(super) async fn why(State(app): State<App>, caller: Caller, Path(id): Path<u64>) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let (run, job) = app.source.job(JobId(id)).await?.ok_or(Fault::NotFound)?;
    caller.see(&run.repository)?;
    let reasons = app.source.engine.why(job.id).await?;
    let reasons: Vec<Value> = reasons
        .iter()
        .map(|reason| {
            json!({
                "reason": reason.to_string(), "remedy": reason.remedy(), "since": format::api(reason.since),
                "obstacle": reason.obstacle,
            })
        })
        .collect();
    Ok(Json(json!({"job_id": id, "state": job.state().word(), "reasons": reasons})))
}

/// A delivery for who may know of its repository.
fn delivery(one: &DeliveryView) -> Value {
    json!({
        "number": one.number, "id": one.id, "source": one.source, "event": one.event, "repository": one.repository,
        "received_at": format::api(one.at), "outcome": one.outcome, "failed": one.state.is_bad(),
        "run_ids": one.runs.iter().map(|(_, run)| run.0).collect::<Vec<_>>(), "replay_of": one.replay_of,
    })
}

fn sees_delivery(caller: &Caller, one: &DeliveryView) -> bool {
    caller.client.sees_all() || caller.client.sees(&RepositoryName(one.repository.clone()))
}

pub(super) async fn deliveries(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let page = Page::of(&query(&uri));
    let all = app.source.deliveries(page.skip(), page.size).await?;
    let items: Vec<Value> = all.iter().filter(|one| sees_delivery(&caller, one)).map(delivery).collect();
    Ok(Json(json!({"deliveries": items})))
}

async fn find_delivery(app: &App, caller: &Caller, number: u64) -> Result<DeliveryView, Fault> {
    caller.at_least(Role::Viewer)?;
    let found = app.source.delivery(number).await?;
    found.filter(|one| sees_delivery(caller, one)).ok_or(Fault::NotFound)
}

/// A delivery with what came: its payload is for those who may repeat it.
pub(super) async fn one_delivery(
    State(app): State<App>,
    caller: Caller,
    Path(number): Path<u64>,
) -> Result<Json<Value>, Fault> {
    let one = find_delivery(&app, &caller, number).await?;
    let mut body = delivery(&one);
    if caller.client.role >= Role::Operator {
        body["headers"] = one
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        body["body"] = one.body;
    }
    Ok(Json(body))
}

pub(super) async fn replay(State(app): State<App>, caller: Caller, Path(number): Path<u64>) -> Result<Response, Fault> {
    let one = find_delivery(&app, &caller, number).await?;
    caller.change(&RepositoryName(one.repository), Role::Operator)?;
    let (number, runs) = deeds::replay(&app, &caller, number).await?;
    let runs: Vec<u64> = runs.iter().map(|run| run.0).collect();
    Ok((StatusCode::CREATED, Json(json!({"number": number, "run_ids": runs}))).into_response())
}

pub(super) async fn schedules(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let all = (app.source.outside.schedules)(5);
    let items: Vec<Value> = all
        .iter()
        .filter(|one| caller.client.sees(&one.repository))
        .map(|one| {
            json!({
                "repository": one.repository, "workflow": one.workflow, "cron": one.cron, "timezone": one.timezone,
                "next": one.next.iter().map(|at| format::api(*at)).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(Json(json!({"total_count": items.len(), "schedules": items})))
}

pub(super) async fn share(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<u64>,
    body: Bytes,
) -> Result<Response, Fault> {
    let run = find(&app, &caller, id).await?;
    caller.change(&run.repository, Role::Operator)?;
    let wish: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?
    };
    let path = deeds::share(&app, &caller, &run, wish["hours"].as_i64().unwrap_or(24 * 7)).await?;
    Ok((StatusCode::CREATED, Json(json!({"url": format!("{}{path}", caller.base.0)}))).into_response())
}

pub(super) async fn run_script(State(app): State<App>, caller: Caller, body: Bytes) -> Result<Response, Fault> {
    caller.change_whole(Role::Admin)?;
    let wish: Value = serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?;
    let text = |name: &str| wish[name].as_str().unwrap_or_default();
    let hosts = wish["hosts"].as_array().into_iter().flatten();
    let hosts: Vec<String> = hosts.filter_map(Value::as_str).map(str::to_owned).collect();
    let run = deeds::script(&app, &caller, text("title"), text("shell"), text("script"), &hosts).await?;
    let html = format!("{}/{}/actions/runs/{run}", caller.base.0, deeds::SCRIPTS);
    Ok((StatusCode::CREATED, Json(json!({"run_id": run.0, "html_url": html}))).into_response())
}

pub(super) async fn audit(State(app): State<App>, caller: Caller, Asked(uri): Asked) -> Result<Json<Value>, Fault> {
    caller.whole(Role::Admin)?;
    let page = Page::of(&query(&uri));
    let lines = app.source.audit_log(page.skip(), page.size).await?;
    let items: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "at": line.at.to_string(), "actor": line.actor, "action": line.action, "subject": line.subject,
                "detail": line.detail,
            })
        })
        .collect();
    Ok(Json(json!({"audit": items})))
}

async fn host_deed(app: &App, caller: &Caller, host: &str, deed: HostDeed) -> Result<StatusCode, Fault> {
    caller.change_whole(Role::Operator)?;
    deeds::host(app, caller, host, deed).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn drain(
    State(app): State<App>,
    caller: Caller,
    Path(host): Path<String>,
) -> Result<StatusCode, Fault> {
    host_deed(&app, &caller, &host, HostDeed::Drain).await
}

pub(super) async fn pause_host(
    State(app): State<App>,
    caller: Caller,
    Path(host): Path<String>,
) -> Result<StatusCode, Fault> {
    host_deed(&app, &caller, &host, HostDeed::Pause).await
}

pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(host): Path<String>,
) -> Result<StatusCode, Fault> {
    host_deed(&app, &caller, &host, HostDeed::Resume).await
}

pub(super) async fn pause_queue(State(app): State<App>, caller: Caller) -> Result<StatusCode, Fault> {
    caller.change_whole(Role::Operator)?;
    deeds::tell(&app, &caller, "queue.pause", "queue", Input::PauseQueue { paused: true }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn resume_queue(State(app): State<App>, caller: Caller) -> Result<StatusCode, Fault> {
    caller.change_whole(Role::Operator)?;
    deeds::tell(&app, &caller, "queue.resume", "queue", Input::PauseQueue { paused: false }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_run_paused(app: &App, caller: &Caller, id: u64, paused: bool) -> Result<StatusCode, Fault> {
    let run = find(app, caller, id).await?;
    caller.change(&run.repository, Role::Operator)?;
    let action = if paused { "run.pause" } else { "run.resume" };
    let subject = format!("{}#{id}", run.repository);
    deeds::tell(app, caller, action, &subject, Input::PauseRun { run: run.id, paused }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn pause_run(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<StatusCode, Fault> {
    set_run_paused(&app, &caller, id, true).await
}

pub(super) async fn resume_run(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<StatusCode, Fault> {
    set_run_paused(&app, &caller, id, false).await
}

pub(super) async fn tokens(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Fault> {
    caller.whole(Role::Admin)?;
    let tokens: Vec<Value> = app
        .source
        .store
        .tokens()?
        .iter()
        .map(|token| {
            json!({
                "name": token.name, "role": Role::from(token.role).as_str(), "repositories": token.repositories,
                "created_at": format::api(token.created_at), "expires_at": token.expires_at.map(format::api),
            })
        })
        .collect();
    Ok(Json(json!({"tokens": tokens})))
}

pub(super) async fn create_token(State(app): State<App>, caller: Caller, body: Bytes) -> Result<Response, Fault> {
    caller.change_whole(Role::Admin)?;
    let wish: Value = serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?;
    let name = wish["name"].as_str().unwrap_or_default();
    let role = auth::role(wish["role"].as_str().unwrap_or("viewer")).map_err(Fault::Invalid)?;
    let repositories = wish["repositories"].as_array().into_iter().flatten();
    let repositories = repositories.filter_map(Value::as_str).map(RepositoryName::from).collect();
    let expires_at = match wish["expires_at"].as_str() {
        Some(text) => Some(text.parse().map_err(|_| Fault::Invalid("expires_at is not a time".to_owned()))?),
        None => None,
    };
    let value = deeds::create_token(&app, &caller, name, role, repositories, expires_at).await?;
    let body = json!({"name": name, "role": Role::from(role).as_str(), "token": value});
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

pub(super) async fn revoke_token(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Fault> {
    caller.change_whole(Role::Admin)?;
    deeds::revoke_token(&app, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
