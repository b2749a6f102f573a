//! Identity tokens: a job proves to others what it is (P7).

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue, json};

use super::twirp::{Fault, bearer};
use super::{Services, random_name};

/// How long an identity token holds.
const VALID_SECONDS: i64 = 600;

/// Claims that are told as the `github` context has them.
const COPIED: &[&str] = &[
    "actor",
    "actor_id",
    "base_ref",
    "event_name",
    "head_ref",
    "ref",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "run_attempt",
    "run_id",
    "run_number",
    "sha",
    "workflow",
    "workflow_ref",
    "workflow_sha",
];

/// The claims of a job, from its `github` context: `sub` says what is most exact of environment, pull request and ref.
/// `workflow` is the ref and the commit of the file that the job is in, which another one may have called.
#[must_use]
pub fn claims(
    github: &Map<String, JsonValue>,
    workflow: (&str, &str),
    environment: Option<&str>,
    job: u64,
) -> Map<String, JsonValue> {
    let text = |key: &str| match github.get(key) {
        Some(JsonValue::String(text)) => text.clone(),
        Some(JsonValue::Number(number)) => number.to_string(),
        Some(JsonValue::Bool(value)) => value.to_string(),
        _ => String::new(),
    };
    let mut claims = Map::new();
    for key in COPIED {
        claims.insert((*key).to_owned(), text(key).into());
    }
    if text("repository_visibility").is_empty() {
        let private = github.get("event").is_none_or(|event| event["repository"]["private"] != JsonValue::Bool(false));
        claims.insert("repository_visibility".to_owned(), if private { "private" } else { "public" }.into());
    }
    // A colon separates the parts of `sub`.
    let part = |text: &str| text.replace(':', "%3A");
    let what = match (environment, text("event_name").as_str()) {
        (Some(environment), _) => format!("environment:{}", part(environment)),
        (None, "pull_request") => "pull_request".to_owned(),
        _ => format!("ref:{}", part(&text("ref"))),
    };
    claims.insert("sub".to_owned(), format!("repo:{}:{what}", text("repository")).into());
    claims.extend(environment.map(|environment| ("environment".to_owned(), environment.into())));
    claims.insert("job_workflow_ref".to_owned(), workflow.0.into());
    claims.insert("job_workflow_sha".to_owned(), workflow.1.into());
    claims.insert("runner_environment".to_owned(), "self-hosted".into());
    claims.insert("check_run_id".to_owned(), job.to_string().into());
    let owner = format!("{}/{}", text("server_url").trim_end_matches('/'), text("repository_owner"));
    claims.insert("aud".to_owned(), owner.into());
    claims
}

#[derive(Deserialize)]
pub(super) struct Audience {
    audience: Option<String>,
}

pub(super) async fn issue(
    State(services): State<Services>,
    Query(audience): Query<Audience>,
    headers: HeaderMap,
) -> Result<Json<JsonValue>, Fault> {
    let keys = &services.inner.keys;
    let now = services.now();
    let request = bearer(&headers).and_then(|token| keys.identity_request(token, now, |job| services.runs(job)));
    let mut claims = request.ok_or_else(Fault::unauthenticated)?.claims;
    let at = now.as_second();
    if let Some(audience) = audience.audience.filter(|audience| !audience.is_empty()) {
        claims.insert("aud".to_owned(), audience.into());
    }
    claims.insert("iss".to_owned(), services.inner.settings.issuer.clone().into());
    claims.insert("jti".to_owned(), random_name().into());
    // A little in the past, for clocks that are behind.
    claims.insert("nbf".to_owned(), (at - 60).into());
    claims.insert("iat".to_owned(), at.into());
    claims.insert("exp".to_owned(), (at + VALID_SECONDS).into());
    let token = keys.identity_token(&claims).ok_or_else(|| Fault::invalid("the token cannot be signed"))?;
    Ok(Json(json!({ "count": token.len(), "value": token })))
}

pub(super) async fn discovery(State(services): State<Services>) -> Json<JsonValue> {
    let issuer = &services.inner.settings.issuer;
    let mut claims = vec!["sub", "aud", "exp", "iat", "iss", "jti", "nbf", "environment", "job_workflow_ref"];
    claims.extend(["job_workflow_sha", "runner_environment", "check_run_id"]);
    claims.extend(COPIED);
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "subject_types_supported": ["public", "pairwise"],
        "response_types_supported": ["id_token"],
        "claims_supported": claims,
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
    }))
}

pub(super) async fn key_set(State(services): State<Services>) -> Json<JsonValue> {
    Json(json!({ "keys": services.inner.keys.public_keys() }))
}
