//! Where packs wait on this machine until they are sent.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

use crate::transport::JobSpec;

const PREFIX: &str = "towline-checkout-";
/// Somebody sweeps in the moment between a directory and its lock: hardly once.
const TRIES: u32 = 20;

/// A directory on this machine that goes when it is dropped. One whose process was killed is left to [`sweep`].
pub(super) struct Scratch {
    pub(super) path: PathBuf,
    count: AtomicU64,
    /// Held as long as somebody needs the directory; the system lets go of it whatever happens to this process.
    _lock: Option<File>,
}

impl Scratch {
    /// Makes one that nobody else may look into.
    ///
    /// # Errors
    /// The disk is full, or there is no place for temporary files.
    pub(super) fn new(job: &str) -> std::io::Result<Self> {
        let places = places();
        let mut made = Self::within(&places[0], job);
        for place in &places[1..] {
            made = made.or_else(|_| Self::within(place, job));
        }
        made
    }

    fn within(place: &Path, job: &str) -> std::io::Result<Self> {
        let mut tries = 1;
        loop {
            let path = place.join(format!("{PREFIX}{job}-{}", JobSpec::new_nonce()));
            std::fs::DirBuilder::new().mode(0o700).create(&path)?;
            match held(&path) {
                Ok(lock) => return Ok(Self { path, count: AtomicU64::new(0), _lock: lock }),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tries += 1,
            }
        }
    }

    /// The name of a directory that is not there yet.
    pub(super) fn fresh(&self) -> std::io::Result<PathBuf> {
        Ok(self.path.join(format!("part-{}", self.count.fetch_add(1, Ordering::Relaxed))))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// `/tmp` often is memory, and a pack may be larger than that: it is the last resort.
fn places() -> Vec<PathBuf> {
    match std::env::var_os("TMPDIR") {
        None => vec![PathBuf::from("/var/tmp"), std::env::temp_dir()],
        Some(place) => vec![PathBuf::from(place)],
    }
}

/// Takes a directory. `None`: this file system has no locks, and nothing here is ever swept.
///
/// # Errors
/// Somebody else has it, or it is gone.
fn held(path: &Path) -> std::io::Result<Option<File>> {
    let directory = File::open(path)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        // Who swept it had the lock before, and it is another directory's now, or nobody's.
        Ok(()) if std::fs::symlink_metadata(path)?.ino() == directory.metadata()?.ino() => Ok(Some(directory)),
        Ok(()) => Err(std::io::ErrorKind::NotFound.into()),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Removes what processes that were killed left, of this user only; what another process still needs stays.
pub(crate) fn sweep() {
    let gone: usize = places().iter().map(|place| sweep_within(place)).sum();
    if gone > 0 {
        log::info!("{gone} directories of checkouts that were cut off are removed");
    }
}

fn sweep_within(place: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(place) else { return 0 };
    let user = rustix::process::geteuid().as_raw();
    let mut gone = 0;
    for entry in entries.flatten() {
        let is_named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Of the entry itself: a link is none of ours, wherever it leads.
        let is_own = entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if !is_named || !is_own {
            continue;
        }
        let path = entry.path();
        if let Ok(Some(_lock)) = held(&path) {
            match std::fs::remove_dir_all(&path) {
                Ok(()) => gone += 1,
                Err(error) => log::warn!("{} is left: {error}", path.display()),
            }
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_swept_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let living = Scratch::within(place.path(), "1").unwrap();
        std::fs::create_dir(living.fresh().unwrap()).unwrap();
        let left = place.path().join(format!("{PREFIX}2-abc"));
        std::fs::create_dir_all(left.join("part-0")).unwrap();
        std::fs::write(left.join("part-0/x.pack"), "x").unwrap();
        let foreign = place.path().join("other-checkout-3");
        std::fs::create_dir(&foreign).unwrap();
        let link = place.path().join(format!("{PREFIX}4-abc"));
        std::os::unix::fs::symlink(&foreign, &link).unwrap();
        assert_eq!(sweep_within(place.path()), 1);
        let there = [&living.path, &left, &foreign, &link].map(|path| std::fs::symlink_metadata(path).is_ok());
        assert_eq!(there, [true, false, true, true]);
        let path = living.path.clone();
        drop(living);
        assert!(!path.exists());
        assert_eq!(sweep_within(place.path()), 0);
    }

    #[test]
    fn sweeping_while_others_are_made_takes_none_of_them() {
        let place = tempfile::tempdir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    sweep_within(place.path());
                }
            });
            for _ in 0..500 {
                let scratch = Scratch::within(place.path(), "1").unwrap();
                std::fs::write(scratch.path.join("x"), "x").unwrap();
                std::thread::yield_now();
                assert!(scratch.path.join("x").exists());
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
