//! Calls in Twirp's JSON form: a POST per method, snake or camel case, long numbers as text.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json_, json};

use super::token::Caller;
use super::{Services, ServicesError, artifacts, caches};

/// The largest body of a call.
const LARGEST_CALL: usize = 1024 * 1024;

/// Why a call fails, in Twirp's words.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Fault {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid_argument", message: message.into() }
    }

    pub(super) fn unauthenticated() -> Self {
        let message = "the token is missing, forged or over its time".to_owned();
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthenticated", message }
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, code: "permission_denied", message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: message.into() }
    }

    pub(super) fn exists(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, code: "already_exists", message: message.into() }
    }
}

impl From<ServicesError> for Fault {
    fn from(error: ServicesError) -> Self {
        let (status, code) = match &error {
            ServicesError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "resource_exhausted"),
            ServicesError::NoUpload => (StatusCode::NOT_FOUND, "not_found"),
            ServicesError::Broken { .. } | ServicesError::NoBlock { .. } => {
                (StatusCode::BAD_REQUEST, "invalid_argument")
            }
            ServicesError::File { .. } | ServicesError::Record { .. } | ServicesError::Key { .. } => {
                log::error!("the services failed: {error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        };
        Self { status, code, message: error.to_string() }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        // `message` is what clients of the older protocols print.
        let body = json!({ "code": self.code, "msg": self.message, "message": self.message });
        (self.status, Json(body)).into_response()
    }
}

/// The arguments of a call.
pub(super) struct Arguments(Map<String, Json_>);

impl Arguments {
    /// A text; empty when it is not there.
    pub(super) fn text(&self, key: &str) -> String {
        match self.get(key) {
            Some(Json_::String(text)) => text.clone(),
            Some(Json_::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// A text that must be there.
    pub(super) fn needed(&self, key: &str) -> Result<String, Fault> {
        Some(self.text(key)).filter(|text| !text.is_empty()).ok_or_else(|| Fault::invalid(format!("{key} is missing")))
    }

    /// A number, which may be written as text.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key).parse().ok()
    }

    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let items = self.get(key).and_then(Json_::as_array);
        items.into_iter().flatten().filter_map(Json_::as_str).map(str::to_owned).collect()
    }

    fn get(&self, key: &str) -> Option<&Json_> {
        self.0.get(key).or_else(|| {
            let mut words = key.split('_');
            let mut camel = words.next().unwrap_or_default().to_owned();
            for word in words {
                let (first, rest) = word.split_at(1.min(word.len()));
                camel.push_str(&first.to_ascii_uppercase());
                camel.push_str(rest);
            }
            self.0.get(&camel)
        })
    }
}

/// Reads a small JSON body.
pub(super) async fn arguments(body: Body) -> Result<Arguments, Fault> {
    let bytes = axum::body::to_bytes(body, LARGEST_CALL).await.map_err(|error| Fault::invalid(error.to_string()))?;
    serde_json::from_slice(&bytes)
        .map(Arguments)
        .map_err(|error| Fault::invalid(format!("the body is no object: {error}")))
}

/// The token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who calls.
pub(super) fn caller(services: &Services, headers: &HeaderMap) -> Result<Caller, Fault> {
    let token = bearer(headers).ok_or_else(Fault::unauthenticated)?;
    services.inner.keys.caller(token, services.now(), |job| services.runs(job)).ok_or_else(Fault::unauthenticated)
}

pub(super) async fn call(
    State(services): State<Services>,
    Path((service, method)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Json_>, Fault> {
    let caller = caller(&services, &headers)?;
    let arguments = arguments(body).await?;
    let answer = match (service.as_str(), method.as_str()) {
        ("github.actions.results.api.v1.ArtifactService", method) => {
            artifacts::call(&services, &caller, method, &arguments)?
        }
        ("github.actions.results.api.v1.CacheService", method) => caches::call(&services, &caller, method, &arguments)?,
        _ => None,
    };
    answer.map(Json).ok_or_else(|| Fault {
        status: StatusCode::NOT_FOUND,
        code: "bad_route",
        message: format!("there is no {service}/{method}"),
    })
}
