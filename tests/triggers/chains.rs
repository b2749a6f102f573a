//! `workflow_run`: runs that start runs, as far as they may.

use std::fmt::Write as _;

use super::whole::Whole;

const STEP: &str = "jobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo \"after ${{ github.event.workflow_run.name }} ${{ github.event.workflow_run.conclusion }}\"\n";

fn follower(name: &str, of: &str, types: &str) -> String {
    format!("name: {name}\non:\n  workflow_run:\n    workflows: [{of}]\n    types: [{types}]\n{STEP}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t13_runs_follow_each_other_three_deep_and_once() {
    let mut whole = Whole::start("").await;
    let project = whole.project("chain");
    let first = format!("name: A\non: push\n{STEP}");
    let files = [
        (".github/workflows/a.yml", first.clone()),
        (".github/workflows/b.yml", follower("B", "A", "completed")),
        (".github/workflows/c.yml", follower("C", "B", "completed")),
        (".github/workflows/d.yml", follower("D", "C", "completed")),
        (".github/workflows/e.yml", follower("E", "D", "completed")),
        (".github/workflows/asked.yml", follower("Asked", "A", "requested, in_progress")),
        (".github/workflows/other.yml", follower("Other", "Nobody", "completed")),
        (
            ".github/workflows/side.yml",
            follower("Side", "A", "completed").replace("types:", "branches: [side]\n    types:"),
        ),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    whole.push(&project, &files).await;
    let runs = whole.ended(6).await;
    let mut told = String::new();
    let mut names: Vec<(&str, &str)> =
        runs.iter().map(|run| (run.workflow_name.as_str(), run.event.as_str())).collect();
    names.sort_unstable();
    for (name, event) in &names {
        write!(told, "{name} {event}, ").unwrap();
    }
    assert_eq!(
        told,
        "A push, Asked workflow_run, Asked workflow_run, B workflow_run, C workflow_run, D workflow_run, "
    );
    let last = runs.iter().find(|run| run.workflow_name == "B").unwrap();
    let spec = whole.daemon().store().spec(last.id, 1).unwrap().unwrap();
    assert_eq!(spec.event.payload["workflow_run"]["conclusion"], "success");
    assert_eq!((spec.event.git_ref.as_str(), spec.event.sha.as_str()), ("refs/heads/main", runs[0].sha.as_str()));
    // Another life of the daemon looks back, and starts nothing again.
    whole.again().await;
    whole.push(&project, &[("x", "1")]).await;
    let again = whole.ended(12).await;
    assert_eq!(again.len(), 12);
    whole.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabled_workflows_are_started_by_nothing() {
    let whole = Whole::start("").await;
    let project = whole.project("quiet");
    whole
        .push(&project, &[(".github/workflows/a.yml", &format!("name: A\non: [push, workflow_dispatch]\n{STEP}"))])
        .await;
    whole.ended(1).await;
    let act = |words: &[&str]| {
        let output = whole.command().args(words).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, said) = tokio::task::block_in_place(|| act(&["workflow", "disable", "a.yml"]));
    assert!(done, "{said}");
    let said = whole.push(&project, &[("x", "1")]).await;
    assert!(said.contains("the workflow is disabled"), "{said}");
    let (done, said) = tokio::task::block_in_place(|| act(&["workflow", "run", "a.yml"]));
    assert!(!done, "{said}");
    assert!(tokio::task::block_in_place(|| act(&["workflow", "enable", "a.yml"])).0);
    whole.push(&project, &[("x", "2")]).await;
    assert_eq!(whole.ended(2).await.len(), 2);
    whole.end().await;
}
