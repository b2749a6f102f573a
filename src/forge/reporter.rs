//! From what changes in runs to reports.

use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, SourceOf};
use super::updates::Updates;
use super::{Deployment, Report, State, reports};
use crate::config::SourceKind;
use crate::engine::Update;
use crate::engine::record::{JobRecord, RunRecord};
use crate::id::{RepositoryName, RunId};
use crate::run::Conclusion;
use crate::store::logs::LogId;
use crate::store::{Store, StoreError};

/// Subscribes to updates and fills the outbox.
pub struct Reporter {
    pub store: Store,
    pub outbox: Outbox,
    pub source_of: SourceOf,
    /// The daemon's address, for links.
    pub server_url: String,
}

impl Reporter {
    /// Reports until told to stop.
    pub async fn run(self, mut updates: Updates, stop: CancellationToken) {
        loop {
            let update = tokio::select! {
                () = stop.cancelled() => return,
                update = updates.next() => update,
            };
            let told = match update {
                Ok(Some(update)) => self.tell(&update).await,
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                log::error!("a report to a forge was not kept: {error}");
            }
        }
    }

    /// Puts what an update means for a forge into the outbox.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn tell(&self, update: &Update) -> Result<(), StoreError> {
        match update {
            Update::Job { run, job, .. } => {
                let (Some(run), Some(job)) = (self.known(*run)?, self.store.job(*job)?) else { return Ok(()) };
                let mut report = job_report(&run, &job, &self.server_url);
                if matches!(report.state, State::Ended(_)) {
                    // What steps wrote for people to read comes first (W3).
                    let log = LogId { run: run.id, attempt: job.attempt, job: job.state.id };
                    let written = self.store.logs().summaries(log)?;
                    let texts: Vec<String> = written.into_iter().map(|summary| summary.text).collect();
                    if !texts.is_empty() {
                        report.summary = format!("{}\n\n{}", texts.join("\n\n"), report.summary);
                    }
                }
                self.outbox.put(report).await?;
                match deployment(&run, &job, &self.server_url).filter(|_| self.is_github(&run.repository)) {
                    Some(deployment) => self.outbox.put_deployment(deployment).await,
                    None => Ok(()),
                }
            }
            // A run that never had a job: nothing else would say that the file is broken.
            Update::Run { run, conclusion: Some(Conclusion::StartupFailure), .. } => {
                let Some(run) = self.known(*run)? else { return Ok(()) };
                self.outbox.put(run_report(&run, &self.server_url)).await
            }
            _ => Ok(()),
        }
    }

    fn is_github(&self, repository: &RepositoryName) -> bool {
        (self.source_of)(repository).is_some_and(|source| source.kind == SourceKind::GitHub)
    }

    /// The run, if there is a forge to tell.
    fn known(&self, run: RunId) -> Result<Option<RunRecord>, StoreError> {
        let Some(mut run) = self.store.run(run)? else { return Ok(None) };
        if !(self.source_of)(&run.repository).is_some_and(|source| reports(&source)) {
            return Ok(None);
        }
        if run.event.starts_with("pull_request")
            && let Some(spec) = self.store.spec(run.id, run.attempt)?
            && let Some(head) = spec.event.payload.pointer("/pull_request/head/sha").and_then(serde_json::Value::as_str)
        {
            // The merge commit is on no branch: the pull request shows what its own head has.
            head.clone_into(&mut run.sha);
        }
        Ok(Some(run))
    }
}

/// What a forge is told about a job.
#[must_use]
pub fn job_report(run: &RunRecord, job: &JobRecord, server_url: &str) -> Report {
    let state = State::of(job.state.phase, job.state.conclusion);
    let step = job.state.steps.iter().rev().find(|step| step.started_at.is_some() && step.completed_at.is_none());
    let description = match (state, &job.state.reason) {
        (State::Queued, _) => "Waits for a host".to_owned(),
        (State::Running, _) => step.map_or_else(|| "Runs".to_owned(), |step| step.name.clone()),
        (State::Ended(_), Some(reason)) => reason.clone(),
        (State::Ended(conclusion), None) => {
            let seconds = job.state.started_at.zip(job.state.completed_at);
            let took = seconds.map(|(from, to)| to.duration_since(from).as_secs());
            took.map_or_else(|| ended(conclusion).to_owned(), |took| format!("{} in {}", ended(conclusion), time(took)))
        }
    };
    Report {
        context: format!("{} / {} ({})", run.workflow_name, job.state.name, run.event),
        url: format!("{}/job/{}", address(run, server_url), job.state.id),
        external_id: job.state.id.to_string(),
        started_at: job.state.started_at,
        completed_at: job.state.completed_at,
        annotations: job.state.annotations.clone(),
        summary: summary(run, job),
        ..about(run, state, description)
    }
}

/// How the deployment of a job stands, if it is one and has begun (G1).
pub(super) fn deployment(run: &RunRecord, job: &JobRecord, server_url: &str) -> Option<Deployment> {
    let state = State::of(job.state.phase, job.state.conclusion);
    let begun = job.state.started_at.is_some() && state != State::Queued;
    let environment = job.state.environment.clone().filter(|_| job.state.deploys && begun)?;
    let report = job_report(run, job, server_url);
    Some(Deployment {
        repository: run.repository.clone(),
        sha: run.sha.clone(),
        environment,
        job: job.state.id.to_string(),
        state,
        // Which step runs is no news of a deployment.
        description: if matches!(state, State::Ended(_)) { report.description } else { String::new() },
        url: report.url,
        environment_url: job.state.environment_url.clone(),
    })
}

/// A table of the steps, under a line about the run.
fn summary(run: &RunRecord, job: &JobRecord) -> String {
    let mut text = format!("{} #{}, attempt {}", run.workflow_name, run.run_number, run.attempt);
    if let Some(host) = &job.state.host {
        text.push_str(&format!(", on `{host}`"));
    }
    if let Some(reason) = &job.state.reason {
        text.push_str(&format!("\n\n{reason}"));
    }
    let ended = job.state.steps.iter().filter(|step| step.completed_at.is_some());
    let rows: Vec<String> = ended
        .map(|step| {
            // A bar would end the cell, a line end the row.
            let name: String = step.name.replace('|', "\\|").chars().filter(|c| !c.is_control()).collect();
            let word = step.conclusion.map_or("", Conclusion::as_str);
            let took = step.started_at.zip(step.completed_at).map(|(from, to)| time(to.duration_since(from).as_secs()));
            format!("| {name} | {word} | {} |", took.unwrap_or_default())
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&format!("\n\n| Step | Result | Time |\n|---|---|---|\n{}", rows.join("\n")));
    }
    text
}

/// What a forge is told about a run that has no jobs.
#[must_use]
pub fn run_report(run: &RunRecord, server_url: &str) -> Report {
    let state = State::Ended(run.conclusion.unwrap_or(Conclusion::StartupFailure));
    Report { url: address(run, server_url), ..about(run, state, "The workflow file is not valid".to_owned()) }
}

fn about(run: &RunRecord, state: State, description: String) -> Report {
    Report {
        repository: run.repository.clone(),
        sha: run.sha.clone(),
        context: format!("{} ({})", run.workflow_name, run.event),
        state,
        summary: description.clone(),
        description,
        url: String::new(),
        external_id: format!("run-{}", run.id),
        started_at: run.started_at,
        completed_at: run.completed_at,
        annotations: Vec::new(),
    }
}

pub(super) fn address(run: &RunRecord, server_url: &str) -> String {
    let server = server_url.trim_end_matches('/');
    format!("{server}/{}/{}/actions/runs/{}", run.repository.owner(), run.repository.name(), run.id)
}

fn ended(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success | Conclusion::Neutral => "Successful",
        Conclusion::Failure | Conclusion::StartupFailure => "Failing",
        Conclusion::Cancelled | Conclusion::Stale => "Cancelled",
        Conclusion::Skipped => "Skipped",
        Conclusion::TimedOut => "Timed out",
        Conclusion::ActionRequired => "Waits for somebody",
    }
}

/// GitHub's way: `42s`, `3m`.
pub(super) fn time(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m", seconds / 60) }
}
