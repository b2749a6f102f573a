//! `git push` to an added repository, with real git, the real hook and the built binary.

use super::daemon::{Daemon, commit, git};
use serde_json::json;
use towline::event::ChangedFiles;

const CI: &str = "name: CI\non: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";
const DOCS: &str =
    "on:\n  push:\n    paths: ['docs/**']\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";

fn project() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    git(directory.path(), &["init", "-q"]);
    directory
}

/// Runs blocking git beside the server.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn push(project: &tempfile::TempDir, arguments: &[&str]) -> String {
    let path = project.path().to_owned();
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    aside(move || {
        let mut words = vec!["push"];
        words.extend(arguments.iter().map(String::as_str));
        git(&path, &words)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_push_starts_what_it_should() {
    let daemon = Daemon::new("");
    let bare = daemon.add("app");
    let _serving = daemon.serve_hook();
    let project = project();
    let path = project.path();
    let first =
        commit(path, &[(".github/workflows/ci.yml", CI), (".github/workflows/docs.yml", DOCS)], "first\n\nmore");
    git(path, &["remote", "add", "towline", bare.to_str().unwrap()]);

    let said = push(&project, &["towline", "main"]).await;
    assert!(said.contains("remote: CI #1  https://127.0.0.1:7443/local/app/actions/runs/1"), "{said}");
    let runs = daemon.runs();
    assert_eq!(runs.len(), 1, "the other one wants changes of docs");
    let event = &runs[0].event;
    assert_eq!((event.name.as_str(), event.git_ref.as_str(), event.sha.as_str()), ("push", "refs/heads/main", &*first));
    assert_eq!((event.repository.as_str(), runs[0].workflow_path.as_str()), ("local/app", ".github/workflows/ci.yml"));
    assert_eq!(event.payload["created"], json!(true));
    assert_eq!(event.payload["head_commit"]["message"], json!("first\n\nmore"));
    assert_eq!(event.payload["commits"][0]["added"], json!([".github/workflows/ci.yml", ".github/workflows/docs.yml"]));

    let second = commit(path, &[("docs/a", "1")], "second");
    push(&project, &["towline", "main"]).await;
    let runs = daemon.runs();
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[2].event.changed_files, ChangedFiles::Known(vec!["docs/a".into()]));
    assert_eq!(runs[2].event.payload["forced"], json!(false));

    // Several refs at once: a branch and two tags at commits that were there already.
    git(path, &["branch", "feature"]);
    git(path, &["tag", "v1"]);
    git(path, &["tag", "-a", "v2", "-m", "two"]);
    push(&project, &["towline", "feature", "v1", "v2"]).await;
    let runs = daemon.runs();
    // Path filters are not asked for tags (T1): the second workflow runs for them, not for the branch.
    let mut refs: Vec<&str> = runs[3..].iter().map(|run| run.event.git_ref.as_str()).collect();
    refs.sort_unstable();
    let tags = ["refs/tags/v1", "refs/tags/v1", "refs/tags/v2", "refs/tags/v2"];
    assert_eq!(refs, [&["refs/heads/feature"][..], &tags[..]].concat());
    assert!(runs[3..].iter().all(|run| run.event.sha == second), "tags are peeled");
    assert_eq!(runs[3].event.payload["commits"], json!([]));
    assert_eq!(runs[3].event.payload["head_commit"]["id"], json!(second));

    let before = daemon.runs().len();
    git(path, &["commit", "-q", "--amend", "-m", "second, again"]);
    push(&project, &["--force", "towline", "main"]).await;
    assert_eq!(daemon.runs()[before].event.payload["forced"], json!(true));

    let before = daemon.runs().len();
    push(&project, &["towline", ":feature"]).await;
    assert!(daemon.runs()[before..].iter().all(|run| run.event.payload["deleted"] == json!(true)));

    // Nothing to push, a ref of nobody's concern: silence, and no run.
    let before = daemon.runs().len();
    push(&project, &["towline", "main"]).await;
    push(&project, &["towline", "main:refs/notes/x"]).await;
    assert_eq!(daemon.runs().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_workflow_is_told_and_its_run_fails_at_the_start() {
    let daemon = Daemon::new("");
    let bare = daemon.add("app");
    let _serving = daemon.serve_hook();
    let project = project();
    commit(project.path(), &[(".github/workflows/bad.yml", "on: push\njobs: 7\n")], "first");
    let said = push(&project, &[bare.to_str().unwrap(), "main"]).await;
    assert!(said.contains("remote: .github/workflows/bad.yml:2: "), "{said}");
    assert_eq!(daemon.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_push_is_lost_while_the_daemon_is_down() {
    let daemon = Daemon::new("");
    let bare = daemon.add("app");
    let project = project();
    commit(project.path(), &[(".github/workflows/ci.yml", CI)], "first");
    let said = push(&project, &[bare.to_str().unwrap(), "main"]).await;
    assert!(said.contains("the push is kept"), "{said}");
    commit(project.path(), &[], "second");
    push(&project, &[bare.to_str().unwrap(), "main"]).await;
    assert_eq!(daemon.runs().len(), 0);
    assert_eq!(daemon.triggers.take_up_spooled().await, 2);
    let titles: Vec<_> = daemon.runs().iter().filter_map(|run| run.event.title()).collect();
    assert_eq!(titles, ["first", "second"]);
    assert_eq!(daemon.triggers.take_up_spooled().await, 0);
    // The same once more from the log of deliveries, on purpose.
    let deliveries = daemon.store.deliveries(&towline::store::DeliveryFilter::default(), 0, 10).unwrap();
    assert_eq!(deliveries.len(), 2);
    let (number, outcome) = daemon.triggers.replay(deliveries[0].number).await.unwrap();
    assert_eq!((daemon.runs().len(), outcome.runs.len()), (3, 1));
    assert_eq!(daemon.store.delivery(number).unwrap().unwrap().replay_of, Some(deliveries[0].number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_branch_becomes_the_default_one() {
    let daemon = Daemon::new("");
    let bare = daemon.add("app");
    let _serving = daemon.serve_hook();
    let project = project();
    git(project.path(), &["checkout", "-q", "-b", "trunk"]);
    commit(project.path(), &[(".towline/workflows/ci.yml", CI)], "first");
    push(&project, &[bare.to_str().unwrap(), "trunk"]).await;
    assert_eq!(daemon.runs()[0].event.default_branch, "trunk");
    assert_eq!(git(&bare, &["symbolic-ref", "HEAD"]), "refs/heads/trunk");
}

#[tokio::test]
async fn repositories_are_added_listed_and_removed() {
    let daemon = Daemon::new("");
    let towline = |arguments: &[&str]| {
        let output = crate::support::towline()
            .args(arguments)
            .env("TOWLINE_STATE", &daemon.paths.state)
            .env("TOWLINE_RUNTIME", &daemon.paths.runtime)
            .env("TOWLINE_CONFIG", &daemon.paths.config)
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), out, String::from_utf8(output.stderr).unwrap())
    };
    let elsewhere = daemon.directory.path().join("adopted.git");
    assert_eq!(towline(&["repo", "add", "ada/app", elsewhere.to_str().unwrap()]).0, Some(0));
    // Twice is once.
    assert_eq!(towline(&["repo", "add", "ada/app", elsewhere.to_str().unwrap()]).0, Some(0));
    assert_eq!(towline(&["repo", "add", "own"]).0, Some(0));
    assert_eq!(towline(&["repo", "add", "../up"]).0, Some(2));
    let taken = towline(&["repo", "add", "ada/app", daemon.directory.path().join("other.git").to_str().unwrap()]);
    assert!(taken.0 == Some(3) && taken.2.contains("remove it first"), "{taken:?}");
    let list: serde_json::Value = serde_json::from_str(&towline(&["repo", "list", "--json"]).1).unwrap();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ada/app", "local/own"]);
    assert!(list.as_array().unwrap().iter().all(|row| row["hook"] == json!(true)));
    assert_eq!(towline(&["repo", "remove", "ada/app"]).0, Some(0));
    assert!(elsewhere.join("HEAD").exists() && !elsewhere.join("hooks/post-receive").exists());
    let refused = towline(&["repo", "remove", "own"]);
    assert!(refused.0 == Some(2) && refused.2.contains("--delete"), "{refused:?}");
    assert_eq!(towline(&["repo", "remove", "own", "--delete"]).0, Some(0));
    assert!(towline(&["repo", "list"]).1.contains("no repositories yet"));
}
