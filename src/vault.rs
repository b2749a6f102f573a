//! Secrets and variables at rest: sealed one by one under the master key, opened only for the job that gets them.
//!
//! Three levels: the environment's go before the repository's, those before the global ones (G3). Names follow G4.
//! A sealed value is bound to its name and level, so that one cannot be put in the place of another. Values leave
//! only as [`SecretString`]s for a job; lists show names.

mod key;
mod seal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

pub use key::{MasterKey, is_credential, open_keys};

use crate::id::RepositoryName;
use crate::store::{Store, StoreError};
use seal::Ring;

/// The longest value (G3).
const LONGEST_VALUE: usize = 48 * 1024;
/// The most names on one level; GitHub allows 100 secrets, and 1,000 on the widest level.
const MOST_NAMES: usize = 1000;

/// The vault of one state. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    ring: Arc<RwLock<Ring>>,
}

/// Why the vault refuses or cannot.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("the master key {path}: {reason}")]
    Key { path: PathBuf, reason: String },
    #[error("a stored value was sealed under another master key; start with the key {key_id} as well, or restore it")]
    WrongKey { key_id: String },
    #[error("the stored value {name} was changed or damaged")]
    Damaged { name: String },
    #[error("`{0}` is not a valid name: letters, digits and `_`, not beginning with a digit or with `GITHUB_`")]
    Name(String),
    #[error("the value of `{name}` is longer than {LONGEST_VALUE} bytes")]
    TooLong { name: String },
    #[error("there are {MOST_NAMES} names already; remove some")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Secret,
    Variable,
}

impl Kind {
    /// The word in keys and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Variable => "variable",
        }
    }
}

/// For whom a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    Global,
    Repository(RepositoryName),
    Environment(RepositoryName, String),
}

/// A value as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// In upper case.
    pub name: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Of variables only.
    pub value: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    value: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Vault {
    /// A vault over a store. The first key seals; all of them open.
    #[must_use]
    pub fn new(store: Store, keys: Vec<MasterKey>) -> Self {
        Self { store, ring: Arc::new(RwLock::new(Ring::new(keys))) }
    }

    /// Sets a value; durable when the future ends.
    ///
    /// # Errors
    /// The name or value is not allowed, or the store cannot be written.
    pub async fn set(
        &self,
        now: Timestamp,
        kind: Kind,
        level: &Level,
        name: &str,
        value: &str,
    ) -> Result<(), VaultError> {
        let name = checked_name(name)?;
        if value.len() > LONGEST_VALUE {
            return Err(VaultError::TooLong { name });
        }
        let prefix = prefix(kind, level);
        let full = format!("{prefix}{name}");
        let existing = self.store.sealed(&prefix)?;
        let before = existing.iter().find(|(key, _)| *key == full);
        if before.is_none() && existing.len() >= MOST_NAMES {
            return Err(VaultError::TooMany);
        }
        // A value that can no longer be opened can still be replaced.
        let created_at =
            before.and_then(|(key, sealed)| self.open_stored(key, sealed).ok()).map_or(now, |stored| stored.created_at);
        let stored = Stored { value: value.to_owned(), created_at, updated_at: now };
        let sealed = self.seal(&full, &serde_json::to_vec(&stored).expect("plain fields have a JSON form"))?;
        Ok(self.store.put_sealed(vec![(full, Some(sealed))]).await?)
    }

    /// Removes a value. False when there was none.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn remove(&self, kind: Kind, level: &Level, name: &str) -> Result<bool, VaultError> {
        let prefix = prefix(kind, level);
        let full = format!("{prefix}{}", name.to_uppercase());
        let known = self.store.sealed(&prefix)?.iter().any(|(key, _)| *key == full);
        if known {
            self.store.put_sealed(vec![(full, None)]).await?;
        }
        Ok(known)
    }

    /// The names on one level, in order; values only of variables.
    ///
    /// # Errors
    /// The store cannot be read, or a value cannot be opened.
    pub fn list(&self, kind: Kind, level: &Level) -> Result<Vec<Entry>, VaultError> {
        let prefix = prefix(kind, level);
        let sealed = self.store.sealed(&prefix)?;
        sealed
            .iter()
            .map(|(full, sealed)| {
                let stored = self.open_stored(full, sealed)?;
                Ok(Entry {
                    name: full[prefix.len()..].to_owned(),
                    created_at: stored.created_at,
                    updated_at: stored.updated_at,
                    value: (kind == Kind::Variable).then_some(stored.value),
                })
            })
            .collect()
    }

    /// The environments of a repository that have secrets or variables, in lower case and in order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn environments(&self, repository: &RepositoryName) -> Result<Vec<String>, VaultError> {
        let mut names = Vec::new();
        for kind in [Kind::Secret, Kind::Variable] {
            let prefix = format!("{}:environment:{}:", kind.word(), owned(repository));
            for (full, _) in self.store.sealed(&prefix)? {
                names.extend(full[prefix.len()..].split_once(':').map(|(name, _)| name.to_owned()));
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// All secrets that a job may read (G3). Environment secrets only with an environment whose rules let it through.
    ///
    /// # Errors
    /// The store cannot be read, or a value cannot be opened.
    pub fn secrets_for(
        &self,
        repository: &RepositoryName,
        environment: Option<&str>,
    ) -> Result<BTreeMap<String, SecretString>, VaultError> {
        let values = self.values_for(Kind::Secret, repository, environment)?;
        Ok(values.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect())
    }

    /// All variables that a run or, with an environment, a job sees (G3).
    ///
    /// # Errors
    /// The store cannot be read, or a value cannot be opened.
    pub fn vars_for(
        &self,
        repository: &RepositoryName,
        environment: Option<&str>,
    ) -> Result<BTreeMap<String, String>, VaultError> {
        self.values_for(Kind::Variable, repository, environment)
    }

    fn values_for(
        &self,
        kind: Kind,
        repository: &RepositoryName,
        environment: Option<&str>,
    ) -> Result<BTreeMap<String, String>, VaultError> {
        let mut levels = vec![Level::Global, Level::Repository(repository.clone())];
        levels.extend(environment.map(|name| Level::Environment(repository.clone(), name.to_owned())));
        let mut values = BTreeMap::new();
        for level in levels {
            let prefix = prefix(kind, &level);
            for (full, sealed) in self.store.sealed(&prefix)? {
                values.insert(full[prefix.len()..].to_owned(), self.open_stored(&full, &sealed)?.value);
            }
        }
        Ok(values)
    }

    /// Seals bytes of another room under the master key, bound to `name`.
    ///
    /// # Errors
    /// There is no key.
    pub fn seal(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).seal(name, bytes)
    }

    /// Opens what [`Vault::seal`] sealed under the same name.
    ///
    /// # Errors
    /// It was sealed under an unknown key or another name, or was changed.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).open(name, sealed)
    }

    fn open_stored(&self, name: &str, sealed: &[u8]) -> Result<Stored, VaultError> {
        let bytes = SecretString::from(
            String::from_utf8(self.open(name, sealed)?).map_err(|_| VaultError::Damaged { name: name.to_owned() })?,
        );
        serde_json::from_str(bytes.expose_secret()).map_err(|_| VaultError::Damaged { name: name.to_owned() })
    }

    /// Seals everything again under a new key, in one transaction. The caller has made the new key durable before, and
    /// may forget the old one after.
    ///
    /// # Errors
    /// A value cannot be opened, or the store cannot be written; everything stays as it was.
    pub async fn rotate(&self, key: MasterKey) -> Result<usize, VaultError> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner).with_first(key);
        self.reseal(ring).await
    }

    /// Seals everything again under the first of the known keys: after the credential of systemd was exchanged and the
    /// old one is there as the old one.
    ///
    /// # Errors
    /// As [`Vault::rotate`].
    pub async fn reseal_all(&self) -> Result<usize, VaultError> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.reseal(ring).await
    }

    /// Whether something is sealed under another key than the first: then no further key may take its place.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn needs_old_key(&self) -> Result<bool, VaultError> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner).clone();
        let old = |sealed: &[u8]| !ring.is_first(sealed);
        Ok(self.store.sealed("")?.iter().any(|(_, sealed)| old(sealed)) || self.store.any_journal(old)?)
    }

    async fn reseal(&self, ring: Ring) -> Result<usize, VaultError> {
        let mut values = Vec::new();
        for (name, sealed) in self.store.sealed("")? {
            let bytes = ring.open(&name, &sealed)?;
            let sealed = ring.seal(&name, &bytes)?;
            values.push((name, Some(sealed)));
        }
        let count = values.len();
        // Both keys are known from here on, so what is sealed meanwhile can be opened whichever way this ends.
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        self.store.put_sealed(values).await?;
        Ok(count)
    }
}

fn checked_name(name: &str) -> Result<String, VaultError> {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let upper = name.to_ascii_uppercase();
    if begins && goes_on && !upper.starts_with("GITHUB_") && name.len() <= 255 {
        Ok(upper)
    } else {
        Err(VaultError::Name(name.to_owned()))
    }
}

/// Repositories and environments compare without case. `:` ends a name: neither can hold one.
fn clean(name: &str) -> String {
    name.to_lowercase().replace([':', '\0'], "_")
}

/// A repository of this machine has an owner too, whether or not it was named.
fn owned(repository: &RepositoryName) -> String {
    if repository.0.contains('/') { clean(&repository.0) } else { clean(&format!("local/{repository}")) }
}

fn prefix(kind: Kind, level: &Level) -> String {
    let kind = kind.word();
    match level {
        Level::Global => format!("{kind}:global:"),
        Level::Repository(repository) => format!("{kind}:repository:{}:", owned(repository)),
        Level::Environment(repository, environment) => {
            format!("{kind}:environment:{}:{}:", owned(repository), clean(environment))
        }
    }
}
