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
    /// `cancel:` was said: its end is no failure of the job.
    cancelled: bool,
    /// A JavaScript action: it keeps state for its post step, and says itself what went wrong.
    is_action: bool,
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
            cancelled: false,
            is_action,
        });
        if self.journal.knows(&format!("{}/end", run.key)) {
            return Ok(());
        }
        let request = self.placed(request)?;
        self.journal.durable().await?;
        self.host.start_step(request).await.map_err(JobError::from)?;
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
        while let Some(index) = self.background.iter().position(|background| {
            ids.is_none_or(|ids| ids.iter().any(|id| id.eq_ignore_ascii_case(&background.step.id)))
        }) {
            let conclusion = self.collect(frame, index).await?;
            if conclusion.as_result() == "failure" {
                outcome = Conclusion::Failure;
            }
        }
        self.step_finished(frame.number, outcome, outcome, None, key).await
    }

    /// The implicit wait before post steps.
    pub(super) async fn wait_for_rest(&mut self, frame: &mut Frame) -> Result<(), JobError> {
        while !self.background.is_empty() {
            self.collect(frame, 0).await?;
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
            if background.ended.is_none() && self.journal.is_live() {
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
            self.collect(frame, index).await?;
        }
        Ok(())
    }

    /// Waits for one background step and makes its end the job's.
    async fn collect(&mut self, frame: &mut Frame, index: usize) -> Result<Conclusion, JobError> {
        let number = self.background[index].number;
        let key = self.background[index].key.clone();
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
        let outcome = end.outcome;
        if background.cancelled {
            frame.steps.finish(&background.step.id, outcome, outcome);
            self.step_finished(frame.number, outcome, outcome, end.exit_code, &key).await?;
        } else {
            self.finish_step(frame, &background.step, end, &key).await?;
        }
        frame.number = outer;
        Ok(outcome)
    }
}
