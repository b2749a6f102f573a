//! What the engine, its queue and its store cost, next to what sled alone costs in the same run.
//!
//! A plain program, because a durable commit is measured with many senders at once and over seconds.
//! `cargo bench --bench engine -- [queue] [accept] [transition] [start]`; all of them when none is named.

#![expect(clippy::print_stdout, reason = "figures for whoever runs it")]

#[path = "engine/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, json};
use tokio::sync::mpsc;
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
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let time = Duration::from_secs(if quick { 0 } else { 3 });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str| directory.path().join(name);
    if runs("queue") {
        for waiting in [100, 10_000, 100_000] {
            println!("queue: start, release and enqueue one job, {waiting} waiting: {:?}", scheduling(waiting, quick));
        }
    }
    if runs("accept") {
        let raw = raw_sled(&place("plain"), time);
        println!(
            "sled: {raw:.0} durable writes of 3 records of 300 bytes a second, {SENDERS} in a group, nobody waits"
        );
        runtime.block_on(async {
            let records = records_of(&place("one-accept"), Way::Accept).await;
            let (count, bytes) = peer::size(&records);
            println!("accept of an event: {count} records, {bytes} bytes");
            let raw = peer::rate(&place("raw-accepts"), &records, &[2], SENDERS, time).await;
            println!("  sled alone: {raw:.0} a second with {SENDERS} senders that wait");
            let ours = accepts(&place("accepts"), time).await;
            println!("  engine: {ours:.0} a second, {:.0} % of sled alone", ours / raw * 100.0);
        });
    }
    if runs("transition") {
        runtime.block_on(async {
            let records = records_of(&place("one-transition"), Way::Transition).await;
            let (count, bytes) = peer::size(&records);
            println!(
                "transition of the queue, from a job that ends to the next assigned: {count} records, {bytes} bytes"
            );
            let raw = peer::rate(&place("raw-transitions"), &records, &[1, 2], SENDERS, time).await;
            println!("  sled alone: {raw:.0} a second with {SENDERS} senders that wait");
            let ours = transitions(&place("transitions"), if quick { 100 } else { 30_000 }).await;
            println!("  engine: {ours:.0} a second with {SENDERS} slots, {:.0} % of sled alone", ours / raw * 100.0);
        });
    }
    if runs("start") {
        let runs = if quick { 1_000 } else { 1_000_000 };
        let history = place("history");
        runtime.block_on(fill(&history, runs));
        println!("start with {runs} finished runs of one job:");
        let program = std::env::current_exe().expect("the bench has a path");
        // The first start after many writes reads all of them; the second begins where the first came to.
        for _ in 0..2 {
            let opened =
                std::process::Command::new(&program).env(OPENED, &history).status().expect("the bench starts itself");
            assert!(opened.success(), "the state opens");
        }
    }
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

fn host(slots: u32) -> HostFacts {
    HostFacts {
        name: "alpha".into(),
        slots,
        os: "Linux".to_owned(),
        arch: "X64".to_owned(),
        labels: Vec::new(),
        label_limits: BTreeMap::new(),
        repositories: Vec::new(),
    }
}

fn finished() -> Report {
    let result = JobResult {
        conclusion: Conclusion::Success,
        outputs: Map::new(),
        environment_url: None,
        reason: None,
        host_lost: false,
    };
    Report::Finished { at: Timestamp::UNIX_EPOCH, result }
}

/// A history of finished runs: one that really went through, again and again under other numbers.
async fn fill(path: &Path, runs: u64) {
    let (store, _) = Store::open(path).expect("the store opens");
    let mut engine = Engine::new(Settings::github());
    let mut last: BTreeMap<u8, Change> = BTreeMap::new();
    let inputs = [
        Input::HostUp(host(1)),
        Input::StartRun { key: None, held: false, spec: Box::new(spec()) },
        Input::Report { job: JobId(1), host: "alpha".into(), report: finished() },
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
                Change::Spec(spec) => Arc::make_mut(spec).run = RunId(number),
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

/// An engine with its loop, as a daemon has it.
struct Running {
    handle: drive::Handle,
    assignments: mpsc::Receiver<drive::Assignment>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(path: &Path) -> Self {
        let (store, _) = Store::open(path).expect("the store opens");
        let stop = CancellationToken::new();
        let parts = drive::prepare(store, Clock::System, Settings::github(), stop.clone()).expect("the engine starts");
        let task = parts.task;
        let task = tokio::spawn(async move { task.await.expect("the loop ends well") });
        Self { handle: parts.handle, assignments: parts.assignments, stop, task }
    }

    async fn accept(&self, key: &str) {
        self.handle.start_run(Some(key.to_owned()), false, spec()).await.expect("the run is accepted");
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the loop ends");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Accept,
    Transition,
}

/// What the engine writes for one event: the records of run 2, or what changes when job 1 ends and job 2 takes its place.
async fn records_of(path: &Path, way: Way) -> Vec<peer::Record> {
    let mut running = Running::start(path);
    running.accept("0-0").await;
    if way == Way::Transition {
        running.accept("0-1").await;
        running.handle.send(Input::HostUp(host(1))).await.expect("the host is up");
        running.assignments.recv().await.expect("an assignment");
    }
    running.stop().await;
    let before = peer::dump(path);
    let mut running = Running::start(path);
    if way == Way::Accept {
        running.accept("0-1").await;
    } else {
        running.handle.send(Input::HostUp(host(1))).await.expect("the host is up");
        running.assignments.recv().await.expect("the first again");
        let report = Input::Report { job: JobId(1), host: "alpha".into(), report: finished() };
        running.handle.send(report).await.expect("it is durable");
        running.assignments.recv().await.expect("the second");
    }
    running.stop().await;
    peer::written(&before, &peer::dump(path))
}

/// Jobs that end and make place for the next, with as many slots as there are senders otherwise.
async fn transitions(path: &Path, runs: u32) -> f64 {
    let mut running = Running::start(path);
    let mut tasks: Vec<_> = Vec::new();
    for sender in 0..SENDERS {
        let handle = running.handle.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..runs / SENDERS {
                let key = format!("{sender}-{number}");
                handle.start_run(Some(key), false, spec()).await.expect("the run is accepted");
            }
        }));
    }
    for task in tasks {
        task.await.expect("a sender ends");
    }
    running.handle.send(Input::HostUp(host(SENDERS))).await.expect("the host is up");
    let begin = Instant::now();
    let total = runs / SENDERS * SENDERS;
    for _ in 0..total {
        let job = running.assignments.recv().await.expect("an assignment").job;
        let handle = running.handle.clone();
        let report = Input::Report { job, host: "alpha".into(), report: finished() };
        // The last ones are not waited for.
        tokio::spawn(async move { drop(handle.send(report).await) });
    }
    let rate = f64::from(total) / begin.elapsed().as_secs_f64();
    running.stop().await;
    rate
}

/// Runs that are planned, queued, durable and answered.
async fn accepts(path: &Path, time: Duration) -> f64 {
    let running = Running::start(path);
    let begin = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let handle = running.handle.clone();
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
    running.stop().await;
    rate
}
