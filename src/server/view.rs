//! What pages and the API show: plain data, read from the store and the engine at one moment.

use jiff::{SignedDuration, Timestamp};

use crate::engine::record::Review;
use crate::id::{HostName, JobId, RepositoryName, RunId, stable_id};
use crate::run::Conclusion;
use crate::run::report::{Annotation, StepState};

/// The one vocabulary of states: each has a word, a glyph and a colour, the same on every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Failed, and nobody allowed it to.
    Failure,
    TimedOut,
    /// The host died under it.
    Lost,
    Running,
    /// The host cannot be reached; the steps are thought to go on.
    Detached,
    /// For a person, a timer or a group.
    Waiting,
    Queued,
    Paused,
    /// Failed, as it was allowed to (`continue-on-error`).
    Allowed,
    Cancelled,
    Success,
    Skipped,
}

impl State {
    /// Every state, worst first.
    pub const ALL: [Self; 12] = [
        Self::Failure,
        Self::TimedOut,
        Self::Lost,
        Self::Running,
        Self::Detached,
        Self::Waiting,
        Self::Queued,
        Self::Paused,
        Self::Allowed,
        Self::Cancelled,
        Self::Success,
        Self::Skipped,
    ];

    /// The word shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failed",
            Self::TimedOut => "timed out",
            Self::Lost => "lost",
            Self::Running => "running",
            Self::Detached => "detached",
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Paused => "paused",
            Self::Allowed => "failed, allowed",
            Self::Cancelled => "cancelled",
            Self::Success => "success",
            Self::Skipped => "skipped",
        }
    }

    /// The name of its glyph and of its colour class.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::TimedOut => "timedout",
            Self::Lost => "lost",
            Self::Running => "running",
            Self::Detached => "detached",
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Paused => "paused",
            Self::Allowed => "allowed",
            Self::Cancelled => "cancelled",
            Self::Success => "success",
            Self::Skipped => "skipped",
        }
    }

    /// Nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Running | Self::Detached | Self::Waiting | Self::Queued | Self::Paused)
    }

    /// Someone should look.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failure | Self::TimedOut | Self::Lost)
    }

    fn of(status: Status, conclusion: Option<Conclusion>) -> Self {
        match (status, conclusion) {
            (_, Some(Conclusion::Success | Conclusion::Neutral)) => Self::Success,
            (_, Some(Conclusion::Failure | Conclusion::StartupFailure | Conclusion::Stale)) => Self::Failure,
            (_, Some(Conclusion::Cancelled)) => Self::Cancelled,
            (_, Some(Conclusion::Skipped)) => Self::Skipped,
            (_, Some(Conclusion::TimedOut)) => Self::TimedOut,
            (_, Some(Conclusion::ActionRequired)) | (Status::Waiting | Status::Pending, None) => Self::Waiting,
            (Status::InProgress, None) => Self::Running,
            (Status::Requested | Status::Queued, None) => Self::Queued,
            // A completed thing without a conclusion does not exist; if it did, someone should look.
            (Status::Completed, None) => Self::Failure,
        }
    }
}

/// Where a run or job is, in GitHub's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Requested,
    Queued,
    Pending,
    Waiting,
    InProgress,
    Completed,
}

impl Status {
    /// GitHub's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Queued => "queued",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

/// A workflow as a run names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowName {
    /// The API's workflow id: derived from repository and path, the same on every daemon.
    pub id: u64,
    pub path: String,
    pub name: String,
}

impl WorkflowName {
    /// Names a workflow of a repository.
    #[must_use]
    pub fn new(repository: &RepositoryName, path: &str, name: &str) -> Self {
        Self { id: stable_id(&[repository.as_str(), path]), path: path.to_owned(), name: name.to_owned() }
    }

    /// `ci.yml`
    #[must_use]
    pub fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// One attempt of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    pub id: RunId,
    pub number: u64,
    pub attempt: u32,
    pub repository: RepositoryName,
    pub workflow: WorkflowName,
    pub title: String,
    pub event: String,
    pub git_ref: String,
    pub sha: String,
    pub actor: String,
    pub triggering_actor: String,
    pub status: Status,
    pub conclusion: Option<Conclusion>,
    pub created_at: Timestamp,
    pub started_at: Timestamp,
    pub updated_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    /// Why it could not start, or was cancelled.
    pub messages: Vec<String>,
    pub paused: bool,
    /// What reviewers said about its environments.
    pub reviews: Vec<Review>,
}

impl RunView {
    /// The state shown.
    #[must_use]
    pub fn state(&self) -> State {
        match State::of(self.status, self.conclusion) {
            state if self.paused && !state.is_final() => State::Paused,
            state => state,
        }
    }

    /// Branch or tag without the prefix; a pull request as `#7`.
    #[must_use]
    pub fn branch(&self) -> &str {
        short_ref(&self.git_ref)
    }

    /// From its start to its end, or to now.
    #[must_use]
    pub fn elapsed(&self, now: Timestamp) -> SignedDuration {
        self.completed_at.unwrap_or(now).duration_since(self.started_at).max(SignedDuration::ZERO)
    }
}

/// `refs/heads/main` → `main`.
#[must_use]
pub fn short_ref(git_ref: &str) -> &str {
    git_ref.strip_prefix("refs/heads/").or_else(|| git_ref.strip_prefix("refs/tags/")).unwrap_or(git_ref)
}

/// One job of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    pub id: JobId,
    pub run: RunId,
    pub attempt: u32,
    /// The id in the workflow file; legs of one matrix share it.
    pub key: String,
    pub name: String,
    /// Keys of the jobs it needs.
    pub needs: Vec<String>,
    pub status: Status,
    pub conclusion: Option<Conclusion>,
    pub continue_on_error: bool,
    pub labels: Vec<String>,
    pub host: Option<HostName>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub steps: Vec<StepState>,
    pub annotations: Vec<Annotation>,
    pub environment: Option<String>,
    pub environment_url: Option<String>,
    /// Why it ended, when not by its steps; why it waits, while it does.
    pub reason: Option<String>,
    /// The host cannot be reached: why.
    pub detached: Option<String>,
    /// Where it works on its host, once it is there.
    pub workspace: Option<String>,
    /// It failed and keeps its host until then, or until it is released.
    pub held_until: Option<Timestamp>,
    /// Its host died and it was not tried again.
    pub lost: bool,
}

impl JobView {
    /// The state shown.
    #[must_use]
    pub fn state(&self) -> State {
        match State::of(self.status, self.conclusion) {
            State::Running if self.detached.is_some() => State::Detached,
            State::Failure if self.lost => State::Lost,
            State::Failure if self.continue_on_error => State::Allowed,
            state => state,
        }
    }

    /// From its start to its end, or to now; `None` before it started.
    #[must_use]
    pub fn elapsed(&self, now: Timestamp) -> Option<SignedDuration> {
        let started = self.started_at?;
        Some(self.completed_at.unwrap_or(now).duration_since(started).max(SignedDuration::ZERO))
    }

    /// The first step that failed.
    #[must_use]
    pub fn failed_step(&self) -> Option<&StepState> {
        self.steps.iter().find(|step| step_state(step, true).is_bad())
    }
}

/// A job of which nothing is made yet: it stands behind others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingView {
    /// As of [`JobView::key`].
    pub key: String,
    pub name: String,
    pub needs: Vec<String>,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub jobs: Vec<JobView>,
    /// Jobs of which nothing is made yet.
    pub pending: usize,
    /// Half of the last good runs of its workflow took less.
    pub usual: Option<SignedDuration>,
}

/// The state of a run whose jobs are known: one of which nothing runs waits for what its jobs wait for.
#[must_use]
pub fn state_with(run: &RunView, jobs: &[JobView]) -> State {
    match run.state() {
        State::Running => {
            jobs.iter().map(JobView::state).filter(|state| !state.is_final()).min().unwrap_or(State::Running)
        }
        state => state,
    }
}

/// The state of a step. A step whose failure was allowed has an outcome that its conclusion hides.
#[must_use]
pub fn step_state(step: &StepState, job_is_over: bool) -> State {
    match (step.conclusion, step.outcome) {
        (Some(Conclusion::Success), Some(Conclusion::Failure | Conclusion::TimedOut)) => State::Allowed,
        (Some(conclusion), _) => State::of(Status::Completed, Some(conclusion)),
        (None, _) if step.started_at.is_some() && !job_is_over => State::Running,
        (None, _) if job_is_over => State::Skipped,
        (None, _) => State::Queued,
    }
}

/// How long a step took so far.
#[must_use]
pub fn step_elapsed(step: &StepState, now: Timestamp) -> Option<SignedDuration> {
    let started = step.started_at?;
    Some(step.completed_at.unwrap_or(now).duration_since(started).max(SignedDuration::ZERO))
}

/// A host with what is in its slots.
#[derive(Clone, Debug, PartialEq)]
pub struct HostView {
    pub name: HostName,
    pub address: String,
    pub state: HostState,
    /// One sentence: why it is not online.
    pub reason: Option<String>,
    pub labels: Vec<String>,
    pub slots: u32,
    pub jobs: Vec<SlotView>,
    pub facts: Vec<(String, String)>,
    pub last_seen: Option<Timestamp>,
    pub latency: Option<SignedDuration>,
    /// Of the last minute, and the processors it is for.
    pub load: Option<(f64, u32)>,
    /// What ended here in the last 24 hours.
    pub recent: Vec<Stretch>,
}

/// Whether a host takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    Online,
    Busy,
    Draining,
    Offline,
    /// Never reached yet.
    Unknown,
}

impl HostState {
    /// The word shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Online => "free",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Offline => "offline",
            Self::Unknown => "not yet reached",
        }
    }

    /// The name of its colour class.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Online => "success",
            Self::Busy => "running",
            Self::Draining => "waiting",
            Self::Offline => "failure",
            Self::Unknown => "queued",
        }
    }
}

impl HostView {
    /// The host as a client of some repositories only sees it: how busy it is, not whose or where.
    #[must_use]
    pub fn for_client(mut self, sees_all: bool, sees: impl Fn(&RepositoryName) -> bool) -> Self {
        for slot in self.jobs.iter_mut().filter(|slot| !sees(&slot.repository)) {
            (slot.hidden, slot.name) = (true, "busy".to_owned());
        }
        if !sees_all {
            self.address.clear();
            self.facts.clear();
            self.recent.clear();
            (self.reason, self.last_seen, self.latency, self.load) = (None, None, None, None);
        }
        self
    }
}

/// A job in a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView {
    /// Its run belongs to a repository that the visitor does not see: that it is busy is all that is said.
    pub hidden: bool,
    pub repository: RepositoryName,
    pub run: RunId,
    pub job: JobId,
    pub name: String,
    pub started_at: Option<Timestamp>,
}

/// A stretch of time on a host with how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub from: Timestamp,
    pub to: Timestamp,
    pub state: State,
}

/// A job that waits, and for what.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingView {
    pub repository: RepositoryName,
    pub run: RunId,
    pub job: JobId,
    pub name: String,
    pub title: String,
    pub labels: Vec<String>,
    pub since: Timestamp,
    /// One sentence: what it waits for and what would start it.
    pub reason: String,
    pub state: State,
}

/// A workflow of a repository on its default branch, or as its runs know it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowView {
    pub repository: RepositoryName,
    pub workflow: WorkflowName,
    pub enabled: bool,
    /// `None`: it cannot be dispatched.
    pub inputs: Option<Vec<InputView>>,
    pub default_branch: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Newest first.
    pub recent: Vec<RunView>,
}

/// An input of `workflow_dispatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputView {
    pub name: String,
    pub description: String,
    pub kind: InputKind,
    pub required: bool,
    pub default: String,
}

/// The type of an input decides its field in the form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    Text,
    Number,
    Boolean,
    Choice(Vec<String>),
    Environment(Vec<String>),
}

/// A webhook delivery or another accepted event.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryView {
    /// Its place among all.
    pub number: u64,
    /// What the sender calls it.
    pub id: String,
    pub source: String,
    pub event: String,
    pub repository: String,
    pub at: Timestamp,
    pub state: State,
    pub outcome: String,
    pub runs: Vec<(RepositoryName, RunId)>,
    /// Without secrets and signatures.
    pub headers: Vec<(String, String)>,
    pub body: serde_json::Value,
    /// The number of the one that this repeats.
    pub replay_of: Option<u64>,
}

/// Something that a forge or people are still to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterView {
    pub id: String,
    /// `report`, `deployment` or `notice`.
    pub kind: &'static str,
    pub repository: RepositoryName,
    pub subject: String,
    /// Nobody took it, and it is not tried again by itself.
    pub dead: bool,
    pub attempts: u32,
    pub reason: String,
    /// When it died, or when it is tried next.
    pub at: Timestamp,
}

impl LetterView {
    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        if self.dead { State::Failure } else { State::Queued }
    }
}

/// A schedule with its next times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleView {
    pub repository: RepositoryName,
    /// The path of the workflow file.
    pub workflow: String,
    pub cron: String,
    pub timezone: Option<String>,
    pub next: Vec<Timestamp>,
}

/// A finished run as a point of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunPoint {
    pub number: u64,
    pub state: State,
    pub took: SignedDuration,
    /// The longest that one of its jobs waited for a host.
    pub waited: SignedDuration,
}

/// A step that both failed and passed on the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlakyStep {
    pub job: String,
    pub step: String,
    /// Commits on which it did both.
    pub commits: usize,
    /// Commits on which it failed.
    pub failed: usize,
}

/// What the last runs of a workflow say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowStatistics {
    /// Oldest first.
    pub points: Vec<RunPoint>,
    pub flaky: Vec<FlakyStep>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_own_word_and_class() {
        let words: std::collections::HashSet<_> = State::ALL.iter().map(|state| state.word()).collect();
        let classes: std::collections::HashSet<_> = State::ALL.iter().map(|state| state.class()).collect();
        assert_eq!((words.len(), classes.len()), (State::ALL.len(), State::ALL.len()));
    }

    #[test]
    fn refs_are_shown_short() {
        for (full, short) in
            [("refs/heads/feature/x", "feature/x"), ("refs/tags/v1", "v1"), ("refs/pull/7/merge", "refs/pull/7/merge")]
        {
            assert_eq!(short_ref(full), short);
        }
    }
}
