//! Letters on their way: durable, only the latest of each context, tried until somebody has them or they are dead.
//!
//! Letters to one forge or one address go one after the other; those to different ones at the same time, so that a mail
//! server that does not answer holds up no commit status.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Error, Known};
use super::notice::{self, Notice, Ways};
use super::{Deployment, Report, State, reports};
use crate::clock::Clock;
use crate::config::Source;
use crate::id::RepositoryName;
use crate::store::{Store, StoreError};

const SPACE: &str = "outbox";
/// What a forge was told last: the number of its check, and a digest.
const TOLD: &str = "outbox-checks";
const DEAD: &str = "outbox-dead";
/// Notices that were written, so that hearing twice of an end tells of it once.
const NOTICED: &str = "outbox-notices";
/// Two days of trying.
const MOST_ATTEMPTS: u32 = 60;
/// Who was not told of an end within hours knows it by now.
const MOST_ATTEMPTS_OF_NOTICES: u32 = 15;
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The longest sleep before the clock is looked at again: it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Destinations written to at once.
const LANES: usize = 8;
/// A destination that cannot be reached is left alone for so long at most before another letter is tried.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a forge is told which step runs now.
const STEPS_TOLD: SignedDuration = SignedDuration::from_secs(10);
/// How long it is remembered what was told, and what died.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The source of a repository.
pub type SourceOf = Arc<dyn Fn(&RepositoryName) -> Option<Source> + Send + Sync>;

/// The outbox of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    clock: Clock,
    source_of: SourceOf,
    ways: Ways,
    changed: Arc<Notify>,
    /// Held by whoever looks whether a letter is still the newest and then changes it.
    changing: Arc<tokio::sync::Mutex<()>>,
    clients: Clients,
    /// Destinations that asked for patience.
    paused: Arc<Mutex<HashMap<String, Timestamp>>>,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letter {
    Report(Report),
    Deployment(Deployment),
    Notice(Notice),
}

/// A letter that nobody took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dead {
    #[serde(flatten)]
    pub letter: Letter,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    // A record of before there were notices has a `report` as well.
    #[serde(flatten)]
    letter: Letter,
    attempts: u32,
    not_before: Timestamp,
    /// Of the last attempt.
    reason: String,
}

/// A letter as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it is called when it is to be sent again.
    pub id: String,
    pub kind: &'static str,
    pub repository: RepositoryName,
    pub subject: String,
    /// Nobody took it, and it is not tried again by itself.
    pub dead: bool,
    pub attempts: u32,
    /// Of the last attempt; empty when there was none.
    pub reason: String,
    /// When it died, or when it is tried next.
    pub at: Timestamp,
}

/// What a forge was told last about one context.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    check: Option<u64>,
    /// What the check is of: another attempt gets a check of its own.
    #[serde(default)]
    external_id: String,
    #[serde(default)]
    annotations: usize,
    /// Empty when not all of it was taken.
    digest: String,
    at: Timestamp,
}

impl Letter {
    fn key(&self) -> String {
        match self {
            Self::Report(report) => format!("{} {} {}", report.repository, report.sha, report.context),
            Self::Deployment(told) => format!("{} deployment {}", told.repository, told.job),
            Self::Notice(notice) => format!("{} {} {}", notice.way, notice.run, notice.attempt),
        }
    }

    /// Whom it goes to.
    fn lane(&self) -> String {
        match self {
            Self::Report(report) => report.repository.to_string(),
            Self::Deployment(told) => told.repository.to_string(),
            Self::Notice(notice) => notice.way.clone(),
        }
    }

    fn most_attempts(&self) -> u32 {
        if matches!(self, Self::Notice(_)) { MOST_ATTEMPTS_OF_NOTICES } else { MOST_ATTEMPTS }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Report(_) => "report",
            Self::Deployment(_) => "deployment",
            Self::Notice(_) => "notice",
        }
    }

    fn repository(&self) -> &RepositoryName {
        match self {
            Self::Report(report) => &report.repository,
            Self::Deployment(told) => &told.repository,
            Self::Notice(notice) => &notice.repository,
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Report(report) => format!("{}: {}", report.repository, report.context),
            Self::Deployment(told) => format!("{}: deployment to {}", told.repository, told.environment),
            Self::Notice(notice) => notice.headline(),
        }
    }
}

impl Outbox {
    #[must_use]
    pub fn new(store: Store, clock: Clock, source_of: SourceOf, ways: Ways) -> Self {
        let (changed, changing, clients, paused) = (Arc::default(), Arc::default(), Clients::default(), Arc::default());
        Self { store, clock, source_of, ways, changed, changing, clients, paused }
    }

    /// Takes a report; an older one of the same context that has not left yet is forgotten.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn put(&self, report: Report) -> Result<(), StoreError> {
        self.put_letter(Letter::Report(report)).await
    }

    /// Takes how a deployment stands, unless the forge knows that already.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn put_deployment(&self, deployment: Deployment) -> Result<(), StoreError> {
        let digest = digest(&deployment);
        let letter = Letter::Deployment(deployment);
        let key = letter.key();
        let told = self.store.get(TOLD, &key)?.and_then(|told| serde_json::from_slice::<Told>(&told).ok());
        if told.is_some_and(|told| told.digest == digest) && self.store.get(SPACE, &key)?.is_none() {
            return Ok(());
        }
        self.put_letter(letter).await
    }

    /// Takes a notice, the first time.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn put_notice(&self, notice: Notice) -> Result<(), StoreError> {
        let letter = Letter::Notice(notice);
        let key = letter.key();
        if self.store.get(NOTICED, &key)?.is_some() {
            return Ok(());
        }
        self.put_letter(letter).await?;
        self.store.put(NOTICED, &key, self.clock.now().to_string().as_bytes()).await
    }

    async fn put_letter(&self, letter: Letter) -> Result<(), StoreError> {
        let key = letter.key();
        let mut not_before = Timestamp::MIN;
        if let Letter::Report(Report { state: State::Running, external_id, .. }) = &letter {
            // Forges count requests: which step runs need not be known to the second.
            let told = self.store.get(TOLD, &key)?;
            let told: Option<Told> = told.and_then(|told| serde_json::from_slice(&told).ok());
            let told = told.filter(|told| told.external_id == *external_id && !told.digest.is_empty());
            not_before = told.map_or(not_before, |told| told.at + STEPS_TOLD);
        }
        let waiting = Waiting { letter, attempts: 0, not_before, reason: String::new() };
        let changing = self.changing.lock().await;
        self.write(&key, &waiting).await?;
        drop(changing);
        self.changed.notify_one();
        Ok(())
    }

    /// Letters that nobody took.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn dead(&self) -> Result<Vec<Dead>, StoreError> {
        let found = self.store.scan(DEAD, "")?;
        Ok(found.iter().filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect())
    }

    /// How many letters have not left yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn waiting(&self) -> Result<usize, StoreError> {
        self.store.scan(SPACE, "").map(|found| found.len())
    }

    /// All letters: those that nobody took, newest first, then those on their way.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn letters(&self) -> Result<Vec<Shown>, StoreError> {
        let mut shown = Vec::new();
        for (key, value) in self.store.scan(DEAD, "")? {
            let Ok(Dead { letter, reason, at }) = serde_json::from_slice(&value) else { continue };
            shown.push(show(&key, &letter, true, 0, reason, at));
        }
        shown.sort_by_key(|one| std::cmp::Reverse(one.at));
        for (key, value) in self.store.scan(SPACE, "")? {
            let Ok(Waiting { letter, attempts, not_before, reason }) = serde_json::from_slice(&value) else { continue };
            shown.push(show(&key, &letter, false, attempts, reason, not_before));
        }
        Ok(shown)
    }

    /// Sends a letter now that nobody took, or that waits. `false`: there is none of that name.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn retry(&self, id: &str) -> Result<bool, StoreError> {
        let changing = self.changing.lock().await;
        let Some((space, key, value)) = self.find(id)? else { return Ok(false) };
        let letter = match space {
            DEAD => serde_json::from_slice::<Dead>(&value).map(|dead| dead.letter),
            _ => serde_json::from_slice::<Waiting>(&value).map(|waiting| waiting.letter),
        };
        let letter = letter.map_err(|error| StoreError::Decode { what: "letter", reason: error.to_string() })?;
        self.paused().remove(&letter.lane());
        // One that came later says more.
        if space != DEAD || self.store.get(SPACE, &key)?.is_none() {
            let waiting = Waiting { letter, attempts: 0, not_before: Timestamp::MIN, reason: String::new() };
            self.write(&key, &waiting).await?;
        }
        if space == DEAD {
            self.store.delete(DEAD, &key).await?;
        }
        drop(changing);
        self.changed.notify_one();
        Ok(true)
    }

    /// Throws a letter away. `false`: there is none of that name.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn forget(&self, id: &str) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        let Some((space, key, _)) = self.find(id)? else { return Ok(false) };
        self.store.delete(space, &key).await?;
        Ok(true)
    }

    /// The letter of a name, and where it is.
    fn find(&self, id: &str) -> Result<Option<Found>, StoreError> {
        for space in [DEAD, SPACE] {
            let found = self.store.scan(space, "")?.into_iter().find(|(key, _)| name(key) == id);
            if let Some((key, value)) = found {
                return Ok(Some((space, key, value)));
            }
        }
        Ok(None)
    }

    /// Sends until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut swept = Timestamp::MIN;
        loop {
            if self.clock.now().duration_since(swept) > SignedDuration::from_hours(24) {
                swept = self.clock.now();
                if let Err(error) = self.sweep().await {
                    log::warn!("what the outbox no longer needs is kept: {error}");
                }
            }
            let next = match self.turn().await {
                Ok(next) => next,
                Err(error) => {
                    log::error!("the outbox cannot be read or written: {error}");
                    Some(self.clock.now() + SignedDuration::from_secs(10))
                }
            };
            let pause = next.map_or(LONGEST_SLEEP, |next| {
                Duration::try_from(next.duration_since(self.clock.now())).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(pause + Duration::from_millis(5)) => {}
            }
        }
    }

    /// Sends everything that is due; says when the next is.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn turn(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut lanes: BTreeMap<String, Vec<(String, Vec<u8>, Waiting)>> = BTreeMap::new();
        for (key, value) in self.store.scan(SPACE, "")? {
            match serde_json::from_slice::<Waiting>(&value) {
                Ok(waiting) => lanes.entry(waiting.letter.lane()).or_default().push((key, value, waiting)),
                Err(error) => {
                    log::error!("a letter in the outbox cannot be understood and is dropped: {key}: {error}");
                    self.store.delete(SPACE, &key).await?;
                }
            }
        }
        let sent = stream::iter(lanes).map(|(lane, letters)| self.lane(lane, letters)).buffer_unordered(LANES);
        let ends: Vec<Result<Option<Timestamp>, StoreError>> = sent.collect().await;
        let mut next = None;
        for end in ends {
            next = [next, end?].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Sends what is due to one destination, in order.
    async fn lane(
        &self,
        lane: String,
        letters: Vec<(String, Vec<u8>, Waiting)>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut next: Option<Timestamp> = None;
        for (key, value, waiting) in letters {
            let now = self.clock.now();
            // No pause is longer; one that seems to be is from before the clock was set back.
            let waits = |until: Timestamp| until > now && until <= after(now, LONGEST_WAIT);
            let pause = self.paused().get(&lane).copied().filter(|until| waits(*until));
            let again = match pause {
                Some(until) => Some(until.max(waiting.not_before)),
                None if waits(waiting.not_before) => Some(waiting.not_before),
                None => self.one(&lane, &key, &value, waiting).await?,
            };
            next = [next, again].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Sends one; says when to try again.
    async fn one(
        &self,
        lane: &str,
        key: &str,
        value: &[u8],
        mut waiting: Waiting,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sent = match &waiting.letter {
            letter @ (Letter::Report(_) | Letter::Deployment(_)) => self.tell(key, letter).await?,
            Letter::Notice(notice) => notice::send(notice, &(self.ways)()).await.map(drop),
        };
        // A newer letter may have come in between: it is due at once, and this answer is about the old one. None may come
        // from here on until this one is put away, or it would be put away with it.
        let _changing = self.changing.lock().await;
        let newer = self.store.get(SPACE, key)?.is_none_or(|now| now != value);
        match sent {
            Ok(()) if newer => Ok(Some(self.clock.now())),
            Ok(()) => {
                self.store.delete(SPACE, key).await?;
                // What nobody took of the same before is made good now.
                if self.store.get(DEAD, key)?.is_some() {
                    self.store.delete(DEAD, key).await?;
                }
                Ok(None)
            }
            Err(_) if newer => Ok(Some(self.clock.now())),
            Err(error) => {
                let now = self.clock.now();
                waiting.attempts += 1;
                waiting.reason = error.to_string();
                if !error.is_transient() || waiting.attempts >= waiting.letter.most_attempts() {
                    log::error!("nobody took \"{}\": {error}", waiting.letter.subject());
                    let dead = Dead { letter: waiting.letter, reason: waiting.reason, at: now };
                    let bytes = serde_json::to_vec(&dead).unwrap_or_default();
                    self.store.put(DEAD, key, &bytes).await?;
                    self.store.delete(SPACE, key).await?;
                    return Ok(None);
                }
                let doubled = FIRST_WAIT.saturating_mul(1 << waiting.attempts.min(16).saturating_sub(1));
                let pause = error.retry_after().unwrap_or(doubled).min(LONGEST_WAIT);
                waiting.not_before = after(now, pause);
                if error.retry_after().is_some() || matches!(error, Error::Unreachable { .. }) {
                    // The others to the same place would fare no better.
                    let all = if error.retry_after().is_some() { pause } else { pause.min(LONGEST_PAUSE) };
                    self.paused().insert(lane.to_owned(), after(now, all));
                }
                self.write(key, &waiting).await?;
                Ok(Some(waiting.not_before))
            }
        }
    }

    /// Tells the forge, unless it has heard just this before.
    async fn tell(&self, key: &str, letter: &Letter) -> Result<Result<(), Error>, StoreError> {
        let (repository, external_id, digest) = match letter {
            Letter::Report(report) => (&report.repository, &report.external_id, digest(report)),
            Letter::Deployment(deployment) => (&deployment.repository, &deployment.job, digest(deployment)),
            Letter::Notice(_) => return Ok(Ok(())),
        };
        let Some(source) = (self.source_of)(repository).filter(reports) else {
            // Nobody to tell any more.
            return Ok(Ok(()));
        };
        let told = self.store.get(TOLD, key)?;
        let told: Option<Told> = told.and_then(|told| serde_json::from_slice(&told).ok());
        if told.as_ref().is_some_and(|told| told.digest == digest) {
            return Ok(Ok(()));
        }
        let told = told.filter(|told| told.external_id == *external_id);
        let mut known =
            told.map_or_else(Known::default, |told| Known { check: told.check, annotations: told.annotations });
        let before = known;
        let mut sent = match self.clients.of(&source) {
            Ok(client) => client.tell(letter, &mut known).await,
            Err(error) => Err(error),
        };
        if sent.as_ref().is_err_and(Error::is_about_credentials) {
            // A token that ended or was replaced: what is configured now is read again, once.
            self.clients.forget(&source);
            sent = match self.clients.of(&source) {
                Ok(client) => client.tell(letter, &mut known).await,
                Err(error) => Err(error),
            };
        }
        if sent.is_ok() || known != before {
            let digest = if sent.is_ok() { digest } else { String::new() };
            let told = Told {
                check: known.check,
                external_id: external_id.clone(),
                annotations: known.annotations,
                digest,
                at: self.clock.now(),
            };
            let bytes = serde_json::to_vec(&told).unwrap_or_default();
            self.store.put(TOLD, key, &bytes).await?;
        }
        Ok(sent)
    }

    /// Forgets what nobody will ask for again.
    async fn sweep(&self) -> Result<(), StoreError> {
        let before = self.clock.now() - KEPT;
        let told = |value: &[u8]| Some(serde_json::from_slice::<Told>(value).ok()?.at);
        let dead = |value: &[u8]| Some(serde_json::from_slice::<Dead>(value).ok()?.at);
        let noticed = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<Timestamp>().ok();
        let spaces: [(&str, &TimeOf<'_>); 3] = [(TOLD, &told), (DEAD, &dead), (NOTICED, &noticed)];
        let mut old = Vec::new();
        for (space, at) in spaces {
            for (key, value) in self.store.scan(space, "")? {
                if at(&value).is_none_or(|at| at < before) {
                    old.push((space, key));
                }
            }
        }
        for (space, key) in old {
            self.store.delete(space, &key).await?;
        }
        Ok(())
    }

    async fn write(&self, key: &str, waiting: &Waiting) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(waiting)
            .map_err(|error| StoreError::Decode { what: "letter", reason: error.to_string() })?;
        self.store.put(SPACE, key, &bytes).await
    }

    fn paused(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn show(key: &str, letter: &Letter, dead: bool, attempts: u32, reason: String, at: Timestamp) -> Shown {
    let (kind, repository, subject) = (letter.kind(), letter.repository().clone(), letter.subject());
    Shown { id: name(key), kind, repository, subject, dead, attempts, reason, at }
}

/// A short word for a key.
fn name(key: &str) -> String {
    digest(&key).chars().take(12).collect()
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now + SignedDuration::try_from(pause).unwrap_or(SignedDuration::ZERO)
}

fn digest(told: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(told).unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A space, a key in it and its value.
type Found = (&'static str, String, Vec<u8>);
/// When a stored value was written.
type TimeOf<'a> = dyn Fn(&[u8]) -> Option<Timestamp> + 'a;
/// Ways by repository, and the table each was opened for.
type Open = HashMap<RepositoryName, (Source, Arc<Client>)>;

/// Open ways to forges, kept as long as their source stays as it is: an App's token is good for an hour.
#[derive(Clone, Default)]
pub struct Clients {
    open: Arc<Mutex<Open>>,
}

impl Clients {
    /// The way to the forge of a source.
    ///
    /// # Errors
    /// A secret cannot be read, or the address is none.
    pub fn of(&self, source: &Source) -> Result<Arc<Client>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = open.get(&source.name)
            && known == source
        {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client::new(source)?);
        open.insert(source.name.clone(), (source.clone(), Arc::clone(&client)));
        Ok(client)
    }

    /// Forgets the way to a source: its credentials are read anew.
    pub fn forget(&self, source: &Source) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&source.name);
    }
}

impl std::fmt::Debug for Clients {
    /// Only whose they are: a client holds its token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(open.keys()).finish()
    }
}
