//! How a job ends: what outlives a process that is killed between its last step and the record of its result.

use serde_json::Map;

use crate::run::conclusion::Conclusion;
use crate::run::order::Order;
use crate::run::report::JobResult;
use crate::transport::{JobSpec, Resume, TransportError};

use super::journal::{Entry, OPENED};
use super::{Assignment, JobError, Runner};

/// The journal's last entry: how the job ended. It is durable before the host forgets the job.
pub(super) const RESULT: &str = "result";

/// The result of a job that ended before this process began.
pub(super) fn recorded(journal: &[Entry]) -> Option<JobResult> {
    let last = journal.last().filter(|entry| entry.key == RESULT)?;
    serde_json::from_value(last.value.clone()).ok()
}

/// Has the host forget a job that ended before this process began, if it has not done so.
pub(super) async fn forget(runner: &Runner, assignment: &Assignment) -> Result<(), JobError> {
    let entries = &assignment.journal;
    let opened = entries.iter().find(|entry| entry.key == OPENED).map(|entry| entry.value.clone());
    let (Some(opened), Some(last)) = (opened, entries.last()) else { return Ok(()) };
    let (nonce, _): (String, u32) =
        serde_json::from_value(opened).map_err(|error| JobError::Journal(error.to_string()))?;
    let resume = Some(Resume { offset: last.spool, ended: last.ended });
    let spec = JobSpec { key: runner.job_key(&assignment.order), nonce, resume };
    match runner.hosts.open_job(&assignment.target, spec).await {
        Ok((host, _events)) => Ok(host.finish().await?),
        Err(TransportError::Gone { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is left on a host is collected after some days.
pub(super) fn stays(order: &Order, host: &str, error: &JobError) {
    log::warn!(job = order.job.0, host = host; "the job's directory stays on the host: {error}");
}

/// The result of a job in which this program met a fault of its own.
pub(super) fn broken() -> JobResult {
    JobResult {
        conclusion: Conclusion::Failure,
        outputs: Map::new(),
        environment_url: None,
        reason: Some("a fault of this program ended the job; the daemon's log says where".to_owned()),
        host_lost: false,
    }
}

/// The result of a job that could not go on.
pub(super) fn failed(error: &JobError) -> JobResult {
    let host_lost = matches!(
        error,
        JobError::Lost { host_died: true, .. } | JobError::Transport(TransportError::Gone { host_died: true, .. })
    );
    JobResult {
        conclusion: if matches!(error, JobError::Forced) { Conclusion::Cancelled } else { Conclusion::Failure },
        outputs: Map::new(),
        environment_url: None,
        reason: Some(error.to_string()),
        host_lost,
    }
}
