//! The part of a daemon that triggers see: sources, a store, listeners, and an engine that only counts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use towline::clock::Clock;
use towline::config::{self, Config, Paths};
use towline::engine::Answer;
use towline::id::RunId;
use towline::run::RunSpec;
use towline::store::Store;
use towline::triggers::{Inventory, Starter, Triggers, webhook};

use tokio_util::task::TaskTracker;

/// A daemon's triggers over a directory of their own.
pub(super) struct Daemon {
    pub(super) directory: tempfile::TempDir,
    pub(super) triggers: Triggers,
    pub(super) store: Store,
    /// What was started, in order; the run's id is the index plus one.
    pub(super) started: Arc<Mutex<Vec<RunSpec>>>,
    pub(super) paths: Paths,
    tasks: TaskTracker,
}

impl Daemon {
    pub(super) fn new(config: &str) -> Self {
        Self::at(config, Clock::System)
    }

    pub(super) fn at(config: &str, clock: Clock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths {
            config: directory.path().join("towline.toml"),
            state: directory.path().join("state"),
            runtime: directory.path().join("run"),
        };
        std::fs::create_dir_all(&paths.runtime).unwrap();
        Self::over(directory, paths, config, clock)
    }

    fn over(directory: tempfile::TempDir, paths: Paths, config: &str, clock: Clock) -> Self {
        let file = config::File { path: directory.path().join("towline.toml"), text: config.to_owned() };
        let (config, diagnostics) = config::parse(&[file]);
        let config: Config = config.unwrap_or_else(|| panic!("{diagnostics:#?}"));
        let (starter, mut requests) = Starter::new(16);
        let started: Arc<Mutex<Vec<RunSpec>>> = Arc::default();
        let tasks = TaskTracker::new();
        let list = Arc::clone(&started);
        tasks.spawn(async move {
            let mut known: HashMap<String, u64> = HashMap::new();
            while let Some(request) = requests.recv().await {
                let towline::triggers::Wish::Start(start) = request.wish else { continue };
                let key = start.key.clone();
                let before = key.as_ref().and_then(|key| known.get(key).copied());
                let run = before.unwrap_or_else(|| {
                    let mut started = list.lock().unwrap();
                    started.push(*start.spec);
                    started.len() as u64
                });
                known.extend(key.map(|key| (key, run)));
                let repeated = before.is_some();
                let answer = Answer::Run { run: RunId(run), run_number: run, attempt: 1, repeated };
                drop(request.answer.send(answer));
            }
        });
        let store = Store::temporary().unwrap();
        let triggers = Triggers::new(
            clock,
            store.clone(),
            Inventory::new(config, paths.clone()),
            starter,
            Arc::new(|_| serde_json::Map::new()),
            tasks.clone(),
        );
        Self { directory, triggers, store, started, paths, tasks }
    }

    /// Takes another configuration, as after a reload.
    pub(super) fn configure(&self, config: &str) {
        let file = config::File { path: self.paths.config.clone(), text: config.to_owned() };
        let (config, diagnostics) = config::parse(&[file]);
        self.triggers.inventory().reload(config.unwrap_or_else(|| panic!("{diagnostics:#?}")));
    }

    /// Serves webhooks on loopback; gives the address.
    pub(super) async fn serve_webhooks(&self) -> std::net::SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = webhook::router(self.triggers.clone());
        self.tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    /// Serves the hook on the socket until the result is dropped.
    pub(super) fn serve_hook(&self) -> tokio_util::sync::DropGuard {
        let socket = self.paths.socket();
        drop(std::fs::remove_file(&socket));
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let router = webhook::socket_router(self.triggers.clone(), None);
        let stop = tokio_util::sync::CancellationToken::new();
        let guard = stop.clone().drop_guard();
        self.tasks.spawn(async move {
            let served = axum::serve(listener, router);
            stop.run_until_cancelled_owned(async move { served.await }).await
        });
        guard
    }

    /// Adds a repository as a person would; gives where it is.
    pub(super) fn add(&self, name: &str) -> PathBuf {
        let output = crate::support::towline()
            .args(["repo", "add", name])
            .env("TOWLINE_STATE", &self.paths.state)
            .env("TOWLINE_RUNTIME", &self.paths.runtime)
            .env("TOWLINE_CONFIG", &self.paths.config)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        self.paths.repositories().join(format!("local/{name}.git"))
    }

    pub(super) fn runs(&self) -> Vec<RunSpec> {
        self.started.lock().unwrap().clone()
    }
}

/// Runs git as a person would; gives what it said, both streams.
pub(super) fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    let output = command
        .current_dir(directory)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@lan", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "git {arguments:?}: {said}");
    said.trim().to_owned()
}

/// Writes files and commits them; gives the commit.
pub(super) fn commit(directory: &Path, files: &[(&str, &str)], message: &str) -> String {
    for (path, text) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-q", "--allow-empty", "-m", message]);
    git(directory, &["rev-parse", "HEAD"])
}
