//! The server itself, repositories, contents, checks and statuses.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::id::RepositoryName;
use crate::server::app::{App, Asked, Caller, Fault, accepts, query};
use crate::server::auth::Role;
use crate::server::view::{JobView, RunView};
use crate::server::{access, deeds, wire};
use crate::store::RunFilter;

use super::lists::{self, Page};

/// `gh` asks newer servers for the details of the runs it starts.
pub(super) const ENTERPRISE_VERSION: &str = "3.99.0";

pub(super) async fn root(caller: Caller) -> Result<Json<Value>, Fault> {
    // `gh auth status` takes a good answer here for a good token.
    caller.at_least(Role::Viewer)?;
    let api = format!("{}/api/v3", caller.base.0);
    Ok(Json(json!({
        "current_user_url": format!("{api}/user"),
        "rate_limit_url": format!("{api}/rate_limit"),
        "repository_url": format!("{api}/repos/{{owner}}/{{repo}}"),
        "user_repositories_url": format!("{api}/users/{{user}}/repos{{?type,page,per_page,sort}}"),
        "towline_url": format!("{api}/towline/openapi.json"),
    })))
}

pub(super) async fn meta() -> Json<Value> {
    Json(json!({
        "verifiable_password_authentication": false,
        "installed_version": ENTERPRISE_VERSION,
        "github_services_sha": env!("CARGO_PKG_VERSION"),
    }))
}

pub(super) async fn user(caller: Caller) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let mut user = wire::user(&caller.base, &caller.client.name);
    if let Value::Object(user) = &mut user {
        user.insert("name".into(), caller.client.name.clone().into());
        user.insert("created_at".into(), "1970-01-01T00:00:00Z".into());
        user.insert("updated_at".into(), "1970-01-01T00:00:00Z".into());
        user.insert("role".into(), caller.client.role.as_str().into());
    }
    Ok(Json(user))
}

/// There is no limit; clients that look for one find a generous one.
pub(super) async fn rate_limit(caller: Caller) -> Json<Value> {
    let limit = json!({"limit": 1_000_000, "used": 0, "remaining": 1_000_000, "reset": caller.now.as_second() + 3600});
    Json(json!({"resources": {"core": limit, "search": limit, "graphql": limit}, "rate": limit}))
}

pub(super) async fn list(State(app): State<App>, caller: Caller, Asked(uri): Asked) -> Result<Response, Fault> {
    caller.at_least(Role::Viewer)?;
    let page = Page::of(&query(&uri));
    let all = app.source.repositories().await?;
    let seen: Vec<RepositoryName> = all.into_iter().filter(|one| caller.client.sees(one)).collect();
    let (part, total) = lists::part(seen, page);
    let items: Vec<Value> = part.iter().map(|one| full(&caller, one, "main")).collect();
    Ok(lists::linked(&caller, &uri, page, total, items.into()))
}

fn full(caller: &Caller, name: &RepositoryName, default_branch: &str) -> Value {
    let role = caller.client.role;
    wire::full_repository(&caller.base, name, default_branch, role >= Role::Operator, role >= Role::Admin)
}

/// `repository_dispatch`.
pub(super) async fn dispatches(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Fault> {
    let repository = access::repository(&app, &caller, path).await?;
    caller.change(&repository, Role::Operator)?;
    let mut sent: Value =
        serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?;
    let payload = sent["client_payload"].take();
    let Some(event_type) = sent["event_type"].as_str() else {
        return Err(Fault::Invalid("Invalid request.\n\n\"event_type\" wasn't supplied.".to_owned()));
    };
    deeds::send_event(&app, &caller, &repository, event_type, payload).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn one(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let repository = access::repository(&app, &caller, path).await?;
    let files = (app.source.outside.files)(repository.clone()).await.unwrap_or_default();
    let branch = files.first().map_or("main", |file| file.default_branch.as_str());
    Ok(Json(full(&caller, &repository, branch)))
}

/// Workflow files only: what `gh workflow view --yaml` reads. The git protocol serves the rest.
pub(super) async fn contents(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path((owner, name, path)): Path<(String, String, String)>,
) -> Result<Response, Fault> {
    let repository = access::repository(&app, &caller, (owner, name)).await?;
    let files = (app.source.outside.files)(repository.clone()).await.map_err(Fault::Unavailable)?;
    let file = files.into_iter().find(|file| file.path == path).ok_or(Fault::NotFound)?;
    if accepts(&headers, "raw") {
        return Ok(file.text.into_response());
    }
    let url = format!("{}/api/v3/repos/{repository}/contents/{}", caller.base.0, file.path);
    Ok(Json(json!({
        "type": "file", "encoding": "base64", "size": file.text.len(),
        "name": file.path.rsplit('/').next(), "path": file.path,
        "content": base64::engine::general_purpose::STANDARD.encode(&file.text),
        "sha": "", "url": url, "git_url": null, "html_url": null, "download_url": null,
        "_links": {"self": url, "git": null, "html": null},
    }))
    .into_response())
}

/// All jobs of all runs of a commit.
async fn of_commit(app: &App, repository: RepositoryName, sha: String) -> Result<Vec<(RunView, JobView)>, Fault> {
    let filter = RunFilter { repository: Some(repository), sha: Some(sha), ..RunFilter::default() };
    let (runs, _) = app.source.runs(filter, 0, 100).await?;
    let mut all = Vec::new();
    for run in runs {
        for job in app.source.jobs(&run).await? {
            all.push((run.clone(), job));
        }
    }
    Ok(all)
}

pub(super) async fn check_runs(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path((owner, name, sha)): Path<(String, String, String)>,
) -> Result<Response, Fault> {
    let repository = access::repository(&app, &caller, (owner, name)).await?;
    let page = Page::of(&query(&uri));
    let (part, total) = lists::part(of_commit(&app, repository, sha).await?, page);
    let items = part.iter().map(|(run, job)| wire::check_run(&caller.base, run, job)).collect();
    Ok(lists::answer(&caller, &uri, page, total, "check_runs", items))
}

pub(super) async fn status(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, sha)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let repository = access::repository(&app, &caller, (owner, name)).await?;
    let jobs = of_commit(&app, repository.clone(), sha.clone()).await?;
    let state = if jobs.iter().any(|(_, job)| job.state().is_bad()) {
        "failure"
    } else if jobs.is_empty() || jobs.iter().any(|(_, job)| !job.state().is_final()) {
        "pending"
    } else {
        "success"
    };
    let url = format!("{}/api/v3/repos/{repository}/commits/{sha}", caller.base.0);
    Ok(Json(json!({
        "state": state, "statuses": [], "sha": sha, "total_count": 0,
        "repository": wire::repository(&caller.base, &repository),
        "commit_url": url, "url": format!("{url}/status"),
    })))
}

pub(super) async fn check_run(
    State(app): State<App>,
    caller: Caller,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Json<Value>, Fault> {
    let (run, job) = access::job(&app, &caller, (owner, name), id).await?;
    Ok(Json(wire::check_run(&caller.base, &run, &job)))
}

pub(super) async fn annotations(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path((owner, name, id)): Path<(String, String, u64)>,
) -> Result<Response, Fault> {
    let (run, job) = access::job(&app, &caller, (owner, name), id).await?;
    let page = Page::of(&query(&uri));
    let (part, total) = lists::part(job.annotations.clone(), page);
    let items: Vec<Value> = part.iter().map(|note| wire::annotation(&caller.base, &run, note)).collect();
    Ok(lists::linked(&caller, &uri, page, total, items.into()))
}
