//! Buttons of checks: a run that is cancelled from GitHub, and all checks of a commit run again.

use serde_json::{Value as Json, json};

use super::daemon::commit;
use super::github::Lab;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_cancels_its_run_and_a_suite_repeats_all_runs_of_its_commit() {
    let mut lab = Lab::start("").await;
    let directory = lab.project.path().join(".git");
    let waits = format!(
        "on: push\njobs:\n  slow:\n    runs-on: ubuntu-latest\n    steps:\n      - run: 'until [ -e {}/gate ]; do sleep 0.02; done'\n",
        directory.display()
    );
    let quick = "on: push\njobs:\n  quick:\n    runs-on: ubuntu-latest\n    steps:\n      - run: 'true'\n";
    // The one that is there already is replaced.
    let files = [(".github/workflows/ci.yml", waits.as_str()), (".github/workflows/quick.yml", quick)];
    lab.head = commit(lab.project.path(), &files, "two");
    assert_eq!(lab.deliver("push", "one", &lab.push("ada")).await, 202);
    let named = |checks: &[Json], name: &str, wanted: &str| {
        let of = |check: &&Json| check["name"].as_str().is_some_and(|full| full.contains(name));
        checks.iter().filter(of).filter(|check| check["status"] == wanted || check["conclusion"] == wanted).count()
    };
    lab.hub.until("the slow job", |hub| named(&hub.checks, "slow", "in_progress") == 1).await;
    lab.hub.until("the quick job", |hub| named(&hub.checks, "quick", "success") == 1).await;
    let number = lab.hub.hub.lock().unwrap().checks.iter().position(|check| check["status"] == "in_progress").unwrap();
    assert_eq!(lab.hub.hub.lock().unwrap().checks[number]["actions"][0]["identifier"], "cancel");
    // What another App's check says is none of our business.
    let mut foreign = lab.pressed("requested_action", number, "cancel");
    foreign["check_run"]["app"]["id"] = json!(6);
    assert_eq!(lab.deliver("check_run", "foreign", &foreign).await, 202);
    assert_eq!(lab.deliver("check_run", "cancel", &lab.pressed("requested_action", number, "cancel")).await, 202);
    lab.hub.until("the end of the slow job", |hub| named(&hub.checks, "slow", "cancelled") == 1).await;
    lab.whole.ended(2).await;
    std::fs::write(directory.join("gate"), "").unwrap();
    let suite = json!({
        "action": "rerequested",
        "check_suite": { "head_sha": lab.head, "app": { "id": 5 } },
        "repository": { "full_name": "ada/app", "default_branch": "main" },
        "sender": { "login": "grace" },
    });
    assert_eq!(lab.deliver("check_suite", "all", &suite).await, 202);
    lab.hub
        .until("both again", |hub| {
            named(&hub.checks, "slow", "success") == 1 && named(&hub.checks, "quick", "success") == 2
        })
        .await;
    let runs = lab.whole.ended(2).await;
    let attempts: Vec<(u32, &str)> = runs.iter().map(|run| (run.attempt, run.triggering_actor.as_str())).collect();
    assert_eq!(attempts, [(2, "grace"), (2, "grace")]);
    assert_eq!(lab.hub.faults(), Vec::<String>::new());
    lab.whole.end().await;
}
