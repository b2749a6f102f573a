//! The loop that starts what is due (T10).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::cron::{self, Due, Entry, Timetable};
use super::service::{Error, Triggers};
use crate::config::{Source, TriggerKind};
use crate::event::dispatch;
use crate::workflow;

/// Schedules are read again this often, and whenever somebody says that a repository changed.
const REFRESH: Duration = Duration::from_secs(60);

/// The schedules of all sources. Cheap to clone.
#[derive(Clone)]
pub struct Schedules {
    triggers: Triggers,
    table: Arc<Mutex<Timetable>>,
    changed: Arc<Notify>,
}

impl Schedules {
    #[must_use]
    pub fn new(triggers: Triggers) -> Self {
        Self { triggers, table: Arc::default(), changed: Arc::default() }
    }

    /// Says that workflows may have changed.
    pub fn refresh_soon(&self) {
        self.changed.notify_one();
    }

    /// All schedules with their next times.
    #[must_use]
    pub fn preview(&self, count: usize) -> Vec<(Entry, Vec<Timestamp>)> {
        let now = self.triggers.clock().now();
        self.table.lock().unwrap_or_else(PoisonError::into_inner).preview(now, count)
    }

    /// Starts what is due until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut from = self.last_look();
        loop {
            let entries = self.read().await;
            let now = self.triggers.clock().now();
            let (due, next) = {
                let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
                table.set(entries, from.unwrap_or(now), now);
                (table.due(now), table.next(now))
            };
            for due in due {
                self.start(due).await;
            }
            self.remember(now);
            from = None;
            let until_next = next.map_or(REFRESH, |next| {
                Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO).min(REFRESH)
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                // A little late rather than a little early: what is due then must be past.
                () = tokio::time::sleep(until_next + Duration::from_millis(20)) => {}
            }
        }
    }

    /// One turn for now: reads what there is and starts what became due since `from`.
    pub async fn turn(&self, from: Timestamp) -> usize {
        let entries = self.read().await;
        let now = self.triggers.clock().now();
        let due = {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            table.set(entries, from, now);
            table.due(now)
        };
        let count = due.len();
        for due in due {
            self.start(due).await;
        }
        count
    }

    async fn start(&self, due: Due) {
        let (entry, time) = match due {
            Due::Start(entry, time) => (entry, time),
            Due::Missed(entry, time) => {
                log::warn!(
                    "{}: {} was due at {time} ('{}') while nobody looked; it is not started any more",
                    entry.repository,
                    entry.workflow,
                    entry.cron
                );
                return;
            }
        };
        if let Err(error) = self.start_entry(&entry, time).await {
            log::error!("{}: {} was due at {time} and could not be started: {error}", entry.repository, entry.workflow);
        }
    }

    async fn start_entry(&self, entry: &Entry, time: Timestamp) -> Result<(), Error> {
        let source = self.triggers.source(entry.repository.as_str())?;
        let inventory = self.triggers.inventory();
        let repository = match inventory.open(&source, &[]).await {
            Err(error) if error.is_transient() => match inventory.fetched(&source) {
                Some(mirror) => {
                    log::warn!("{} is taken as it was fetched last: {error}", source.name);
                    mirror
                }
                None => return Err(error.into()),
            },
            opened => opened?,
        };
        let place = self.triggers.place(&source, &repository, None, "schedule").await?;
        let event = dispatch::schedule(self.triggers.clock().now(), &place, &entry.workflow, &entry.cron);
        // The due time is part of the id: nothing is started twice for it, whatever happens to this process.
        let id = format!("{} {} {time}", entry.workflow, entry.cron);
        self.triggers.occurred("schedule", id, event).await.map(drop)
    }

    /// The schedules on the default branches of all sources that listen to them.
    async fn read(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for source in self.triggers.inventory().all() {
            if !source.triggers.contains(&TriggerKind::Schedule) {
                continue;
            }
            match self.entries_of(&source).await {
                Ok(found) => entries.extend(found),
                Err(error) => log::debug!("the schedules of {} cannot be read: {error}", source.name),
            }
        }
        entries
    }

    async fn entries_of(&self, source: &Source) -> Result<Vec<Entry>, Error> {
        let repository = self.triggers.inventory().at_hand(source).await?;
        let place = match self.triggers.place(source, &repository, None, "schedule").await {
            // Nothing was pushed yet.
            Err(Error::Refused(_)) => return Ok(Vec::new()),
            place => place?,
        };
        let mut objects = repository.objects()?;
        let files = objects.workflows(&place.sha, &self.triggers.reading(source).directories).await?;
        objects.close().await;
        let mut entries = Vec::new();
        for file in files {
            if let (Some(model), _) = workflow::parse(&file.path, &file.text) {
                entries.extend(cron::entries(&source.name, &file.path, &model.on.schedules));
            }
        }
        Ok(entries)
    }

    fn memory(&self) -> PathBuf {
        self.triggers.inventory().paths().state.join("schedules-seen")
    }

    /// When an earlier life of the daemon last looked.
    fn last_look(&self) -> Option<Timestamp> {
        std::fs::read_to_string(self.memory()).ok()?.trim().parse().ok()
    }

    fn remember(&self, now: Timestamp) {
        let path = self.memory();
        let unfinished = path.with_extension("new");
        let written = std::fs::write(&unfinished, now.to_string()).and_then(|()| std::fs::rename(&unfinished, &path));
        if let Err(error) = written {
            log::warn!("cannot write {}: {error}", path.display());
        }
    }
}
