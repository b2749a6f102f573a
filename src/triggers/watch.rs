//! Watched directories: workflows of operations without a repository, and files whose change starts something.
//!
//! Any sign of change only says "look again": after 300 ms of quiet the directory is read anew and compared as a
//! snapshot. So a burst of writes, an editor's way of saving, or an overflow of the system's queue all end the same.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::schedules::Schedules;
use super::service::{Error, Triggers};
use crate::config::{Source, SourceKind, TriggerKind};
use crate::diagnostic::Diagnostic;
use crate::event::dispatch::Place;
use crate::event::{ChangedFiles, Event};
use crate::git::Changes;
use crate::id::RepositoryName;
use crate::workflow;

const QUIET: Duration = Duration::from_millis(300);
/// Looked at without any sign, too: network file systems give none.
const ANYWAY: Duration = Duration::from_secs(60);

/// What a look at a directory found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The snapshot's commit.
    pub commit: String,
    /// Since the look before; empty at the first.
    pub changed: Vec<String>,
    /// What is wrong with its workflow files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Watches all directories until told to stop.
pub async fn run(triggers: Triggers, schedules: Schedules, stop: CancellationToken) {
    // Room for one sign: more of them say nothing new. Kept here too, or nobody would be left to wait for without watchers.
    let (signs, mut seen) = mpsc::channel::<()>(1);
    let (inside, outside) = (signs.clone(), signs.clone());
    let mut watcher = watcher_of(move |_| {
        // Full: somebody will look already.
        let _ = inside.try_send(());
    });
    // One that is replaced by another, or a link that leads elsewhere from now on, is seen only from above.
    let places: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
    let known = Arc::clone(&places);
    let mut above = watcher_of(move |event| {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = |event: notify::Event| event.need_rescan() || event.paths.iter().any(|path| known.contains(path));
        if event.map_or(true, is_ours) {
            let _ = outside.try_send(());
        }
    });
    let mut parents: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    // With what each was when it was begun to be watched: one that was replaced is another one.
    let mut watched: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    let mut last: BTreeMap<RepositoryName, String> = BTreeMap::new();
    loop {
        let sources = directories(&triggers);
        let paths: Vec<PathBuf> = sources.iter().filter_map(|source| source.path.clone()).collect();
        let above_them: Vec<PathBuf> = paths.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
        *places.lock().unwrap_or_else(PoisonError::into_inner) = paths.iter().cloned().collect();
        // First those above: what is replaced from here on is noticed.
        follow(above.as_mut(), &mut parents, &above_them, RecursiveMode::NonRecursive);
        follow(watcher.as_mut(), &mut watched, &paths, RecursiveMode::Recursive);
        for source in &sources {
            match look(&triggers, source, last.get(&source.name).map(String::as_str)).await {
                Ok(found) => {
                    let before = last.insert(source.name.clone(), found.commit.clone());
                    if before.as_deref() != Some(found.commit.as_str()) {
                        for diagnostic in &found.diagnostics {
                            log::warn!("{}: {}", source.name, crate::diagnostic::text(diagnostic, None, false));
                        }
                        schedules.refresh_soon();
                    }
                }
                Err(error) => log::warn!("{} cannot be looked at: {error}", source.name),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = seen.recv() => {}
            () = tokio::time::sleep(ANYWAY) => continue,
        }
        // Until it is quiet; but not for ever, should something write without end.
        let mut patience = 20;
        while patience > 0 && tokio::time::timeout(QUIET, seen.recv()).await.is_ok() {
            patience -= 1;
        }
    }
}

fn watcher_of(tell: impl Fn(notify::Result<notify::Event>) + Send + 'static) -> Option<RecommendedWatcher> {
    match notify::recommended_watcher(tell) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            log::warn!("directories are only looked at once a minute: {error}");
            None
        }
    }
}

/// Watches these and nothing else. One that is another than it was is watched anew.
fn follow(
    watcher: Option<&mut RecommendedWatcher>,
    watched: &mut BTreeMap<PathBuf, (u64, u64)>,
    paths: &[PathBuf],
    mode: RecursiveMode,
) {
    let Some(watcher) = watcher else { return };
    watched.retain(|path, node| {
        let stays = paths.contains(path) && identity(path) == Some(*node);
        if !stays {
            drop(watcher.unwatch(path));
        }
        stays
    });
    for path in paths {
        let Some(node) = identity(path).filter(|_| !watched.contains_key(path)) else { continue };
        match watcher.watch(path, mode) {
            Ok(()) => drop(watched.insert(path.clone(), node)),
            Err(error) => log::warn!("{} is only looked at once a minute: {error}", path.display()),
        }
    }
}

/// What tells a directory from another at the same path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn directories(triggers: &Triggers) -> Vec<Source> {
    let watched =
        |source: &Source| source.kind == SourceKind::Directory && source.triggers.contains(&TriggerKind::Watch);
    triggers.inventory().all().into_iter().filter(watched).collect()
}

/// Looks at a directory; when it changed since the commit of the look before, runs that listen to `towline` start.
///
/// # Errors
/// The directory cannot be read, or the runs not started.
pub async fn look(triggers: &Triggers, source: &Source, before: Option<&str>) -> Result<Look, Error> {
    let repository = triggers.inventory().open(source, &[]).await?;
    let place = triggers.place(source, &repository, None, "watch").await?;
    if before == Some(place.sha.as_str()) {
        return Ok(Look { commit: place.sha, changed: Vec::new(), diagnostics: Vec::new() });
    }
    let mut objects = repository.objects()?;
    let files = objects.workflows(&place.sha, &triggers.reading(source).directories).await?;
    objects.close().await;
    let diagnostics = files.iter().flat_map(|file| workflow::parse(&file.path, &file.text).1).collect();
    let changed = match before {
        Some(before) => match repository.changes_between(Some(before), &place.sha).await? {
            Changes::Files(files) => files,
            Changes::TooMany => Vec::new(),
        },
        None => Vec::new(),
    };
    let commit = place.sha.clone();
    if let Some(before) = before {
        let id = format!("{before}..{commit}");
        triggers.occurred("watch", id, event(triggers.clock().now(), place, changed.clone())).await?;
    }
    Ok(Look { commit, changed, diagnostics })
}

/// The extension event: `on: towline: {paths: […]}`.
fn event(now: Timestamp, place: Place, changed: Vec<String>) -> Event {
    Event {
        name: "towline".to_owned(),
        action: None,
        payload: json!({
            "repository": {
                "full_name": place.repository,
                "name": place.repository.name(),
                "owner": { "login": place.repository.owner() },
                "default_branch": place.default_branch,
            },
            "sender": { "login": place.actor },
            "paths": changed,
        }),
        repository: place.repository,
        git_ref: place.git_ref,
        sha: place.sha,
        head_ref: None,
        base_ref: None,
        actor: place.actor,
        default_branch: place.default_branch,
        changed_files: ChangedFiles::Known(changed),
        head_message: None,
        received_at: now,
        delivery: None,
        workflow: None,
        server_url: place.server_url,
    }
}
