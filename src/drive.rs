//! The loop around the engine: performs its effects, feeds back what was learned.
//!
//! One task owns the engine. It takes all inputs that have gathered, steps the engine through them, makes the changes
//! durable in one commit, and only then acts and answers: **persist first, then act**. Others hold a [`Handle`].

mod handle;
mod turn;

pub use handle::{DriveError, Handle, Start};

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::{Engine, Settings};
use crate::id::{HostName, JobId};
use crate::run::Told;
use crate::run::order::Order;
use crate::store::{Store, StoreError};

use handle::Request;
use turn::Drive;

/// Inputs that may wait for the engine; more make their senders wait.
const INPUTS: usize = 1024;
/// Assignments that may wait for the executor.
const ASSIGNMENTS: usize = 1024;
/// Updates a slow subscriber may lag behind before it has to read the store again.
const UPDATES: usize = 4096;

/// One job for the executor.
#[derive(Debug)]
pub struct Assignment {
    pub job: JobId,
    pub host: HostName,
    pub order: Arc<Order>,
    pub start: StartKind,
    /// Changes when the job is to stop, or may end.
    pub told: watch::Receiver<Told>,
}

/// Whether a job begins or was begun by an earlier process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    Start,
    /// Follow it if it began; begin it if it did not.
    Attach,
}

/// What `start` gives: the loop to spawn, the handle to share, the assignments for the executor.
pub struct Parts {
    /// Runs until it is cancelled or the store is gone for good.
    pub task: std::pin::Pin<Box<dyn Future<Output = Result<(), DriveError>> + Send>>,
    pub handle: Handle,
    pub assignments: mpsc::Receiver<Assignment>,
}

/// Rebuilds the engine from the store and prepares its loop. Nothing happens before the task is polled.
///
/// # Errors
/// The store cannot be read.
pub fn prepare(store: Store, clock: Clock, settings: Settings, stop: CancellationToken) -> Result<Parts, StoreError> {
    let (engine, effects) = Engine::restore(clock.now(), settings, store.load()?);
    let (inputs, receiver) = mpsc::channel::<Request>(INPUTS);
    let (assignments, assigned) = mpsc::channel(ASSIGNMENTS);
    let (updates, _) = broadcast::channel(UPDATES);
    let (summary, watched) = watch::channel(engine.summary());
    let (health, healthy) = watch::channel(None);
    let handle = Handle::new(inputs, updates.clone(), watched, healthy);
    let drive = Drive::new(engine, store, clock, receiver, assignments, updates, summary, health, stop);
    Ok(Parts { task: Box::pin(drive.run(effects)), handle, assignments: assigned })
}
