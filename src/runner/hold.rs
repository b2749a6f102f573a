//! A failed job that stays as it is for a while: workspace, slot, containers, and what its steps left running.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::job::Job;
use super::told::news;
use super::{Cancel, JobError, Told};
use crate::run::Conclusion;
use crate::run::report::Report;

/// The longest sleep before the clock is looked at again: it may have jumped.
const LOOK: Duration = Duration::from_secs(30);

impl Job {
    /// Waits behind the steps of a job that failed, if the run wants that, until its time is over, somebody releases it,
    /// or the job is cancelled. Post steps and the clean-up come after it.
    pub(super) async fn hold(&mut self) -> Result<(), JobError> {
        let minutes = self.order.hold_minutes;
        let failed = self.out_of_time || self.status.conclusion() == Conclusion::Failure;
        if minutes == 0 || !failed {
            return Ok(());
        }
        let began = self.runner.clock.now();
        let until: Timestamp = match self.journal.recall("hold")? {
            Some(until) => until,
            None => {
                let until = began + SignedDuration::from_mins(i64::from(minutes));
                self.say_line(&format!(
                    "##[warning]The job failed and is held until {}: look at {} on {}, then release it with `towline job release {}`",
                    until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    self.workspace.path,
                    self.host_name,
                    self.order.job,
                ))?;
                // Behind the line: what is in the log after the last record is cut by a restart.
                self.record("hold", &until)?;
                until
            }
        };
        let held = match self.journal.recall::<u64>("held")? {
            Some(seconds) => Duration::from_secs(seconds),
            None => {
                self.report(Report::Held { until: Some(until) }).await;
                self.until_released(until).await?;
                self.report(Report::Held { until: None }).await;
                let since = until - SignedDuration::from_mins(i64::from(minutes));
                let held = Duration::try_from(self.runner.clock.now().duration_since(since)).unwrap_or_default();
                self.record("held", &held.as_secs())?;
                held
            }
        };
        // Looking at a job is no part of the time it may take.
        for limit in std::iter::once(&mut self.deadline).chain(&mut self.cancel_deadline) {
            *limit = limit.checked_add(held).unwrap_or(*limit);
        }
        Ok(())
    }

    async fn until_released(&mut self, until: Timestamp) -> Result<(), JobError> {
        loop {
            let Told { cancel, release } = *self.told.borrow_and_update();
            if cancel == Cancel::Forced {
                return Err(JobError::Forced);
            }
            let left = Duration::try_from(until.duration_since(self.runner.clock.now())).unwrap_or_default();
            if release || cancel == Cancel::Requested || left.is_zero() {
                return Ok(());
            }
            tokio::select! {
                () = news(&mut self.told) => {}
                () = tokio::time::sleep(left.min(LOOK)) => {}
            }
        }
    }
}
