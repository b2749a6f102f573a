//! The journal's account of runs and jobs: one record for each that starts or ends, with the fields to find it by.

use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::engine::Update;
use crate::run::{Conclusion, JobPhase, RunStatus};

/// Writes until told to stop. What a burst pushes out of the channel is missing here, never in the store.
pub(super) async fn write(mut updates: broadcast::Receiver<Update>, stop: CancellationToken) {
    loop {
        let update = tokio::select! {
            () = stop.cancelled() => return,
            update = updates.recv() => update,
        };
        match update {
            Ok(update) => record(&update),
            Err(RecvError::Lagged(missed)) => log::warn!("{missed} changes of runs and jobs are not in this journal"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn record(update: &Update) {
    match update {
        Update::Run { run, attempt, repository, workflow_path, status, conclusion } => {
            let what = match (status, conclusion) {
                (RunStatus::Completed, Some(conclusion)) => format!("ended with {conclusion}"),
                (RunStatus::InProgress, _) => "has begun".to_owned(),
                _ => return,
            };
            log::log!(
                level(*conclusion),
                run = run.0, attempt = *attempt, repository:% = repository, workflow = workflow_path.as_str();
                "run {run} ({workflow_path} of {repository}) {what}"
            );
        }
        Update::Job { run, job, name, phase: JobPhase::Completed, conclusion: Some(conclusion), host, .. } => {
            let place = host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
            let host = host.as_ref().map_or("", |host| host.as_str());
            log::log!(
                level(Some(*conclusion)),
                run = run.0, job = job.0, host = host;
                "job {job} ({name}) of run {run}{place} ended with {conclusion}"
            );
        }
        _ => {}
    }
}

/// A job that fails is news of the job, not of the daemon: never more than a warning.
fn level(conclusion: Option<Conclusion>) -> log::Level {
    match conclusion {
        None | Some(Conclusion::Success | Conclusion::Skipped | Conclusion::Neutral | Conclusion::Cancelled) => {
            log::Level::Info
        }
        Some(_) => log::Level::Warn,
    }
}
