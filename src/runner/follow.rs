//! Following one process on the host: its output into the log, its end into a record, cancel and time limits in between.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::run::report::Report;
use crate::toolkit::annotation;
use crate::toolkit::command::Settings;
use crate::toolkit::environment::add_path;
use crate::toolkit::file_command::{self, FileCommand};
use crate::toolkit::matcher::MatchersFile;
use crate::toolkit::output::{Effect, StepOutput};
use crate::toolkit::stamp::Lines;
use crate::transport::{CommandFiles, Exit, Grace, HostEvent, StepRequest};
use crate::workflow::model::Step;

use super::contexts::{Frame, Variables};
use super::job::Job;
use super::script::StepRun;
use super::step::StepError;
use super::{Cancel, JobError};

/// How a process ended, and everything it said to the runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    #[serde(with = "exit")]
    pub(super) exit: Exit,
    /// As shown.
    pub(super) name: String,
    /// The time limit it had, for the message.
    pub(super) minutes: f64,
    files: Files,
    effects: Vec<Effect>,
    /// Values it asked to mask.
    masks: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Files {
    env: String,
    output: String,
    path: String,
    state: String,
    summary: String,
}

impl From<CommandFiles> for Files {
    fn from(files: CommandFiles) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            env: text(files.env),
            output: text(files.output),
            path: text(files.path),
            state: text(files.state),
            summary: text(files.summary),
        }
    }
}

impl Ended {
    /// State that the action saved for its post step.
    pub(super) fn state(&self) -> Variables {
        let mut state: Variables =
            file_command::pairs(FileCommand::State, self.files.state.as_bytes()).pairs.into_iter().collect();
        for effect in &self.effects {
            if let Effect::SaveState { name, value } = effect {
                state.insert(name.clone(), value.clone());
            }
        }
        state
    }

    /// Makes what the process said hold for the rest of the job; gives the message that fails its step, if any.
    pub(super) fn apply(&self, job: &mut Job<'_>, frame: &mut Frame, step: &Step) -> Result<Option<String>, JobError> {
        let mut failed = None;
        for effect in &self.effects {
            match effect {
                Effect::SetOutput { name, value } => frame.steps.set_output(&step.id, name, value),
                Effect::SetEnv { name, value } => drop(job.env.insert(name.clone(), value.clone())),
                Effect::AddPath(path) => add_path(&mut job.paths, path.clone()),
                Effect::FailStep => failed = failed.or(Some(String::new())),
                Effect::SaveState { .. }
                | Effect::MaskAdded
                | Effect::Annotation { .. }
                | Effect::AddMatchers { .. }
                | Effect::RemoveMatchersOf { .. }
                | Effect::RemoveMatchers { .. } => {}
            }
        }
        for path in file_command::paths(self.files.path.as_bytes()) {
            add_path(&mut job.paths, path);
        }
        for (file, kind, text) in [
            ("GITHUB_ENV", FileCommand::Env, &self.files.env),
            ("GITHUB_OUTPUT", FileCommand::Output, &self.files.output),
            ("GITHUB_STATE", FileCommand::State, &self.files.state),
        ] {
            let read = file_command::pairs(kind, text.as_bytes());
            for message in read.refused {
                job.error(frame.number, &message)?;
            }
            if let Some(error) = read.error {
                job.error(
                    frame.number,
                    &format!("Unable to process file command '{}' successfully.", file_name(file)),
                )?;
                failed = Some(error);
            }
            for (name, value) in read.pairs {
                match kind {
                    FileCommand::Env => drop(job.env.insert(name, value)),
                    FileCommand::Output => frame.steps.set_output(&step.id, &name, &value),
                    _ => {}
                }
            }
        }
        match file_command::summary(self.files.summary.as_bytes(), &job.masks) {
            Ok(None) => {}
            Ok(Some(text)) => {
                job.summaries.add(frame.number, text);
                if job.journal.is_live() {
                    job.summaries.write();
                }
            }
            Err(message) => job.error(frame.number, &message)?,
        }
        Ok(failed)
    }
}

fn file_name(variable: &str) -> &'static str {
    match variable {
        "GITHUB_ENV" => "env",
        "GITHUB_OUTPUT" => "output",
        _ => "state",
    }
}

/// One process's output on its way to the log.
pub(super) struct Follower {
    output: StepOutput,
    lines: Lines,
    effects: Vec<Effect>,
    masks_before: usize,
}

impl Follower {
    pub(super) fn new(job: &Job<'_>, settings: Settings) -> Self {
        Self {
            output: StepOutput::new(settings, &job.matchers),
            lines: Lines::new(job.runner.clock.now()),
            effects: Vec::new(),
            masks_before: job.masks.values().count(),
        }
    }
}

impl Job<'_> {
    /// Starts a process, or finds it, and follows it to its end.
    pub(super) async fn follow(
        &mut self,
        frame: &Frame,
        step: &Step,
        request: StepRequest,
        run: &StepRun<'_>,
    ) -> Result<Ended, StepError> {
        let key = format!("{}/end", run.key);
        if let Some(ended) = self.journal.recall::<Ended>(&key)? {
            self.recall_words(&ended);
            return Ok(ended);
        }
        let env: Variables = request.env.iter().cloned().collect();
        let settings = self.settings(step, frame.number, &env);
        let mut request = if run.on_host { request } else { self.placed(request)? };
        // What led here must be known again after a crash, before anything is started because of it.
        self.journal.durable().await?;
        let number = request.number;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let own = match (request.timeout, self.step_deadline) {
            (own, Some(outer)) => {
                let outer = outer.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                Some(own.map_or(outer, |own| own.min(outer)))
            }
            (own, None) => own,
        };
        let minutes = own.unwrap_or(left).as_secs_f64() / 60.0;
        // The host ends the step a little after us, for the case that we cannot be reached.
        request.timeout = Some(own.unwrap_or(Duration::MAX).min(left + Duration::from_secs(10)));
        self.host.start_step(request).await.map_err(JobError::from)?;
        let mut follower = Follower::new(self, settings);
        let exit = loop {
            let event = self.next_event(frame, step, &env, number).await?;
            match event {
                HostEvent::Output { step: 0, offset, bytes } => {
                    self.take(&mut follower, &bytes).await?;
                    self.resume.offset = offset;
                }
                HostEvent::StepEnded(ended) if ended.number == number => {
                    self.resume.offset = ended.offset;
                    self.resume.ended = number;
                    break *ended;
                }
                HostEvent::Output { step, bytes, .. } => self.take_background(step, &bytes).await?,
                HostEvent::StepEnded(ended) => self.background_ended(*ended).await?,
                other => self.note(other).await?,
            }
        };
        self.finish_follower(&mut follower).await?;
        let ended = self.ended(follower, exit.exit, exit.files.into(), run.name, minutes);
        self.record(&key, &ended)?;
        Ok(ended)
    }

    pub(super) fn ended(&self, follower: Follower, exit: Exit, files: Files, name: &str, minutes: f64) -> Ended {
        Ended {
            exit,
            name: name.to_owned(),
            minutes: (minutes * 100.0).round() / 100.0,
            files,
            effects: follower.effects,
            masks: self.masks.values().skip(follower.masks_before).map(str::to_owned).collect(),
        }
    }

    /// What an ended process changed of masks and matchers, again.
    pub(super) fn recall_words(&mut self, ended: &Ended) {
        for value in &ended.masks {
            self.masks.add(value);
        }
        for effect in &ended.effects {
            if let Effect::RemoveMatchers { owners } = effect {
                owners.iter().for_each(|owner| self.matchers.remove(owner));
            }
        }
    }

    /// The next thing that happens on the host, while cancels and time limits are attended to.
    pub(super) async fn next_event(
        &mut self,
        frame: &Frame,
        step: &Step,
        env: &Variables,
        number: u32,
    ) -> Result<HostEvent, JobError> {
        loop {
            let wanted = self.told.borrow_and_update().cancel;
            if wanted == Cancel::Forced {
                self.host.cancel_step(number, Grace { interrupt: Duration::ZERO, terminate: Duration::ZERO }).await?;
                return Err(JobError::Forced);
            }
            if wanted == Cancel::Requested && self.cancel_deadline.is_none() {
                self.status.cancel();
                self.start_grace();
                if !self.outlives_cancel(frame, step, env) {
                    self.say_line("##[error]The operation was canceled.")?;
                    self.host.cancel_step(number, Grace::GITHUB).await?;
                }
                self.cancel_all_background().await?;
            }
            let until = self.cancel_deadline.unwrap_or(self.deadline);
            tokio::select! {
                event = self.events.next() => {
                    return match event {
                        Some(HostEvent::Lost { reason, host_died }) => Err(JobError::Lost { reason, host_died }),
                        Some(event) => Ok(event),
                        None => Err(JobError::Lost { reason: format!("the job on {} is gone", self.host_name), host_died: false }),
                    };
                }
                changed = self.told.changed() => {
                    if changed.is_err() {
                        // Nobody can cancel any more: go on without looking.
                        let (_, never) = tokio::sync::watch::channel(*self.told.borrow());
                        self.told = never;
                        std::future::pending::<()>().await;
                    }
                }
                () = tokio::time::sleep_until(until) => self.out_of_time(number).await?,
            }
        }
    }

    /// A limit has passed: the job's own, or what a cancel left.
    async fn out_of_time(&mut self, number: u32) -> Result<(), JobError> {
        if self.cancel_deadline.is_some() {
            self.host.cancel_step(number, Grace { interrupt: Duration::ZERO, terminate: Duration::ZERO }).await?;
            return Err(JobError::Forced);
        }
        self.out_of_time = true;
        self.status.cancel();
        self.start_grace();
        let message = format!(
            "The job running on runner {} has exceeded the maximum execution time of {} minutes.",
            self.host_name, self.order.timeout_minutes
        );
        self.error(1, &message)?;
        self.host.cancel_step(number, Grace::GITHUB).await?;
        self.cancel_all_background().await
    }

    /// From now on the job has its cancel time-out for `always()` and post steps (S8, Z3).
    fn start_grace(&mut self) {
        let grace = Duration::from_secs_f64((self.order.cancel_timeout_minutes.max(0.0) * 60.0).min(86_400.0));
        self.cancel_deadline = Some(Instant::now() + grace);
    }

    /// States of the link are reported, not logged: the log has what the steps wrote.
    pub(super) async fn note(&mut self, event: HostEvent) -> Result<(), JobError> {
        let at = self.runner.clock.now();
        match event {
            HostEvent::Detached { reason } => self.report(Report::Detached { at, reason }).await,
            HostEvent::Attached => self.report(Report::Attached { at }).await,
            _ => {}
        }
        Ok(())
    }

    /// Bytes of a process become lines of the log.
    pub(super) async fn take(&mut self, follower: &mut Follower, bytes: &[u8]) -> Result<(), JobError> {
        follower.lines.at(self.runner.clock.now());
        let mut rest = bytes;
        while !rest.is_empty() {
            let before = follower.effects.len();
            let taken = follower.output.feed(rest, &mut self.masks, &mut follower.lines, &mut follower.effects);
            rest = &rest[taken..];
            self.write_lines(follower).await?;
            self.perform(follower, before).await?;
        }
        Ok(())
    }

    pub(super) async fn finish_follower(&mut self, follower: &mut Follower) -> Result<(), JobError> {
        follower.lines.at(self.runner.clock.now());
        let before = follower.effects.len();
        follower.output.finish(&mut self.masks, &mut follower.lines, &mut follower.effects);
        self.write_lines(follower).await?;
        self.perform(follower, before).await
    }

    async fn write_lines(&mut self, follower: &mut Follower) -> Result<(), JobError> {
        self.log.append_when_there_is_room(follower.lines.bytes(), follower.lines.count()).await?;
        follower.lines.clear();
        Ok(())
    }

    /// What the output asks for at once.
    async fn perform(&mut self, follower: &mut Follower, from: usize) -> Result<(), JobError> {
        for index in from..follower.effects.len() {
            match follower.effects[index].clone() {
                Effect::Annotation { annotation, .. } => self.report_annotation(annotation),
                Effect::AddMatchers { file } => {
                    let content = self.matchers_file(&file).await?;
                    if let Ok(content) = &content {
                        drop(self.matchers.add(content.clone()));
                    }
                    let Follower { output, lines, effects, .. } = follower;
                    output.add_matchers(&file, content, &self.masks, lines, effects);
                    self.write_lines(follower).await?;
                }
                Effect::RemoveMatchersOf { file } => {
                    if let Ok(content) = self.matchers_file(&file).await? {
                        let owners: Vec<String> = content.matchers.into_iter().map(|matcher| matcher.owner).collect();
                        owners.iter().for_each(|owner| self.matchers.remove(owner));
                        follower.output.remove_matchers(owners.iter().map(String::as_str));
                    }
                }
                Effect::RemoveMatchers { owners } => owners.iter().for_each(|owner| self.matchers.remove(owner)),
                _ => {}
            }
        }
        // Annotations and mask notices were acted on and need not be kept.
        let mut index = 0;
        follower.effects.retain(|effect| {
            index += 1;
            index <= from || !matches!(effect, Effect::Annotation { .. } | Effect::MaskAdded)
        });
        Ok(())
    }

    async fn matchers_file(&mut self, file: &str) -> Result<Result<MatchersFile, String>, JobError> {
        let paths = annotation::Paths { mounts: self.mounts(), ..annotation::Paths::default() };
        let path = super::script::join(&self.workspace.path, &paths.to_host(file));
        let Some(bytes) = self.host.read_file(&path, 1 << 20).await? else {
            return Ok(Err(format!("Could not find file '{path}'.")));
        };
        Ok(MatchersFile::parse(&bytes))
    }
}

/// [`Exit`] in the journal.
mod exit {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::transport::Exit;

    pub(super) fn serialize<S: Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
        let (how, code) = match exit {
            Exit::Code(code) => ("code", code),
            Exit::TimedOut(code) => ("timed_out", code),
            Exit::Cancelled(code) => ("cancelled", code),
            Exit::NotStarted(code) => ("not_started", code),
        };
        (how, code).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Exit, D::Error> {
        let (how, code) = <(String, i32)>::deserialize(deserializer)?;
        Ok(match how.as_str() {
            "timed_out" => Exit::TimedOut(code),
            "cancelled" => Exit::Cancelled(code),
            "not_started" => Exit::NotStarted(code),
            _ => Exit::Code(code),
        })
    }
}
