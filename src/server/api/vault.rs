//! Secrets, variables and the protection rules of environments, as `towline` asks for them. GitHub's own addresses for
//! them want sealed boxes, which a client on the socket or behind TLS does not need.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::engine::record::EnvironmentRules;
use crate::id::RepositoryName;
use crate::server::app::{App, Asked, Caller, Fault, query};
use crate::server::auth::Role;
use crate::server::{access, deeds, form, format};
use crate::vault::{self, Kind, Level, MasterKey, VaultError};

impl From<VaultError> for Fault {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Name(_) | VaultError::TooLong { .. } | VaultError::TooMany => Self::Invalid(error.to_string()),
            VaultError::Store(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// The level that the query names: an environment of a repository, a repository, or everything.
fn level(pairs: &[(String, String)]) -> Result<Level, Fault> {
    let text = |name| form::first(pairs, name).filter(|value| !value.is_empty());
    match (text("repository"), text("environment")) {
        (None, None) => Ok(Level::Global),
        (Some(repository), None) => Ok(Level::Repository(repository.into())),
        (Some(repository), Some(environment)) => Ok(Level::Environment(repository.into(), environment.to_owned())),
        (None, Some(_)) => Err(Fault::Invalid("an environment belongs to a repository: name it too".to_owned())),
    }
}

fn object(body: &Bytes) -> Result<Value, Fault> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(Fault::Invalid("Problems parsing JSON".to_owned())),
    }
}

async fn list(app: &App, caller: &Caller, uri: &http::Uri, kind: Kind) -> Result<Json<Value>, Fault> {
    let level = level(&query(uri))?;
    access::values(caller, &level, false)?;
    let entries = app.vault.list(kind, &level)?;
    let items: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            let mut item = json!({
                "name": entry.name,
                "created_at": format::api(entry.created_at),
                "updated_at": format::api(entry.updated_at),
            });
            if let Some(value) = entry.value {
                item["value"] = value.into();
            }
            item
        })
        .collect();
    let name = format!("{}s", kind.word());
    Ok(Json(json!({"total_count": items.len(), name: items})))
}

async fn put(
    app: &App,
    caller: &Caller,
    uri: &http::Uri,
    kind: Kind,
    name: &str,
    body: &Bytes,
) -> Result<Response, Fault> {
    let level = level(&query(uri))?;
    access::values(caller, &level, true)?;
    let wish = object(body)?;
    let value = wish["value"].as_str().ok_or_else(|| Fault::Invalid("value must be a string".to_owned()))?;
    deeds::set_value(app, caller, kind, &level, name, value).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn remove(app: &App, caller: &Caller, uri: &http::Uri, kind: Kind, name: &str) -> Result<Response, Fault> {
    let level = level(&query(uri))?;
    access::values(caller, &level, true)?;
    deeds::remove_value(app, caller, kind, &level, name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn secrets(State(app): State<App>, caller: Caller, Asked(uri): Asked) -> Result<Json<Value>, Fault> {
    list(&app, &caller, &uri, Kind::Secret).await
}

pub(super) async fn variables(State(app): State<App>, caller: Caller, Asked(uri): Asked) -> Result<Json<Value>, Fault> {
    list(&app, &caller, &uri, Kind::Variable).await
}

pub(super) async fn put_secret(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Fault> {
    put(&app, &caller, &uri, Kind::Secret, &name, &body).await
}

pub(super) async fn put_variable(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Fault> {
    put(&app, &caller, &uri, Kind::Variable, &name, &body).await
}

pub(super) async fn delete_secret(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(name): Path<String>,
) -> Result<Response, Fault> {
    remove(&app, &caller, &uri, Kind::Secret, &name).await
}

pub(super) async fn delete_variable(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(name): Path<String>,
) -> Result<Response, Fault> {
    remove(&app, &caller, &uri, Kind::Variable, &name).await
}

/// The repository that the query has to name.
fn repository(uri: &http::Uri) -> Result<RepositoryName, Fault> {
    let pairs = query(uri);
    let name = form::first(&pairs, "repository").filter(|name| !name.is_empty());
    name.map(RepositoryName::from).ok_or_else(|| Fault::Invalid("repository is missing".to_owned()))
}

/// Environments of a repository: those with rules and those with secrets or variables.
pub(super) async fn environments(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
) -> Result<Json<Value>, Fault> {
    let repository = repository(&uri)?;
    caller.see(&repository)?;
    let all = app.environments(&repository).await?;
    let items: Vec<Value> = all
        .iter()
        .map(|(name, rules)| {
            json!({
                "name": name, "reviewers": rules.reviewers, "prevent_self_review": rules.prevent_self_review,
                "wait_minutes": rules.wait_minutes, "branches": rules.branches,
            })
        })
        .collect();
    Ok(Json(json!({"total_count": items.len(), "environments": items})))
}

async fn change_environment(
    app: &App,
    caller: &Caller,
    uri: &http::Uri,
    name: &str,
    rules: Option<EnvironmentRules>,
) -> Result<Response, Fault> {
    let repository = repository(uri)?;
    caller.change(&repository, Role::Admin)?;
    deeds::set_environment(app, caller, &repository, name, rules).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn put_environment(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Fault> {
    let rules = rules(&object(&body)?)?;
    change_environment(&app, &caller, &uri, &name, Some(rules)).await
}

pub(super) async fn delete_environment(
    State(app): State<App>,
    caller: Caller,
    Asked(uri): Asked,
    Path(name): Path<String>,
) -> Result<Response, Fault> {
    change_environment(&app, &caller, &uri, &name, None).await
}

fn rules(wish: &Value) -> Result<EnvironmentRules, Fault> {
    let words = |key: &str| -> Result<Vec<String>, Fault> {
        let invalid = || Fault::Invalid(format!("{key} must be a list of names"));
        match &wish[key] {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(invalid)).collect()
            }
            _ => Err(invalid()),
        }
    };
    let reviewers = words("reviewers")?;
    let wait = match &wish["wait_minutes"] {
        Value::Null => Some(0),
        value => value.as_u64(),
    };
    let wait = wait.and_then(|minutes| u32::try_from(minutes).ok());
    let wait_minutes = wait.ok_or_else(|| Fault::Invalid("wait_minutes must be a number of minutes".to_owned()))?;
    let prevent_self_review = wish["prevent_self_review"].as_bool().unwrap_or(false);
    Ok(EnvironmentRules { reviewers, prevent_self_review, wait_minutes, branches: words("branches")? })
}

/// Seals everything under a new master key.
pub(super) async fn rotate(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Fault> {
    caller.change_whole(Role::Admin)?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(std::path::PathBuf::from);
    app.audit(&caller.client, "key.rotate", "master key", "").await?;
    let (count, key) = if vault::is_credential(credentials.as_deref()) {
        (app.vault.reseal_all().await?, "credential")
    } else {
        if app.vault.needs_old_key()? {
            return Err(Fault::Conflict(
                "Something is still sealed under the key before this one: a job that runs since before the last \
                 rotation, or a rotation that did not end. Try again when it has ended."
                    .to_owned(),
            ));
        }
        let key = MasterKey::generate()?;
        // On the disk first: a crash between the two leaves both keys, and either opens.
        key.install(app.source.store.directory())?;
        (app.vault.rotate(key).await?, "file")
    };
    Ok(Json(json!({"resealed": count, "key": key})))
}

/// The whole state as lines of JSON, as a file of one moment. What is secret in it is sealed.
pub(super) async fn export(State(app): State<App>, caller: Caller) -> Result<Response, Fault> {
    caller.whole(Role::Admin)?;
    app.audit(&caller.client, "state.export", "state", "").await?;
    let (store, now) = (app.source.store.clone(), caller.now);
    let file = tokio::task::spawn_blocking(move || {
        let name = format!("export-{}-{}.ndjson", std::process::id(), now.as_nanosecond());
        let path = store.directory().join(name);
        store.export(now, &path).map_err(Fault::from)?;
        let file = std::fs::File::open(&path).map_err(|error| Fault::Broken(error.to_string()));
        // The name is not needed any more: the file goes when the answer has been read.
        drop(std::fs::remove_file(&path));
        file
    })
    .await
    .map_err(|error| Fault::Broken(error.to_string()))??;
    let body = Body::from_stream(tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file)));
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}
