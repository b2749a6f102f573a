//! Secrets and variables of repositories, environments and all of them: names go out, values of secrets only come in,
//! sealed for our key as GitHub's clients do it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use crate::server::app::{App, Asked, Caller, Fault, query};
use crate::server::sealed::BoxKey;
use crate::server::{access, deeds, format};
use crate::vault::{Entry, Kind, Level};

use super::lists::{self, Page};

/// The level that a path names, and the entry on it; the client may see the repository.
pub(super) struct Place {
    caller: Caller,
    level: Level,
    entry: String,
}

impl FromRequestParts<App> for Place {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        let caller = Caller::recognise(app, parts)?;
        let parameters = RawPathParams::from_request_parts(parts, app).await.map_err(|_| Fault::NotFound)?;
        let one = |wanted: &str| {
            let found = parameters.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| value.to_owned())
        };
        let level = match (one("owner"), one("name"), one("environment")) {
            (Some(owner), Some(name), environment) => {
                let repository = access::repository(app, &caller, (owner, name)).await?;
                match environment {
                    Some(environment) => Level::Environment(repository, environment),
                    None => Level::Repository(repository),
                }
            }
            _ => Level::Global,
        };
        Ok(Self { caller, level, entry: one("entry").unwrap_or_default() })
    }
}

impl Place {
    fn read(&self) -> Result<(), Fault> {
        access::values(&self.caller, &self.level, false)
    }

    fn write(&self) -> Result<(), Fault> {
        access::values(&self.caller, &self.level, true)
    }

    fn entries(&self, app: &App, kind: Kind) -> Result<Vec<Entry>, Fault> {
        self.read()?;
        Ok(app.vault.list(kind, &self.level)?)
    }

    fn one(&self, app: &App, kind: Kind) -> Result<Json<Value>, Fault> {
        let found = self.entries(app, kind)?;
        let found = found.iter().find(|entry| entry.name.eq_ignore_ascii_case(&self.entry));
        Ok(Json(shown(found.ok_or(Fault::NotFound)?)))
    }
}

fn shown(entry: &Entry) -> Value {
    let mut value = json!({
        "name": entry.name, "created_at": format::api(entry.created_at), "updated_at": format::api(entry.updated_at),
    });
    if let Some(content) = &entry.value {
        value["value"] = content.clone().into();
    }
    value
}

fn list(caller: &Caller, uri: &http::Uri, name: &str, entries: Vec<Entry>) -> Response {
    let page = Page::of(&query(uri));
    let (part, total) = lists::part(entries, page);
    lists::answer(caller, uri, page, total, name, part.iter().map(shown).collect())
}

pub(super) async fn secrets(State(app): State<App>, place: Place, Asked(uri): Asked) -> Result<Response, Fault> {
    let entries = place.entries(&app, Kind::Secret)?;
    Ok(list(&place.caller, &uri, "secrets", entries))
}

pub(super) async fn variables(State(app): State<App>, place: Place, Asked(uri): Asked) -> Result<Response, Fault> {
    let entries = place.entries(&app, Kind::Variable)?;
    Ok(list(&place.caller, &uri, "variables", entries))
}

/// What all repositories have, asked for by one of them, as an organization's.
pub(super) async fn global_secrets(State(app): State<App>, place: Place, Asked(uri): Asked) -> Result<Response, Fault> {
    let place = Place { level: Level::Global, ..place };
    let entries = place.entries(&app, Kind::Secret)?;
    Ok(list(&place.caller, &uri, "secrets", entries))
}

pub(super) async fn global_variables(
    State(app): State<App>,
    place: Place,
    Asked(uri): Asked,
) -> Result<Response, Fault> {
    let place = Place { level: Level::Global, ..place };
    let entries = place.entries(&app, Kind::Variable)?;
    Ok(list(&place.caller, &uri, "variables", entries))
}

pub(super) async fn secret(State(app): State<App>, place: Place) -> Result<Json<Value>, Fault> {
    place.one(&app, Kind::Secret)
}

pub(super) async fn variable(State(app): State<App>, place: Place) -> Result<Json<Value>, Fault> {
    place.one(&app, Kind::Variable)
}

/// Where the key of sealed boxes is kept, itself sealed by the vault.
const SPACE: &str = "server";
const BOX_KEY: &str = "sealed-box-key";

/// The key that clients seal secrets for, made when first asked for and kept over restarts.
async fn box_key(app: &App) -> Result<&BoxKey, Fault> {
    let make = || async {
        if let Some(sealed) = app.source.store.get(SPACE, BOX_KEY)?
            && let Some(key) = app.vault.open(BOX_KEY, &sealed).ok().and_then(|seed| BoxKey::from_seed(&seed))
        {
            return Ok(key);
        }
        // None yet, or its master key is gone: boxes are sealed and opened within one command of a client.
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| Fault::Broken("there are no random numbers".to_owned()))?;
        app.source.store.put(SPACE, BOX_KEY, &app.vault.seal(BOX_KEY, &seed)?).await?;
        BoxKey::from_seed(&seed).ok_or_else(|| Fault::Broken("a key cannot be made".to_owned()))
    };
    app.box_key.get_or_try_init(make).await
}

fn key_id(key: &BoxKey) -> String {
    crate::id::stable_id(&["box", &BASE64.encode(key.public())]).to_string()
}

pub(super) async fn public_key(State(app): State<App>, place: Place) -> Result<Json<Value>, Fault> {
    place.read()?;
    let key = box_key(&app).await?;
    Ok(Json(json!({"key_id": key_id(key), "key": BASE64.encode(key.public())})))
}

fn parsed(body: &Bytes) -> Result<Value, Fault> {
    serde_json::from_slice(body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))
}

pub(super) async fn set_secret(State(app): State<App>, place: Place, body: Bytes) -> Result<Response, Fault> {
    place.write()?;
    let wish = parsed(&body)?;
    let key = box_key(&app).await?;
    if wish["key_id"].as_str().is_some_and(|id| id != key_id(key)) {
        return Err(Fault::Invalid("The key_id is not that of the current public key; ask for it again.".to_owned()));
    }
    let sealed = wish["encrypted_value"]
        .as_str()
        .ok_or_else(|| Fault::Invalid("Invalid request.\n\n\"encrypted_value\" wasn't supplied.".to_owned()))?;
    let opened = BASE64.decode(sealed).ok().and_then(|sealed| key.open(&sealed));
    let value = opened.and_then(|bytes| String::from_utf8(bytes).ok());
    let value =
        value.ok_or_else(|| Fault::Invalid("Bad request - encrypted_value is not sealed for our key".to_owned()))?;
    let new = deeds::set_value(&app, &place.caller, Kind::Secret, &place.level, &place.entry, &value).await?;
    Ok(if new {
        (StatusCode::CREATED, Json(json!({}))).into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}

pub(super) async fn remove_secret(State(app): State<App>, place: Place) -> Result<StatusCode, Fault> {
    remove(&app, &place, Kind::Secret).await
}

pub(super) async fn remove_variable(State(app): State<App>, place: Place) -> Result<StatusCode, Fault> {
    remove(&app, &place, Kind::Variable).await
}

async fn remove(app: &App, place: &Place, kind: Kind) -> Result<StatusCode, Fault> {
    place.write()?;
    deeds::remove_value(app, &place.caller, kind, &place.level, &place.entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn create_variable(State(app): State<App>, place: Place, body: Bytes) -> Result<Response, Fault> {
    place.write()?;
    let wish = parsed(&body)?;
    let (Some(name), Some(value)) = (wish["name"].as_str(), wish["value"].as_str()) else {
        return Err(Fault::Invalid("name and value must be given as text".to_owned()));
    };
    let known = app.vault.list(Kind::Variable, &place.level)?;
    if known.iter().any(|entry| entry.name.eq_ignore_ascii_case(name)) {
        // `gh variable set` takes this as the word to change it instead.
        return Err(Fault::Conflict("Already exists - Variable already exists".to_owned()));
    }
    deeds::set_value(&app, &place.caller, Kind::Variable, &place.level, name, value).await?;
    Ok((StatusCode::CREATED, Json(json!({}))).into_response())
}

/// Changes the value, the name, or both.
pub(super) async fn change_variable(State(app): State<App>, place: Place, body: Bytes) -> Result<StatusCode, Fault> {
    place.write()?;
    let wish = parsed(&body)?;
    let known = app.vault.list(Kind::Variable, &place.level)?;
    let before = known.iter().find(|entry| entry.name.eq_ignore_ascii_case(&place.entry)).ok_or(Fault::NotFound)?;
    let name = wish["name"].as_str().unwrap_or(&before.name);
    let value = wish["value"].as_str().or(before.value.as_deref()).unwrap_or_default();
    deeds::set_value(&app, &place.caller, Kind::Variable, &place.level, name, value).await?;
    if !name.eq_ignore_ascii_case(&before.name) {
        deeds::remove_value(&app, &place.caller, Kind::Variable, &place.level, &before.name).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
