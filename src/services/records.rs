//! What artifacts and caches there are: a small file each, all of them in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::blobs::Stored;
use super::{Scopes, ServicesError, make_directory, remove_file, write_file};

/// Files that a job left for others (P1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub id: u64,
    pub run: u64,
    pub job: u64,
    pub repository: String,
    /// Unique in the run.
    pub name: String,
    /// `application/zip`, or what a single file is that was not packed.
    pub mime: String,
    pub size: u64,
    /// In hexadecimal digits; names the blob.
    pub sha256: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Files that a job keeps for later runs (P3, P4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    pub id: u64,
    pub repository: String,
    /// The ref it belongs to.
    pub scope: String,
    pub key: String,
    /// What of the paths and the compression must be equal.
    pub version: String,
    pub size: u64,
    pub sha256: String,
    pub created_at: Timestamp,
    pub used_at: Timestamp,
}

pub(super) struct Records {
    artifacts_directory: PathBuf,
    caches_directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    artifacts: BTreeMap<u64, Artifact>,
    caches: BTreeMap<u64, Cache>,
    last_id: u64,
}

impl Records {
    pub(super) fn open(directory: &Path) -> Result<Self, ServicesError> {
        let (artifacts_directory, caches_directory) = (directory.join("artifacts"), directory.join("caches"));
        let artifacts: Vec<Artifact> = read_all(&artifacts_directory)?;
        let caches: Vec<Cache> = read_all(&caches_directory)?;
        let mut state = State {
            artifacts: artifacts.into_iter().map(|artifact| (artifact.id, artifact)).collect(),
            caches: caches.into_iter().map(|cache| (cache.id, cache)).collect(),
            last_id: 0,
        };
        state.last_id = state.artifacts.keys().chain(state.caches.keys()).copied().max().unwrap_or(0);
        Ok(Self { artifacts_directory, caches_directory, state: Mutex::new(state) })
    }

    /// A number that nothing else has.
    pub(super) fn next_id(&self) -> u64 {
        let mut state = self.lock();
        state.last_id += 1;
        state.last_id
    }

    /// Adds an artifact; `false` when the run has one of this name.
    pub(super) fn add_artifact(&self, artifact: Artifact) -> Result<bool, ServicesError> {
        let mut state = self.lock();
        let now = artifact.created_at;
        if state
            .artifacts
            .values()
            .any(|old| old.run == artifact.run && old.name == artifact.name && old.expires_at > now)
        {
            return Ok(false);
        }
        write(&self.artifacts_directory, artifact.id, &artifact)?;
        state.artifacts.insert(artifact.id, artifact);
        Ok(true)
    }

    pub(super) fn artifacts_of(&self, run: u64, now: Timestamp) -> Vec<Artifact> {
        let state = self.lock();
        state.artifacts.values().filter(|artifact| artifact.run == run && artifact.expires_at > now).cloned().collect()
    }

    pub(super) fn artifacts_of_repository(&self, repository: &str, now: Timestamp) -> Vec<Artifact> {
        let state = self.lock();
        let own = |artifact: &&Artifact| artifact.repository.eq_ignore_ascii_case(repository);
        state.artifacts.values().filter(own).filter(|artifact| artifact.expires_at > now).cloned().collect()
    }

    pub(super) fn artifact(&self, id: u64, now: Timestamp) -> Option<Artifact> {
        self.lock().artifacts.get(&id).filter(|artifact| artifact.expires_at > now).cloned()
    }

    pub(super) fn remove_artifact(&self, id: u64) -> Result<Option<Artifact>, ServicesError> {
        let mut state = self.lock();
        remove_file(&record_path(&self.artifacts_directory, id))?;
        Ok(state.artifacts.remove(&id))
    }

    /// Adds a cache; `false` when there is one with this key, version and scope. `room` bytes may be used by the
    /// repository; the blobs of caches that had to go are returned.
    pub(super) fn add_cache(&self, cache: Cache, room: u64) -> Result<(bool, Vec<String>), ServicesError> {
        let mut state = self.lock();
        if state.caches.values().any(|old| is_same(old, &cache)) {
            return Ok((false, Vec::new()));
        }
        let mut own: Vec<&Cache> = state.caches.values().filter(|old| old.repository == cache.repository).collect();
        own.sort_by_key(|old| (old.used_at, old.id));
        let mut used = cache.size + own.iter().map(|old| old.size).sum::<u64>();
        let mut gone = Vec::new();
        for old in own {
            if used <= room {
                break;
            }
            used -= old.size;
            gone.push((old.id, old.sha256.clone()));
        }
        for (id, _) in &gone {
            remove_file(&record_path(&self.caches_directory, *id))?;
            state.caches.remove(id);
        }
        write(&self.caches_directory, cache.id, &cache)?;
        state.caches.insert(cache.id, cache);
        Ok((true, gone.into_iter().map(|(_, sha256)| sha256).collect()))
    }

    /// Whether a key is taken in a scope.
    pub(super) fn has_cache(&self, repository: &str, scope: &str, key: &str, version: &str) -> bool {
        self.lock().caches.values().any(|cache| {
            cache.repository == repository && cache.scope == scope && cache.key == key && cache.version == version
        })
    }

    /// The cache a job restores (P4): in each scope the first key itself, then as a prefix, then the other keys as
    /// prefixes, the newest first. Its last use becomes now.
    pub(super) fn find_cache(
        &self,
        repository: &str,
        scopes: &Scopes,
        keys: &[String],
        version: &str,
        now: Timestamp,
    ) -> Result<Option<Cache>, ServicesError> {
        let mut state = self.lock();
        let find = || {
            for scope in &scopes.read {
                let fits = |cache: &&Cache| {
                    cache.repository == repository && cache.scope == *scope && cache.version == version
                };
                let newest = |fits_key: &dyn Fn(&Cache) -> bool| {
                    let found = state.caches.values().filter(fits).filter(|cache| fits_key(cache));
                    found.max_by_key(|cache| (cache.created_at, cache.id)).map(|cache| cache.id)
                };
                let exact = keys.first().and_then(|key| newest(&|cache| cache.key == *key));
                let prefix = || keys.iter().find_map(|key| newest(&|cache| cache.key.starts_with(key.as_str())));
                if let Some(id) = exact.or_else(prefix) {
                    return Some(id);
                }
            }
            None
        };
        let Some(id) = find() else { return Ok(None) };
        let Some(cache) = state.caches.get_mut(&id) else { return Ok(None) };
        cache.used_at = now;
        write(&self.caches_directory, id, cache)?;
        Ok(Some(cache.clone()))
    }

    pub(super) fn cache(&self, id: u64) -> Option<Cache> {
        self.lock().caches.get(&id).cloned()
    }

    /// What could be freed by giving up all caches.
    pub(super) fn cached_bytes(&self) -> u64 {
        self.lock().caches.values().map(|cache| cache.size).sum()
    }

    /// The cache of any repository that was not read for the longest time.
    pub(super) fn least_used_cache(&self) -> Option<Cache> {
        self.lock().caches.values().min_by_key(|cache| (cache.used_at, cache.id)).cloned()
    }

    pub(super) fn caches_of(&self, repository: &str) -> Vec<Cache> {
        self.lock().caches.values().filter(|cache| cache.repository == repository).cloned().collect()
    }

    pub(super) fn remove_cache(&self, id: u64) -> Result<Option<Cache>, ServicesError> {
        let mut state = self.lock();
        remove_file(&record_path(&self.caches_directory, id))?;
        Ok(state.caches.remove(&id))
    }

    /// Removes expired artifacts and caches that nobody read for `idle`; returns their blobs.
    pub(super) fn remove_expired(&self, now: Timestamp, idle: Duration) -> Result<Vec<String>, ServicesError> {
        let mut state = self.lock();
        let idle = i64::try_from(idle.as_secs()).unwrap_or(i64::MAX);
        let artifacts: Vec<u64> = state
            .artifacts
            .values()
            .filter(|artifact| artifact.expires_at <= now)
            .map(|artifact| artifact.id)
            .collect();
        let is_idle = |cache: &&Cache| now.as_second() - cache.used_at.as_second() > idle;
        let caches: Vec<u64> = state.caches.values().filter(is_idle).map(|cache| cache.id).collect();
        let mut blobs = Vec::new();
        for id in artifacts {
            remove_file(&record_path(&self.artifacts_directory, id))?;
            blobs.extend(state.artifacts.remove(&id).map(|artifact| artifact.sha256));
        }
        for id in caches {
            remove_file(&record_path(&self.caches_directory, id))?;
            blobs.extend(state.caches.remove(&id).map(|cache| cache.sha256));
        }
        Ok(blobs)
    }

    /// Whether a record names this blob.
    pub(super) fn names(&self, sha256: &str) -> bool {
        let state = self.lock();
        state.artifacts.values().any(|artifact| artifact.sha256 == sha256)
            || state.caches.values().any(|cache| cache.sha256 == sha256)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    pub(super) fn new(id: u64, place: (String, String, String, String), stored: Stored, now: Timestamp) -> Self {
        let (repository, scope, key, version) = place;
        let Stored { sha256, size } = stored;
        Self { id, repository, scope, key, version, size, sha256, created_at: now, used_at: now }
    }
}

fn is_same(one: &Cache, other: &Cache) -> bool {
    one.repository == other.repository
        && one.scope == other.scope
        && one.key == other.key
        && one.version == other.version
}

fn record_path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id}.json"))
}

fn write(directory: &Path, id: u64, record: &impl Serialize) -> Result<(), ServicesError> {
    write_file(&record_path(directory, id), &serde_json::to_vec(record).expect("a record is JSON"))
}

fn read_all<T: DeserializeOwned>(directory: &Path) -> Result<Vec<T>, ServicesError> {
    make_directory(directory)?;
    let file = |source| ServicesError::File { path: directory.to_owned(), source };
    let mut records = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(file)? {
        let path = entry.map_err(file)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(file)?;
        let record = serde_json::from_slice(&bytes);
        records.push(record.map_err(|error| ServicesError::Record { path, reason: error.to_string() })?);
    }
    Ok(records)
}
