//! Small things of other rooms: tokens, the audit log, sealed secrets, and keys of their own.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::codec::{Key, decode, delete_prefix, encode, encode_raw, get_pieces, payload, put_pieces, scan_pieces};
use super::trees::{Name, Write};
use super::{Store, StoreError};
use crate::id::RepositoryName;

/// What an API token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

/// An API token. The token itself is shown once and never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the token, in hexadecimal.
    pub hash: String,
    /// Unique; what commands call it.
    pub name: String,
    pub role: Role,
    /// Empty: all repositories.
    pub repositories: Vec<RepositoryName>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// One line of the audit log: who did what to which thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub at: Timestamp,
    pub actor: String,
    /// `run.cancel`, `secret.set`, …
    pub action: String,
    pub subject: String,
    /// Never the value of a secret.
    pub detail: String,
}

impl Store {
    /// Adds or replaces a token.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn put_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
        let write = Write::put(Name::Tokens, token.hash.clone().into_bytes(), encode(token));
        self.inner.writer.commit(vec![write]).await
    }

    /// The token with this hash.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn token(&self, hash: &str) -> Result<Option<TokenRecord>, StoreError> {
        self.trees().get(Name::Tokens, hash.as_bytes())?.map(|value| decode("token", &value)).transpose()
    }

    /// All tokens.
    ///
    /// # Errors
    /// A record cannot be read or understood.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.trees().tree(Name::Tokens).iter().map(|item| decode("token", &item?.1)).collect()
    }

    /// Removes a token.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn delete_token(&self, hash: &str) -> Result<(), StoreError> {
        self.inner.writer.commit(vec![Write::delete(Name::Tokens, hash.as_bytes().to_vec())]).await
    }

    /// Adds a line to the audit log.
    ///
    /// # Errors
    /// The database cannot be written: what was to be recorded must not happen.
    pub async fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering;
        let micros = u64::try_from(record.at.as_microsecond()).unwrap_or(0);
        // Two lines of one microsecond stay two.
        let sequence = self.inner.last_audit.fetch_add(1, Ordering::AcqRel);
        let key = Key::new().u64(micros).u64(sequence).bytes();
        self.inner.writer.commit(vec![Write::put(Name::Audit, key, encode(record))]).await
    }

    /// The audit log, newest first, after `skip` others.
    ///
    /// # Errors
    /// A record cannot be read or understood.
    pub fn audit_log(&self, skip: usize, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let lines = self.trees().tree(Name::Audit).iter().values().rev().skip(skip).take(limit);
        lines.map(|item| decode("audit record", &item?)).collect()
    }

    /// Enables or disables a workflow by hand.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn set_workflow_disabled(
        &self,
        repository: &RepositoryName,
        path: &str,
        disabled: bool,
    ) -> Result<(), StoreError> {
        let key = disabled_key(repository, path);
        if disabled { self.put(DISABLED, &key, b"1").await } else { self.delete(DISABLED, &key).await }
    }

    /// The paths of the disabled workflows of a repository.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn disabled_workflows(&self, repository: &RepositoryName) -> Result<Vec<String>, StoreError> {
        let prefix = disabled_key(repository, "");
        let found = self.scan(DISABLED, &prefix)?;
        Ok(found.into_iter().filter_map(|(key, _)| Some(key.strip_prefix(&prefix)?.to_owned())).collect())
    }

    /// Whether a workflow was disabled by hand: no event starts it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn is_workflow_disabled(&self, repository: &RepositoryName, path: &str) -> Result<bool, StoreError> {
        Ok(self.get(DISABLED, &disabled_key(repository, path))?.is_some())
    }

    /// Sets a key of a room's own space; durable when the future ends.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn put(&self, space: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        put_pieces(&mut writes, Name::Keys, &Key::new().name(space).name(key).bytes(), &encode_raw(value));
        self.inner.writer.commit(writes).await
    }

    /// Sets and deletes (`None`) keys of a room's own space in one transaction.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn put_all(&self, space: &str, values: Vec<(String, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        for (key, value) in values {
            let key = Key::new().name(space).name(&key).bytes();
            match value {
                Some(value) => put_pieces(&mut writes, Name::Keys, &key, &encode_raw(&value)),
                None => delete_prefix(self.trees(), &mut writes, Name::Keys, &key)?,
            }
        }
        self.inner.writer.commit(writes).await
    }

    /// A key of a room's own space.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn get(&self, space: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = get_pieces(self.trees(), Name::Keys, &Key::new().name(space).name(key).bytes())?;
        value.map(|value| payload("key", &value)).transpose()
    }

    /// Keys that begin with `prefix` in a room's own space, with their values, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn scan(&self, space: &str, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let space = Key::new().name(space).bytes();
        let mut from = space.clone();
        from.extend_from_slice(prefix.as_bytes());
        let mut found = Vec::new();
        scan_pieces(self.trees(), Name::Keys, &from, |key, value| {
            let name = key.get(space.len()..key.len().saturating_sub(1)).unwrap_or_default();
            found.push((String::from_utf8_lossy(name).into_owned(), payload("key", value)?));
            Ok(true)
        })?;
        Ok(found)
    }

    /// Deletes a key of a room's own space.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn delete(&self, space: &str, key: &str) -> Result<(), StoreError> {
        self.put_all(space, vec![(key.to_owned(), None)]).await
    }

    /// Sealed values of the vault whose names begin with `prefix`.
    pub(crate) fn sealed(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        scan_pieces(self.trees(), Name::Secrets, prefix.as_bytes(), |key, value| {
            let name = key.get(..key.len().saturating_sub(1)).unwrap_or_default();
            found.push((String::from_utf8_lossy(name).into_owned(), payload("secret", value)?));
            Ok(true)
        })?;
        Ok(found)
    }

    /// Sets and deletes sealed values in one transaction.
    pub(crate) async fn put_sealed(&self, values: Vec<(String, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        for (name, value) in values {
            let key = Key::new().name(&name).bytes();
            match value {
                Some(value) => put_pieces(&mut writes, Name::Secrets, &key, &encode_raw(&value)),
                None => delete_prefix(self.trees(), &mut writes, Name::Secrets, &key)?,
            }
        }
        self.inner.writer.commit(writes).await
    }
}

/// The space in which disabled workflows are kept.
const DISABLED: &str = "disabled-workflows";

fn disabled_key(repository: &RepositoryName, path: &str) -> String {
    format!("{}:{path}", repository.as_str().to_lowercase())
}
