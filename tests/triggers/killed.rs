//! kill -9 between a delivery and its answer, and a sender that repeats until it is answered: one run each.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt as _;
use towline::store::DeliveryState;

use super::daemon::{commit, git};
use super::webhooks::{deliver_signed, sign};
use crate::support::{sshd, towline};

/// A daemon in a process of its own; gone with this value.
pub(super) struct Process(Child);

impl Process {
    fn start(directory: &std::path::Path, address: &str) -> Self {
        Self::serve(directory, address, &["--open-on-loopback"])
    }

    /// Serves the configuration of a directory.
    pub(super) fn serve(directory: &std::path::Path, address: &str, arguments: &[&str]) -> Self {
        let mut child = towline()
            .env("TOWLINE_CONFIG", directory.join("towline.toml"))
            .env("TOWLINE_STATE", directory.join("state"))
            .env("TOWLINE_RUNTIME", directory.join("run"))
            .env("HOME", directory)
            .arg("serve")
            .args(arguments)
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

impl Process {
    /// Asks it to stop, and waits until it has; its exit code.
    fn terminate(&mut self) -> Option<i32> {
        let told = std::process::Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: nothing of it gets to tidy up.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where a daemon is that takes pushes to a repository, whose runs wait for ever.
struct Place {
    directory: tempfile::TempDir,
    address: String,
    socket: std::net::SocketAddr,
    /// The commit that is pushed.
    head: String,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("project");
    std::fs::create_dir_all(&project).unwrap();
    git(&project, &["init", "-q"]);
    let workflow = "on: push\njobs:\n  a:\n    runs-on: nowhere\n    steps:\n      - run: 'true'\n";
    let head = commit(&project, &[(".github/workflows/ci.yml", workflow)], "first");
    let address = format!("127.0.0.1:{}", sshd::free_port());
    std::fs::write(directory.path().join("towline.toml"), one_source(&address, &project)).unwrap();
    let socket = address.parse().unwrap();
    Place { directory, address, socket, head }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_one_run_however_often_the_daemon_dies() {
    let Place { directory, address, socket, head } = place();
    let body = push_of(&head).to_string().into_bytes();
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

/// Rounds of a daemon that is asked to stop while it is sent to.
const STOPS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_while_the_daemon_stops_is_one_run() {
    let seed: u64 = std::env::var("TOWLINE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let process = u64::from(std::process::id());
        process * 2_654_435_761
    });
    println!("seed {seed} (TOWLINE_SEED={seed} replays it)");
    let mut random = seed;
    let Place { directory, address, socket, head } = place();
    let body: std::sync::Arc<str> = push_of(&head).to_string().into();
    let mut daemon = Process::start(directory.path(), &address);
    let (mut all, mut answered, mut repeated) = (Vec::new(), 0, 0);
    for round in 0..STOPS {
        // xorshift: while the first is read, or while one of many is.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_millis(random % 80);
        let sending = body.clone();
        let sender = tokio::spawn(async move {
            let mut answered = Vec::new();
            loop {
                let id = format!("stop-{round}-{}", answered.len());
                match try_deliver(socket, &id, &sending).await {
                    Some(202) => answered.push(id),
                    _ => return (answered, id),
                }
            }
        });
        tokio::time::sleep(moment).await;
        let stopped = tokio::task::block_in_place(|| daemon.terminate());
        assert_eq!(stopped, Some(0), "seed {seed}, round {round}");
        let (taken, last) = sender.await.unwrap();
        answered += taken.len();
        all.extend(taken);
        daemon = Process::start(directory.path(), &address);
        // The sender knows of no answer, and repeats.
        repeated += 1;
        assert_eq!(try_deliver(socket, &last, &body).await, Some(202), "seed {seed}, {last}");
        all.push(last);
    }
    let told = async |path: &str| -> Json {
        let answer = super::webhooks::get(socket, path).await;
        serde_json::from_str(answer.split("\r\n\r\n").last().unwrap_or_default()).unwrap_or_default()
    };
    // A run is there a little before its delivery says so.
    let settled = async || {
        let total = told("/api/v3/repos/ada/app/actions/runs?per_page=1").await["total_count"].as_u64();
        let newest = told("/api/v3/towline/deliveries?per_page=100").await;
        let newest = newest["deliveries"].as_array().cloned().unwrap_or_default();
        let open = newest.iter().filter(|one| one["outcome"] == "accepted").count();
        (total.unwrap_or_default() as usize, open + usize::from(newest.is_empty()))
    };
    let begun = std::time::Instant::now();
    loop {
        let (runs, open) = settled().await;
        if runs >= all.len() && open == 0 {
            break;
        }
        assert!(begun.elapsed() < super::whole::PATIENCE, "seed {seed}: {runs} of {} runs, {open} open", all.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{answered} answered before a stop, {repeated} repeated after it");
    drop(daemon);
    let (store, _) = towline::store::Store::open(&directory.path().join("state")).unwrap();
    let kept = store.deliveries(&towline::store::DeliveryFilter::default(), 0, usize::MAX).unwrap();
    let mut runs = std::collections::BTreeSet::new();
    for one in &kept {
        let DeliveryState::Handled { runs: started, .. } = &one.state else { panic!("seed {seed}: {one:?}") };
        assert!(started.len() == 1 && runs.insert(started[0]), "seed {seed}: {one:?}");
    }
    let ids: std::collections::BTreeSet<&str> = kept.iter().map(|one| one.id.as_str()).collect();
    assert_eq!((kept.len(), ids), (all.len(), all.iter().map(String::as_str).collect()), "seed {seed}");
    let recorded = store.runs(&towline::store::RunFilter::default(), 0, usize::MAX).unwrap().runs.len();
    assert_eq!(recorded, all.len(), "seed {seed}");
}

/// Sends a push once; the status of the answer, if there is one.
async fn try_deliver(socket: std::net::SocketAddr, id: &str, body: &str) -> Option<u16> {
    let head = format!(
        "POST /hooks/github/ada/app HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={}\r\n\r\n{body}",
        body.len(),
        sign("hush", body.as_bytes())
    );
    let mut stream = tokio::net::TcpStream::connect(socket).await.ok()?;
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // What broke behind its first line is an answer all the same.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn one_source(address: &str, project: &std::path::Path) -> String {
    format!(
        "[server]\nlisten = ['{address}']\ntls = false\n[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = 'hush'\nevents = ['push']\n",
        project.display()
    )
}

fn push_of(head: &str) -> Json {
    json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": head, "created": true, "deleted": false,
        "repository": { "full_name": "ada/app", "default_branch": "main" }, "sender": { "login": "ada" },
        "head_commit": { "id": head, "message": "first" },
    })
}

const SENDERS: usize = 16;
const BURST: usize = 10_000;
/// Where a server that keeps what waits in memory held 443 MB; ours is built without optimisation here.
const MOST_MEMORY: u64 = 150 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_ten_thousand_is_taken_or_refused_and_none_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("project");
    std::fs::create_dir_all(&project).unwrap();
    git(&project, &["init", "-q"]);
    let address = format!("127.0.0.1:{}", sshd::free_port());
    let config = format!(
        "[server]\nlisten = ['{address}']\ntls = false\n[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = 'hush'\n",
        project.display()
    );
    std::fs::write(directory.path().join("towline.toml"), config).unwrap();
    let daemon = Process::start(directory.path(), &address);
    let body = json!({ "action": "started", "repository": { "full_name": "ada/app" }, "pad": "x".repeat(8000) });
    let body: std::sync::Arc<str> = body.to_string().into();
    let signature = sign("hush", body.as_bytes());
    let socket: std::net::SocketAddr = address.parse().unwrap();
    let senders = (0..SENDERS).map(|sender| {
        let (body, signature) = (std::sync::Arc::clone(&body), signature.clone());
        tokio::spawn(async move {
            let mut stream = tokio::io::BufStream::new(tokio::net::TcpStream::connect(socket).await.unwrap());
            let mut accepted = 0;
            for number in 0..BURST / SENDERS {
                let head = format!(
                    "POST /hooks/github/ada/app HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: star\r\nX-GitHub-Delivery: {sender}-{number}\r\nX-Hub-Signature-256: sha256={signature}\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                let (status, retry) = answer(&mut stream).await;
                assert!(status == 202 || matches!(status, 429 | 503) && retry, "{status}");
                accepted += usize::from(status == 202);
            }
            accepted
        })
    });
    let mut accepted = 0;
    for sender in senders.collect::<Vec<_>>() {
        accepted += sender.await.unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    let most: u64 = most.unwrap();
    println!("{accepted} of {BURST} accepted, at most {} MB", most >> 10);
    assert!(most << 10 < MOST_MEMORY, "{} MB", most >> 10);
    drop(daemon);
    // Killed, and all that it said it had is there, once.
    let (store, _) = towline::store::Store::open(&directory.path().join("state")).unwrap();
    let kept = store.deliveries(&towline::store::DeliveryFilter::default(), 0, usize::MAX).unwrap();
    let ids: std::collections::BTreeSet<&str> = kept.iter().map(|one| one.id.as_str()).collect();
    assert_eq!((kept.len(), ids.len()), (accepted, accepted));
    assert!(accepted > 0);
}

/// Reads one answer: its status, and whether it says when to come back.
async fn answer(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> (u16, bool) {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
    let (mut status, mut retry, mut length) = (0, false, 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "the daemon hung up");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest.split(' ').next().unwrap().parse().unwrap();
        }
        retry |= line.starts_with("retry-after:");
        if let Some(rest) = line.strip_prefix("content-length:") {
            length = rest.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    (status, retry)
}

impl Process {
    fn start_after(before: Self, directory: &std::path::Path, address: &str) -> Self {
        drop(before);
        Self::start(directory, address)
    }
}
