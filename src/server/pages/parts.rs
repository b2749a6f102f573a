//! What several pages have in common: the frame, glyphs, addresses, times.

use std::borrow::Borrow;
use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use crate::engine::record::EnvironmentRules;
use crate::id::{JobId, RepositoryName, RunId};
use crate::run::report::{Annotation, AnnotationLevel, StepState};
use crate::server::auth::Role;
use crate::server::view::{
    HostState, HostView, InputView, JobView, Progress, RunView, ScheduleView, State, WorkflowName, WorkflowView,
    state_with, step_elapsed,
};
use crate::server::{assets, format};
use crate::store;
use crate::vault::Entry;

use super::log::{LogLine, LogWindow};

/// The frame around a page: who looks, when, and where in the menu.
#[derive(Clone, Debug)]
pub struct Chrome {
    pub now: Timestamp,
    /// The menu entry this page belongs to.
    pub here: &'static str,
    pub user: Option<String>,
    pub role: Role,
    /// Signed in by a cookie, so there is something to sign out of.
    pub session: bool,
    pub csrf: String,
    /// Whether the page listens for updates, and of which run.
    pub live: bool,
    pub live_query: String,
}

impl Chrome {
    pub(super) fn style(&self) -> String {
        assets::style_path()
    }

    pub(super) fn script(&self) -> String {
        assets::script_path()
    }

    pub(super) fn sprite(&self) -> &'static str {
        assets::SPRITE
    }

    pub(super) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    pub(super) fn is_admin(&self) -> bool {
        self.role >= Role::Admin
    }

    pub(super) fn may_operate(&self) -> bool {
        self.role >= Role::Operator
    }

    /// The menu: what this visitor may open.
    pub(super) fn nav(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            ("Overview", "/", Role::Viewer),
            ("Runs", "/runs", Role::Viewer),
            ("Workflows", "/workflows", Role::Viewer),
            ("Queue", "/queue", Role::Viewer),
            ("Hosts", "/hosts", Role::Viewer),
            ("Schedules", "/schedules", Role::Viewer),
            ("Deliveries", "/deliveries", Role::Viewer),
            ("Scripts", "/scripts", Role::Admin),
            ("Settings", "/settings", Role::Operator),
        ];
        all.into_iter().filter(|(.., role)| self.role >= *role).map(|(name, path, _)| (name, path)).collect()
    }
}

/// What the list of runs is narrowed to; empty strings mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub q: String,
    pub status: String,
    pub branch: String,
    pub event: String,
    pub actor: String,
    /// The workflow's file name.
    pub workflow: String,
}

impl Filter {
    /// Whether anything is narrowed.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    pub(super) fn statuses(&self) -> [(&'static str, &'static str); 9] {
        [
            ("", "all"),
            ("in_progress", "running"),
            ("queued", "queued"),
            ("waiting", "waiting"),
            ("failure", "failed"),
            ("success", "success"),
            ("cancelled", "cancelled"),
            ("timed_out", "timed out"),
            ("skipped", "skipped"),
        ]
    }
}

/// A run that is not over, with how far it is.
#[derive(Clone, Debug)]
pub struct RunRow {
    pub run: RunView,
    pub progress: Progress,
}

impl RunRow {
    pub(super) fn state(&self) -> State {
        state_with(&self.run, &self.progress.jobs)
    }

    pub(super) fn done(&self) -> usize {
        self.progress.jobs.iter().filter(|job| job.state().is_final()).count()
    }

    /// Jobs of which nothing is made yet may become several; they count as one.
    pub(super) fn count(&self) -> usize {
        self.progress.jobs.len() + self.progress.pending
    }

    pub(super) fn states(&self) -> impl Iterator<Item = State> {
        let made = self.progress.jobs.iter().map(JobView::state);
        made.chain(std::iter::repeat_n(State::Skipped, self.progress.pending))
    }

    pub(super) fn usual(&self) -> Option<String> {
        self.progress.usual.map(format::duration)
    }

    /// What goes on now: the step, its job and host.
    pub(super) fn now_at(&self) -> Option<String> {
        let mut at = self.progress.jobs.iter().filter(|job| matches!(job.state(), State::Running | State::Detached));
        let first = at.next()?;
        let step = first.steps.iter().rev().find(|step| step.started_at.is_some() && step.conclusion.is_none());
        let mut text = step.map_or_else(|| first.name.clone(), |step| format!("{} in {}", step.name, first.name));
        if let Some(host) = &first.host {
            let _ = write!(text, " on {host}");
        }
        match at.count() {
            0 => {}
            1 => text.push_str(", and 1 more job"),
            more => {
                let _ = write!(text, ", and {more} more jobs");
            }
        }
        Some(text)
    }
}

/// A workflow whose last run failed, and where.
#[derive(Clone, Debug)]
pub struct BrokenRow {
    pub run: RunView,
    /// To the log of the step that failed.
    pub link: Option<String>,
    pub place: String,
    /// The first thing it complained of.
    pub said: String,
}

impl BrokenRow {
    /// Finds the step that failed among the jobs of a run.
    #[must_use]
    pub fn new(run: RunView, jobs: &[JobView]) -> Self {
        let failed = jobs.iter().find(|job| job.state().is_bad());
        let Some(job) = failed else {
            let said = run.messages.first().cloned().unwrap_or_default();
            return Self { run, link: None, place: String::new(), said };
        };
        let link = job_path(&run.repository, &run.id, &job.id);
        let complaint = job.annotations.iter().find(|note| note.level == AnnotationLevel::Failure);
        let said = complaint.map(|note| note.message.lines().next().unwrap_or_default().to_owned());
        let said = said.or_else(|| job.reason.clone()).unwrap_or_default();
        match job.failed_step() {
            Some(step) => Self {
                link: Some(format!("{link}?step={0}#step-{0}", step.number)),
                place: format!("{} in {}", step.name, job.name),
                said,
                run,
            },
            None => Self { link: Some(link), place: format!("{} {}", job.name, job.state().word()), said, run },
        }
    }
}

/// The end of the step that failed, readable without a click.
#[derive(Clone, Debug)]
pub struct Excerpt {
    pub state: State,
    pub job: String,
    pub step: String,
    pub link: String,
    pub lines: Vec<LogLine>,
    /// Said when there are no lines.
    pub reason: String,
}

impl Excerpt {
    pub(super) fn html(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            line.write(&mut out, "x");
        }
        out
    }
}

/// An annotation with the job that said it.
#[derive(Clone, Debug)]
pub struct NoteRow {
    pub job: String,
    pub annotation: Annotation,
}

impl NoteRow {
    fn state(&self) -> State {
        match self.annotation.level {
            AnnotationLevel::Failure => State::Failure,
            AnnotationLevel::Warning => State::Allowed,
            AnnotationLevel::Notice => State::Running,
        }
    }

    pub(super) fn class(&self) -> &'static str {
        self.state().class()
    }

    pub(super) fn word(&self) -> &'static str {
        match self.annotation.level {
            AnnotationLevel::Failure => "error",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Notice => "notice",
        }
    }

    pub(super) fn icon(&self) -> String {
        match self.annotation.level {
            AnnotationLevel::Notice => glyph("queued", "notice", false),
            _ => icon(self.state()),
        }
    }

    pub(super) fn place(&self) -> Option<String> {
        let file = self.annotation.file.as_ref()?;
        Some(self.annotation.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}")))
    }
}

/// Secrets and variables of one level, with the rules when it is an environment.
#[derive(Clone, Debug)]
pub struct LevelCard {
    pub environment: Option<String>,
    pub rules: Option<EnvironmentRules>,
    pub secrets: Vec<Entry>,
    pub variables: Vec<Entry>,
}

impl LevelCard {
    /// Part of the address, heading, entries.
    pub(super) fn kinds(&self) -> [(&'static str, &'static str, &[Entry]); 2] {
        [("secrets", "Secrets", &self.secrets), ("variables", "Variables", &self.variables)]
    }

    pub(super) fn name(&self) -> &str {
        self.environment.as_deref().unwrap_or_default()
    }
}

/// A schedule with its workflow.
#[derive(Clone, Debug)]
pub struct ScheduleRow {
    pub schedule: ScheduleView,
    pub workflow: WorkflowName,
    pub enabled: bool,
    pub last: Option<RunView>,
}

/// An environment that jobs of a run wait for.
#[derive(Clone, Debug)]
pub struct WaitingEnvironment {
    pub name: String,
    pub reviewers: Vec<String>,
    /// Whether an approval is what is missing, rather than time.
    pub wants_approval: bool,
    pub may_review: bool,
}

/// An artifact in the list.
#[derive(Clone, Debug)]
pub struct ArtifactRow {
    pub name: String,
    pub size: String,
    pub link: String,
    pub until: Timestamp,
}

/// A step on the page of a job.
#[derive(Clone, Debug)]
pub struct Section {
    pub step: StepState,
    pub state: State,
    pub open: bool,
    /// `None`: not in the page, loaded when opened.
    pub window: Option<LogWindow>,
}

/// The glyph of a state, with its word for those who do not see it.
pub(super) fn icon(state: impl Borrow<State>) -> String {
    let state = state.borrow();
    glyph(state.class(), state.word(), *state == State::Running)
}

/// The glyph of a host.
pub(super) fn host_icon(state: &HostState) -> String {
    glyph(state.class(), state.word(), false)
}

fn glyph(class: &str, word: &str, moving: bool) -> String {
    let moving = if moving { " spin" } else { "" };
    format!("<svg class=\"i{moving}\" role=\"img\" aria-label=\"{word}\"><use href=\"#i-{class}\"/></svg>")
}

/// Where the page of a run is.
#[must_use]
pub fn run_path(run: &RunView) -> String {
    format!("{}/runs/{}", repository_path(&run.repository), run.id)
}

/// Where the page of a job is.
#[must_use]
pub fn job_path(repository: &RepositoryName, run: &RunId, job: &JobId) -> String {
    format!("{}/runs/{run}/job/{job}", repository_path(repository))
}

/// Where the runs of a repository are listed.
#[must_use]
pub fn repository_path(repository: &RepositoryName) -> String {
    format!("/{}/{}/actions", segment(repository.owner()), segment(repository.name()))
}

/// Where the page of a workflow is.
#[must_use]
pub fn workflow_path(repository: &RepositoryName, workflow: &WorkflowName) -> String {
    format!("{}/workflows/{}", repository_path(repository), segment(workflow.file()))
}

/// Where secrets, variables and environments of a repository are.
#[must_use]
pub fn settings_path(repository: &RepositoryName) -> String {
    format!("/{}/{}/settings", segment(repository.owner()), segment(repository.name()))
}

/// Where forms of settings are sent: of a repository, or of all.
pub(super) fn settings_base(repository: &Option<RepositoryName>) -> String {
    repository.as_ref().map_or_else(|| "/settings".to_owned(), settings_path)
}

/// As [`settings_base`], where there is a repository.
pub(super) fn settings_base_of(repository: &RepositoryName) -> String {
    settings_path(repository)
}

/// The rules of an environment in words.
pub(super) fn rule_words(rules: &EnvironmentRules) -> Vec<String> {
    let mut words = Vec::new();
    if !rules.reviewers.is_empty() {
        let own = if rules.prevent_self_review { ", never who started it" } else { "" };
        words.push(format!("approved by {}{own}", rules.reviewers.join(" or ")));
    }
    if rules.wait_minutes > 0 {
        words.push(format!("waits {} min", rules.wait_minutes));
    }
    if !rules.branches.is_empty() {
        words.push(format!("only {}", rules.branches.join(", ")));
    }
    if words.is_empty() {
        words.push("no rules".to_owned());
    }
    words
}

pub(super) fn role_word(role: &store::Role) -> &'static str {
    Role::from(*role).as_str()
}

/// Shells a script may be for.
pub(super) fn shells() -> [(&'static str, &'static str); 5] {
    [("", "default: bash, else sh"), ("sh", "sh"), ("bash", "bash"), ("python", "Python"), ("pwsh", "PowerShell")]
}

/// One path segment, percent-encoded.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// "2 min ago", with the exact time on hover; the script keeps it current.
pub(super) fn ago(now: &Timestamp, then: &Timestamp) -> String {
    format!(
        "<time datetime=\"{}\" title=\"{}\" data-ago data-now=\"{}\">{}</time>",
        format::api(*then),
        format::exact(*then),
        format::api(*now),
        format::ago(*now, *then)
    )
}

/// "in 2h 05m", with the exact time on hover.
pub(super) fn when(now: &Timestamp, then: &Timestamp) -> String {
    format!(
        "<time datetime=\"{}\" title=\"{}\">{}</time>",
        format::api(*then),
        format::exact(*then),
        format::ago(*now, *then)
    )
}

/// Day and minute, for what is further away.
pub(super) fn moment(at: &Timestamp) -> String {
    at.strftime("%b %-d %H:%M").to_string()
}

/// How long a run took, or takes so far, counting.
pub(super) fn elapsed(now: &Timestamp, run: &RunView) -> String {
    match run.completed_at {
        Some(_) => format::duration(run.elapsed(*now)),
        None => counting(run.started_at, run.elapsed(*now)),
    }
}

/// As [`elapsed`], for a job.
pub(super) fn job_elapsed(now: &Timestamp, job: &JobView) -> String {
    match (job.started_at, job.completed_at) {
        (Some(started), None) => counting(started, now.duration_since(started)),
        _ => job.elapsed(*now).map(format::duration).unwrap_or_default(),
    }
}

/// How long something has been running, counting.
pub(super) fn running_for(now: &Timestamp, since: &Timestamp) -> String {
    counting(*since, now.duration_since(*since))
}

fn counting(since: Timestamp, so_far: SignedDuration) -> String {
    let text = format::so_far(so_far);
    format!(
        "<time datetime=\"{}\" title=\"since {}\" data-since>{text}</time>",
        format::api(since),
        format::exact(since)
    )
}

/// A duration that does not count.
pub(super) fn took(now: &Timestamp, run: &RunView) -> String {
    match run.state() {
        State::Queued => String::new(),
        state if state.is_final() => format::duration(run.elapsed(*now)),
        _ => format::so_far(run.elapsed(*now)),
    }
}

/// How long a step took; empty before it started.
pub(super) fn step_took(now: &Timestamp, step: &StepState) -> String {
    step_elapsed(step, *now).map(format::duration).unwrap_or_default()
}

impl JobView {
    /// A job does not name its repository: its run does.
    pub(super) fn repository_of<'a>(&self, run: &'a RunView) -> &'a RepositoryName {
        &run.repository
    }

    /// The environment's address, if it is one a browser may follow.
    pub(super) fn safe_url(&self) -> Option<&str> {
        self.environment_url.as_deref().filter(|url| url.starts_with("https://") || url.starts_with("http://"))
    }
}

impl HostView {
    pub(super) fn free(&self) -> u32 {
        self.slots.saturating_sub(u32::try_from(self.jobs.len()).unwrap_or(u32::MAX)).min(64)
    }

    pub(super) fn load_words(&self) -> Option<String> {
        let (load, cores) = self.load?;
        Some(if cores > 0 { format!("load {load:.1} of {cores}") } else { format!("load {load:.1}") })
    }

    /// Facts in one line; what a number counts stands behind it.
    pub(super) fn fact_words(&self) -> Vec<String> {
        let word = |(name, value): &(String, String)| match name.as_str() {
            "system" => value.clone(),
            "git" | "node" | "containers" => format!("{name} {value}").replace("containers ", ""),
            _ => format!("{value} {name}"),
        };
        self.facts.iter().map(word).collect()
    }

    pub(super) fn takes_jobs(&self) -> bool {
        matches!(self.state, HostState::Online | HostState::Busy)
    }

    /// The last 24 hours as a strip: what ran when, by colour of result.
    pub(super) fn day(&self, now: &Timestamp) -> String {
        let seconds = |at: Timestamp| (86_400 - now.duration_since(at).as_secs()).clamp(0, 86_400);
        let mut out = "<svg class=\"day\" viewBox=\"0 0 86400 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"The last 24 hours\"><path d=\"M21600 0V10M43200 0V10M64800 0V10\"/>".to_owned();
        for stretch in self.recent.iter().take(500) {
            let (from, to) = (seconds(stretch.from), seconds(stretch.to));
            // A short job must stay visible: two minutes are about one pixel.
            let _ = write!(
                out,
                "<rect class=\"s-{}\" x=\"{from}\" width=\"{}\" height=\"10\"/>",
                stretch.state.class(),
                (to - from).max(180)
            );
        }
        out.push_str("</svg>");
        out
    }
}

impl InputView {
    pub(super) fn label(&self) -> &str {
        if self.description.is_empty() { &self.name } else { &self.description }
    }
}

impl WorkflowView {
    /// The state of its last run that says something.
    pub(in crate::server) fn state(&self) -> State {
        if !self.enabled {
            return State::Paused;
        }
        let says = |state: &State| !matches!(state, State::Skipped | State::Cancelled);
        self.recent.iter().map(RunView::state).find(says).unwrap_or(State::Skipped)
    }

    fn durations(&self) -> Vec<SignedDuration> {
        let ended = self.recent.iter().filter(|run| matches!(run.state(), State::Success | State::Failure));
        let mut durations: Vec<_> = ended.map(|run| run.elapsed(run.updated_at)).collect();
        durations.sort_unstable();
        durations
    }

    pub(super) fn percentiles(&self) -> Option<(String, String)> {
        let durations = self.durations();
        let at = |percent: usize| durations.get((durations.len().saturating_sub(1)) * percent / 100).copied();
        Some((format::duration(at(50)?), format::duration(at(95)?)))
    }

    pub(super) fn finished(&self) -> usize {
        self.durations().len()
    }

    pub(super) fn success_rate(&self) -> Option<usize> {
        let good = self.recent.iter().filter(|run| run.state() == State::Success).count();
        (good * 100).checked_div(self.finished())
    }

    /// The last runs as bars, oldest left; each leads to its run.
    pub(super) fn bars(&self, now: &Timestamp) -> String {
        let runs: Vec<&RunView> = self.recent.iter().take(30).collect();
        let longest = runs.iter().map(|run| run.elapsed(*now).as_millis()).max().unwrap_or(0).max(1);
        let mut out = format!(
            "<svg width=\"{}\" height=\"34\" viewBox=\"0 0 {0} 34\" role=\"group\" aria-label=\"Last runs\">",
            runs.len().max(1) * 9
        );
        for (at, run) in runs.iter().rev().enumerate() {
            let height = 4 + (28 * run.elapsed(*now).as_millis() / longest).clamp(0, 28);
            let _ = write!(
                out,
                "<a href=\"{}\" class=\"s-{class}\"><rect x=\"{}\" y=\"{}\" width=\"6\" height=\"{height}\" rx=\"1.5\"><title>#{} {}, {}</title></rect></a>",
                run_path(run),
                at * 9,
                34 - height,
                run.number,
                run.state().word(),
                format::duration(run.elapsed(*now)),
                class = run.state().class(),
            );
        }
        out.push_str("</svg>");
        format!("<span class=\"bars\">{out}</span>")
    }
}

/// Filters of the templates.
pub(super) mod filters {
    #![expect(unreachable_pub, reason = "the macro of filters makes public items")]

    use std::fmt::Display;

    use crate::server::format;

    /// At most `limit` characters, cut with an ellipsis, without control characters: names come from anyone.
    #[askama::filter_fn]
    pub(crate) fn cut(value: impl Display, _: &dyn askama::Values, limit: usize) -> askama::Result<String> {
        let mut text = value.to_string();
        if text.chars().any(unprintable) {
            text = text.chars().map(|c| if unprintable(c) && c != '\n' { '\u{fffd}' } else { c }).collect();
        }
        Ok(format::cut(&text, limit))
    }

    /// Escaped, with what stands between backticks as code.
    #[askama::filter_fn]
    pub(crate) fn prose(value: impl Display, _: &dyn askama::Values) -> askama::Result<String> {
        let text = value.to_string();
        let mut out = String::with_capacity(text.len() + 32);
        let parts: Vec<&str> = text.split('`').collect();
        for (at, part) in parts.iter().enumerate() {
            let part = askama::filters::escape(part, askama::filters::Html)?.to_string();
            match at % 2 {
                1 if at + 1 < parts.len() => out.extend(["<code>", &part, "</code>"]),
                1 => out.extend(["`", &part]),
                _ => out.push_str(&part),
            }
        }
        Ok(out)
    }

    fn unprintable(character: char) -> bool {
        character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }

    /// The first `limit` characters.
    #[askama::filter_fn]
    pub(crate) fn cut_plain(value: impl Display, _: &dyn askama::Values, limit: usize) -> askama::Result<String> {
        Ok(value.to_string().chars().take(limit).collect())
    }
}
