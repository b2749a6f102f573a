//! What it costs to take a webhook durably, next to Debian's `webhook` in the same run; from an accepted push to the first
//! output of its first step over SSH; and what the hook adds to a push.
//!
//! A plain program. Both servers are processes of their own, with the same sixteen senders over real sockets; memory is the
//! most that the process ever held. Without `webhook` (apt-get install webhook) its half is left out, and said.
//! `cargo bench --bench triggers -- [burst] [first-output] [hook]`; all of them when none is named.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures for whoever runs it")]

#[expect(dead_code, reason = "the fixture of the tests has more than a benchmark needs")]
#[path = "../tests/support/sshd.rs"]
mod sshd;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use towline::clock::Clock;
use towline::config::{self, Paths};
use towline::daemon::{self, Daemon, Options};
use towline::run::RunStatus;
use towline::store::{DeliveryFilter, DeliveryState, RunFilter, Store};

const SENDERS: usize = 16;
const SECRET: &str = "It's a Secret to Everybody";
/// The size of GitHub's usual push.
const BODY: usize = 8 << 10;
const HOOK: &str = "/hooks/github/ada/app";
/// For a server to come up or to end.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let count = if quick { 64 } else { 10_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        if runs("burst") {
            // An event that no workflow can listen to shows the acceptance alone; a push is looked at with git meanwhile.
            // That takes longer: fewer of them do.
            for (event, count) in [("star", count), ("push", count / 10)] {
                ours(&directory.path().join(event), event, count).await;
            }
            debian(directory.path(), count).await;
        }
        if runs("first-output") {
            first_output(&directory.path().join("first-output"), quick).await;
        }
        if runs("hook") {
            hook(&directory.path().join("hook"), quick).await;
        }
    });
}

/// What sixteen senders saw.
struct Seen {
    rate: f64,
    half: Duration,
    p99: Duration,
    accepted: u64,
    refused: u64,
}

impl Seen {
    fn print(&self, who: &str, memory: Option<u64>) {
        println!(
            "{who}: {:.0} a second with {SENDERS} senders, p50 {:.1} ms, p99 {:.1} ms, {} accepted, {} refused, at most {} MB",
            self.rate,
            self.half.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.accepted,
            self.refused,
            memory.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string()),
        );
    }
}

async fn send(address: SocketAddr, path: &str, event: &'static str, head: &str, count: usize) -> Seen {
    let next = Arc::new(AtomicU64::new(0));
    let repository =
        json!({ "full_name": "ada/app", "default_branch": "main", "name": "app", "owner": { "login": "ada" } });
    let mut body = json!({
        "ref": "refs/heads/main", "before": head, "after": head, "created": false, "deleted": false, "action": "started",
        "repository": repository, "sender": { "login": "ada" }, "head_commit": { "id": head, "message": "first" },
    });
    let pad = BODY.saturating_sub(body.to_string().len() + 10);
    body["pad"] = json!("x".repeat(pad));
    let body: Arc<[u8]> = body.to_string().into_bytes().into();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &body);
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let start = Instant::now();
    let senders = (0..SENDERS).map(|_| {
        let (next, body, tag, path) = (Arc::clone(&next), Arc::clone(&body), tag.clone(), path.to_owned());
        tokio::spawn(async move {
            let mut times = Vec::new();
            let (mut accepted, mut refused) = (0, 0);
            let mut socket = TcpStream::connect(address).await.expect("the server is there");
            let mut answer = vec![0; 16 << 10];
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count as u64 {
                    return (times, accepted, refused);
                }
                let mut request = format!(
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: {event}\r\nX-GitHub-Delivery: {event}-{number}\r\nX-Hub-Signature-256: sha256={tag}\r\n\r\n",
                    body.len()
                )
                .into_bytes();
                request.extend_from_slice(&body);
                let begun = Instant::now();
                // In one piece: in two, the second would wait for the first to be acknowledged.
                socket.write_all(&request).await.expect("the server reads");
                let mut read = 0;
                let status = loop {
                    let more = socket.read(&mut answer[read..]).await.expect("the server answers");
                    assert!(more > 0, "the server hung up");
                    read += more;
                    if let Some(status) = whole(&answer[..read]) {
                        break status;
                    }
                };
                times.push(begun.elapsed());
                if status < 300 { accepted += 1 } else { refused += 1 }
            }
        })
    });
    let mut times = Vec::new();
    let (mut accepted, mut refused) = (0, 0);
    for sender in senders.collect::<Vec<_>>() {
        let (some, good, bad) = sender.await.expect("a sender ends");
        times.extend(some);
        accepted += good;
        refused += bad;
    }
    let took = start.elapsed();
    times.sort_unstable();
    Seen {
        rate: times.len() as f64 / took.as_secs_f64(),
        half: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        accepted,
        refused,
    }
}

/// The status of an answer that is there as a whole.
fn whole(bytes: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (body.len() >= length.unwrap_or(0)).then(|| head.split(' ').nth(1)?.parse().ok()).flatten()
}

/// The most memory that a process held until now.
fn memory(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@lan", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn workflow(on: &str, label: &str) -> String {
    format!("on: {on}\njobs:\n  a:\n    runs-on: {label}\n    steps:\n      - run: echo hello\n")
}

/// A project with a workflow, and a bare repository that it pushes to; gives the project.
fn project(directory: &Path, workflow: &str) -> std::path::PathBuf {
    let project = directory.join("project");
    std::fs::create_dir_all(project.join(".github/workflows")).expect("a directory");
    git(&project, &["init", "-q"]);
    git(directory, &["init", "-q", "--bare", "app.git"]);
    git(&project, &["remote", "add", "origin", "../app.git"]);
    std::fs::write(project.join(".github/workflows/ci.yml"), workflow).expect("a file");
    next_commit(&project, 0);
    git(&project, &["push", "-q", "origin", "main"]);
    project
}

/// Another commit; gives it.
fn next_commit(project: &Path, number: usize) -> String {
    std::fs::write(project.join("n"), number.to_string()).expect("a file");
    git(project, &["add", "-A"]);
    git(project, &["commit", "-q", "-m", "next"]);
    git(project, &["rev-parse", "HEAD"])
}

/// The configuration of a daemon whose source is the repository of [`project`].
fn configuration(directory: &Path, port: u16, more: &str) -> String {
    format!(
        "[server]\nlisten = ['127.0.0.1:{port}']\ntls = false\n{more}\n\
         [[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = \"{SECRET}\"\n",
        directory.join("app.git").display()
    )
}

/// A burst to the released program in a process of its own.
async fn ours(directory: &Path, event: &'static str, count: usize) {
    std::fs::create_dir_all(directory).expect("a directory");
    let project = project(directory, &workflow("{push: {branches: [other]}}", "ubuntu-latest"));
    let head = git(&project, &["rev-parse", "HEAD"]);
    let address = free_address();
    std::fs::write(directory.join("towline.toml"), configuration(directory, address.port(), "")).expect("a file");
    let state = directory.join("state");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_towline"));
    daemon.arg("serve").env("TOWLINE_CONFIG", directory.join("towline.toml"));
    daemon.env("TOWLINE_STATE", &state).env("TOWLINE_RUNTIME", directory.join("run"));
    daemon.stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = Server(daemon.spawn().expect("the daemon starts"));
    assert!(answers(address).await, "the daemon does not listen");
    let seen = send(address, HOOK, event, &head, count).await;
    let most = memory(daemon.0.id());
    seen.print(&format!("towline, durable accept of `{event}` ({BODY} bytes, HMAC, de-duplicated)"), most);
    // An orderly end, and what is on the disk counts.
    assert!(sshd::kill("-TERM", daemon.0.id()), "the daemon is gone");
    let begun = Instant::now();
    while daemon.0.try_wait().expect("a child").is_none() {
        assert!(begun.elapsed() < PATIENCE, "the daemon does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (store, _) = Store::open(&state).expect("the state opens");
    let kept = store.deliveries(&DeliveryFilter::default(), 0, usize::MAX).expect("the store reads");
    assert_eq!(kept.len() as u64, seen.accepted, "every accepted delivery is kept");
    let open = kept.iter().filter(|one| one.state == DeliveryState::Accepted).count();
    let failed = kept.iter().filter(|one| matches!(one.state, DeliveryState::Failed { .. })).count();
    assert_eq!(failed, 0, "none failed");
    println!("    all {} on the disk; {} handled already, {open} left for later", kept.len(), kept.len() - open);
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], sshd::free_port()))
}

/// Whether somebody listens there before long.
async fn answers(address: SocketAddr) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if TcpStream::connect(address).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// A daemon inside this process.
async fn inside(directory: &Path, text: String) -> Daemon {
    let (config, diagnostics) = config::parse(&[config::File { path: directory.join("towline.toml"), text }]);
    let paths = Paths {
        config: directory.join("towline.toml"),
        state: directory.join("state"),
        runtime: directory.join("run"),
    };
    let options = Options {
        config: config.unwrap_or_else(|| panic!("{diagnostics:?}")),
        paths,
        clock: Clock::System,
        open_on_loopback: true,
        passed: towline::server::Passed::default(),
    };
    daemon::start(options).await.expect("the daemon starts")
}

/// From an accepted push to the first step's first output, on a connected host: over SSH on loopback where there is an sshd,
/// else on this machine itself.
async fn first_output(directory: &Path, quick: bool) {
    std::fs::create_dir_all(directory).expect("a directory");
    let project = project(directory, &workflow("push", "ubuntu-latest"));
    let server = sshd::Sshd::start();
    let (way, host) = match &server {
        Some(server) => (
            "over SSH",
            format!(
                "[[host]]\nname = 'here'\naddress = '127.0.0.1'\nport = {}\nuser = '{}'\nidentity = '{}'\nknown_hosts = '{}'",
                server.port(),
                sshd::user(),
                server.path("id").display(),
                server.path("known_hosts").display()
            ),
        ),
        None => (
            "without SSH",
            format!("[[host]]\nname = 'here'\nkind = 'local'\nroot = '{}'", directory.join("host").display()),
        ),
    };
    let daemon = inside(directory, configuration(directory, 0, &host)).await;
    let url = daemon.url().expect("an address");
    let address: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let newest = || daemon.store().runs(&RunFilter::default(), 0, 1).expect("the store reads");
    let mut times = Vec::new();
    let mut before = git(&project, &["rev-parse", "HEAD"]);
    // The first connects to the host.
    for number in 1..=if quick { 2 } else { 31 } {
        let head = next_commit(&project, number);
        git(&project, &["push", "-q", "origin", "main"]);
        let count = newest().total;
        let mut updates = daemon.engine().updates();
        let begun = Instant::now();
        one_push(address, &before, &head).await;
        let accepted = Instant::now();
        before = head;
        loop {
            let runs = newest();
            let run = runs.runs.first().filter(|_| runs.total > count);
            let jobs = run.map(|run| (run.id, daemon.store().jobs(run.id, 1).expect("the store reads")));
            let hello = jobs.is_some_and(|(run, jobs)| {
                jobs.first().is_some_and(|job| {
                    let log = towline::store::logs::LogId { run, attempt: 1, job: job.state.id };
                    let text = daemon.store().logs().read(log, 0, 1 << 20).unwrap_or_default();
                    String::from_utf8_lossy(&text).lines().any(|line| line.ends_with("Z hello"))
                })
            });
            if hello {
                if number > 1 {
                    times.push((accepted.elapsed(), begun.elapsed()));
                }
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "no output comes");
            drop(tokio::time::timeout(Duration::from_millis(1), updates.recv()).await);
        }
        while newest().runs.iter().any(|run| run.status != RunStatus::Completed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    times.sort_unstable();
    let (from_answer, from_sending) = times[times.len() / 2];
    println!(
        "from an accepted push to the first output of its step, {way}: median {:.1} ms ({:.1} ms from when it was sent)",
        from_answer.as_secs_f64() * 1e3,
        from_sending.as_secs_f64() * 1e3
    );
    daemon.stop().await;
}

/// What the hook adds to a push that starts a run: pushes to a repository with it and to one without, by turns.
async fn hook(directory: &Path, quick: bool) {
    std::fs::create_dir_all(directory).expect("a directory");
    // The run waits: what is measured is the push.
    let project = project(directory, &workflow("push", "nowhere"));
    let daemon = inside(directory, configuration(directory, 0, "")).await;
    let (place, rounds) = (directory.to_owned(), if quick { 2 } else { 41 });
    let times = tokio::task::spawn_blocking(move || {
        let added = Command::new(env!("CARGO_BIN_EXE_towline"))
            .args(["repo", "add", "bench"])
            .env("TOWLINE_STATE", place.join("state"))
            .env("TOWLINE_RUNTIME", place.join("run"))
            .env("TOWLINE_CONFIG", place.join("towline.toml"))
            .output()
            .expect("the program runs");
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        git(&place, &["init", "-q", "--bare", "plain.git"]);
        let targets = [place.join("state/repositories/local/bench.git"), place.join("plain.git")];
        let mut times = [Vec::new(), Vec::new()];
        for number in 1..=rounds {
            next_commit(&project, number);
            // Who comes first packs with a cold cache: by turns.
            for at in if number % 2 == 0 { [0, 1] } else { [1, 0] } {
                let begun = Instant::now();
                git(&project, &["push", "-q", &targets[at].display().to_string(), "main"]);
                times[at].push(begun.elapsed());
            }
        }
        times
    });
    let [with, without] = times.await.expect("the pushes end").map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    assert_eq!(daemon.store().runs(&RunFilter::default(), 0, 1).expect("the store reads").total, rounds);
    println!("git push: median {with:.1} ms with the hook, {without:.1} ms without: {:.1} ms added", with - without);
    daemon.stop().await;
}

/// A push webhook from one commit to the next.
async fn one_push(address: SocketAddr, before: &str, head: &str) {
    let body = json!({
        "ref": "refs/heads/main", "before": before, "after": head, "created": false, "deleted": false,
        "repository": { "full_name": "ada/app", "default_branch": "main" }, "sender": { "login": "ada" },
        "head_commit": { "id": head, "message": "next" },
    })
    .to_string();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body.as_bytes());
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut socket = TcpStream::connect(address).await.expect("the server is there");
    let request = format!(
        "POST {HOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: first-{head}\r\nX-Hub-Signature-256: sha256={tag}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.expect("the server reads");
    let mut answer = vec![0; 16 << 10];
    let read = socket.read(&mut answer).await.expect("the server answers");
    assert_eq!(whole(&answer[..read]), Some(202));
}

/// A server that ends with its value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn debian(directory: &Path, count: usize) {
    let address = free_address();
    let hooks = json!([{
        "id": "push",
        "execute-command": "/bin/true",
        "trigger-rule": { "match": {
            "type": "payload-hmac-sha256", "secret": SECRET,
            "parameter": { "source": "header", "name": "X-Hub-Signature-256" },
        } },
    }]);
    let file = directory.join("hooks.json");
    std::fs::write(&file, hooks.to_string()).expect("a file");
    let server = Command::new("webhook")
        .args(["-ip", "127.0.0.1", "-port", &address.port().to_string(), "-hooks"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(server) = server else {
        println!("webhook: not installed, so there is nothing to compare with");
        return;
    };
    let server = Server(server);
    assert!(answers(address).await, "webhook does not listen");
    let seen = send(address, "/hooks/push", "push", &"a".repeat(40), count).await;
    seen.print("Debian's webhook, fire and forget with HMAC, /bin/true", memory(server.0.id()));
}
