//! What came from outside: listed, shown, handled again, and made up by clients.

use serde_json::{Value as Json, json};

use super::daemon::git;
use super::whole::Whole;

const WORKFLOW: &str = "name: CI\non:\n  push:\n    branches: [main]\n  repository_dispatch:\n    types: [deploy]\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo '${{ github.event.client_payload.where }}'\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_listed_shown_and_handled_again() {
    let whole = Whole::start("").await;
    let project = whole.project("app");
    whole.push(&project, &[(".github/workflows/ci.yml", WORKFLOW)]).await;
    whole.ended(1).await;
    let towline = |words: &[&str]| {
        let output = tokio::task::block_in_place(|| whole.command().args(words).output().unwrap());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let list: Json = serde_json::from_str(&towline(&["delivery", "list", "--json"])).unwrap();
    let number = list[0]["number"].to_string();
    assert_eq!((list[0]["event"].as_str(), &list[0]["run_ids"]), (Some("push"), &json!([1])));
    let shown = towline(&["delivery", "view", &number]);
    assert!(shown.contains("push/local/app") && shown.contains("refs/heads/main"), "{shown}");
    let said = towline(&["delivery", "replay", &number]);
    assert!(said.contains("handled again as"), "{said}");
    let runs = whole.ended(2).await;
    assert_eq!((runs.len(), runs[0].sha == runs[1].sha), (2, true));
    let again: Json = serde_json::from_str(&towline(&["delivery", "list", "--json"])).unwrap();
    assert_eq!((&again[0]["replay_of"], &again[0]["run_ids"]), (&list[0]["number"], &json!([2])));
    // A client makes up an event: the default branch's workflow hears of it, if the type is listed.
    let address = whole.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let dispatch = async |body: Json| {
        let headers = [("Content-Type", "application/json")];
        let path = "/api/v3/repos/local/app/dispatches";
        super::webhooks::post(address, path, &headers, body.to_string().as_bytes()).await.0
    };
    assert_eq!(dispatch(json!({ "event_type": "other" })).await, 204);
    assert_eq!(dispatch(json!({ "event_type": "deploy", "client_payload": { "where": "home" } })).await, 204);
    assert_eq!(dispatch(json!({ "client_payload": {} })).await, 422);
    assert_eq!(dispatch(json!({ "event_type": "x".repeat(101) })).await, 422);
    let runs = whole.ended(3).await;
    assert_eq!((runs.len(), runs[2].event.as_str(), runs[2].title.as_str()), (3, "repository_dispatch", "deploy"));
    whole.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enormous_push_is_taken_and_holds_nobody_up() {
    let whole = Whole::start("").await;
    let project = whole.project("many");
    whole.push(&project, &[(".github/workflows/ci.yml", WORKFLOW)]).await;
    whole.ended(1).await;
    let refs = project.join(".git/packed-refs");
    let head = git(&project, &["rev-parse", "HEAD"]);
    let mut text = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for number in 0..3000 {
        text.push_str(&format!("{head} refs/heads/topic/{number:04}\n"));
    }
    std::fs::write(refs, text).unwrap();
    let pushing = tokio::task::spawn_blocking(move || git(&project, &["push", "origin", "--all"]));
    let said = pushing.await.unwrap();
    assert!(said.contains("topic/2999"), "{said}");
    assert!(!said.contains("is kept and runs start when the daemon is back"), "{said}");
    // It was made durable before anybody looked at its refs.
    let store = whole.daemon().store();
    let last = store.deliveries(&towline::store::DeliveryFilter::default(), 0, 1).unwrap()[0].number;
    assert_eq!(store.delivery(last).unwrap().unwrap().body["push"]["refs"].as_array().map(Vec::len), Some(3000));
    assert_eq!(whole.ended(1).await.len(), 1);
    whole.end().await;
}
