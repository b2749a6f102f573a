//! One order on one host: workspace, steps, actions, outputs, resumption.
//!
//! A job is a plain program over its steps (`job`); what it learns from outside is answered from a `journal` after
//! a restart, so a job goes on where it was. The runner knows nothing of queues, runs or pages: it is given an order,
//! says what happens in reports, and returns how the job ended.

mod action;
mod artifacts;
mod aside;
mod background;
mod checkout;
mod composite;
mod container;
mod contexts;
mod ending;
mod executor;
mod follow;
mod hashing;
mod hold;
mod hooks;
mod interruption;
mod javascript;
mod job;
mod journal;
mod log;
mod opening;
mod outputs;
mod post;
mod pre;
mod quota;
mod script;
mod secrets;
mod services;
mod step;
mod summaries;
mod told;
mod workspace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::id::RepositoryName;
use crate::run::order::Order;
use crate::run::report::{JobResult, Report};
use crate::transport::{Hosts, Target, TransportError};

pub use crate::run::{Cancel, Told};
pub(crate) use checkout::sweep as sweep_checkouts;
pub use executor::{Executor, Journalled, Surroundings};
pub use journal::{Entry, JournalStore};
pub use log::LogFile;
pub use services::{Local, ServicesAddress};
pub(crate) use workspace::quote;

/// The stack of a thread that runs jobs. A step inside of composite actions is polled through all of them, nine levels deep: in
/// a build without optimizations each takes half a megabyte. What is not used costs nothing.
pub(crate) const STACK: usize = 16 << 20;

/// What all jobs of this process share. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    /// Tells the jobs of this state from those of others that use the same account of a host.
    pub identity: String,
    pub hosts: Hosts,
    pub clock: Clock,
    /// Where repositories and actions are found.
    pub sources: Arc<Sources>,
    /// Empties workspaces before a job and removes them after it: `exec` leaves nothing behind.
    pub fresh_workspaces: bool,
    /// `uses: actions/checkout` runs the action itself, not what is built in.
    pub stock_checkout: bool,
    /// An image that the host has is not pulled anew.
    pub keeps_images: bool,
}

/// Where a job's `uses: actions/checkout` and `uses: owner/repo@ref` find things, on this machine.
#[derive(Default)]
pub struct Sources {
    /// Bare repositories by name.
    pub repositories: BTreeMap<RepositoryName, RepositorySource>,
    /// Finds the git directory of a repository not listed.
    pub find: Option<FindRepository>,
    /// Actions of other repositories.
    pub actions: Option<crate::actions::Sources>,
    /// Node for hosts without one.
    pub runtimes: Option<crate::actions::Runtimes>,
}

/// From the name of a repository to its git directory on this machine.
pub type FindRepository = Arc<dyn Fn(&RepositoryName) -> Option<PathBuf> + Send + Sync>;

/// One repository on this machine.
#[derive(Clone, Debug)]
pub struct RepositorySource {
    pub git_dir: PathBuf,
    /// A commit whose tree is laid over the checkout of the run's own commit: the working tree as it stood when
    /// `towline exec` was called.
    pub overlay: Option<String>,
}

/// One job for the runner.
pub struct Assignment {
    pub order: Arc<Order>,
    pub target: Target,
    /// The slot on the host: jobs in different slots never share a workspace.
    pub slot: u32,
    /// Values that `secrets` has in the workflow that was triggered; `GITHUB_TOKEN` among them where a forge gave one.
    pub secrets: BTreeMap<String, SecretString>,
    /// Additional variables of the machine's environment, below everything a workflow says.
    pub machine_env: Vec<(String, String)>,
    pub log: LogFile,
    /// What an earlier process of this daemon recorded; empty for a job that starts.
    pub journal: Vec<Entry>,
    /// Where to record; `None` when nothing outlives this process.
    pub journal_store: Option<Box<dyn JournalStore>>,
    pub reports: mpsc::Sender<Report>,
    pub told: watch::Receiver<Told>,
    /// Artifacts, caches and identity tokens for actions; without them actions that need them say so.
    pub services: ServicesAddress,
    pub surroundings: Arc<dyn Surroundings>,
}

/// Why a job cannot go on, the job itself not being at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{reason}")]
    Lost { reason: String, host_died: bool },
    #[error("cannot write the job's log: {0}")]
    Log(#[from] std::io::Error),
    #[error("cannot keep the job's state: {0}")]
    Journal(String),
    #[error("the run was cancelled")]
    Forced,
    /// The host has not heard of the job.
    #[error(transparent)]
    Unreached(TransportError),
}

impl Runner {
    /// The name of a job on its host: of its directory, and what its containers are marked with.
    pub(crate) fn job_key(&self, order: &Order) -> String {
        format!("{}-{}-{}-{}", self.identity, order.run, order.attempt, order.job)
    }

    /// Runs one job to its end, or picks up one that runs already. Dropping the future leaves the job on its host
    /// untouched: it can be picked up again.
    pub async fn run(&self, assignment: Assignment) -> JobResult {
        job::run(self, assignment).await
    }
}
