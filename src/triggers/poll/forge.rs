//! Asking a forge's API what a webhook would have told: pull requests, and GitHub's list of what happened.
//!
//! Every question carries the mark of the last answer, so that "nothing new" costs neither side anything.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::super::hook::HookRef;
use super::super::service::{Content, Error, Triggers};
use super::requests::{self, Delivery, Seen};
use crate::config::{Source, SourceKind};
use crate::forge::{Client, Fetched};

const REQUESTS: &str = "poll-requests";
const EVENTS: &str = "poll-events";
/// The longest that GitHub's word about how often it may be asked is believed.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Ids of events that are remembered: more than one page holds.
const EVENTS_REMEMBERED: usize = 300;

/// What is remembered of a list.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Requests {
    etag: Option<String>,
    /// What GitLab says of the project, once it was asked.
    project: Json,
    seen: BTreeMap<u64, Seen>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Events {
    etag: Option<String>,
    /// GitHub says how often it may be asked.
    #[serde(default)]
    not_before: Option<Timestamp>,
    repository: Json,
    seen: Vec<String>,
}

/// Whether a source's forge has an API that we may ask.
pub(super) fn is_asked(source: &Source) -> bool {
    let forge = !matches!(source.kind, SourceKind::Git | SourceKind::Directory);
    // Without a token GitHub answers sixty times in an hour: not enough.
    forge && (source.token.is_some() || source.app.is_some())
}

/// Asks once; gives how many deliveries that made.
pub(super) async fn look(triggers: &Triggers, source: &Source) -> Result<usize, Error> {
    let client = triggers.clients().of(source)?;
    let mut count = look_at_requests(triggers, source, &client).await?;
    if source.kind == SourceKind::GitHub {
        count += look_at_events(triggers, source, &client).await?;
    }
    Ok(count)
}

async fn look_at_requests(triggers: &Triggers, source: &Source, client: &Client) -> Result<usize, Error> {
    let stored = triggers.store().get(REQUESTS, source.name.as_str())?;
    let stored: Option<Requests> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let etag = stored.as_ref().and_then(|stored| stored.etag.as_deref());
    let list = client.repository_path(match source.kind {
        SourceKind::GitHub => "/pulls?state=all&sort=updated&direction=desc&per_page=50",
        SourceKind::GitLab => "/merge_requests?scope=all&order_by=updated_at&sort=desc&per_page=50",
        _ => "/pulls?state=all&sort=recentupdate&limit=50",
    });
    let Fetched { etag, body: Some(body), .. } = client.fetch(&list, etag).await? else { return Ok(0) };
    let mut project = stored.as_ref().map(|stored| stored.project.clone()).unwrap_or_default();
    if source.kind == SourceKind::GitLab && project.is_null() {
        let asked = client.fetch(&client.repository_path(""), None).await?;
        let asked = asked.body.unwrap_or_default();
        project = json!({
            "id": asked.get("id"),
            "name": asked.get("name"),
            "path_with_namespace": asked.get("path_with_namespace"),
            "default_branch": asked.get("default_branch"),
            "web_url": asked.get("web_url"),
            "git_http_url": asked.get("http_url_to_repo"),
        });
    }
    let list = body.as_array().map(Vec::as_slice).unwrap_or_default();
    let known = stored.as_ref().map(|stored| &stored.seen);
    let (seen, deliveries) = requests::changes(source.kind, known, list, &project);
    let count = deliveries.len();
    for Delivery { event, id, payload } in deliveries {
        deliver(triggers, source, event, id, payload).await?;
    }
    remember(triggers, REQUESTS, source, &Requests { etag, project, seen }).await?;
    Ok(count)
}

/// GitHub's list of what happened in a repository. Pushes and pull requests come from elsewhere, exactly.
async fn look_at_events(triggers: &Triggers, source: &Source, client: &Client) -> Result<usize, Error> {
    let stored = triggers.store().get(EVENTS, source.name.as_str())?;
    let stored: Option<Events> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_first = stored.is_none();
    let mut events = stored.unwrap_or_default();
    let now = triggers.clock().now();
    // Further ahead than any answer asks for: the clock was ahead when that was written.
    let ahead = now.saturating_add(LONGEST_PAUSE).unwrap_or(now);
    if events.not_before.is_some_and(|time| now < time && time <= ahead) {
        return Ok(0);
    }
    let fetched = client.fetch(&client.repository_path("/events?per_page=100"), events.etag.as_deref()).await?;
    let Fetched { etag, pause, body } = fetched;
    events.etag = etag;
    let pause = pause.and_then(|pause| SignedDuration::try_from(pause).ok());
    events.not_before = pause.and_then(|pause| now.checked_add(pause.min(LONGEST_PAUSE)).ok());
    // That nothing happened is said with a pause, too.
    let Some(body) = body else { return remember(triggers, EVENTS, source, &events).await.map(|()| 0) };
    let mut count = 0;
    for one in body.as_array().into_iter().flatten().rev() {
        let Some(id) = one.get("id").and_then(Json::as_str) else { continue };
        if events.seen.iter().any(|seen| seen == id) {
            continue;
        }
        events.seen.push(id.to_owned());
        let Some(event) = one.get("type").and_then(Json::as_str).and_then(event_of) else { continue };
        if is_first {
            continue;
        }
        if events.repository.is_null() {
            let asked = client.fetch(&client.repository_path(""), None).await?;
            events.repository = asked.body.unwrap_or_default();
        }
        let mut payload = one.get("payload").cloned().unwrap_or_else(|| json!({}));
        if let Some(payload) = payload.as_object_mut() {
            payload.insert("repository".to_owned(), events.repository.clone());
            payload.insert("sender".to_owned(), one.get("actor").cloned().unwrap_or_default());
            if event == "watch" {
                payload.entry("action").or_insert_with(|| json!("started"));
            }
        }
        deliver(triggers, source, event, format!("event {id}"), payload).await?;
        count += 1;
    }
    let surplus = events.seen.len().saturating_sub(EVENTS_REMEMBERED);
    events.seen.drain(..surplus);
    remember(triggers, EVENTS, source, &events).await?;
    Ok(count)
}

/// Who moved a branch, and where to.
pub(super) struct Mover {
    git_ref: String,
    commit: String,
    pub(super) login: String,
}

impl Mover {
    pub(super) fn moved(&self, one: &HookRef) -> bool {
        self.git_ref == one.name && self.commit == one.new
    }
}

/// Who moved branches last, newest first, as far as GitHub tells: where they are now does not say who brought them there,
/// and what a job pushes must start nothing (T16).
pub(super) async fn movers(triggers: &Triggers, source: &Source) -> Vec<Mover> {
    if source.kind != SourceKind::GitHub || !is_asked(source) {
        return Vec::new();
    }
    let asked = match triggers.clients().of(source) {
        Ok(client) => client.fetch(&client.repository_path("/activity?per_page=100"), None).await,
        Err(error) => Err(error),
    };
    let body = match asked {
        Ok(fetched) => fetched.body.unwrap_or_default(),
        Err(error) => {
            log::warn!("it is not known who pushed to {}: {error}", source.name);
            return Vec::new();
        }
    };
    let mover = |one: &Json| {
        let text = |pointer: &str| one.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
        Some(Mover { git_ref: text("/ref")?, commit: text("/after")?, login: text("/actor/login")? })
    };
    body.as_array().into_iter().flatten().filter_map(mover).collect()
}

/// The webhook's name of an event of the list.
fn event_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "DiscussionEvent" => "discussion",
        "ForkEvent" => "fork",
        "GollumEvent" => "gollum",
        "IssueCommentEvent" => "issue_comment",
        "IssuesEvent" => "issues",
        "PublicEvent" => "public",
        "PullRequestReviewCommentEvent" => "pull_request_review_comment",
        "PullRequestReviewEvent" => "pull_request_review",
        "ReleaseEvent" => "release",
        "WatchEvent" => "watch",
        _ => return None,
    })
}

/// As a webhook would have brought it.
async fn deliver(triggers: &Triggers, source: &Source, event: &str, id: String, payload: Json) -> Result<(), Error> {
    let forge = source.kind.as_str().to_owned();
    let content =
        Content::Webhook { source: source.name.clone(), forge, event: event.to_owned(), payload, polled: true };
    triggers.found(source, id, event, content).await
}

async fn remember<T: Serialize>(triggers: &Triggers, space: &str, source: &Source, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Malformed(error.to_string()))?;
    Ok(triggers.store().put(space, source.name.as_str(), &bytes).await?)
}
