//! What nobody pushes: schedules, dispatches, and directories that change.

use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use serde_json::{Value as Json, json};
use towline::clock::Clock;
use towline::triggers::dispatch::Dispatch;
use towline::triggers::schedules::Schedules;
use towline::triggers::{Error, poll, watch};

use super::daemon::{Daemon, commit, git};

const JOB: &str = "jobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";

fn directory_source(path: &std::path::Path) -> String {
    format!("[[source]]\nname = 'ops'\nkind = 'directory'\npath = '{}'\n", path.display())
}

#[tokio::test]
async fn what_is_due_starts_once_even_after_a_restart() {
    let ops = tempfile::tempdir().unwrap();
    std::fs::write(ops.path().join("nightly.yml"), format!("on:\n  schedule:\n    - cron: '30 3 * * *'\n{JOB}"))
        .unwrap();
    let time = Arc::new(Mutex::new("2026-11-21T03:29:00Z".parse().unwrap()));
    let daemon = Daemon::at(&directory_source(ops.path()), Clock::Manual(Arc::clone(&time)));
    let schedules = Schedules::new(daemon.triggers.clone());
    let from = "2026-11-21T03:20:00Z".parse().unwrap();
    assert_eq!(schedules.turn(from).await, 0);
    assert_eq!(schedules.preview(2)[0].1[0], "2026-11-21T03:30:00Z".parse().unwrap());
    *time.lock().unwrap() = "2026-11-21T03:30:02Z".parse().unwrap();
    assert_eq!(schedules.turn(from).await, 1);
    assert_eq!(schedules.turn(from).await, 0);
    let runs = daemon.runs();
    assert_eq!((runs[0].event.name.as_str(), &runs[0].event.payload["schedule"]), ("schedule", &json!("30 3 * * *")));
    assert_eq!((runs[0].workflow_path.as_str(), runs[0].event.repository.as_str()), ("nightly.yml", "local/ops"));
    // Another life of the daemon, which does not know that it was started.
    *time.lock().unwrap() = "2026-11-21T03:50:00Z".parse().unwrap();
    assert_eq!(Schedules::new(daemon.triggers.clone()).turn(from).await, 1);
    assert_eq!(daemon.runs().len(), 1);
}

#[tokio::test]
async fn a_dispatch_is_checked_before_it_starts() {
    let daemon = Daemon::new("");
    let bare = daemon.add("app");
    let project = tempfile::tempdir().unwrap();
    git(project.path(), &["init", "-q"]);
    let workflow = format!(
        "on:\n  workflow_dispatch:\n    inputs:\n      count:\n        type: number\n        default: 3\n      dry:\n        type: boolean\n{JOB}"
    );
    let files =
        [(".github/workflows/d.yml", workflow.as_str()), (".github/workflows/p.yml", &format!("on: push\n{JOB}"))];
    let head = commit(project.path(), &files, "first");
    git(project.path(), &["push", "-q", bare.to_str().unwrap(), "main", "main:side"]);
    let dispatch = async |workflow: &str, git_ref: Option<&str>, inputs: &[(&str, Json)]| {
        let inputs: IndexMap<String, Json> =
            inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let wish = Dispatch { repository: "app", workflow, git_ref, inputs: &inputs, actor: "ada" };
        daemon.triggers.dispatch(&wish).await
    };
    let outcome = dispatch("d.yml", Some("side"), &[("dry", json!("true"))]).await.unwrap();
    assert_eq!(outcome.runs.len(), 1);
    let run = &daemon.runs()[0];
    assert_eq!((run.event.git_ref.as_str(), run.event.sha.as_str()), ("refs/heads/side", head.as_str()));
    assert_eq!(Json::Object(run.inputs.clone()), json!({ "count": 3, "dry": true }));
    assert_eq!(run.event.payload["inputs"], json!({ "count": "3", "dry": "true" }));
    assert_eq!(run.triggering_actor, "ada");
    let refused = [
        (dispatch("d.yml", None, &[("count", json!("many"))]).await, "count"),
        (dispatch("d.yml", None, &[("colour", json!("red"))]).await, "colour"),
        (dispatch("p.yml", None, &[]).await, "no 'workflow_dispatch' trigger"),
        (dispatch("none.yml", None, &[]).await, "there is no workflow none.yml"),
        (dispatch("d.yml", Some("nowhere"), &[]).await, "no branch or tag nowhere"),
    ];
    for (result, expected) in refused {
        let Err(Error::Refused(faults)) = result else { panic!("{expected}: {result:?}") };
        assert!(faults.join("; ").contains(expected), "{faults:?}");
    }
    assert_eq!(daemon.runs().len(), 1);
}

#[tokio::test]
async fn changed_files_of_a_watched_directory_start_what_listens() {
    let ops = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(ops.path().join(name), text).unwrap();
    write("sync.yml", &format!("on:\n  towline:\n    paths: ['*.conf']\n{JOB}"));
    write("a.conf", "1");
    let daemon = Daemon::new(&directory_source(ops.path()));
    let source = daemon.triggers.source("ops").unwrap();
    let first = watch::look(&daemon.triggers, &source, None).await.unwrap();
    assert!(first.changed.is_empty() && first.diagnostics.is_empty(), "{first:?}");
    write("notes.txt", "x");
    let second = watch::look(&daemon.triggers, &source, Some(&first.commit)).await.unwrap();
    assert_eq!((second.changed.as_slice(), daemon.runs().len()), (&["notes.txt".to_owned()][..], 0));
    write("a.conf", "22");
    write("broken.yml", "on: push\njobs: 7\n");
    let third = watch::look(&daemon.triggers, &source, Some(&second.commit)).await.unwrap();
    assert_eq!(third.changed, ["a.conf", "broken.yml"]);
    assert!(third.diagnostics.iter().any(|diagnostic| diagnostic.path == "broken.yml" && diagnostic.is_error()));
    let runs = daemon.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].event.name.as_str(), &runs[0].event.payload["paths"]),
        ("towline", &json!(["a.conf", "broken.yml"]))
    );
    let same = watch::look(&daemon.triggers, &source, Some(&third.commit)).await.unwrap();
    assert_eq!(same.commit, third.commit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_without_being_asked() {
    let ops = tempfile::tempdir().unwrap();
    std::fs::write(ops.path().join("sync.yml"), format!("on:\n  towline:\n    paths: ['*.conf']\n{JOB}")).unwrap();
    let daemon = Daemon::new(&directory_source(ops.path()));
    let stop = tokio_util::sync::CancellationToken::new();
    let schedules = Schedules::new(daemon.triggers.clone());
    let watching = tokio::spawn(watch::run(daemon.triggers.clone(), schedules, stop.clone()));
    // Written again and again until it is seen: the watcher may not be there yet.
    let mut number = 0;
    while daemon.runs().is_empty() {
        number += 1;
        std::fs::write(ops.path().join("a.conf"), number.to_string()).unwrap();
        for _ in 0..50_000 {
            tokio::task::yield_now().await;
        }
    }
    stop.cancel();
    watching.await.unwrap();
    assert_eq!(daemon.runs()[0].event.name, "towline");
}

/// Shorter than the minute after which a directory is looked at without any sign.
const SOON: std::time::Duration = std::time::Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_replaced_is_watched_on() {
    let outside = tempfile::tempdir().unwrap();
    let path = |name: &str| outside.path().join(name);
    let make = |name: &str| {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(path(name).join("sync.yml"), format!("on:\n  towline:\n    paths: ['*.conf']\n{JOB}")).unwrap();
        std::fs::write(path(name).join(format!("{name}.conf")), "").unwrap();
    };
    ["one", "two", "three", "four"].iter().copied().for_each(make);
    std::os::unix::fs::symlink(path("one"), path("ops")).unwrap();
    let daemon = Daemon::new(&directory_source(&path("ops")));
    let stop = tokio_util::sync::CancellationToken::new();
    let schedules = Schedules::new(daemon.triggers.clone());
    let watching = tokio::spawn(watch::run(daemon.triggers.clone(), schedules, stop.clone()));
    let seen = async |file: &str| {
        let is_told = |run: &towline::run::RunSpec| {
            run.event.payload["paths"].as_array().unwrap().iter().any(|changed| changed == file)
        };
        let wait = async {
            while !daemon.runs().iter().any(is_told) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{file} is not seen");
    };
    // Written again and again until it is seen: the watcher may not be there yet.
    let mut number = 0;
    while daemon.runs().is_empty() {
        number += 1;
        std::fs::write(path("one/first.conf"), number.to_string()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    // A link that leads elsewhere, at once, as releases are switched.
    std::os::unix::fs::symlink(path("two"), path("next")).unwrap();
    std::fs::rename(path("next"), path("ops")).unwrap();
    seen("two.conf").await;
    std::fs::write(path("two/behind-the-link.conf"), "").unwrap();
    seen("behind-the-link.conf").await;
    // A directory in the place of the link, after nothing was there for a while.
    std::fs::remove_file(path("ops")).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    std::fs::rename(path("three"), path("ops")).unwrap();
    seen("three.conf").await;
    std::fs::write(path("ops/in-the-directory.conf"), "").unwrap();
    seen("in-the-directory.conf").await;
    // Renamed away, and another in its place.
    std::fs::rename(path("ops"), path("old")).unwrap();
    std::fs::rename(path("four"), path("ops")).unwrap();
    seen("four.conf").await;
    std::fs::write(path("ops/in-the-other.conf"), "").unwrap();
    seen("in-the-other.conf").await;
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_poll_finds_what_moved_and_nothing_twice() {
    let origin = tempfile::tempdir().unwrap();
    git(origin.path(), &["init", "-q"]);
    commit(origin.path(), &[(".github/workflows/ci.yml", &format!("on: push\n{JOB}"))], "first");
    let url = format!("file://{}", origin.path().display());
    let daemon = Daemon::new(&format!("[[source]]\nname = 'ada/app'\nkind = 'git'\nurl = '{url}'\n"));
    let source = daemon.triggers.source("ada/app").unwrap();
    // The first look only notes where everything is.
    assert_eq!(poll::look(&daemon.triggers, &source).await.unwrap(), 0);
    let second = commit(origin.path(), &[("a", "1")], "second");
    assert_eq!(poll::look(&daemon.triggers, &source).await.unwrap(), 1);
    assert_eq!(poll::look(&daemon.triggers, &source).await.unwrap(), 0);
    let runs = daemon.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].event.sha.as_str(), runs[0].event.git_ref.as_str()), (second.as_str(), "refs/heads/main"));
    git(origin.path(), &["branch", "feature"]);
    assert_eq!(poll::look(&daemon.triggers, &source).await.unwrap(), 1);
    assert_eq!(daemon.runs()[1].event.payload["created"], json!(true));
    // Back, and there again: the same move as before, and another one all the same.
    for (number, to) in ["HEAD~1", &second].into_iter().enumerate() {
        git(origin.path(), &["reset", "-q", "--hard", to]);
        assert_eq!(poll::look(&daemon.triggers, &source).await.unwrap(), 1);
        assert_eq!(daemon.runs().len(), number + 3);
    }
    assert_eq!(
        (daemon.runs()[3].event.sha.as_str(), &daemon.runs()[3].event.payload["forced"]),
        (&*second, &json!(false))
    );
}
