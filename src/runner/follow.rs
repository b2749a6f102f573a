//! Following one process on the host: its output into the log, its end into a record, cancel and time limits in between.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::run::report::Report;
use crate::toolkit::annotation;
use crate::toolkit::command::Settings;
use crate::toolkit::file_command::{self, FileCommand};
use crate::toolkit::matcher::MatchersFile;
use crate::toolkit::output::{Effect, StepOutput};
use crate::toolkit::stamp::Lines;
use crate::transport::{CommandFiles, Exit, Grace, HostEvent, Resume, StepEnded, StepRequest, TransportError};
use crate::workflow::model::Step;

use super::artifacts::Artifacts;
use super::aside::{MatcherChange, stop_of};
use super::container::Answer;
use super::contexts::{Frame, Variables};
use super::interruption::CANCELED;
use super::job::Job;
use super::script::StepRun;
use super::step::StepError;
use super::told::news;
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
    /// What it declared to have made.
    #[serde(default)]
    artifacts: Artifacts,
    /// What it changed of the matchers.
    #[serde(default)]
    matchers: Vec<MatcherChange>,
    /// What the host's container hook answered, when it ran the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hook: Option<Answer>,
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
    pub(super) fn apply(&self, job: &mut Job, frame: &mut Frame, step: &Step) -> Result<Option<String>, JobError> {
        let mut failed = None;
        for effect in &self.effects {
            match effect {
                Effect::SetOutput { name, value } => frame.steps.set_output(&step.id, name, value),
                Effect::SetEnv { name, value } => job.set_env(name.clone(), value.clone()),
                Effect::AddPath(path) => job.add_path(path.clone()),
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
            job.add_path(path);
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
                    FileCommand::Env => job.set_env(name, value),
                    FileCommand::Output => frame.steps.set_output(&step.id, &name, &value),
                    _ => {}
                }
            }
        }
        failed = job.take_artifacts(frame, &self.artifacts)?.or(failed);
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

/// What happens to a step that runs.
pub(super) enum Happening {
    /// It wrote something; the spool's offset after it.
    Output {
        offset: u64,
        bytes: Bytes,
    },
    Ended(Box<StepEnded>),
}

/// One process's output on its way to the log.
pub(super) struct Follower {
    output: StepOutput,
    lines: Lines,
    effects: Vec<Effect>,
    matchers: Vec<MatcherChange>,
    masks_before: usize,
}

impl Follower {
    pub(super) fn new(job: &Job, settings: Settings) -> Self {
        Self {
            output: StepOutput::new(settings, &job.matchers),
            lines: Lines::new(job.runner.clock.now()),
            effects: Vec::new(),
            matchers: Vec::new(),
            masks_before: job.masks.values().count(),
        }
    }
}

impl Job {
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
            self.interrupt_again(self.number);
            return Ok(ended);
        }
        let env: Variables = request.env.iter().cloned().collect();
        let settings = self.settings(step, frame.number, &env);
        let mut request = if run.on_host { request } else { self.placed(frame, request).await? };
        request.spool = self.spool();
        request.files.push(self.artifacts_list(request.number));
        let hooked = request.contained.as_ref().is_some_and(|contained| contained.signal.is_none());
        // What led here must be known again after a crash, before anything is started because of it.
        self.log.settle_when_there_is_room().await.map_err(JobError::Log)?;
        self.journal.durable().await?;
        let number = request.number;
        let left = self.time_left();
        let own = match (request.timeout, self.step_deadline) {
            (own, Some((outer, whole))) => {
                let outer = outer.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                Some(own.filter(|own| *own < outer).map_or((outer, whole), |own| (own, own)))
            }
            (own, None) => own.map(|own| (own, own)),
        };
        let minutes = own.map_or(left, |(_, whole)| whole).as_secs_f64() / 60.0;
        let own = own.map(|(own, _)| own);
        // The host ends the step a little after us, for the case that we cannot be reached.
        request.timeout = Some(own.unwrap_or(Duration::MAX).min(left + Duration::from_secs(10)));
        self.host.start_step(request).await.map_err(JobError::from)?;
        let mut follower = Follower::new(self, settings);
        let exit = loop {
            match self.next_event(frame, step, &env, number).await? {
                Happening::Output { offset, bytes } => {
                    self.is_reread = false;
                    self.take(&mut follower, &bytes).await?;
                    self.resume.offset = offset;
                }
                Happening::Ended(ended) => {
                    self.resume = Resume { offset: ended.offset, ended: number };
                    break *ended;
                }
            }
        };
        self.is_reread = false;
        self.say_owed()?;
        self.finish_follower(&mut follower).await?;
        let artifacts = self.declared_artifacts(number, run.on_host).await?;
        let hook = if hooked { Some(self.hook_answer(number, exit.exit).await?) } else { None };
        let ended = Ended {
            exit: exit.exit,
            name: run.name.to_owned(),
            minutes: (minutes * 100.0).round() / 100.0,
            files: exit.files.into(),
            effects: follower.effects,
            masks: self.masks.values().skip(follower.masks_before).map(str::to_owned).collect(),
            artifacts,
            matchers: follower.matchers,
            hook,
        };
        self.record(&key, &ended)?;
        self.keep_hook_state(&ended);
        Ok(ended)
    }

    /// What an ended process changed of masks and matchers, again.
    pub(super) fn recall_words(&mut self, ended: &Ended) {
        for value in &ended.masks {
            self.masks.add(value);
        }
        for change in &ended.matchers {
            self.change_matchers(change.clone());
        }
        self.keep_hook_state(ended);
    }

    /// The next thing that happens to a step, while cancels, time limits and what runs beside it are attended to.
    pub(super) async fn next_event(
        &mut self,
        frame: &Frame,
        step: &Step,
        env: &Variables,
        number: u32,
    ) -> Result<Happening, JobError> {
        loop {
            if let Some(happening) = self.attend(frame, step, env, Some(number)).await? {
                return Ok(happening);
            }
        }
    }

    /// Waits until something happens; gives it if it happened to the step with this number.
    pub(super) async fn attend(
        &mut self,
        frame: &Frame,
        step: &Step,
        env: &Variables,
        number: Option<u32>,
    ) -> Result<Option<Happening>, JobError> {
        if self.interruption.is_some() {
            self.interrupt_again(u32::MAX);
        }
        let wanted = self.told.borrow_and_update().cancel;
        if wanted == Cancel::Forced {
            self.end_step(number, Grace { interrupt: Duration::ZERO, terminate: Duration::ZERO }).await?;
            self.force_background().await;
            return Err(JobError::Forced);
        }
        if wanted == Cancel::Requested && self.cancel_deadline.is_none() {
            self.status.cancel();
            self.start_grace(Duration::ZERO);
            // A background step is not asked for its condition (S14).
            let said = self.aside.is_some() || !self.outlives_cancel(frame, step, env);
            if said {
                self.say_cancelled(number.is_some())?;
                self.end_step(number, Grace::GITHUB).await?;
            }
            self.tell_background(Cancel::Requested);
            self.keep_interruption(number.is_none(), said.then(|| CANCELED.to_owned()))?;
        }
        let limit = self.deadline;
        let until = self.cancel_deadline.or_else(|| self.aside.is_none().then_some(limit));
        let until = async move {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                // The job watches its limit for all that runs beside it.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.events.next() => match event {
                Some(HostEvent::Lost { reason, host_died }) => Err(JobError::Lost { reason, host_died }),
                Some(event) => self.sort(event, number).await,
                None => Err(JobError::Lost { reason: format!("the job on {} is gone", self.host_name), host_died: false }),
            },
            Some(ended) = self.beside.join_next() => self.background_ended(ended).map(|()| None),
            () = news(&mut self.told) => Ok(None),
            () = stop_of(&mut self.aside) => {
                self.end_step(number, Grace { interrupt: Duration::ZERO, ..Grace::GITHUB }).await?;
                Ok(None)
            }
            () = until => self.out_of_time(number).await.map(|()| None),
        }
    }

    /// What happens to the awaited step is given back; the rest goes where it belongs.
    async fn sort(&mut self, event: HostEvent, number: Option<u32>) -> Result<Option<Happening>, JobError> {
        let at = self.runner.clock.now();
        // The main spool says not whose output it has: that of the step that runs.
        let own = if self.aside.is_some() { number } else { Some(0) };
        match event {
            HostEvent::Output { step, offset, bytes } if Some(step) == own => {
                return Ok(Some(Happening::Output { offset, bytes }));
            }
            HostEvent::StepEnded(ended) if Some(ended.number) == number => return Ok(Some(Happening::Ended(ended))),
            HostEvent::Output { step, .. } => self.pass_on(step, event).await,
            HostEvent::StepEnded(ref ended) => self.pass_on(ended.number, event).await,
            // States of the link are reported, not logged: the log has what the steps wrote.
            HostEvent::Detached { reason } => self.report(Report::Detached { at, reason }).await,
            HostEvent::Attached => self.report(Report::Attached { at }).await,
            HostEvent::Lost { .. } => {}
        }
        Ok(None)
    }

    async fn end_step(&self, number: Option<u32>, grace: Grace) -> Result<(), JobError> {
        match number {
            Some(number) => Ok(self.host.cancel_step(number, grace).await?),
            None => Ok(()),
        }
    }

    /// A limit has passed: the job's own, or what a cancel left.
    async fn out_of_time(&mut self, number: Option<u32>) -> Result<(), JobError> {
        if self.cancel_deadline.is_some() {
            self.end_step(number, Grace { interrupt: Duration::ZERO, terminate: Duration::ZERO }).await?;
            self.force_background().await;
            return Err(JobError::Forced);
        }
        let said = self.say_out_of_time()?;
        self.end_step(number, Grace::GITHUB).await?;
        self.tell_background(Cancel::Requested);
        self.keep_interruption(number.is_none(), Some(said))
    }

    /// Bytes of a process become lines of the log.
    pub(super) async fn take(&mut self, follower: &mut Follower, bytes: &[u8]) -> Result<(), JobError> {
        self.exchange_masks();
        follower.lines.at(self.runner.clock.now());
        let mut rest = bytes;
        while !rest.is_empty() {
            let before = follower.effects.len();
            let known = self.masks.len();
            let taken = follower.output.feed(rest, &mut self.masks, &mut follower.lines, &mut follower.effects);
            rest = &rest[taken..];
            self.keep_masks(known)?;
            self.exchange_masks();
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
                        self.change_matchers_in(follower, MatcherChange::Add(content.matchers.clone()));
                    }
                    let Follower { output, lines, effects, .. } = follower;
                    output.add_matchers(&file, content, &self.masks, lines, effects);
                    self.write_lines(follower).await?;
                }
                Effect::RemoveMatchersOf { file } => {
                    if let Ok(content) = self.matchers_file(&file).await? {
                        let owners: Vec<String> = content.matchers.into_iter().map(|matcher| matcher.owner).collect();
                        for owner in &owners {
                            self.change_matchers_in(follower, MatcherChange::Remove(owner.clone()));
                        }
                        follower.output.remove_matchers(owners.iter().map(String::as_str));
                    }
                }
                Effect::RemoveMatchers { owners } => {
                    for owner in owners {
                        self.change_matchers_in(follower, MatcherChange::Remove(owner));
                    }
                }
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

    fn change_matchers_in(&mut self, follower: &mut Follower, change: MatcherChange) {
        self.change_matchers(change.clone());
        follower.matchers.push(change);
    }

    async fn matchers_file(&mut self, file: &str) -> Result<Result<MatchersFile, String>, JobError> {
        let paths = annotation::Paths { mounts: self.mounts(), ..annotation::Paths::default() };
        let path = super::script::join(&self.workspace.path, &paths.to_host(file));
        match self.host.read_file(&path, 1 << 20).await {
            Ok(Some(bytes)) => Ok(MatchersFile::parse(&bytes)),
            Ok(None) => Ok(Err(format!("Could not find file '{path}'."))),
            // A directory, or too much: a fault of who named it.
            Err(TransportError::Failed { reason, .. }) => Ok(Err(reason)),
            Err(error) => Err(error.into()),
        }
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
