//! Called workflows that live in other repositories (S18).

use std::path::{Path, PathBuf};

use crate::config;
use crate::git::{self, Credentials, Repository};
use crate::id::RepositoryName;
use crate::plan::calls::CalledWorkflow;
use crate::triggers::Inventory;

/// Where repositories named in `uses:` are found.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The repository that asks.
    pub own: RepositoryName,
    /// Repositories of this machine by name.
    pub local: Vec<(RepositoryName, PathBuf)>,
    /// A directory of bare repositories `OWNER/NAME.git`.
    pub mirror: Option<PathBuf>,
    /// An address with `{owner}` and `{name}`; `None`: nothing is ever fetched.
    pub url: Option<String>,
    /// Where fetched repositories are kept.
    pub cache: PathBuf,
}

impl Elsewhere {
    /// As configured, with all sources there are.
    #[must_use]
    pub fn new(own: &RepositoryName, inventory: &Inventory) -> Self {
        let (config, paths) = (inventory.config(), inventory.paths());
        let local = inventory.all().into_iter().filter_map(|source| Some((source.name, source.path?)));
        Self {
            own: own.clone(),
            local: local.collect(),
            mirror: config.actions.mirror.clone(),
            url: config.actions.url.clone(),
            cache: paths.mirrors(),
        }
    }

    /// Nothing is elsewhere.
    #[must_use]
    pub fn nothing(own: &RepositoryName) -> Self {
        Self { own: own.clone(), local: Vec::new(), mirror: None, url: None, cache: PathBuf::new() }
    }

    /// Reads a file of a repository at a branch, tag or commit; `None` when there is no such repository, ref or file.
    ///
    /// # Errors
    /// git fails, or the address does not answer.
    pub async fn read(
        &self,
        repository: &str,
        reference: &str,
        path: &str,
    ) -> Result<Option<CalledWorkflow>, git::Error> {
        let Some((store, commit)) = self.find(repository, reference).await? else { return Ok(None) };
        let mut objects = store.objects()?;
        let bytes = objects.file(&commit, path).await?;
        objects.close().await;
        Ok(bytes.map(|bytes| CalledWorkflow {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            repository: RepositoryName(repository.to_owned()),
            sha: commit,
        }))
    }

    async fn find(&self, repository: &str, reference: &str) -> Result<Option<(Repository, String)>, git::Error> {
        let segments: Vec<&str> = repository.split('/').collect();
        let [owner, name] = segments.as_slice() else { return Ok(None) };
        if !config::is_repository_name(repository) {
            return Ok(None);
        }
        let local = self.local.iter().find(|(known, _)| known.as_str().eq_ignore_ascii_case(repository));
        let at_hand = local
            .map(|(_, path)| path.clone())
            .or_else(|| self.mirror.as_ref().map(|mirror| mirror.join(format!("{repository}.git"))));
        if let Some(path) = at_hand.filter(|path| path.exists()) {
            let store = Repository::at(path);
            return Ok(resolve(&store, reference).await?.map(|commit| (store, commit)));
        }
        let Some(url) = &self.url else { return Ok(None) };
        let url = url.replace("{owner}", owner).replace("{name}", name);
        let path = self.cache.join(format!("{repository}.git"));
        // A full commit id that was fetched before cannot have changed.
        if git::is_object_id(reference) && Path::new(&path).exists() {
            let store = Repository::at(&path);
            if let Some(commit) = resolve(&store, reference).await? {
                return Ok(Some((store, commit)));
            }
        }
        let store = git::fetch_mirror(&path, &url, &Credentials::None, &[]).await?;
        Ok(resolve(&store, reference).await?.map(|commit| (store, commit)))
    }
}

/// As GitHub reads a ref: a tag, a branch, a commit.
async fn resolve(store: &Repository, reference: &str) -> Result<Option<String>, git::Error> {
    for prefix in ["refs/tags/", "refs/heads/", ""] {
        if let Some(commit) = store.resolve(&format!("{prefix}{reference}")).await? {
            return Ok(Some(commit));
        }
    }
    Ok(None)
}
