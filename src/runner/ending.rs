//! How a job ends: what outlives a process that is killed between its last step and the record of its result.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::run::conclusion::Conclusion;
use crate::run::order::Order;
use crate::run::report::{JobResult, StepState};
use crate::transport::{Backoff, JobSpec, Resume, Target, TransportError};

use super::journal::{Entry, OPENED};
use super::{Assignment, JobError, Runner};

/// The journal's last entry: how the job ended. It is durable before the host forgets the job.
pub(super) const RESULT: &str = "result";

/// How often a host is asked to forget a job that a process before this one left there: about two minutes.
const ATTEMPTS: u32 = 10;

/// What [`RESULT`] holds: of what was reported before it, nobody knows how much was heard.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Over {
    #[serde(flatten)]
    pub(super) result: JobResult,
    /// As they were in the end; an earlier version did not record them.
    #[serde(default)]
    pub(super) steps: Vec<StepState>,
}

/// The end of a job that ended before this process began.
pub(super) fn recorded(journal: &[Entry]) -> Option<Over> {
    let entry = journal.iter().rfind(|entry| entry.key == RESULT)?;
    serde_json::from_value(entry.value.clone()).ok()
}

/// What an earlier process left of a job on its host.
pub(super) struct Left {
    target: Target,
    spec: JobSpec,
}

impl Left {
    /// Nothing, when the job was not begun there.
    pub(super) fn of(runner: &Runner, assignment: &Assignment) -> Option<Self> {
        let entries = &assignment.journal;
        let opened = entries.iter().find(|entry| entry.key == OPENED)?.value.clone();
        let (last, (nonce, _)) = (entries.last()?, serde_json::from_value::<(String, u32)>(opened).ok()?);
        let resume = Some(Resume { offset: last.spool, ended: last.ended });
        let spec = JobSpec { key: runner.job_key(&assignment.order), nonce, resume };
        Some(Self { target: assignment.target.clone(), spec })
    }
}

/// Has the host end and forget what is left of a job, if it has not done so.
pub(super) async fn forget(runner: &Runner, left: Option<Left>) -> Result<(), JobError> {
    let Some(Left { target, spec }) = left else { return Ok(()) };
    let mut backoff = Backoff::default();
    for attempt in 1.. {
        match runner.hosts.open_job(&target, spec.clone()).await {
            Ok((host, _events)) => {
                host.sweep_orphans().await?;
                return Ok(host.finish().await?);
            }
            Err(TransportError::Gone { .. }) => break,
            Err(error) if error.is_transient() && attempt < ATTEMPTS => tokio::time::sleep(backoff.next()).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::run::report::StepKind;

    fn entry(key: &str, value: Json) -> Entry {
        Entry { key: key.to_owned(), value, log: 0, lines: 0, spool: 0, ended: 0, beside: None }
    }

    #[test]
    fn the_end_of_a_job_is_found_with_its_steps() {
        let result = failed(&JobError::Forced);
        let step = StepState::new(1, "Set up job".to_owned(), StepKind::SetUp);
        let over = Over { result, steps: vec![step] };
        let recorded_by = |value| {
            // What ran beside the job may have recorded something behind it.
            recorded(&[entry("opened", json!(1)), entry(RESULT, value), entry("3/end", json!(2))])
        };
        assert_eq!(recorded_by(json!(over)), Some(over));
        let earlier = json!(failed(&JobError::Forced));
        assert_eq!(recorded_by(earlier).map(|over| over.steps.len()), Some(0));
        assert_eq!(recorded(&[entry("opened", json!(1))]), None);
    }
}
