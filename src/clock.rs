//! The only reader of time.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

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
}
