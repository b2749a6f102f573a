//! What others hold of the engine.

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::engine::{Answer, Engine, Input, Summary, Update};
use crate::id::{JobId, RunId};
use crate::queue::Reason;
use crate::run::{Rerun, RunSpec};

/// Sends inputs to the engine, reads it, and subscribes to what changes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    updates: broadcast::Sender<Update>,
    summary: watch::Receiver<Summary>,
    trouble: watch::Receiver<Option<String>>,
}

/// Why nothing was sent or answered.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopped,
    /// The disk is full or cannot be written: nothing new is accepted.
    #[error("{0}")]
    NoSpace(String),
    #[error("the engine's state cannot be read or written: {0}")]
    Store(#[from] crate::store::StoreError),
}

/// A run that was started, now or by an earlier request with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub run: RunId,
    pub run_number: u64,
    pub repeated: bool,
}

pub(super) enum Request {
    Input {
        input: Box<Input>,
        answer: Option<oneshot::Sender<Answer>>,
    },
    /// A new attempt of a run; the loop reads the run from the store, so that two requests cannot both win.
    Rerun {
        run: RunId,
        wish: Rerun,
        answer: oneshot::Sender<Answer>,
    },
    Read(Box<dyn FnOnce(&Engine) + Send>),
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Input { input, .. } => f.debug_tuple("Input").field(input).finish(),
            Self::Rerun { run, .. } => f.debug_tuple("Rerun").field(run).finish(),
            Self::Read(_) => f.write_str("Read"),
        }
    }
}

impl Handle {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        updates: broadcast::Sender<Update>,
        summary: watch::Receiver<Summary>,
        trouble: watch::Receiver<Option<String>>,
    ) -> Self {
        Self { requests, updates, summary, trouble }
    }

    /// Sends an input and waits until what it changes is durable.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn send(&self, input: Input) -> Result<Answer, DriveError> {
        let (sender, receiver) = oneshot::channel();
        let request = Request::Input { input: Box::new(input), answer: Some(sender) };
        self.requests.send(request).await.map_err(|_| DriveError::Stopped)?;
        receiver.await.map_err(|_| DriveError::Stopped)
    }

    /// Starts a run. Refused at once while the disk is full: accepted means durable.
    ///
    /// # Errors
    /// The daemon is stopping, or nothing can be accepted now.
    pub async fn start_run(&self, key: Option<String>, held: bool, spec: RunSpec) -> Result<Start, DriveError> {
        if let Some(trouble) = self.trouble() {
            return Err(DriveError::NoSpace(trouble));
        }
        match self.send(Input::StartRun { key, held, spec: Box::new(spec) }).await? {
            Answer::Run { run, run_number, repeated, .. } => Ok(Start { run, run_number, repeated }),
            other => unreachable!("starting a run is answered with the run, not {other:?}"),
        }
    }

    /// Makes a new attempt of a finished run.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn rerun(&self, run: RunId, wish: Rerun) -> Result<Answer, DriveError> {
        let (answer, receiver) = oneshot::channel();
        self.requests.send(Request::Rerun { run, wish, answer }).await.map_err(|_| DriveError::Stopped)?;
        receiver.await.map_err(|_| DriveError::Stopped)
    }

    /// Looks at the engine between two steps. The closure must be quick: everything waits for it.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, DriveError> {
        let (sender, receiver) = oneshot::channel();
        let look = move |engine: &Engine| {
            // Who asked may have gone.
            let _ = sender.send(look(engine));
        };
        self.requests.send(Request::Read(Box::new(look))).await.map_err(|_| DriveError::Stopped)?;
        receiver.await.map_err(|_| DriveError::Stopped)
    }

    /// Why a job waits; empty when it does not.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn why(&self, job: JobId) -> Result<Vec<Reason>, DriveError> {
        self.read(move |engine| engine.why(job)).await
    }

    /// Everything that changes from now on. Who lags is told so and reads the store again.
    #[must_use]
    pub fn updates(&self) -> broadcast::Receiver<Update> {
        self.updates.subscribe()
    }

    /// Counts and hosts, as of the last step.
    #[must_use]
    pub fn summary(&self) -> watch::Receiver<Summary> {
        self.summary.clone()
    }

    /// Why nothing can be made durable now: the disk is full, the database fails. `None` when all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}
