//! What all triggers share: a delivery is made durable, handled, and its outcome recorded.
//!
//! Whatever comes from outside is first a [`DeliveryRecord`] in the store's inbox. Handling it may be repeated: after a
//! crash, or by hand. The engine knows each delivery's key per workflow and starts nothing twice.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hook::HookPush;
use super::inventory::{self, Inventory};
use super::turns::{Lane, Turn, Turns, Worker};
use super::{Elsewhere, Reading, Starter, Stopping, Wish, Wished, hook};
use crate::clock::Clock;
use crate::config::{Source, SourceKind};
use crate::event::Event;
use crate::forge::{self, Clients};
use crate::git;
use crate::id::{RepositoryName, RunId};
use crate::store::{DeliveryRecord, DeliveryState, Store, StoreError};
use crate::workflow;
use crate::workflow::model::Workflow;

/// Deliveries that may wait to be handled before senders are told to come back later.
const MOST_WAITING: usize = 20_000;
/// How often spools of repositories are looked at: only a hook that found no daemon leaves anything there.
const SPOOL_INTERVAL: Duration = Duration::from_secs(10);
/// What only time can mend is tried again after so long, then after twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// For so long; then somebody has to look at it.
const TRIED_FOR: SignedDuration = SignedDuration::from_hours(12);

/// How long it is believed which workflows listen to runs, unless a push comes.
const LISTENERS_KEPT: SignedDuration = SignedDuration::from_secs(10);

/// Held by whoever accepts the deliveries of one id now.
type Accepting = tokio::sync::Mutex<()>;

/// The `vars` context of a repository.
pub type VariablesOf = Arc<dyn Fn(&RepositoryName) -> Map<String, Json> + Send + Sync>;

/// Workflows that listen to one event, and until when nobody needs to look again.
struct Listening {
    until: Timestamp,
    commit: String,
    workflows: Arc<Vec<Workflow>>,
}

/// The triggers of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Triggers {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) inventory: Inventory,
    pub(super) starter: Starter,
    variables: VariablesOf,
    tasks: TaskTracker,
    turns: Turns<Waiting>,
    /// Ids being accepted now, so that two of the same at once are one.
    arriving: Mutex<HashMap<(String, String), Arc<Accepting>>>,
    /// Workflows of default branches that listen to what other runs do.
    listeners: Mutex<HashMap<RepositoryName, Listening>>,
    /// Accepted and not handled yet.
    waiting: AtomicUsize,
    /// Held while it is found out whether something was heard of before.
    pub(super) hearing: tokio::sync::Mutex<()>,
    /// Nothing is begun any more: what waits is taken up by the next start.
    stopping: CancellationToken,
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
        /// It was not told but found by a poll.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        polled: bool,
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

impl Error {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Source(error) => error.is_transient(),
            Self::Forge(error) => error.is_transient(),
            _ => false,
        }
    }
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
    id: String,
    source: String,
    received_at: Timestamp,
    /// Somebody had a delivery handled once more.
    by_hand: bool,
    /// The first delivery of the same id, when this is a repetition.
    pub before: Option<Box<DeliveryRecord>>,
}

/// A delivery that waits for its turn.
struct Waiting {
    taken: Taken,
    /// How often it was tried.
    tried: u32,
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
            turns: Turns::default(),
            arriving: Mutex::default(),
            listeners: Mutex::default(),
            waiting: AtomicUsize::new(0),
            hearing: tokio::sync::Mutex::default(),
            stopping: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins nothing any more: what waits stays on the disk for the next start.
    pub fn stop(&self) {
        self.inner.stopping.cancel();
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
        if self.inner.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
            return Err(Error::Busy);
        }
        let key = (source.to_owned(), id.clone());
        let turn = {
            let mut arriving = self.inner.arriving.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(arriving.entry(key.clone()).or_default())
        };
        let held = turn.lock().await;
        let received_at = self.inner.clock.now();
        let record = DeliveryRecord {
            number: 0,
            id,
            source: source.to_owned(),
            event: event.to_owned(),
            received_at,
            headers,
            body: Json::Null,
            state: DeliveryState::Accepted,
            replay_of,
            trouble: None,
        };
        let accepted = self.inner.store.accept(record, content).await;
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
        let (source, id) = key;
        let (by_hand, before) = (replay_of.is_some(), before.map(Box::new));
        Ok(Taken { number, id, source, received_at, by_hand, before })
    }

    /// Has a delivery handled in the background. One that has to wait for its turn waits on the disk: what thousands of
    /// them hold must not be in memory.
    pub fn handle_soon(&self, taken: Taken, content: Content) {
        let lane = self.inner.turns.lane(&taken.source);
        let waiting = Waiting { taken, tried: 0 };
        match self.inner.turns.now(&lane) {
            Some((turn, worker)) => {
                self.inner.tasks.spawn(self.clone().work(worker, Some((turn, waiting, content))));
            }
            None => self.line_up(&lane, waiting),
        }
    }

    /// Has a delivery wait for its turn. What it holds is read again then.
    fn line_up(&self, lane: &Arc<Lane<Waiting>>, waiting: Waiting) {
        if let Some(worker) = lane.join(waiting) {
            self.inner.tasks.spawn(self.clone().work(worker, None));
        }
    }

    /// Handles the deliveries of one source that wait, one after the other, until there are none.
    async fn work(self, mut worker: Worker<Waiting>, mut first: Option<(Turn, Waiting, Content)>) {
        loop {
            let (turn, waiting, content) = match first.take() {
                Some((turn, waiting, content)) => (turn, waiting, Ok(content)),
                None => {
                    let Ok(turn) = self.turn(worker.lane()).await else { return };
                    let Some(waiting) = worker.next() else { return };
                    let content = self.stored(waiting.taken.number);
                    (turn, waiting, content)
                }
            };
            let Waiting { taken, tried } = waiting;
            let ended = self.conclude(&taken, content, Patience::Long);
            // Those behind it must not wait for ever.
            let ended = AssertUnwindSafe(ended).catch_unwind().await;
            drop(turn);
            match ended {
                Ok(Err(error)) if self.is_tried_again(&taken, &error) => {
                    self.inner.tasks.spawn(self.clone().later(Waiting { taken, tried: tried + 1 }));
                }
                Ok(_) => {}
                Err(_) => {
                    log::error!(delivery = taken.number; "delivery {} stays open: handling it failed", taken.number);
                }
            }
        }
    }

    /// Lets a delivery wait for its turn once more, after a pause.
    async fn later(self, waiting: Waiting) {
        if self.before_stop(tokio::time::sleep(pause_after(waiting.tried))).await.is_some() {
            self.line_up(&self.inner.turns.lane(&waiting.taken.source), waiting);
        }
    }

    /// A turn, unless the daemon stops first.
    async fn turn(&self, lane: &Lane<Waiting>) -> Result<Turn, Error> {
        self.before_stop(self.inner.turns.next(lane)).await.flatten().ok_or(Error::Stopping(Stopping))
    }

    async fn before_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.inner.stopping.run_until_cancelled(work).await
    }

    fn stored(&self, number: u64) -> Result<Content, Error> {
        let content = self.inner.store.delivery_body(number)?;
        content.ok_or_else(|| Error::Malformed(format!("there is no delivery {number}")))
    }

    /// Handles a delivery that was taken, for somebody who hears what became of it, and records that.
    ///
    /// # Errors
    /// As recorded.
    async fn handle(&self, taken: &Taken, content: Content) -> Result<Outcome, Error> {
        let _turn = self.turn(&self.inner.turns.lane(&taken.source)).await?;
        self.conclude(taken, Ok(content), Patience::Short).await
    }

    /// Handles a delivery that was taken. What only time can mend is tried again in the background.
    ///
    /// # Errors
    /// As recorded; or it is tried again, see [`Error::is_transient`].
    async fn handle_patiently(&self, taken: Taken, content: Content) -> Result<Outcome, Error> {
        let turn = self.turn(&self.inner.turns.lane(&taken.source)).await?;
        let ended = self.conclude(&taken, Ok(content), Patience::Long).await;
        drop(turn);
        if matches!(&ended, Err(error) if self.is_tried_again(&taken, error)) {
            self.inner.tasks.spawn(self.clone().later(Waiting { taken, tried: 1 }));
        }
        ended
    }

    fn is_tried_again(&self, taken: &Taken, error: &Error) -> bool {
        error.is_transient() && self.inner.clock.now().duration_since(taken.received_at) < TRIED_FOR
    }

    /// Handles a delivery once, and records what became of it; it stays open when it will be tried again.
    async fn conclude(
        &self,
        taken: &Taken,
        content: Result<Content, Error>,
        patience: Patience,
    ) -> Result<Outcome, Error> {
        let result = match content {
            Ok(content) => self.perform(&taken.id, content, taken.by_hand).await,
            Err(error) => Err(error),
        };
        let number = taken.number;
        let state = match &result {
            Ok(outcome) => DeliveryState::Handled { runs: outcome.runs.clone(), note: outcome.note.clone() },
            // To be taken up after the restart.
            Err(Error::Stopping(_)) => return result,
            Err(error) if patience == Patience::Long && self.is_tried_again(taken, error) => {
                log::warn!(delivery = number; "delivery {number} is tried again: {error}");
                // That it is tried again must not depend on there being room to say so.
                if let Err(error) = self.inner.store.delay_delivery(number, &error.to_string()).await {
                    log::warn!(delivery = number; "why delivery {number} waits is not recorded: {error}");
                }
                return result;
            }
            Err(error) => {
                log::warn!(delivery = number; "delivery {number} could not be handled: {error}");
                DeliveryState::Failed { reason: error.to_string() }
            }
        };
        if taken.before.is_none() {
            let one_less = |count: usize| Some(count.saturating_sub(1));
            self.inner.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok();
        }
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
        let (taken, content) = self.taken_push(push).await?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let triggers = self.clone();
        self.inner.tasks.spawn(async move {
            // The pusher may have gone.
            drop(sender.send(triggers.handle_patiently(taken, content).await));
        });
        Ok(receiver)
    }

    async fn taken_push(&self, push: HookPush) -> Result<(Taken, Content), Error> {
        let path = std::path::Path::new(&push.repository);
        let source = self.inner.inventory.at_path(path);
        let source = source.ok_or_else(|| Error::UnknownSource(push.repository.clone()))?;
        let (id, place) = (push.id.clone(), format!("push/{}", source.name));
        let content = Content::Push { push };
        let taken = self.take(&place, id, "push", BTreeMap::new(), &content, None).await?;
        Ok((taken, content))
    }

    /// Takes a push that a hook told of, and starts its runs.
    ///
    /// # Errors
    /// The hook keeps the push and it comes again.
    pub async fn push(&self, push: HookPush) -> Result<Outcome, Error> {
        let (taken, content) = self.taken_push(push).await?;
        self.handle_patiently(taken, content).await
    }

    /// Takes a move of a ref that a poll found, and starts its runs. When it failed it is recorded as such, and not
    /// found again.
    ///
    /// # Errors
    /// It was not made durable.
    pub async fn polled(&self, source: &Source, push: HookPush) -> Result<(), Error> {
        let id = push.id.clone();
        self.found(source, id, "push", Content::Polled { source: source.name.clone(), push }).await
    }

    /// Takes what a poll found in the words of a webhook. When it cannot be handled it is recorded as such, and not found
    /// again.
    ///
    /// # Errors
    /// It was not made durable.
    pub(super) async fn found(&self, source: &Source, id: String, event: &str, content: Content) -> Result<(), Error> {
        let place = format!("poll/{}", source.name);
        let taken = self.take(&place, id, event, BTreeMap::new(), &content, None).await?;
        if taken.before.is_none() {
            // What went wrong is in the log and in the list of deliveries.
            drop(self.handle_patiently(taken, content).await);
        }
        Ok(())
    }

    /// Takes an event that somebody asked for: a dispatch. `from` is a word for the log of deliveries, `id` what must not
    /// start anything twice.
    ///
    /// # Errors
    /// It was not made durable, or could not be handled.
    pub async fn event(&self, from: &str, id: String, event: Event) -> Result<Outcome, Error> {
        match self.taken_event(from, id, event).await? {
            Ok((taken, content)) => self.handle(&taken, content).await,
            Err(outcome) => Ok(outcome),
        }
    }

    /// Takes an event that happened by itself: a due schedule, a chained run, a directory that changed. What only time can
    /// mend is tried again.
    ///
    /// # Errors
    /// It was not made durable, or could not be handled so far.
    pub async fn occurred(&self, from: &str, id: String, event: Event) -> Result<Outcome, Error> {
        match self.taken_event(from, id, event).await? {
            Ok((taken, content)) => self.handle_patiently(taken, content).await,
            Err(outcome) => Ok(outcome),
        }
    }

    /// Makes an event durable; the second value is what became of the same before.
    async fn taken_event(
        &self,
        from: &str,
        id: String,
        event: Event,
    ) -> Result<Result<(Taken, Content), Outcome>, Error> {
        let (source, name) = (format!("{from}/{}", event.repository), event.name.clone());
        let content = Content::Event { event: Box::new(event) };
        let taken = self.take(&source, id, &name, BTreeMap::new(), &content, None).await?;
        Ok(match taken.before.as_ref().map(|before| &before.state) {
            Some(DeliveryState::Handled { runs, note }) => {
                Err(Outcome { runs: runs.clone(), note: note.clone(), lines: Vec::new() })
            }
            _ => Ok((taken, content)),
        })
    }

    /// Handles a stored delivery once more, as a new one: its runs start again.
    ///
    /// # Errors
    /// There is no such delivery, or it cannot be handled.
    pub async fn replay(&self, number: u64) -> Result<(u64, Outcome), Error> {
        let record = self
            .inner
            .store
            .delivery_record(number)?
            .ok_or_else(|| Error::Malformed(format!("there is no delivery {number}")))?;
        let content = self.stored(number)?;
        let id = format!("{}#{}", record.id, self.inner.clock.now().as_nanosecond());
        let taken =
            self.take(&record.source, id, &record.event, record.headers.clone(), &content, Some(number)).await?;
        Ok((taken.number, self.handle(&taken, content).await?))
    }

    /// Takes up what an earlier life of the daemon accepted and did not finish.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn resume(&self) -> Result<usize, Error> {
        let mut count = 0;
        for number in self.inner.store.open_deliveries()? {
            // Their contents when it is their turn: there may be more than memory holds.
            let Some(record) = self.inner.store.delivery_record(number)? else { continue };
            self.inner.waiting.fetch_add(1, Ordering::Relaxed);
            let taken = Taken {
                number,
                id: record.id,
                source: record.source,
                received_at: record.received_at,
                by_hand: record.replay_of.is_some(),
                before: None,
            };
            self.line_up(&self.inner.turns.lane(&taken.source), Waiting { taken, tried: 0 });
            count += 1;
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

    /// Replaces hooks that an older version installed for this daemon.
    async fn upgrade_hooks(&self) {
        let socket = std::path::absolute(self.inner.inventory.paths().socket());
        let (Ok(program), Ok(socket)) = (std::env::current_exe(), socket) else { return };
        for source in self.inner.inventory.all() {
            let (Some(path), SourceKind::Git) = (&source.path, source.kind) else { continue };
            let own = path.join(".git");
            let repository = git::Repository::at(if own.is_dir() { own } else { path.clone() });
            match hook::upgrade(&repository, &program, &socket).await {
                Ok(true) => log::info!("the hook of {} is of this version now", source.name),
                Ok(false) => {}
                Err(error) => log::warn!("the hook of {} stays as it is: {error}", source.name),
            }
        }
    }

    /// Looks after hooks and their spools until told to stop.
    pub async fn watch_spools(self, stop: CancellationToken) {
        self.upgrade_hooks().await;
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

    /// Has it looked again which workflows listen to runs.
    pub(super) fn forget_listeners(&self) {
        let mut listeners = self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.values_mut().for_each(|listening| listening.until = Timestamp::MIN);
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

    /// The source of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn source(&self, name: &str) -> Result<Source, Error> {
        self.inner.inventory.find(name).ok_or_else(|| Error::UnknownSource(name.to_owned()))
    }
}

/// Whether what only time can mend stays open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Somebody waits for what becomes of it.
    Short,
    Long,
}

fn pause_after(tried: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// An id that nobody else has.
pub(super) fn fresh_id() -> String {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
