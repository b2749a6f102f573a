//! What a host is and has.

use super::TransportError;
use super::shell::Shell;
use crate::clock::Clock;
use crate::id::HostName;

/// What the probe found. Empty text and zero mean that the host did not tell.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// As GitHub writes it in `runner.os`: `Linux`, `macOS`, `Windows`; other systems by their own name.
    pub os: String,
    /// As GitHub writes it in `runner.arch`: `X64`, `ARM64`, `ARM`, `X86`.
    pub arch: String,
    /// `PRETTY_NAME` of the distribution, or kernel name and release.
    pub system: String,
    pub hostname: String,
    /// The login name.
    pub user: String,
    pub uid: u32,
    /// Absolute.
    pub home: String,
    /// Absolute path of the root directory.
    pub root: String,
    pub cores: u32,
    pub memory_bytes: u64,
    /// Free for this user in the file system of the root directory.
    pub disk_free_bytes: u64,
    /// Files that can still be made there, where the file system counts them.
    #[serde(default)]
    pub inodes_free: Option<u64>,
    /// Where that file system is mounted.
    #[serde(default)]
    pub mount: String,
    /// Programs without which no job runs there, and that it does not have.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The load average of the last minute.
    pub load: f64,
    /// `glibc 2.36`, `musl`, or empty.
    pub libc: String,
    /// Changes when the machine restarts.
    pub boot_id: String,
    /// Their clock minus ours.
    pub clock_offset_seconds: i64,
    /// The shell of the account.
    pub login_shell: String,
    /// Absolute path, or empty.
    pub bash: String,
    /// Absolute path, or empty.
    pub pwsh: String,
    /// Absolute path, or empty.
    pub python: String,
    /// `gnu`, `busybox`, `bsd`.
    pub coreutils: String,
    /// `git version` output without the words, or empty.
    pub git: String,
    /// Absolute path of tar, or empty.
    pub tar: String,
    /// `v20.1.0`, or empty.
    pub node: String,
    /// Absolute path of node, or empty.
    pub node_path: String,
    /// `docker` or `podman` when this user may use it, or empty.
    pub container_engine: String,
    /// Its absolute path, or empty.
    pub container_engine_path: String,
    /// Whether files under the root directory may be executed.
    pub runs_files: bool,
    /// Whether processes of a closed session are killed (`KillUserProcesses=yes` without lingering).
    pub kills_user_processes: bool,
    /// The login environment, in order.
    pub environment: Vec<(String, String)>,
    /// What stands in the way of jobs, a sentence each, with the way out.
    pub obstacles: Vec<String>,
}

impl Facts {
    /// The value of a variable of the login environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the host is and can run, a line each; [`Facts::obstacles`] are not among them.
    #[must_use]
    pub fn words(&self) -> [String; 3] {
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64);
        let mut can = vec![if self.bash.is_empty() { "sh steps" } else { "bash and sh steps" }.to_owned()];
        if !self.pwsh.is_empty() {
            can.push("pwsh steps".to_owned());
        }
        if !self.python.is_empty() {
            can.push("python steps".to_owned());
        }
        if !self.git.is_empty() {
            can.push(format!("git {}", self.git));
        }
        if !self.node.is_empty() {
            can.push(format!("JavaScript actions with node {}", self.node));
        }
        if !self.container_engine.is_empty() {
            can.push(format!("containers with {}", self.container_engine));
        }
        [
            format!(
                "{} {} ({}), {} cores, {} memory",
                self.os,
                self.arch,
                self.system,
                self.cores,
                gib(self.memory_bytes)
            ),
            format!("{} as {}, {} free under {}", self.hostname, self.user, gib(self.disk_free_bytes), self.root),
            format!("can run: {}", can.join(", ")),
        ]
    }
}

/// What finds it out.
const PROBE: &str = include_str!("probe.sh");

/// Asks a host.
pub(super) async fn probe(shell: &mut Shell, host: &HostName) -> Result<Facts, TransportError> {
    let asked = Clock::System.now();
    let output = shell.exec(PROBE, b"").await?;
    let answered = Clock::System.now();
    let mut facts = parse(&output.stdout);
    if facts.home.is_empty() {
        return Err(TransportError::Unusable { host: host.clone(), reason: "HOME is not set there".to_owned() });
    }
    // Half-way between asking and hearing is the best guess at when the host looked at its clock.
    let middle = (asked.as_second() + answered.as_second()) / 2;
    if facts.clock_offset_seconds != 0 {
        facts.clock_offset_seconds -= middle;
    }
    facts.obstacles = obstacles(&facts);
    Ok(facts)
}

/// Reads the probe's lines: `name=value`, then `environment` and the variables, each ended by NUL.
fn parse(text: &[u8]) -> Facts {
    let marker = b"\nenvironment\n";
    let at = text.windows(marker.len()).position(|window| window == marker);
    let (lines, environment) = match at {
        Some(at) => (&text[..at], &text[at + marker.len()..]),
        None => (text, &[][..]),
    };
    let mut facts = Facts::default();
    for line in String::from_utf8_lossy(lines).lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let text = value.to_owned();
        match name {
            "os" => facts.os = os(value),
            "arch" => facts.arch = arch(value),
            "system" => facts.system = text,
            "hostname" => facts.hostname = text,
            "user" => facts.user = text,
            "uid" => facts.uid = value.parse().unwrap_or_default(),
            "home" => facts.home = text,
            "root" => facts.root = text,
            "cores" => facts.cores = value.parse().unwrap_or_default(),
            "memory" => facts.memory_bytes = value.parse::<u64>().unwrap_or_default() * 1024,
            "disk" => facts.disk_free_bytes = value.parse::<u64>().unwrap_or_default() * 1024,
            "inodes" => facts.inodes_free = value.parse().ok(),
            "mount" => facts.mount = text,
            "missing" => facts.missing = value.split_whitespace().map(str::to_owned).collect(),
            "load" => facts.load = value.parse().unwrap_or_default(),
            "libc" => facts.libc = libc(value),
            "boot" => facts.boot_id = text,
            "clock" => facts.clock_offset_seconds = value.parse().unwrap_or_default(),
            "login_shell" => facts.login_shell = text,
            "bash" => facts.bash = text,
            "pwsh" => facts.pwsh = text,
            "python" => facts.python = text,
            "coreutils" => facts.coreutils = text,
            "git" => facts.git = value.trim_start_matches("git version ").to_owned(),
            "tar" => facts.tar = text,
            "node" => facts.node = text,
            "node_path" => facts.node_path = text,
            "containers" => facts.container_engine = text,
            "containers_path" => facts.container_engine_path = text,
            "kills" => facts.kills_user_processes = value == "yes",
            "executable" => facts.runs_files = value == "yes",
            _ => {}
        }
    }
    for variable in environment.split(|&byte| byte == 0) {
        if let Some((name, value)) = String::from_utf8_lossy(variable).split_once('=') {
            facts.environment.push((name.to_owned(), value.to_owned()));
        }
    }
    facts
}

fn os(name: &str) -> String {
    match name {
        "Darwin" => "macOS".to_owned(),
        other => other.to_owned(),
    }
}

fn arch(name: &str) -> String {
    match name {
        "x86_64" | "amd64" => "X64".to_owned(),
        "aarch64" | "arm64" => "ARM64".to_owned(),
        "i386" | "i486" | "i586" | "i686" => "X86".to_owned(),
        arm if arm.starts_with("armv") => "ARM".to_owned(),
        other => other.to_uppercase(),
    }
}

fn libc(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower.contains("musl") {
        "musl".to_owned()
    } else if lower.contains("glibc") || lower.contains("gnu libc") {
        let version = text.rsplit(' ').next().unwrap_or_default();
        format!("glibc {version}")
    } else {
        String::new()
    }
}

/// The command that installs a package there, as far as the system's name tells.
fn install(facts: &Facts, package: &str) -> String {
    const MANAGERS: [(&str, &str); 13] = [
        ("Debian", "apt-get install"),
        ("Ubuntu", "apt-get install"),
        ("Mint", "apt-get install"),
        ("Raspbian", "apt-get install"),
        ("Alpine", "apk add"),
        ("Fedora", "dnf install"),
        ("Red Hat", "dnf install"),
        ("CentOS", "dnf install"),
        ("Rocky", "dnf install"),
        ("AlmaLinux", "dnf install"),
        ("Arch", "pacman -S"),
        ("SUSE", "zypper install"),
        ("FreeBSD", "pkg install"),
    ];
    if facts.os == "macOS" {
        return format!("`brew install {package}`");
    }
    let sudo = if facts.uid == 0 { "" } else { "sudo " };
    match MANAGERS.iter().find(|(name, _)| facts.system.contains(name)) {
        Some((_, command)) => format!("`{sudo}{command} {package}`"),
        None => format!("install {package}"),
    }
}

fn obstacles(facts: &Facts) -> Vec<String> {
    const ELSEWHERE: &str = "choose another `root` for the host";
    let mut found = Vec::new();
    let sudo = if facts.uid == 0 { "" } else { "sudo " };
    if !facts.missing.is_empty() {
        let (are, them) = if facts.missing.len() == 1 { ("is", "it") } else { ("are", "them") };
        found.push(format!(
            "no job can run: {} {are} not there; coreutils, findutils and grep have {them}: {}",
            facts.missing.join(", "),
            install(facts, "coreutils findutils grep")
        ));
    }
    if facts.bash.is_empty() {
        found.push(format!(
            "there is no bash: steps without a `shell` run in sh, and actions written for bash fail; {}",
            install(facts, "bash")
        ));
    }
    if facts.tar.is_empty() {
        found.push(format!("there is no tar: files cannot be brought there; {}", install(facts, "tar")));
    }
    if facts.git.is_empty() {
        found.push(format!(
            "there is no git: checkout brings files without history commands; {} for a full checkout",
            install(facts, "git")
        ));
    }
    if facts.disk_free_bytes < 1 << 30 && !facts.mount.is_empty() {
        found.push(format!(
            "only {} MiB are free in {}; `{sudo}du -xm {1} | sort -n | tail` shows what takes the room",
            facts.disk_free_bytes >> 20,
            facts.mount
        ));
    }
    if let Some(inodes) = facts.inodes_free.filter(|inodes| *inodes < 10_000) {
        found.push(format!(
            "only {inodes} files can still be made in {0}; `{sudo}du -x --inodes {0} | sort -n | tail` shows where they are",
            facts.mount
        ));
    }
    if !facts.runs_files {
        found.push(format!(
            "files under {} cannot be executed: {} is mounted noexec; `{sudo}mount -o remount,exec {1}` there, or {ELSEWHERE}",
            facts.root, facts.mount
        ));
    }
    if facts.clock_offset_seconds.abs() > 60 {
        let (offset, way) =
            (facts.clock_offset_seconds.abs(), if facts.clock_offset_seconds > 0 { "ahead" } else { "behind" });
        found.push(format!(
            "its clock is {offset} s {way}: caches and certificates will misbehave; `{sudo}timedatectl set-ntp true` there keeps it right"
        ));
    }
    if facts.kills_user_processes {
        found.push(format!(
            "logind ends what a closed session leaves (KillUserProcesses=yes), steps too; `{sudo}loginctl enable-linger {}` there",
            facts.user
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_read() {
        let facts = parse(b"os=Darwin\narch=arm64\nmemory=2048\ngit=git version 2.39.5\nlibc=ldd (Debian GLIBC 2.36-9) 2.36\n\nenvironment\nA=b\nc\0D=\0");
        assert_eq!((facts.os.as_str(), facts.arch.as_str(), facts.memory_bytes), ("macOS", "ARM64", 2 << 20));
        assert_eq!((facts.git.as_str(), facts.libc.as_str()), ("2.39.5", "glibc 2.36"));
        assert_eq!(facts.environment, [("A".into(), "b\nc".into()), ("D".into(), String::new())]);
        assert_eq!(facts.variable("D"), Some(""));
    }
}
