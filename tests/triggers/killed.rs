//! kill -9 between a delivery and its answer, and a sender that repeats until it is answered: one run each.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt as _;

use super::daemon::{commit, git};
use super::webhooks::{deliver_signed, sign};
use crate::support::{sshd, towline};

/// A daemon in a process of its own; gone with this value.
struct Process(Child);

impl Process {
    fn start(directory: &std::path::Path, address: &str) -> Self {
        let mut child = towline()
            .env("TOWLINE_CONFIG", directory.join("towline.toml"))
            .env("TOWLINE_STATE", directory.join("state"))
            .env("TOWLINE_RUNTIME", directory.join("run"))
            .env("HOME", directory)
            .args(["serve", "--open-on-loopback"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(&format!("listening on http://{address}")) {
            let before = said.len();
            lines.read_line(&mut said).unwrap();
            assert!(said.len() > before, "the daemon ended: {said}");
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: nothing of it gets to tidy up.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_one_run_however_often_the_daemon_dies() {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("project");
    std::fs::create_dir_all(&project).unwrap();
    git(&project, &["init", "-q"]);
    let workflow = "on: push\njobs:\n  a:\n    runs-on: nowhere\n    steps:\n      - run: 'true'\n";
    let head = commit(&project, &[(".github/workflows/ci.yml", workflow)], "first");
    let address = format!("127.0.0.1:{}", sshd::free_port());
    let config = format!(
        "[server]\nlisten = ['{address}']\ntls = false\n[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = 'hush'\nevents = ['push']\n",
        project.display()
    );
    std::fs::write(directory.path().join("towline.toml"), config).unwrap();
    let socket: std::net::SocketAddr = address.parse().unwrap();
    let body = serde_json::to_vec(&json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": head, "created": true, "deleted": false,
        "repository": { "full_name": "ada/app", "default_branch": "main" }, "sender": { "login": "ada" },
        "head_commit": { "id": head, "message": "first" },
    }))
    .unwrap();
    let mut daemon = Process::start(directory.path(), &address);
    // From before the delivery is read to after it was answered.
    let moments = [0, 1, 2, 4, 8, 30];
    for (round, moment) in moments.iter().enumerate() {
        let id = format!("round-{round}");
        let mut sender = tokio::net::TcpStream::connect(socket).await.unwrap();
        let head = format!(
            "POST /hooks/github/ada/app HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={}\r\n\r\n",
            body.len(),
            sign("hush", &body)
        );
        sender.write_all(head.as_bytes()).await.unwrap();
        sender.write_all(&body).await.unwrap();
        tokio::time::sleep(Duration::from_millis(*moment)).await;
        drop(daemon);
        daemon = Process::start(directory.path(), &address);
        // The sender knows of no answer.
        let (status, _, said) = deliver_signed(socket, "hush", "push", &id, &body).await;
        assert_eq!(status, 202, "{said}");
    }
    let (status, ..) = deliver_signed(socket, "hush", "issues", "other", &body).await;
    assert_eq!(status, 202);
    let list = || {
        let output = towline()
            .args(["run", "list", "--json"])
            .env("TOWLINE_RUNTIME", directory.path().join("run"))
            .output()
            .unwrap();
        serde_json::from_slice::<Json>(&output.stdout).unwrap_or_default().as_array().map_or(0, Vec::len)
    };
    let begun = std::time::Instant::now();
    while tokio::task::block_in_place(list) < moments.len() {
        assert!(begun.elapsed() < super::whole::PATIENCE, "{} runs", tokio::task::block_in_place(list));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nothing is under way any more that could start another.
    daemon = Process::start_after(daemon, directory.path(), &address);
    assert_eq!(tokio::task::block_in_place(list), moments.len());
    drop(daemon);
}

impl Process {
    fn start_after(before: Self, directory: &std::path::Path, address: &str) -> Self {
        drop(before);
        Self::start(directory, address)
    }
}
