//! Streams: a log as it grows, as plain text or events; updates of runs, jobs, hosts and the queue.
//!
//! A follower reads the file, never a channel of bytes: a slow one slows nobody. Offsets are bytes of the log, so a
//! stream goes on where it was cut, also after a restart of the daemon.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value as Json, json};
use tokio::sync::broadcast::error::RecvError;

use crate::engine::Update;
use crate::id::{JobId, RunId};
use crate::store::StoreError;
use crate::store::logs::LogId;

use super::app::{App, Caller};
use super::logs;
use super::pages::{LogLine, rendered};
use super::terminal::Kind;
use super::view::JobView;

/// Text sent at once.
const CHUNK: u64 = 64 * 1024;
/// A sign of life, so that proxies keep the connection and clients notice when it is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How a follower learns that a log grew.
struct Follower {
    app: App,
    log: LogId,
    at: u64,
    live: Option<tokio::sync::watch::Receiver<u64>>,
}

impl Follower {
    fn new(app: &App, log: LogId, at: u64) -> Self {
        app.metrics.followers.inc();
        Self { app: app.clone(), log, at, live: app.source.logs.follow(log.job) }
    }

    async fn read(&self) -> Result<Vec<u8>, StoreError> {
        let (logs, log, at) = (self.app.source.logs.clone(), self.log, self.at);
        match tokio::task::spawn_blocking(move || logs.read(log, at, CHUNK)).await {
            Ok(read) => read,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// The next bytes; `None` when the job is over and all was read, or the server stops.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            // Looking for a writer before reading: one that closes in between is noticed in the next round.
            let over = self.live.is_none() && self.is_over().await;
            match self.read().await {
                Ok(bytes) if !bytes.is_empty() => {
                    self.at += bytes.len() as u64;
                    return Some(bytes);
                }
                Ok(_) if over => return None,
                Ok(_) => {}
                Err(error) => {
                    log::warn!(error:% = error; "cannot read a log that is followed");
                    return None;
                }
            }
            let stop = self.app.stop.clone();
            match &mut self.live {
                Some(live) => tokio::select! {
                    () = stop.cancelled() => return None,
                    changed = live.changed() => if changed.is_err() { self.live = None },
                    // The writer may be gone without a word after a crash of its task.
                    () = tokio::time::sleep(Duration::from_secs(5)) => self.live = self.app.source.logs.follow(self.log.job),
                },
                None => {
                    tokio::select! {
                        () = stop.cancelled() => return None,
                        () = tokio::time::sleep(Duration::from_millis(250)) => {}
                    }
                    self.live = self.app.source.logs.follow(self.log.job);
                }
            }
        }
    }

    /// A job without a writer is over when its record says so; before that it has not begun.
    async fn is_over(&self) -> bool {
        let job = self.log.job;
        let store = self.app.source.store.clone();
        let found = tokio::task::spawn_blocking(move || store.job(job)).await;
        !matches!(found, Ok(Ok(Some(record))) if record.state.conclusion.is_none())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.app.metrics.followers.dec();
    }
}

/// Where a client wants to begin: `Last-Event-ID`, then `Range: bytes=N-`, then `from=N`.
fn start(headers: &HeaderMap, from: Option<&str>) -> u64 {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let last = header("last-event-id").and_then(|id| id.trim().parse().ok());
    let range = header("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    last.or(range).or_else(|| from?.parse().ok()).unwrap_or(0)
}

/// The log of a job as it grows, as plain text.
pub(super) fn follow_text(app: &App, job: &JobView, headers: &HeaderMap, from: Option<&str>) -> Response {
    let at = start(headers, from);
    let follower = Follower::new(app, logs::id(job), at);
    let body = Body::from_stream(stream::unfold(follower, |mut follower| async move {
        let bytes = follower.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(bytes)), follower))
    }));
    let mut response = body.into_response();
    let ranged = headers.contains_key(header::RANGE);
    if ranged {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        if let Ok(range) = HeaderValue::from_str(&format!("bytes {at}-*/*")) {
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    unbuffered(response)
}

/// The log of a job as events: `id` is the offset after the lines, `data` the lines.
pub(super) fn follow_events(app: &App, job: &JobView, headers: &HeaderMap, from: Option<&str>) -> Response {
    let follower = Follower::new(app, logs::id(job), start(headers, from));
    let lines = whole_lines(follower).map(|piece| {
        let text = piece.text.strip_suffix('\n').unwrap_or(&piece.text).replace('\r', "");
        Ok::<_, Infallible>(Event::default().event("log").id(piece.end.to_string()).data(text))
    });
    events(lines.chain(ended()))
}

/// The log of a job for its page: lines with their step, rendered.
pub(super) fn follow_page(app: &App, job: &JobView, headers: &HeaderMap, from: Option<&str>) -> Response {
    let lines = whole_lines(Follower::new(app, logs::id(job), start(headers, from)));
    let place = Place { app: app.clone(), log: logs::id(job), step: 0, number: 0 };
    let rows = stream::unfold((Box::pin(lines), place), |(mut lines, mut place)| async move {
        let piece = lines.next().await?;
        let rows = place.rows(&piece).await;
        let event = Event::default().event("lines").id(piece.end.to_string()).data(Json::Array(rows).to_string());
        Some((Ok::<_, Infallible>(event), (lines, place)))
    });
    events(rows.chain(ended()))
}

fn ended() -> impl Stream<Item = Result<Event, Infallible>> {
    stream::once(async { Ok(Event::default().event("end").data("end")) })
}

fn events(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    unbuffered(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

/// Finds the step and the number of each line that is followed.
struct Place {
    app: App,
    log: LogId,
    /// The step of the line before, and its number in it.
    step: u32,
    number: u64,
}

impl Place {
    async fn rows(&mut self, piece: &Piece) -> Vec<Json> {
        let (store, job) = (self.app.source.store.clone(), self.log.job);
        let found = tokio::task::spawn_blocking(move || store.job(job)).await;
        let steps = match found {
            Ok(Ok(Some(record))) => record.state.steps,
            _ => Vec::new(),
        };
        let mut rows = Vec::new();
        let mut at = piece.begin;
        for line in piece.text.split_inclusive('\n') {
            // The log of a background step lies within that of the step that waited for it.
            let begun = || steps.iter().filter(|step| step.log_start.is_some_and(|start| start <= at));
            let open = begun().filter(|step| step.log_end.is_none_or(|end| at < end));
            let step = open.max_by_key(|step| step.log_start).or_else(|| begun().next_back());
            if let Some(step) = step {
                if step.number != self.step {
                    self.step = step.number;
                    self.number = self.lines_before(step.log_start.unwrap_or(at), at).await;
                }
                self.number += 1;
                rows.push(row(&rendered(self.step, self.number, line.trim_end_matches(['\n', '\r']))));
            }
            at += line.len() as u64;
        }
        rows
    }

    async fn lines_before(&self, from: u64, to: u64) -> u64 {
        let (logs, log) = (self.app.source.logs.clone(), self.log);
        let counted = tokio::task::spawn_blocking(move || super::logs::count(&logs, log, from, to)).await;
        counted.ok().and_then(Result::ok).unwrap_or(0)
    }
}

fn row(line: &LogLine) -> Json {
    let mut html = String::new();
    let kind = match line.kind {
        Kind::Group => {
            line.write_group(&mut html, true);
            html.push_str("</details>");
            "group"
        }
        Kind::EndGroup => "endgroup",
        _ => {
            line.write(&mut html, "s");
            ""
        }
    };
    json!([line.step, kind, html])
}

/// Whole lines with where they begin and end in the log.
struct Piece {
    begin: u64,
    end: u64,
    text: String,
}

/// Text up to the last line break read so far. A last line without one comes at the end; one longer than a mebibyte in
/// pieces.
fn whole_lines(follower: Follower) -> impl Stream<Item = Piece> {
    stream::unfold(Some((follower, Vec::<u8>::new())), |state| async move {
        let (mut follower, mut held) = state?;
        let piece = |bytes: &[u8], end: u64| Piece {
            begin: end - bytes.len() as u64,
            end,
            text: String::from_utf8_lossy(bytes).into_owned(),
        };
        loop {
            let Some(bytes) = follower.next().await else {
                return (!held.is_empty()).then(|| (piece(&held, follower.at), None));
            };
            held.extend_from_slice(&bytes);
            let cut = held.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            let Some(cut) = cut.or((held.len() > 1 << 20).then_some(held.len())) else { continue };
            let rest = held.split_off(cut);
            let piece = piece(&held, follower.at - rest.len() as u64);
            return Some((piece, Some((follower, rest))));
        }
    })
}

/// Which updates a client wants.
#[derive(Clone, Debug, Default)]
pub(super) struct UpdateFilter {
    pub(super) run: Option<RunId>,
    pub(super) job: Option<JobId>,
}

impl UpdateFilter {
    fn wants(&self, update: &Update) -> bool {
        match update {
            Update::Run { run, .. } | Update::RunDeleted { run } => self.run.is_none_or(|wanted| wanted == *run),
            Update::Job { run, job, .. } => {
                self.run.is_none_or(|wanted| wanted == *run) && self.job.is_none_or(|wanted| wanted == *job)
            }
            Update::Host { .. } | Update::HostRemoved { .. } | Update::Queue { .. } => self.run.is_none(),
        }
    }
}

/// Updates as events. A client that lags behind is told to read again rather than held.
pub(super) fn updates(app: &App, caller: &Caller, filter: UpdateFilter) -> Response {
    let state = (app.clone(), app.source.engine.updates(), caller.client.clone(), filter, true);
    let stream = stream::unfold(state, |(app, mut updates, client, filter, first)| async move {
        if first {
            // Something at once, so that the client knows the stream stands.
            let event = Event::default().event("hello").data("{}");
            return Some((Ok(event), (app, updates, client, filter, false)));
        }
        loop {
            let update = tokio::select! {
                () = app.stop.cancelled() => return None,
                update = updates.recv() => update,
            };
            let data = match update {
                Ok(update) if !filter.wants(&update) => continue,
                Ok(update) => {
                    if !client.sees_all() && !visible(&app, &client, &update).await {
                        continue;
                    }
                    serde_json::to_string(&update).unwrap_or_default()
                }
                Err(RecvError::Lagged(_)) => "{\"kind\":\"lagged\"}".to_owned(),
                Err(RecvError::Closed) => return None,
            };
            return Some((Ok(Event::default().event("update").data(data)), (app, updates, client, filter, false)));
        }
    });
    events(stream)
}

/// A client that sees some repositories only hears of those only.
async fn visible(app: &App, client: &super::auth::Client, update: &Update) -> bool {
    let run = match update {
        Update::Run { run, repository, .. } => return client.sees_run(repository, *run),
        Update::Job { run, .. } | Update::RunDeleted { run } => *run,
        Update::Host { .. } | Update::HostRemoved { .. } | Update::Queue { .. } => return false,
    };
    let store = app.source.store.clone();
    let found = tokio::task::spawn_blocking(move || store.run(run)).await;
    matches!(found, Ok(Ok(Some(record))) if client.sees_run(&record.repository, run))
}

/// Proxies must not hold streams back.
fn unbuffered(mut response: Response) -> Response {
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
