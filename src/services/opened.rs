//! The head of every question about a repository: which one it is, whether the client may ask, and where it lies.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::repositories::{Refusal, Shared};
use crate::git::Repository;

/// A repository whose contents the client may read.
pub(super) struct Opened {
    /// `OWNER/NAME`.
    pub(super) full: String,
    pub(super) repository: Repository,
    /// The address of this server as the client knows it.
    pub(super) base: String,
    /// What is asked for of it: the rest of the path, as a ref, an object, a file; empty when nothing is named.
    pub(super) rest: String,
    writable: bool,
}

impl Opened {
    /// Where the API has the repository.
    pub(super) fn api(&self) -> String {
        format!("{}/api/v3/repos/{}", self.base, self.full)
    }

    async fn of(parts: &mut Parts, shared: &Shared, write: bool) -> Result<Self, Refusal> {
        let path = Path::<Vec<String>>::from_request_parts(parts, shared).await;
        let mut path = path.map_err(|_| Refusal::NotFound)?.0.into_iter();
        let (Some(owner), Some(name)) = (path.next(), path.next()) else { return Err(Refusal::NotFound) };
        let full = full_name(&owner, &name);
        shared.admit(parts, &full, "contents", write)?;
        let served = shared.repository(&full)?;
        Ok(Self {
            full,
            repository: Repository::at(served.git_dir),
            base: shared.base(parts),
            rest: path.next().unwrap_or_default(),
            writable: served.writable,
        })
    }
}

impl FromRequestParts<Shared> for Opened {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        Self::of(parts, shared, false).await
    }
}

/// A repository that the client may change, and that is nobody's mirror.
pub(super) struct Writable(pub(super) Opened);

impl FromRequestParts<Shared> for Writable {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let opened = Opened::of(parts, shared, true).await?;
        if !opened.writable {
            return Err(Refusal::Forbidden("This repository is a mirror: change it where it comes from."));
        }
        Ok(Self(opened))
    }
}

/// `OWNER/NAME`, as clients of git write it with `.git` behind.
pub(super) fn full_name(owner: &str, name: &str) -> String {
    format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(name))
}
