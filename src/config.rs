//! `towline.toml` and `conf.d/*.toml`: read, check, and give as plain structs; and where files live.
//!
//! A file is decoded by hand from its spanned tree, so that every fault (unknown key, duplicate name, impossible value)
//! is a [`Diagnostic`] with file, line and a mend. All faults are collected; nothing of a faulty configuration is used.

pub mod changes;
mod decode;
pub mod hours;
pub mod inventory;
mod network;
mod paths;
pub mod reference;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::id::{HostName, RepositoryName};

pub use network::Network;
pub use paths::Paths;
pub use sections::is_repository_name;

/// Everything that `towline.toml` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    pub hosts: Vec<Host>,
    pub sources: Vec<Source>,
    /// What `runs-on` asks for → the labels a host must have. Names compare without case.
    pub labels: IndexMap<String, Vec<String>>,
    /// Label → slots that a job asking for it takes. Names are in lower case.
    pub weights: BTreeMap<String, u32>,
    pub actions: Actions,
    pub retention: Retention,
    pub notify: Vec<Notify>,
    pub limits: Limits,
    pub telemetry: Option<Telemetry>,
}

/// `[server]`: the one address.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// `ADDRESS:PORT`; loopback unless configured.
    pub listen: Vec<std::net::SocketAddr>,
    /// The address others reach it by, without a slash at the end.
    pub url: Option<String>,
    pub tls: Tls,
    /// `/metrics` without a token.
    pub open_metrics: bool,
    /// Reading pages and logs without a token.
    pub open_reads: bool,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Certificates of clients that are accepted, on every address that speaks TLS.
    pub clients: Option<ClientCertificates>,
    pub github_login: Option<GitHubLogin>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

/// `[server.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP: loopback, or behind a proxy.
    Off,
    /// A certificate from the daemon's own authority, made at first start and renewed.
    Own,
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

/// `client_authority` and `clients` of `[server.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file of the authority that issued them.
    pub authority: PathBuf,
    /// Common name → what its owner may do; `*` stands for all others.
    pub roles: BTreeMap<String, Role>,
}

/// `[server.github_login]`: signing in through GitHub, for those on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitHubLogin {
    /// GitHub itself, or an Enterprise Server.
    pub url: String,
    pub client_id: String,
    pub client_secret: SecretSource,
    /// Login in lower case → what its owner may do.
    pub allow: BTreeMap<String, Role>,
}

/// `[telemetry]`: runs as traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// A collector that speaks OTLP over HTTP; `/v1/traces` is added.
    pub otlp: String,
    /// Sent with every request.
    pub headers: BTreeMap<String, SecretSource>,
    /// `service.name`.
    pub service: String,
}

/// `[[host]]`: a machine that executes jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub name: HostName,
    pub reach: Reach,
    /// Configured labels, besides those every host has (its name, `self-hosted`, OS, arch).
    pub labels: Vec<String>,
    pub slots: u32,
    /// When it takes no new jobs.
    pub quiet: Vec<hours::Hours>,
    /// Label → how many jobs that ask for it may run here at once.
    pub label_limits: BTreeMap<String, u32>,
    /// Where everything of ours lives on the host; `~/.towline` when absent.
    pub root: Option<String>,
    /// MAC address for Wake-on-LAN.
    pub wake: Option<[u8; 6]>,
    /// How long a woken host may take to answer.
    pub wake_timeout: Duration,
    /// Runs jobs of these repositories only; empty: of all.
    pub repositories: Vec<RepositoryName>,
    /// Bytes of kept workspaces above which the least recently used go.
    pub quota: Option<u64>,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// This machine, as the user the daemon runs as.
    Local,
    Ssh(Ssh),
}

/// The SSH side of a host, in OpenSSH's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Ssh {
    pub address: String,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity: Vec<PathBuf>,
    pub known_hosts: Vec<PathBuf>,
    /// `[USER@]HOST[:PORT]`, from the first hop to the last.
    pub jump: Vec<String>,
    /// Use the agent at `$SSH_AUTH_SOCK`.
    pub agent: bool,
    pub password: Option<SecretSource>,
    pub connect_timeout: Duration,
}

/// `[[source]]` (or `[[repository]]`): where a repository lives and what it listens to.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: RepositoryName,
    pub kind: SourceKind,
    /// Of a bare repository or a watched directory on this machine.
    pub path: Option<PathBuf>,
    /// Where it is fetched from; the forge's address when absent.
    pub url: Option<String>,
    pub triggers: Vec<TriggerKind>,
    /// Secrets that verify webhooks; two while one is being rotated.
    pub webhook_secrets: Vec<SecretSource>,
    /// Only these events are taken; empty: all.
    pub events: Vec<String>,
    /// For reading the repository and reporting back.
    pub token: Option<SecretSource>,
    pub app: Option<GitHubApp>,
    /// Directories searched for workflows, first found wins.
    pub workflows: Vec<String>,
    pub default_branch: Option<String>,
    pub poll_interval: Duration,
    /// An address that takes webhooks for us and hands them on as an event stream (smee.io and its like).
    pub relay: Option<String>,
    /// Show the live log of the started runs in the pusher's terminal without being asked.
    pub follow: bool,
    /// Authors whose pull requests from forks run without approval.
    pub trusted: Vec<String>,
    pub report: bool,
    /// Of its jobs in the queue; 0 is normal, higher goes earlier.
    pub priority: i32,
    /// How long its failed jobs keep their host, for somebody to look at them.
    pub hold_on_failure: Duration,
}

/// What kind of place a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    GitHub,
    Gitea,
    Forgejo,
    GitLab,
    /// A bare repository on this machine, or any git address that can only be polled.
    Git,
    /// A directory of workflow files without a repository.
    Directory,
}

impl SourceKind {
    /// The word in the configuration and in webhook addresses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::GitLab => "gitlab",
            Self::Git => "git",
            Self::Directory => "directory",
        }
    }
}

/// What brings events of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerKind {
    Push,
    Webhook,
    Poll,
    Watch,
    Schedule,
}

/// The App that reports as checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitHubApp {
    pub id: u64,
    pub private_key: SecretSource,
}

/// `[actions]`: where `uses:` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    /// Directory of bare repositories `OWNER/NAME.git`.
    pub mirror: Option<PathBuf>,
    /// Address with `{owner}` and `{name}`; never asked when [`Actions::mirror`] has the repository.
    pub url: Option<String>,
    pub checkout: Checkout,
    /// Images that a host has are taken as they are; only missing ones are pulled.
    pub pull: Pull,
    /// Directory or address with `{version}`, `{os}` and `{arch}` that node comes from for hosts without one.
    pub node: Option<String>,
    pub lock_file: Option<PathBuf>,
    /// Owners or `OWNER/NAME` that may be used; empty: all.
    pub allow: Vec<String>,
}

/// Which `actions/checkout` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkout {
    Builtin,
    Node,
}

/// When images are pulled that a host has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// As on GitHub.
    Always,
    Missing,
}

/// `[retention]`: how long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub runs: Duration,
    pub logs: Duration,
    pub artifacts: Duration,
    pub deliveries: Duration,
    /// Bytes of logs above which the oldest go.
    pub log_bytes: u64,
    pub cache_bytes: u64,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs running at once on all hosts together; 0: no limit but the slots.
    pub jobs: u32,
    /// Bytes of one job's log after which the rest is dropped and said so.
    pub job_log: u64,
    /// How long a job may wait for a host.
    pub queue: Duration,
    /// Free bytes the state directory must keep.
    pub disk: u64,
}

/// `[[notify]]`: who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    pub on: NotifyOn,
    /// Only runs of these repositories, workflows (names or file names) and branches; empty: of all.
    pub repositories: Vec<RepositoryName>,
    pub workflows: Vec<String>,
    pub branches: Vec<String>,
    pub how: NotifyHow,
}

/// When a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyOn {
    /// On failure, and on the first success after one.
    Change,
    Failure,
    /// On the first success after a failure.
    Recovery,
    Always,
}

/// How a notification is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyHow {
    Webhook {
        url: String,
        shape: WebhookShape,
        secret: Option<SecretSource>,
    },
    /// A program with its arguments; facts are in its environment and, as JSON, on its standard input.
    Command(Vec<String>),
    Mail(Mail),
}

/// `[notify.mail]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `HOST` or `HOST:PORT`.
    pub server: String,
    pub from: String,
    pub to: Vec<String>,
    pub user: Option<String>,
    pub password: Option<SecretSource>,
    /// What the port says is usual when absent.
    pub tls: Option<MailTls>,
    /// Certificates to trust besides the machine's.
    pub authority: Option<PathBuf>,
}

/// Whether mail travels encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// From the first byte on (port 465).
    Always,
    /// After `STARTTLS`; a server without it gets nothing (port 587).
    Required,
    /// After `STARTTLS` where the server offers it (port 25).
    IfOffered,
    Never,
}

/// The body a notified address expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookShape {
    Plain,
    Slack,
    Discord,
    Ntfy,
}

/// Where the value of a secret is; read when it is needed, never logged.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration itself.
    Plain(String),
    File(PathBuf),
    Environment(String),
    /// A file in `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`).
    Credential(String),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Environment(name) => f.debug_tuple("Environment").field(name).finish(),
            Self::Credential(name) => f.debug_tuple("Credential").field(name).finish(),
        }
    }
}

/// Why a file or a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the environment variable {name} is not set")]
    Environment { name: String },
    #[error(
        "there is no credential {name}: $CREDENTIALS_DIRECTORY is not set (add LoadCredential={name}:FILE to the unit)"
    )]
    Credential { name: String },
}

impl SecretSource {
    /// Reads the value; one line end at its end is not part of it.
    ///
    /// # Errors
    /// When the file, variable or credential is not there.
    pub fn read(&self) -> Result<secrecy::SecretString, Error> {
        let from_file =
            |path: &Path| std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source });
        let text = match self {
            Self::Plain(text) => text.clone(),
            Self::File(path) => from_file(path)?,
            Self::Environment(name) => std::env::var(name).map_err(|_| Error::Environment { name: name.clone() })?,
            Self::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| Error::Credential { name: name.clone() })?;
                from_file(&Path::new(&directory).join(name))?
            }
        };
        let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        Ok(secrecy::SecretString::from(text.to_owned()))
    }
}

/// One configuration file.
#[derive(Clone, Debug)]
pub struct File {
    pub path: PathBuf,
    pub text: String,
}

/// Finds and reads the configuration files: `towline.toml`, then `conf.d/*.toml` beside it by name. A configuration
/// that does not exist is an empty one.
///
/// # Errors
/// A file that exists and cannot be read.
pub fn read(main: &Path) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    let mut paths = vec![main.to_owned()];
    let directory = main.parent().unwrap_or(Path::new(".")).join("conf.d");
    match std::fs::read_dir(&directory) {
        Ok(entries) => {
            let mut found: Vec<PathBuf> = entries
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .collect();
            found.sort();
            paths.extend(found);
        }
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::Read { path: directory, source }),
    }
    for path in paths {
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push(File { path, text }),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound && path == main => {}
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    Ok(files)
}

/// Decodes the files together: lists are joined, of single values the later file's counts. The configuration is
/// `None` when a diagnostic is an error.
#[must_use]
pub fn parse(files: &[File]) -> (Option<Config>, Vec<Diagnostic>) {
    sections::parse(files)
}

impl Default for Config {
    /// What an empty file says: loopback, no hosts, no sources.
    fn default() -> Self {
        parse(&[]).0.expect("the empty configuration has no faults")
    }
}
