//! What people and other programs ask for: `workflow_dispatch` and `repository_dispatch` (T11, T12).

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::service::{Error, Outcome, Triggers, fresh_id};
use crate::config::Source;
use crate::event::dispatch::{self, Place};
use crate::git::Repository;
use crate::workflow;

/// A wish to run one workflow.
#[derive(Clone, Debug)]
pub struct Dispatch<'a> {
    pub repository: &'a str,
    /// Path or file name of the workflow.
    pub workflow: &'a str,
    /// Branch, tag, or full ref; the default branch when absent.
    pub git_ref: Option<&'a str>,
    pub inputs: &'a IndexMap<String, Json>,
    pub actor: &'a str,
}

impl Triggers {
    /// Starts a workflow that listens to `workflow_dispatch`, with its inputs checked. It must be on the default branch;
    /// the file itself is taken from the chosen ref (T9).
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence per fault, or as any delivery.
    pub async fn dispatch(&self, wish: &Dispatch<'_>) -> Result<Outcome, Error> {
        let source = self.source(wish.repository)?;
        let repository = self.inventory().open(&source, &[]).await?;
        let place = self.place(&source, &repository, wish.git_ref, wish.actor).await?;
        let default = format!("refs/heads/{}", place.default_branch);
        let Some(default_sha) = repository.resolve(&default).await? else {
            return Err(Error::Refused(vec![format!("{} has no branch {}", source.name, place.default_branch)]));
        };
        self.dispatchable(&repository, &source, &default_sha, wish.workflow).await?;
        let (path, declared) = self.dispatchable(&repository, &source, &place.sha, wish.workflow).await?;
        if self.store().is_workflow_disabled(&source.name, &path)? {
            return Err(Error::Refused(vec![format!("{path} is disabled; `towline workflow enable` brings it back")]));
        }
        let inputs = dispatch::check_inputs(&declared, wish.inputs).map_err(Error::Refused)?;
        let event = dispatch::workflow_dispatch(self.clock().now(), &place, &path, &inputs);
        self.event("dispatch", fresh_id(), event).await
    }

    /// Sends a `repository_dispatch`.
    ///
    /// # Errors
    /// [`Error::Refused`] when it exceeds GitHub's limits, or as any delivery.
    pub async fn repository_dispatch(
        &self,
        repository: &str,
        event_type: &str,
        client_payload: Json,
        actor: &str,
    ) -> Result<Outcome, Error> {
        let source = self.source(repository)?;
        let store = self.inventory().open(&source, &[]).await?;
        let place = self.place(&source, &store, None, actor).await?;
        let event = dispatch::repository_dispatch(self.clock().now(), &place, event_type, client_payload)
            .map_err(|fault| Error::Refused(vec![fault]))?;
        self.event("dispatch", fresh_id(), event).await
    }

    /// Where an event that no push brings happens: at a ref, by default the tip of the default branch.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such ref.
    pub async fn place(
        &self,
        source: &Source,
        repository: &Repository,
        git_ref: Option<&str>,
        actor: &str,
    ) -> Result<Place, Error> {
        let head = repository.head_branch().await?;
        let default_branch = source.default_branch.clone().or(head).unwrap_or_else(|| "main".to_owned());
        let wanted = git_ref.unwrap_or(&default_branch);
        let candidates = if wanted.starts_with("refs/") {
            vec![wanted.to_owned()]
        } else {
            vec![format!("refs/heads/{wanted}"), format!("refs/tags/{wanted}")]
        };
        for git_ref in candidates {
            if let Some(sha) = repository.resolve(&git_ref).await? {
                return Ok(Place {
                    repository: source.name.clone(),
                    git_ref,
                    sha,
                    default_branch,
                    actor: actor.to_owned(),
                    server_url: self.inventory().server_url(),
                });
            }
        }
        Err(Error::Refused(vec![format!("{} has no branch or tag {wanted}", source.name)]))
    }

    /// The path of a workflow at a commit, and what it declares.
    async fn dispatchable(
        &self,
        repository: &Repository,
        source: &Source,
        commit: &str,
        wanted: &str,
    ) -> Result<(String, workflow::model::Dispatch), Error> {
        let mut objects = repository.objects()?;
        let files = objects.workflows(commit, &self.reading(source).directories).await?;
        objects.close().await;
        let short = commit.get(..7).unwrap_or(commit);
        let Some(file) = files.iter().find(|file| super::start::is_named(&file.path, wanted)) else {
            let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Error::Refused(vec![format!("there is no workflow {wanted} at {short}; there are: {known}")]));
        };
        let (model, diagnostics) = workflow::parse(&file.path, &file.text);
        let Some(model) = model else {
            let faults = diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
            return Err(Error::Refused(faults.map(|fault| format!("{}: {}", fault.path, fault.message)).collect()));
        };
        if model.on.dispatch.is_none() && !model.on.events.contains_key("workflow_dispatch") {
            return Err(Error::Refused(vec![format!("{} at {short} has no 'workflow_dispatch' trigger", file.path)]));
        }
        Ok((file.path.clone(), model.on.dispatch.unwrap_or_default()))
    }
}
