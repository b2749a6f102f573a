//! The only reader of time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Less than this is how clocks drift and are put right little by little.
const JUMP: SignedDuration = SignedDuration::from_secs(10);

/// Where the shell takes the time from. The core never reads it: `now` is an argument there.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// Set by hand.
    Manual(Arc<Mutex<Timestamp>>),
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
            Self::System => Timestamp::now(),
            Self::Manual(time) => *time.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// How much time has passed since this machine started, asleep or not. Unlike [`Clock::now`] it does not jump when
    /// somebody sets the clock, so it is what pauses and limits are measured by.
    #[must_use]
    pub fn passed(&self) -> Duration {
        match self {
            Self::System => {
                let time = clock_gettime(ClockId::Boottime);
                let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
                Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
            }
            Self::Manual(_) => Duration::try_from(self.now().duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default(),
        }
    }

    /// This moment, for [`Clock::since`] of this or a later process.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { boot: self.boot(), passed: self.passed() }
    }

    /// How much time has passed since a moment; `None` when the machine has started anew since, and nobody can know.
    #[must_use]
    pub fn since(&self, moment: &Moment) -> Option<Duration> {
        let same = !moment.boot.is_empty() && moment.boot == self.boot();
        same.then(|| self.passed().saturating_sub(moment.passed))
    }

    fn boot(&self) -> String {
        match self {
            Self::System => {
                let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
                id.trim().to_owned()
            }
            Self::Manual(_) => "manual".to_owned(),
        }
    }
}

/// A moment that a later process of the same boot can measure from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Moment {
    boot: String,
    passed: Duration,
}

/// Notices that the clock was set.
#[derive(Debug)]
pub struct Jumps {
    clock: Clock,
    now: Timestamp,
    passed: Duration,
}

impl Jumps {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let (now, passed) = (clock.now(), clock.passed());
        Self { clock, now, passed }
    }

    /// How far the clock was set forward (or back, less than nothing) since the last jump that was told.
    pub fn look(&mut self) -> Option<SignedDuration> {
        let (now, passed) = (self.clock.now(), self.clock.passed());
        let real = SignedDuration::try_from(passed.saturating_sub(self.passed)).unwrap_or(SignedDuration::MAX);
        let by = now.duration_since(self.now).saturating_sub(real);
        if by.abs() < JUMP {
            return None;
        }
        (self.now, self.passed) = (now, passed);
        log::warn!("the clock was set {} by {:#}", if by.is_negative() { "back" } else { "forward" }, by.abs());
        Some(by)
    }
}
