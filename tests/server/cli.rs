//! `towline run|workflow|token` from another machine: over HTTPS with a token.

use std::process::Output;

use towline::run::Conclusion;
use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, failed_run};

/// The command line of somebody else's machine.
#[derive(Clone)]
struct Cli {
    url: String,
    token: String,
    authority: std::path::PathBuf,
    home: std::path::PathBuf,
}

impl Cli {
    fn output(&self, arguments: &[&str]) -> Output {
        crate::support::towline()
            .args(arguments)
            .env("TOWLINE_URL", &self.url)
            .env("TOWLINE_TOKEN", &self.token)
            .env("TOWLINE_CA", &self.authority)
            .env("HOME", &self.home)
            .env_remove("TOWLINE_SOCKET")
            .current_dir(&self.home)
            .output()
            .unwrap()
    }

    /// What it prints, and its exit code.
    async fn run(&self, arguments: &[&str]) -> (String, i32) {
        let (cli, arguments) = (self.clone(), arguments.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        let output = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            cli.output(&arguments)
        });
        let output = output.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (format!("{}{}", text(&output.stdout), text(&output.stderr)), output.status.code().unwrap_or(-1))
    }

    async fn good(&self, arguments: &[&str], parts: &[&str]) -> String {
        let (out, code) = self.run(arguments).await;
        assert_eq!(code, 0, "towline {arguments:?}: {out}");
        for part in parts {
            assert!(out.contains(part), "towline {arguments:?} does not say {part:?}:\n{out}");
        }
        out
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_from_another_machine() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let run = failed_run(&mut daemon).await.to_string();
    let home = tempfile::tempdir().unwrap();
    let cli = Cli {
        url: format!("https://localhost:{}", daemon.secure.port()),
        token: daemon.token("ada", Role::Admin, &[]).await,
        authority: daemon.authority.clone(),
        home: home.path().to_owned(),
    };
    cli.good(&["run", "list"], &["ID", "failure", "the thing", "main", "push"]).await;
    cli.good(&["run", "list", "--status", "success"], &["There are no runs."]).await;
    cli.good(&["run", "list", "--json"], &["\"display_title\""]).await;
    cli.good(&["run", "view", &run], &["✗", "build on selene", "Run make test", "test", "failed"]).await;
    cli.good(&["run", "view", &run, "--log"], &["build\t2026-11-21T21:00:00.0000000Z make", "test\t"]).await;
    let (out, code) = cli.run(&["run", "view", &run, "--exit-status"]).await;
    assert_eq!(code, 1, "{out}");
    cli.good(&["run", "download", &run], &["logs.zip"]).await;
    assert!(std::fs::read(home.path().join(format!("run-{run}-logs.zip"))).unwrap().starts_with(b"PK"));
    cli.good(&["workflow", "list"], &["CI", "ci.yml", "active"]).await;
    cli.good(&["workflow", "disable", "ci.yml"], &[]).await;
    let (out, code) = cli.run(&["workflow", "run", "ci.yml", "-f", "where=here"]).await;
    assert!(code != 0 && out.contains("disabled"), "{out}");
    cli.good(&["workflow", "enable", "ci.yml"], &[]).await;
    cli.good(&["workflow", "run", "ci.yml", "-f", "where=here"], &[]).await;
    cli.good(&["workflow", "view", "ci.yml"], &["CI"]).await;
    let made = cli.good(&["token", "create", "ci", "--role", "viewer", "-R", "o/r"], &["twl_"]).await;
    cli.good(&["token", "list"], &["ci", "viewer", "o/r", "admin"]).await;
    let other = Cli { token: made.trim().to_owned(), ..cli.clone() };
    other.good(&["run", "list"], &["the thing"]).await;
    let (out, code) = other.run(&["run", "rerun", &run]).await;
    assert!(code == 3 && out.contains("needs the role operator"), "{code} {out}");
    cli.good(&["token", "revoke", "ci"], &["revoked"]).await;
    let (out, code) = other.run(&["run", "list"]).await;
    assert!(code == 3 && out.contains("TOWLINE_TOKEN"), "{code} {out}");
    // Who is not trusted is not talked to.
    let stranger = Cli { authority: home.path().join("none.pem"), ..cli.clone() };
    std::fs::write(&stranger.authority, "").unwrap();
    let (out, code) = stranger.run(&["run", "list"]).await;
    assert!(code == 3 && out.contains("towline trust"), "{code} {out}");
    let (out, code) = cli.run(&["trust", "--certificate", daemon.authority.to_str().unwrap()]).await;
    assert!(code == 0 && out.contains("BEGIN CERTIFICATE") && out.contains("SHA-256 "), "{out}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_watched_to_its_end() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let run = daemon.push("o/r", "watch me").await.to_string();
    let home = tempfile::tempdir().unwrap();
    let cli = Cli {
        url: format!("http://{}", daemon.plain),
        token: daemon.token("ada", Role::Viewer, &[]).await,
        authority: daemon.authority.clone(),
        home: home.path().to_owned(),
    };
    let watching = tokio::spawn(async move { cli.run(&["run", "watch", &run, "--exit-status"]).await });
    daemon.play(&[("Set up job", &["x"]), ("Run make", &["y"])], Conclusion::Success).await;
    daemon.play(&[("Set up job", &["x"]), ("Run make test", &["y"])], Conclusion::Failure).await;
    let (out, code) = watching.await.unwrap();
    assert_eq!(code, 1, "{out}");
    for line in ["✓ build: success", "✗ test: failed", "✗ run 1: failed"] {
        assert_eq!(out.lines().filter(|one| *one == line).count(), 1, "{line} once in\n{out}");
    }
    daemon.end().await;
}
