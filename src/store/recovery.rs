//! Opening the database, also when it is damaged: loudly, and never by deleting anything.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StoreError;
use super::codec::{VERSION, decode, encode};
use super::export;
use super::records::{self, COUNTERS, Counters};
use super::trees::{NAMES, Name, Trees, Write};

/// Written into every database, and beside it as a file of the same name: a database without it that stands beside the
/// file has lost everything, which sled itself takes for a new one.
const FORMAT: &str = "format";

/// Added to the last known ids after an older export was imported: ids given out since must not come again.
const RUN_GAP: u64 = 1_000;
const JOB_GAP: u64 = 1_000_000;
/// How long children of a dead process may have its lock.
const HANDED_DOWN: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// Runs after the last known one that are looked for in the logs.
const NEXT_RUNS: u64 = 100;

/// The database was damaged and another one took its place. To be shown to whoever looks after the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What was wrong.
    pub reason: String,
    /// Where the damaged database is now.
    pub moved_to: PathBuf,
    /// The export that was imported; `None` when there was none and the state is empty.
    pub imported: Option<PathBuf>,
    /// Records imported.
    pub records: usize,
}

impl std::fmt::Display for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the database was damaged ({}) and moved to {}; ", self.reason, self.moved_to.display())?;
        match &self.imported {
            Some(path) => write!(f, "{} records were imported from {}", self.records, path.display()),
            None => write!(f, "there was no export to import, so the state is empty"),
        }
    }
}

/// Locks the directory for this process: two daemons on one state would destroy it.
pub(super) fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let fail = |source| StoreError::Open { directory: directory.to_owned(), source };
    let mut file = File::options().create(true).read(true).write(true).truncate(false).open(path).map_err(fail)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Without the number the message is only less exact.
            let _ = file.read_to_string(&mut text);
            let process = text.trim().parse().ok();
            let is_held = |process| process != std::process::id() && is_alive(process);
            if process.is_none_or(is_held) || !comes_free(&file) {
                return Err(StoreError::InUse { directory: directory.to_owned(), process });
            }
        }
        Err(error) => return Err(fail(error.into())),
    }
    file.set_len(0).map_err(fail)?;
    file.rewind().map_err(fail)?;
    file.write_all(std::process::id().to_string().as_bytes()).map_err(fail)?;
    Ok(file)
}

fn is_alive(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    process.is_some_and(|process| rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH))
}

/// Waits a moment for a lock whose owner is dead, or this process, which has let it go: children that it had just forked have it
/// until they run their program.
#[expect(clippy::disallowed_methods, reason = "a wait for a lock cannot be given up, and nothing else runs yet")]
fn comes_free(file: &File) -> bool {
    (0..HANDED_DOWN.as_millis() / LOOK.as_millis()).any(|_| {
        std::thread::sleep(LOOK);
        rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

/// Opens `directory/db`.
pub(super) fn open(directory: &Path) -> Result<(Trees, Option<Recovery>), StoreError> {
    let path = directory.join("db");
    let reason = match try_open(&path).and_then(|trees| not_cut(directory, trees)) {
        Ok(trees) => {
            mark(directory, &trees)?;
            notice_lost_end(directory, &trees)?;
            return Ok((trees, None));
        }
        Err(reason) => reason,
    };
    // A snapshot that was being written when the machine stopped may be all that is wrong.
    if drop_unfinished_snapshots(&path)
        && let Ok(trees) = try_open(&path).and_then(|trees| not_cut(directory, trees))
    {
        log::warn!("the database opened only after its unfinished snapshot was set aside: {reason}");
        notice_lost_end(directory, &trees)?;
        return Ok((trees, None));
    }
    let fail = |source| StoreError::Open { directory: directory.to_owned(), source };
    // What is not damage must not be repaired: permissions, a full disk.
    if let Err(source) = fs::read_dir(&path)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(fail(source));
    }
    let moved_to = free_name(directory);
    fs::rename(&path, &moved_to).map_err(fail)?;
    let trees = try_open(&path).map_err(|reason| fail(io::Error::other(reason)))?;
    let mut recovery = Recovery { reason, moved_to, imported: None, records: 0 };
    for export in export::newest_first(directory) {
        match export::import(&trees, &export) {
            Ok(records) => {
                (recovery.imported, recovery.records) = (Some(export), records);
                break;
            }
            Err(error) => log::error!("{error}"),
        }
    }
    skip_ids(&trees, directory)?;
    trees.apply(vec![Write::put(Name::Meta, FORMAT.as_bytes().to_vec(), encode(&VERSION))])?;
    trees.flush()?;
    log::error!("{recovery}");
    Ok((trees, Some(recovery)))
}

fn try_open(path: &Path) -> Result<Trees, String> {
    // Some kinds of damage make sled panic.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let config = sled::Config::new().path(path).cache_capacity(64 << 20).flush_every_ms(None);
        let trees = config.open().and_then(Trees::new).map_err(|error| error.to_string())?;
        check(&trees)?;
        Ok(trees)
    }));
    opened.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "the database library gave up".to_owned()))
    })
}

/// Reads what a start needs, so that damage is found now and not later.
fn check(trees: &Trees) -> Result<(), String> {
    for (name, _) in NAMES {
        let tree = trees.tree(name);
        tree.first().and_then(|_| tree.last()).map_err(|error| error.to_string())?;
    }
    for name in [Name::Inbox, Name::Keys, Name::Tokens, Name::Secrets] {
        for item in trees.tree(name) {
            item.map_err(|error| error.to_string())?;
        }
    }
    records::load(trees).map(drop).map_err(|error| error.to_string())
}

/// A database that lost all it had, or all since its last backup, opens as if nothing were wrong.
fn not_cut(directory: &Path, trees: Trees) -> Result<Trees, String> {
    if let Some(saved) = export::newest_first(directory).first().and_then(|path| export::counters(path)) {
        let counters = trees.get(Name::Meta, COUNTERS).map_err(|error| error.to_string())?;
        let counters: Option<Counters> = counters.and_then(|value| decode("counters", &value).ok());
        let counters = counters.unwrap_or_default();
        if counters.run < saved.run || counters.job < saved.job {
            return Err("it knows less than its last backup".to_owned());
        }
    }
    let marked = trees.get(Name::Meta, FORMAT.as_bytes()).map_err(|error| error.to_string())?.is_some();
    if !marked && directory.join(FORMAT).exists() {
        return Err("it is empty although it was used before".to_owned());
    }
    Ok(trees)
}

/// Marks a new database, first inside and then beside it.
fn mark(directory: &Path, trees: &Trees) -> Result<(), StoreError> {
    let fail = |source| StoreError::Open { directory: directory.to_owned(), source };
    if directory.join(FORMAT).exists() {
        return Ok(());
    }
    trees.apply(vec![Write::put(Name::Meta, FORMAT.as_bytes().to_vec(), encode(&VERSION))])?;
    trees.flush()?;
    File::open(directory.join("db").join("db")).and_then(|file| file.sync_all()).map_err(fail)?;
    let mut file = File::create(directory.join(FORMAT)).map_err(fail)?;
    file.write_all(format!("{VERSION}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
}

fn drop_unfinished_snapshots(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return false };
    let mut found = false;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let aside = path.join(format!("aside.{name}"));
            found |= fs::rename(entry.path(), aside).is_ok();
        }
    }
    found
}

fn free_name(directory: &Path) -> PathBuf {
    let mut number = 1;
    loop {
        let path = directory.join(format!("db.damaged-{number}"));
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}

/// A database whose end is cut off opens as if that had never been written. Logs of runs it does not know tell: their ids
/// must not be given out again.
fn notice_lost_end(directory: &Path, trees: &Trees) -> Result<(), StoreError> {
    let counters = trees.get(Name::Meta, COUNTERS)?.map(|value| decode::<Counters>("counters", &value)).transpose()?;
    let last = counters.map_or(0, |counters| counters.run);
    let logs = directory.join("logs");
    // Not every run has logs, but of the next ones some have.
    if !(last + 1..=last + NEXT_RUNS).any(|run| logs.join(run.to_string()).exists()) {
        return Ok(());
    }
    skip_ids(trees, directory)?;
    trees.flush()?;
    log::error!(
        "the end of the database is gone: there are logs of runs after run {last}, which it does not know. What is left is used, \
         and ids go on far behind; look into the disk, and into {} for what is missing",
        logs.display()
    );
    Ok(())
}

/// Ids that were given out after the export must not be given out again: they are in logs, links and forges.
fn skip_ids(trees: &Trees, directory: &Path) -> Result<(), StoreError> {
    let counters = trees.get(Name::Meta, COUNTERS)?.map(|value| decode::<Counters>("counters", &value)).transpose()?;
    let mut counters = counters.unwrap_or_default();
    let logged = fs::read_dir(directory.join("logs")).into_iter().flatten().flatten();
    let last = logged.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).max().unwrap_or(0);
    counters.run = counters.run.max(last) + RUN_GAP;
    counters.job += JOB_GAP;
    trees.apply(vec![Write::put(Name::Meta, COUNTERS.to_vec(), encode(&counters))])
}
