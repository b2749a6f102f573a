//! A cancel or the end of its time in the middle of a job: recorded, so that whoever takes the job up again tells it nothing twice,
//! gives it no time anew, and knows in the end why it ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::job::Job;
use super::{Cancel, JobError};
use crate::clock::Moment;
use crate::run::report::AnnotationLevel;
use crate::toolkit::annotation;

/// Its key in the journal.
pub(super) const KEY: &str = "interrupted";
/// The line of a step that a cancel ends.
pub(super) const CANCELED: &str = "##[error]The operation was canceled.";

/// What a job was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Interruption {
    /// Since then it has its cancel time-out.
    moment: Moment,
    /// The job's last process at that time.
    number: u32,
    /// No process ran: the job waited for background steps.
    waiting: bool,
    /// The line for the log.
    said: Option<String>,
    /// Its time was over.
    out_of_time: bool,
}

impl Job {
    /// The job's own time is over, which leaves it that for cleaning up; gives the line that says so.
    pub(super) fn say_out_of_time(&mut self) -> Result<String, JobError> {
        self.out_of_time = true;
        self.status.cancel();
        self.start_grace(Duration::ZERO);
        let message = format!(
            "The job running on runner {} has exceeded the maximum execution time of {} minutes.",
            self.host_name, self.order.timeout_minutes
        );
        self.error(1, &message)?;
        Ok(format!("{}{message}", annotation::tag(AnnotationLevel::Failure)))
    }

    /// Records that the job was interrupted. `waiting`: while no process ran, but it waited for background steps.
    pub(super) fn keep_interruption(&mut self, waiting: bool, said: Option<String>) -> Result<(), JobError> {
        if self.aside.is_some() || !self.journal.is_live() {
            return Ok(());
        }
        let interruption = Interruption {
            moment: self.runner.clock.moment(),
            number: self.number,
            waiting,
            said,
            out_of_time: self.out_of_time,
        };
        self.record_in_step(KEY, &interruption)
    }

    /// Lets hold again what an earlier process told the job, once the job is in the process in which it was told, or behind it.
    pub(super) fn interrupt_again(&mut self, number: u32) {
        let Some(known) = self.interruption.take_if(|known| known.number <= number) else { return };
        self.out_of_time |= known.out_of_time;
        self.status.cancel();
        self.start_grace(self.runner.clock.since(&known.moment).unwrap_or_default());
        self.tell_background(Cancel::Requested);
        // What ended since then has the line in front of its end.
        if known.waiting || self.journal.is_live() {
            self.owed = known.said;
        }
    }

    /// Says that a cancel ends what runs. Of a process that is followed again it comes behind what it wrote before.
    pub(super) fn say_cancelled(&mut self, runs: bool) -> Result<(), JobError> {
        if runs && self.is_reread {
            self.owed = Some(CANCELED.to_owned());
            return Ok(());
        }
        self.say_line(CANCELED)
    }

    /// The line of an interruption that came in what is followed again.
    pub(super) fn say_owed(&mut self) -> Result<(), JobError> {
        match self.owed.take() {
            Some(line) => self.say_line(&line),
            None => Ok(()),
        }
    }

    /// From now on the job has its cancel time-out for `always()` and post steps (S8, Z3), of which so much has passed.
    pub(super) fn start_grace(&mut self, passed: Duration) {
        let grace = Duration::from_secs_f64((self.order.cancel_timeout_minutes.max(0.0) * 60.0).min(86_400.0));
        self.cancel_deadline = Some(Instant::now() + grace.saturating_sub(passed));
    }

    /// How long the job's processes may run.
    pub(super) fn time_left(&self) -> Duration {
        self.cancel_deadline.unwrap_or(self.deadline).saturating_duration_since(Instant::now())
    }
}
