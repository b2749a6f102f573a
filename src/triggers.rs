//! Webhook, git hook, poll, cron, watch, dispatch: what happened outside becomes an event, and an event becomes runs.
//!
//! Owns how events arrive and which runs they ask for. A trigger hands [`Start`]s to whoever owns the engine through a
//! bounded channel ([`Starter`]) and is answered with the run; it knows neither the engine's state nor hosts.

mod buttons;
pub mod chains;
pub mod cron;
pub mod dispatch;
mod heard;
pub mod hook;
pub mod inventory;
pub mod local;
mod perform;
pub mod poll;
pub mod push;
pub mod relay;
mod repeat;
pub mod schedules;
mod service;
pub mod start;
mod turns;
pub mod watch;
pub mod webhook;

use tokio::sync::{mpsc, oneshot};

use crate::engine::Answer;
use crate::id::RunId;
use crate::run::Rerun;

pub use inventory::Inventory;
pub use service::{Content, Error, Outcome, Taken, Triggers, VariablesOf};
pub use start::{Elsewhere, Passed, Reading, Start, Starts};

/// The way to the engine: a run to start, and where to say which one it became.
#[derive(Clone, Debug)]
pub struct Starter {
    queue: mpsc::Sender<Request>,
}

/// One wish and who waits for it.
#[derive(Debug)]
pub struct Request {
    pub wish: Wish,
    /// Answered when what was wished is durable.
    pub answer: oneshot::Sender<Answer>,
}

/// What a trigger wants of the engine.
#[derive(Debug)]
pub enum Wish {
    Start(Start),
    Rerun { run: RunId, wish: Rerun },
    Cancel { run: RunId, actor: String },
}

/// The answer to a wish about a run.
#[derive(Debug)]
pub(crate) struct Wished {
    pub(crate) run: RunId,
    pub(crate) answer: Answer,
}

/// The engine's side is gone, or did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping; the event is kept and taken up when it starts again")]
pub struct Stopping;

impl Starter {
    /// A way that holds so many runs before it makes triggers wait.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Request>) {
        let (queue, requests) = mpsc::channel(capacity);
        (Self { queue }, requests)
    }

    /// Starts a run and waits until it is durable.
    ///
    /// # Errors
    /// [`Stopping`]; the caller keeps the event.
    pub async fn start(&self, start: Start) -> Result<Answer, Stopping> {
        self.wish(Wish::Start(start)).await
    }

    /// Asks for anything else and waits until it is durable.
    ///
    /// # Errors
    /// [`Stopping`]; the caller keeps the event.
    pub async fn wish(&self, wish: Wish) -> Result<Answer, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Request { wish, answer }).await.map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }
}
