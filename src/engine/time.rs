//! What is due when, and a clock that was set.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::record::Change;
use super::state::{Engine, Stage, Timer};
use super::step::{DELIVERIES_REMEMBERED, DELIVERY_MEMORY, Turn};
use crate::run::{Cancel, Conclusion, RunInput};

impl Engine {
    pub(super) fn tick(&mut self, turn: &mut Turn) {
        while let Some((at, _)) = self.timers.first() {
            if *at > turn.now {
                break;
            }
            let Some((_, timer)) = self.timers.pop_first() else { break };
            self.due(turn, &timer);
        }
        self.queue.wake(turn.now);
        // The shell's timer is spent, also when it came early.
        self.timer = None;
    }

    /// Sets a timer `seconds` from now.
    pub(super) fn at(&mut self, now: Timestamp, seconds: i64, timer: Timer) {
        if let Ok(at) = now.saturating_add(SignedDuration::from_secs(seconds.max(0))) {
            self.timers.insert((at, timer));
        }
    }

    pub(super) fn forget_deliveries(&mut self, turn: &mut Turn) {
        while let Some((at, _)) = self.delivery_ages.first() {
            let old = turn.now.duration_since(*at) >= DELIVERY_MEMORY;
            if !old && self.delivery_ages.len() <= DELIVERIES_REMEMBERED {
                break;
            }
            let Some((_, key)) = self.delivery_ages.pop_first() else { break };
            self.deliveries.remove(&key);
            turn.changes.push(Change::ForgetDelivery { key });
        }
    }

    /// The clock was set forward, or back: what waits for a time goes on waiting for as long as it had to. Hours of the day
    /// (quiet hours) are what the clock says they are.
    pub(super) fn clock_set(&mut self, turn: &mut Turn, by: SignedDuration) {
        let moved = |at: Timestamp| at.saturating_add(by).unwrap_or(at);
        let mut timers = BTreeSet::new();
        for (at, timer) in std::mem::take(&mut self.timers) {
            if timer == Timer::Wake {
                timers.insert((at, timer.clone()));
            }
            timers.insert((moved(at), timer));
        }
        self.timers = timers;
        self.queue.clock_set(by);
        for (job, active) in &mut self.jobs {
            active.stage_since = moved(active.stage_since);
            if matches!(active.stage, Stage::Protected { .. }) {
                active.queued_at = moved(active.queued_at);
                turn.dirty_jobs.insert((active.run, *job));
            }
        }
        self.review_protected(turn);
    }

    pub(super) fn due(&mut self, turn: &mut Turn, timer: &Timer) {
        match timer {
            Timer::Wake => {}
            Timer::ForgetDeliveries => self.forget_deliveries(turn),
            Timer::RunLimit(run) => {
                let limit = SignedDuration::from_mins(i64::from(self.settings.run_minutes));
                let over = |since: Timestamp| turn.now.duration_since(since) >= limit;
                if self.runs.get(run).is_some_and(|active| over(active.record.attempted_at)) {
                    turn.tell(*run, RunInput::Cancel { force: false });
                }
            }
            Timer::Protection(job) => {
                let Some(active) = self.jobs.get(job) else { return };
                let Stage::Protected { approval, .. } = active.stage else { return };
                let limit = SignedDuration::from_mins(i64::from(self.settings.approval_minutes));
                if approval && turn.now.duration_since(active.queued_at) >= limit {
                    let reason = "nobody approved it in time".to_owned();
                    turn.tell(active.run, RunInput::Failed { job: *job, reason });
                } else {
                    self.enter_protection(turn, *job);
                }
            }
            Timer::QueueLimit(job) => {
                let Some(active) = self.jobs.get(job) else { return };
                let limit = SignedDuration::from_mins(i64::from(self.settings.queue_minutes));
                if active.stage == Stage::Queued && turn.now.duration_since(active.stage_since) >= limit {
                    let reason = format!("no host took it within {} hours", limit.as_hours());
                    turn.tell(active.run, RunInput::CancelJob { job: *job, force: true, reason });
                }
            }
            Timer::JobLimit(job) => {
                let Some(active) = self.jobs.get(job) else { return };
                if matches!(active.stage, Stage::Assigned { .. }) && active.cancel != Cancel::Forced {
                    let reason = "its runner did not end it in time".to_owned();
                    turn.tell(active.run, RunInput::CancelJob { job: *job, force: true, reason });
                }
            }
            Timer::CancelLimit(job) => {
                if self.jobs.get(job).is_some_and(|active| active.cancel == Cancel::Requested) {
                    self.stop_job(turn, *job, true);
                }
            }
            Timer::ForceLimit(job) => {
                self.stopped(turn, *job, None);
                let Some(active) = self.jobs.get(job) else { return };
                if let Stage::Assigned { host } = &active.stage {
                    let reason = format!("its runner on {host} did not confirm that it stopped");
                    self.conclude(turn, *job, Conclusion::Cancelled, Some(reason));
                }
            }
        }
    }
}
