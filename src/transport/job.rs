//! One job on one host, followed across every break of the link.
//!
//! Doubt is resolved by looking: a request whose answer was lost is made again, and the host answers what is already so.

mod files;
mod follow;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pool::{Hosts, Ready};
use super::shell::{Mode, OpenError, Shell};
use super::spool::derive;
use super::step::{fits_inline, start_file, temporaries};
use super::{
    CommandFile, Facts, Grace, HostEvent, JobSpec, Orphan, Output, Spool, StepRequest, Target, TransportError,
};

/// A job's shell on a host. Cheap to clone; every operation waits while the host is detached, and fails once the job is over.
#[derive(Clone, Debug)]
pub struct HostJob {
    inner: Arc<Inner>,
}

/// What happens in the job, in order. Dropping it stops following; the steps go on.
#[derive(Debug)]
pub struct HostEvents {
    events: mpsc::Receiver<HostEvent>,
    over: CancellationToken,
    lost: Arc<OnceLock<Loss>>,
    /// The loss was told.
    is_told: bool,
    _stop: DropGuard,
}

/// Why a job can no longer be followed.
#[derive(Debug)]
struct Loss {
    reason: String,
    host_died: bool,
}

impl HostEvents {
    /// The next event; `None` after [`HostEvent::Lost`] or [`HostJob::finish`]. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<HostEvent> {
        tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = self.over.cancelled() => self.events.try_recv().ok().or_else(|| self.loss()),
        }
    }

    /// What is told last, once.
    fn loss(&mut self) -> Option<HostEvent> {
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let Loss { reason, host_died } = self.lost.get()?;
        Some(HostEvent::Lost { reason: reason.clone(), host_died: *host_died })
    }
}

#[derive(Debug)]
struct Inner {
    hosts: Hosts,
    target: Target,
    spec: JobSpec,
    owner: String,
    tracking_id: String,
    facts: Arc<Facts>,
    dir: String,
    root: String,
    attached: bool,
    events: mpsc::Sender<HostEvent>,
    /// Starts, cancels and looks. Serialised: the launcher answers one request at a time.
    control: tokio::sync::Mutex<Option<Shell>>,
    /// Small commands, so that a slow one delays no cancel.
    side: tokio::sync::Mutex<Option<Shell>>,
    /// Steps asked for whose end was not seen.
    outstanding: Mutex<BTreeMap<u32, Outstanding>>,
    /// Cancelled when nobody follows any more: lost, finished or dropped.
    over: CancellationToken,
    /// Beside the events: whoever takes those may be waiting for this.
    lost: Arc<OnceLock<Loss>>,
}

/// How often the removal of a job's directory is tried: about two minutes.
const FINISH_ATTEMPTS: u32 = 10;

#[derive(Clone, Debug)]
struct Outstanding {
    lane: String,
    line: String,
    start_file: Arc<Vec<u8>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The waits between attempts to reach a host again: at once, then longer and longer up to 30 s, with jitter so that many jobs do
/// not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempt: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let base = match self.attempt {
            0 => 0,
            attempt => (125_u64 << attempt.min(8)).min(30_000),
        };
        self.attempt += 1;
        let mut random = [0_u8; 1];
        // Without random numbers there is no jitter, and nothing worse.
        let _ = aws_lc_rs::rand::fill(&mut random);
        Duration::from_millis(base * 3 / 4 + base * u64::from(random[0]) / 1024)
    }
}

/// Opens a job; see [`Hosts::open_job`].
pub(super) async fn open(
    hosts: &Hosts,
    ready: Ready,
    target: &Target,
    spec: JobSpec,
) -> Result<(HostJob, HostEvents), TransportError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if spec.key.is_empty() || spec.key.starts_with('.') || !spec.key.bytes().all(legal) {
        return Err(TransportError::Invalid(format!("{} is no key of a job", spec.key)));
    }
    if spec.nonce.len() < 16 || !spec.nonce.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(TransportError::Invalid("a job's nonce has at least 16 hexadecimal digits".to_owned()));
    }
    let owner = derive(&spec.nonce, "owner");
    let Ready { facts, control, follower } = ready;
    let create = spec.resume.is_none();
    let mode = Mode::Job { key: &spec.key, owner: &owner, create };
    let shell = match hosts.shell_on(Some(control), target, mode, false).await {
        Ok(shell) => shell,
        Err(OpenError::Transport(error)) => return Err(error),
        Err(OpenError::Rebooted) => {
            return Err(TransportError::Gone {
                host: target.name.clone(),
                reason: "the machine restarted since the job was started there".to_owned(),
                host_died: true,
            });
        }
        Err(OpenError::Gone | OpenError::Absent) => {
            return Err(TransportError::Gone {
                host: target.name.clone(),
                reason: "its directory is gone".to_owned(),
                host_died: false,
            });
        }
    };
    let tag = derive(&spec.nonce, "tracking");
    let tracking_id = format!("github_{}-{}-{}-{}-{}", &tag[..8], &tag[8..12], &tag[12..16], &tag[16..20], &tag[20..]);
    let dir = shell.dir.clone();
    let root = dir.strip_suffix(&format!("/jobs/{}", spec.key)).unwrap_or(&dir).to_owned();
    let (sender, events) = mpsc::channel(64);
    let (over, lost) = (CancellationToken::new(), Arc::new(OnceLock::new()));
    let inner = Arc::new(Inner {
        hosts: hosts.clone(),
        target: target.clone(),
        owner,
        tracking_id,
        facts,
        attached: shell.attached,
        dir,
        root,
        events: sender,
        control: tokio::sync::Mutex::new(Some(shell)),
        side: tokio::sync::Mutex::new(None),
        outstanding: Mutex::default(),
        over: over.clone(),
        lost: Arc::clone(&lost),
        spec,
    });
    follow::spawn_main(&inner, follower);
    let events = HostEvents { events, over: over.clone(), lost, is_told: false, _stop: over.drop_guard() };
    Ok((HostJob { inner }, events))
}

impl HostJob {
    /// What the probe found when the job was opened; the login environment among it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// The job's directory on the host: absolute, mode 0700, gone after [`HostJob::finish`].
    #[must_use]
    pub fn dir(&self) -> &str {
        &self.inner.dir
    }

    /// The root of everything on the host (`~/.towline`): absolute.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.inner.root
    }

    /// Whether the job was there already when it was opened.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.inner.attached
    }

    /// Where the step finds a command file: known before it starts. The file exists, empty, when it does.
    #[must_use]
    pub fn file_path(&self, number: u32, file: CommandFile) -> String {
        format!("{}/steps/{number}.{}", self.inner.dir, file.name())
    }

    /// The value of `RUNNER_TRACKING_ID` by which the job's processes are known. Every step gets it unless its environment has
    /// another.
    #[must_use]
    pub fn tracking_id(&self) -> &str {
        &self.inner.tracking_id
    }

    /// Starts a step, or attaches to it if it was started before, by whomever. Returns when the host has taken the request.
    ///
    /// # Errors
    /// The job is over, or the request is impossible. A broken link is no error: this waits and looks.
    pub async fn start_step(&self, request: StepRequest) -> Result<(), TransportError> {
        let inner = &self.inner;
        let number = request.number;
        let ended = inner.spec.resume.map_or(0, |resume| resume.ended);
        if number == 0 || (request.spool == Spool::Main && number <= ended) {
            return Err(TransportError::Invalid(format!("step {number} has ended already")));
        }
        let steps = format!("{}/steps", inner.dir);
        for file in request.files.iter().filter(|file| !fits_inline(file)) {
            self.write_file(&file.path, if file.executable { 0o700 } else { 0o600 }, &file.content).await?;
        }
        let start_file = Arc::new(start_file(&steps, &request, &inner.tracking_id)?);
        let (lane, offset) = match request.spool {
            Spool::Main => ("main".to_owned(), None),
            Spool::Own(offset) => (format!("b{number}"), Some(offset)),
        };
        let limit = request.timeout.map_or_else(
            || "0".to_owned(),
            // Zero would be no limit at all.
            |limit| format!("{:.1}", limit.as_secs_f64().max(0.1)),
        );
        let nonce = super::spool::step_nonce(&inner.spec.nonce, number);
        let line = format!("{}start {number} {lane} {limit} {nonce}", temporaries(&request));
        let outstanding = Outstanding { lane, line, start_file };
        locked(&inner.outstanding).insert(number, outstanding.clone());
        inner.request_start(&outstanding).await?;
        if let Some(offset) = offset {
            follow::spawn_own(inner, number, offset);
        }
        Ok(())
    }

    /// Ends a step and all it started: the ladder runs on the host, also if the link breaks. Returns when it has begun; the end
    /// arrives as an event. Cancelling what has ended does nothing.
    ///
    /// # Errors
    /// The job is over.
    pub async fn cancel_step(&self, number: u32, grace: Grace) -> Result<(), TransportError> {
        let tenths = |time: Duration| time.as_millis().div_ceil(100);
        let line = format!("cancel {number} {} {}", tenths(grace.interrupt), tenths(grace.terminate));
        self.inner.control(&line, None, "cancelling a step").await.map(|_| ())
    }

    /// Runs a small `sh` script. It may run again if the link breaks meanwhile, so it must be repeatable.
    ///
    /// # Errors
    /// The job is over. A failing script is an [`Output`].
    pub async fn exec(&self, script: &str, stdin: &[u8]) -> Result<Output, TransportError> {
        self.exec_in(&self.inner.side, script, stdin).await
    }

    /// The same while no step runs or is to be started, on the shell that starts them: there is nothing to cancel, and none has
    /// to be opened.
    ///
    /// # Errors
    /// As [`HostJob::exec`].
    pub async fn exec_between_steps(&self, script: &str, stdin: &[u8]) -> Result<Output, TransportError> {
        self.exec_in(&self.inner.control, script, stdin).await
    }

    async fn exec_in(
        &self,
        shell: &tokio::sync::Mutex<Option<Shell>>,
        script: &str,
        stdin: &[u8],
    ) -> Result<Output, TransportError> {
        let inner = &self.inner;
        let mut backoff = Backoff::default();
        loop {
            let attempt = async {
                let mut slot = shell.lock().await;
                let mut shell = match slot.take() {
                    Some(shell) => shell,
                    None => inner.open_shell().await?,
                };
                let output = shell.exec(script, stdin).await?;
                *slot = Some(shell);
                Ok(output)
            };
            let result = tokio::select! {
                result = attempt => result,
                () = inner.over.cancelled() => Err(inner.gone()),
            };
            match result {
                Err(error) if error.is_transient() => inner.pause(&mut backoff).await?,
                result => return result,
            }
        }
    }

    /// Ends every process that carries the job's `RUNNER_TRACKING_ID`, until two looks in a row find none.
    ///
    /// # Errors
    /// The job is over.
    pub async fn sweep_orphans(&self) -> Result<Vec<Orphan>, TransportError> {
        let launcher = self.inner.hosts.launcher(&self.inner.root);
        let script = format!("exec /bin/sh {launcher} sweep x {}\n", self.inner.tracking_id);
        let output = self.exec_between_steps(&script, b"").await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut orphans: Vec<Orphan> = Vec::new();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (verb, pid) = (words.next(), words.next().and_then(|pid| pid.parse().ok()));
            match (verb, pid) {
                (Some("killed"), Some(pid)) => {
                    orphans.push(Orphan { pid, command: words.next().unwrap_or_default().to_owned(), survived: false });
                }
                (Some("survived"), Some(pid)) => {
                    for orphan in orphans.iter_mut().filter(|orphan| orphan.pid == pid) {
                        orphan.survived = true;
                    }
                }
                _ => {}
            }
        }
        Ok(orphans)
    }

    /// Acknowledges everything: ends the supervisors and removes the job's directory. No events come after it.
    ///
    /// # Errors
    /// The host cannot be reached.
    pub async fn finish(&self) -> Result<(), TransportError> {
        let inner = &self.inner;
        // Followers first: what they hear of the end is not news.
        inner.over.cancel();
        *inner.side.lock().await = None;
        let mut backoff = Backoff::default();
        for _ in 0..FINISH_ATTEMPTS {
            match inner.remove().await {
                Err(error) if error.is_transient() => tokio::time::sleep(backoff.next()).await,
                result => return result,
            }
        }
        inner.remove().await
    }
}

impl CommandFile {
    fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Output => "output",
            Self::Path => "path",
            Self::State => "state",
            Self::Summary => "summary",
            Self::Artifacts => "artifacts",
            Self::ArtifactsList => "artifacts_list",
        }
    }
}

impl Inner {
    fn gone(&self) -> TransportError {
        let (reason, host_died) = match self.lost.get() {
            Some(loss) => (loss.reason.clone(), loss.host_died),
            None => ("it was finished or let go".to_owned(), false),
        };
        TransportError::Gone { host: self.target.name.clone(), reason, host_died }
    }

    /// The job can no longer be followed. Whoever found that out waits for nobody: events that were not taken yet may stand
    /// before the word of it.
    fn lose(&self, reason: String, host_died: bool) {
        // What is found of a job that was finished is no news: that says so before it removes anything. The first word counts.
        if !self.over.is_cancelled() {
            let _ = self.lost.set(Loss { reason, host_died });
        }
        self.over.cancel();
    }

    fn lose_restarted(&self) {
        self.lose(format!("{} restarted while the job was running there: what ran is gone", self.target.name), true);
    }

    fn lose_directory(&self) {
        self.lose(format!("the job's directory on {} was removed while it was running", self.target.name), false);
    }

    /// Waits before another attempt.
    async fn pause(&self, backoff: &mut Backoff) -> Result<(), TransportError> {
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => Ok(()),
            () = self.over.cancelled() => Err(self.gone()),
        }
    }

    async fn remove(&self) -> Result<(), TransportError> {
        let mut slot = self.control.lock().await;
        let mut shell = match slot.take() {
            Some(shell) => shell,
            None => {
                let mode = Mode::Job { key: &self.spec.key, owner: &self.owner, create: false };
                match self.hosts.shell(&self.target, mode, false).await {
                    Ok(shell) => shell,
                    Err(OpenError::Transport(error)) => return Err(error),
                    // An earlier answer was lost, or the machine began anew and has nothing to keep.
                    Err(OpenError::Rebooted | OpenError::Gone | OpenError::Absent) => return Ok(()),
                }
            }
        };
        shell.expect("finish", None, "finished", "removing the job").await
    }

    /// A shell attached to the job. A job that is no longer there ends following.
    async fn open_shell(&self) -> Result<Shell, TransportError> {
        let mode = Mode::Job { key: &self.spec.key, owner: &self.owner, create: false };
        match self.hosts.shell(&self.target, mode, false).await {
            Ok(shell) => Ok(shell),
            Err(OpenError::Transport(error)) => Err(error),
            Err(OpenError::Rebooted) => {
                self.lose_restarted();
                Err(self.gone())
            }
            Err(OpenError::Gone | OpenError::Absent) => {
                self.lose_directory();
                Err(self.gone())
            }
        }
    }

    /// One request to the launcher, repeated until it is answered.
    async fn control(
        &self,
        line: &str,
        payload: Option<&[u8]>,
        doing: &'static str,
    ) -> Result<Vec<String>, TransportError> {
        let mut backoff = Backoff::default();
        loop {
            let attempt = async {
                let mut slot = self.control.lock().await;
                let mut shell = match slot.take() {
                    Some(shell) => shell,
                    None => self.open_shell().await?,
                };
                let words = shell.request(line, payload, doing).await?;
                *slot = Some(shell);
                Ok(words)
            };
            let result = tokio::select! {
                result = attempt => result,
                () = self.over.cancelled() => Err(self.gone()),
            };
            match result {
                Err(error) if error.is_transient() => self.pause(&mut backoff).await?,
                Err(error @ (TransportError::HostKey { .. } | TransportError::Refused { .. })) => {
                    // Someone may mend it while the step goes on; the follower tells what is wrong.
                    log::warn!(host = self.target.name.as_str(); "{error}");
                    self.pause(&mut backoff).await?;
                }
                result => return result,
            }
        }
    }

    async fn request_start(&self, step: &Outstanding) -> Result<(), TransportError> {
        let words = self.control(&step.line, Some(&step.start_file), "starting a step").await?;
        match words.first().map(String::as_str) {
            Some("queued" | "begun") => Ok(()),
            _ => Err(TransportError::Failed {
                host: self.target.name.clone(),
                doing: "starting a step".to_owned(),
                reason: words.get(1..).unwrap_or_default().join(" "),
            }),
        }
    }
}
