//! What forges and people are still to be told, in the API: listed, sent again, thrown away.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use crate::server::app::{App, Caller, Fault};
use crate::server::auth::Role;
use crate::server::source::LetterDeed;
use crate::server::{deeds, format};

/// Letters for who may know of their repositories: those that nobody took come first.
pub(super) async fn letters(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Fault> {
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

/// Sends one now.
pub(super) async fn retry(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    change_letter(&app, &caller, &id, LetterDeed::Retry).await
}

/// Throws one away.
pub(super) async fn forget(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    change_letter(&app, &caller, &id, LetterDeed::Forget).await
}
