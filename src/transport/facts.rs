//! What a host is and has.

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
}
