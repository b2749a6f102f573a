//! Artifacts and caches as GitHub's API lists them: for `gh`, for downloads from other runs, for those who clean up.

use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::asked::Asked;
use super::paging::{self, Page};
use super::repositories::{Refusal, Shared};
use super::{Artifact, Cache, ServicesError, transfer};

pub(super) fn routes() -> Router<Shared> {
    let actions = "/api/v3/repos/{owner}/{name}/actions";
    Router::new()
        .route(&format!("{actions}/artifacts"), get(artifacts))
        .route(&format!("{actions}/artifacts/{{id}}"), get(artifact).delete(delete_artifact))
        .route(&format!("{actions}/artifacts/{{id}}/{{format}}"), get(download))
        .route(&format!("{actions}/runs/{{id}}/artifacts"), get(artifacts_of_run))
        .route(&format!("{actions}/caches"), get(caches).delete(delete_caches))
        .route(&format!("{actions}/caches/{{id}}"), axum::routing::delete(delete_cache))
        .route(&format!("{actions}/cache/usage"), get(usage))
}

impl From<ServicesError> for Refusal {
    fn from(error: ServicesError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What lists can be narrowed and turned by.
#[derive(Default, Deserialize)]
struct Filters {
    page: Option<String>,
    per_page: Option<String>,
    name: Option<String>,
    key: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    sort: Option<String>,
    direction: Option<String>,
}

/// A page of a list, in GitHub's form, with the address of the next one.
fn page(shared: &Shared, parts: &Parts, filters: &Filters, name: &str, all: Vec<JsonValue>) -> Response {
    let page = Page::of(filters.page.as_deref(), filters.per_page.as_deref());
    let total = all.len();
    let items: Vec<JsonValue> = all.into_iter().skip(page.skip()).take(page.size).collect();
    let mut body = serde_json::Map::new();
    body.insert("total_count".to_owned(), total.into());
    body.insert(name.to_owned(), items.into());
    let mut response = Json(JsonValue::Object(body)).into_response();
    let last = total.div_ceil(page.size);
    if page.number < last
        && let Some(link) = paging::link(&base(shared, parts), &parts.uri, &[(page.number + 1, "next"), (last, "last")])
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

fn base(shared: &Shared, parts: &Parts) -> String {
    shared.base(parts)
}

fn admit(shared: &Shared, parts: &Parts, repository: &str, write: bool) -> Result<(), Refusal> {
    shared.admit(parts, repository, "actions", write).map(drop)
}

fn describe(shared: &Shared, parts: &Parts, artifact: &Artifact) -> JsonValue {
    let base = base(shared, parts);
    let url = format!("{base}/api/v3/repos/{}/actions/artifacts/{}", artifact.repository, artifact.id);
    json!({
        "id": artifact.id,
        "node_id": format!("A_{}", artifact.id),
        "name": artifact.name,
        "size_in_bytes": artifact.size,
        "url": url,
        "archive_download_url": format!("{url}/zip"),
        "expired": false,
        "digest": format!("sha256:{}", artifact.sha256),
        "created_at": seconds(artifact.created_at),
        "updated_at": seconds(artifact.created_at),
        "expires_at": seconds(artifact.expires_at),
        "workflow_run": {
            "id": artifact.run, "repository_id": 0, "head_repository_id": 0, "head_branch": "", "head_sha": "",
        },
    })
}

/// To the second, as GitHub writes times.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

type Repository = (String, String);

async fn artifacts(
    State(shared): State<Shared>,
    Path((owner, name)): Path<Repository>,
    Asked(filters): Asked<Filters>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, false)?;
    Ok(listed(&shared, &parts, &filters, shared.services.artifacts_of_repository(&repository)))
}

async fn artifacts_of_run(
    State(shared): State<Shared>,
    Path((owner, name, run)): Path<(String, String, u64)>,
    Asked(filters): Asked<Filters>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, false)?;
    let mut artifacts = shared.services.artifacts(run);
    artifacts.retain(|artifact| artifact.repository.eq_ignore_ascii_case(&repository));
    Ok(listed(&shared, &parts, &filters, artifacts))
}

/// The newest first.
fn listed(shared: &Shared, parts: &Parts, filters: &Filters, mut artifacts: Vec<Artifact>) -> Response {
    artifacts.retain(|artifact| filters.name.as_ref().is_none_or(|name| *name == artifact.name));
    artifacts.sort_by_key(|artifact| std::cmp::Reverse(artifact.id));
    let items = artifacts.iter().map(|artifact| describe(shared, parts, artifact)).collect();
    page(shared, parts, filters, "artifacts", items)
}

fn known(shared: &Shared, repository: &str, id: u64) -> Result<Artifact, Refusal> {
    let found = shared.services.artifact(id);
    found.filter(|artifact| artifact.repository.eq_ignore_ascii_case(repository)).ok_or(Refusal::NotFound)
}

async fn artifact(
    State(shared): State<Shared>,
    Path((owner, name, id)): Path<(String, String, u64)>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, false)?;
    let artifact = known(&shared, &repository, id)?;
    Ok(Json(describe(&shared, &parts, &artifact)).into_response())
}

async fn delete_artifact(
    State(shared): State<Shared>,
    Path((owner, name, id)): Path<(String, String, u64)>,
    parts: Parts,
) -> Result<StatusCode, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, true)?;
    known(&shared, &repository, id)?;
    shared.services.delete_artifact(id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Clients are sent on to a signed address, which needs no token: they must not show theirs to a store of blobs.
async fn download(
    State(shared): State<Shared>,
    Path((owner, name, id, format)): Path<(String, String, u64, String)>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, false)?;
    if format != "zip" {
        return Err(Refusal::NotFound);
    }
    let artifact = known(&shared, &repository, id)?;
    let url = transfer::archive_url(&shared.services, &base(&shared, &parts), artifact.id);
    Ok((StatusCode::FOUND, [(header::LOCATION, url)]).into_response())
}

fn describe_cache(cache: &Cache) -> JsonValue {
    json!({
        "id": cache.id,
        "ref": cache.scope,
        "key": cache.key,
        "version": cache.version,
        "last_accessed_at": seconds(cache.used_at),
        "created_at": seconds(cache.created_at),
        "size_in_bytes": cache.size,
    })
}

fn matching(shared: &Shared, repository: &str, filters: &Filters, exactly: bool) -> Vec<Cache> {
    let mut caches = shared.services.caches(repository);
    caches.retain(|cache| {
        filters.reference.as_ref().is_none_or(|reference| *reference == cache.scope)
            && filters
                .key
                .as_ref()
                .is_none_or(|key| if exactly { cache.key == *key } else { cache.key.starts_with(key.as_str()) })
    });
    caches
}

async fn caches(
    State(shared): State<Shared>,
    Path((owner, name)): Path<Repository>,
    Asked(filters): Asked<Filters>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, false)?;
    let mut caches = matching(&shared, &repository, &filters, false);
    match filters.sort.as_deref() {
        Some("created_at") => caches.sort_by_key(|cache| cache.created_at),
        Some("size_in_bytes") => caches.sort_by_key(|cache| cache.size),
        _ => caches.sort_by_key(|cache| cache.used_at),
    }
    if filters.direction.as_deref() != Some("asc") {
        caches.reverse();
    }
    Ok(page(&shared, &parts, &filters, "actions_caches", caches.iter().map(describe_cache).collect()))
}

async fn delete_caches(
    State(shared): State<Shared>,
    Path((owner, name)): Path<Repository>,
    Asked(filters): Asked<Filters>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, true)?;
    if filters.key.is_none() {
        return Err(Refusal::NotFound);
    }
    let gone = matching(&shared, &repository, &filters, true);
    for cache in &gone {
        shared.services.delete_cache(cache.id)?;
    }
    if gone.is_empty() {
        return Err(Refusal::NotFound);
    }
    let items: Vec<JsonValue> = gone.iter().map(describe_cache).collect();
    Ok(Json(json!({ "total_count": items.len(), "actions_caches": items })).into_response())
}

async fn delete_cache(
    State(shared): State<Shared>,
    Path((owner, name, id)): Path<(String, String, u64)>,
    parts: Parts,
) -> Result<StatusCode, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, true)?;
    if !shared.services.caches(&repository).iter().any(|cache| cache.id == id) {
        return Err(Refusal::NotFound);
    }
    shared.services.delete_cache(id)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn usage(
    State(shared): State<Shared>,
    Path((owner, name)): Path<Repository>,
    parts: Parts,
) -> Result<Json<JsonValue>, Refusal> {
    let repository = format!("{owner}/{name}");
    admit(&shared, &parts, &repository, false)?;
    let caches = shared.services.caches(&repository);
    Ok(Json(json!({
        "full_name": repository,
        "active_caches_size_in_bytes": caches.iter().map(|cache| cache.size).sum::<u64>(),
        "active_caches_count": caches.len(),
    })))
}
