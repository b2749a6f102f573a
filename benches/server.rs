//! The server under load, in one process with its clients: JSON reads beside a bare hyper server, the list of a million
//! runs, a thousand followers of one busy log, a log of a million lines, and the weights of pages.
//!
//! `cargo bench --bench server` prints the figures; `cargo bench --bench server -- 100000` with another number of runs.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::unwrap_used, reason = "what fails here ends the benchmark")]

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use towline::clock::Clock;
use towline::drive;
use towline::engine::{Change, Input, RunRecord, Settings as EngineSettings};
use towline::event::{ChangedFiles, Event};
use towline::id::{HostName, RepositoryName, RunId};
use towline::queue::HostFacts;
use towline::run::report::{Report, StepKind, StepState};
use towline::run::{Conclusion, RunSpec, RunStatus};
use towline::server::auth::{Auth, Mode};
use towline::server::{Address, App, AppParts, Config, Endpoint, Limits, Outside, Server, Settings};
use towline::store::Store;
use towline::store::logs::LogId;
use towline::vault::{MasterKey, Vault};

const CONNECTIONS: usize = 32;
const SECONDS: u64 = 5;
const FOLLOWERS: usize = 1000;
const LINES: u64 = 1_000_000;

fn record(id: u64, at: Timestamp) -> RunRecord {
    RunRecord {
        id: RunId(id),
        run_number: id,
        attempt: 1,
        repository: RepositoryName::from("yadag/todo-app"),
        workflow_path: format!(
            ".github/workflows/{}.yml",
            ["ci", "deploy", "nightly"][usize::try_from(id % 3).unwrap()]
        ),
        workflow_name: "CI".into(),
        title: format!("Change number {id} of what is there"),
        event: "push".into(),
        git_ref: format!("refs/heads/{}", if id.is_multiple_of(4) { "feature/x" } else { "main" }),
        sha: format!("{id:040x}"),
        actor: "ada".into(),
        triggering_actor: "ada".into(),
        status: RunStatus::Completed,
        held: false,
        conclusion: Some(if id.is_multiple_of(10) { Conclusion::Failure } else { Conclusion::Success }),
        created_at: at,
        attempted_at: at,
        started_at: Some(at),
        updated_at: at + SignedDuration::from_secs(90),
        completed_at: Some(at + SignedDuration::from_secs(90)),
        delivery: None,
        messages: Vec::new(),
        paused: false,
        claims: Vec::new(),
        reviews: Vec::new(),
    }
}

/// Requests of one kind over kept connections; gives requests a second and the times of all.
async fn load(address: SocketAddr, path: &str, connections: usize, length: Duration) -> (f64, Vec<Duration>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
    let end = Instant::now() + length;
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let request = request.clone();
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut times = Vec::new();
            let mut held = Vec::new();
            while Instant::now() < end {
                let before = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
                answer(&mut stream, &mut held).await;
                times.push(before.elapsed());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    (rate, times)
}

/// Reads one answer with a content length; gives its size.
async fn answer(stream: &mut TcpStream, held: &mut Vec<u8>) -> usize {
    loop {
        if let Some(head) = memchr::memmem::find(held, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&held[..head]).to_ascii_lowercase();
            assert!(text.starts_with("http/1.1 200"), "{text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let total = head + 4 + length.trim().parse::<usize>().unwrap();
            while held.len() < total {
                assert!(stream.read_buf(held).await.unwrap() > 0);
            }
            held.drain(..total);
            return total;
        }
        assert!(stream.read_buf(held).await.unwrap() > 0);
    }
}

fn at(times: &[Duration], part: usize) -> Duration {
    times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// A server that does nothing but answer these bytes.
async fn bare(body: Bytes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let body = body.clone();
            tokio::spawn(async move {
                let service = service_fn(move |_| {
                    let body = body.clone();
                    async move {
                        let response = http::Response::builder().header("content-type", "application/json");
                        Ok::<_, Infallible>(response.body(Full::new(body)).unwrap())
                    }
                });
                drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

fn main() {
    let runs = std::env::args().skip(1).find_map(|one| one.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(bench(runs));
}

async fn bench(runs: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("state")).unwrap();
    let before = Instant::now();
    let first: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    let mut id = 0;
    while id < runs {
        let end = (id + 5000).min(runs);
        let mut changes: Vec<Change> = (id + 1..=end)
            .map(|id| {
                Change::Run(Box::new(record(id, first + SignedDuration::from_secs(i64::try_from(id).unwrap() * 120))))
            })
            .collect();
        changes.push(Change::Counters { run: end, job: end });
        store.commit(&changes).await.unwrap();
        id = end;
    }
    println!("{runs} runs written in {:.1?}", before.elapsed());

    let (clock, stop) = (Clock::System, CancellationToken::new());
    let parts = drive::prepare(store.clone(), clock.clone(), EngineSettings::github(), stop.clone()).unwrap();
    tokio::spawn(parts.task);
    let mut assignments = parts.assignments;
    let auth = Auth::open(folder.path(), store.clone(), Mode::OpenOnLoopback, false, Vec::new()).unwrap();
    let vault = Vault::new(store.clone(), vec![MasterKey::generate().unwrap()]);
    let settings = Settings { public_url: None, own_url: None, open_metrics: true, trusted_proxies: Vec::new() };
    let app = App::new(AppParts {
        store: store.clone(),
        engine: parts.handle.clone(),
        vault,
        outside: Outside::nothing(),
        auth,
        clock: clock.clone(),
        settings,
        stop: stop.clone(),
    });
    let config = Config {
        endpoints: vec![Endpoint::Http("127.0.0.1:0".parse().unwrap())],
        passed: towline::server::Passed::default(),
        identity: None,
        authority: None,
        limits: Limits::STANDARD,
    };
    let bound = Server::bind(clock.now(), config).unwrap();
    let [Address::Http(address)] = bound.addresses()[..] else { panic!("one socket") };
    tokio::spawn(bound.serve(towline::server::router(&app), stop.clone()));

    json_reads(address, runs).await;
    lists(address).await;

    // A job whose log is long, then one whose log is busy.
    let host = HostFacts {
        name: HostName::from("selene"),
        slots: 2,
        os: "Linux".into(),
        arch: "X64".into(),
        labels: Vec::new(),
        label_limits: std::collections::BTreeMap::new(),
        repositories: Vec::new(),
    };
    parts.handle.send(Input::HostUp(host)).await.unwrap();
    for _ in 0..2 {
        parts.handle.start_run(None, false, spec(clock.now())).await.unwrap();
    }
    let mut logs = Vec::new();
    for _ in 0..2 {
        let assignment = assignments.recv().await.unwrap();
        let log = LogId { run: assignment.order.run, attempt: 1, job: assignment.job };
        let writer = store.logs().open(log);
        let steps = vec![StepState {
            number: 1,
            id: String::new(),
            name: "Run make".into(),
            kind: StepKind::Main,
            started_at: Some(clock.now()),
            completed_at: None,
            outcome: None,
            conclusion: None,
            log_start: Some(0),
            log_end: None,
            first_line: Some(0),
            exit_code: None,
        }];
        for report in [Report::Started { at: clock.now(), workspace: "/work".to_owned() }, Report::Steps { steps }] {
            let input = Input::Report { job: assignment.job, host: assignment.host.clone(), report };
            parts.handle.send(input).await.unwrap();
        }
        logs.push((log, writer));
    }
    for path in ["/", "/runs", "/hosts"] {
        load(address, path, 1, Duration::from_millis(1)).await;
        let (rate, times) = load(address, path, 4, Duration::from_secs(2)).await;
        println!("page {path}: p50 {:.2?}, p99 {:.2?}, {rate:.0}/s over 4 connections", at(&times, 50), at(&times, 99));
    }
    long_log(address, &store, logs[0].0, &logs[0].1).await;
    followers(address, &store, logs[1].0, &logs[1].1).await;
    weights(address, logs[0].0).await;
    stop.cancel();
}

async fn json_reads(address: SocketAddr, runs: u64) {
    let path = format!("/api/v3/repos/yadag/todo-app/actions/runs/{}", runs / 2);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let size = answer(&mut stream, &mut Vec::new()).await;
    let bare = bare(Bytes::from(vec![b' '; size])).await;
    for round in 1..=3 {
        let (floor, _) = load(bare, "/", CONNECTIONS, Duration::from_secs(SECONDS)).await;
        let (rate, times) = load(address, &path, CONNECTIONS, Duration::from_secs(SECONDS)).await;
        println!(
            "JSON of a run ({size} B), round {round}: {rate:.0}/s, p99 {:.2?}; bare hyper {floor:.0}/s; {:.0} %",
            at(&times, 99),
            rate / floor * 100.0
        );
    }
}

async fn lists(address: SocketAddr) {
    let base = "/api/v3/repos/yadag/todo-app/actions/runs";
    let before = Instant::now();
    load(address, base, 1, Duration::ZERO).await;
    for (name, query) in [
        ("newest", ""),
        ("page 1000", "?page=1000"),
        ("failures", "?status=failure"),
        ("branch", "?branch=feature/x"),
        ("running", "?status=in_progress"),
    ] {
        load(address, &format!("{base}{query}"), 1, Duration::from_millis(1)).await;
        let (rate, times) = load(address, &format!("{base}{query}"), 4, Duration::from_secs(3)).await;
        println!(
            "list of runs, {name}: p50 {:.2?}, p99 {:.2?}, {rate:.0}/s over 4 connections",
            at(&times, 50),
            at(&times, 99)
        );
    }
    println!("lists took {:.1?} in all", before.elapsed());
}

fn spec(now: Timestamp) -> RunSpec {
    let sha = "8f3ac1d9be0a8f3ac1d9be0a8f3ac1d9be0a8f3a".to_owned();
    let event = Event {
        name: "push".into(),
        action: None,
        payload: json!({}),
        repository: RepositoryName::from("yadag/todo-app"),
        git_ref: "refs/heads/main".into(),
        sha: sha.clone(),
        head_ref: None,
        base_ref: None,
        head_message: None,
        actor: "ada".into(),
        default_branch: "main".into(),
        changed_files: ChangedFiles::Unknown,
        received_at: now,
        delivery: None,
        workflow: None,
        server_url: "https://github.com".into(),
    };
    RunSpec {
        run: RunId(0),
        run_number: 0,
        attempt: 1,
        event,
        workflow_path: ".github/workflows/ci.yml".into(),
        workflow_text: "on: push\njobs: {build: {runs-on: self-hosted, steps: [{run: make}]}}".into(),
        workflow_sha: sha,
        called: std::collections::BTreeMap::new(),
        inputs: Map::new(),
        vars: Map::new(),
        triggering_actor: "ada".into(),
        debug: false,
        hold_minutes: 0,
        only: None,
    }
}

fn append(store: &Store, log: LogId, text: &str) {
    let path = store.logs().path(log);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

async fn long_log(address: SocketAddr, store: &Store, log: LogId, writer: &tokio::sync::watch::Sender<u64>) {
    let mut text = String::new();
    for number in 0..LINES {
        text.push_str(&format!("2026-11-21T21:00:00.0000000Z line {number} of a log that is long\n"));
    }
    append(store, log, &text);
    writer.send_replace(text.len() as u64);
    let page = format!("/yadag/todo-app/actions/runs/{}/job/{}", log.run, log.job);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {page}?step=1&from=500000 HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut whole = String::new();
    stream.read_to_string(&mut whole).await.unwrap();
    assert!(whole.contains("line 499999 of a log"), "{whole}");
    for line in [1, LINES / 2, LINES - 10] {
        let (_, times) = load(address, &format!("{page}?step=1&from={line}"), 1, Duration::from_secs(2)).await;
        println!(
            "a log of {LINES} lines opened at line {line}: p50 {:.1?}, p99 {:.1?}",
            at(&times, 50),
            at(&times, 99)
        );
    }
    let (_, times) = load(address, &format!("{page}?find=nowhere+to+be+found"), 1, Duration::from_secs(2)).await;
    println!("searched to its end: p50 {:.0?}", at(&times, 50));
}

async fn followers(address: SocketAddr, store: &Store, log: LogId, writer: &tokio::sync::watch::Sender<u64>) {
    let path = format!("/api/v3/repos/yadag/todo-app/actions/jobs/{}/logs?follow=1", log.job);
    let block = format!("2026-11-21T21:00:00.0000000Z {}\n", "x".repeat(90)).repeat(100);
    let blocks = 200;
    let whole = block.len() * blocks;
    let before = resident();
    let mut tasks = Vec::new();
    for _ in 0..FOLLOWERS {
        let path = path.clone();
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
            let mut buffer = vec![0; 16 * 1024];
            let (mut seen, mut in_head, mut tail) = (0, true, Vec::new());
            while seen < whole {
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "a follower was cut at {seen} of {whole}");
                if in_head {
                    tail.extend_from_slice(&buffer[..count]);
                    if let Some(at) = memchr::memmem::find(&tail, b"\r\n\r\n") {
                        (in_head, seen) = (false, tail.len() - at - 4);
                    }
                } else {
                    seen += count;
                }
            }
            seen
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begin = Instant::now();
    let mut length = 0;
    let mut slowest = Duration::ZERO;
    for _ in 0..blocks {
        let one = Instant::now();
        append(store, log, &block);
        length += block.len() as u64;
        writer.send_replace(length);
        slowest = slowest.max(one.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let written = begin.elapsed();
    let during = resident();
    for task in tasks {
        assert_eq!(task.await.unwrap(), whole);
    }
    println!(
        "{FOLLOWERS} followers of {} lines: all have every byte {:.1?} after the first, {:.1?} after the last; the slowest write took {slowest:.1?}; resident {before} before, {during} during, with their clients in the same process",
        blocks * 100,
        begin.elapsed(),
        begin.elapsed().saturating_sub(written),
    );
}

async fn weights(address: SocketAddr, log: LogId) {
    for path in ["/", "/runs", &format!("/yadag/todo-app/actions/runs/{}", log.run)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        println!("page {path}: {} B with its head", answer(&mut stream, &mut Vec::new()).await);
    }
}
