//! Webhooks: `POST /hooks/{github|gitea|forgejo|gitlab}/OWNER/NAME`, and the door of the git hook.
//!
//! A sender is answered once its delivery is on the disk. The body is checked against the raw bytes before anything of
//! it is read; a second delivery of the same id is answered like the first and starts nothing.

mod signature;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value as Json, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::hook::{HOOK_PATH, HookPush};
use super::service::{Content, Error, Outcome, Triggers};
use crate::config::{Source, SourceKind};
use crate::id::{RepositoryName, RunId};
use crate::store::{DeliveryRecord, DeliveryState};

pub use signature::{Forge, verify};

/// GitHub's own limit.
const LARGEST_BODY: usize = 25 << 20;
/// Of bodies that are received at once: whoever sends them has proved nothing yet.
const BODIES: usize = 64 << 20;
/// Seconds after which a refused sender may come back.
const RETRY_AFTER: &str = "30";

const UNPROVED: &str = "the signature is missing or wrong";

/// How long a pusher who follows nothing waits to read which runs were started.
const PUSHERS_PATIENCE: Duration = Duration::from_secs(3);

/// Lines of the live log of runs, for a pusher's terminal.
pub type Follow = Arc<dyn Fn(Vec<RunId>) -> BoxStream<'static, String> + Send + Sync>;

/// The routes that the world may reach.
pub fn router(triggers: Triggers) -> Router {
    Router::new()
        .route("/hooks/{forge}/{*source}", post(receive))
        .with_state((triggers, Arc::new(Semaphore::new(BODIES))))
}

/// The route of the git hook: for the unix socket only, whose peers are users of this machine.
pub fn socket_router(triggers: Triggers, follow: Option<Follow>) -> Router {
    Router::new()
        .route(HOOK_PATH, post(pushed))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state((triggers, follow))
}

async fn receive(
    State((triggers, room)): State<(Triggers, Arc<Semaphore>)>,
    Path((forge, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let name = name.trim_end_matches('/');
    let Some(forge) = Forge::from_word(&forge) else { return refuse(StatusCode::NOT_FOUND, "there is no such forge") };
    let source = triggers.inventory().find(name).filter(|source| takes(source.kind, forge));
    let Some(source) = source else {
        return refuse(StatusCode::NOT_FOUND, "there is no such source");
    };
    if !forge.has_proof(&headers) {
        return refuse(StatusCode::UNAUTHORIZED, UNPROVED);
    }
    match whole(body, &room).await {
        Ok((body, _held)) => take(&triggers, forge, &source, &headers, &body).await,
        Err(refusal) => refusal,
    }
}

/// A body as a whole, with the room that it takes.
async fn whole(body: Body, room: &Arc<Semaphore>) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Response> {
    let mut pieces = body.into_data_stream();
    let (mut whole, mut held) = (Vec::new(), None::<OwnedSemaphorePermit>);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| refuse(StatusCode::BAD_REQUEST, "the body ended before its end"))?;
        if whole.len() + piece.len() > LARGEST_BODY {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 25 MiB"));
        }
        let size = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        // Refused rather than waited for: those who wait hold room as well.
        let more = Arc::clone(room).try_acquire_many_owned(size).map_err(|_| busy(&Error::Busy))?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        whole.extend_from_slice(&piece);
    }
    Ok((whole, held))
}

/// Takes a delivery, wherever it came from: directly, or over a relay.
pub(super) async fn take(
    triggers: &Triggers,
    forge: Forge,
    source: &Source,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    if source.webhook_secrets.is_empty() {
        return refuse(StatusCode::UNAUTHORIZED, "this source has no webhook_secret, so nothing can be checked");
    }
    let mut secrets = Vec::new();
    for secret in &source.webhook_secrets {
        match secret.read() {
            Ok(secret) => secrets.push(secret),
            Err(error) => log::error!("a webhook secret of {} cannot be read: {error}", source.name),
        }
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !verify(forge, &header, body, &secrets) {
        log::warn!(source = source.name.as_str(); "a webhook of {} has a wrong signature", source.name);
        return refuse(StatusCode::UNAUTHORIZED, UNPROVED);
    }
    let Some(event) = forge.event(&header) else {
        return refuse(StatusCode::BAD_REQUEST, "the event header is missing");
    };
    let payload = match payload(header("content-type").unwrap_or_default(), body) {
        Ok(payload) => payload,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
    };
    if event == "ping" {
        let zen = payload.get("zen").cloned().unwrap_or(Json::Null);
        return (StatusCode::OK, axum::Json(json!({ "message": "pong", "zen": zen }))).into_response();
    }
    let id = forge.delivery(&header).unwrap_or_else(|| signature::digest(&event, body));
    let shown = ["user-agent", "content-type", "x-github-hook-id", "x-gitlab-instance"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), header(name)?.to_owned())));
    let headers: BTreeMap<String, String> = shown.collect();
    let content = Content::Webhook {
        source: source.name.clone(),
        forge: forge.word().to_owned(),
        event: event.clone(),
        payload,
        polled: false,
    };
    let place = format!("{}/{}", forge.word(), source.name);
    match triggers.take(&place, id.clone(), &event, headers, &content, None).await {
        Ok(taken) => {
            let answer = accepted(&source.name, taken.number, &id, taken.before.as_deref());
            if taken.before.is_none() {
                triggers.handle_soon(taken, content);
            }
            answer
        }
        Err(error) => {
            log::error!("a webhook of {} was not accepted: {error}", source.name);
            busy(&error)
        }
    }
}

/// A source takes deliveries of its own forge. Gitea and Forgejo are one family.
fn takes(kind: SourceKind, forge: Forge) -> bool {
    match forge {
        Forge::GitHub => kind == SourceKind::GitHub,
        Forge::Gitea | Forge::Forgejo => matches!(kind, SourceKind::Gitea | SourceKind::Forgejo),
        Forge::GitLab => kind == SourceKind::GitLab,
    }
}

fn accepted(source: &RepositoryName, number: u64, id: &str, before: Option<&DeliveryRecord>) -> Response {
    let runs: Vec<u64> = match before.map(|record| &record.state) {
        Some(DeliveryState::Handled { runs, .. }) => runs.iter().map(|run| run.0).collect(),
        _ => Vec::new(),
    };
    let body = json!({
        "delivery": number,
        "id": id,
        "source": source,
        "runs": runs,
        "url": format!("/api/v3/towline/deliveries/{number}"),
    });
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}

/// JSON, or a form whose field `payload` is JSON.
fn payload(content_type: &str, body: &[u8]) -> Result<Json, String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let parse = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|error| format!("the body is not JSON: {error}"));
    if kind == "application/x-www-form-urlencoded" {
        let field = body.split(|&byte| byte == b'&').find_map(|pair| pair.strip_prefix(b"payload="));
        return parse(&form_decoded(field.ok_or("the form has no field `payload`")?));
    }
    parse(body)
}

fn form_decoded(text: &[u8]) -> Vec<u8> {
    let digit =
        |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
                continue;
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

async fn pushed(State((triggers, follow)): State<(Triggers, Option<Follow>)>, body: Bytes) -> Response {
    let push: HookPush = match serde_json::from_slice(&body) {
        Ok(push) => push,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("this is no push: {error}")),
    };
    let source = triggers.inventory().at_path(std::path::Path::new(&push.repository));
    let follows = push.wants_follow() || source.is_some_and(|source| source.follow);
    match triggers.take_push(push).await {
        Ok(outcome) => {
            // The head of the answer says that the push is durable; what it starts follows.
            let bytes = stream::once(told(outcome, follow.filter(|_| follows))).flatten();
            let bytes = bytes.map(|line| Ok::<_, std::convert::Infallible>(Bytes::from(line + "\n")));
            let head = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::ACCEPTED, head, Body::from_stream(bytes)).into_response()
        }
        Err(error @ Error::UnknownSource(_)) => refuse(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => busy(&error),
    }
}

/// What the pusher reads: the runs, and their live log if it is wanted. Who pushes more than can be looked through at once
/// is not held up.
async fn told(
    outcome: oneshot::Receiver<Result<Outcome, Error>>,
    follow: Option<Follow>,
) -> BoxStream<'static, String> {
    let line = |line: String| stream::iter([line]).boxed();
    let outcome = match &follow {
        Some(_) => outcome.await,
        None => match tokio::time::timeout(PUSHERS_PATIENCE, outcome).await {
            Ok(outcome) => outcome,
            Err(_) => return line("towline: the push is kept; its runs are being started".to_owned()),
        },
    };
    match outcome {
        Ok(Ok(outcome)) => {
            let live = match follow.filter(|_| !outcome.runs.is_empty()) {
                Some(follow) => follow(outcome.runs),
                None => stream::empty().boxed(),
            };
            stream::iter(outcome.lines).chain(live).boxed()
        }
        Ok(Err(Error::Stopping(stopping))) => line(format!("towline: {stopping}")),
        Ok(Err(error)) if error.is_transient() => {
            line(format!("towline: the push is kept, and looked at again before long: {error}"))
        }
        // It is stored: sending it again would change nothing.
        Ok(Err(error)) => line(format!("towline: no runs were started: {error}")),
        Err(_) => line("towline: the push is kept; its runs start when the daemon is back".to_owned()),
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, axum::Json(json!({ "message": reason }))).into_response()
}

fn busy(error: &Error) -> Response {
    let body = axum::Json(json!({ "message": error.to_string() }));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], body).into_response()
}
