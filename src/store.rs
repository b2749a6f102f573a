//! What survives: small records in sled trees, logs in plain files.
//!
//! One writer thread commits for everybody: it takes what has gathered, writes it in one transaction over all trees,
//! flushes, and syncs sled's file (sled's own flush does not reach through the device's cache). A commit that has
//! returned is on the disk. Reads go to sled directly and may block for a page: scans belong in `spawn_blocking`.
//! Keys are big-endian tuples; values are JSON behind a version. Nothing outside of this room knows sled.

mod codec;
mod export;
mod identity;
mod inbox;
mod journal;
mod lists;
pub mod logs;
mod records;
mod recovery;
mod retention;
mod rooms;
mod runs;
mod trees;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use inbox::{DeliveryFilter, DeliveryRecord, DeliveryState};
pub use logs::Logs;
pub use recovery::Recovery;
pub use rooms::{AuditRecord, Role, TokenRecord};
pub use runs::{MOST_NARROWED, RunFilter, RunPage, StatusFilter};

use trees::Trees;
pub(crate) use writer::Pending;
use writer::Writer;

/// The state directory of one daemon, open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Dropped first: it commits what is queued.
    writer: Writer,
    logs: Logs,
    lists: lists::Lists,
    last_delivery: std::sync::atomic::AtomicU64,
    last_audit: std::sync::atomic::AtomicU64,
    directory: PathBuf,
    _lock: Option<std::fs::File>,
    /// Removes the directory of a temporary store.
    _temporary: Option<Temporary>,
}

/// What keeps state from being read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the state in {directory}: {source}")]
    Open { directory: PathBuf, source: std::io::Error },
    #[error("the state in {directory} is used by another towline{}; stop it first", by(*process))]
    InUse { directory: PathBuf, process: Option<u32> },
    #[error("cannot write the state: {0}")]
    Write(String),
    #[error(
        "the disk that holds {directory} is full ({free} bytes free); nothing new is accepted until there is space"
    )]
    Full { directory: PathBuf, free: u64 },
    #[error("cannot read the state: {0}")]
    Read(String),
    #[error("the stored {what} cannot be understood: {reason}")]
    Decode { what: &'static str, reason: String },
    #[error("cannot export to {path}: {source}")]
    Export { path: PathBuf, source: std::io::Error },
    #[error("cannot import {path}: {reason}")]
    Import { path: PathBuf, reason: String },
    #[error("the log {path}: {source}")]
    Log { path: PathBuf, source: std::io::Error },
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Write(_))
    }
}

fn by(process: Option<u32>) -> String {
    process.map(|process| format!(" (process {process})")).unwrap_or_default()
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        Self::Read(error.to_string())
    }
}

impl Store {
    /// Opens or creates the state in a directory: `db`, `logs`, `backups`. When the database is damaged it is moved
    /// aside and the last export is imported; the [`Recovery`] says so and must be shown.
    ///
    /// # Errors
    /// Another process uses the directory, or it cannot be created or read.
    pub fn open(directory: &Path) -> Result<(Self, Option<Recovery>), StoreError> {
        let fail = |source| StoreError::Open { directory: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(fail)?;
        let lock = recovery::lock(directory)?;
        let (trees, recovery) = recovery::open(directory)?;
        let inner = Inner {
            writer: Writer::start(directory, trees, true),
            logs: Logs::new(directory.join("logs")),
            lists: lists::Lists::default(),
            last_delivery: std::sync::atomic::AtomicU64::new(0),
            last_audit: std::sync::atomic::AtomicU64::new(0),
            directory: directory.to_owned(),
            _lock: Some(lock),
            _temporary: None,
        };
        Ok((Self { inner: Arc::new(inner) }, recovery))
    }

    /// A store that ends with the process: for `towline exec` and tests. Nothing is synced.
    ///
    /// # Errors
    /// The temporary directory cannot be written.
    pub fn temporary() -> Result<Self, StoreError> {
        let temporary = Temporary::new()?;
        let directory = temporary.0.clone();
        let fail = |error: sled::Error| StoreError::Open {
            directory: directory.clone(),
            source: std::io::Error::other(error.to_string()),
        };
        let database = sled::Config::new().temporary(true).cache_capacity(16 << 20).flush_every_ms(None).open();
        let trees = database.and_then(Trees::new).map_err(fail)?;
        let inner = Inner {
            writer: Writer::start(&directory, trees, false),
            logs: Logs::new(directory.join("logs")),
            lists: lists::Lists::default(),
            last_delivery: std::sync::atomic::AtomicU64::new(0),
            last_audit: std::sync::atomic::AtomicU64::new(0),
            directory: directory.clone(),
            _lock: None,
            _temporary: Some(temporary),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The logs of jobs.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.inner.logs
    }

    /// Free bytes that the disk has to keep: below them nothing new is accepted. At most a twentieth of the disk.
    pub fn keep_free(&self, bytes: u64) {
        self.inner.writer.keep_free(bytes);
    }

    /// The state directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    fn trees(&self) -> &Trees {
        self.inner.writer.trees()
    }
}

/// A directory that is removed when dropped.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, StoreError> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let base = std::env::temp_dir();
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("towline-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreError::Open { directory: path, source }),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed is only litter in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
