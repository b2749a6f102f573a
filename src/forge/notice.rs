//! Telling people how a run ended: by webhook, mail or a command (`[[notify]]`).
//!
//! Who is told what is decided when a run ends; the outbox does the rest. A notice names its way to people by a digest,
//! and the way itself is read from the configuration when it is sent: no address or secret is kept with it.

mod command;
mod mail;
mod webhook;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::updates::Updates;
use super::{Error, reporter};
use crate::config::{Notify, NotifyHow, NotifyOn};
use crate::engine::{RunRecord, Update};
use crate::event::filters::Patterns;
use crate::event::ref_name;
use crate::id::{RepositoryName, RunId};
use crate::run::{Conclusion, RunStatus};
use crate::store::{Store, StoreError};

/// Names of failed jobs that are told; more say nothing more.
const JOBS_TOLD: usize = 20;

/// The `[[notify]]` tables as they are now.
pub type Ways = Arc<dyn Fn() -> Vec<Notify> + Send + Sync>;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Digest of the way it goes.
    pub way: String,
    pub repository: RepositoryName,
    pub run: RunId,
    pub run_number: u64,
    pub attempt: u32,
    pub workflow: String,
    pub workflow_path: String,
    pub title: String,
    pub event: String,
    pub git_ref: String,
    pub sha: String,
    pub actor: String,
    pub conclusion: Conclusion,
    /// The run before it, of the same workflow and ref, had failed.
    pub recovered: bool,
    pub url: String,
    /// Jobs that did not succeed.
    pub failed_jobs: Vec<String>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
}

impl Notice {
    /// `app: CI failed on main`.
    #[must_use]
    pub fn headline(&self) -> String {
        let word = match self.conclusion {
            Conclusion::Success | Conclusion::Neutral if self.recovered => "works again",
            Conclusion::Success | Conclusion::Neutral => "succeeded",
            Conclusion::Failure => "failed",
            Conclusion::StartupFailure => "could not start",
            Conclusion::TimedOut => "took too long",
            Conclusion::Cancelled | Conclusion::Stale => "was cancelled",
            Conclusion::Skipped => "was skipped",
            Conclusion::ActionRequired => "waits for somebody",
        };
        format!("{}: {} {word} on {}", self.repository, self.workflow, ref_name(&self.git_ref))
    }

    /// The lines under the headline.
    #[must_use]
    pub fn details(&self) -> String {
        let mut lines = vec![self.title.clone()];
        if !self.failed_jobs.is_empty() {
            lines.push(format!("Failed: {}", self.failed_jobs.join(", ")));
        }
        let commit = self.sha.get(..7).unwrap_or(&self.sha);
        let mut last = format!("Run #{} of {commit} by {} ({})", self.run_number, self.actor, self.event);
        if let Some(took) = self.started_at.zip(self.completed_at) {
            last.push_str(&format!(" in {}", reporter::time(took.1.duration_since(took.0).as_secs())));
        }
        lines.push(last);
        lines.join("\n")
    }

    fn is_good(&self) -> bool {
        is_good(self.conclusion)
    }
}

fn is_good(conclusion: Conclusion) -> bool {
    matches!(conclusion, Conclusion::Success | Conclusion::Neutral)
}

fn is_bad(conclusion: Conclusion) -> bool {
    matches!(conclusion, Conclusion::Failure | Conclusion::TimedOut | Conclusion::StartupFailure)
}

/// Whether somebody is told. `before` is how the run before it ended, if it said anything about the code.
#[must_use]
fn is_told(on: NotifyOn, conclusion: Conclusion, before: Option<Conclusion>) -> bool {
    let recovered = is_good(conclusion) && before.is_some_and(is_bad);
    match on {
        NotifyOn::Always => true,
        NotifyOn::Failure => is_bad(conclusion),
        NotifyOn::Recovery => recovered,
        NotifyOn::Change => is_bad(conclusion) || recovered,
    }
}

/// Whether a table means this run at all.
fn means(notify: &Notify, run: &RunRecord) -> bool {
    let file = run.workflow_path.rsplit('/').next().unwrap_or_default();
    let workflow = |wanted: &String| *wanted == run.workflow_name || *wanted == run.workflow_path || wanted == file;
    let repository = |wanted: &RepositoryName| {
        let full = format!("{}/{}", wanted.owner(), wanted.name());
        full.eq_ignore_ascii_case(run.repository.as_str())
    };
    (notify.repositories.is_empty() || notify.repositories.iter().any(repository))
        && (notify.workflows.is_empty() || notify.workflows.iter().any(workflow))
        && (notify.branches.is_empty() || Patterns::new(&notify.branches).matches(ref_name(&run.git_ref)))
}

/// What tells one way from another, without being one: what a notice of it is addressed with.
#[must_use]
pub fn way(notify: &Notify) -> String {
    digest(&notify.how)
}

fn digest(how: &NotifyHow) -> String {
    let text = match how {
        NotifyHow::Webhook { url, shape, .. } => format!("webhook {shape:?} {url}"),
        NotifyHow::Command(words) => format!("command {}", words.join("\0")),
        NotifyHow::Mail(mail) => format!("mail {} {}", mail.server, mail.to.join(" ")),
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a notice the way it names. `false`: there is no such way any more.
///
/// # Errors
/// It did not arrive.
pub(super) async fn send(notice: &Notice, ways: &[Notify]) -> Result<bool, Error> {
    let Some(notify) = ways.iter().find(|notify| digest(&notify.how) == notice.way) else { return Ok(false) };
    match &notify.how {
        NotifyHow::Webhook { url, shape, secret } => webhook::send(notice, url, *shape, secret.as_ref()).await?,
        NotifyHow::Mail(mail) => mail::send(notice, mail).await?,
        NotifyHow::Command(words) => command::run(notice, words).await?,
    }
    Ok(true)
}

/// Subscribes to updates and fills the outbox with notices.
pub struct Notifier {
    pub store: Store,
    pub outbox: Outbox,
    pub ways: Ways,
    /// The daemon's address, for links.
    pub server_url: String,
}

impl Notifier {
    /// Tells until told to stop.
    pub async fn run(self, mut updates: Updates, stop: CancellationToken) {
        loop {
            let update = tokio::select! {
                () = stop.cancelled() => return,
                update = updates.next() => update,
            };
            let told = match update {
                Ok(Some(Update::Run { run, status: RunStatus::Completed, .. })) => self.tell(run).await,
                Ok(Some(_)) => continue,
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                log::error!("a notification was not kept: {error}");
            }
        }
    }

    /// Puts what people should know of a run that ended into the outbox; said twice, it is told once.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn tell(&self, run: RunId) -> Result<(), StoreError> {
        let ways = (self.ways)();
        if ways.is_empty() {
            return Ok(());
        }
        let Some(record) = self.store.run(run)? else { return Ok(()) };
        let Some(conclusion) = record.conclusion else { return Ok(()) };
        let meant: Vec<&Notify> = ways.iter().filter(|notify| means(notify, &record)).collect();
        if meant.is_empty() {
            return Ok(());
        }
        let before = self.before(&record)?;
        let mut jobs = None;
        for notify in meant.into_iter().filter(|notify| is_told(notify.on, conclusion, before)) {
            let failed_jobs = match &jobs {
                Some(jobs) => jobs,
                None => jobs.insert(self.failed_jobs(&record)?),
            };
            self.outbox
                .put_notice(Notice {
                    way: digest(&notify.how),
                    repository: record.repository.clone(),
                    run,
                    run_number: record.run_number,
                    attempt: record.attempt,
                    workflow: record.workflow_name.clone(),
                    workflow_path: record.workflow_path.clone(),
                    title: record.title.clone(),
                    event: record.event.clone(),
                    git_ref: record.git_ref.clone(),
                    sha: record.sha.clone(),
                    actor: record.triggering_actor.clone(),
                    conclusion,
                    recovered: is_good(conclusion) && before.is_some_and(is_bad),
                    url: reporter::address(&record, &self.server_url),
                    failed_jobs: failed_jobs.clone(),
                    started_at: record.started_at,
                    completed_at: record.completed_at,
                })
                .await?;
        }
        Ok(())
    }

    fn failed_jobs(&self, run: &RunRecord) -> Result<Vec<String>, StoreError> {
        let jobs = self.store.jobs(run.id, run.attempt)?;
        let failed = jobs.into_iter().filter(|job| job.state.conclusion.is_some_and(is_bad));
        Ok(failed.map(|job| job.state.name).take(JOBS_TOLD).collect())
    }

    /// How the attempt before, or the run before of the same workflow and ref, ended.
    fn before(&self, run: &RunRecord) -> Result<Option<Conclusion>, StoreError> {
        if run.attempt > 1 {
            let graph = self.store.graph(run.id, run.attempt - 1)?;
            return Ok(graph.and_then(|graph| graph.conclusion));
        }
        self.store.conclusion_before(run, |conclusion| is_good(conclusion) || is_bad(conclusion))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_bad, is_told};
    use crate::config::NotifyOn;
    use crate::run::Conclusion;

    #[test]
    fn who_is_told_when() {
        use Conclusion::{Cancelled, Failure, Success, TimedOut};
        for (on, conclusion, before, expect) in [
            (NotifyOn::Change, Failure, None, true),
            (NotifyOn::Change, Failure, Some(Failure), true),
            (NotifyOn::Change, Success, None, false),
            (NotifyOn::Change, Success, Some(Success), false),
            (NotifyOn::Change, Success, Some(TimedOut), true),
            (NotifyOn::Change, Cancelled, Some(Failure), false),
            (NotifyOn::Failure, Success, Some(Failure), false),
            (NotifyOn::Failure, TimedOut, None, true),
            (NotifyOn::Recovery, Success, Some(Failure), true),
            (NotifyOn::Recovery, Failure, Some(Success), false),
            (NotifyOn::Always, Cancelled, None, true),
        ] {
            assert_eq!(is_told(on, conclusion, before), expect, "{on:?} {conclusion:?} after {before:?}");
        }
        assert!(!is_bad(Cancelled));
    }
}
