//! `/healthz`, `/readyz`, `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

use std::sync::PoisonError;

use super::app::{App, Caller, Fault};
use super::auth::Role;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Ready when new work can be made durable; else why not.
async fn ready(State(app): State<App>) -> Response {
    if app.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    // A full disk is seen before the first write meets it.
    let trouble = app.source.engine.trouble();
    let trouble = trouble.or_else(|| app.source.store.check_space().err().map(|error| error.to_string()));
    let fault = || app.fault.read().unwrap_or_else(PoisonError::into_inner).clone();
    match trouble.or_else(fault) {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(app): State<App>, caller: Caller) -> Result<Response, Fault> {
    if !app.settings.open_metrics {
        // Names of hosts and counts over all repositories are in it.
        caller.whole(Role::Viewer)?;
    }
    let free = rustix::fs::statvfs(app.source.store.directory()).ok().map(|stat| stat.f_bavail * stat.f_frsize);
    let ready = app.source.engine.trouble().is_none();
    let text = app.metrics.text(&app.source.engine.summary().borrow(), ready, free);
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
