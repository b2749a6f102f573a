//! From a stored delivery to the runs it starts.

use serde_json::Value as Json;

use super::heard::{self, Telling, Way};
use super::hook::HookPush;
use super::push::{self, Accepted};
use super::service::{Content, Error, Outcome, Triggers};
use super::{Stopping, inventory, start};
use crate::config::{Source, SourceKind};
use crate::engine::Answer;
use crate::event::Event;
use crate::event::forges::{self, Forge};
use crate::event::github::{self, NotAnEvent};
use crate::id::RunId;

/// Why something starts nothing (T16).
const BY_A_JOB: &str = "it was made with the token of a job, so it starts nothing";

impl Outcome {
    /// Nothing was started, for this reason.
    fn noted(note: impl Into<String>) -> Self {
        Self { note: note.into(), ..Self::default() }
    }
}

impl Triggers {
    /// Does what a delivery asks for. `by_hand`: it is repeated on purpose, however often it was heard of.
    pub(super) async fn perform(&self, id: &str, content: Content, by_hand: bool) -> Result<Outcome, Error> {
        if let Content::Push { .. } | Content::Polled { .. } | Content::Webhook { .. } = &content {
            // What was pushed may listen to other things from now on.
            self.forget_listeners();
        }
        match content {
            // A replay has an id of its own.
            Content::Push { push } => {
                let path = std::path::Path::new(&push.repository);
                let source = self.inner.inventory.at_path(path);
                let source = source.ok_or_else(|| Error::UnknownSource(push.repository.clone()))?;
                self.perform_push(&source, HookPush { id: id.to_owned(), ..push }).await
            }
            Content::Polled { source, push } => {
                let source = self.source(source.as_str())?;
                if self.is_bot_of_jobs(&source, &push.pusher).await {
                    return Ok(Outcome::noted(BY_A_JOB));
                }
                if let Some(one) = push.refs.first() {
                    let telling = Telling { id, way: Way::Asked, what: heard::push(&one.name, &one.new) };
                    if !by_hand && self.is_heard_twice(&source, telling).await? {
                        return Ok(Outcome::noted("a webhook brought it first"));
                    }
                }
                self.perform_push(&source, HookPush { id: id.to_owned(), ..push }).await
            }
            Content::Webhook { source, forge, event, payload, polled } => {
                let source = self.source(source.as_str())?;
                let way = if polled { Way::Asked } else { Way::Told };
                let event = match self.read(&source, &forge, &event, payload).await? {
                    Ok(event) => event,
                    Err(outcome) => return Ok(outcome),
                };
                let telling = Telling { id, way, what: heard::what(&event) };
                if !by_hand && self.is_heard_twice(&source, telling).await? {
                    let first = if polled { "a webhook brought it first" } else { "a poll found it first" };
                    return Ok(Outcome::noted(first));
                }
                // The name we know it by: a renamed repository still says its old one for a while.
                let event = Event { repository: source.name.clone(), delivery: Some(id.to_owned()), ..event };
                self.start(&source, event).await
            }
            Content::Event { event } => {
                let source = self.source(event.repository.as_str())?;
                let event = Event { delivery: Some(id.to_owned()), ..*event };
                self.start(&source, event).await
            }
        }
    }

    async fn perform_push(&self, source: &Source, push: HookPush) -> Result<Outcome, Error> {
        if let Some(note) = declined(source, "push") {
            return Ok(Outcome { lines: vec![format!("towline: {note}")], ..Outcome::noted(note) });
        }
        let inventory = &self.inner.inventory;
        let repository = inventory.open(source, &[]).await?;
        let place = push::Place {
            repository: source.name.clone(),
            server_url: inventory.server_url(),
            clone_url: inventory::clone_url(source).unwrap_or_default(),
        };
        let reading = self.reading(source);
        let now = self.inner.clock.now();
        let accepted = match push::accept(now, &place, &repository, &reading, &push, &self.inner.starter).await {
            Ok(accepted) => accepted,
            Err(push::Error::Stopping) => return Err(Stopping.into()),
            Err(push::Error::Git(error)) => return Err(error.into()),
        };
        let lines = push::lines(&place, &accepted);
        let Accepted { runs, notes } = accepted;
        Ok(Outcome { runs: runs.into_iter().map(|run| RunId(run.run)).collect(), note: notes.join("\n"), lines })
    }

    /// The event that a forge's delivery is, or what became of one that starts no runs.
    async fn read(
        &self,
        source: &Source,
        forge: &str,
        event: &str,
        payload: Json,
    ) -> Result<Result<Event, Outcome>, Error> {
        let now = self.inner.clock.now();
        let pressed = if forge == "github" { self.pressed(source, event, &payload).await? } else { None };
        if let Some((runs, note)) = pressed {
            return Ok(Err(Outcome { runs, note, lines: Vec::new() }));
        }
        let read = match forge {
            "gitea" | "forgejo" => forges::from_payload(Forge::Gitea, now, event, payload),
            "gitlab" => forges::from_payload(Forge::GitLab, now, event, payload),
            _ => github::from_payload(now, event, payload),
        };
        let event = match read {
            Ok(event) => event,
            Err(NotAnEvent::StartsNothing) => return Ok(Err(Outcome::noted(NotAnEvent::StartsNothing.to_string()))),
            Err(NotAnEvent::Malformed(what)) => return Err(Error::Malformed(what)),
        };
        if let Some(note) = declined(source, &event.name) {
            return Ok(Err(Outcome::noted(note)));
        }
        if self.is_made_by_a_job(source, &event).await {
            return Ok(Err(Outcome::noted(BY_A_JOB)));
        }
        Ok(Ok(event))
    }

    /// Whether an event comes from what a job did with its own token: else jobs would start jobs for ever (T16).
    /// Dispatches are meant. Where our App makes the tokens its own bot is who did it.
    async fn is_made_by_a_job(&self, source: &Source, event: &Event) -> bool {
        let sender = event.payload.pointer("/sender/login").and_then(Json::as_str).unwrap_or_default();
        let is_meant = matches!(event.name.as_str(), "workflow_dispatch" | "repository_dispatch");
        !is_meant && self.is_bot_of_jobs(source, sender).await
    }

    async fn is_bot_of_jobs(&self, source: &Source, sender: &str) -> bool {
        const JOBS: &str = "github-actions[bot]";
        if !sender.ends_with("[bot]") {
            return false;
        }
        if sender == JOBS {
            return true;
        }
        if source.app.is_none() || source.kind != SourceKind::GitHub {
            return false;
        }
        let bot = match self.clients().of(source) {
            Ok(client) => client.bot().await,
            Err(error) => Err(error),
        };
        bot.map_or_else(
            |error| {
                log::warn!("it is not known what the App of {} is called: {error}", source.name);
                false
            },
            |bot| bot == sender,
        )
    }

    /// Starts what an event starts.
    async fn start(&self, source: &Source, event: Event) -> Result<Outcome, Error> {
        let number = event.git_ref.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next());
        let refspecs: Vec<String> =
            number.map(|number| format!("+refs/pull/{number}/*:refs/pull/{number}/*")).into_iter().collect();
        let inventory = &self.inner.inventory;
        let repository = match inventory.open(source, &refspecs).await {
            Err(error) if error.is_transient() => match inventory.fetched(source) {
                // Its server is away, and what is wanted is here.
                Some(mirror) if !event.sha.is_empty() && mirror.resolve(&event.sha).await?.is_some() => mirror,
                _ => return Err(error.into()),
            },
            opened => opened?,
        };
        let found = start::starts(event, &repository, &self.reading(source)).await?;
        let mut outcome = Outcome::default();
        let mut notes: Vec<String> = Vec::new();
        for start in found.starts {
            let path = start.spec.workflow_path.clone();
            match self.inner.starter.start(start).await? {
                Answer::Run { run, .. } => outcome.runs.push(run),
                Answer::Unknown(reason) | Answer::Refused(reason) => notes.push(format!("{path}: {reason}")),
                Answer::Done => {}
            }
        }
        // A file that cannot be read listens to nobody knows what.
        for fault in found.diagnostics.iter().filter(|fault| fault.is_error()) {
            let line = fault.span.map_or(String::new(), |span| format!(":{}", span.start.line));
            notes.push(format!("{}{line}: {}", fault.path, fault.message));
        }
        notes.extend(found.passed.iter().map(|passed| format!("{}: {}", passed.path, passed.selection.reason)));
        outcome.note = notes.join("\n");
        Ok(outcome)
    }
}

/// Why a source does not take an event, if it takes only some.
fn declined(source: &Source, event: &str) -> Option<String> {
    let only = &source.events;
    (!only.is_empty() && !only.iter().any(|one| one == event))
        .then(|| format!("this source takes only {}", only.join(", ")))
}
