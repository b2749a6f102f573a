//! Webhooks of four forges, signed as the forges sign them, over real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::store::{DeliveryFilter, DeliveryState};
use towline::triggers::webhook::{Forge, verify};

use super::daemon::{Daemon, commit, git};
use crate::support::conformance;

const SECRET: &str = "It's a Secret to Everybody";

fn read(path: &std::path::Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn signatures_are_checked_as_documented() {
    let Some(folder) = conformance("webhooks") else { return };
    let cases = read(&folder.join("signatures.json"));
    let cases = cases["cases"].as_array().unwrap();
    for case in cases {
        let headers: BTreeMap<String, String> = case["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap().to_owned()))
            .collect();
        let forge = Forge::from_word(case["forge"].as_str().unwrap_or("github")).unwrap();
        let secrets = [case["secret"].as_str().unwrap().to_owned().into()];
        let body = case["body"].as_str().unwrap().as_bytes();
        let header = |name: &str| headers.get(name).map(String::as_str);
        assert_eq!(Some(verify(forge, &header, body, &secrets)), case["valid"].as_bool(), "{}", case["id"]);
    }
    println!("webhooks/signatures.json: {} cases", cases.len());
}

#[test]
fn any_of_two_secrets_will_do_and_an_empty_one_never() {
    let body = b"{}";
    let signature = format!("sha256={}", sign(SECRET, body));
    let header = |name: &str| (name == "x-hub-signature-256").then_some(signature.as_str());
    let check = |secrets: &[&str]| {
        let secrets: Vec<_> = secrets.iter().map(|secret| (*secret).to_owned().into()).collect();
        verify(Forge::GitHub, &header, body, &secrets)
    };
    assert!(check(&["new", SECRET]) && check(&[SECRET, "old"]));
    assert!(!check(&["new"]) && !check(&[]));
    let empty = format!("sha256={}", sign("", body));
    let header = |name: &str| (name == "x-hub-signature-256").then_some(empty.as_str());
    assert!(!verify(Forge::GitHub, &header, body, &[String::new().into()]));
    let token = |name: &str| (name == "x-gitlab-token").then_some("");
    assert!(!verify(Forge::GitLab, &token, body, &[String::new().into()]));
}

pub(super) fn sign(secret: &str, body: &[u8]) -> String {
    use aws_lc_rs::hmac;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Posts and gives status, headers and body.
pub(super) async fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String, Json) {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    // A refusal may come before everything is sent.
    drop(socket.write_all(body).await);
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Json::Null))
}

/// Gets a page; gives its text.
pub(super) async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn deliver(address: SocketAddr, event: &str, id: &str, body: &[u8]) -> (u16, String, Json) {
    deliver_signed(address, SECRET, event, id, body).await
}

/// Delivers as GitHub does, to the source `ada/app`.
pub(super) async fn deliver_signed(
    address: SocketAddr,
    secret: &str,
    event: &str,
    id: &str,
    body: &[u8],
) -> (u16, String, Json) {
    let signature = format!("sha256={}", sign(secret, body));
    let headers = [
        ("X-GitHub-Event", event),
        ("X-GitHub-Delivery", id),
        ("X-Hub-Signature-256", &signature),
        ("Content-Type", "application/json"),
    ];
    post(address, "/hooks/github/ada/app", &headers, body).await
}

/// A daemon whose source of every forge is one repository on this disk.
fn daemon() -> (Daemon, tempfile::TempDir, String) {
    let project = tempfile::tempdir().unwrap();
    git(project.path(), &["init", "-q"]);
    let ci = "on: [push, issues]\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";
    let head = commit(project.path(), &[(".github/workflows/ci.yml", ci)], "first");
    let mut config = String::new();
    for (kind, name) in [("github", "ada/app"), ("gitea", "ada/tea"), ("forgejo", "ada/forge"), ("gitlab", "ada/lab")] {
        config.push_str(&format!(
            "[[source]]\nname = '{name}'\nkind = '{kind}'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = \"{SECRET}\"\n",
            project.path().display()
        ));
    }
    (Daemon::new(&config), project, head)
}

fn push_payload(head: &str) -> Vec<u8> {
    let repository =
        json!({ "full_name": "ada/app", "default_branch": "main", "name": "app", "owner": { "login": "ada" } });
    serde_json::to_vec(&json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": head, "created": true, "deleted": false,
        "repository": repository, "sender": { "login": "ada" }, "head_commit": { "id": head, "message": "first" },
    }))
    .unwrap()
}

/// Waits until every delivery is handled.
pub(super) async fn settled(daemon: &Daemon) {
    loop {
        if daemon.store.open_deliveries().unwrap().is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_push_starts_its_run_once_however_often_it_comes() {
    let (daemon, _project, head) = daemon();
    let address = daemon.serve_webhooks().await;
    let body = push_payload(&head);
    let answers = futures_util::future::join_all((0..16).map(|_| deliver(address, "push", "one", &body))).await;
    assert!(answers.iter().all(|(status, ..)| *status == 202), "{answers:?}");
    let numbers: Vec<u64> = answers.iter().filter_map(|(.., body)| body["delivery"].as_u64()).collect();
    assert!(numbers.len() == 16 && numbers.iter().all(|number| *number == numbers[0]));
    settled(&daemon).await;
    let runs = daemon.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].event.sha.as_str(), runs[0].workflow_sha.as_str()), (head.as_str(), head.as_str()));
    let again = deliver(address, "push", "one", &body).await;
    assert_eq!((again.0, &again.2["runs"]), (202, &json!([1])));
    // The commit of an event that names none is the tip of its branch.
    let mut payload: Json = serde_json::from_slice(&body).unwrap();
    payload["action"] = json!("opened");
    payload["issue"] = json!({ "number": 1, "title": "x" });
    assert_eq!(deliver(address, "issues", "two", payload.to_string().as_bytes()).await.0, 202);
    settled(&daemon).await;
    assert_eq!(daemon.runs()[1].event.sha, head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_believed_or_read_is_refused() {
    let (daemon, _project, head) = daemon();
    let address = daemon.serve_webhooks().await;
    let body = push_payload(&head);
    let good = format!("sha256={}", sign(SECRET, &body));
    let status = async |path: &str, headers: &[(&str, &str)], body: &[u8]| post(address, path, headers, body).await.0;
    let path = "/hooks/github/ada/app";
    assert_eq!(status(path, &[("X-GitHub-Event", "push")], &body).await, 401);
    let wrong = format!("sha256={}", sign("other", &body));
    assert_eq!(status(path, &[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &wrong)], &body).await, 401);
    assert_eq!(status(path, &[("X-Hub-Signature-256", &good)], &body).await, 400);
    assert_eq!(status("/hooks/github/ada/none", &[], &body).await, 404);
    assert_eq!(status("/hooks/gitlab/ada/app", &[], &body).await, 404);
    assert_eq!(status("/hooks/svn/ada/app", &[], &body).await, 404);
    let broken = b"{";
    let signed = format!("sha256={}", sign(SECRET, broken));
    assert_eq!(status(path, &[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &signed)], broken).await, 400);
    let huge = vec![b' '; (25 << 20) + 1];
    let signed = format!("sha256={}", sign(SECRET, &huge));
    assert_eq!(status(path, &[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &signed)], &huge).await, 413);
    let ping = deliver(address, "ping", "p", b"{\"zen\":\"Keep it logically awesome.\"}").await;
    assert_eq!((ping.0, &ping.2["message"]), (200, &json!("pong")));
    assert!(daemon.store.deliveries(&DeliveryFilter::default(), 0, 10).unwrap().is_empty());
    assert_eq!(daemon.runs().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_and_the_other_forges_are_understood() {
    let (daemon, _project, head) = daemon();
    let address = daemon.serve_webhooks().await;
    let json = String::from_utf8(push_payload(&head)).unwrap();
    let encoded: String =
        json.bytes().map(|byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02X}") }).collect();
    let form = format!("a=b&payload={encoded}");
    let signature = format!("sha256={}", sign(SECRET, form.as_bytes()));
    let headers = [
        ("X-GitHub-Event", "push"),
        ("X-Hub-Signature-256", signature.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    assert_eq!(post(address, "/hooks/github/ada/app", &headers, form.as_bytes()).await.0, 202);
    let plain = sign(SECRET, json.as_bytes());
    let headers = [("X-Gitea-Event", "push"), ("X-Gitea-Signature", plain.as_str()), ("X-Gitea-Delivery", "g")];
    assert_eq!(post(address, "/hooks/gitea/ada/tea", &headers, json.as_bytes()).await.0, 202);
    let headers = [("X-Forgejo-Event", "push"), ("X-Forgejo-Signature", plain.as_str()), ("X-Forgejo-Delivery", "f")];
    assert_eq!(post(address, "/hooks/forgejo/ada/forge", &headers, json.as_bytes()).await.0, 202);
    let lab = json!({
        "object_kind": "push", "ref": "refs/heads/main", "before": "0".repeat(40), "after": head, "user_username": "ada",
        "project": { "path_with_namespace": "ada/lab", "default_branch": "main", "web_url": "https://gitlab.lan/ada/lab" },
        "commits": [],
    })
    .to_string();
    let headers = [("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", SECRET), ("X-Gitlab-Event-UUID", "l")];
    assert_eq!(post(address, "/hooks/gitlab/ada/lab", &headers, lab.as_bytes()).await.0, 202);
    assert_eq!(post(address, "/hooks/gitlab/ada/lab", &[("X-Gitlab-Token", "x")], lab.as_bytes()).await.0, 401);
    settled(&daemon).await;
    let mut repositories: Vec<String> = daemon.runs().iter().map(|run| run.event.repository.to_string()).collect();
    repositories.sort();
    assert_eq!(repositories, ["ada/app", "ada/forge", "ada/lab", "ada/tea"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn githubs_own_examples_are_accepted_and_listed() {
    let Some(folder) = conformance("webhooks") else { return };
    let (daemon, _project, _) = daemon();
    let address = daemon.serve_webhooks().await;
    let index = read(&folder.join("github-index.json"));
    let payloads = index["payloads"].as_array().unwrap();
    let mut expected = 0;
    for (number, payload) in payloads.iter().enumerate() {
        let file = payload["file"].as_str().unwrap();
        let event = payload["headers"]["X-GitHub-Event"].as_str().unwrap();
        let body = std::fs::read(folder.join(file)).unwrap();
        let (status, ..) = deliver(address, event, &number.to_string(), &body).await;
        assert_eq!(status, if event == "ping" { 200 } else { 202 }, "{file}");
        expected += usize::from(event != "ping");
    }
    settled(&daemon).await;
    let stored = daemon.store.deliveries(&DeliveryFilter::default(), 0, 1000).unwrap();
    assert_eq!(stored.len(), expected);
    for delivery in &stored {
        assert!(!matches!(&delivery.state, DeliveryState::Accepted), "{}", delivery.id);
        if let DeliveryState::Failed { reason } = &delivery.state {
            panic!("{} {}: {reason}", delivery.event, payloads[delivery.id.parse::<usize>().unwrap()]["file"]);
        }
    }
    println!("webhooks/github: {} payloads", payloads.len());
}

/// Events that name the workflow they mean; the examples name none.
const NOT_BY_ITSELF: [&str; 4] = ["schedule", "workflow_call", "workflow_dispatch", "workflow_run"];

/// Every event that starts workflows, with all its types.
fn everything(events: &Json) -> String {
    let mut on = String::new();
    for (name, facts) in events["events"].as_object().unwrap() {
        if NOT_BY_ITSELF.contains(&name.as_str()) {
            continue;
        }
        on.push_str(&format!("  {name}:\n"));
        if let Some(types) = facts["types"].as_array() {
            on.push_str(&format!("    types: {}\n", json!(types)));
        }
    }
    format!("on:\n{on}jobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn githubs_own_examples_start_runs_with_the_context_their_index_names() {
    let Some(folder) = conformance("webhooks") else { return };
    let (index, events) = (read(&folder.join("github-index.json")), read(&folder.join("events.json")));
    let payloads = index["payloads"].as_array().unwrap();
    let text = |payload: &Json| std::fs::read_to_string(folder.join(payload["file"].as_str().unwrap())).unwrap();
    let parsed: Vec<Json> = payloads.iter().map(|payload| serde_json::from_str(&text(payload)).unwrap()).collect();
    let project = tempfile::tempdir().unwrap();
    git(project.path(), &["init", "-q"]);
    let workflow = everything(&events);
    let head = commit(project.path(), &[(".github/workflows/all.yml", &workflow)], "first");
    // Their branches and pull requests are here too, and all at this commit.
    for branch in ["master", "trunk"] {
        git(project.path(), &["update-ref", &format!("refs/heads/{branch}"), &head]);
    }
    for number in parsed.iter().filter_map(|body| body.pointer("/pull_request/number")?.as_u64()) {
        git(project.path(), &["update-ref", &format!("refs/pull/{number}/merge"), &head]);
    }
    let daemon = Daemon::new(&format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = \"{SECRET}\"\n",
        project.path().display()
    ));
    let address = daemon.serve_webhooks().await;
    let mut compared = 0;
    for (payload, body) in payloads.iter().zip(&parsed) {
        let (file, context) = (&payload["file"], &payload["context"]);
        let event = payload["headers"]["X-GitHub-Event"].as_str().unwrap();
        let starts = context["triggers_workflows"] == true && context["activity_type_known"] != false;
        if !starts || NOT_BY_ITSELF.contains(&event) {
            continue;
        }
        // The commit of the example cannot be had; ours stands in its place.
        let theirs = context["sha"].as_str().filter(|sha| sha.len() == 40);
        let text = theirs.map_or_else(|| text(payload), |sha| text(payload).replace(sha, &head));
        let before = daemon.runs().len();
        let (status, _, said) = deliver(address, event, file.as_str().unwrap(), text.as_bytes()).await;
        assert_eq!(status, 202, "{file}");
        settled(&daemon).await;
        let runs = daemon.runs();
        let outcome = || daemon.store.delivery(said["delivery"].as_u64().unwrap()).unwrap().unwrap().state;
        assert_eq!(runs.len(), before + 1, "{file}: {:?}", outcome());
        let run = &runs[before].event;
        let deployed = context["deployment_ref"].as_str();
        let fields = [
            ("event_name", Some(run.name.as_str())),
            ("ref", Some(run.git_ref.as_str())),
            ("ref_name", Some(run.ref_name())),
            ("ref_type", Some(run.ref_type())),
            ("head_ref", run.head_ref.as_deref()),
            ("base_ref", run.base_ref.as_deref()),
        ];
        for (key, ours) in fields {
            if let Some(expected) = context[key].as_str() {
                assert_eq!(ours, Some(expected), "{file} {key}");
            }
        }
        assert_eq!(run.sha, head, "{file}");
        assert_eq!(run.action.as_deref(), body["action"].as_str(), "{file}");
        assert_eq!(Some(run.actor.as_str()), body["sender"]["login"].as_str(), "{file}");
        assert!(deployed.is_none_or(|deployed| run.ref_name() == deployed), "{file}");
        compared += 1;
    }
    println!("webhooks/github: {compared} runs");
    assert!(compared > 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_replaced_without_a_gap_and_only_wanted_events_are_taken() {
    let project = tempfile::tempdir().unwrap();
    git(project.path(), &["init", "-q"]);
    let ci = "on: [push, issues]\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";
    let head = commit(project.path(), &[(".github/workflows/ci.yml", ci)], "first");
    let config = |secrets: &str| {
        format!(
            "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = {secrets}\nevents = ['push']\n",
            project.path().display()
        )
    };
    let daemon = Daemon::new(&config("'old'"));
    let address = daemon.serve_webhooks().await;
    let body = push_payload(&head);
    let status = async |secret: &str, id: &str| deliver_signed(address, secret, "push", id, &body).await.0;
    assert_eq!((status("old", "1").await, status("new", "2").await), (202, 401));
    daemon.configure(&config("['new', 'old']"));
    assert_eq!((status("old", "3").await, status("new", "4").await), (202, 202));
    daemon.configure(&config("'new'"));
    assert_eq!((status("old", "5").await, status("new", "6").await), (401, 202));
    settled(&daemon).await;
    assert_eq!(daemon.runs().len(), 4);
    let mut issue: Json = serde_json::from_slice(&body).unwrap();
    issue["action"] = json!("opened");
    let (status, _, said) = deliver_signed(address, "new", "issues", "7", issue.to_string().as_bytes()).await;
    assert_eq!(status, 202);
    settled(&daemon).await;
    let state = daemon.store.delivery(said["delivery"].as_u64().unwrap()).unwrap().unwrap().state;
    let note = "this source takes only push".to_owned();
    assert_eq!((state, daemon.runs().len()), (DeliveryState::Handled { runs: Vec::new(), note }, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_those_who_proved_nothing_do_not_fill_the_memory() {
    let (daemon, _project, head) = daemon();
    let address = daemon.serve_webhooks().await;
    // Large bodies that do not end, of senders who need not know the secret.
    let mut stuck = Vec::new();
    let piece = vec![b' '; 24 << 20];
    for _ in 0..3 {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /hooks/github/ada/app HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: x\r\nContent-Length: {}\r\n\r\n",
            25 << 20
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        drop(socket.write_all(&piece).await);
        stuck.push(socket);
    }
    let mut answer = vec![0; 1024];
    let length = stuck[2].read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after: 30"), "{answer}");
    drop(stuck);
    let body = push_payload(&head);
    // The room of those who hung up is free before long.
    while deliver(address, "push", "one", &body).await.0 != 202 {}
    settled(&daemon).await;
    assert_eq!(daemon.runs().len(), 1);
}
