//! Actions as users meet them: through the program, on this machine and over SSH.

mod background;
mod called;
mod checkout;
mod forward;
mod octokit;
mod pins;
mod published;
mod stages;
mod stock;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use crate::support::sshd::{self, Sshd};
use crate::support::towline;

/// A repository to run workflows of, and bare repositories to find actions in.
pub(crate) struct Desk {
    directory: tempfile::TempDir,
}

/// What a run left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
    pub(crate) result: Json,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(desk.path("repo")).unwrap();
        git(&desk.path("repo"), &["init", "-q", "-b", "main"]);
        desk.write("README", "hello\n");
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file of the repository.
    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.path("repo").join(path), text);
    }

    pub(crate) fn commit(&self) {
        commit(&self.path("repo"), "change");
    }

    /// A bare repository `OWNER/NAME.git` with these files, tagged `v1`; gives the commit.
    pub(crate) fn action(&self, name: &str, files: &[(&str, &str)]) -> String {
        let work = self.path("work").join(name);
        if !work.join(".git").exists() {
            std::fs::create_dir_all(&work).unwrap();
            git(&work, &["init", "-q", "-b", "main"]);
        }
        for (path, text) in files {
            write(&work.join(path), text);
        }
        commit(&work, "action");
        git(&work, &["tag", "-f", "v1"]);
        let bare = self.path("mirror").join(format!("{name}.git"));
        std::fs::create_dir_all(&bare).unwrap();
        git(&bare, &["init", "-q", "--bare", "-b", "main"]);
        git(&work, &["push", "-q", "-f", bare.to_str().unwrap(), "main", "v1"]);
        git(&work, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs a workflow of this text.
    pub(crate) fn run(&self, workflow: &str, arguments: &[&str]) -> Ran {
        self.run_with(workflow, arguments, &[])
    }

    pub(crate) fn run_with(&self, workflow: &str, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = self.command(workflow, arguments);
        command.envs(env.iter().copied());
        let output = command.output().unwrap();
        finished(&output)
    }

    /// The program, ready to run a workflow of this text.
    pub(crate) fn command(&self, workflow: &str, arguments: &[&str]) -> Command {
        self.write(".github/workflows/w.yml", workflow);
        self.commit();
        self.prepared(arguments)
    }

    /// The same for the workflow that is there.
    pub(crate) fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = towline();
        command.current_dir(self.path("repo")).args(["exec", "w.yml", "--json"]).args(arguments);
        command.env("HOME", self.path("home")).env("XDG_STATE_HOME", self.path("state"));
        command.env("TOWLINE_STATE", self.path("state")).env_remove("STATE_DIRECTORY");
        if self.path("mirror").exists() {
            command.arg("--actions").arg(self.path("mirror"));
        }
        command
    }
}

pub(crate) fn finished(output: &std::process::Output) -> Ran {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let result = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    Ran { code: output.status.code(), log: String::from_utf8_lossy(&output.stderr).into_owned(), result }
}

impl Ran {
    /// Fails with the log when the run did not succeed.
    pub(crate) fn must_succeed(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.log);
        self
    }

    /// The words that steps printed as `say: WORD`, in order.
    pub(crate) fn said(&self) -> Vec<&str> {
        self.log.lines().filter_map(|line| Some(line.split_once("│ say: ")?.1.trim())).collect()
    }
}

/// The arguments that lead to a server.
pub(crate) fn way(sshd: &Sshd) -> Vec<String> {
    let text = |name: &str| sshd.path(name).to_string_lossy().into_owned();
    let host = format!("{}@127.0.0.1:{}", sshd::user(), sshd.port());
    ["--host", &host, "--identity", &text("id"), "--known-hosts", &text("known_hosts")].map(str::to_owned).to_vec()
}

pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn commit(directory: &Path, message: &str) {
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-q", "--allow-empty", "-m", message]);
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
