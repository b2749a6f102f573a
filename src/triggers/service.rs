//! What all triggers share: a delivery is made durable, handled, and its outcome recorded.
//!
//! Whatever comes from outside is first a [`DeliveryRecord`] in the store's inbox. Handling it may be repeated: after a
//! crash, or by hand. The engine knows each delivery's key per workflow and starts nothing twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hook::HookPush;
use super::inventory::{self, Inventory};
use super::push::{self, Accepted};
use super::{Elsewhere, Reading, Starter, Stopping, Wish, Wished, hook, start};
use crate::clock::Clock;
use crate::config::{Source, SourceKind, TriggerKind};
use crate::engine::Answer;
use crate::event::Event;
use crate::event::forges::{self, Forge};
use crate::event::github::{self, NotAnEvent};
use crate::forge::{self, Clients};
use crate::git;
use crate::id::{RepositoryName, RunId};
use crate::store::{DeliveryRecord, DeliveryState, RunFilter, Store, StoreError};
use crate::workflow;
use crate::workflow::model::Workflow;

/// Deliveries handled at once: each may run a few git processes.
const AT_ONCE: usize = 16;
/// Deliveries that may wait to be handled before senders are told to come back later.
const MOST_WAITING: usize = 20_000;
/// How often spools of repositories are looked at: only a hook that found no daemon leaves anything there.
const SPOOL_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);

/// How long it is believed which workflows listen to runs, unless a push comes.
const LISTENERS_KEPT: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// Held by whoever accepts the deliveries of one id now.
type Turn = tokio::sync::Mutex<()>;

/// The `vars` context of a repository.
pub type VariablesOf = Arc<dyn Fn(&RepositoryName) -> Map<String, Json> + Send + Sync>;

/// Workflows that listen to one event, and until when nobody needs to look again.
struct Listening {
    until: jiff::Timestamp,
    commit: String,
    workflows: Arc<Vec<Workflow>>,
}

/// The triggers of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Triggers {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    store: Store,
    inventory: Inventory,
    starter: Starter,
    variables: VariablesOf,
    tasks: TaskTracker,
    turns: Arc<Semaphore>,
    /// Ids being accepted now, so that two of the same at once are one.
    arriving: Mutex<HashMap<(String, String), Arc<Turn>>>,
    /// Workflows of default branches that listen to what other runs do.
    listeners: Mutex<HashMap<RepositoryName, Listening>>,
    /// Accepted and not handled yet.
    waiting: std::sync::atomic::AtomicUsize,
}

/// What a delivery holds, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    Push {
        push: HookPush,
    },
    /// What a poll found.
    Polled {
        source: RepositoryName,
        push: HookPush,
    },
    Webhook {
        source: RepositoryName,
        forge: String,
        event: String,
        payload: Json,
    },
    /// A dispatch, a schedule, a chained run: an event as it is.
    Event {
        event: Box<Event>,
    },
}

/// What became of a delivery.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub runs: Vec<RunId>,
    /// What did not start, and why.
    pub note: String,
    /// For the terminal of a pusher.
    pub lines: Vec<String>,
}

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("too many deliveries are waiting; come back later")]
    Busy,
    #[error("there is no source {0}")]
    UnknownSource(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stopping(#[from] Stopping),
    #[error(transparent)]
    Source(#[from] inventory::Error),
    #[error(transparent)]
    Forge(#[from] forge::Error),
    #[error("the delivery cannot be understood: {0}")]
    Malformed(String),
    /// One sentence per fault of what was asked for.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
}

impl From<git::Error> for Error {
    fn from(error: git::Error) -> Self {
        Self::Source(error.into())
    }
}

/// A delivery that is durable.
#[derive(Clone, Debug)]
pub struct Taken {
    pub number: u64,
    /// The first delivery of the same id, when this is a repetition.
    pub before: Option<DeliveryRecord>,
}

impl Triggers {
    #[must_use]
    pub fn new(
        clock: Clock,
        store: Store,
        inventory: Inventory,
        starter: Starter,
        variables: VariablesOf,
        tasks: TaskTracker,
    ) -> Self {
        let inner = Inner {
            clock,
            store,
            inventory,
            starter,
            variables,
            tasks,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            arriving: Mutex::default(),
            listeners: Mutex::default(),
            waiting: std::sync::atomic::AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The sources.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inner.inventory
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The ways to the forges of sources.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        self.inner.inventory.clients()
    }

    pub(super) async fn wish(&self, wish: Wish) -> Result<Wished, Error> {
        let run = match &wish {
            Wish::Start(start) => start.spec.run,
            Wish::Rerun { run, .. } | Wish::Cancel { run, .. } => *run,
        };
        Ok(Wished { run, answer: self.inner.starter.wish(wish).await? })
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Makes a delivery durable. The caller then has it handled.
    ///
    /// # Errors
    /// [`Error::Busy`], or the disk does not take it.
    pub async fn take(
        &self,
        source: &str,
        id: String,
        event: &str,
        headers: BTreeMap<String, String>,
        content: &Content,
        replay_of: Option<u64>,
    ) -> Result<Taken, Error> {
        use std::sync::atomic::Ordering;
        if self.inner.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
            return Err(Error::Busy);
        }
        let key = (source.to_owned(), id.clone());
        let turn = {
            let mut arriving = self.inner.arriving.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(arriving.entry(key.clone()).or_default())
        };
        let held = turn.lock().await;
        let record = DeliveryRecord {
            number: 0,
            id,
            source: source.to_owned(),
            event: event.to_owned(),
            received_at: self.inner.clock.now(),
            headers,
            body: serde_json::to_value(content).map_err(|error| Error::Malformed(error.to_string()))?,
            state: DeliveryState::Accepted,
            replay_of,
        };
        let accepted = self.inner.store.accept(record).await;
        drop(held);
        {
            let mut arriving = self.inner.arriving.lock().unwrap_or_else(PoisonError::into_inner);
            // Ours and the map's: nobody else waits for this id.
            if Arc::strong_count(&turn) == 2 {
                arriving.remove(&key);
            }
        }
        let (number, before) = accepted?;
        if before.is_none() {
            self.inner.waiting.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Taken { number, before })
    }

    /// Has a delivery handled in the background. One that has to wait for its turn waits on the disk: what thousands of
    /// them hold must not be in memory.
    pub fn handle_soon(&self, number: u64, id: String, content: Content) {
        let triggers = self.clone();
        let turn = Arc::clone(&self.inner.turns).try_acquire_owned().ok();
        let content = turn.is_some().then_some(content);
        self.inner.tasks.spawn(async move {
            let turn = match turn {
                Some(turn) => Some(turn),
                None => Arc::clone(&triggers.inner.turns).acquire_owned().await.ok(),
            };
            let content = match content {
                Some(content) => Ok(content),
                None => triggers.stored(number),
            };
            drop(triggers.conclude(number, &id, content).await);
            drop(turn);
        });
    }

    fn stored(&self, number: u64) -> Result<Content, Error> {
        let record = self.inner.store.delivery(number)?;
        let record = record.ok_or_else(|| Error::Malformed(format!("there is no delivery {number}")))?;
        content(&record)
    }

    /// Handles a delivery that was taken, and records what became of it. What only time can mend stays open.
    ///
    /// # Errors
    /// As recorded.
    pub async fn handle(&self, number: u64, id: String, content: Content) -> Result<Outcome, Error> {
        let _turn = self.inner.turns.acquire().await;
        self.conclude(number, &id, Ok(content)).await
    }

    async fn conclude(&self, number: u64, id: &str, content: Result<Content, Error>) -> Result<Outcome, Error> {
        use std::sync::atomic::Ordering;
        let result = match content {
            Ok(content) => self.perform(id, content).await,
            Err(error) => Err(error),
        };
        self.inner
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(1)))
            .ok();
        let state = match &result {
            Ok(outcome) => DeliveryState::Handled { runs: outcome.runs.clone(), note: outcome.note.clone() },
            // Stays open, to be taken up after the restart.
            Err(Error::Stopping(_)) => return result,
            Err(error) => {
                log::warn!(delivery = number; "delivery {number} could not be handled: {error}");
                DeliveryState::Failed { reason: error.to_string() }
            }
        };
        self.inner.store.conclude_delivery(number, state).await?;
        result
    }

    /// Makes a push that a hook told of durable. What it starts is found out in the background; the receiver gets it.
    ///
    /// # Errors
    /// The hook keeps the push and it comes again.
    pub async fn take_push(
        &self,
        push: HookPush,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<Outcome, Error>>, Error> {
        let (taken, id, content) = self.taken_push(push).await?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let triggers = self.clone();
        self.inner.tasks.spawn(async move {
            // The pusher may have gone.
            drop(sender.send(triggers.handle(taken.number, id, content).await));
        });
        Ok(receiver)
    }

    async fn taken_push(&self, push: HookPush) -> Result<(Taken, String, Content), Error> {
        let path = std::path::Path::new(&push.repository);
        let source = self.inner.inventory.at_path(path);
        let source = source.ok_or_else(|| Error::UnknownSource(push.repository.clone()))?;
        let (id, place) = (push.id.clone(), format!("push/{}", source.name));
        let content = Content::Push { push };
        let taken = self.take(&place, id.clone(), "push", BTreeMap::new(), &content, None).await?;
        Ok((taken, id, content))
    }

    /// Takes a push that a hook told of, and starts its runs.
    ///
    /// # Errors
    /// The hook keeps the push and it comes again.
    pub async fn push(&self, push: HookPush) -> Result<Outcome, Error> {
        let (taken, id, content) = self.taken_push(push).await?;
        self.handle(taken.number, id, content).await
    }

    /// Takes a move of a ref that a poll found, and starts its runs. When it failed it is recorded as such, and not
    /// found again.
    ///
    /// # Errors
    /// It was not made durable.
    pub async fn polled(&self, source: &Source, push: HookPush) -> Result<(), Error> {
        let content = Content::Polled { source: source.name.clone(), push: push.clone() };
        let place = format!("poll/{}", source.name);
        let taken = self.take(&place, push.id.clone(), "push", BTreeMap::new(), &content, None).await?;
        if taken.before.is_none()
            && let Err(error) = self.handle(taken.number, push.id, content).await
        {
            log::warn!("a polled push of {} could not be handled: {error}", source.name);
        }
        Ok(())
    }

    /// Takes what a poll found in the words of a webhook. When it cannot be handled it is recorded as such, and not found
    /// again.
    ///
    /// # Errors
    /// It was not made durable.
    pub(super) async fn found(&self, source: &Source, id: String, event: &str, content: Content) -> Result<(), Error> {
        let place = format!("poll/{}", source.name);
        let taken = self.take(&place, id.clone(), event, BTreeMap::new(), &content, None).await?;
        if taken.before.is_none()
            && let Err(error) = self.handle(taken.number, id, content).await
        {
            log::warn!("what a poll of {} found could not be handled: {error}", source.name);
        }
        Ok(())
    }

    /// Takes an event that is one already: a dispatch, a due schedule, a chained run. `from` is a word for the log of
    /// deliveries, `id` what must not start anything twice.
    ///
    /// # Errors
    /// It was not made durable, or could not be handled.
    pub async fn event(&self, from: &str, id: String, event: Event) -> Result<Outcome, Error> {
        let (source, name) = (format!("{from}/{}", event.repository), event.name.clone());
        let content = Content::Event { event: Box::new(event) };
        let taken = self.take(&source, id.clone(), &name, BTreeMap::new(), &content, None).await?;
        if let Some(DeliveryRecord { state: DeliveryState::Handled { runs, note }, .. }) = taken.before {
            return Ok(Outcome { runs, note, lines: Vec::new() });
        }
        self.handle(taken.number, id, content).await
    }

    /// Handles a stored delivery once more, as a new one: its runs start again.
    ///
    /// # Errors
    /// There is no such delivery, or it cannot be handled.
    pub async fn replay(&self, number: u64) -> Result<(u64, Outcome), Error> {
        let record = self
            .inner
            .store
            .delivery(number)?
            .ok_or_else(|| Error::Malformed(format!("there is no delivery {number}")))?;
        let content = content(&record)?;
        let id = format!("{}#{}", record.id, self.inner.clock.now().as_nanosecond());
        let taken = self
            .take(&record.source, id.clone(), &record.event, record.headers.clone(), &content, Some(number))
            .await?;
        Ok((taken.number, self.handle(taken.number, id, content).await?))
    }

    /// Takes up what an earlier life of the daemon accepted and did not finish.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn resume(&self) -> Result<usize, Error> {
        let open = self.inner.store.open_deliveries()?;
        let count = open.len();
        for record in open {
            match content(&record) {
                Ok(content) => {
                    self.inner.waiting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    self.handle_soon(record.number, record.id, content);
                }
                Err(error) => log::error!("delivery {} cannot be taken up: {error}", record.number),
            }
        }
        Ok(count)
    }

    /// Takes up pushes that hooks spooled. Gives how many.
    pub async fn take_up_spooled(&self) -> usize {
        let mut count = 0;
        for source in self.inner.inventory.all() {
            let (Some(path), SourceKind::Git) = (&source.path, source.kind) else { continue };
            let spooled = match hook::spooled(path) {
                Ok(spooled) => spooled,
                Err(error) => {
                    log::warn!("the spool of {} cannot be read: {error}", source.name);
                    continue;
                }
            };
            for one in spooled {
                match self.push(one.push).await {
                    Ok(_) | Err(Error::Source(_) | Error::Malformed(_)) => {
                        count += 1;
                        if let Err(error) = std::fs::remove_file(&one.file) {
                            log::warn!("cannot remove {}: {error}", one.file.display());
                        }
                    }
                    // Kept for the next time.
                    Err(error) => log::warn!("a spooled push of {} waits: {error}", source.name),
                }
            }
        }
        count
    }

    /// Looks after the spools until told to stop.
    pub async fn watch_spools(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SPOOL_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    self.take_up_spooled().await;
                }
            }
        }
    }

    /// How workflows of a source are read.
    #[must_use]
    pub fn reading(&self, source: &Source) -> Reading {
        let mut directories = source.workflows.clone();
        if source.kind == SourceKind::Directory {
            // The directory itself is the place of workflows.
            directories.insert(0, String::new());
        }
        Reading {
            directories,
            vars: (self.inner.variables)(&source.name),
            trusted: source.trusted.clone(),
            hold_minutes: u32::try_from(source.hold_on_failure.as_secs().div_ceil(60)).unwrap_or(u32::MAX),
            disabled: self.inner.store.disabled_workflows(&source.name).unwrap_or_else(|error| {
                log::error!("it is not known which workflows of {} are disabled: {error}", source.name);
                Vec::new()
            }),
            elsewhere: Elsewhere::new(&source.name, &self.inner.inventory),
        }
    }

    /// The workflows on the default branch that listen to what runs do (`workflow_run`).
    ///
    /// # Errors
    /// The repository cannot be read.
    pub(super) async fn listeners(
        &self,
        repository: &RepositoryName,
        event: &str,
    ) -> Result<Arc<Vec<Workflow>>, Error> {
        let now = self.inner.clock.now();
        let known = || self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listening) = known().get(repository).filter(|listening| listening.until > now) {
            return Ok(Arc::clone(&listening.workflows));
        }
        let source = self.source(repository.as_str())?;
        let opened = self.inner.inventory.at_hand(&source).await?;
        let place = match self.place(&source, &opened, None, "").await {
            // Nothing was pushed yet.
            Err(Error::Refused(_)) => return Ok(Arc::default()),
            place => place?,
        };
        let same = known().get(repository).filter(|listening| listening.commit == place.sha).map(|listening| {
            // Only the time has passed.
            Arc::clone(&listening.workflows)
        });
        let workflows = match same {
            Some(workflows) => workflows,
            None => {
                let mut objects = opened.objects()?;
                let files = objects.workflows(&place.sha, &self.reading(&source).directories).await?;
                objects.close().await;
                let models = files.iter().filter_map(|file| workflow::parse(&file.path, &file.text).0);
                Arc::new(models.filter(|model| model.on.events.contains_key(event)).collect())
            }
        };
        let listening = Listening { until: now + LISTENERS_KEPT, commit: place.sha, workflows: Arc::clone(&workflows) };
        known().insert(repository.clone(), listening);
        Ok(workflows)
    }

    async fn perform(&self, id: &str, content: Content) -> Result<Outcome, Error> {
        if let Content::Push { .. } | Content::Polled { .. } | Content::Webhook { .. } = &content {
            // What was pushed may listen to other things from now on.
            let mut listeners = self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.values_mut().for_each(|listening| listening.until = jiff::Timestamp::MIN);
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
                if let Some(one) = push.refs.first()
                    && self.is_told_twice(&source, &one.name, &one.new)?
                {
                    return Ok(Outcome { note: "a webhook brought it first".to_owned(), ..Outcome::default() });
                }
                self.perform_push(&source, HookPush { id: id.to_owned(), ..push }).await
            }
            Content::Webhook { source, forge, event, payload } => {
                self.perform_webhook(id, &source, &forge, &event, payload).await
            }
            Content::Event { event } => {
                let source = self.source(event.repository.as_str())?;
                let event = Event { delivery: Some(id.to_owned()), ..*event };
                self.start(&source, event).await
            }
        }
    }

    /// Whether a source with both webhooks and polls has runs of this push already.
    fn is_told_twice(&self, source: &Source, git_ref: &str, sha: &str) -> Result<bool, Error> {
        if ![TriggerKind::Webhook, TriggerKind::Poll].iter().all(|kind| source.triggers.contains(kind)) {
            return Ok(false);
        }
        let filter = RunFilter {
            repository: Some(source.name.clone()),
            event: Some("push".to_owned()),
            sha: Some(sha.to_owned()),
            ..RunFilter::default()
        };
        Ok(self.inner.store.runs(&filter, 0, 100)?.runs.iter().any(|run| run.git_ref == git_ref))
    }

    async fn perform_push(&self, source: &Source, push: HookPush) -> Result<Outcome, Error> {
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

    async fn perform_webhook(
        &self,
        id: &str,
        name: &RepositoryName,
        forge: &str,
        event: &str,
        payload: Json,
    ) -> Result<Outcome, Error> {
        let source = self.source(name.as_str())?;
        let now = self.inner.clock.now();
        let pressed = if forge == "github" { self.pressed(&source, event, &payload).await? } else { None };
        if let Some((runs, note)) = pressed {
            return Ok(Outcome { runs, note, lines: Vec::new() });
        }
        let read = match forge {
            "gitea" | "forgejo" => forges::from_payload(Forge::Gitea, now, event, payload),
            "gitlab" => forges::from_payload(Forge::GitLab, now, event, payload),
            _ => github::from_payload(now, event, payload),
        };
        let event = match read {
            Ok(event) => event,
            Err(NotAnEvent::StartsNothing) => {
                return Ok(Outcome { note: NotAnEvent::StartsNothing.to_string(), ..Outcome::default() });
            }
            Err(NotAnEvent::Malformed(what)) => return Err(Error::Malformed(what)),
        };
        if !source.events.is_empty() && !source.events.contains(&event.name) {
            let note = format!("this source takes only {}", source.events.join(", "));
            return Ok(Outcome { note, ..Outcome::default() });
        }
        if self.is_made_by_a_job(&source, &event).await {
            let note = "it was made with the token of a job, so it starts nothing".to_owned();
            return Ok(Outcome { note, ..Outcome::default() });
        }
        if event.name == "push" && self.is_told_twice(&source, &event.git_ref, &event.sha)? {
            return Ok(Outcome { note: "a poll found it first".to_owned(), ..Outcome::default() });
        }
        if self.is_heard_twice(&source, id, &event).await? {
            return Ok(Outcome { note: "it was heard of before, another way".to_owned(), ..Outcome::default() });
        }
        // The name we know it by: a renamed repository still says its old one for a while.
        let event = Event { repository: source.name.clone(), delivery: Some(id.to_owned()), ..event };
        self.start(&source, event).await
    }

    /// Whether an event comes from what a job did with its own token: else jobs would start jobs for ever (T16).
    /// Dispatches are meant. Where our App makes the tokens its own bot is who did it.
    async fn is_made_by_a_job(&self, source: &Source, event: &Event) -> bool {
        const JOBS: &str = "github-actions[bot]";
        let sender = event.payload.pointer("/sender/login").and_then(Json::as_str).unwrap_or_default();
        if !sender.ends_with("[bot]") || matches!(event.name.as_str(), "workflow_dispatch" | "repository_dispatch") {
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

    /// Whether a source that both tells us and is asked has brought this within the hour; from now on it has. Pushes are
    /// told apart by their runs.
    async fn is_heard_twice(&self, source: &Source, id: &str, event: &Event) -> Result<bool, Error> {
        const SPACE: &str = "heard";
        const WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
        let told = source.triggers.contains(&TriggerKind::Webhook) || source.relay.is_some();
        if !told || !source.triggers.contains(&TriggerKind::Poll) || event.name == "push" {
            return Ok(false);
        }
        let of = |pointer: &str| event.payload.pointer(pointer).map(Json::to_string).unwrap_or_default();
        let what: Vec<String> = [
            "/pull_request/head/sha",
            "/pull_request/number",
            "/issue/number",
            "/comment/id",
            "/review/id",
            "/release/id",
            "/forkee/id",
            "/label/name",
        ]
        .into_iter()
        .map(of)
        .collect();
        let action = event.action.as_deref().unwrap_or_default();
        let key = format!("{} {} {action} {}", source.name, event.name, what.join(" "));
        let now = self.inner.clock.now();
        let before = self.inner.store.get(SPACE, &key)?.map(|value| String::from_utf8_lossy(&value).into_owned());
        if let Some((at, by)) = before.as_deref().and_then(|before| before.split_once(' '))
            && by != id
            && at.parse::<jiff::Timestamp>().is_ok_and(|at| now.duration_since(at) < WITHIN)
        {
            return Ok(true);
        }
        self.inner.store.put(SPACE, &key, format!("{now} {id}").as_bytes()).await?;
        Ok(false)
    }

    /// Starts what an event starts.
    async fn start(&self, source: &Source, event: Event) -> Result<Outcome, Error> {
        let number = event.git_ref.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next());
        let refspecs: Vec<String> =
            number.map(|number| format!("+refs/pull/{number}/*:refs/pull/{number}/*")).into_iter().collect();
        let repository = self.inner.inventory.open(source, &refspecs).await?;
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
        notes.extend(found.passed.iter().map(|passed| format!("{}: {}", passed.path, passed.selection.reason)));
        outcome.note = notes.join("\n");
        Ok(outcome)
    }

    /// The source of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn source(&self, name: &str) -> Result<Source, Error> {
        self.inner.inventory.find(name).ok_or_else(|| Error::UnknownSource(name.to_owned()))
    }
}

fn content(record: &DeliveryRecord) -> Result<Content, Error> {
    serde_json::from_value(record.body.clone()).map_err(|error| Error::Malformed(error.to_string()))
}

/// An id that nobody else has.
pub(super) fn fresh_id() -> String {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
