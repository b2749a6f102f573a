//! What forges and people are still to be told, in the API: listed, sent again, thrown away.

use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};

use super::app::{App, Caller, Fault};
use super::auth::Role;
use super::source::LetterDeed;
use super::{deeds, format};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v3/towline/outbox", get(outbox))
        .route("/api/v3/towline/outbox/{letter}", delete(forget_letter))
        .route("/api/v3/towline/outbox/{letter}/retry", post(retry_letter))
}

/// Letters for who may know of their repositories: those that nobody took come first.
async fn outbox(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let letters: Vec<Value> = (app.source.outside.letters)()?
        .iter()
        .filter(|one| caller.client.sees(&one.repository))
        .map(|one| {
            json!({
                "id": one.id, "kind": one.kind, "repository": one.repository, "subject": one.subject, "dead": one.dead,
                "attempts": one.attempts, "reason": one.reason, "at": format::api(one.at),
            })
        })
        .collect();
    Ok(Json(json!({"total_count": letters.len(), "letters": letters})))
}

async fn change_letter(app: &App, caller: &Caller, id: &str, deed: LetterDeed) -> Result<StatusCode, Fault> {
    caller.at_least(Role::Viewer)?;
    let letter = (app.source.outside.letters)()?.into_iter().find(|one| one.id == id).ok_or(Fault::NotFound)?;
    caller.change(&letter.repository, Role::Operator)?;
    deeds::change_letter(app, caller, &letter, deed).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn retry_letter(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    change_letter(&app, &caller, &id, LetterDeed::Retry).await
}

async fn forget_letter(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    change_letter(&app, &caller, &id, LetterDeed::Forget).await
}
