//! What the engine, its queue and its store cost, next to what sled alone costs in the same run.
//!
//! A plain program, because a durable commit is measured with many senders at once and over seconds.

#![expect(clippy::print_stdout, reason = "figures for whoever runs it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;
use towline::clock::Clock;
use towline::drive;
use towline::engine::{Change, Effect, Engine, Input, Settings};
use towline::event::{ChangedFiles, Event};
use towline::id::{JobId, RepositoryName, RunId};
use towline::queue::{HostFacts, LabelMap, Queue, Request};
use towline::run::report::{JobResult, Report};
use towline::run::{Conclusion, RunSpec};
use towline::store::Store;

const SENDERS: u32 = 16;

/// Set in the process that only opens a state: its directory.
const OPENED: &str = "TOWLINE_BENCH_OPENED";

fn main() {
    if let Some(directory) = std::env::var_os(OPENED) {
        return open(Path::new(&directory));
    }
    // `cargo test --benches` only wants to know that it runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let time = Duration::from_secs(if quick { 0 } else { 3 });
    for waiting in [100, 10_000, 100_000] {
        println!("queue: start, release and enqueue one job, {waiting} waiting: {:?}", scheduling(waiting, quick));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let raw = raw_sled(&directory.path().join("raw"), time);
    println!("sled alone: {raw:.0} durable writes of 3 records a second with {SENDERS} writers in one group");
    let accepted = runtime.block_on(accepts(&directory.path().join("state"), time));
    println!("engine: {accepted:.0} durable accepts a second with {SENDERS} senders");
    println!("engine: {:.0} % of sled alone", accepted / raw * 100.0);
    let runs = if quick { 1_000 } else { 1_000_000 };
    let history = directory.path().join("history");
    runtime.block_on(fill(&history, runs));
    println!("start with {runs} finished runs of one job:");
    let program = std::env::current_exe().expect("the bench has a path");
    let opened = std::process::Command::new(program).env(OPENED, &history).status().expect("the bench starts itself");
    assert!(opened.success(), "the state opens");
}

fn request(job: u64) -> Request {
    Request {
        job: JobId(job),
        repository: RepositoryName(format!("o/r{}", job % 50)),
        labels: vec!["linux".to_owned(), format!("l{}", job % 10)],
        weight: 1,
        priority: 0,
        avoid: Vec::new(),
        only: None,
        since: Timestamp::UNIX_EPOCH,
    }
}

/// The cost of one job on its way through a queue of a length that stays the same.
fn scheduling(waiting: u64, quick: bool) -> Duration {
    let mut queue = Queue::new(LabelMap::default());
    for number in 0..200 {
        queue.host_up(HostFacts {
            name: format!("host{number}").as_str().into(),
            slots: 2,
            os: "Linux".to_owned(),
            arch: "X64".to_owned(),
            labels: (0..10).map(|label| format!("l{label}")).collect(),
            label_limits: BTreeMap::new(),
            repositories: Vec::new(),
        });
    }
    for job in 0..400 + waiting {
        queue.enqueue(request(job));
    }
    let mut running: std::collections::VecDeque<JobId> = queue.assign().into_iter().map(|start| start.job).collect();
    let rounds = if quick { 10 } else { 20_000 };
    let begin = Instant::now();
    for job in 0..rounds {
        let ended = running.pop_front().expect("400 jobs run");
        queue.release(ended);
        queue.enqueue(request(1_000_000 + u64::from(job)));
        running.extend(black_box(queue.assign()).into_iter().map(|start| start.job));
    }
    begin.elapsed() / rounds
}

/// What a group commit of small records costs without anything of ours.
fn raw_sled(path: &Path, time: Duration) -> f64 {
    let database = sled::Config::new().path(path).flush_every_ms(None).open().expect("sled opens");
    let file = File::open(path.join("db")).expect("sled has a file");
    let begin = Instant::now();
    let mut writes = 0_u32;
    loop {
        let mut batch = sled::Batch::default();
        for _ in 0..SENDERS {
            for record in 0..3_u32 {
                batch.insert([writes.to_be_bytes(), record.to_be_bytes()].concat(), vec![b'x'; 300]);
            }
            writes += 1;
        }
        database.apply_batch(batch).and_then(|()| database.flush()).expect("sled writes");
        file.sync_data().expect("the disk syncs");
        if begin.elapsed() >= time {
            return f64::from(writes) / begin.elapsed().as_secs_f64();
        }
    }
}

fn spec() -> RunSpec {
    RunSpec {
        run: RunId(0),
        run_number: 0,
        attempt: 0,
        event: Event {
            name: "push".to_owned(),
            action: None,
            payload: json!({}),
            repository: RepositoryName::from("o/r"),
            git_ref: "refs/heads/main".to_owned(),
            sha: "0123456789012345678901234567890123456789".to_owned(),
            head_ref: None,
            base_ref: None,
            actor: "ada".to_owned(),
            default_branch: "main".to_owned(),
            changed_files: ChangedFiles::Unknown,
            head_message: None,
            received_at: Timestamp::UNIX_EPOCH,
            delivery: None,
            workflow: None,
            server_url: "https://github.com".to_owned(),
        },
        workflow_path: ".github/workflows/ci.yml".to_owned(),
        workflow_text: "on: push\njobs:\n  a:\n    runs-on: linux\n    steps: [{run: x}]\n".to_owned(),
        workflow_sha: "0123456789012345678901234567890123456789".to_owned(),
        called: BTreeMap::new(),
        inputs: Map::new(),
        vars: Map::new(),
        triggering_actor: "ada".to_owned(),
        debug: false,
        hold_minutes: 0,
        only: None,
    }
}

/// A history of finished runs: one that really went through, again and again under other numbers.
async fn fill(path: &Path, runs: u64) {
    let (store, _) = Store::open(path).expect("the store opens");
    let mut engine = Engine::new(Settings::github());
    let mut last: BTreeMap<u8, Change> = BTreeMap::new();
    let host = HostFacts {
        name: "alpha".into(),
        slots: 1,
        os: "Linux".to_owned(),
        arch: "X64".to_owned(),
        labels: Vec::new(),
        label_limits: BTreeMap::new(),
        repositories: Vec::new(),
    };
    let result = JobResult {
        conclusion: Conclusion::Success,
        outputs: Map::new(),
        environment_url: None,
        reason: None,
        host_lost: false,
    };
    let inputs = [
        Input::HostUp(host),
        Input::StartRun { key: None, held: false, spec: Box::new(spec()) },
        Input::Report {
            job: JobId(1),
            host: "alpha".into(),
            report: Report::Finished { at: Timestamp::UNIX_EPOCH, result },
        },
    ];
    for input in inputs {
        for effect in engine.step(Timestamp::UNIX_EPOCH, input) {
            let Effect::Persist(changes) = effect else { continue };
            for change in changes {
                let kind = match &change {
                    Change::Spec(_) => 0,
                    Change::Graph { .. } => 1,
                    Change::Job(_) => 2,
                    Change::Run(_) => 3,
                    _ => continue,
                };
                last.insert(kind, change);
            }
        }
    }
    let mut changes = Vec::new();
    for number in 1..=runs {
        for change in last.values() {
            let mut change = change.clone();
            match &mut change {
                Change::Spec(spec) => spec.run = RunId(number),
                Change::Graph { run, .. } => *run = RunId(number),
                Change::Job(record) => {
                    record.run = RunId(number);
                    record.state.id = JobId(number);
                }
                Change::Run(record) => {
                    record.id = RunId(number);
                    record.run_number = number;
                }
                _ => {}
            }
            changes.push(change);
        }
        if number % 1000 == 0 {
            changes.push(Change::Counters { run: number, job: number });
            store.commit(&changes).await.expect("the history is written");
            changes.clear();
        }
    }
}

/// Opens a state as a daemon does, and says what that took.
fn open(directory: &Path) {
    let begin = Instant::now();
    let (store, recovery) = Store::open(directory).expect("the store opens");
    assert!(recovery.is_none(), "the history is whole");
    let (engine, _) =
        Engine::restore(Timestamp::UNIX_EPOCH, Settings::github(), store.load().expect("the store loads"));
    let took = begin.elapsed();
    assert!(black_box(engine).active_runs().is_empty(), "all of it is over");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"));
    println!("  {took:?}, {}", memory.collect::<Vec<_>>().join(", "));
    let size: u64 = std::fs::read_dir(directory.join("db"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    println!("  {} MB of database", size >> 20);
}

/// Runs that are planned, queued, durable and answered.
async fn accepts(path: &Path, time: Duration) -> f64 {
    let (store, _) = Store::open(path).expect("the store opens");
    let stop = CancellationToken::new();
    let parts = drive::prepare(store, Clock::System, Settings::github(), stop.clone()).expect("the engine starts");
    let task = tokio::spawn(parts.task);
    let begin = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let handle = parts.handle.clone();
            tokio::spawn(async move {
                let mut accepted = 0_u32;
                loop {
                    let key = format!("{sender}-{accepted}");
                    handle.start_run(Some(key), false, spec()).await.expect("the run is accepted");
                    accepted += 1;
                    if begin.elapsed() >= time {
                        return accepted;
                    }
                }
            })
        })
        .collect();
    let mut accepted = 0;
    for sender in senders {
        accepted += sender.await.expect("a sender ends");
    }
    let rate = f64::from(accepted) / begin.elapsed().as_secs_f64();
    stop.cancel();
    task.await.expect("the loop ends").expect("the loop ends well");
    rate
}
