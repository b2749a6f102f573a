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

/// Writes records in order, several in flight with those of other jobs (group commit).
struct Journal {
    messages: mpsc::Sender<Message>,
    /// The first fault; nothing is written after it.
    fault: Arc<Mutex<Option<String>>>,
}

impl Journal {
    fn open(store: Store, vault: Vault, job: JobId, tracker: &TaskTracker) -> Self {
        let (messages, mut receiver) = mpsc::channel(WAITING);
        let fault = Arc::new(Mutex::new(None::<String>));
        let seen = fault.clone();
        tracker.spawn(async move {
            while let Some(message) = receiver.recv().await {
                let before = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match (message, before) {
                    (Message::Durable(answer), before) => drop(answer.send(before.map_or(Ok(()), Err))),
                    (Message::Entry(..), Some(_)) => {}
                    (Message::Entry(number, entry), None) => {
                        let written = match vault.seal(&seal_name(job, number), &entry) {
                            Ok(sealed) => append(&store, job, number, &sealed).await,
                            Err(error) => Err(error.to_string()),
                        };
                        if let Err(error) = written {
                            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        }
                    }
                }
            }
        });
        Self { messages, fault }
    }
}

/// Writes until it is written: while the disk is full the job's step goes on, and the job waits for its record.
async fn append(store: &Store, job: JobId, number: u64, sealed: &[u8]) -> Result<(), String> {
    loop {
        match store.append_journal(job, number, sealed).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.to_string()),
        }
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
