//! What other rooms of the shell do for the server: the composition root lends it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::id::{HostName, RepositoryName, RunId};
use crate::plan::calls::Called;
use crate::run::Which;
use crate::store::StoreError;
use crate::transport::{Enrolled, Facts, NewHost};

use crate::server::view::{LetterView, ScheduleView};

/// A workflow file on the default branch of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowFile {
    pub path: String,
    pub text: String,
    pub default_branch: String,
}

/// A wish to start a workflow by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct DispatchRequest {
    pub repository: RepositoryName,
    pub workflow_path: String,
    pub git_ref: String,
    pub inputs: serde_json::Map<String, serde_json::Value>,
    pub actor: String,
}

/// Reads the workflow files of a repository's default branch.
pub(super) type ListFiles =
    Arc<dyn Fn(RepositoryName) -> BoxFuture<'static, Result<Vec<WorkflowFile>, String>> + Send + Sync>;

/// Starts a workflow by hand: the run, or why not, as a sentence.
pub(super) type Dispatch = Arc<dyn Fn(DispatchRequest) -> BoxFuture<'static, Result<RunId, String>> + Send + Sync>;

/// The repositories that are configured at this moment, whether or not they had runs.
pub(super) type ListRepositories = Arc<dyn Fn() -> Vec<RepositoryName> + Send + Sync>;

/// Handles a stored delivery once more: the number of the new one and the runs it started, or why not, as a sentence.
pub(super) type Replay = Arc<dyn Fn(u64) -> BoxFuture<'static, Result<(u64, Vec<RunId>), String>> + Send + Sync>;

/// The files that a run calls, found anew for an attempt of these jobs; nothing where those it had are good. Why they cannot be
/// had, as a sentence.
pub(super) type CalledAgain =
    Arc<dyn Fn(RunId, Which) -> BoxFuture<'static, Result<Option<Called>, String>> + Send + Sync>;

/// All schedules with so many of their next times.
pub(super) type ListSchedules = Arc<dyn Fn(usize) -> Vec<ScheduleView> + Send + Sync>;

/// What forges and people are still to be told.
pub(super) type ListLetters = Arc<dyn Fn() -> Result<Vec<LetterView>, StoreError> + Send + Sync>;

/// Sends a letter again, or throws it away: whether there was one.
pub(super) type ChangeLetter =
    Arc<dyn Fn(String, LetterDeed) -> BoxFuture<'static, Result<bool, StoreError>> + Send + Sync>;

/// What is done with a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterDeed {
    Retry,
    Forget,
}

/// Sends a `repository_dispatch`: why it was not taken, as a sentence.
pub(super) type SendEvent = Arc<dyn Fn(SentEvent) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// An event that a client makes up.
#[derive(Clone, Debug, PartialEq)]
pub struct SentEvent {
    pub repository: RepositoryName,
    pub event_type: String,
    pub client_payload: serde_json::Value,
    pub actor: String,
}

/// Connects to a new host and, once its key is accepted, writes it down; why not, as a sentence.
pub(super) type AddHost = Arc<dyn Fn(NewHost) -> BoxFuture<'static, Result<Enrolled, String>> + Send + Sync>;

/// Looks at a host now: what it is, or why it cannot be used.
pub(super) type CheckHost = Arc<dyn Fn(HostName) -> BoxFuture<'static, Result<Facts, String>> + Send + Sync>;

/// The public key that the daemon logs in with, as hosts want it.
pub(super) type PublicKey = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the composition root lends the server: things that other rooms of the shell do.
#[derive(Clone)]
pub struct Outside {
    pub repositories: ListRepositories,
    pub files: ListFiles,
    pub dispatch: Dispatch,
    pub send_event: SendEvent,
    pub replay: Replay,
    pub called_again: CalledAgain,
    pub schedules: ListSchedules,
    pub letters: ListLetters,
    pub change_letter: ChangeLetter,
    pub add_host: AddHost,
    pub check_host: CheckHost,
    pub public_key: PublicKey,
}

impl Outside {
    /// Nothing is configured: workflows are those that had runs, and none can be dispatched.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            repositories: Arc::new(Vec::new),
            files: Arc::new(|_| Box::pin(async { Ok(Vec::new()) })),
            dispatch: Arc::new(|_| Box::pin(async { Err("no repository is configured here".to_owned()) })),
            send_event: Arc::new(|_| Box::pin(async { Err("no repository is configured here".to_owned()) })),
            replay: Arc::new(|_| Box::pin(async { Err("deliveries cannot be replayed here".to_owned()) })),
            called_again: Arc::new(|_, _| Box::pin(async { Ok(None) })),
            schedules: Arc::new(|_| Vec::new()),
            letters: Arc::new(|| Ok(Vec::new())),
            change_letter: Arc::new(|_, _| Box::pin(async { Ok(false) })),
            add_host: Arc::new(|_| Box::pin(async { Err("hosts cannot be added here".to_owned()) })),
            check_host: Arc::new(|_| Box::pin(async { Err("hosts cannot be looked at here".to_owned()) })),
            public_key: Arc::new(|| None),
        }
    }
}
