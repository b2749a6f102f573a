//! Reads of the store and the engine as views. Every read that may block a worker runs beside it.

mod deliveries;
mod hosts;
mod outside;
mod runs;
mod workflows;

use std::sync::RwLock;

use crate::drive::Handle;
use crate::engine::record::EnvironmentRules;
use crate::id::RepositoryName;
use crate::store::{AuditRecord, Logs, Store, StoreError};

pub use hosts::HostDetail;
pub use outside::{DispatchRequest, LetterDeed, Outside, SentEvent, WorkflowFile};
pub(super) use workflows::plain_text;

/// Where views come from.
pub struct Source {
    pub(super) store: Store,
    pub(super) logs: Logs,
    pub(super) engine: Handle,
    pub(super) outside: Outside,
    hosts: RwLock<Vec<HostDetail>>,
}

/// Runs on one page of the list.
pub(super) const PAGE_OF_RUNS: usize = 30;

impl Source {
    pub(super) fn new(store: Store, engine: Handle, outside: Outside) -> Self {
        let logs = store.logs().clone();
        Self { store, logs, engine, outside, hosts: RwLock::default() }
    }

    /// Reads beside the workers.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// The repositories that are configured or had runs.
    pub(super) async fn repositories(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let mut all = self.read(Store::repositories).await?;
        all.extend((self.outside.repositories)());
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// The environments of a repository that have rules, by name.
    pub(super) async fn environments(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<(String, EnvironmentRules)>, StoreError> {
        let repository = repository.clone();
        self.read(move |store| store.environments(&repository)).await
    }

    /// Who did what, newest first.
    pub(super) async fn audit_log(&self, skip: usize, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(move |store| store.audit_log(skip, limit)).await
    }
}
