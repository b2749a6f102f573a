//! Pages: HTML rendered from views. Nothing here reads the store; what a page shows is in its struct.

mod log;
mod parts;

use askama::Template;

pub use log::{LogHit, LogLine, LogWindow, rendered};
pub use parts::{
    ArtifactRow, BrokenRow, Chrome, Excerpt, Filter, LevelCard, NoteRow, RunRow, ScheduleRow, Section,
    WaitingEnvironment, job_path, repository_path, run_path, settings_path, workflow_path,
};
use parts::{
    ago, elapsed, filters, host_icon, icon, job_elapsed, moment, role_word, rule_words, running_for, settings_base,
    settings_base_of, shells, step_took, took, when,
};

use jiff::Timestamp;

use crate::engine::record::Review;
use crate::id::{HostName, RepositoryName};
use crate::store::{AuditRecord, TokenRecord};
use crate::transport::Facts;

use super::view::{
    DeliveryView, FlakyStep, HostState, HostView, InputKind, JobView, LetterView, RunView, State, WaitingView,
    WorkflowView, state_with, step_state,
};

/// `/`
#[derive(Template)]
#[template(path = "overview.html", config = ".config/askama.toml")]
pub struct Overview {
    pub chrome: Chrome,
    pub state: State,
    pub headline: String,
    pub detail: String,
    /// The last run of each workflow and branch that is broken.
    pub broken: Vec<BrokenRow>,
    pub running: Vec<RunRow>,
    pub waiting: Vec<WaitingView>,
    pub hosts: Vec<HostView>,
    pub recent: Vec<RunView>,
}

impl Overview {
    /// Answers "is anything broken, what runs, what waits, which machine is free" in one sentence each.
    #[must_use]
    pub fn new(
        chrome: Chrome,
        broken: Vec<BrokenRow>,
        running: Vec<RunRow>,
        waiting: Vec<WaitingView>,
        hosts: Vec<HostView>,
        recent: Vec<RunView>,
    ) -> Self {
        let down = hosts.iter().filter(|host| host.state == HostState::Offline).count();
        let (state, headline) = match (&broken[..], down) {
            ([one], _) => (State::Failure, format!("{} is broken", super::format::cut(&one.run.workflow.name, 60))),
            ([_, ..], _) => (State::Failure, format!("{} workflows are broken", broken.len())),
            ([], 1..) => (State::Allowed, format!("{} down", plural(down, "host"))),
            ([], 0) if !running.is_empty() => (State::Running, format!("{} under way", plural(running.len(), "run"))),
            ([], 0) if recent.is_empty() => (State::Queued, "Ready for the first run".to_owned()),
            ([], 0) => (State::Success, "All is well".to_owned()),
        };
        let free = hosts.iter().filter(|host| host.state == HostState::Online).count();
        let mut detail = match running.len() {
            0 => "Nothing runs".to_owned(),
            n => format!("{} under way", plural(n, "run")),
        };
        detail.push_str(&match waiting.len() {
            0 => ", nothing waits".to_owned(),
            n => format!(", {} waiting", plural(n, "job")),
        });
        detail.push_str(&match free {
            0 if hosts.is_empty() => ". No host is configured.".to_owned(),
            0 => ". No host is free.".to_owned(),
            n => format!(". {} free.", plural(n, "host")),
        });
        Self { chrome, state, headline, detail, broken, running, waiting, hosts, recent }
    }

    fn hosts_up(&self) -> usize {
        hosts_up(&self.hosts)
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn hosts_up(hosts: &[HostView]) -> usize {
    hosts.iter().filter(|host| !matches!(host.state, HostState::Offline | HostState::Unknown)).count()
}

/// `/runs`, `/OWNER/NAME/actions`
#[derive(Template)]
#[template(path = "runs.html", config = ".config/askama.toml")]
pub struct Runs {
    pub chrome: Chrome,
    pub heading: String,
    pub repository: Option<RepositoryName>,
    pub filter: Filter,
    pub total: usize,
    pub runs: Vec<RunView>,
    pub previous: Option<String>,
    pub next: Option<String>,
}

/// The summaries of one job.
pub struct SummaryRow {
    pub job: String,
    /// Cleaned.
    pub html: String,
}

/// `/OWNER/NAME/actions/runs/ID`
#[derive(Template)]
#[template(path = "run.html", config = ".config/askama.toml")]
pub struct Run {
    pub chrome: Chrome,
    pub run: RunView,
    /// How many attempts there are.
    pub attempts: u32,
    pub jobs: Vec<JobView>,
    /// How many jobs stand behind others and are not made yet.
    pub pending: usize,
    pub graph: Option<String>,
    pub excerpts: Vec<Excerpt>,
    pub annotations: Vec<NoteRow>,
    /// What the jobs wrote for people to read, in the order in which they ended.
    pub summaries: Vec<SummaryRow>,
    pub artifacts: Vec<ArtifactRow>,
    /// Environments that jobs wait for, with whether this visitor may speak.
    pub waiting: Vec<WaitingEnvironment>,
}

impl Run {
    /// What reviewers said about this attempt.
    fn reviews(&self) -> Vec<&Review> {
        self.run.reviews.iter().filter(|review| review.attempt == self.run.attempt).collect()
    }

    fn state(&self) -> State {
        state_with(&self.run, &self.jobs)
    }

    /// Waits for someone to let it go: it comes from a fork.
    fn is_held(&self) -> bool {
        self.run.status == super::view::Status::Waiting
    }

    fn failed_jobs(&self) -> usize {
        self.jobs.iter().filter(|job| job.state().is_bad() || job.state() == State::Cancelled).count()
    }
}

/// `/OWNER/NAME/actions/runs/ID/job/JOB`
#[derive(Template)]
#[template(path = "job.html", config = ".config/askama.toml")]
pub struct Job {
    pub chrome: Chrome,
    pub run: RunView,
    pub job: JobView,
    /// All jobs of the attempt, for the list beside.
    pub jobs: Vec<JobView>,
    pub sections: Vec<Section>,
    /// Where following goes on: a byte offset in the log.
    pub end: u64,
    /// The link to the first error.
    pub first_error: Option<String>,
    pub find: String,
    pub hits: Option<Vec<LogHit>>,
    pub more_hits: bool,
}

/// `/queue`
#[derive(Template)]
#[template(path = "queue.html", config = ".config/askama.toml")]
pub struct Queue {
    pub chrome: Chrome,
    /// Nothing starts until it is resumed.
    pub paused: bool,
    pub waiting: Vec<WaitingView>,
}

/// `/hosts`
#[derive(Template)]
#[template(path = "hosts.html", config = ".config/askama.toml")]
pub struct Hosts {
    pub chrome: Chrome,
    pub hosts: Vec<HostView>,
}

impl Hosts {
    fn hosts_up(&self) -> usize {
        hosts_up(&self.hosts)
    }

    fn slots_free(&self) -> u32 {
        let free = self.hosts.iter().filter(|host| matches!(host.state, HostState::Online | HostState::Busy));
        free.map(HostView::free).sum()
    }
}

/// What a look at a host found, in words.
pub struct Looked {
    pub name: String,
    pub words: [String; 3],
    pub obstacles: Vec<String>,
}

impl Looked {
    /// Puts what was found into words.
    #[must_use]
    pub fn at(name: &str, facts: &Facts) -> Self {
        Self { name: name.to_owned(), words: facts.words(), obstacles: facts.obstacles.clone() }
    }
}

/// `/hosts/add`
#[derive(Template)]
#[template(path = "host_add.html", config = ".config/askama.toml")]
pub struct AddHost {
    pub chrome: Chrome,
    pub destination: String,
    pub name: String,
    pub slots: u32,
    pub labels: String,
    /// What the host has to let in.
    pub public_key: Option<String>,
    /// The host's name and the fingerprint of its key, which somebody has to look at.
    pub key: Option<(String, String)>,
    pub added: Option<Looked>,
    pub problem: Option<String>,
}

/// `/hosts/test`
#[derive(Template)]
#[template(path = "host_test.html", config = ".config/askama.toml")]
pub struct TestedHost {
    pub chrome: Chrome,
    pub name: String,
    pub looked: Option<Looked>,
    pub problem: Option<String>,
}

/// `/workflows`
#[derive(Template)]
#[template(path = "workflows.html", config = ".config/askama.toml")]
pub struct Workflows {
    pub chrome: Chrome,
    pub workflows: Vec<WorkflowView>,
}

/// `/OWNER/NAME/actions/workflows/FILE`
#[derive(Template)]
#[template(path = "workflow.html", config = ".config/askama.toml")]
pub struct Workflow {
    pub chrome: Chrome,
    pub workflow: WorkflowView,
    /// Durations and waits as SVG, when there are enough runs.
    pub chart: Option<String>,
    pub flaky: Vec<FlakyStep>,
    /// Why the form that was just sent was refused.
    pub problem: Option<String>,
}

/// `/deliveries`
#[derive(Template)]
#[template(path = "deliveries.html", config = ".config/askama.toml")]
pub struct Deliveries {
    pub chrome: Chrome,
    /// What nobody took, and what is tried again.
    pub letters: Vec<LetterView>,
    pub deliveries: Vec<DeliveryView>,
}

/// `/deliveries/NUMBER`
#[derive(Template)]
#[template(path = "delivery.html", config = ".config/askama.toml")]
pub struct Delivery {
    pub chrome: Chrome,
    pub delivery: DeliveryView,
    /// What came, as text.
    pub body: String,
}

/// `/schedules`
#[derive(Template)]
#[template(path = "schedules.html", config = ".config/askama.toml")]
pub struct Schedules {
    pub chrome: Chrome,
    pub schedules: Vec<ScheduleRow>,
}

/// `/scripts`
#[derive(Template)]
#[template(path = "scripts.html", config = ".config/askama.toml")]
pub struct Scripts {
    pub chrome: Chrome,
    pub hosts: Vec<HostView>,
    pub runs: Vec<RunView>,
    /// What was sent and refused, to be mended.
    pub title: String,
    pub shell: String,
    pub script: String,
    pub chosen: Vec<String>,
    pub problem: Option<String>,
}

impl Scripts {
    fn is_chosen(&self, host: &HostName) -> bool {
        self.hosts.len() == 1 || self.chosen.iter().any(|name| name == host.as_str())
    }
}

/// `/settings` and `/OWNER/NAME/settings`
#[derive(Template)]
#[template(path = "settings.html", config = ".config/askama.toml")]
pub struct Settings {
    pub chrome: Chrome,
    /// `None`: what is for all of them.
    pub repository: Option<RepositoryName>,
    pub repositories: Vec<RepositoryName>,
    pub levels: Vec<LevelCard>,
    pub may_change: bool,
    /// Whether this visitor may change the rules of environments.
    pub may_rule: bool,
}

/// `/tokens`
#[derive(Template)]
#[template(path = "tokens.html", config = ".config/askama.toml")]
pub struct Tokens {
    pub chrome: Chrome,
    pub tokens: Vec<TokenRecord>,
    pub repositories: Vec<RepositoryName>,
    /// Name and value of the one just made.
    pub made: Option<(String, String)>,
}

/// `/audit`
#[derive(Template)]
#[template(path = "audit.html", config = ".config/askama.toml")]
pub struct Audit {
    pub chrome: Chrome,
    pub lines: Vec<AuditRecord>,
    pub previous: Option<String>,
    pub next: Option<String>,
}

/// A share link that was made.
#[derive(Template)]
#[template(path = "shared.html", config = ".config/askama.toml")]
pub struct Shared {
    pub chrome: Chrome,
    pub run: RunView,
    pub link: String,
    pub until: Timestamp,
}

/// `/login`
#[derive(Template)]
#[template(path = "login.html", config = ".config/askama.toml")]
pub struct Login {
    pub chrome: Chrome,
    pub problem: Option<String>,
    /// Where to go afterwards; a path on this server.
    pub next: String,
    /// Whether GitHub may say who somebody is.
    pub github: bool,
}

impl Login {
    fn github_path(&self) -> String {
        format!("/login/github?next={}", super::form::encode(&self.next))
    }
}

/// Something that is not there, or went wrong.
#[derive(Template)]
#[template(path = "message.html", config = ".config/askama.toml")]
pub struct Message {
    pub chrome: Chrome,
    pub heading: String,
    pub text: String,
}
