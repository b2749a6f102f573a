//! Where the sources of actions come from.
//!
//! An action is looked for in a directory of bare repositories first, then among the repositories of this machine, then at a git
//! address; what was fetched is kept as a bare mirror, so a commit is fetched once. Whatever `uses:` says ends as a commit, its manifest and a tar of its tree.
//! This room does not know how an action runs, nor where.

mod lock;
mod runtime;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use log::warn;

use crate::config;
use crate::git::{self, Credentials, Repository, is_object_id};
use crate::workflow::model::ActionReference;

pub use lock::{LockFile, Pin};
pub use runtime::{Platform, Runtime, RuntimeError, Runtimes};

/// What to look for in an action's directory, in GitHub's order (A5).
const MANIFESTS: [&str; 3] = ["action.yml", "action.yaml", "Dockerfile"];

/// Where actions may come from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of bare repositories `OWNER/NAME.git`.
    pub mirror: Option<PathBuf>,
    /// Address with `{owner}` and `{name}`, asked for what the directory does not have.
    pub url: Option<String>,
    pub credentials: Credentials,
    /// Where fetched repositories and archives are kept.
    pub cache: PathBuf,
    /// Owners or `OWNER/NAME` that may be used; empty: all.
    pub allow: Vec<String>,
    pub lock_file: Option<PathBuf>,
}

impl Settings {
    /// What the configuration says; fetched repositories are kept in `cache`.
    #[must_use]
    pub fn new(config: &config::Actions, cache: PathBuf, credentials: Credentials) -> Self {
        Self {
            mirror: config.mirror.clone(),
            url: config.url.clone(),
            credentials,
            cache,
            allow: config.allow.clone(),
            lock_file: config.lock_file.clone(),
        }
    }
}

/// Why an action cannot be had. The texts are what the job's log says; those for unknown repositories and versions are
/// GitHub's.
#[derive(Debug, thiserror::Error)]
pub enum ActionsError {
    #[error(
        "Unable to resolve action `{action}`, repository not found{}{}",
        searched.iter().map(|place| format!("\n  not in {place}")).collect::<String>(),
        if searched.is_empty() {
            "\n  no place to look is configured: set `mirror` or `url` in the `[actions]` section, or add the repository with `towline repo add`"
        } else {
            ""
        }
    )]
    NoRepository { action: String, searched: Vec<String> },
    #[error("Unable to resolve action `{action}`, unable to find version `{reference}`")]
    NoVersion { action: String, reference: String },
    #[error("Can't find 'action.yml', 'action.yaml' or 'Dockerfile' for action '{action}' in commit {commit}.")]
    NoManifest { action: String, commit: String },
    #[error("The action {action} is not allowed: only actions of {} may be used here", allow.join(", "))]
    NotAllowed { action: String, allow: Vec<String> },
    #[error(
        "The action {action} is pinned to {what} {expected} by {}, but its repository has {found}", lock_file.display()
    )]
    PinBroken { action: String, what: &'static str, expected: String, found: String, lock_file: PathBuf },
    #[error("`{action}` is not an action of a repository")]
    NotInRepository { action: String },
    #[error("cannot read {}: {reason}", path.display())]
    LockFile { path: PathBuf, reason: String },
    #[error("cannot keep the action {action} in {}", path.display())]
    Keep { action: String, path: PathBuf, source: std::io::Error },
    #[error("cannot read the action {action}: {source}")]
    Git { action: String, source: git::Error },
}

impl ActionsError {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Git { source, .. } if source.is_transient())
    }
}

/// An action whose code is known exactly.
#[derive(Clone, Debug)]
pub struct ResolvedAction {
    /// As `uses` spells it.
    pub shown: String,
    pub owner: String,
    pub name: String,
    /// Below the repository; empty for its top.
    pub path: String,
    /// The version asked for.
    pub reference: String,
    pub commit: String,
    /// The id of the commit's tree.
    pub tree: String,
    pub manifest: Manifest,
    repository: Repository,
}

/// The file that makes a directory an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// From the top of the repository.
    pub path: String,
    /// Its text; of a `Dockerfile` without a manifest too.
    pub text: String,
}

impl Manifest {
    /// Whether there is only a `Dockerfile`.
    #[must_use]
    pub fn is_dockerfile(&self) -> bool {
        self.path == "Dockerfile" || self.path.ends_with("/Dockerfile")
    }
}

impl ResolvedAction {
    /// The repository on this machine that has it.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// Finds actions.
#[derive(Clone, Debug)]
pub struct Sources {
    settings: Settings,
    lock: Option<LockFile>,
}

impl Sources {
    /// The repository `OWNER/NAME` in the directory of bare repositories.
    #[must_use]
    pub fn mirror_of(&self, name: &str) -> Option<PathBuf> {
        if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return None;
        }
        let mirror = self.settings.mirror.as_ref()?;
        let places = [mirror.join(format!("{name}.git")), mirror.join(name)];
        places.into_iter().find(|path| path.join("HEAD").is_file())
    }

    /// Reads the lock file, if one is configured and there.
    ///
    /// # Errors
    /// A lock file that cannot be read or understood: going on without it would run what was not pinned.
    pub fn new(settings: Settings) -> Result<Self, ActionsError> {
        let lock = settings.lock_file.as_deref().map(LockFile::read).transpose()?.flatten();
        Ok(Self { settings, lock })
    }

    /// Resolves an action of another repository to a commit (A6). A branch or tag is asked for anew each time; a commit
    /// that is already here needs no network.
    ///
    /// # Errors
    /// Why it cannot be had; the text is for the job's log.
    pub async fn resolve(&self, action: &ActionReference) -> Result<ResolvedAction, ActionsError> {
        self.resolve_among(action, None).await
    }

    /// The same, where this machine has a repository of that name itself: it is asked behind the directory, before the network.
    ///
    /// # Errors
    /// As [`Sources::resolve`].
    pub async fn resolve_among(
        &self,
        action: &ActionReference,
        own: Option<&Repository>,
    ) -> Result<ResolvedAction, ActionsError> {
        let shown = action.to_string();
        let ActionReference::Repository { owner, name, path, reference } = action else {
            return Err(ActionsError::NotInRepository { action: shown });
        };
        self.check_allowed(&shown, owner, name)?;
        let pin = self.lock.as_ref().and_then(|lock| lock.pin(owner, name, reference));
        let wanted = pin.map_or(reference.as_str(), |pin| pin.commit.as_str());
        let (repository, commit) = self.find(&shown, (owner, name), wanted, own).await?;
        let resolved = self.read(&shown, &repository, &commit, path).await?;
        if let Some(pin) = pin {
            self.check_pin(&resolved, pin)?;
        }
        Ok(ResolvedAction {
            owner: owner.clone(),
            name: name.clone(),
            path: path.clone(),
            reference: reference.clone(),
            ..resolved
        })
    }

    /// Reads the action at `path` of a commit that is here: what `$/path` means, and local actions before a checkout.
    ///
    /// # Errors
    /// When there is no manifest or git fails.
    pub async fn resolve_in(
        &self,
        repository: &Repository,
        commit: &str,
        path: &str,
    ) -> Result<ResolvedAction, ActionsError> {
        self.read(&format!("$/{path}"), repository, commit, path).await
    }

    /// The tar of the whole tree of an action's repository at its commit: made once, then kept.
    ///
    /// # Errors
    /// When git or the disk fails.
    pub async fn archive(&self, action: &ResolvedAction) -> Result<PathBuf, ActionsError> {
        let directory = self.settings.cache.join("archives");
        let path = directory.join(format!("{}.tar", action.tree));
        if path.exists() {
            return Ok(path);
        }
        let keep = |source| ActionsError::Keep { action: action.shown.clone(), path: path.clone(), source };
        tokio::fs::create_dir_all(&directory).await.map_err(keep)?;
        // Written beside and renamed: who finds the file finds all of it, also after a crash.
        let unfinished = directory.join(format!("{}.{}.tmp", action.tree, unique()));
        let file = tokio::fs::File::create(&unfinished).await.map_err(keep)?.into_std().await;
        let written = git::archive(&action.repository, &action.commit, std::io::BufWriter::new(file)).await;
        let finished = match written {
            Ok(writer) => {
                let flush = move || writer.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all();
                tokio::task::spawn_blocking(flush).await.map_err(std::io::Error::other).and_then(|result| result)
            }
            Err(source) => {
                drop(tokio::fs::remove_file(&unfinished).await);
                return Err(ActionsError::Git { action: action.shown.clone(), source });
            }
        };
        let finished = match finished {
            Ok(()) => tokio::fs::rename(&unfinished, &path).await,
            Err(error) => Err(error),
        };
        if let Err(source) = finished {
            drop(tokio::fs::remove_file(&unfinished).await);
            return Err(keep(source));
        }
        Ok(path)
    }

    fn check_allowed(&self, shown: &str, owner: &str, name: &str) -> Result<(), ActionsError> {
        let allow = &self.settings.allow;
        let full = format!("{owner}/{name}");
        let matches = |entry: &String| {
            let entry = entry.trim_end_matches("/*");
            entry.eq_ignore_ascii_case(owner) || entry.eq_ignore_ascii_case(&full)
        };
        if allow.is_empty() || allow.iter().any(matches) {
            return Ok(());
        }
        Err(ActionsError::NotAllowed { action: shown.to_owned(), allow: allow.clone() })
    }

    fn check_pin(&self, resolved: &ResolvedAction, pin: &Pin) -> Result<(), ActionsError> {
        let lock_file = || self.settings.lock_file.clone().unwrap_or_default();
        let broken = |what, expected: &str, found: &str| ActionsError::PinBroken {
            action: resolved.shown.clone(),
            what,
            expected: expected.to_owned(),
            found: found.to_owned(),
            lock_file: lock_file(),
        };
        if resolved.commit != pin.commit {
            return Err(broken("commit", &pin.commit, &resolved.commit));
        }
        match &pin.tree {
            Some(tree) if *tree != resolved.tree => Err(broken("tree", tree, &resolved.tree)),
            _ => Ok(()),
        }
    }

    /// The repository that has the version, and the commit it means.
    async fn find(
        &self,
        shown: &str,
        (owner, name): (&str, &str),
        reference: &str,
        own: Option<&Repository>,
    ) -> Result<(Repository, String), ActionsError> {
        let failed = |source| ActionsError::Git { action: shown.to_owned(), source };
        let no_version = || ActionsError::NoVersion { action: shown.to_owned(), reference: reference.to_owned() };
        let mut searched = Vec::new();
        for part in [owner, name] {
            if part.is_empty() || part.starts_with('.') || part.contains(['/', '\\', '\0']) {
                return Err(ActionsError::NoRepository { action: shown.to_owned(), searched });
            }
        }
        if let Some(directory) = &self.settings.mirror {
            if let Some(path) = in_directory(directory, owner, name) {
                let repository = Repository::at(path);
                let commit = commit_of(&repository, reference).await.map_err(failed)?;
                return commit.map(|commit| (repository, commit)).ok_or_else(no_version);
            }
            searched.push(format!("{}/{owner}/{name}.git", directory.display()));
        }
        if let Some(own) = own
            && let Some(commit) = commit_of(own, reference).await.map_err(failed)?
        {
            return Ok((own.clone(), commit));
        }
        let Some(url) = &self.settings.url else {
            if own.is_some() {
                return Err(no_version());
            }
            return Err(ActionsError::NoRepository { action: shown.to_owned(), searched });
        };
        let url = url.replace("{owner}", owner).replace("{name}", name).replace("{repo}", name);
        let path =
            self.settings.cache.join("mirrors").join(owner.to_lowercase()).join(format!("{}.git", name.to_lowercase()));
        let known = path.join("HEAD").exists().then(|| Repository::at(&path));
        if is_object_id(reference)
            && let Some(known) = &known
            && let Some(commit) = commit_of(known, reference).await.map_err(failed)?
        {
            return Ok((known.clone(), commit));
        }
        match self.fetch(&path, &url, known.as_ref(), reference).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(no_version()),
            Err(error) => {
                // Rather yesterday's version of a branch than no run while the network is away.
                if let Some(known) = known
                    && let Some(commit) = commit_of(&known, reference).await.map_err(failed)?
                {
                    warn!(action = shown, commit = commit.as_str(); "{url} cannot be asked, using what was fetched before: {error}");
                    return Ok((known, commit));
                }
                if says_not_found(&error) {
                    searched.push(url);
                    return Err(ActionsError::NoRepository { action: shown.to_owned(), searched });
                }
                Err(failed(error))
            }
        }
    }

    async fn fetch(
        &self,
        path: &Path,
        url: &str,
        known: Option<&Repository>,
        reference: &str,
    ) -> Result<Option<(Repository, String)>, git::Error> {
        let credentials = &self.settings.credentials;
        let mut wanted = Vec::new();
        if is_object_id(reference) {
            // A commit that no branch holds any more can often be asked for by name.
            let repository = git::fetch_mirror(path, url, credentials, &[]).await?;
            if let Some(commit) = commit_of(&repository, reference).await? {
                return Ok(Some((repository, commit)));
            }
            wanted.push(reference.to_owned());
        } else {
            let refs = git::ls_remote(url, credentials).await?;
            let names = ref_names(reference);
            let Some(found) = names.iter().find_map(|name| refs.iter().find(|found| found.name == *name)) else {
                return Ok(None);
            };
            if let Some(known) = known
                && known.resolve(&found.id).await?.is_some()
            {
                return Ok(Some((known.clone(), found.id.clone())));
            }
        }
        let repository = match git::fetch_mirror(path, url, credentials, &wanted).await {
            Ok(repository) => repository,
            Err(git::Error::Failed { .. }) if !wanted.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        };
        let commit = commit_of(&repository, reference).await?;
        Ok(commit.map(|commit| (repository, commit)))
    }

    async fn read(
        &self,
        shown: &str,
        repository: &Repository,
        commit: &str,
        path: &str,
    ) -> Result<ResolvedAction, ActionsError> {
        let failed = |source| ActionsError::Git { action: shown.to_owned(), source };
        let path = path.trim_matches('/');
        let mut objects = repository.objects().map_err(failed)?;
        let info = objects.commit(commit).await.map_err(failed)?;
        let mut manifest = None;
        for file in MANIFESTS {
            let file = if path.is_empty() { file.to_owned() } else { format!("{path}/{file}") };
            if let Some(bytes) = objects.file(commit, &file).await.map_err(failed)? {
                manifest = Some(Manifest { path: file, text: String::from_utf8_lossy(&bytes).into_owned() });
                break;
            }
        }
        objects.close().await;
        let (Some(info), Some(manifest)) = (info, manifest) else {
            return Err(ActionsError::NoManifest { action: shown.to_owned(), commit: commit.to_owned() });
        };
        Ok(ResolvedAction {
            shown: shown.to_owned(),
            owner: String::new(),
            name: String::new(),
            path: path.to_owned(),
            reference: commit.to_owned(),
            commit: info.id,
            tree: info.tree,
            manifest,
            repository: repository.clone(),
        })
    }
}

/// The bare repository of a mirror directory; names compare without case, as at GitHub.
fn in_directory(directory: &Path, owner: &str, name: &str) -> Option<PathBuf> {
    let is_repository = |path: &PathBuf| path.join("HEAD").is_file() && path.join("objects").is_dir();
    for path in [directory.join(owner).join(format!("{name}.git")), directory.join(owner).join(name)] {
        if is_repository(&path) {
            return Some(path);
        }
    }
    let owner = entry_without_case(directory, &[owner])?;
    entry_without_case(&owner, &[&format!("{name}.git"), name]).filter(is_repository)
}

fn entry_without_case(directory: &Path, names: &[&str]) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let found = entry.file_name();
        let found = found.to_str()?;
        names.iter().any(|name| name.eq_ignore_ascii_case(found)).then(|| entry.path())
    })
}

/// What a version may mean: a tag wins over a branch of the same name.
fn ref_names(reference: &str) -> [String; 3] {
    [format!("refs/tags/{reference}"), format!("refs/heads/{reference}"), reference.to_owned()]
}

async fn commit_of(repository: &Repository, reference: &str) -> Result<Option<String>, git::Error> {
    if is_object_id(reference) {
        return repository.resolve(reference).await;
    }
    // What git would read as a way through the history is no version at GitHub; nor is a short id.
    if reference.contains(['~', '^', ':', '?', '*', '[', '\\', ' '])
        || reference.contains("@{")
        || reference.contains("..")
    {
        return Ok(None);
    }
    for name in ref_names(reference) {
        if name.starts_with("refs/")
            && let Some(commit) = repository.resolve(&name).await?
        {
            return Ok(Some(commit));
        }
    }
    Ok(None)
}

/// Whether a server, or this disk, said that there is no such repository. Forges ask for a password instead of saying so.
fn says_not_found(error: &git::Error) -> bool {
    let git::Error::Failed { message, .. } = error else { return false };
    [
        "not found",
        "does not exist",
        "does not appear to be a git repository",
        "could not read Username",
        "Authentication failed",
        "returned error: 403",
        "returned error: 404",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// A name that no other write of this process has.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
