//! Background steps (S14): started beside the others, seen by the job only where it waits for them.

use crate::run::conclusion::Conclusion;
use crate::run::report::StepKind;
use crate::transport::{Grace, HostEvent, StepEnded, StepRequest};
use crate::workflow::model::{Step, StepBody};

use super::JobError;
use super::contexts::{Frame, Variables};
use super::follow::{Ended, Follower};
use super::job::Job;
use super::log::LogFile;
use super::script::StepRun;
use super::step::{StepEnd, StepError};

/// So many run at once; the others wait for one to end.
const MOST_AT_ONCE: usize = 10;

/// A step that runs beside the others.
pub(super) struct Background {
    step: Step,
    key: String,
    name: String,
    /// The job's number of the step, and the host's.
    shown: u32,
    number: u32,
    minutes: f64,
    follower: Follower,
    /// Its output until it is waited for: a section of the log is one piece.
    log: LogFile,
    ended: Option<StepEnded>,
    /// Its end is in the record: nothing of it runs any more.
    over: bool,
    /// What it will be started with, while it waits for another to end.
    queued: Option<StepRequest>,
    /// `cancel:` was said: its end is no failure of the job.
    cancelled: bool,
    /// A JavaScript action: it keeps state for its post step, and says itself what went wrong.
    is_action: bool,
}

impl Background {
    /// Whether it has been started and has not ended.
    fn is_running(&self) -> bool {
        !self.over && self.ended.is_none() && self.queued.is_none()
    }
}

/// The record that a step was started.
fn begun(key: &str) -> String {
    format!("{key}/beside")
}

impl Job<'_> {
    /// Starts a process in the background.
    pub(super) async fn start_background(
        &mut self,
        frame: &Frame,
        step: &Step,
        request: StepRequest,
        run: &StepRun<'_>,
        is_action: bool,
    ) -> Result<(), StepError> {
        let env: Variables = request.env.iter().cloned().collect();
        let settings = self.settings(step, frame.number, &env);
        let number = request.number;
        let minutes = run.timeout.map_or(self.order.timeout_minutes, |timeout| timeout.as_secs_f64() / 60.0);
        let follower = Follower::new(self, settings);
        let log = self.log.beside(number)?;
        let over = self.journal.knows(&format!("{}/end", run.key));
        let request = if over { request } else { self.placed(request)? };
        // What was started before a restart is not asked to wait again.
        let begun = self.journal.knows(&begun(run.key));
        let waits = !over && !begun && self.running_beside() >= MOST_AT_ONCE;
        let (now, queued) = if waits { (None, Some(request)) } else { (Some(request), None) };
        self.background.push(Background {
            step: step.clone(),
            key: run.key.to_owned(),
            name: run.name.to_owned(),
            shown: frame.number,
            number,
            minutes,
            follower,
            log,
            ended: None,
            over,
            queued,
            cancelled: false,
            is_action,
        });
        match now {
            Some(request) if !over => Ok(self.start_beside(run.key, request).await?),
            _ => Ok(()),
        }
    }

    /// How many background steps have been started and not ended.
    fn running_beside(&self) -> usize {
        self.background.iter().filter(|background| background.is_running()).count()
    }

    async fn start_beside(&mut self, key: &str, request: StepRequest) -> Result<(), JobError> {
        if self.journal.is_live() {
            self.record(&begun(key), &())?;
        }
        self.journal.durable().await?;
        self.host.start_step(request).await?;
        Ok(())
    }

    /// Starts what waits, the oldest first, as far as there is room.
    async fn start_queued(&mut self) -> Result<(), JobError> {
        while self.running_beside() < MOST_AT_ONCE
            && let Some(background) = self.background.iter_mut().find(|background| background.queued.is_some())
            && let Some(request) = background.queued.take()
        {
            let key = background.key.clone();
            self.start_beside(&key, request).await?;
        }
        Ok(())
    }

    /// A cancelled job leaves nothing running beside it; what waited is not started any more.
    pub(super) async fn cancel_all_background(&mut self) -> Result<(), JobError> {
        for background in &mut self.background {
            if background.is_running() {
                self.host.cancel_step(background.number, Grace::GITHUB).await?;
            }
        }
        Ok(())
    }

    /// Output of a background step.
    pub(super) async fn take_background(&mut self, number: u32, bytes: &[u8]) -> Result<(), JobError> {
        let Some(index) = self.background.iter().position(|background| background.number == number) else {
            return Ok(());
        };
        let mut background = self.background.remove(index);
        std::mem::swap(&mut self.log, &mut background.log);
        let taken = self.take(&mut background.follower, bytes).await;
        std::mem::swap(&mut self.log, &mut background.log);
        self.background.insert(index, background);
        taken
    }

    /// A background step ended; nobody sees it before it is waited for.
    pub(super) async fn background_ended(&mut self, ended: StepEnded) -> Result<(), JobError> {
        if let Some(background) = self.background.iter_mut().find(|background| background.number == ended.number) {
            background.ended = Some(ended);
            if !self.status.is_cancelled() {
                self.start_queued().await?;
            }
        }
        Ok(())
    }

    /// `wait` and `wait-all`: ends, outputs and failures of background steps become the job's.
    pub(super) async fn wait_for(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        ids: Option<&[String]>,
        key: &str,
    ) -> Result<(), JobError> {
        let name = step.default_name(None);
        self.step_started(frame.number, &name, StepKind::Main, key).await?;
        let mut outcome = Conclusion::Success;
        // A step whose conclusion is a failure makes the wait fail, and that the job (S14).
        while let Some(index) = self.background.iter().position(|background| {
            ids.is_none_or(|ids| ids.iter().any(|id| id.eq_ignore_ascii_case(&background.step.id)))
        }) {
            let conclusion = self.collect(frame, index).await?;
            if conclusion.as_result() == "failure" {
                outcome = Conclusion::Failure;
            }
        }
        let conclusion = self.conclude_step(frame, step, StepEnd::of(outcome), key).await?;
        self.status.record(conclusion);
        Ok(())
    }

    /// The implicit wait before post steps. Whatever the waits before it tolerated, the job fails with its steps.
    pub(super) async fn wait_for_rest(&mut self, frame: &mut Frame) -> Result<(), JobError> {
        while !self.background.is_empty() {
            self.collect(frame, 0).await?;
        }
        if self.background_failed {
            self.status.record(Conclusion::Failure);
        }
        Ok(())
    }

    /// `cancel: id`: the ladder, then its end, which does not fail the job.
    pub(super) async fn cancel_background(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        id: &str,
        key: &str,
    ) -> Result<(), JobError> {
        self.step_started(frame.number, &step.default_name(None), StepKind::Main, key).await?;
        if let Some(index) = self.background.iter().position(|background| background.step.id.eq_ignore_ascii_case(id)) {
            let background = &mut self.background[index];
            background.cancelled = true;
            if background.is_running() && self.journal.is_live() {
                let number = background.number;
                self.host.cancel_step(number, Grace { interrupt: std::time::Duration::ZERO, ..Grace::GITHUB }).await?;
            }
            self.collect(frame, index).await?;
        }
        self.step_finished(frame.number, Conclusion::Success, Conclusion::Success, None, key).await
    }

    /// `parallel: [steps]`: all at once, then all waited for.
    pub(super) async fn run_parallel(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        steps: &[Step],
        key: &str,
    ) -> Result<(), JobError> {
        let _ = step;
        let steps: Vec<Step> = steps.iter().cloned().map(|step| Step { background: true, ..step }).collect();
        let mut ids = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            if index > 0 {
                frame.number += 1;
            }
            ids.push(step.id.clone());
            let key = format!("{key}/{}", index + 1);
            if !matches!(step.body, StepBody::Parallel(_)) {
                self.run_one(frame, step, &key).await?;
            }
        }
        while let Some(index) = self.background.iter().position(|background| ids.contains(&background.step.id)) {
            let conclusion = self.collect(frame, index).await?;
            self.status.record(conclusion);
        }
        Ok(())
    }

    /// Waits for one background step and gives its conclusion; its outputs and variables become the job's.
    async fn collect(&mut self, frame: &mut Frame, index: usize) -> Result<Conclusion, JobError> {
        let number = self.background[index].number;
        let key = self.background[index].key.clone();
        // Cancelled before its turn came: nothing of it has run.
        let never = self.journal.recall::<()>(&format!("{key}/never"))?.is_some();
        let due =
            self.background[index].queued.is_some() && (self.background[index].cancelled || self.status.is_cancelled());
        if never || due {
            if !never {
                self.record(&format!("{key}/never"), &())?;
            }
            let background = self.background.remove(index);
            let outer = std::mem::replace(&mut frame.number, background.shown);
            frame.steps.finish(&background.step.id, Conclusion::Cancelled, Conclusion::Cancelled);
            self.step_finished(frame.number, Conclusion::Cancelled, Conclusion::Cancelled, None, &key).await?;
            frame.number = outer;
            return Ok(Conclusion::Cancelled);
        }
        let known = self.journal.recall::<Ended>(&format!("{key}/end"))?;
        if known.is_none() {
            let none = Variables::new();
            while self.background[index].ended.is_none() {
                let step = self.background[index].step.clone();
                match self.next_event(frame, &step, &none, number).await? {
                    HostEvent::Output { step: 0, .. } => {}
                    HostEvent::Output { step, bytes, .. } => self.take_background(step, &bytes).await?,
                    HostEvent::StepEnded(ended) => self.background_ended(*ended).await?,
                    other => self.note(other).await?,
                }
            }
        }
        let mut background = self.background.remove(index);
        let outer = std::mem::replace(&mut frame.number, background.shown);
        let ended = match known {
            Some(ended) => {
                self.recall_words(&ended);
                ended
            }
            None => {
                std::mem::swap(&mut self.log, &mut background.log);
                let finished = self.finish_follower(&mut background.follower).await;
                std::mem::swap(&mut self.log, &mut background.log);
                finished?;
                self.log.take_over(&mut background.log)?;
                let end = background.ended.take().expect("the loop above ended with it");
                let ended =
                    self.ended(background.follower, end.exit, end.files.into(), &background.name, background.minutes);
                self.record(&format!("{key}/end"), &ended)?;
                ended
            }
        };
        if background.is_action {
            self.keep_state(&key, &ended);
        }
        let end = if background.cancelled {
            Ok(StepEnd::of(Conclusion::Cancelled))
        } else if background.is_action {
            self.conclude_action(frame, &background.step, &ended)
        } else {
            self.conclude_process(frame, &background.step, &ended)
        };
        let end = match end {
            Ok(end) => end,
            Err(StepError::Job(error)) => return Err(error),
            Err(StepError::Failed(message)) => {
                self.error(frame.number, &message)?;
                StepEnd::of(Conclusion::Failure)
            }
        };
        let conclusion = if background.cancelled {
            frame.steps.finish(&background.step.id, end.outcome, end.outcome);
            self.step_finished(frame.number, end.outcome, end.outcome, end.exit_code, &key).await?;
            end.outcome
        } else {
            self.conclude_step(frame, &background.step, end, &key).await?
        };
        self.background_failed |= conclusion.as_result() == "failure";
        frame.number = outer;
        Ok(conclusion)
    }
}
