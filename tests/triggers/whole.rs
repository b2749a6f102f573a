//! A whole daemon inside the test, with this machine as its host: what was pushed really runs.

use std::path::PathBuf;
use std::time::Duration;

use towline::clock::Clock;
use towline::config::{self, Paths};
use towline::daemon::{self, Options};
use towline::engine::RunRecord;
use towline::run::RunStatus;
use towline::store::RunFilter;

use super::daemon::{commit, git};

/// Longer than anything here takes; reaching it is a failure, never a pass.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct Whole {
    directory: tempfile::TempDir,
    config: String,
    clock: Clock,
    daemon: Option<daemon::Daemon>,
}

impl Whole {
    /// Starts a daemon with a local host and the given configuration.
    pub(super) async fn start(config: &str) -> Self {
        Self::start_at(config, Clock::System).await
    }

    /// The same with a clock that may be set by hand.
    pub(super) async fn start_at(config: &str, clock: Clock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("host");
        let config = format!(
            "[server]\nlisten = ['127.0.0.1:0']\ntls = false\n[[host]]\nname = 'here'\nkind = 'local'\nslots = 4\nroot = '{}'\n{config}",
            root.display()
        );
        let mut whole = Self { directory, config, clock, daemon: None };
        whole.again().await;
        whole
    }

    /// Starts the daemon again, over the state it left.
    pub(super) async fn again(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().await;
        }
        let file = config::File { path: self.directory.path().join("towline.toml"), text: self.config.clone() };
        let (config, diagnostics) = config::parse(&[file]);
        let config = config.unwrap_or_else(|| panic!("{diagnostics:#?}"));
        let begun = std::time::Instant::now();
        // The last task of the life before may still hold the state for a moment.
        let daemon = loop {
            match daemon::start(options(&self.paths(), &config, &self.clock)).await {
                Ok(daemon) => break daemon,
                Err(error) => assert!(begun.elapsed() < PATIENCE && self.daemon.is_none(), "{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        self.daemon = Some(daemon);
    }

    pub(super) fn paths(&self) -> Paths {
        Paths {
            config: self.directory.path().join("towline.toml"),
            state: self.directory.path().join("state"),
            runtime: self.directory.path().join("run"),
        }
    }

    pub(super) fn daemon(&self) -> &daemon::Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub(super) fn url(&self) -> String {
        self.daemon().url().unwrap()
    }

    pub(super) fn command(&self) -> std::process::Command {
        let mut command = crate::support::towline();
        let paths = self.paths();
        command.env("TOWLINE_STATE", paths.state).env("TOWLINE_RUNTIME", paths.runtime);
        command.env("TOWLINE_CONFIG", paths.config);
        command
    }

    /// Adds a repository and a project beside it that pushes there.
    pub(super) fn project(&self, name: &str) -> PathBuf {
        let output = self.command().args(["repo", "add", name]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let project = self.directory.path().join(format!("work-{name}"));
        std::fs::create_dir_all(&project).unwrap();
        git(&project, &["init", "-q"]);
        let bare = self.paths().state.join(format!("repositories/local/{name}.git"));
        git(&project, &["remote", "add", "origin", bare.to_str().unwrap()]);
        project
    }

    /// Commits files and pushes them; gives what the pusher read.
    pub(super) async fn push(&self, project: &std::path::Path, files: &[(&str, &str)]) -> String {
        let project = project.to_owned();
        let files: Vec<(String, String)> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let pushing = tokio::task::spawn_blocking(move || {
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            commit(&project, &files, "A change");
            git(&project, &["push", "origin", "main"])
        });
        pushing.await.unwrap()
    }

    /// Waits until so many runs are over and none is under way; oldest first.
    pub(super) async fn ended(&self, count: usize) -> Vec<RunRecord> {
        let mut updates = self.daemon().engine().updates();
        let look = async {
            loop {
                let mut runs = self.daemon().store().runs(&RunFilter::default(), 0, 1000).unwrap().runs;
                runs.reverse();
                if runs.len() >= count && runs.iter().all(|run| run.status == RunStatus::Completed) {
                    return runs;
                }
                drop(updates.recv().await);
            }
        };
        match tokio::time::timeout(PATIENCE, look).await {
            Ok(runs) => runs,
            Err(_) => panic!("{:#?}", self.daemon().store().runs(&RunFilter::default(), 0, 1000).unwrap().runs),
        }
    }

    pub(super) async fn end(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().await;
        }
    }
}

fn options(paths: &Paths, config: &config::Config, clock: &Clock) -> Options {
    Options {
        config: config.clone(),
        paths: paths.clone(),
        clock: clock.clone(),
        open_on_loopback: true,
        passed: towline::server::Passed::default(),
    }
}
