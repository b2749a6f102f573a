//! What GitHub does not take is shown, by the command line and on a page, and sent again when somebody wants it.

use serde_json::{Value as Json, json};

use super::daemon::{commit, git};
use super::github::GitHub;
use super::whole::Whole;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_forge_refuses_is_shown_and_sent_again() {
    let hub = GitHub::start().await;
    let project = tempfile::tempdir().unwrap();
    git(project.path(), &["init", "-q"]);
    let ci = "name: CI\non: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: 'true'\n";
    let head = commit(project.path(), &[(".github/workflows/ci.yml", ci)], "first");
    let whole = Whole::start(&format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{}/ada/app.git'\npath = '{}'\ntoken = 'ghp_ended'\nwebhook_secret = 'hush'\n",
        hub.url,
        project.path().display()
    ))
    .await;
    let push = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": head, "created": true, "deleted": false,
        "repository": { "full_name": "ada/app", "default_branch": "main" }, "sender": { "login": "ada" },
        "head_commit": { "id": head, "message": "first" },
    });
    let address = whole.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let (status, ..) =
        super::webhooks::deliver_signed(address, "hush", "push", "one", push.to_string().as_bytes()).await;
    assert_eq!(status, 202);
    whole.ended(1).await;
    let towline = |words: &[&str]| {
        let output = tokio::task::block_in_place(|| whole.command().args(words).output().unwrap());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let begun = std::time::Instant::now();
    // The last that GitHub is to be told: nothing comes after it.
    let is_last =
        |value: &[u8]| serde_json::from_slice::<Json>(value).unwrap()["report"]["state"]["ended"] == "success";
    while !whole.daemon().store().scan("outbox-dead", "").unwrap().iter().any(|(_, value)| is_last(value)) {
        assert!(begun.elapsed() < super::whole::PATIENCE, "{:?}", hub.faults());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let letters: Json = serde_json::from_str(&towline(&["outbox", "list", "--json"])).unwrap();
    let dead = &letters[0];
    assert!(letters.as_array().unwrap().len() == 1 && dead["dead"] == true, "{letters}");
    assert_eq!((&dead["kind"], &dead["subject"]), (&json!("report"), &json!("ada/app: CI / test (push)")));
    assert!(towline(&["outbox", "list"]).contains("Bad credentials"), "{dead}");
    let page = super::webhooks::get(address, "/deliveries").await;
    assert!(page.contains("Could not be told") && page.contains("CI / test (push)"), "{page}");
    // The token is good again.
    hub.hub.lock().unwrap().tokens.insert("ghp_ended".to_owned(), json!({}));
    towline(&["outbox", "retry", dead["id"].as_str().unwrap()]);
    hub.until("the status", |hub| hub.statuses.last().is_some_and(|last| last["state"] == "success")).await;
    while !towline(&["outbox", "list"]).contains("Everybody was told everything") {
        assert!(begun.elapsed() < super::whole::PATIENCE, "it stays");
    }
    assert!(!super::webhooks::get(address, "/deliveries").await.contains("Could not be told"));
    assert_eq!(hub.faults(), Vec::<String>::new());
    whole.end().await;
}
