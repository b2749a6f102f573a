//! Hosts: the durable job over SSH or on this machine.
//!
//! Owns: connections, host keys, the launcher script, the protocol with a job's supervisor, the probe. A step that was started
//! is followed to its end whatever happens to the link or to this process, and is never started twice: every doubt is resolved
//! by looking at the host. Knows nothing of workflows, logs or the store. `russh` types stay inside `transport/ssh*`.

mod destination;
mod enrolment;
mod facts;
mod forward;
mod job;
mod known_hosts;
mod local;
mod pool;
mod process;
mod shell;
mod spool;
mod ssh;
mod ssh_config;
mod step;
mod wake;

use std::path::PathBuf;
use std::time::Duration;

use crate::id::HostName;

pub use destination::{Destination, SshOptions};
pub use enrolment::{EnrolError, Enrolled, NewHost, enrol};
pub use facts::Facts;
pub use forward::Forward;
pub(crate) use job::Backoff;
pub use job::{HostEvents, HostJob};
pub use pool::{Hosts, Ready};
pub use wake::wake;

/// A machine that executes jobs, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The configured name.
    pub name: HostName,
    /// How it is reached.
    pub way: Way,
    /// Where everything this program keeps on the host lives; `~/` is the login user's home. Default `~/.towline`.
    pub root: String,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// A child process on this machine.
    Local,
    /// An SSH server.
    Ssh(Box<SshTarget>),
}

/// An SSH server and who we are to it. [`SshTarget::resolve`] makes it with `~/.ssh/config` applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshTarget {
    /// Host name or address.
    pub address: String,
    /// The server's port.
    pub port: u16,
    /// The login name.
    pub user: String,
    /// Private keys to offer, in order, after the agent's.
    pub identities: Vec<IdentityFile>,
    /// Whether the agent at `SSH_AUTH_SOCK` is asked first.
    pub agent: bool,
    /// Tried when no key is taken.
    pub password: Option<Password>,
    /// Files of known host keys, in order.
    pub known_hosts: Vec<PathBuf>,
    /// What to do with a host key that no file knows.
    pub unknown_key: UnknownKey,
    /// A server to go through.
    pub jump: Option<Box<SshTarget>>,
    /// How long a connection may take to be set up.
    pub connect_timeout: Duration,
}

/// A private key in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdentityFile {
    /// The key. An OpenSSH certificate beside it (`KEY-cert.pub`) is used when it is there.
    pub path: PathBuf,
    /// A file that holds the passphrase of an encrypted key, such as a systemd credential.
    pub passphrase_file: Option<PathBuf>,
}

/// A login password. It never prints itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(String);

impl Password {
    /// From a secret of the configuration.
    #[must_use]
    pub fn from_secret(secret: &secrecy::SecretString) -> Self {
        use secrecy::ExposeSecret as _;
        Self(secret.expose_secret().to_owned())
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Password")
    }
}

/// What to do with a host key that no known_hosts file has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnknownKey {
    /// Refuse, naming the fingerprint and the command that accepts it.
    Refuse,
    /// Accept the key with this `SHA256:` fingerprint and record it in the first known_hosts file.
    Fingerprint(String),
    /// Accept and record in the first known_hosts file (`StrictHostKeyChecking accept-new`).
    AcceptNew,
    /// Accept anything (`StrictHostKeyChecking no`).
    AcceptAny,
}

/// Which job to create or attach to.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// `<run>-<attempt>-<job>`: letters, digits, `-`, `_` and `.` only. One directory on the host.
    pub key: String,
    /// Unguessable, persisted by the caller before the job is opened: see [`JobSpec::new_nonce`]. Proves ownership at an attach
    /// and tells real step ends from printed ones.
    pub nonce: String,
    /// Where to go on after a restart of this program: the job must be there, or [`TransportError::Gone`] says that it is not. Give
    /// it whenever a step may have been asked for. `None`: the job is made if it is not there.
    pub resume: Option<Resume>,
}

impl JobSpec {
    /// A fresh nonce: 32 hexadecimal digits.
    #[must_use]
    pub fn new_nonce() -> String {
        let mut bytes = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random numbers");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What the caller has already taken from the job's main spool, stored in one transaction with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The offset of the last event handled.
    pub offset: u64,
    /// The highest main step whose end was handled; 0 for none.
    pub ended: u32,
}

/// One step to start.
#[derive(Clone, Debug)]
pub struct StepRequest {
    /// Unique in the job, increasing. The same number again attaches; it never starts a second process.
    pub number: u32,
    /// Program and arguments. Looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The step's complete environment. Shipped in a file of mode 0600 that is removed before the program starts, never as
    /// arguments. Names that no shell can export (`INPUT_WHO-TO-GREET`) are allowed.
    pub env: Vec<(String, String)>,
    /// Absolute working directory. A missing one is an error of the step: exit code 126 and a line in the output.
    pub cwd: String,
    /// Files written just before the start with mode 0600 or 0700, such as the step's script: absolute path, content.
    pub files: Vec<StepFile>,
    /// Enforced on the host, with the ladder of [`Grace`].
    pub timeout: Option<Duration>,
    /// Where the output goes.
    pub spool: Spool,
    /// The process talks to what has containers, and what counts runs in one.
    pub contained: Option<Contained>,
}

/// What a step in a container needs: its command files where the container sees them, and a way for signals.
#[derive(Clone, Debug)]
pub struct Contained {
    /// An absolute directory, made if it is not there, that the container sees. The command files of step N are `N.env`,
    /// `N.output` and so on in it, and whoever runs in the container may write them.
    pub files: String,
    /// An `sh` script that sends the signal named by its first argument (`INT`, `TERM`, `KILL`) to what runs in the container,
    /// and for `0` exits with 0 if there is still something. The ladder of [`Grace`] calls it instead of signalling the engine's client; only after `KILL` the client goes too.
    /// `None`: the process itself is signalled and passes it on.
    pub signal: Option<String>,
}

/// A file that comes with a step.
#[derive(Clone, Debug)]
pub struct StepFile {
    /// Absolute path on the host; its directory exists.
    pub path: String,
    /// Any bytes.
    pub content: Vec<u8>,
    /// Whether the file may be executed.
    pub executable: bool,
    /// Whether the file is removed when the step has ended.
    pub temporary: bool,
}

/// Where a step's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spool {
    /// The job's main spool. Main steps run one after the other.
    Main,
    /// One of the step's own: it runs beside the others (`background: true`, S14). Its offsets start from 0. The number is where
    /// to go on after a restart of this program.
    Own(u64),
}

/// The time between the rungs of the ladder SIGINT, SIGTERM, SIGKILL (S8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// From SIGINT to SIGTERM.
    pub interrupt: Duration,
    /// From SIGTERM to SIGKILL.
    pub terminate: Duration,
}

impl Grace {
    /// What GitHub's runner gives: 7.5 s and 2.5 s.
    pub const GITHUB: Self = Self { interrupt: Duration::from_millis(7500), terminate: Duration::from_millis(2500) };
}

/// What happens on the host, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// Bytes that steps wrote. Main steps have `step == 0` here: which one it was follows from the order of [`HostEvent::StepEnded`].
    Output {
        /// 0 for the main spool, else the number of the step with a spool of its own.
        step: u32,
        /// The spool's offset after these bytes: what to store with them.
        offset: u64,
        /// As written: any bytes, any borders.
        bytes: bytes::Bytes,
    },
    /// A step came to its end, and all its output was delivered.
    StepEnded(Box<StepEnded>),
    /// The host cannot be reached; what runs there goes on.
    Detached {
        /// What is known, and what to do where something can be done.
        reason: String,
    },
    /// It can again.
    Attached,
    /// The job can no longer be followed. Nothing comes after this.
    Lost {
        /// A sentence.
        reason: String,
        /// The machine restarted: the job may be tried elsewhere where policy allows.
        host_died: bool,
    },
}

/// The end of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEnded {
    pub number: u32,
    pub exit: Exit,
    /// The spool's offset after the end: what to store with it.
    pub offset: u64,
    pub files: CommandFiles,
}

/// How a step ended. A death by signal N is the code 128 + N, as GitHub's runner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// Its time was over; the code is what the ladder left.
    TimedOut(i32),
    /// By [`HostJob::cancel_step`]; the code is what the ladder left.
    Cancelled(i32),
    /// It was never started: its working directory, interpreter or start file was not there. The output says which.
    NotStarted(i32),
}

impl Exit {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) | Self::TimedOut(code) | Self::Cancelled(code) | Self::NotStarted(code) => code,
        }
    }
}

/// What the step wrote to its command files; see [`HostJob::file_path`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandFiles {
    pub env: Vec<u8>,
    pub output: Vec<u8>,
    pub path: Vec<u8>,
    pub state: Vec<u8>,
    pub summary: Vec<u8>,
}

/// Names a step's command file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFile {
    Env,
    Output,
    Path,
    State,
    Summary,
    /// Read by itself, where that is wanted (W12).
    Artifacts,
    /// For the step to read.
    ArtifactsList,
}

/// What a small command on the host left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code, 128 + N after signal N.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A process that outlived its job and was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub pid: u32,
    pub command: String,
    /// It is still there: the user may not signal it.
    pub survived: bool,
}

/// What went wrong with a host.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address does not answer.
    #[error("cannot reach {host}: {reason}")]
    Unreachable { host: HostName, reason: String },
    /// The host's key is not known, has changed, was revoked, or its certificate does not fit.
    #[error("{reason}")]
    HostKey {
        host: HostName,
        fingerprint: String,
        /// Nothing is recorded for the host; otherwise what is recorded contradicts.
        unknown: bool,
        reason: String,
    },
    /// The server refuses every key we have.
    #[error("{host} refuses to let {user} in: {reason}")]
    Refused { host: HostName, user: String, reason: String },
    /// The login works, but nothing can be run there.
    #[error("{host} has no usable shell or home: {reason}")]
    Unusable { host: HostName, reason: String },
    /// The link broke during the operation. The host state is found out at the next attach.
    #[error("lost contact with {host} while {doing}")]
    Interrupted { host: HostName, doing: &'static str },
    /// A file or command on the host failed.
    #[error("{doing} failed on {host}: {reason}")]
    Failed { host: HostName, doing: String, reason: String },
    /// The server opens no port for us.
    #[error(
        "the SSH server of {host} forwards no ports ({reason}): actions there cannot reach artifacts, caches and the API. \
         Set `AllowTcpForwarding yes` (or `remote`) in its sshd_config, or `[server] url` here to an address it can reach"
    )]
    NotForwarded { host: HostName, reason: String },
    /// The job directory is owned by someone else.
    #[error("the job {key} on {host} belongs to another daemon")]
    ForeignJob { host: HostName, key: String },
    /// The job ended or was lost.
    #[error("the job on {host} is over: {reason}")]
    Gone { host: HostName, reason: String, host_died: bool },
    /// The request itself cannot be carried out.
    #[error("{0}")]
    Invalid(String),
}

impl TransportError {
    /// Whether the same operation may work later without anyone's help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Interrupted { .. })
    }

    /// Whether somebody may mend it while what runs on the host goes on.
    #[must_use]
    pub fn is_mendable(&self) -> bool {
        matches!(self, Self::HostKey { .. } | Self::Refused { .. } | Self::Unusable { .. })
    }
}
