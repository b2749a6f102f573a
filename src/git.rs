//! Functions over the `git` command.
//!
//! Owns how git is called: without a shell, without the user's `GIT_*` environment, without hooks and prompts, and with
//! credentials in neither arguments nor logs. Knows nothing of events, forges or runs.

mod changes;
mod commit;
mod history;
mod mirror;
mod objects;
mod pack;
mod serve;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

pub use changes::{Changes, PushedCommit, PushedRef, TESTED_FILES, is_object_id};
pub use commit::{Author, commit_directory, push};
pub use history::{TreeEntry, person};
pub use mirror::{Credentials, RemoteRef, fetch_mirror, ls_remote, tidy_mirror};
pub use objects::{CommitInfo, Entry, EntryKind, Objects, Person, TextFile};
pub use pack::{Pointer, Submodule, fetch_from, resolve_url};
pub use serve::{PUSHER, QUIET_PUSH, Service};
pub use snapshot::{Snapshot, snapshot, snapshot_directory};
pub use transfer::{archive, bundle};

/// The name of no object: what a hook gives for a ref that did not exist, or exists no more.
pub const NULL_ID: &str = "0000000000000000000000000000000000000000";

/// The longest a command that only reads this disk may take.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(120);
/// Answers longer than this are cut off with an error: nothing we ask for is near it.
const LARGEST_ANSWER: u64 = 256 << 20;

/// Why git did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start git (is it installed?)")]
    Start { source: std::io::Error },
    #[error("cannot talk to git {action}")]
    Talk { action: &'static str, source: std::io::Error },
    #[error("git {action} failed: {message}")]
    Failed { action: &'static str, message: String },
    #[error("git {action} took longer than {} s", limit.as_secs())]
    Timeout { action: &'static str, limit: Duration },
    #[error("git {action} answered more than {LARGEST_ANSWER} bytes")]
    TooLong { action: &'static str },
    #[error("git {action} answered what nobody understands: {what}")]
    Answer { action: &'static str, what: String },
    #[error("{} is not a git repository", path.display())]
    NotARepository { path: PathBuf },
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl Error {
    /// Whether trying again later may help: networks come back, broken repositories do not.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Failed { action, .. } => matches!(*action, "fetch" | "ls-remote"),
            _ => false,
        }
    }
}

/// A repository on this machine, named by its git directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository {
    git_dir: PathBuf,
}

impl Repository {
    /// A git directory that is known to be one.
    #[must_use]
    pub fn at(git_dir: impl Into<PathBuf>) -> Self {
        Self { git_dir: git_dir.into() }
    }

    /// The repository that a directory is, or lies in.
    ///
    /// # Errors
    /// [`Error::NotARepository`] when there is none.
    pub async fn discover(path: &Path) -> Result<Self, Error> {
        // The ordinary case is seen without a process: it is a good part of what a push waits for.
        let inside = path.join(".git");
        if inside.join("HEAD").is_file() && inside.join("objects").is_dir() && inside.join("refs").is_dir() {
            let git_dir = inside.canonicalize().map_err(|source| Error::File { path: inside, source })?;
            return Ok(Self::at(git_dir));
        }
        let mut git = Git::new("rev-parse");
        git.directory(path).args(["--absolute-git-dir"]);
        match git.text().await {
            Ok(answer) => Ok(Self::at(answer.trim_end_matches('\n'))),
            Err(Error::Failed { .. }) => Err(Error::NotARepository { path: path.to_owned() }),
            Err(error) => Err(error),
        }
    }

    /// Makes a bare repository, or leaves the one that is there as it is.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub async fn init_bare(path: &Path, default_branch: &str) -> Result<Self, Error> {
        if path.join("HEAD").exists() && path.join("objects").is_dir() {
            return Ok(Self::at(path));
        }
        let mut git = Git::new("init");
        // An empty template: what an administrator put into the system's template runs in nobody's name.
        git.args(["--quiet", "--bare", "--template=", &format!("--initial-branch={default_branch}"), "--"]).arg(path);
        git.text().await?;
        for directory in ["hooks", "info"] {
            let path = path.join(directory);
            std::fs::create_dir_all(&path).map_err(|source| Error::File { path, source })?;
        }
        Ok(Self::at(path))
    }

    /// Its git directory.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The commit that a name means; `None` when there is no such commit.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn resolve(&self, name: &str) -> Result<Option<String>, Error> {
        if let Some(id) = self.loose_branch(name) {
            return Ok(Some(id));
        }
        let mut git = self.git("rev-parse");
        git.args(["--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")]);
        Ok(git.maybe().await?.map(|answer| answer.trim_end().to_owned()))
    }

    /// The commit of a branch that has a file of its own, read without a process. Branches are packed and stored in other
    /// ways too: then nothing is found here.
    fn loose_branch(&self, name: &str) -> Option<String> {
        let branch = name.strip_prefix("refs/heads/")?;
        if branch.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return None;
        }
        let text = std::fs::read_to_string(self.git_dir.join("refs/heads").join(branch)).ok()?;
        let id = text.trim_end();
        is_object_id(id).then(|| id.to_owned())
    }

    /// The branch that `HEAD` names, short; also when it has no commit yet. `None` when `HEAD` is detached.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn head_branch(&self) -> Result<Option<String>, Error> {
        // Read here: a process of its own would be a good part of what a push waits for. Where refs are stored in another
        // way this file names none.
        let head = std::fs::read_to_string(self.git_dir.join("HEAD")).unwrap_or_default();
        if let Some(branch) = head.trim_end().strip_prefix("ref: refs/heads/").filter(|branch| *branch != ".invalid") {
            return Ok(Some(branch.to_owned()));
        }
        let mut git = self.git("symbolic-ref");
        git.args(["--quiet", "HEAD"]);
        let answer = git.maybe().await?;
        Ok(answer.map(|name| name.trim_end().strip_prefix("refs/heads/").unwrap_or(name.trim_end()).to_owned()))
    }

    /// The address of a remote; `None` when there is no such remote.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn remote_url(&self, remote: &str) -> Result<Option<String>, Error> {
        let mut git = self.git("config");
        git.args(["--get", &format!("remote.{remote}.url")]);
        Ok(git.maybe().await?.map(|answer| answer.trim_end().to_owned()))
    }

    /// Makes `HEAD` name another branch, which need not exist.
    ///
    /// # Errors
    /// A bad name, or an unwritable repository.
    pub async fn set_head_branch(&self, branch: &str) -> Result<(), Error> {
        let mut git = self.git("symbolic-ref");
        git.args(["HEAD", &format!("refs/heads/{branch}")]);
        git.text().await.map(drop)
    }

    /// Where its hooks lie: `core.hooksPath` of the repository, else `hooks`.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn hooks_directory(&self) -> Result<PathBuf, Error> {
        let mut git = self.git("config");
        // The repository's own file only: our arguments set another path for every call.
        git.args(["--local", "--type=path", "--get", "core.hooksPath"]);
        let configured = git.maybe().await?.map(|path| PathBuf::from(path.trim_end_matches('\n')));
        Ok(self.git_dir.join(configured.unwrap_or_else(|| PathBuf::from("hooks"))))
    }

    /// Writes a setting into the repository's configuration.
    ///
    /// # Errors
    /// A bad key, or an unwritable repository.
    pub async fn configure(&self, key: &str, value: &str) -> Result<(), Error> {
        let mut git = self.git("config");
        git.args(["--local", key, value]);
        git.text().await.map(drop)
    }

    /// All refs under a prefix (`refs/heads/`), full names with the commits they mean; tags are peeled.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn refs(&self, prefix: &str) -> Result<Vec<RemoteRef>, Error> {
        let mut git = self.git("for-each-ref");
        git.args(["--format=%(objectname) %(*objectname) %(refname)", "--", prefix]);
        let answer = git.text().await?;
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let (id, peeled, name) = (words.next()?, words.next()?, words.next()?);
            let id = if peeled.is_empty() { id } else { peeled };
            Some(RemoteRef { name: name.to_owned(), id: id.to_owned() })
        };
        Ok(answer.lines().filter_map(line).collect())
    }

    /// The best common ancestor of two commits.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, Error> {
        let mut git = self.git("merge-base");
        git.args(["--end-of-options", one, other]);
        Ok(git.maybe().await?.map(|answer| answer.trim_end().to_owned()))
    }

    /// Whether every commit of `older` is in `newer`: a push from one to the other was no force push.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub async fn is_ancestor(&self, older: &str, newer: &str) -> Result<bool, Error> {
        let mut git = self.git("merge-base");
        git.args(["--is-ancestor", "--end-of-options", older, newer]);
        Ok(git.maybe().await?.is_some())
    }

    /// Points a ref at a commit, whatever it pointed at.
    ///
    /// # Errors
    /// A bad name, an unknown commit, or an unwritable repository.
    pub async fn update_ref(&self, name: &str, id: &str) -> Result<(), Error> {
        let mut git = self.git("update-ref");
        git.args(["--end-of-options", name, id]);
        git.text().await.map(drop)
    }

    fn git(&self, action: &'static str) -> Git {
        let mut git = Git::new(action);
        git.command.env("GIT_DIR", &self.git_dir);
        git
    }
}

/// Whether git gives way to everything else.
static BEHIND: AtomicBool = AtomicBool::new(false);
/// How far: a process that waits for an answer of ours gets three times as much.
const BEHIND_BY: i32 = 5;

/// From here on the processes that read repositories give way to all others. A daemon wants that: whoever sends an event
/// waits for its answer, and nobody waits for what the event starts.
pub fn run_behind() {
    BEHIND.store(true, Ordering::Relaxed);
}

fn give_way(child: &tokio::process::Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if BEHIND.load(Ordering::Relaxed) && pid.is_some() {
        // It may have ended already.
        let _ = rustix::process::setpriority_process(pid, BEHIND_BY);
    }
}

/// One call of git.
struct Git {
    action: &'static str,
    command: Command,
    input: Vec<u8>,
    timeout: Duration,
    /// `GIT_CONFIG_KEY_n`, `GIT_CONFIG_VALUE_n`: settings that must not stand in the arguments.
    settings: Vec<(String, SecretString)>,
}

/// The environment git keeps: what finds programs, keys, proxies and certificates. Everything else, above all `GIT_*`
/// (a hook's caller sets `GIT_DIR`, `GIT_QUARANTINE_PATH`, …), would make git work on something else than it is told to.
const KEPT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "XDG_CONFIG_HOME",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LD_LIBRARY_PATH",
];

/// Adds a repository to the system's `safe.directory` list, once: users other than its owner may then use it.
///
/// # Errors
/// The system's configuration cannot be written.
pub async fn trust_system_wide(git_dir: &Path) -> Result<(), Error> {
    let place = git_dir.to_string_lossy().into_owned();
    let mut known = Git::new("config");
    known.args(["--system", "--get-all", "safe.directory"]);
    let known = known.maybe().await?.unwrap_or_default();
    if known.lines().any(|line| line == place) {
        return Ok(());
    }
    let mut git = Git::new("config");
    git.args(["--system", "--add", "safe.directory", &place]);
    git.text().await.map(drop)
}

/// Git by its path: one that is looked for in an environment which is not ours cannot be started without copying this process,
/// which takes a millisecond and more, and holds up all of its threads.
fn program() -> PathBuf {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt as _;
        path.is_absolute() && path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&places).map(|place| place.join("git")).find(is_program).unwrap_or_else(|| "git".into())
}

impl Git {
    fn new(action: &'static str) -> Self {
        Self::with_settings(action, &[])
    }

    /// `settings` are `key=value`, stronger than ours.
    fn with_settings(action: &'static str, settings: &[&str]) -> Self {
        let mut command = Command::new(program());
        command
            .env_clear()
            .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            // An absent directory: no hook of anybody runs because we look.
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0"])
            .args(["-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false"])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            // Repositories are named by the administrator, and most belong to another user than the daemon's.
            .args(["-c", "safe.directory=*"])
            .arg(action)
            .kill_on_drop(true);
        Self { action, command, input: Vec::new(), timeout: LOCAL_TIMEOUT, settings: Vec::new() }
    }

    fn directory(&mut self, path: &Path) -> &mut Self {
        self.command.current_dir(path);
        self
    }

    fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(argument);
        self
    }

    fn args<S: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = S>) -> &mut Self {
        self.command.args(arguments);
        self
    }

    fn env(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.command.env(name, value.into());
        self
    }

    fn setting(&mut self, key: impl Into<String>, value: SecretString) -> &mut Self {
        self.settings.push((key.into(), value));
        self
    }

    /// Runs to the end; gives what it printed.
    async fn bytes(self) -> Result<Vec<u8>, Error> {
        let action = self.action;
        let (status, output, complaint) = self.run().await?;
        if status.success() { Ok(output) } else { Err(Error::Failed { action, message: complaint }) }
    }

    async fn text(self) -> Result<String, Error> {
        let action = self.action;
        let bytes = self.bytes().await?;
        String::from_utf8(bytes)
            .map_err(|error| Error::Answer { action, what: format!("not UTF-8: {}", error.utf8_error()) })
    }

    /// Runs to the end; gives what it said on standard error.
    async fn told(self) -> Result<String, Error> {
        let action = self.action;
        let (status, _, told) = self.run().await?;
        if status.success() { Ok(told) } else { Err(Error::Failed { action, message: told }) }
    }

    /// For questions whose answer may be no (exit code 1): `None` then.
    async fn maybe(self) -> Result<Option<String>, Error> {
        let action = self.action;
        let (status, output, complaint) = self.run().await?;
        if status.success() {
            return Ok(Some(String::from_utf8_lossy(&output).into_owned()));
        }
        match status.code() {
            Some(1 | 128) if complaint.is_empty() || complaint.contains("bad revision") => Ok(None),
            Some(1) => Ok(None),
            Some(128) if is_missing(&complaint) => Ok(None),
            _ => Err(Error::Failed { action, message: complaint }),
        }
    }

    async fn run(mut self) -> Result<(std::process::ExitStatus, Vec<u8>, String), Error> {
        let action = self.action;
        let limit = self.timeout;
        self.command.env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (index, (key, value)) in self.settings.iter().enumerate() {
            self.command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            self.command.env(format!("GIT_CONFIG_VALUE_{index}"), value.expose_secret());
        }
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { source })?;
        give_way(&child);
        let stdin = child.stdin.take();
        let mut stdout = child.stdout.take().expect("it is piped").take(LARGEST_ANSWER + 1);
        let mut stderr = child.stderr.take().expect("it is piped");
        let input = std::mem::take(&mut self.input);
        let work = async {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // Git may end before it has read everything; its exit code tells, not the broken pipe.
                    drop(stdin.write_all(&input).await);
                }
            };
            let mut output = Vec::new();
            let mut complaint = Vec::new();
            let (_, read, told) = tokio::join!(write, stdout.read_to_end(&mut output), async {
                // The end of a long complaint is where the reason stands; all of it is read so that git never blocks.
                let mut piece = [0; 4096];
                loop {
                    match stderr.read(&mut piece).await {
                        Ok(0) => return Ok(()),
                        Ok(length) => {
                            complaint.extend_from_slice(&piece[..length]);
                            if complaint.len() > 64 << 10 {
                                complaint.drain(..32 << 10);
                            }
                        }
                        Err(error) => return Err(error),
                    }
                }
            });
            read.and(told).map_err(|source| Error::Talk { action, source })?;
            if output.len() as u64 > LARGEST_ANSWER {
                return Err(Error::TooLong { action });
            }
            let status = child.wait().await.map_err(|source| Error::Talk { action, source })?;
            Ok((status, output, self.without_secrets(String::from_utf8_lossy(&complaint).trim())))
        };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::Timeout { action, limit }))
    }

    /// Git repeats addresses and sometimes headers in its complaints.
    fn without_secrets(&self, complaint: &str) -> String {
        let mut complaint = complaint.to_owned();
        for (_, value) in &self.settings {
            let value = value.expose_secret();
            let secret = value.rsplit(' ').next().unwrap_or(value);
            if secret.len() > 3 {
                complaint = complaint.replace(secret, "***");
            }
        }
        mirror::without_user_information(&complaint)
    }
}

fn is_missing(complaint: &str) -> bool {
    ["Not a valid object name", "unknown revision", "bad object", "ambiguous argument", "not a valid commit"]
        .iter()
        .any(|words| complaint.contains(words))
}
