//! A job from its first line to its last: set up, main steps, post steps, completion.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::Moment;
use crate::expr::{Object, Value};
use crate::run::conclusion::Conclusion;
use crate::run::order::Order;
use crate::run::report::{Annotation, AnnotationLevel, JobResult, Report, StepKind, StepState};
use crate::run::steps::JobStatus;
use crate::toolkit::annotation::{self, Paths};
use crate::toolkit::artifacts::Subjects;
use crate::toolkit::command::Settings;
use crate::toolkit::environment;
use crate::toolkit::mask::Masks;
use crate::toolkit::matcher::Matchers;
use crate::transport::{CommandFile, HostJob, Resume};
use crate::workflow::model::{Step, StepBody};

use super::action::Found;
use super::aside::{Aside, Events, SharedMasks};
use super::background::{self, Background};
use super::container::Containers;
use super::contexts::{Fixed, Frame, Variables};
use super::follow::Ended;
use super::hooks::Hook;
use super::interruption::{self, Interruption};
use super::journal::{JobPosition, Journal, Position};
use super::post::Post;
use super::services::{self, Reached};
use super::step::{StepError, variables};
use super::summaries::Summaries;
use super::workspace::Workspace;
use super::{
    Assignment, JobError, LogFile, RepositorySource, Runner, Surroundings, Told, action, container, ending, hashing,
    opening,
};
use crate::id::RepositoryName;

/// Keys of `github` that name the files by which a step and the runner speak (W1, W12).
const COMMAND_FILES: [(&str, CommandFile); 7] = [
    ("artifacts", CommandFile::Artifacts),
    ("artifacts_list", CommandFile::ArtifactsList),
    ("env", CommandFile::Env),
    ("output", CommandFile::Output),
    ("path", CommandFile::Path),
    ("state", CommandFile::State),
    ("step_summary", CommandFile::Summary),
];

/// How long `hashFiles()` may take (E13).
const HASHING: Duration = Duration::from_secs(120);

/// A running job.
pub(super) struct Job {
    pub(super) runner: Runner,
    pub(super) order: Arc<Order>,
    pub(super) host_name: String,
    pub(super) host: HostJob,
    pub(super) events: Events,
    pub(super) journal: Journal,
    pub(super) log: LogFile,
    pub(super) summaries: Summaries,
    pub(super) masks: Masks,
    /// How often masks were recorded before the step that asked for them ended.
    pub(super) masks_kept: u32,
    /// Once something runs beside the job.
    pub(super) shared_masks: Option<SharedMasks>,
    pub(super) matchers: Matchers,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) told: watch::Receiver<Told>,
    pub(super) workspace: Workspace,
    pub(super) fixed: Fixed,
    pub(super) surroundings: Arc<dyn Surroundings>,
    /// The machine's own environment.
    pub(super) machine: Variables,
    pub(super) containers: Containers,
    /// Where actions find the services, and their tokens.
    pub(super) reached: Reached,
    /// Workflow and job `env`, then what steps wrote to `GITHUB_ENV`.
    pub(super) env: Variables,
    pub(super) paths: Vec<String>,
    pub(super) status: JobStatus,
    pub(super) posts: Vec<Post>,
    /// Actions that were found before the steps began, by the keys of their uses; those of them with a `pre`.
    pub(super) found: HashMap<String, Found>,
    pub(super) pres: BTreeSet<String>,
    /// What stages of actions saved, by the keys of their uses.
    pub(super) states: HashMap<String, Variables>,
    /// What steps declared to have made.
    pub(super) artifacts: Subjects,
    /// Hashes of files, by the keys under which they are recorded.
    pub(super) hashed: HashMap<String, Result<String, String>>,
    /// Programs that run JavaScript, by version.
    pub(super) nodes: BTreeMap<u32, String>,
    pub(super) background: Vec<Background>,
    /// Those of them that run.
    pub(super) beside: JoinSet<Result<Box<background::Ended>, JobError>>,
    /// This is no job but one step that runs beside it.
    pub(super) aside: Option<Aside>,
    /// A background step failed, which the job will know at its end if it does not before (S14).
    pub(super) background_failed: bool,
    /// The host's number of the last step; in a background step, how many processes it has had.
    pub(super) number: u32,
    /// How far the host's main spool was taken, and the last step whose end was.
    pub(super) resume: Resume,
    /// When the running part of the job must be over.
    pub(super) deadline: Instant,
    /// The job's own time limit has passed.
    pub(super) out_of_time: bool,
    /// What an earlier process told the job, until the job is where it was told.
    pub(super) interruption: Option<Interruption>,
    /// A line that comes behind the output of the running step, which is read again.
    pub(super) owed: Option<String>,
    /// What the next process wrote so far may have been read by an earlier process.
    pub(super) is_reread: bool,
    pub(super) cancel_deadline: Option<Instant>,
    /// The time limit of the step that uses the composite action being run: when it is over, and how long it is.
    pub(super) step_deadline: Option<(Instant, Duration)>,
    pub(super) steps: Vec<StepState>,
}

/// Runs the order to its end.
pub(super) async fn run(runner: &Runner, assignment: Assignment) -> JobResult {
    let reports = assignment.reports.clone();
    let order = assignment.order.clone();
    let target = assignment.target.clone();
    let with_containers = order.container.is_some() || order.services.is_some();
    let left = ending::Left::of(runner, &assignment);
    if let Some(ending::Over { result, steps }) = ending::recorded(&assignment.journal) {
        if !steps.is_empty() {
            drop(reports.send(Report::Steps { steps }).await);
        }
        // The process went between the job's end and the record of its report: the host may have nothing left to ask.
        drop(reports.send(Report::Finished { at: runner.clock.now(), result: result.clone() }).await);
        if with_containers {
            container::leftovers::remove(runner, &target, &order).await;
        }
        if let Err(error) = ending::forget(runner, left).await {
            ending::stays(&order, target.name.as_str(), &error);
        }
        return result;
    }
    let mut outcome = opening::open(runner, &order, assignment).await;
    if let Err(error @ JobError::Unreached(_)) = &outcome {
        drop(reports.send(Report::Unreached { reason: error.to_string() }).await);
        return ending::failed(error);
    }
    let result = match &mut outcome {
        Ok(job) => match job.work().await {
            Ok(result) => result,
            Err(error) => job.give_up(&error),
        },
        Err(error) => ending::failed(error),
    };
    // Before anything of the job is removed: one without a result is taken up again.
    let kept = match &mut outcome {
        Ok(job) => job.keep(&result).await,
        Err(_) => Ok(()),
    };
    if match &outcome {
        Ok(job) => job.containers.are_left(),
        Err(_) => with_containers,
    } {
        let hooked = match &mut outcome {
            Ok(job) => job.clean_up_at_last(runner, &target).await,
            Err(_) => false,
        };
        if !hooked {
            container::leftovers::remove(runner, &target, &order).await;
        }
    }
    if let Ok(job) = &mut outcome {
        job.report(Report::Finished { at: runner.clock.now(), result: result.clone() }).await;
        let finished = match kept {
            Ok(()) => job.host.finish().await.map_err(JobError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = finished {
            ending::stays(&order, &job.host_name, &error);
        }
    } else {
        // An earlier process may have begun it, and after the report nobody comes back to what that runs.
        if let Err(error) = ending::forget(runner, left).await {
            ending::stays(&order, target.name.as_str(), &error);
        }
        drop(reports.send(Report::Finished { at: runner.clock.now(), result: result.clone() }).await);
    }
    result
}

impl Job {
    async fn work(&mut self) -> Result<JobResult, JobError> {
        let is_new = !self.journal.knows("started");
        let started = self.recall_or("started", |job| job.runner.clock.now())?;
        let moment = match self.journal.recall::<Moment>("moment")? {
            None if is_new => {
                let moment = self.runner.clock.moment();
                self.record("moment", &moment)?;
                Some(moment)
            }
            known => known,
        };
        // What the clock says it took is only asked where nothing better is known: it may have been set.
        let by_clock = || Duration::try_from(self.runner.clock.now().duration_since(started)).unwrap_or_default();
        let spent = moment.and_then(|moment| self.runner.clock.since(&moment)).unwrap_or_else(by_clock);
        self.deadline = self.deadline.checked_sub(spent).unwrap_or_else(Instant::now);
        self.interruption = self.journal.recall(interruption::KEY)?;
        self.recall_masks()?;
        self.report(Report::Started { at: started, workspace: self.workspace.path.clone() }).await;
        let order = Arc::clone(&self.order);
        let mut frame = Frame::of_job(&order);
        self.list_steps().await;
        let set_up = self.set_up(&mut frame).await;
        let ready = match set_up {
            Ok(()) => true,
            Err(StepError::Failed(message)) => {
                self.error(1, &message)?;
                self.status.record(Conclusion::Failure);
                false
            }
            Err(StepError::Job(error)) => return Err(error),
        };
        let outcome = if ready { Conclusion::Success } else { Conclusion::Failure };
        self.step_finished(1, outcome, outcome, None, "setup").await?;
        frame.number = 1;
        if ready {
            if self.run_hook(&mut frame, Hook::Started).await? {
                self.get_images(&mut frame).await?;
                self.start_containers(&mut frame).await?;
            }
            self.run_pres(&mut frame).await?;
            self.run_steps(&mut frame, &order.steps).await?;
            self.wait_for_rest(&mut frame).await?;
            self.hold().await?;
            self.run_posts(&mut frame).await?;
            self.stop_containers(&mut frame).await?;
            self.run_hook(&mut frame, Hook::Completed).await?;
        }
        self.complete(&mut frame, ready).await
    }

    /// Sets the names of all steps known now, so that a page can show them before they run.
    async fn list_steps(&mut self) {
        let mut shown: Vec<&Step> = Vec::new();
        for step in &self.order.steps {
            match &step.body {
                StepBody::Parallel(steps) => shown.extend(steps),
                _ => shown.push(step),
            }
        }
        self.steps = vec![StepState::new(1, "Set up job".to_owned(), StepKind::SetUp)];
        self.steps.extend(shown.into_iter().zip(2..).map(|(step, number)| StepState {
            id: step.id.clone(),
            ..StepState::new(number, step.default_name(None), StepKind::Main)
        }));
        self.report(Report::Steps { steps: self.steps.clone() }).await;
    }

    async fn set_up(&mut self, frame: &mut Frame) -> Result<(), StepError> {
        self.step_started(1, "Set up job", StepKind::SetUp, "setup").await?;
        let facts = self.host.facts().clone();
        self.say_line(&format!("Runner: Towline {} on '{}'", env!("CARGO_PKG_VERSION"), self.host_name))?;
        self.say_line("##[group]Operating System")?;
        self.say_line(&format!("{} ({} {})", facts.system, facts.os, facts.arch))?;
        self.say_line("##[endgroup]")?;
        let order = Arc::clone(&self.order);
        if let Some(permissions) = &order.permissions {
            self.say_line("##[group]GITHUB_TOKEN Permissions")?;
            for line in services::permission_lines(permissions) {
                self.say_line(&line)?;
            }
            self.say_line("##[endgroup]")?;
        }
        if let Some(source) = order.github.get("secret_source").and_then(Json::as_str) {
            self.say_line(&format!("Secret source: {source}"))?;
        }
        if let Some(note) = self.reached.note.take() {
            self.say_line(&note)?;
        }
        self.say_line("Prepare workflow directory")?;
        if self.journal.recall::<()>("prepared")?.is_none() {
            let event = serde_json::to_vec(self.order.github.get("event").unwrap_or(&Json::Null)).unwrap_or_default();
            let fresh = self.runner.fresh_workspaces;
            let now = self.runner.clock.now().as_second();
            self.workspace.prepare(&self.host, now, fresh, &event).await?;
            self.record("prepared", &())?;
        }
        self.say_line(action::PREPARING)?;
        self.find_actions().await?;
        if order.is_called() {
            self.say_line(&format!("Uses: {} ({})", order.workflow_ref, order.workflow_sha))?;
            if !order.inputs.is_empty() {
                self.say_line("##[group] Inputs")?;
                for (name, value) in &order.inputs {
                    let value = Value::from_json(value).to_display_string();
                    self.say(&format!("  {name}: {value}").lines().map(str::to_owned).collect::<Vec<_>>())?;
                }
                self.say_line("##[endgroup]")?;
            }
        }
        self.say_line(&format!("Complete job name: {}", order.name))?;
        for (level, token) in order.env.iter().enumerate() {
            // Workflow `env` and job `env` do not see each other's half-made state, only what is above them (S2).
            let above = self.env.clone();
            let value = self.value(token, frame, &above, &format!("env/{level}")).await?;
            self.env.extend(variables(&value).map_err(StepError::Failed)?);
        }
        self.define_containers(frame).await
    }

    /// A step of the runner's own right behind "Set up job"; gives its number.
    pub(super) async fn insert_set_up_step(&mut self, name: &str) -> u32 {
        let number =
            1 + u32::try_from(self.steps.iter().filter(|step| step.kind == StepKind::SetUp).count()).unwrap_or(1);
        for step in self.steps.iter_mut().filter(|step| step.number >= number) {
            step.number += 1;
        }
        let at = self.steps.iter().position(|step| step.number > number).unwrap_or(self.steps.len());
        self.steps.insert(at, StepState::new(number, name.to_owned(), StepKind::SetUp));
        self.report(Report::Steps { steps: self.steps.clone() }).await;
        number
    }

    /// A step of the runner's own behind all others; gives its number.
    pub(super) async fn append_step(&mut self, name: &str, kind: StepKind) -> u32 {
        let number = u32::try_from(self.steps.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.steps.push(StepState::new(number, name.to_owned(), kind));
        self.report(Report::Steps { steps: self.steps.clone() }).await;
        number
    }

    /// The last step: outputs, the environment's address, what was left running (N6, G1, H10).
    async fn complete(&mut self, frame: &mut Frame, ready: bool) -> Result<JobResult, JobError> {
        let number = self.append_step("Complete job", StepKind::Complete).await;
        frame.number = number;
        self.step_started(number, "Complete job", StepKind::Complete, "complete").await?;
        let mut outputs = Map::new();
        let mut url = None;
        if ready {
            outputs = self.outputs(frame).await?;
            url = self.environment_url(frame).await?;
        }
        self.say_line("Cleaning up orphan processes")?;
        if self.journal.recall::<()>("swept")?.is_none() {
            for orphan in self.host.sweep_orphans().await? {
                let verb = if orphan.survived { "Cannot terminate" } else { "Terminate" };
                self.say_line(&format!("{verb} orphan process: pid ({}) ({})", orphan.pid, orphan.command))?;
            }
            if self.runner.fresh_workspaces {
                self.workspace.remove(&self.host).await?;
            }
            self.record("swept", &())?;
        }
        self.summaries.write();
        self.interrupt_again(u32::MAX);
        let conclusion = if self.out_of_time { Conclusion::TimedOut } else { self.status.conclusion() };
        self.step_finished(number, Conclusion::Success, Conclusion::Success, None, "complete").await?;
        self.journal.durable().await?;
        Ok(JobResult { conclusion, outputs, environment_url: url, reason: None, host_lost: false })
    }

    /// Makes the result durable: from here on nothing is asked of the host any more.
    async fn keep(&mut self, result: &JobResult) -> Result<(), JobError> {
        self.log.settle_when_there_is_room().await?;
        self.record(ending::RESULT, &ending::Over { result: result.clone(), steps: self.steps.clone() })?;
        self.journal.durable().await
    }

    /// The job cannot go on: says so in its log and closes what is open.
    fn give_up(&mut self, error: &JobError) -> JobResult {
        let text = self.masks.apply(&error.to_string()).into_owned();
        let now = self.runner.clock.now();
        drop(self.log.say(now, &self.masks, &format!("##[error]{text}")));
        let mut result = ending::failed(error);
        result.reason = Some(text);
        result
    }

    // What a step needs -----------------------------------------------------------------------------------------

    pub(super) fn contexts(&self, frame: &Frame, env: &Variables) -> Object {
        let (container, services) = self.containers.contexts();
        let order = &self.order;
        // A job and its check run have one number, as on GitHub.
        let mut job = json!({
            "check_run_id": order.job.0,
            "workflow_ref": order.workflow_ref,
            "workflow_sha": order.workflow_sha,
            "workflow_repository": order.workflow_repository,
            "workflow_file_path": order.workflow_path,
            "status": self.status.as_str(),
        });
        for (key, known) in [("container", container), ("services", services)] {
            if known.as_object().is_some_and(|known| !known.is_empty()) {
                job[key] = known;
            }
        }
        // Those of the process that comes next: a script may name them in expressions.
        let number = self.numbered(self.number + 1);
        let files = COMMAND_FILES.map(|(key, file)| (key, self.seen(&self.host.file_path(number, file))));
        self.fixed.at(&job, frame, env, &files)
    }

    /// `env` before a step's own.
    pub(super) fn env_of(&self, frame: &Frame) -> Variables {
        let mut env = self.env.clone();
        if let Some(action) = &frame.action {
            env.extend(action.env.clone());
        }
        env
    }

    /// Bounds what follows by the time limit of the step with this key too; gives the bound so far.
    pub(super) fn narrow_deadline(
        &mut self,
        key: &str,
        limit: Option<Duration>,
    ) -> Result<Option<(Instant, Duration)>, JobError> {
        let outer = self.step_deadline;
        let Some(limit) = limit else { return Ok(outer) };
        let key = format!("{key}/since");
        let spent = match self.journal.recall::<Moment>(&key)? {
            Some(since) => self.runner.clock.since(&since).unwrap_or_default(),
            None => {
                if self.journal.is_live() {
                    self.record(&key, &self.runner.clock.moment())?;
                }
                Duration::ZERO
            }
        };
        let own = (Instant::now() + limit.saturating_sub(spent), limit);
        self.step_deadline = Some(outer.map_or(own, |outer| outer.min(own)));
        Ok(outer)
    }

    /// Steps that begin from now on have a token that does not end before long.
    pub(super) async fn renew_token(&mut self) {
        if !self.journal.is_live() {
            return;
        }
        let renewed = self.surroundings.renewed(&self.order, self.fixed.token()).await;
        if let Some(token) = renewed {
            let token = secrecy::ExposeSecret::expose_secret(&token);
            self.masks.add(token);
            self.fixed.set_token(token);
        }
    }

    pub(super) fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.numbered(self.number)
    }

    /// The host's number of this job's process `count`, from 1.
    fn numbered(&self, count: u32) -> u32 {
        self.aside.as_ref().map_or(count, |aside| aside.number(count))
    }

    /// The whole environment of a process. `action` gives inputs and state, for those kinds of steps that have them.
    pub(super) fn process_env(
        &self,
        frame: &Frame,
        step: &Step,
        env: &Variables,
        number: u32,
        action: Option<(&Map<String, Json>, &Variables)>,
    ) -> Vec<(String, String)> {
        // A hook is told of the directories in words of their own.
        let paths = if self.containers.are_hooked() { &[][..] } else { &self.paths };
        self.process_env_over((&self.machine_of_steps(), paths), frame, step, env, number, action)
    }

    /// The same over another machine's environment, with other directories from `GITHUB_PATH`.
    pub(super) fn process_env_over(
        &self,
        (machine, path): (&Variables, &[String]),
        frame: &Frame,
        step: &Step,
        env: &Variables,
        number: u32,
        action: Option<(&Map<String, Json>, &Variables)>,
    ) -> Vec<(String, String)> {
        let mut github = self.fixed.github.clone();
        github.extend(frame.github.clone());
        if action.is_some() {
            let text = |key: &str| github.get(key).and_then(Json::as_str).unwrap_or_default();
            let told = services::server_url(&self.reached.variables, text("server_url"), text("action_repository"));
            if let Some(url) = told {
                github.insert("server_url".to_owned(), Json::from(url));
            }
        }
        for (key, file) in COMMAND_FILES {
            github.insert(key.to_owned(), Json::from(self.host.file_path(number, file)));
        }
        if frame.action.is_none() {
            github.insert("action".to_owned(), Json::from(step.id.as_str()));
        }
        let runner = self.fixed.runner();
        let none = Variables::new();
        let inputs = action.map(|(inputs, _)| {
            inputs.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
        });
        let inputs: Variables = inputs.unwrap_or_default();
        let mut env: Vec<(String, String)> = environment::build(&environment::Parts {
            machine,
            levels: &[env],
            path,
            inputs: &inputs,
            state: action.map_or(&none, |(_, state)| state),
            github: &github,
            runner: runner.as_object().unwrap_or(&Map::new()),
            services: &self.reached.variables.of_step(action.is_some()),
        })
        .into_iter()
        .collect();
        if !self.reached.variables.base.is_empty() {
            let missing = services::past_proxies(&mut env);
            env.extend(missing.unwrap_or_default());
            if action.is_some() {
                services::trusted_by_git(&self.reached.variables, &mut env);
            }
        }
        env
    }

    pub(super) fn settings(&self, step: &Step, number: u32, env: &Variables) -> Settings {
        let on = |name: &str| env.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Settings {
            allow_unsecure_commands: on("ACTIONS_ALLOW_UNSECURE_COMMANDS"),
            allow_unsecure_stop_tokens: on("ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS"),
            debug: self.order.debug,
            step_id: step.id.clone(),
            step_number: Some(number),
            paths: Paths { workspace: self.workspace.path.clone(), repository: None, mounts: self.mounts() },
        }
    }

    /// A repository this machine has.
    pub(super) fn repository(&self, name: &RepositoryName) -> Result<RepositorySource, String> {
        let sources = &self.runner.sources;
        if let Some((_, source)) = sources.repositories.iter().find(|(known, _)| known.0.eq_ignore_ascii_case(&name.0))
        {
            return Ok(source.clone());
        }
        if let Some(git_dir) = sources.find.as_ref().and_then(|find| find(name)) {
            return Ok(RepositorySource { git_dir, overlay: None });
        }
        Err(format!("the repository {name} is not known here; add it with `towline repo add {name}`"))
    }

    pub(super) fn order_host(&self) -> &str {
        &self.host_name
    }

    pub(super) async fn hash(&mut self, patterns: &[String], key: &str) -> Result<Result<String, String>, JobError> {
        let key = format!("{key}/hash/{}", patterns.join("\n"));
        // A step may ask in several places.
        if let Some(known) = self.hashed.get(&key) {
            return Ok(known.clone());
        }
        if let Some(known) = self.journal.recall::<Result<String, String>>(&key)? {
            self.hashed.insert(key, known.clone());
            return Ok(known);
        }
        let hash = match tokio::time::timeout(HASHING, hashing::hash(&self.host, &self.workspace.path, patterns)).await
        {
            Ok(hash) => hash?,
            Err(_) => Err(format!(
                "hashFiles('{}') couldn't finish within {} seconds.",
                patterns.join("', '"),
                HASHING.as_secs()
            )),
        };
        self.record(&key, &hash)?;
        self.hashed.insert(key, hash.clone());
        Ok(hash)
    }

    // The journal -----------------------------------------------------------------------------------------------

    pub(super) fn record<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), JobError> {
        if !self.journal.is_live() {
            return Err(JobError::Journal(format!(
                "the record of this job does not fit: nothing is known of {key}, though later things are"
            )));
        }
        let (log, lines) = (self.log.len(), self.log.lines());
        let position = match &self.aside {
            Some(_) => Position::Beside(log, lines),
            None => Position::Job(JobPosition { log, lines, spool: self.resume.offset, ended: self.resume.ended }),
        };
        self.journal.record(key, as_json(value)?, position)
    }

    /// The same in the middle of a step, whose output is followed from its beginning after a crash.
    pub(super) fn record_in_step<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), JobError> {
        self.journal.record(key, as_json(value)?, Position::Unmoved)
    }

    fn recall_or<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        make: impl FnOnce(&Self) -> T,
    ) -> Result<T, JobError> {
        if let Some(known) = self.journal.recall(key)? {
            return Ok(known);
        }
        let value = make(self);
        self.record(key, &value)?;
        Ok(value)
    }

    // Words -----------------------------------------------------------------------------------------------------

    /// Lines of the runner's own.
    pub(super) fn say(&mut self, lines: &[String]) -> Result<(), JobError> {
        for line in lines {
            self.say_line(line)?;
        }
        Ok(())
    }

    pub(super) fn say_line(&mut self, line: &str) -> Result<(), JobError> {
        self.exchange_masks();
        // What was printed before a restart is in the log already.
        if self.journal.is_live() {
            self.log.say(self.runner.clock.now(), &self.masks, line)?;
        }
        Ok(())
    }

    pub(super) fn error(&mut self, step: u32, message: &str) -> Result<(), JobError> {
        self.annotate(step, AnnotationLevel::Failure, message)
    }

    pub(super) fn warning(&mut self, step: u32, message: &str) -> Result<(), JobError> {
        self.annotate(step, AnnotationLevel::Warning, message)
    }

    fn annotate(&mut self, step: u32, level: AnnotationLevel, message: &str) -> Result<(), JobError> {
        if !self.journal.is_live() {
            return Ok(());
        }
        self.say_line(&format!("{}{message}", annotation::tag(level)))?;
        let mut annotation = annotation::plain(level, self.masks.apply(message).into_owned());
        annotation.step = Some(step);
        self.report_annotation(annotation);
        Ok(())
    }

    pub(super) fn report_annotation(&self, annotation: Annotation) {
        // A full channel would mean that nobody takes reports any more; the log has the line anyway.
        drop(self.reports.try_send(Report::Annotation { annotation }));
    }

    pub(super) async fn report(&self, report: Report) {
        drop(self.reports.send(report).await);
    }

    pub(super) fn shown_env(&self, frame: &Frame, env: &Variables) -> Vec<(String, String)> {
        let _ = frame;
        env.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    pub(super) async fn step_started(
        &mut self,
        number: u32,
        name: &str,
        kind: StepKind,
        key: &str,
    ) -> Result<(), JobError> {
        let begun =
            self.recall_or(&format!("{key}/begin"), |job| (job.runner.clock.now(), job.log.len(), job.log.lines()))?;
        let (at, log, line): (Timestamp, u64, u64) = begun;
        let mut step = self.state_of(number);
        step.name = self.masks.apply(name).into_owned();
        step.kind = kind;
        step.started_at = Some(at);
        step.log_start = Some(log);
        step.first_line = Some(line);
        self.report_step(step).await;
        Ok(())
    }

    /// Where the log of a step begins: the byte and the line.
    pub(super) async fn set_section(&mut self, number: u32, begin: Option<(u64, u64)>) {
        let mut step = self.state_of(number);
        step.log_start = begin.map(|(byte, _)| byte);
        step.first_line = begin.map(|(_, line)| line);
        self.report_step(step).await;
    }

    pub(super) async fn step_skipped(&mut self, number: u32, name: &str) -> Result<(), JobError> {
        let mut step = self.state_of(number);
        step.name = self.masks.apply(name).into_owned();
        step.outcome = Some(Conclusion::Skipped);
        step.conclusion = Some(Conclusion::Skipped);
        self.report_step(step).await;
        Ok(())
    }

    pub(super) async fn step_finished(
        &mut self,
        number: u32,
        outcome: Conclusion,
        conclusion: Conclusion,
        exit_code: Option<i32>,
        key: &str,
    ) -> Result<(), JobError> {
        let ended = self.recall_or(&format!("{key}/finish"), |job| (job.runner.clock.now(), job.log.len()))?;
        let (at, log): (Timestamp, u64) = ended;
        let mut step = self.state_of(number);
        step.completed_at = Some(at);
        step.outcome = Some(outcome);
        step.conclusion = Some(conclusion);
        step.exit_code = exit_code;
        step.log_end = Some(log);
        self.report_step(step).await;
        Ok(())
    }

    fn state_of(&self, number: u32) -> StepState {
        let found = self.steps.iter().find(|step| step.number == number).cloned();
        found.unwrap_or_else(|| StepState::new(number, String::new(), StepKind::Main))
    }

    async fn report_step(&mut self, step: StepState) {
        if let Some(known) = self.steps.iter_mut().find(|known| known.number == step.number) {
            *known = step.clone();
        }
        self.report(Report::Step { step }).await;
    }

    /// The job's own token for the forge, or for this server.
    pub(super) fn token(&self) -> String {
        self.fixed.github.get("token").and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    /// What the step wrote to its command files and said in commands, for all that comes after it. The message of a
    /// fault that fails the step (W2).
    pub(super) fn apply_files(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        ended: &Ended,
    ) -> Result<Option<String>, JobError> {
        ended.apply(self, frame, step)
    }
}

fn as_json<T: Serialize>(value: &T) -> Result<Json, JobError> {
    serde_json::to_value(value).map_err(|error| JobError::Journal(error.to_string()))
}
