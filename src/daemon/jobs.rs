//! What jobs of the daemon are given: secrets from the vault, a log in the store, a journal sealed in the store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::tokens::JobTokens;
use crate::id::JobId;
use crate::run::order::Order;
use crate::runner::{JournalStore, Journalled, Surroundings};
use crate::store::Store;
use crate::store::logs::LogId;
use crate::vault::Vault;

/// Records of one job that may wait for the disk; more make the job fail loudly rather than grow without bound.
const WAITING: usize = 4096;

/// The name every job knows its own token by.
const GITHUB_TOKEN: &str = "GITHUB_TOKEN";

/// How long to wait before writing again after the disk was full.
const RETRY: Duration = Duration::from_secs(1);
/// How long a record that nobody waits for may stay in memory, and how many.
const GATHERING: Duration = Duration::from_millis(20);
const MOST_GATHERED: usize = 64;

/// The surroundings of all jobs of a daemon.
pub(super) struct Jobs {
    pub(super) store: Store,
    pub(super) vault: Vault,
    pub(super) tokens: JobTokens,
    pub(super) tracker: TaskTracker,
}

impl Surroundings for Jobs {
    fn secrets(&self, order: &Order) -> BTreeMap<String, SecretString> {
        // A pull request from a fork gets none (T7).
        let environment = order.environment.as_ref().map(|environment| environment.name.as_str());
        let mut secrets = match self.vault.secrets_for(&order.repository, environment) {
            _ if order.is_from_fork() => BTreeMap::new(),
            Ok(secrets) => secrets,
            Err(error) => {
                log::error!(job = order.job.0; "the secrets of job {} cannot be opened: {error}", order.job);
                BTreeMap::new()
            }
        };
        // Who put a token of that name into the vault means it.
        if !secrets.keys().any(|name| name.eq_ignore_ascii_case(GITHUB_TOKEN)) {
            secrets.extend(self.tokens.of(order.job).map(|token| (GITHUB_TOKEN.to_owned(), token)));
        }
        secrets
    }

    fn journal(&self, job: JobId) -> Result<Journalled, String> {
        let mut entries = Vec::new();
        for (number, sealed) in self.store.journal(job).map_err(|error| error.to_string())?.iter().enumerate() {
            let bytes = self.vault.open(&seal_name(job, number as u64), sealed).map_err(|error| error.to_string())?;
            let entry = serde_json::from_slice(&bytes)
                .map_err(|error| format!("a record of job {job} cannot be understood: {error}"))?;
            entries.push(entry);
        }
        let journal = Journal::open(self.store.clone(), self.vault.clone(), job, &self.tracker);
        Ok((entries, Some(Box::new(journal))))
    }

    fn log(&self, order: &Order) -> (PathBuf, watch::Sender<u64>) {
        let log = log_id(order);
        (self.store.logs().path(log), self.store.logs().open(log))
    }

    fn ended(&self, order: &Order) {
        self.tokens.ended(order);
        let log = log_id(order);
        self.store.logs().close(log);
        if let Err(error) = self.store.logs().pack(log) {
            log::warn!(job = order.job.0; "the log of job {} stays as it is: {error}", order.job);
        }
    }

    fn renewed<'a>(&'a self, order: &'a Order, current: &'a str) -> BoxFuture<'a, Option<SecretString>> {
        Box::pin(self.tokens.renewed(order, current))
    }

    fn machine_env(&self, _: &Order) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// An order as it goes to its host: with the variables of its environment, which are readable only now that the
/// environment's rules let the job through (G3).
pub(super) fn let_through(vault: &Vault, mut order: Arc<Order>) -> Arc<Order> {
    let environment = order.environment.as_ref().map(|environment| environment.name.as_str());
    if environment.is_some() {
        match vault.vars_for(&order.repository, environment) {
            Ok(values) => {
                Arc::make_mut(&mut order)
                    .vars
                    .extend(values.into_iter().map(|(name, value)| (name, Json::from(value))));
            }
            Err(error) => {
                log::error!(job = order.job.0; "the variables of job {} cannot be read: {error}", order.job);
            }
        }
    }
    order
}

fn log_id(order: &Order) -> LogId {
    LogId { run: order.run, attempt: order.attempt, job: order.job }
}

/// A record says what a step wrote to `GITHUB_ENV`, which may be a secret.
fn seal_name(job: JobId, number: u64) -> String {
    format!("journal/{job}/{number}")
}

enum Message {
    Entry(u64, Vec<u8>),
    Durable(oneshot::Sender<Result<(), String>>),
}

/// Writes records in order. A job learns several things in a row and then waits for them: what has gathered costs one sync
/// of the disk. Nothing is done because of a record before [`JournalStore::durable`], so it may wait a moment for the others.
struct Journal {
    messages: mpsc::Sender<Message>,
    /// The first fault; nothing is written after it.
    fault: Arc<Mutex<Option<String>>>,
}

/// The disk's side of a [`Journal`].
struct Recorder {
    store: Store,
    vault: Vault,
    job: JobId,
    fault: Arc<Mutex<Option<String>>>,
    /// Sealed, with their numbers.
    gathered: Vec<(u64, Vec<u8>)>,
}

impl Journal {
    fn open(store: Store, vault: Vault, job: JobId, tracker: &TaskTracker) -> Self {
        let (messages, receiver) = mpsc::channel(WAITING);
        let fault = Arc::new(Mutex::new(None::<String>));
        let recorder = Recorder { store, vault, job, fault: Arc::clone(&fault), gathered: Vec::new() };
        tracker.spawn(recorder.run(receiver));
        Self { messages, fault }
    }
}

impl Recorder {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        loop {
            let message = if self.gathered.is_empty() {
                messages.recv().await
            } else {
                match tokio::time::timeout(GATHERING, messages.recv()).await {
                    Ok(message) => message,
                    Err(_) => {
                        self.write().await;
                        continue;
                    }
                }
            };
            match message {
                None => return self.write().await,
                Some(Message::Entry(number, entry)) => {
                    self.gather(number, &entry);
                    if self.gathered.len() >= MOST_GATHERED {
                        self.write().await;
                    }
                }
                Some(Message::Durable(answer)) => {
                    self.write().await;
                    let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    // The job may have been given up meanwhile.
                    drop(answer.send(fault.map_or(Ok(()), Err)));
                }
            }
        }
    }

    fn gather(&mut self, number: u64, entry: &[u8]) {
        match self.vault.seal(&seal_name(self.job, number), entry) {
            Ok(sealed) => self.gathered.push((number, sealed)),
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Writes until it is written: while the disk is full the job's step goes on, and the job waits for its record.
    async fn write(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() || self.fault.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        loop {
            match self.store.append_journal_entries(self.job, &gathered).await {
                Ok(()) => return,
                Err(error) if error.is_transient() => tokio::time::sleep(RETRY).await,
                Err(error) => return self.fail(error.to_string()),
            }
        }
    }

    fn fail(&self, error: String) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

impl JournalStore for Journal {
    fn append(&self, sequence: u64, entry: &[u8]) -> Result<(), String> {
        if let Some(fault) = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(fault);
        }
        self.messages
            .try_send(Message::Entry(sequence, entry.to_vec()))
            .map_err(|_| "the disk does not keep up with the job's records".to_owned())
    }

    fn durable(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let closed = || "the daemon is stopping".to_owned();
            self.messages.send(Message::Durable(answer)).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        })
    }
}
