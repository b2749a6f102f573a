//! What the server asks of other rooms: workflow files of a repository, and starting one by hand.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::event::dispatch::{Place, check_inputs, workflow_dispatch};
use crate::git::Repository;
use crate::id::{RepositoryName, RunId};
use crate::server::{DispatchRequest, Outside, WorkflowFile};
use crate::triggers::{Inventory, Triggers};
use crate::workflow;

/// The server's ways to the sources.
pub(super) fn outside(triggers: Triggers, inventory: Inventory) -> Outside {
    let listed = inventory.clone();
    let reading = (triggers.clone(), inventory);
    Outside {
        repositories: listed.all().into_iter().map(|source| source.name).collect(),
        files: Arc::new(move |repository| {
            let (triggers, inventory) = reading.clone();
            Box::pin(async move { files(&triggers, &inventory, &repository).await })
        }),
        dispatch: Arc::new(move |request| {
            let triggers = triggers.clone();
            Box::pin(async move { dispatch(&triggers, request).await })
        }),
    }
}

/// The repository of a source, its default branch and that branch's commit.
pub(super) async fn default_branch(
    triggers: &Triggers,
    repository: &RepositoryName,
) -> Result<(crate::config::Source, Repository, String, String), String> {
    let inventory = triggers.inventory();
    let source = inventory.find(repository.as_str()).ok_or_else(|| format!("there is no source {repository}"))?;
    let opened = inventory.open(&source, &[]).await.map_err(|error| error.to_string())?;
    let branch = match &source.default_branch {
        Some(branch) => Some(branch.clone()),
        None => opened.head_branch().await.map_err(|error| error.to_string())?,
    };
    let branch = branch.ok_or_else(|| format!("{repository} has no default branch"))?;
    let commit = opened.resolve(&format!("refs/heads/{branch}")).await.map_err(|error| error.to_string())?;
    let commit = commit.ok_or_else(|| format!("the branch {branch} of {repository} has no commit yet"))?;
    Ok((source, opened, branch, commit))
}

async fn files(
    triggers: &Triggers,
    inventory: &Inventory,
    repository: &RepositoryName,
) -> Result<Vec<WorkflowFile>, String> {
    if inventory.find(repository.as_str()).is_none() {
        return Ok(Vec::new());
    }
    let (source, opened, branch, commit) = default_branch(triggers, repository).await?;
    let directories = triggers.reading(&source).directories;
    let mut objects = opened.objects().map_err(|error| error.to_string())?;
    let found = objects.workflows(&commit, &directories).await.map_err(|error| error.to_string());
    objects.close().await;
    let file = |file: crate::git::TextFile| WorkflowFile { path: file.path, text: file.text, default_branch: branch.clone() };
    Ok(found?.into_iter().map(file).collect())
}

async fn dispatch(triggers: &Triggers, request: DispatchRequest) -> Result<RunId, String> {
    let (_, opened, branch, head) = default_branch(triggers, &request.repository).await?;
    let git_ref = full_ref(&opened, &request.git_ref, &branch).await?;
    let commit = opened.resolve(&git_ref).await.map_err(|error| error.to_string())?.unwrap_or(head);
    let mut objects = opened.objects().map_err(|error| error.to_string())?;
    let text = objects.file(&commit, &request.workflow_path).await.map_err(|error| error.to_string());
    objects.close().await;
    let text = text?.ok_or_else(|| format!("there is no {} on {}", request.workflow_path, request.git_ref))?;
    let (workflow, _) = workflow::parse(&request.workflow_path, &String::from_utf8_lossy(&text));
    let workflow = workflow.ok_or_else(|| format!("{} has errors; see `towline check`", request.workflow_path))?;
    let Some(declared) = &workflow.on.dispatch else {
        return Err(format!("{} does not have a workflow_dispatch trigger", request.workflow_path));
    };
    let given: IndexMap<_, _> = request.inputs.into_iter().collect();
    let inputs = check_inputs(declared, &given).map_err(|faults| faults.join("; "))?;
    let place = Place {
        repository: request.repository.clone(),
        git_ref,
        sha: commit,
        default_branch: branch,
        actor: request.actor,
        server_url: triggers.inventory().server_url(),
    };
    let now = triggers.clock().now();
    let event = workflow_dispatch(now, &place, &request.workflow_path, &inputs);
    let id = crate::transport::JobSpec::new_nonce();
    let outcome = triggers.event("dispatch", id, event).await.map_err(|error| error.to_string())?;
    outcome.runs.first().copied().ok_or(outcome.note)
}

async fn full_ref(repository: &Repository, name: &str, default: &str) -> Result<String, String> {
    let candidates = match name {
        "" => vec![format!("refs/heads/{default}")],
        name if name.starts_with("refs/") => vec![name.to_owned()],
        name => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
    };
    for full in candidates {
        if repository.resolve(&full).await.map_err(|error| error.to_string())?.is_some() {
            return Ok(full);
        }
    }
    Err(format!("no branch or tag {name} was found"))
}
