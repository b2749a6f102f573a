//! The sources there are: those of the configuration, and the repositories that `towline repo add` made or adopted.
//!
//! An added repository is an entry of the state directory's `repositories/OWNER/NAME.git`: a bare repository, or a link
//! to an adopted one. Nothing else records it, so it can be added while the daemon is down.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::config::{self, Config, Paths, Source, SourceKind, TriggerKind};
use crate::forge::{self, Clients};
use crate::git::{self, Credentials, Repository};
use crate::id::RepositoryName;

/// The sources of one daemon. Cheap to clone; a reload is seen by all clones.
#[derive(Clone, Debug)]
pub struct Inventory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    config: RwLock<Arc<Config>>,
    /// The ways to forges.
    clients: Clients,
}

/// Why a source cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error(transparent)]
    Secret(#[from] config::Error),
    #[error(transparent)]
    Forge(#[from] forge::Error),
    #[error("{name} has neither `path` nor `url`")]
    Nowhere { name: RepositoryName },
}

impl Error {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Git(error) => error.is_transient(),
            Self::Forge(error) => error.is_transient(),
            Self::Secret(_) | Self::Nowhere { .. } => false,
        }
    }
}

impl Inventory {
    #[must_use]
    pub fn new(config: Config, paths: Paths) -> Self {
        Self { inner: Arc::new(Inner { paths, config: RwLock::new(Arc::new(config)), clients: Clients::default() }) }
    }

    /// Takes a new configuration.
    pub fn reload(&self, config: Config) {
        *self.inner.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// The configuration now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.inner.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where state lives.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.inner.paths
    }

    /// All sources, configured ones first. Names have an owner.
    #[must_use]
    pub fn all(&self) -> Vec<Source> {
        let mut sources = self.config().sources.clone();
        for source in &mut sources {
            source.name = full_name(&source.name);
        }
        for (name, path) in added(&self.inner.paths.repositories()) {
            if !sources.iter().any(|source| same(&source.name, &name)) {
                sources.push(local(name, path));
            }
        }
        sources
    }

    /// The source of a name; case does not count, and the owner `local` may be left out.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Source> {
        let name = full_name(&RepositoryName(name.to_owned()));
        self.all().into_iter().find(|source| same(&source.name, &name))
    }

    /// The source whose repository lies at a path.
    #[must_use]
    pub fn at_path(&self, path: &Path) -> Option<Source> {
        let wanted = path.canonicalize().ok()?;
        self.all().into_iter().find(|source| {
            let path = source.path.as_ref().and_then(|path| path.canonicalize().ok());
            path.is_some_and(|path| path == wanted || path.join(".git") == wanted)
        })
    }

    /// The address of this daemon, without a slash at the end.
    #[must_use]
    pub fn server_url(&self) -> String {
        let server = &self.config().server;
        server.url.clone().unwrap_or_else(|| {
            let scheme = if server.tls == config::Tls::Off { "http" } else { "https" };
            server
                .listen
                .first()
                .map_or_else(|| "http://localhost".to_owned(), |address| format!("{scheme}://{address}"))
        })
    }

    /// The repository of a source as it is now: the one on this machine, a mirror brought up to date, or a snapshot of a
    /// directory. `refspecs` are wanted besides branches and tags; those the server lacks are done without.
    ///
    /// # Errors
    /// It cannot be reached or read.
    pub async fn open(&self, source: &Source, refspecs: &[String]) -> Result<Repository, Error> {
        let mirror = self.inner.paths.mirrors().join(format!("{}.git", source.name));
        if let Some(path) = &source.path {
            if source.kind == SourceKind::Directory {
                return Ok(git::snapshot_directory(path, &mirror).await?.repository);
            }
            let bare = path.join("objects").is_dir();
            return Ok(if bare { Repository::at(path) } else { Repository::discover(path).await? });
        }
        let url = clone_url(source).ok_or_else(|| Error::Nowhere { name: source.name.clone() })?;
        let credentials = self.credentials(source).await?;
        match git::fetch_mirror(&mirror, &url, &credentials, refspecs).await {
            Err(git::Error::Failed { message, .. })
                if !refspecs.is_empty() && message.contains("couldn't find remote ref") =>
            {
                Ok(git::fetch_mirror(&mirror, &url, &credentials, &[]).await?)
            }
            fetched => Ok(fetched?),
        }
    }

    /// The ways to the forges of sources.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    /// Who we are to a source's server: the token of its table, else what its App gives us to read with.
    ///
    /// # Errors
    /// A secret cannot be read, or GitHub not be reached.
    pub async fn credentials(&self, source: &Source) -> Result<Credentials, Error> {
        let (user, password) = match (&source.token, &source.app, source.kind) {
            (Some(token), _, SourceKind::GitLab) => ("oauth2", token.read()?),
            (Some(token), _, _) => ("x-access-token", token.read()?),
            (None, Some(_), SourceKind::GitHub) => {
                ("x-access-token", self.inner.clients.of(source)?.reading_token().await?)
            }
            (None, _, _) => return Ok(Credentials::None),
        };
        Ok(Credentials::Basic { user: user.to_owned(), password })
    }

    /// The repository of a source without asking its server when there is a mirror already.
    ///
    /// # Errors
    /// It cannot be read, or reached for the first time.
    pub async fn at_hand(&self, source: &Source) -> Result<Repository, Error> {
        match self.fetched(source) {
            Some(mirror) => Ok(mirror),
            None => self.open(source, &[]).await,
        }
    }

    /// The mirror of a source that lies elsewhere, as it was fetched last.
    #[must_use]
    pub fn fetched(&self, source: &Source) -> Option<Repository> {
        let mirror = self.inner.paths.mirrors().join(format!("{}.git", source.name));
        (source.path.is_none() && mirror.join("HEAD").exists()).then(|| Repository::at(mirror))
    }
}

/// Where a source is cloned from.
#[must_use]
pub fn clone_url(source: &Source) -> Option<String> {
    match (&source.path, &source.url, source.kind) {
        (Some(path), _, _) => Some(path.display().to_string()),
        (None, Some(url), _) => Some(url.clone()),
        (None, None, SourceKind::GitHub) => Some(format!("https://github.com/{}.git", source.name)),
        (None, None, SourceKind::GitLab) => Some(format!("https://gitlab.com/{}.git", source.name)),
        _ => None,
    }
}

/// `NAME` alone belongs to `local`.
#[must_use]
pub fn full_name(name: &RepositoryName) -> RepositoryName {
    RepositoryName(format!("{}/{}", name.owner(), name.name()))
}

fn same(one: &RepositoryName, other: &RepositoryName) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

/// A repository of this machine with everything as it is by default.
#[must_use]
pub fn local(name: RepositoryName, path: PathBuf) -> Source {
    Source {
        name,
        kind: SourceKind::Git,
        path: Some(path),
        url: None,
        triggers: vec![TriggerKind::Push, TriggerKind::Schedule],
        webhook_secrets: Vec::new(),
        events: Vec::new(),
        token: None,
        app: None,
        workflows: vec![".towline/workflows".to_owned(), ".github/workflows".to_owned()],
        default_branch: None,
        poll_interval: Duration::from_secs(60),
        relay: None,
        follow: false,
        trusted: Vec::new(),
        priority: 0,
        hold_on_failure: Duration::ZERO,
        report: true,
    }
}

/// `OWNER/NAME.git` below a directory.
fn added(directory: &Path) -> Vec<(RepositoryName, PathBuf)> {
    let names = |path: &Path| -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok().and_then(|entry| entry.file_name().into_string().ok())).collect();
        names.sort();
        names
    };
    let mut found = Vec::new();
    for owner in names(directory) {
        for entry in names(&directory.join(&owner)) {
            let Some(name) = entry.strip_suffix(".git") else { continue };
            let name = RepositoryName(format!("{owner}/{name}"));
            let path = directory.join(&owner).join(&entry);
            if config::is_repository_name(name.as_str()) && path.exists() {
                found.push((name, path));
            }
        }
    }
    found
}
