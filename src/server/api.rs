//! The API below `/api/v3`: GitHub's shapes and addresses, and what is Towline's own below `/towline`.

mod actions;
mod environments;
mod graphql;
pub(super) mod lists;
mod openapi;
mod outbox;
mod repositories;
mod towline;
mod values;
mod vault;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::{HeaderValue, Method, StatusCode, header};

use super::app::{App, Fault};
use super::wire;

/// Bodies of API requests; nothing here needs more.
const BODY_LIMIT: usize = 1 << 20;

/// All routes of the API.
pub(super) fn routes(app: &App) -> Router<App> {
    let v3 = Router::new()
        .route("/", get(repositories::root))
        .route("/meta", get(repositories::meta))
        .route("/user", get(repositories::user))
        .route("/rate_limit", get(repositories::rate_limit))
        .route("/user/repos", get(repositories::list))
        .route("/repos/{owner}/{name}", get(repositories::one))
        .route("/repos/{owner}/{name}/dispatches", post(repositories::dispatches))
        .route("/repos/{owner}/{name}/contents/{*path}", get(repositories::contents))
        .route("/repos/{owner}/{name}/commits/{sha}/check-runs", get(repositories::check_runs))
        .route("/repos/{owner}/{name}/commits/{sha}/status", get(repositories::status))
        .route("/repos/{owner}/{name}/check-runs/{id}", get(repositories::check_run))
        .route("/repos/{owner}/{name}/check-runs/{id}/annotations", get(repositories::annotations))
        .nest("/repos/{owner}/{name}/actions", actions())
        .merge(level("/repos/{owner}/{name}", "/actions/secrets", "/actions/variables"))
        .route("/repos/{owner}/{name}/actions/organization-secrets", get(values::global_secrets))
        .route("/repos/{owner}/{name}/actions/organization-variables", get(values::global_variables))
        .merge(level("/repos/{owner}/{name}/environments/{environment}", "/secrets", "/variables"))
        .route("/repos/{owner}/{name}/environments", get(environments::list))
        .route(
            "/repos/{owner}/{name}/environments/{environment}",
            get(environments::one).put(environments::set).delete(environments::remove),
        )
        .nest("/towline", towline())
        .fallback(|| async { Fault::NotFound })
        .method_not_allowed_fallback(|| async { Fault::NotFound });
    Router::new()
        .nest("/api/v3", v3)
        // `nest` does not take the slash that `gh auth status` sends.
        .route("/api/v3/", get(repositories::root))
        .route("/api/graphql", post(graphql::answer))
        .layer(middleware::from_fn_with_state(app.clone(), finish))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Secrets and variables of one level.
fn level(prefix: &str, secrets: &str, variables: &str) -> Router<App> {
    let (secrets, variables) = (format!("{prefix}{secrets}"), format!("{prefix}{variables}"));
    Router::new()
        .route(&secrets, get(values::secrets))
        .route(&format!("{secrets}/public-key"), get(values::public_key))
        .route(
            &format!("{secrets}/{{entry}}"),
            get(values::secret).put(values::set_secret).delete(values::remove_secret),
        )
        .route(&variables, get(values::variables).post(values::create_variable))
        .route(
            &format!("{variables}/{{entry}}"),
            get(values::variable).patch(values::change_variable).delete(values::remove_variable),
        )
}

fn actions() -> Router<App> {
    Router::new()
        .route("/runs", get(actions::runs))
        .route("/runs/{id}", get(actions::run).delete(actions::delete_run))
        .route("/runs/{id}/attempts/{attempt}", get(actions::attempt))
        .route("/runs/{id}/attempts/{attempt}/jobs", get(actions::attempt_jobs))
        .route("/runs/{id}/attempts/{attempt}/logs", get(actions::attempt_logs))
        .route("/runs/{id}/jobs", get(actions::run_jobs))
        .route("/runs/{id}/logs", get(actions::run_logs))
        .route("/runs/{id}/timing", get(actions::run_timing))
        .route("/runs/{id}/cancel", post(actions::cancel))
        .route("/runs/{id}/force-cancel", post(actions::force_cancel))
        .route("/runs/{id}/rerun", post(actions::rerun))
        .route("/runs/{id}/rerun-failed-jobs", post(actions::rerun_failed))
        .route("/runs/{id}/approve", post(actions::approve))
        .route("/runs/{id}/pending_deployments", get(environments::pending).post(environments::review))
        .route("/runs/{id}/approvals", get(environments::approvals))
        .route("/jobs/{id}", get(actions::job))
        .route("/jobs/{id}/logs", get(actions::job_logs))
        .route("/jobs/{id}/rerun", post(actions::rerun_job))
        .route("/workflows", get(actions::workflows))
        .route("/workflows/{workflow}", get(actions::workflow))
        .route("/workflows/{workflow}/runs", get(actions::workflow_runs))
        .route("/workflows/{workflow}/timing", get(actions::workflow_timing))
        .route("/workflows/{workflow}/dispatches", post(actions::dispatch))
        .route("/workflows/{workflow}/enable", put(actions::enable))
        .route("/workflows/{workflow}/disable", put(actions::disable))
        .route("/runners", get(actions::runners))
        .route("/permissions", get(actions::permissions))
}

fn towline() -> Router<App> {
    Router::new()
        .route("/events", get(towline::events))
        .route("/hosts", get(towline::hosts))
        .route("/hosts/{host}/drain", put(towline::drain).delete(towline::resume))
        .route("/hosts/{host}/pause", put(towline::pause_host).delete(towline::resume))
        .route("/queue", get(towline::queue))
        .route("/queue/pause", put(towline::pause_queue).delete(towline::resume_queue))
        .route("/runs", get(towline::runs))
        .route("/runs/{id}", get(towline::run))
        .route("/runs/{id}/pause", put(towline::pause_run).delete(towline::resume_run))
        .route("/runs/{id}/share", post(towline::share))
        .route("/jobs/{id}/why", get(towline::why))
        .route("/jobs/{id}/place", get(towline::place))
        .route("/jobs/{id}/release", post(towline::release_job))
        .route("/deliveries", get(towline::deliveries))
        .route("/deliveries/{number}", get(towline::one_delivery))
        .route("/deliveries/{number}/replay", post(towline::replay))
        .route("/outbox", get(outbox::letters))
        .route("/outbox/{letter}", delete(outbox::forget))
        .route("/outbox/{letter}/retry", post(outbox::retry))
        .route("/schedules", get(towline::schedules))
        .route("/scripts", post(towline::run_script))
        .route("/audit", get(towline::audit))
        .route("/tokens", get(towline::tokens).post(towline::create_token))
        .route("/tokens/{name}", delete(towline::revoke_token))
        .route("/secrets", get(vault::secrets))
        .route("/secrets/{name}", put(vault::put_secret).delete(vault::delete_secret))
        .route("/variables", get(vault::variables))
        .route("/variables/{name}", put(vault::put_variable).delete(vault::delete_variable))
        .route("/environments", get(vault::environments))
        .route("/environments/{name}", put(vault::put_environment).delete(vault::delete_environment))
        .route("/master-key/rotate", post(vault::rotate))
        .route("/export", get(vault::export))
        .route("/openapi.json", get(openapi::document))
        .route("/signed/runs/{id}/attempts/{attempt}/logs.zip", get(actions::signed_run_logs))
        .route("/signed/jobs/{id}/log.txt", get(actions::signed_job_log))
}

/// Adds what every answer of the API has, and turns an answer the client already holds into 304.
async fn finish(State(app): State<App>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let held = request.headers().get(header::IF_NONE_MATCH).cloned();
    // Refused before anything of it was done; what only reads goes on.
    let full = if reads { None } else { app.source.store.check_space().err() };
    let mut response = match full {
        Some(error) => Fault::from(error).into_response(),
        None => next.run(request).await,
    };
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        response = Fault::TooLarge.into_response();
    }
    // A number in a path that is none names nothing; refused by the router, in words of its own.
    if response.status() == StatusCode::BAD_REQUEST {
        response = Fault::NotFound.into_response();
    }
    let headers = response.headers_mut();
    headers.insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
    headers.insert("x-github-enterprise-version", HeaderValue::from_static(repositories::ENTERPRISE_VERSION));
    headers.insert("x-oauth-scopes", HeaderValue::from_static("repo, workflow, read:org, gist"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Authorization, Cookie"));
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    app.metrics.answered(response.status().as_u16());
    if !reads || !is_json || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // JSON answers are whole in memory already; collecting one copies nothing.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Fault::Broken("an answer could not be collected".to_owned()).into_response();
    };
    let tag = parts.headers.entry(header::ETAG).or_insert_with(|| wire::entity_tag(&bytes));
    let same = held.and_then(|held| {
        held.to_str().map(|held| held.split(',').any(|one| one.trim() == *tag || one.trim() == "*")).ok()
    });
    if same == Some(true) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}
