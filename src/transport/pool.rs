//! All connections of this process: few channels on each, several to a host, each refused channel tried elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::forward::Gate;
use super::job;
use super::process::Process;
use super::shell::{Mode, OpenError, Shell, launcher_name};
use super::ssh::Connection;
use super::step::quoted;
use super::{Facts, HostEvents, HostJob, JobSpec, Output, SshTarget, Target, TransportError, Way, facts};

/// sshd's `MaxSessions` is 10 and its slots come free late: this many at once are never refused.
const MOST_CHANNELS: usize = 4;
/// sshd's `MaxStartups` begins to refuse at 10 connections that are not logged in.
const MOST_SETUPS: usize = 6;
/// How often a channel may be refused before that is an error.
const MOST_REFUSALS: u32 = 40;
/// How often the launcher is started before a silent end counts as a broken link.
const OPEN_ATTEMPTS: u32 = 3;
/// How long a probe is believed: programs are installed and start-up files edited.
const FACTS_LAST: Duration = Duration::from_secs(600);
/// After so many days without a sign a job is nobody's.
const ABANDONED_DAYS: u32 = 7;
/// Idle connections kept to one server.
const MOST_IDLE: usize = 2;

/// All connections of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tracker: TaskTracker,
    servers: Mutex<HashMap<SshTarget, Arc<Server>>>,
    facts: Mutex<HashMap<Target, (Instant, Arc<Facts>)>>,
}

/// A host that is ready for a job.
#[derive(Debug)]
pub struct Ready {
    pub(super) facts: Arc<Facts>,
    pub(super) control: Process,
    /// On a connection of its own.
    pub(super) follower: Process,
}

/// One SSH server as one user.
#[derive(Debug)]
pub(super) struct Server {
    connections: Mutex<Vec<Arc<Connection>>>,
    pub(super) gate: tokio::sync::Mutex<Gate>,
    setups: tokio::sync::Semaphore,
}

impl Hosts {
    /// An empty pool. Connections are made when they are needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects and finds out what the host is and has, also if that is known already.
    ///
    /// # Errors
    /// Every way in which a host can be unreachable or unusable.
    pub async fn probe(&self, target: &Target) -> Result<Facts, TransportError> {
        let mut shell = self.scratch(target).await?;
        let facts = facts::probe(&mut shell, &target.name).await?;
        let mut known = self.shared.facts.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(target.clone(), (Instant::now(), Arc::new(facts.clone())));
        Ok(facts)
    }

    /// What the host is and has: from the last probe if it was not long ago.
    pub(super) async fn facts(&self, target: &Target) -> Result<Arc<Facts>, TransportError> {
        let known = {
            let known = self.shared.facts.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(target).filter(|(since, _)| since.elapsed() < FACTS_LAST).map(|(_, facts)| Arc::clone(facts))
        };
        match known {
            Some(facts) => Ok(facts),
            None => self.probe(target).await.map(Arc::new),
        }
    }

    /// Runs a small `sh` script outside of any job.
    ///
    /// # Errors
    /// The host is unreachable or unusable, or the link broke. A failing script is an [`Output`].
    pub async fn exec(&self, target: &Target, script: &str, stdin: &[u8]) -> Result<Output, TransportError> {
        self.scratch(target).await?.exec(script, stdin).await
    }

    /// Removes the directories of jobs that nobody came back to for a week (or since the machine restarted, and for a week), and
    /// ends supervisors whose job is gone. Never touches a step that runs. Says what went, a few words each.
    ///
    /// # Errors
    /// The host is unreachable or unusable, or the link broke.
    pub async fn collect(&self, target: &Target) -> Result<Vec<String>, TransportError> {
        let script = format!("exec /bin/sh ../{} collect {ABANDONED_DAYS}\n", launcher_name());
        let output = self.exec(target, &script, b"").await?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Creates the job on its host, or attaches to it if it is there already. Never starts a step.
    ///
    /// # Errors
    /// The host is unreachable or unusable, the job belongs to another daemon, or its machine restarted meanwhile.
    pub async fn open_job(&self, target: &Target, spec: JobSpec) -> Result<(HostJob, HostEvents), TransportError> {
        let ready = self.ready(target).await?;
        self.open_job_on(ready, target, spec).await
    }

    /// Everything up to a job of which the host learns nothing: connected, probed, with shells that wait. It may overlap with
    /// what has to be durable before the job is opened.
    ///
    /// # Errors
    /// The host is unreachable or unusable.
    pub async fn ready(&self, target: &Target) -> Result<Ready, TransportError> {
        // The first, if it has to ask, leaves a connection with room for the second.
        let facts = self.facts(target).await?;
        let (control, follower) = tokio::try_join!(self.process(target, false), self.process(target, true))?;
        Ok(Ready { facts, control, follower })
    }

    /// [`Hosts::open_job`] on a host that is ready.
    ///
    /// # Errors
    /// As [`Hosts::open_job`].
    pub async fn open_job_on(
        &self,
        ready: Ready,
        target: &Target,
        spec: JobSpec,
    ) -> Result<(HostJob, HostEvents), TransportError> {
        job::open(self, ready, target, spec).await
    }

    async fn scratch(&self, target: &Target) -> Result<Shell, TransportError> {
        match self.shell(target, Mode::Scratch, false).await {
            Ok(shell) => Ok(shell),
            Err(OpenError::Transport(error)) => Err(error),
            Err(_) => Err(TransportError::Invalid("the launcher answered what was not asked".to_owned())),
        }
    }

    /// A launcher that answers. `alone`: on a connection that nothing else uses meanwhile.
    pub(super) async fn shell(&self, target: &Target, mode: Mode<'_>, alone: bool) -> Result<Shell, OpenError> {
        self.shell_on(None, target, mode, alone).await
    }

    /// The same, in a process that waits already, if there is one.
    pub(super) async fn shell_on(
        &self,
        mut waiting: Option<Process>,
        target: &Target,
        mode: Mode<'_>,
        alone: bool,
    ) -> Result<Shell, OpenError> {
        let mut attempt = 1;
        loop {
            let process = match waiting.take() {
                Some(process) => process,
                None => self.process(target, alone).await?,
            };
            match Shell::open(target, process, mode).await {
                // A channel that was closed before a word was said: seen when its number was another's a moment ago. Opening is
                // repeatable, and a link that is really gone shows at the next attempt.
                Err(OpenError::Transport(TransportError::Interrupted { .. })) if attempt < OPEN_ATTEMPTS => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// The launcher on a host with this root, as a word of the shell.
    pub(super) fn launcher(&self, root: &str) -> String {
        quoted(&format!("{root}/{}", launcher_name()))
    }

    /// Every task of this pool. Closing it and waiting ends a daemon's last duties to its hosts.
    #[must_use]
    pub fn tracker(&self) -> &TaskTracker {
        &self.shared.tracker
    }

    async fn process(&self, target: &Target, alone: bool) -> Result<Process, TransportError> {
        match &target.way {
            Way::Local => super::local::open(&self.shared.tracker).map_err(|error| TransportError::Unusable {
                host: target.name.clone(),
                reason: format!("cannot start /bin/sh: {error}"),
            }),
            Way::Ssh(ssh) => self.channel(target, ssh, alone).await,
        }
    }

    pub(super) fn server(&self, ssh: &SshTarget) -> Arc<Server> {
        let mut servers = self.shared.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(ssh.clone()).or_insert_with(|| {
            Arc::new(Server {
                connections: Mutex::default(),
                gate: tokio::sync::Mutex::default(),
                setups: tokio::sync::Semaphore::new(MOST_SETUPS),
            })
        });
        Arc::clone(server)
    }

    /// A channel that runs `exec /bin/sh`: on a connection with room, else on a new one.
    async fn channel(&self, target: &Target, ssh: &SshTarget, alone: bool) -> Result<Process, TransportError> {
        let server = self.server(ssh);
        let mut refusals = 0;
        loop {
            let connection = match server.with_room(alone) {
                Some(connection) => connection,
                None => server.connect(&self.shared.tracker, target, ssh, alone).await?,
            };
            match connection.open(&self.shared.tracker).await {
                Ok(process) => return Ok(process),
                Err(error) => {
                    // Refused or broken: this connection takes no more, and the next one is asked.
                    connection.retire();
                    refusals += 1;
                    if refusals > MOST_REFUSALS {
                        return Err(TransportError::Unreachable {
                            host: target.name.clone(),
                            reason: format!("its SSH server opens no session: {error}"),
                        });
                    }
                    if refusals > 1 {
                        tokio::time::sleep(Duration::from_millis(50 * u64::from(refusals.min(20)))).await;
                    }
                }
            }
        }
    }
}

impl Server {
    /// A connection that takes another channel; the channel is counted already.
    fn with_room(&self, alone: bool) -> Option<Arc<Connection>> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = 0;
        connections.retain(|connection| {
            let unused = connection.is_idle();
            idle += usize::from(unused);
            !connection.is_closed() && (!unused || idle <= MOST_IDLE)
        });
        let most = if alone { 1 } else { MOST_CHANNELS };
        connections.iter().find(|connection| connection.reserve(alone, most)).cloned()
    }

    /// A connection that is there already, for what needs no channel.
    pub(super) fn any(&self) -> Option<Arc<Connection>> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().find(|connection| !connection.is_closed()).cloned()
    }

    /// A connection that is not shared with jobs.
    pub(super) async fn connect_alone(
        &self,
        tracker: &TaskTracker,
        target: &Target,
        ssh: &SshTarget,
    ) -> Result<Arc<Connection>, TransportError> {
        let _turn = self.setups.acquire().await.expect("the semaphore is never closed");
        Connection::connect(tracker, &target.name, ssh).await.map(Arc::new)
    }

    async fn connect(
        &self,
        tracker: &TaskTracker,
        target: &Target,
        ssh: &SshTarget,
        alone: bool,
    ) -> Result<Arc<Connection>, TransportError> {
        let _turn = self.setups.acquire().await.expect("the semaphore is never closed");
        // Whoever waited may find that the one before made room.
        if let Some(connection) = self.with_room(alone) {
            return Ok(connection);
        }
        let connection = Arc::new(Connection::connect(tracker, &target.name, ssh).await?);
        connection.reserve(alone, 1);
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&connection));
        Ok(connection)
    }
}
