//! `workflow_run`: runs that begin or end start workflows of the default branch (T13).
//!
//! Nothing is kept of a run that no workflow listens to. What one does listen to is a delivery like any other, whose id
//! names run, attempt and stage: told twice, it starts nothing twice.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::service::{Error, Triggers};
use crate::engine::{RunRecord, Update};
use crate::event::dispatch::{self, Chained, ChainedRun};
use crate::event::{Event, select};
use crate::forge::Updates;
use crate::id::RunId;
use crate::run::{Conclusion, RunStatus};
use crate::workflow::model::Workflow;

/// Runs that follow each other through `workflow_run`, the first one not counted.
const LONGEST_CHAIN: usize = 3;
const NAME: &str = "workflow_run";

/// Starts what follows runs until told to stop.
pub async fn run(triggers: Triggers, mut updates: Updates, stop: CancellationToken) {
    loop {
        let update = tokio::select! {
            () = stop.cancelled() => return,
            update = updates.next() => update,
        };
        let run = match update {
            Ok(Some(Update::Run { run, .. })) => run,
            Ok(Some(_)) => continue,
            Ok(None) => return,
            Err(error) => {
                log::error!("it is not known how far runs were followed: {error}");
                continue;
            }
        };
        match follow(&triggers, run).await {
            Ok(_) | Err(Error::Stopping(_) | Error::UnknownSource(_)) => {}
            Err(error) => log::warn!("what follows run {run} could not be started: {error}"),
        }
    }
}

/// Starts what listens to a run as it is now. Gives how many deliveries that made.
///
/// # Errors
/// The store or the repository cannot be read, or a delivery not be handled.
pub async fn follow(triggers: &Triggers, run: RunId) -> Result<usize, Error> {
    let Some(record) = triggers.store().run(run)? else { return Ok(0) };
    let listeners = triggers.listeners(&record.repository, NAME).await?;
    if listeners.is_empty() {
        return Ok(0);
    }
    let Some(spec) = triggers.store().spec(run, record.attempt)? else { return Ok(0) };
    let source = triggers.source(record.repository.as_str())?;
    let repository = triggers.inventory().at_hand(&source).await?;
    let place = triggers.place(&source, &repository, None, &record.actor).await?;
    let chained = chained(&record);
    let mut told = 0;
    for action in stages(&record) {
        let chained = ChainedRun { action, run: &chained, event: &spec.event };
        let event = dispatch::workflow_run(triggers.clock().now(), &place, &chained);
        if !is_wanted(&listeners, &event) {
            continue;
        }
        if depth(triggers, &spec.event)? >= LONGEST_CHAIN {
            log::warn!("run {run} is the end of a chain: at most {LONGEST_CHAIN} runs follow a first one");
            return Ok(told);
        }
        let id = format!("run {run} attempt {} {action}", record.attempt);
        triggers.occurred(NAME, id, event).await?;
        told += 1;
    }
    Ok(told)
}

/// What has become of a run so far. A re-run is not requested again (T6).
fn stages(run: &RunRecord) -> Vec<&'static str> {
    let mut stages = Vec::new();
    if run.attempt == 1 {
        stages.push("requested");
    }
    if run.status == RunStatus::InProgress || run.status == RunStatus::Completed && run.started_at.is_some() {
        stages.push("in_progress");
    }
    if run.status == RunStatus::Completed {
        stages.push("completed");
    }
    stages
}

fn chained(run: &RunRecord) -> Chained {
    Chained {
        id: run.id.0,
        number: run.run_number,
        attempt: run.attempt,
        workflow: run.workflow_name.clone(),
        workflow_path: run.workflow_path.clone(),
        title: run.title.clone(),
        conclusion: run.conclusion.map(Conclusion::as_str),
        actor: run.actor.clone(),
        triggering_actor: run.triggering_actor.clone(),
        created_at: run.created_at,
        started_at: run.started_at,
        updated_at: run.updated_at,
    }
}

fn is_wanted(listeners: &Arc<Vec<Workflow>>, event: &Event) -> bool {
    listeners.iter().any(|workflow| select(workflow, event).selected)
}

/// How many runs led to this event by `workflow_run`; counted no further than matters.
fn depth(triggers: &Triggers, event: &Event) -> Result<usize, Error> {
    let mut depth = 0;
    let mut cause = event.clone();
    while cause.name == NAME && depth < LONGEST_CHAIN {
        depth += 1;
        let before = cause.payload.pointer("/workflow_run/id").and_then(serde_json::Value::as_u64).map(RunId);
        let Some(record) = before.map(|run| triggers.store().run(run)).transpose()?.flatten() else { break };
        let Some(spec) = triggers.store().spec(record.id, record.attempt)? else { break };
        cause = spec.event;
    }
    Ok(depth)
}
