//! What it costs to take a webhook durably, next to Debian's `webhook` in the same run; and from an accepted push to the
//! first output of its first step.
//!
//! A plain program: sixteen senders over real sockets, for seconds. Without `webhook` (apt-get install webhook) its half
//! is left out, and said.

#![expect(clippy::print_stdout, reason = "figures for whoever runs it")]

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
use towline::daemon::{self, Options};
use towline::run::RunStatus;
use towline::store::{DeliveryFilter, RunFilter};

const SENDERS: usize = 16;
const SECRET: &str = "It's a Secret to Everybody";
/// The size of GitHub's usual push.
const BODY: usize = 8 << 10;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let count = if quick { 64 } else { 10_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        ours(directory.path(), count, quick).await;
        debian(directory.path(), count).await;
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
    fn print(&self, who: &str, rss: Option<u64>) {
        println!(
            "{who}: {:.0} a second with {SENDERS} senders, p50 {:.1} ms, p99 {:.1} ms, {} accepted, {} refused, RSS {} MB",
            self.rate,
            self.half.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.accepted,
            self.refused,
            rss.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string()),
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

fn rss(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
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

async fn ours(directory: &Path, count: usize, quick: bool) {
    let project = directory.join("project");
    std::fs::create_dir_all(project.join(".github/workflows")).expect("a directory");
    git(&project, &["init", "-q"]);
    let workflow =
        |on: &str| format!("on: {on}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hello\n");
    let file = project.join(".github/workflows/ci.yml");
    std::fs::write(&file, workflow("{push: {branches: [other]}}")).expect("a file");
    git(&project, &["add", "-A"]);
    git(&project, &["commit", "-q", "-m", "first"]);
    let head = git(&project, &["rev-parse", "HEAD"]);
    let text = format!(
        "[server]\nlisten = ['127.0.0.1:0']\ntls = false\n[[host]]\nname = 'here'\nkind = 'local'\nroot = '{}'\n\
         [[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = \"{SECRET}\"\n",
        directory.join("host").display(),
        project.display()
    );
    let (config, _) = config::parse(&[config::File { path: directory.join("towline.toml"), text }]);
    let paths = Paths {
        config: directory.join("towline.toml"),
        state: directory.join("state"),
        runtime: directory.join("run"),
    };
    let options = Options {
        config: config.expect("a configuration"),
        paths,
        clock: Clock::System,
        open_on_loopback: true,
        passed: towline::server::Passed::default(),
    };
    let daemon = daemon::start(options).await.expect("the daemon starts");
    let url = daemon.url().expect("an address");
    let address: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let path = "/hooks/github/ada/app";
    let own = std::process::id();
    // A push makes the daemon look into the repository: fewer of them do.
    for (event, count) in [("star", count), ("push", count / 10)] {
        let seen = send(address, path, event, &head, count).await;
        let at_end = rss(own);
        let begun = Instant::now();
        while !daemon.store().open_deliveries().expect("the store reads").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let kept = daemon.store().deliveries(&DeliveryFilter::default(), 0, usize::MAX).expect("the store reads");
        let kept = kept.iter().filter(|one| one.event == event).count() as u64;
        assert_eq!(kept, seen.accepted, "every accepted delivery is kept");
        seen.print(&format!("towline, durable accept of `{event}` ({BODY} bytes, HMAC, de-duplicated)"), at_end);
        println!("    handled {:.1} s after the last answer, nothing lost", begun.elapsed().as_secs_f64());
    }
    // From an accepted push to the first step's first output, on a connected host.
    std::fs::write(&file, workflow("push")).expect("a file");
    let mut times = Vec::new();
    for number in 0..if quick { 1 } else { 30 } {
        std::fs::write(project.join("n"), number.to_string()).expect("a file");
        git(&project, &["add", "-A"]);
        git(&project, &["commit", "-q", "-m", "next"]);
        let head = git(&project, &["rev-parse", "HEAD"]);
        let before = daemon.store().runs(&RunFilter::default(), 0, 1).expect("the store reads").total;
        let begun = Instant::now();
        one_push(address, path, &head, number).await;
        let accepted = Instant::now();
        let mut updates = daemon.engine().updates();
        loop {
            let runs = daemon.store().runs(&RunFilter::default(), 0, 1).expect("the store reads");
            let run = runs.runs.first().filter(|_| runs.total > before);
            let jobs = run.map(|run| (run.id, daemon.store().jobs(run.id, 1).expect("the store reads")));
            let hello = jobs.is_some_and(|(run, jobs)| {
                jobs.first().is_some_and(|job| {
                    let log = towline::store::logs::LogId { run, attempt: 1, job: job.state.id };
                    let text = daemon.store().logs().read(log, 0, 1 << 20).unwrap_or_default();
                    String::from_utf8_lossy(&text).lines().any(|line| line.ends_with("Z hello"))
                })
            });
            if hello {
                times.push((accepted.elapsed(), begun.elapsed()));
                break;
            }
            drop(tokio::time::timeout(Duration::from_millis(1), updates.recv()).await);
        }
        while daemon
            .store()
            .runs(&RunFilter::default(), 0, 1)
            .expect("the store reads")
            .runs
            .iter()
            .any(|run| run.status != RunStatus::Completed)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    times.sort_unstable();
    let (from_answer, from_sending) = times[times.len() / 2];
    println!(
        "from an accepted push to the first output of its step: median {:.1} ms ({:.1} ms from when it was sent)",
        from_answer.as_secs_f64() * 1e3,
        from_sending.as_secs_f64() * 1e3
    );
    hook(directory, quick);
    daemon.stop().await;
}

/// What the hook adds to a push: pushes to a repository with it and to one without, in turns.
fn hook(directory: &Path, quick: bool) {
    let added = Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(["repo", "add", "bench"])
        .env("TOWLINE_STATE", directory.join("state"))
        .env("TOWLINE_RUNTIME", directory.join("run"))
        .env("TOWLINE_CONFIG", directory.join("towline.toml"))
        .output()
        .expect("the program runs");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let with = directory.join("state/repositories/local/bench.git");
    let without = directory.join("plain.git");
    git(directory, &["init", "-q", "--bare", "plain.git"]);
    let work = directory.join("pushing");
    std::fs::create_dir_all(&work).expect("a directory");
    git(&work, &["init", "-q"]);
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..if quick { 2 } else { 41 } {
        std::fs::write(work.join("n"), number.to_string()).expect("a file");
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "next"]);
        for (to, times) in [&with, &without].into_iter().zip(&mut times) {
            let begun = Instant::now();
            git(&work, &["push", "-q", &to.display().to_string(), "main"]);
            times.push(begun.elapsed());
        }
    }
    let [with, without] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    println!("git push: median {with:.1} ms with the hook, {without:.1} ms without: {:.1} ms added", with - without);
}

async fn one_push(address: SocketAddr, path: &str, head: &str, number: i32) {
    let body = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": head, "created": true, "deleted": false,
        "repository": { "full_name": "ada/app", "default_branch": "main" }, "sender": { "login": "ada" },
        "head_commit": { "id": head, "message": "next" },
    })
    .to_string();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body.as_bytes());
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut socket = TcpStream::connect(address).await.expect("the server is there");
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: first-{number}\r\nX-Hub-Signature-256: sha256={tag}\r\n\r\n{body}",
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
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
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
        .args(["-ip", "127.0.0.1", "-port", &port.to_string(), "-hooks"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(server) = server else {
        println!("webhook: not installed, so there is nothing to compare with");
        return;
    };
    let server = Server(server);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = send(address, "/hooks/push", "push", &"a".repeat(40), count).await;
    seen.print("Debian's webhook, fire and forget with HMAC, /bin/true", rss(server.0.id()));
}
