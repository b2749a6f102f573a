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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_accepted_whole() {
    let (daemon, _project, _) = daemon();
    let address = daemon.serve_webhooks().await;
    let body = serde_json::to_vec(
        &json!({ "action": "started", "repository": { "full_name": "ada/app" }, "pad": "x".repeat(8000) }),
    )
    .unwrap();
    let senders = (0..16).map(|sender| {
        let body = &body;
        async move {
            let mut accepted = 0;
            for number in 0..60 {
                let (status, head, _) = deliver(address, "star", &format!("{sender}-{number}"), body).await;
                assert!(status == 202 || status == 503 && head.contains("retry-after"), "{status}");
                accepted += usize::from(status == 202);
            }
            accepted
        }
    });
    let accepted: usize = futures_util::future::join_all(senders).await.into_iter().sum();
    settled(&daemon).await;
    assert_eq!(daemon.store.deliveries(&DeliveryFilter::default(), 0, 10_000).unwrap().len(), accepted);
    assert!(accepted > 0);
}
