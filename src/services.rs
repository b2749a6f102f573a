//! What actions expect on the wire: artifacts, caches and identity tokens, in the protocols of GitHub's own toolkit.
//!
//! Owns blobs and their records below one directory, the keys that sign tokens and addresses, and the HTTP routes. A job
//! gets [`Services::variables`]; everything else is proved by the token and the signed addresses in them, so that
//! a restart of the daemon changes nothing for a job. Knows nothing of runs, hosts or how a job reaches these routes.

mod access;
mod artifacts;
mod asked;
mod blobs;
mod caches;
mod contents;
mod identity;
mod lfs;
mod listing;
mod opened;
mod paging;
mod records;
mod repositories;
#[cfg(test)]
mod tests;
mod token;
mod transfer;
mod twirp;
mod zip;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, patch, post, put};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::clock::Clock;

pub use access::{Access, JobClient, Running, shown};
pub use identity::claims as identity_claims;
pub use records::{Artifact, Cache};
pub use repositories::{Authorize, BaseOf, Find, Repositories, Served, WhoOf};

use blobs::Blobs;
use records::Records;
use token::Keys;

/// The name by which jobs call this server: stock actions refuse every host but GitHub's own and these (P6), and clients of
/// git find it on loopback by themselves.
pub const ALIAS: &str = "towline.localhost";

/// What the services are given.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything lies below it.
    pub directory: PathBuf,
    /// The public address of the server, without a slash at the end: who issues identity tokens.
    pub issuer: String,
    /// How long an artifact is kept that does not say so itself, and at most.
    pub artifact_retention: Duration,
    /// Bytes of all blobs together, above which uploads are refused.
    pub bytes: u64,
    /// Bytes of one repository's caches, above which the least recently used go (P4).
    pub cache_bytes: u64,
    /// A cache that nobody read for so long goes (P4).
    pub cache_idle: Duration,
}

/// Why the services do not work.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{} is not a record of the services: {reason}", path.display())]
    Record { path: PathBuf, reason: String },
    #[error("cannot make or read the key {}: {reason}", path.display())]
    Key { path: PathBuf, reason: String },
    #[error("the services have no room left: {used} of {limit} bytes are used")]
    Full { used: u64, limit: u64 },
    #[error("there is no such upload")]
    NoUpload,
    #[error("the upload was broken off: {reason}")]
    Broken { reason: String },
    #[error("block {id} was not uploaded")]
    NoBlock { id: String },
}

/// A job, as the services know it: all of it goes into the job's token.
#[derive(Clone, Debug)]
pub struct Job {
    pub run: u64,
    pub job: u64,
    /// `OWNER/NAME`.
    pub repository: String,
    pub scopes: Scopes,
    /// What its token may do: scope → `read` or `write` (S4).
    pub permissions: BTreeMap<String, String>,
    /// Where the job reaches these routes: scheme, host and port, without a slash at the end.
    pub base: String,
    /// Claims of identity tokens, if the job's permissions say `id-token: write`.
    pub identity: Option<Map<String, Json>>,
    /// When the job is over at the latest: its tokens end then.
    pub until: Timestamp,
}

/// Which caches a job sees (P4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// The job's own ref: what it saves goes there. A job that may not save has none.
    pub write: Option<String>,
    /// Refs whose caches it restores, the first first: its own, the base branch of a pull request, the default branch.
    pub read: Vec<String>,
}

impl Scopes {
    /// From the `github` context: its ref, the base of a pull request and the default branch.
    #[must_use]
    pub fn of(github: &Map<String, Json>) -> Self {
        let text = |value: &Json| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let key = |key: &str| github.get(key).and_then(text);
        let branch = |name: String| format!("refs/heads/{name}");
        let default = github.get("event").and_then(|event| text(&event["repository"]["default_branch"])).map(branch);
        let own = key("ref");
        let mut read: Vec<String> = Vec::new();
        for scope in [own.clone(), key("base_ref").map(branch), default].into_iter().flatten() {
            if !read.contains(&scope) {
                read.push(scope);
            }
        }
        Self { write: own, read }
    }
}

/// The running services. Cloning gives another handle.
#[derive(Clone)]
pub struct Services {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    clock: Clock,
    keys: Keys,
    blobs: Blobs,
    records: Records,
    /// Jobs that run, whose tokens are good.
    live: Mutex<access::Live>,
}

impl Services {
    /// Opens the directory, making it and the keys when they are not there.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub async fn open(settings: Settings, clock: Clock) -> Result<Self, ServicesError> {
        let work = move || {
            let directory = &settings.directory;
            make_directory(directory)?;
            let keys = Keys::open(&directory.join("keys"))?;
            let records = Records::open(directory)?;
            let blobs = Blobs::open(directory, settings.bytes)?;
            Ok(Self { inner: Arc::new(Inner { settings, clock, keys, blobs, records, live: Mutex::default() }) })
        };
        tokio::task::spawn_blocking(work).await.expect("opening does not panic")
    }

    /// The routes, to be mounted at the top of an address: clients use only the origin of what they are told. They
    /// check tokens and signatures themselves.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/twirp/{service}/{method}", post(twirp::call))
            .route("/_apis/artifactcache/cache", get(caches::find_v1))
            .route("/_apis/artifactcache/caches", post(caches::reserve_v1))
            .route("/_apis/artifactcache/caches/{id}", patch(caches::write_v1).post(caches::commit_v1))
            .route("/_services/upload/{id}", put(transfer::upload))
            .route("/_services/artifact/{id}", get(transfer::artifact))
            .route("/_services/archive/{id}", get(transfer::archive))
            .route("/_services/cache/{id}", get(transfer::cache))
            .route("/_services/identity", get(identity::issue))
            .route("/.well-known/openid-configuration", get(identity::discovery))
            .route("/.well-known/jwks", get(identity::key_set))
            .with_state(self.clone())
    }

    /// Git's protocol and GitHub's API for the repositories of this machine, their artifacts and caches. To be mounted beside
    /// [`Services::router`].
    pub fn repositories(&self, repositories: Repositories) -> Router {
        repositories::routes(self, repositories)
    }

    /// Files and directories in GitHub's API, to be asked before a server's own answer.
    pub fn files(&self, repositories: Repositories) -> Router {
        repositories::files(self, repositories)
    }

    /// What else of GitHub's API actions ask for, where there is no server that has all of it.
    pub fn descriptions(&self, repositories: Repositories) -> Router {
        repositories::descriptions(self, repositories)
    }

    /// The variables with which a job's actions find the services (V5).
    #[must_use]
    pub fn variables(&self, job: &Job) -> JobVariables {
        let base = &job.base;
        let token = self.inner.keys.runtime_token(job, self.now());
        let mut actions = IndexMap::new();
        let mut set = |name: &str, value: String| drop(actions.insert(name.to_owned(), value));
        set("ACTIONS_RUNTIME_TOKEN", token);
        set("ACTIONS_RUNTIME_URL", format!("{base}/"));
        set("ACTIONS_RESULTS_URL", format!("{base}/"));
        set("ACTIONS_CACHE_URL", format!("{base}/"));
        set("ACTIONS_CACHE_SERVICE_V2", "True".to_owned());
        let mut all = IndexMap::new();
        if let Some(token) = self.inner.keys.identity_request_token(job, self.now()) {
            // Clients append `&audience=…`, so there must be a question mark already.
            let url = format!("{base}/_services/identity?api-version=2.0");
            all.insert("ACTIONS_ID_TOKEN_REQUEST_URL".to_owned(), url);
            all.insert("ACTIONS_ID_TOKEN_REQUEST_TOKEN".to_owned(), token);
        }
        JobVariables { base: base.clone(), token: self.job_token(job), local: false, actions, all }
    }

    /// The artifacts of a run, in the order they were made.
    #[must_use]
    pub fn artifacts(&self, run: u64) -> Vec<Artifact> {
        self.inner.records.artifacts_of(run, self.now())
    }

    /// The artifacts of a repository, in the order they were made.
    #[must_use]
    pub fn artifacts_of_repository(&self, repository: &str) -> Vec<Artifact> {
        self.inner.records.artifacts_of_repository(repository, self.now())
    }

    /// One artifact by its id.
    #[must_use]
    pub fn artifact(&self, id: u64) -> Option<Artifact> {
        self.inner.records.artifact(id, self.now())
    }

    /// The caches of a repository.
    #[must_use]
    pub fn caches(&self, repository: &str) -> Vec<Cache> {
        self.inner.records.caches_of(repository)
    }

    /// Where an artifact's or cache's bytes lie on this disk.
    #[must_use]
    pub fn blob(&self, sha256: &str) -> PathBuf {
        self.inner.blobs.path(sha256)
    }

    /// Deletes an artifact; `false` when there is none.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn delete_artifact(&self, id: u64) -> Result<bool, ServicesError> {
        let removed = self.inner.records.remove_artifact(id)?;
        self.inner.release(removed.iter().map(|artifact| artifact.sha256.as_str()))?;
        Ok(removed.is_some())
    }

    /// Deletes a cache; `false` when there is none.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn delete_cache(&self, id: u64) -> Result<bool, ServicesError> {
        let removed = self.inner.records.remove_cache(id)?;
        self.inner.release(removed.iter().map(|cache| cache.sha256.as_str()))?;
        Ok(removed.is_some())
    }

    /// Removes what is over its time: artifacts, caches nobody reads, uploads that were given up. To be called now and then.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sweep(&self) -> Result<(), ServicesError> {
        let now = self.now();
        let idle = self.inner.settings.cache_idle;
        let gone = self.inner.records.remove_expired(now, idle)?;
        let given_up = self.inner.blobs.remove_abandoned(now);
        self.inner.release(gone.iter().chain(&given_up).map(String::as_str))
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }
}

impl Inner {
    /// Makes room for so many bytes: before an upload is refused caches go, of all repositories, those first that were not read for
    /// the longest time. Where that does not help none goes.
    fn make_room(&self, bytes: u64) -> Result<(), ServicesError> {
        let lacking = self.blobs.lacking(bytes);
        if lacking == 0 || lacking > self.records.cached_bytes() {
            return Ok(());
        }
        while self.blobs.lacking(bytes) > 0 {
            let Some(cache) = self.records.least_used_cache() else { return Ok(()) };
            log::info!(repository = cache.repository, key = cache.key; "a cache made room for an upload");
            self.records.remove_cache(cache.id)?;
            self.release(std::iter::once(cache.sha256.as_str()))?;
        }
        Ok(())
    }

    /// Removes those of the blobs that no record and no upload names any more.
    fn release<'a>(&self, blobs: impl Iterator<Item = &'a str>) -> Result<(), ServicesError> {
        for sha256 in blobs {
            let is_uploaded = |upload: &blobs::Upload| upload.done.as_ref().is_some_and(|done| done.sha256 == sha256);
            if !self.records.names(sha256) && self.blobs.upload(is_uploaded).is_none() {
                self.blobs.remove(sha256)?;
            }
        }
        Ok(())
    }
}

/// What a job's steps see of the services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVariables {
    /// Where the job reaches the services: scheme, host and port. Empty: nowhere.
    #[serde(default)]
    pub base: String,
    /// The job's token, for the repositories and the API here.
    #[serde(default)]
    pub token: String,
    /// The repository and the API of this job are here, not at a forge.
    #[serde(default)]
    pub local: bool,
    /// For JavaScript and docker actions only.
    pub actions: IndexMap<String, String>,
    /// For every step.
    pub all: IndexMap<String, String>,
}

impl JobVariables {
    /// What the process of a step is given.
    #[must_use]
    pub fn of_step(&self, is_action: bool) -> IndexMap<String, String> {
        let mut variables = self.all.clone();
        if is_action {
            variables.extend(self.actions.clone());
        }
        variables
    }

    /// The tokens among them, which no log may say.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        let all = self.actions.iter().chain(&self.all);
        let own = Some(self.token.as_str()).filter(|token| !token.is_empty());
        all.filter(|(name, _)| name.ends_with("_TOKEN")).map(|(_, token)| token.as_str()).chain(own)
    }
}

fn make_directory(path: &Path) -> Result<(), ServicesError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ServicesError::File { path: path.to_owned(), source })
}

/// Writes a small file so that it is there wholly or not at all.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ServicesError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| ServicesError::File { path: path.to_owned(), source };
    let unfinished = path.with_extension("tmp");
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let mut file = open.map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)
}

fn remove_file(path: &Path) -> Result<(), ServicesError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ServicesError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Random letters and digits that nobody guesses.
fn random_name() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    hex(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
