//! Webhooks for homes that nobody can reach: an address outside (smee.io or one's own) takes them, and we listen there.
//!
//! The relay is not trusted: it can keep a delivery back, but signatures are checked here as if it had come directly.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value as Json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::service::Triggers;
use super::webhook::{self, Forge};
use crate::config::{Source, SourceKind};
use crate::forge;
use crate::id::RepositoryName;

/// Relays say something at least every half minute.
const SILENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether the configuration names other relays.
const TICK: Duration = Duration::from_secs(5);
/// Of one message: GitHub's limit and some air for what the relay writes around it.
const LARGEST: usize = 40 << 20;

/// Listens at the relays of all sources until told to stop.
pub async fn run(triggers: Triggers, stop: CancellationToken) {
    let mut listening: HashMap<(RepositoryName, String), (CancellationToken, JoinHandle<()>)> = HashMap::new();
    loop {
        let wanted: Vec<(Source, String)> = triggers
            .inventory()
            .all()
            .into_iter()
            .filter_map(|source| source.relay.clone().map(|relay| (source, relay)))
            .collect();
        listening.retain(|(name, relay), (stop, _)| {
            let stays = wanted.iter().any(|(source, address)| source.name == *name && address == relay);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (source, relay) in wanted {
            listening.entry((source.name.clone(), relay.clone())).or_insert_with(|| {
                let stop = stop.child_token();
                let task = tokio::task::spawn(listen(triggers.clone(), source.name, relay, stop.clone()));
                (stop, task)
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(TICK) => {}
        }
    }
    for (_, task) in listening.into_values() {
        drop(task.await);
    }
}

/// Listens at one relay, again and again.
async fn listen(triggers: Triggers, name: RepositoryName, relay: String, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        let begun = tokio::time::Instant::now();
        let heard = stop.run_until_cancelled(hear(&triggers, &name, &relay, &mut last)).await;
        if begun.elapsed() >= LONGEST_PAUSE {
            // It was there: most connections end by breaking, and that is no reason to be away for longer each time.
            pause = FIRST_PAUSE;
        }
        match heard {
            None => return,
            Some(Ok(())) => pause = FIRST_PAUSE,
            Some(Err(reason)) => {
                log::warn!(source = name.as_str(); "the relay of {name} is listened to again in {} s: {reason}", pause.as_secs());
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until the relay ends it. `last` is the id of the last message, which the relay is told when it is asked again.
async fn hear(
    triggers: &Triggers,
    name: &RepositoryName,
    relay: &str,
    last: &mut Option<String>,
) -> Result<(), String> {
    let mut request = http::Request::get(relay).header("accept", "text/event-stream");
    if let Some(last) = last.as_ref() {
        request = request.header("last-event-id", last.as_str());
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    let response = forge::http::open(request).await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let mut messages = Messages { body: response.into_body(), buffer: Vec::new(), searched: 0 };
    while let Some(message) = messages.next().await? {
        if matches!(message.event.as_str(), "" | "message") {
            let Some(source) = triggers.inventory().find(name.as_str()) else { return Ok(()) };
            match take(triggers, &source, &message.data).await {
                Ok(StatusCode::SERVICE_UNAVAILABLE) => {
                    // The relay repeats what came after the last one that we have.
                    return Err("there is no room for its message now".to_owned());
                }
                Ok(status) if !status.is_success() => {
                    log::warn!(source = name.as_str(); "a message of the relay of {name} was answered {status}");
                }
                Ok(_) => {}
                Err(reason) => {
                    log::warn!(source = name.as_str(); "a message of the relay of {name} was not taken: {reason}");
                }
            }
        }
        if message.id.is_some() {
            *last = message.id;
        }
    }
    Ok(())
}

/// Takes what the relay wrote of one request; gives what a sender would have been answered.
async fn take(triggers: &Triggers, source: &Source, data: &str) -> Result<StatusCode, String> {
    let Ok(Json::Object(mut message)) = serde_json::from_str::<Json>(data) else {
        return Err("it is no JSON object".to_owned());
    };
    let body = message.remove("body");
    // Some relays keep the bytes as they came; the others let us write them anew.
    let body = match message.remove("bodyB") {
        Some(Json::String(encoded)) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map_err(|error| format!("its body is not base64: {error}"))?,
        _ => match body {
            Some(Json::String(text)) => text.into_bytes(),
            Some(body) => serde_json::to_vec(&body).map_err(|error| error.to_string())?,
            None => return Err("it has no body".to_owned()),
        },
    };
    let mut headers = HeaderMap::new();
    for (name, value) in message {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        let value = value.as_str().map(HeaderValue::from_str);
        if let (Ok(name), Some(Ok(value))) = (name, value) {
            headers.insert(name, value);
        }
    }
    let forge = match source.kind {
        SourceKind::Gitea => Forge::Gitea,
        SourceKind::Forgejo => Forge::Forgejo,
        SourceKind::GitLab => Forge::GitLab,
        _ => Forge::GitHub,
    };
    Ok(webhook::take(triggers, forge, source, &headers, &body).await.status())
}

/// One message of an event stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    event: String,
    data: String,
    id: Option<String>,
}

/// The messages of an answer.
struct Messages {
    body: Incoming,
    buffer: Vec<u8>,
    /// So much of the buffer has no end of a message.
    searched: usize,
}

impl Messages {
    /// The next message; `None` when the relay has ended the stream.
    async fn next(&mut self) -> Result<Option<Message>, String> {
        loop {
            if let Some(message) = cut(&mut self.buffer, &mut self.searched) {
                return Ok(Some(message));
            }
            if self.buffer.len() > LARGEST {
                return Err("a message is too large".to_owned());
            }
            match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Err(format!("nothing came for {} s", SILENCE.as_secs())),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend(data.iter().filter(|byte| **byte != b'\r'));
                    }
                }
            }
        }
    }
}

/// Takes the first whole message, which ends with an empty line, out of a buffer without carriage returns. A large one
/// comes in many pieces: what was `searched` is not looked at again.
fn cut(buffer: &mut Vec<u8>, searched: &mut usize) -> Option<Message> {
    loop {
        let rest = buffer.get(*searched..).unwrap_or_default();
        let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n").map(|at| *searched + at) else {
            *searched = buffer.len().saturating_sub(1);
            return None;
        };
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        *searched = 0;
        let mut message = Message::default();
        let mut said = false;
        for line in String::from_utf8_lossy(&block).lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut message.event),
                "id" => message.id = Some(value.to_owned()),
                "data" => {
                    if said {
                        message.data.push('\n');
                    }
                    said = true;
                    message.data.push_str(value);
                }
                _ => {}
            }
        }
        // A comment alone keeps the connection open and says nothing.
        if said || !message.event.is_empty() {
            return Some(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn messages_are_cut_at_empty_lines() {
        let mut buffer = b":hello\n\nevent: ready\ndata: {}\n\nid: 7\ndata: {\"a\":\ndata: 1}\n\ndata: half".to_vec();
        let mut searched = 0;
        let ready = cut(&mut buffer, &mut searched).expect("a message");
        assert_eq!((ready.event.as_str(), ready.data.as_str()), ("ready", "{}"));
        let message = cut(&mut buffer, &mut searched).expect("a message");
        assert_eq!((message.data.as_str(), message.id.as_deref()), ("{\"a\":\n1}", Some("7")));
        assert_eq!(cut(&mut buffer, &mut searched), None);
        assert_eq!(buffer, b"data: half");
        // The end comes in two pieces.
        for (piece, whole) in [("!\n", false), ("\nda", true), ("ta: x\n\n", true)] {
            buffer.extend(piece.bytes());
            assert_eq!(cut(&mut buffer, &mut searched).is_some(), whole, "{piece:?}");
        }
        assert!(buffer.is_empty());
    }
}
