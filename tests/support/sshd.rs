//! A private OpenSSH server on loopback, for whoever runs the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use towline::id::HostName;
use towline::transport::{IdentityFile, SshTarget, Target, UnknownKey, Way};

/// A running `sshd` with keys, a home and a `known_hosts` of its own. It ends with the value.
#[derive(Debug)]
pub(crate) struct Sshd {
    directory: TempDir,
    port: u16,
    server: Child,
    prelude: String,
    /// What runs a program in the namespaces that the server is in; empty: those of the tests.
    inside: Vec<String>,
}

impl Sshd {
    /// Starts a server, or says why it cannot and gives `None`: then the test passes.
    #[must_use]
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// Starts a server with lines for its configuration, which win over the fixture's.
    #[must_use]
    pub(crate) fn start_with(lines: &str) -> Option<Self> {
        Self::start_inside(lines, "")
    }

    /// Starts a server after a prelude of `sh` in a mount namespace of its own, in which other programs can be mounted over the
    /// machine's. Needs root.
    #[must_use]
    pub(crate) fn start_inside(lines: &str, prelude: &str) -> Option<Self> {
        Self::start_anywhere(lines, prelude, &[])
    }

    /// Starts a server by a command that brings it into other namespaces, such as `nsenter` with its arguments. Its port is on the
    /// loopback that is there.
    #[must_use]
    pub(crate) fn start_through(lines: &str, inside: &[String]) -> Option<Self> {
        Self::start_anywhere(lines, "", inside)
    }

    fn start_anywhere(lines: &str, prelude: &str, inside: &[String]) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("sshd").tempdir().expect("a temporary directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("modes");
        fs::create_dir(path.join("home")).expect("a home");
        for (name, comment) in [("host", "host"), ("id", "towline test")] {
            keygen(&["-t", "ed25519", "-N", "", "-C", comment, "-f", &text(&path.join(name))])?;
        }
        fs::copy(path.join("id.pub"), path.join("authorized")).expect("keys");
        let port = free_port();
        // sshd takes the first `SetEnv` alone.
        let (env, lines): (Vec<&str>, Vec<&str>) = lines.lines().partition(|line| line.starts_with("SetEnv "));
        let mut env: String = env.iter().map(|line| line.trim_start_matches("SetEnv")).collect();
        if !env.contains(" HOME=") {
            env.push_str(&format!(" HOME={}/home", path.display()));
        }
        let lines = lines.join("\n");
        // Of this one sshd takes the last.
        let startups = if lines.contains("MaxStartups ") { "" } else { "MaxStartups 100:30:200\n" };
        let configuration = format!(
            "{lines}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\nAuthorizedKeysFile {0}/authorized\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nPrintMotd no\n\
             PrintLastLog no\n{startups}SetEnv{env}\n",
            path.display()
        );
        fs::write(path.join("sshd_config"), configuration).expect("a configuration");
        let key = fs::read_to_string(path.join("host.pub")).expect("a host key");
        fs::write(path.join("known_hosts"), format!("[127.0.0.1]:{port} {key}")).expect("known hosts");
        let server = serve(path, port, prelude, inside)?;
        Some(Self { directory, port, server, prelude: prelude.to_owned(), inside: inside.to_vec() })
    }

    /// How to reach it. The root directory is in the fixture's home.
    #[must_use]
    pub(crate) fn target(&self, name: &str) -> Target {
        Target { name: HostName::from(name), way: Way::Ssh(Box::new(self.ssh())), root: "~/.towline".to_owned() }
    }

    /// How to reach it.
    #[must_use]
    pub(crate) fn ssh(&self) -> SshTarget {
        SshTarget {
            address: "127.0.0.1".to_owned(),
            port: self.port,
            user: user(),
            identities: vec![IdentityFile { path: self.path("id"), passphrase_file: None }],
            agent: false,
            password: None,
            known_hosts: vec![self.path("known_hosts")],
            unknown_key: UnknownKey::Refuse,
            jump: None,
            connect_timeout: Duration::from_secs(20),
        }
    }

    /// A file of the fixture: `id`, `id.pub`, `known_hosts`, `host`, `sshd_config`, `log`, `home`.
    #[must_use]
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where it listens.
    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills every process that serves a connection, as a broken network or an administrator would. Says how many there were.
    pub(crate) fn kill_sessions(&self) -> usize {
        let sessions = descendants(self.server.id());
        let mut killed = 0;
        for pid in sessions {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.starts_with("sshd") {
                killed += usize::from(kill("-KILL", pid));
            }
        }
        killed
    }

    /// Stops listening and ends all connections.
    pub(crate) fn stop(&mut self) {
        self.kill_sessions();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Listens again at the same address with the same keys.
    pub(crate) fn restart(&mut self) {
        let path = self.directory.path().to_owned();
        self.server = serve(&path, self.port, &self.prelude, &self.inside).expect("it started before");
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The user who runs the tests.
#[must_use]
pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Sends a signal with `kill`; whether that was possible.
pub(crate) fn kill(signal: &str, pid: u32) -> bool {
    Command::new("kill")
        .args([signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Children and their children.
#[must_use]
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// A port that nothing listens on and that no connection gets by itself, so that it can be listened on again after a while.
#[must_use]
pub(crate) fn free_port() -> u16 {
    /// Below what Linux and the BSDs give to connections; the tests beside these start elsewhere.
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    static GIVEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(617);
    for _ in PORTS {
        let next = first.wrapping_add(GIVEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).expect("a port");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

fn keygen(arguments: &[&str]) -> Option<()> {
    let output = Command::new("ssh-keygen").arg("-q").args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => panic!("ssh-keygen: {}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => {
            eprintln!("skipped: there is no ssh-keygen here; install openssh-client");
            None
        }
    }
}

fn serve(path: &Path, port: u16, prelude: &str, inside: &[String]) -> Option<Child> {
    let Some(program) =
        ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"].iter().find(|program| Path::new(program).exists())
    else {
        eprintln!("skipped: there is no sshd here; install openssh-server");
        return None;
    };
    // Without systemd nobody makes it, and sshd insists on it when it runs as root.
    let _ = fs::create_dir_all("/run/sshd");
    let log = fs::OpenOptions::new().create(true).append(true).open(path.join("log")).expect("a log");
    let mut command = Command::new(program);
    if let [first, rest @ ..] = inside {
        command = Command::new(first);
        command.args(rest).arg(program);
    }
    if !prelude.is_empty() {
        if user() != "root" {
            eprintln!("skipped: other shells are mounted over this machine's in a namespace, which needs root");
            return None;
        }
        let script = format!("set -e\n{prelude}\nexec {program} \"$@\"");
        command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sshd"]);
    }
    let mut server = command
        .args(["-D", "-e", "-f", &text(&path.join("sshd_config"))])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("sshd starts");
    while !listens(server.id(), port) {
        if let Ok(Some(status)) = server.try_wait() {
            let log = fs::read_to_string(path.join("log")).unwrap_or_default();
            panic!("sshd ended at once: {status}: {log}");
        }
        // Not as fast as it can: the server wants the processor too.
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(2));
    }
    Some(server)
}

/// Whether something listens at a port of the loopback that a process has.
fn listens(pid: u32, port: u16) -> bool {
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let place = format!(" 0100007F:{port:04X} 00000000:0000 0A ");
    sockets.contains(&place) || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are text").to_owned()
}
