//! What is done from time to time: a daily backup of the state, and removing what has outlived its time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Retention;
use crate::drive::Handle;
use crate::engine::Input;
use crate::git;
use crate::store::{Store, StoreError};
use crate::triggers::Inventory;

/// How long after the start the first look is.
const FIRST: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(3600);
/// Between two backups; a little less than a day, so that the time of day stays.
const BACKUP: SignedDuration = SignedDuration::from_mins(24 * 60 - 30);
/// Runs deleted in one look.
const DELETED: usize = 5000;

/// Looks every hour.
pub(super) async fn run(store: Store, engine: Handle, inventory: Inventory, clock: Clock, stop: CancellationToken) {
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = PAUSE;
        let retention = inventory.config().retention;
        if let Err(error) = look(&store, &engine, clock.now(), retention).await {
            log::error!("housekeeping: {error}");
        }
        for mirror in mirrors(&inventory.paths().mirrors()) {
            if let Err(error) = git::tidy_mirror(&mirror).await {
                log::warn!("{} is not packed: {error}", mirror.display());
            }
        }
    }
}

async fn look(store: &Store, engine: &Handle, now: Timestamp, retention: Retention) -> Result<(), StoreError> {
    let ago = |kept: Duration| {
        SignedDuration::try_from(kept).ok().and_then(|kept| now.checked_sub(kept).ok()).unwrap_or(Timestamp::MIN)
    };
    if store.last_backup().is_none_or(|last| now.duration_since(last) >= BACKUP || last > now) {
        match beside(store, move |store| store.back_up(now)).await {
            Ok(path) => log::info!("the state was backed up to {}", path.display()),
            // What follows frees space.
            Err(error) => log::error!("the state cannot be backed up: {error}"),
        }
    }
    let before = ago(retention.runs);
    for run in beside(store, move |store| store.ended_before(before, DELETED)).await? {
        if engine.send(Input::Delete { run }).await.is_err() {
            return Ok(());
        }
    }
    let before = ago(retention.logs);
    let trimmed = beside(store, move |store| store.trim_logs(before, retention.log_bytes)).await?;
    if trimmed > 0 {
        log::info!("the logs of {trimmed} runs were removed");
    }
    store.prune_deliveries(ago(retention.deliveries)).await?;
    Ok(())
}

/// The mirrors below a directory: `OWNER/NAME.git`.
fn mirrors(directory: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let named = |path: &PathBuf| path.extension().is_some_and(|name| name == "git") && path.join("HEAD").exists();
    entries(directory).iter().flat_map(|owner| entries(owner)).filter(named).collect()
}

/// Reads or writes much beside the workers.
async fn beside<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| StoreError::Closed)?
}
