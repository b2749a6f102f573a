//! Where configuration, state and the socket live.

use std::ffi::OsString;
use std::path::PathBuf;

/// The places of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `towline.toml`; `conf.d` lies beside it.
    pub config: PathBuf,
    /// `db`, `logs`, `blobs`, `mirrors`, `actions`, `tls`, `repositories`, `spool` lie in it.
    pub state: PathBuf,
    /// The socket lies in it.
    pub runtime: PathBuf,
}

impl Paths {
    /// From the process's environment: systemd's directories when it set them, `/etc`, `/var/lib` and `/run` for
    /// root, else XDG's.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let paths = Self::from(&variable, rustix::process::geteuid().is_root());
        let config = paths.config.clone();
        paths.configured_by(config).absolute()
    }

    /// The same places, whatever directory a process goes to: what is started on this machine works in others than ours.
    #[must_use]
    pub fn absolute(self) -> Self {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Self { config: absolute(self.config), state: absolute(self.state), runtime: absolute(self.runtime) }
    }

    /// The same places with another configuration: a file, or a directory with a `towline.toml`.
    #[must_use]
    pub fn configured_by(self, config: PathBuf) -> Self {
        let config = if config.is_dir() { config.join("towline.toml") } else { config };
        Self { config, ..self }
    }

    fn from(variable: &dyn Fn(&str) -> Option<OsString>, root: bool) -> Self {
        // systemd separates several directories by colons; the first is ours.
        let systemd = |name: &str| {
            let value = variable(name)?;
            let first = value.to_string_lossy().split(':').next().map(PathBuf::from);
            first.filter(|path| path.is_absolute())
        };
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || absolute("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let config = variable("TOWLINE_CONFIG").map(PathBuf::from).unwrap_or_else(|| {
            let directory = systemd("CONFIGURATION_DIRECTORY").unwrap_or_else(|| {
                if root {
                    PathBuf::from("/etc/towline")
                } else {
                    absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home().join(".config")).join("towline")
                }
            });
            directory.join("towline.toml")
        });
        let state =
            variable("TOWLINE_STATE").map(PathBuf::from).or_else(|| systemd("STATE_DIRECTORY")).unwrap_or_else(|| {
                if root {
                    PathBuf::from("/var/lib/towline")
                } else {
                    absolute("XDG_STATE_HOME").unwrap_or_else(|| home().join(".local/state")).join("towline")
                }
            });
        let runtime = variable("TOWLINE_RUNTIME")
            .map(PathBuf::from)
            .or_else(|| systemd("RUNTIME_DIRECTORY"))
            .unwrap_or_else(|| {
                if root {
                    PathBuf::from("/run/towline")
                } else {
                    absolute("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |path| path.join("towline"))
                }
            });
        Self { config, state, runtime }
    }

    /// The daemon's unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("towline.sock")
    }

    /// Node for hosts that have none.
    #[must_use]
    pub fn runtimes(&self) -> PathBuf {
        self.state.join("runtimes")
    }

    /// Bare mirrors of repositories that live elsewhere.
    #[must_use]
    pub fn mirrors(&self) -> PathBuf {
        self.state.join("mirrors")
    }

    /// Bare repositories that `towline repo add` made.
    #[must_use]
    pub fn repositories(&self) -> PathBuf {
        self.state.join("repositories")
    }

    /// Events that hooks left while the daemon was down.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.state.join("spool")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(variables: &[(&str, &str)], root: bool) -> Paths {
        Paths::from(
            &|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)),
            root,
        )
    }

    #[test]
    fn a_directory_of_configuration_is_one_with_the_usual_file() {
        let directory = tempfile::tempdir().unwrap();
        let by = |config: &std::path::Path| paths(&[], true).configured_by(config.to_owned()).config;
        let file = directory.path().join("towline.toml");
        assert_eq!(by(directory.path()), file);
        assert_eq!(by(&file), file);
        assert_eq!(by("/nowhere/towline.toml".as_ref()), PathBuf::from("/nowhere/towline.toml"));
    }

    #[test]
    fn places_follow_the_environment() {
        let root = paths(&[("HOME", "/root")], true);
        assert_eq!(root.config, PathBuf::from("/etc/towline/towline.toml"));
        assert_eq!(root.state, PathBuf::from("/var/lib/towline"));
        assert_eq!(root.socket(), PathBuf::from("/run/towline/towline.sock"));

        let user = paths(&[("HOME", "/home/ada"), ("XDG_RUNTIME_DIR", "/run/user/7")], false);
        assert_eq!(user.config, PathBuf::from("/home/ada/.config/towline/towline.toml"));
        assert_eq!(user.state, PathBuf::from("/home/ada/.local/state/towline"));
        assert_eq!(user.runtime, PathBuf::from("/run/user/7/towline"));
        assert_eq!(paths(&[("HOME", "/h")], false).runtime, PathBuf::from("/h/.local/state/towline/run"));

        let systemd = paths(
            &[
                ("STATE_DIRECTORY", "/s:/t"),
                ("RUNTIME_DIRECTORY", "/r"),
                ("CONFIGURATION_DIRECTORY", "/c"),
                ("HOME", "/h"),
            ],
            false,
        );
        assert_eq!((systemd.state, systemd.runtime), (PathBuf::from("/s"), PathBuf::from("/r")));
        assert_eq!(systemd.config, PathBuf::from("/c/towline.toml"));

        let own = paths(&[("TOWLINE_STATE", "here"), ("STATE_DIRECTORY", "/s"), ("TOWLINE_CONFIG", "t.toml")], true);
        assert_eq!((own.state, own.config), (PathBuf::from("here"), PathBuf::from("t.toml")));
    }

    #[test]
    fn places_hold_in_every_directory() {
        let paths = paths(&[("TOWLINE_STATE", "here/state")], false).absolute();
        assert!(paths.state.is_absolute() && paths.state.ends_with("here/state"), "{}", paths.state.display());
    }
}
