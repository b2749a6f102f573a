//! What the server asks of other rooms: workflow files of a repository, and starting one by hand.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::forge::{Outbox, Shown};
use crate::git::Repository;
use crate::id::{HostName, RepositoryName, RunId};
use crate::server::view::{LetterView, ScheduleView};
use crate::server::{DispatchRequest, LetterDeed, Outside, SentEvent, WorkflowFile};
use crate::transport::{EnrolError, Facts, Hosts, NewHost, enrol};
use crate::triggers::cron::Entry;
use crate::triggers::dispatch::Dispatch;
use crate::triggers::schedules::Schedules;
use crate::triggers::{Inventory, Triggers};

/// The server's ways to the sources and the triggers.
pub(super) fn outside(
    triggers: &Triggers,
    inventory: &Inventory,
    schedules: &Schedules,
    hosts: &Hosts,
    outbox: &Outbox,
) -> Outside {
    let (adding, checking) = ((inventory.clone(), hosts.clone()), (inventory.clone(), hosts.clone()));
    let (listed, reading) = (inventory.clone(), (triggers.clone(), inventory.clone()));
    let (dispatching, sending) = (triggers.clone(), triggers.clone());
    let (replaying, again, schedules) = (triggers.clone(), triggers.clone(), schedules.clone());
    let (letters, changing) = (outbox.clone(), outbox.clone());
    Outside {
        repositories: Arc::new(move || listed.all().into_iter().map(|source| source.name).collect()),
        files: Arc::new(move |repository| {
            let (triggers, inventory) = reading.clone();
            Box::pin(async move { files(&triggers, &inventory, &repository).await })
        }),
        dispatch: Arc::new(move |request| {
            let triggers = dispatching.clone();
            Box::pin(async move { dispatch(&triggers, request).await })
        }),
        send_event: Arc::new(move |sent: SentEvent| {
            let triggers = sending.clone();
            Box::pin(async move {
                let SentEvent { repository, event_type, client_payload, actor } = sent;
                let repository = repository.as_str();
                let outcome = triggers.repository_dispatch(repository, &event_type, client_payload, &actor).await;
                outcome.map(drop).map_err(|error| error.to_string())
            })
        }),
        replay: Arc::new(move |number| {
            let triggers = replaying.clone();
            Box::pin(async move {
                let (number, outcome) = triggers.replay(number).await.map_err(|error| error.to_string())?;
                Ok((number, outcome.runs))
            })
        }),
        called_again: Arc::new(move |run, which| {
            let triggers = again.clone();
            Box::pin(async move { triggers.called_again(run, which).await.map_err(|error| error.to_string()) })
        }),
        schedules: Arc::new(move |count| {
            let view = |(entry, next): (Entry, Vec<Timestamp>)| ScheduleView {
                repository: entry.repository,
                workflow: entry.workflow,
                cron: entry.cron,
                timezone: entry.timezone,
                next,
            };
            schedules.preview(count).into_iter().map(view).collect()
        }),
        letters: Arc::new(move || Ok(letters.letters()?.into_iter().map(letter).collect())),
        change_letter: Arc::new(move |id, deed| {
            let outbox = changing.clone();
            Box::pin(async move {
                match deed {
                    LetterDeed::Retry => outbox.retry(&id).await,
                    LetterDeed::Forget => outbox.forget(&id).await,
                }
            })
        }),
        // The file that is written is watched: the configuration is read again by itself.
        add_host: Arc::new(move |new| {
            let (inventory, hosts) = adding.clone();
            Box::pin(async move {
                let added = enrol(inventory.paths(), &inventory.config(), &hosts, &new).await;
                added.map_err(|error| refusal(&error, &new))
            })
        }),
        check_host: Arc::new(move |name| {
            let (inventory, hosts) = checking.clone();
            Box::pin(async move { check(&inventory, &hosts, &name).await })
        }),
        public_key: Arc::new(|| {
            let home = std::env::var_os("HOME").map(PathBuf::from)?;
            let key = std::fs::read_to_string(home.join(".ssh/id_ed25519.pub")).ok()?;
            Some(key.trim().to_owned()).filter(|key| !key.is_empty())
        }),
    }
}

fn letter(shown: Shown) -> LetterView {
    let Shown { id, kind, repository, subject, dead, attempts, reason, at } = shown;
    LetterView { id, kind, repository, subject, dead, attempts, reason, at }
}

/// Why a host was not added, with the way out.
fn refusal(error: &EnrolError, new: &NewHost) -> String {
    let text = format!("{:#}", chained(error));
    match error {
        EnrolError::Write { .. } => {
            format!("{text}. On the daemon's machine, as root: `towline host add {}`", new.destination)
        }
        _ => text,
    }
}

fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        text.push_str(&format!(": {deeper}"));
        source = deeper.source();
    }
    text
}

async fn check(inventory: &Inventory, hosts: &Hosts, name: &HostName) -> Result<Facts, String> {
    let (config, paths) = (inventory.config(), inventory.paths());
    let all = super::hosts::configured(&config, &paths.state, &crate::config::inventory::pins(paths));
    let found = all.into_iter().find(|(host, _)| host.name == *name);
    let (_, target) = found.ok_or_else(|| format!("{name} is no longer configured"))?;
    hosts.check(&target?).await.map_err(|error| error.to_string())
}

/// The repository of a source, its default branch and that branch's commit.
async fn default_branch(
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
    let file =
        |file: crate::git::TextFile| WorkflowFile { path: file.path, text: file.text, default_branch: branch.clone() };
    Ok(found?.into_iter().map(file).collect())
}

async fn dispatch(triggers: &Triggers, request: DispatchRequest) -> Result<RunId, String> {
    let wish = Dispatch {
        repository: request.repository.as_str(),
        workflow: &request.workflow_path,
        git_ref: Some(request.git_ref.as_str()).filter(|name| !name.is_empty()),
        inputs: &request.inputs.into_iter().collect(),
        actor: &request.actor,
    };
    let outcome = triggers.dispatch(&wish).await.map_err(|error| error.to_string())?;
    outcome.runs.first().copied().ok_or(outcome.note)
}
