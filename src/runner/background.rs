//! Background steps (S14): started beside the others, seen by the job only where it waits for them.

use futures_util::future::BoxFuture;
use tokio::task::JoinError;

use crate::run::conclusion::Conclusion;
use crate::run::report::StepKind;
use crate::workflow::model::{Step, StepBody};

use super::aside::{Reins, owns};
use super::contexts::{Frame, Variables};
use super::job::Job;
use super::journal::JOINED;
use super::script::StepRun;
use super::step::{StepEnd, StepError};
use super::{Cancel, JobError, Told};

/// So many run at once; the others wait for one to end.
const MOST_AT_ONCE: usize = 10;
/// How long a background step may take to end what it runs when nobody waits any longer.
const FORCED: std::time::Duration = std::time::Duration::from_secs(10);

/// A step that runs beside the others.
pub(super) struct Background {
    step: Step,
    key: String,
    name: String,
    /// The job's number of the step.
    shown: u32,
    reins: Reins,
    /// While it waits for another to end.
    queued: Option<Box<Work>>,
    ended: Option<Box<Ended>>,
    /// `cancel:` was said: that it was cancelled is no failure of the job.
    cancelled: bool,
}

impl Background {
    /// Whether it has been started and has not ended.
    fn is_running(&self) -> bool {
        self.queued.is_none() && self.ended.is_none()
    }

    /// Whether one of the ids is its own; all are when nothing is said.
    fn is_among(&self, ids: Option<&[String]>) -> bool {
        ids.is_none_or(|ids| ids.iter().any(|id| id.eq_ignore_ascii_case(&self.step.id)))
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "(none)".to_owned() } else { names.join(", ") }
}

/// A conclusion as the log of a wait has it.
fn said(conclusion: Conclusion) -> &'static str {
    match conclusion.as_result() {
        "success" => "Succeeded",
        "failure" => "Failed",
        "cancelled" => "Canceled",
        _ => "Skipped",
    }
}

/// A background step that can be started.
struct Work {
    number: u32,
    job: Job,
    frame: Frame,
    step: Step,
    env: Variables,
    key: String,
    name: String,
    timeout: Option<std::time::Duration>,
}

/// One that has ended, and all it did.
pub(super) struct Ended {
    number: u32,
    job: Job,
    frame: Frame,
    end: StepEnd,
}

impl Work {
    fn run(self) -> BoxFuture<'static, Result<Box<Ended>, JobError>> {
        Box::pin(async move {
            let Self { number, mut job, mut frame, step, env, key, name, timeout } = self;
            let begun = format!("{key}/beside");
            if job.journal.recall::<()>(&begun)?.is_none() {
                job.record(&begun, &())?;
            }
            let run = StepRun { key: &key, name: &name, timeout, on_host: false };
            let end = match job.run_kind(&mut frame, &step, &env, &run).await {
                Ok(end) => end,
                Err(StepError::Job(error)) => return Err(error),
                Err(StepError::Failed(message)) => {
                    job.error(frame.number, &message)?;
                    StepEnd::of(Conclusion::Failure)
                }
            };
            job.events.close();
            Ok(Box::new(Ended { number, job, frame, end }))
        })
    }
}

impl Job {
    /// Starts a step in the background, or lets it wait for its turn.
    pub(super) async fn start_background(
        &mut self,
        frame: &Frame,
        step: &Step,
        env: &Variables,
        run: &StepRun<'_>,
    ) -> Result<(), JobError> {
        let (job, reins) = self.split_off(run.key)?;
        // What was started before a restart is not asked to wait again.
        let begun = job.journal.knows(&format!("{}/beside", run.key));
        let work = Box::new(Work {
            number: reins.number,
            job,
            frame: frame.clone(),
            step: step.clone(),
            env: env.clone(),
            key: run.key.to_owned(),
            name: run.name.to_owned(),
            timeout: run.timeout,
        });
        // What led here must be known again after a crash, before anything is started because of it.
        self.journal.durable().await?;
        let waits = !begun && self.running_beside() >= MOST_AT_ONCE;
        let (now, queued) = if waits { (None, Some(work)) } else { (Some(work), None) };
        self.background.push(Background {
            step: step.clone(),
            key: run.key.to_owned(),
            name: run.name.to_owned(),
            shown: frame.number,
            reins,
            queued,
            ended: None,
            cancelled: false,
        });
        if let Some(work) = now {
            self.beside.spawn(work.run());
        }
        Ok(())
    }

    /// How many background steps have been started and not ended.
    fn running_beside(&self) -> usize {
        self.background.iter().filter(|background| background.is_running()).count()
    }

    /// Starts what waits, the oldest first, as far as there is room.
    fn start_queued(&mut self) {
        while self.running_beside() < MOST_AT_ONCE
            && let Some(background) = self.background.iter_mut().find(|background| background.queued.is_some())
            && let Some(work) = background.queued.take()
        {
            self.beside.spawn(work.run());
        }
    }

    /// Tells all background steps that the job is cancelled; what waits for its turn is not started any more.
    pub(super) fn tell_background(&mut self, cancel: Cancel) {
        for background in &self.background {
            background.reins.told.send_replace(Told { cancel, release: false });
        }
    }

    /// Ends all background steps at once.
    pub(super) async fn force_background(&mut self) {
        self.tell_background(Cancel::Forced);
        let all = async { while self.beside.join_next().await.is_some() {} };
        // Whoever does not answer is left to the sweep at the end of the job's directory.
        drop(tokio::time::timeout(FORCED, all).await);
    }

    /// What happens to a process of a background step is for that to know.
    pub(super) async fn pass_on(&mut self, number: u32, event: crate::transport::HostEvent) {
        let found = self.background.iter().find(|background| owns(background.reins.number, number));
        if let Some(events) = found.map(|background| background.reins.events.clone()) {
            // One that has ended hears nothing any more.
            drop(events.send(event).await);
        }
    }

    /// A background step ended; nobody sees it before it is waited for.
    pub(super) fn background_ended(
        &mut self,
        ended: Result<Result<Box<Ended>, JobError>, JoinError>,
    ) -> Result<(), JobError> {
        let ended = match ended {
            Ok(ended) => ended?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(JobError::Forced),
        };
        let number = ended.number;
        if let Some(background) = self.background.iter_mut().find(|background| background.reins.number == number) {
            background.ended = Some(ended);
        }
        if !self.status.is_cancelled() {
            self.start_queued();
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
        let all = if ids.is_none() { "all " } else { "" };
        self.say_line(&match (self.names_of(ids), ids) {
            (names, None) if names.is_empty() => "No background steps remaining to wait for.".to_owned(),
            (names, _) => format!("Waiting for {all}background step(s) to complete: {}", listed(&names)),
        })?;
        let mut ends = Vec::new();
        // A step whose conclusion is a failure makes the wait fail, and that the job (S14).
        while let Some(index) = self.background.iter().position(|background| background.is_among(ids)) {
            let name = self.background[index].name.clone();
            let conclusion = self.collect(frame, index).await?;
            ends.push(format!("  {name}: {}", said(conclusion)));
            if conclusion.as_result() == "failure" {
                outcome = Conclusion::Failure;
            }
        }
        self.say_line(&format!("Finished waiting for {all}background step(s)."))?;
        self.say(&ends)?;
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

    /// `cancel: id`: the ladder, then its end. That it was cancelled does not fail the job; a failure before it does.
    pub(super) async fn cancel_background(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        id: &str,
        key: &str,
    ) -> Result<(), JobError> {
        self.step_started(frame.number, &step.default_name(None), StepKind::Main, key).await?;
        let ids = [id.to_owned()];
        self.say_line(&format!("Cancelling background step(s): {}", listed(&self.names_of(Some(&ids)))))?;
        let mut ends = Vec::new();
        if let Some(index) = self.background.iter().position(|background| background.is_among(Some(&ids))) {
            let name = self.background[index].name.clone();
            self.background[index].cancelled = true;
            self.background[index].reins.stop.send_replace(true);
            ends.push(format!("  {name}: {}", said(self.collect(frame, index).await?)));
        }
        self.say_line("Finished cancelling background step(s).")?;
        self.say(&ends)?;
        self.step_finished(frame.number, Conclusion::Success, Conclusion::Success, None, key).await
    }

    /// The names of background steps that were not waited for yet: all, or those with these ids.
    fn names_of(&self, ids: Option<&[String]>) -> Vec<String> {
        let wanted = self.background.iter().filter(|background| background.is_among(ids));
        wanted.map(|background| background.name.clone()).collect()
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
        let (step, key) = (self.background[index].step.clone(), self.background[index].key.clone());
        self.interrupt_again(self.number);
        self.say_owed()?;
        let never = format!("{key}/never");
        if self.journal.recall::<()>(&never)?.is_some() {
            return self.conclude_never(frame, index).await;
        }
        let none = Variables::new();
        while self.background[index].ended.is_none() {
            // Cancelled before its turn came, perhaps while it is waited for: nothing of it runs any more.
            let is_cancelled = self.background[index].cancelled || self.status.is_cancelled();
            if self.background[index].queued.is_some() && is_cancelled {
                self.record(&never, &())?;
                return self.conclude_never(frame, index).await;
            }
            // Of one that the job has already the records tell everything. What the host says meanwhile is said of the step that
            // was started behind it, and waits until the job is there again.
            if self.background[index].reins.joined
                && let Some(ended) = self.beside.join_next().await
            {
                self.background_ended(ended)?;
            } else {
                self.attend(frame, &step, &none, None).await?;
            }
        }
        let mut background = self.background.remove(index);
        let Ended { mut job, frame: inner, end, .. } = *background.ended.take().expect("the loop above ended with it");
        self.exchange_masks();
        // In a job that was begun by an earlier version, what comes later was recorded with the step's output in the log.
        let joined = format!("{key}/{JOINED}");
        let mut section = self.journal.recall::<(u64, u64)>(&joined)?;
        if section.is_none() && !background.reins.joined && self.journal.is_live() {
            let begin = (self.log.len(), self.log.lines());
            self.log.take_over_when_there_is_room(&job.log).await?;
            self.record(&joined, &begin)?;
            // Until that is on the disk, the file beside is all that a crash leaves of these lines.
            self.journal.durable().await?;
            section = Some(begin);
        }
        self.set_section(background.shown, section).await;
        self.join(frame, (&step.id, &key), &mut job, &inner);
        job.log.remove()?;
        if background.cancelled && end.outcome == Conclusion::Cancelled {
            return self.conclude_cancelled(frame, &background, end.exit_code).await;
        }
        let outer = std::mem::replace(&mut frame.number, background.shown);
        let conclusion = self.conclude_step(frame, &step, end, &key).await?;
        self.background_failed |= conclusion.as_result() == "failure";
        frame.number = outer;
        Ok(conclusion)
    }

    /// The end of a step whose turn never came.
    async fn conclude_never(&mut self, frame: &mut Frame, index: usize) -> Result<Conclusion, JobError> {
        let mut background = self.background.remove(index);
        if let Some(work) = background.queued.take() {
            work.job.log.remove()?;
        }
        self.conclude_cancelled(frame, &background, None).await
    }

    /// The end of a step that `cancel:` names, or whose turn did not come before the job was cancelled.
    async fn conclude_cancelled(
        &mut self,
        frame: &mut Frame,
        background: &Background,
        code: Option<i32>,
    ) -> Result<Conclusion, JobError> {
        let end = Conclusion::Cancelled;
        frame.steps.finish(&background.step.id, end, end);
        self.step_finished(background.shown, end, end, code, &background.key).await?;
        Ok(end)
    }
}
