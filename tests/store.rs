//! The store on a real disk: killed writers, damaged files, two owners, exports.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use towline::engine::{Change, RunRecord};
use towline::id::{JobId, RepositoryName, RunId};
use towline::run::{Conclusion, RunStatus};
use towline::store::logs::LogId;
use towline::store::{
    DeliveryFilter, DeliveryRecord, DeliveryState, MOST_NARROWED, RunFilter, StatusFilter, Store, StoreError,
};

/// Set in the child that writes until it is killed.
const WRITER: &str = "TOWLINE_TEST_STORE_WRITER";

fn open(directory: &Path) -> Store {
    let (store, recovery) = Store::open(directory).unwrap();
    assert_eq!(recovery, None);
    store
}

async fn count(store: &Store, number: u64) {
    let changes = [
        Change::Counters { run: number, job: number },
        Change::Delivery { key: format!("key-{number}"), run: RunId(number), at: Timestamp::UNIX_EPOCH },
    ];
    store.commit(&changes).await.unwrap();
}

/// Not a test of its own: the process that [`nothing_acknowledged_is_lost_by_kill`] kills.
#[tokio::test]
async fn writer_process() {
    let Ok(directory) = std::env::var(WRITER) else { return };
    let store = open(Path::new(&directory));
    let mut number = store.load().unwrap().last_run;
    loop {
        number += 1;
        count(&store, number).await;
        store.append_journal(JobId(7), number, format!("entry {number}").as_bytes()).await.unwrap();
        let mut output = std::io::stdout();
        writeln!(output, "durable {number}").unwrap();
        output.flush().unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    let mut said = 0;
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::writer_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(WRITER, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let durable =
            lines.filter_map(|line| line.split_once("durable ").and_then(|(_, text)| text.parse::<u64>().ok()));
        let mut seen = 0;
        let wanted = 1 + usize::try_from(round * 7 % 40).unwrap();
        for number in durable {
            assert_eq!(number, last + 1, "a number was repeated or left out");
            last = number;
            seen += 1;
            said += 1;
            if seen == wanted {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= wanted, "the writer ended by itself");
        let store = open(directory.path());
        let records = store.load().unwrap();
        // One more may be durable than was said.
        assert!((last..=last + 1).contains(&records.last_run), "{} after {last}", records.last_run);
        assert_eq!(records.deliveries.len() as u64, records.last_run, "half of a transaction is there");
        // A number that was durable but never said may have no entry.
        assert!(store.journal(JobId(7)).unwrap().len() >= said, "an entry that was said to be durable is gone");
        last = records.last_run;
    }
    println!("killed 20 times, {last} transactions, none lost");
}

#[test]
fn a_second_owner_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path());
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { process: Some(id), .. } if *id == std::process::id()), "{error}");
}

#[tokio::test]
async fn a_damaged_database_is_moved_aside_and_the_last_export_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = open(directory.path());
        count(&store, 41).await;
        store.back_up(Timestamp::UNIX_EPOCH).unwrap();
        count(&store, 42).await;
    }
    let file = directory.path().join("db").join("db");
    let length = usize::try_from(std::fs::metadata(&file).unwrap().len()).unwrap();
    std::fs::write(&file, vec![0xA5; length]).unwrap();
    std::fs::write(directory.path().join("db").join("conf"), b"nonsense").unwrap();
    let (store, recovery) = Store::open(directory.path()).unwrap();
    let recovery = recovery.expect("the damage is noticed");
    assert!(recovery.imported.is_some() && recovery.moved_to.join("db").exists(), "{recovery}");
    let records = store.load().unwrap();
    assert_eq!(records.deliveries.len(), 1);
    assert!(records.last_run > 42 && records.last_job > 42, "ids of after the export come again");
}

/// A byte that changed on the disk is noticed or does no harm: the store opens and gives what a start needs.
#[tokio::test]
async fn a_flipped_byte_keeps_no_store_from_opening() {
    let seed = std::env::var("TOWLINE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(std::process::id());
    println!("seed {seed} (TOWLINE_SEED={seed} replays it)");
    let whole = tempfile::tempdir().unwrap();
    {
        let store = open(whole.path());
        count(&store, 1).await;
        store.back_up(Timestamp::UNIX_EPOCH).unwrap();
        for number in 2..=60 {
            count(&store, number).await;
        }
    }
    let mut random = u64::from(seed) | 1;
    for round in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", whole.path().display()))
            .arg(directory.path())
            .status();
        assert!(copied.unwrap().success());
        let file = directory.path().join("db").join("db");
        let mut bytes = std::fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = usize::try_from(random % used as u64).unwrap();
        bytes[at] ^= 1 << (random >> 61);
        std::fs::write(&file, &bytes).unwrap();
        let (store, recovery) =
            Store::open(directory.path()).unwrap_or_else(|error| panic!("round {round}, byte {at}: {error}"));
        let records = store.load().unwrap_or_else(|error| panic!("round {round}, byte {at}: {error}"));
        let told = recovery.map(|recovery| recovery.to_string());
        assert!(told.is_some() || !records.deliveries.is_empty(), "round {round}, byte {at}: lost without a word");
    }
}

/// Whatever became of its main file, the store opens: loudly with the last export, or with what is left and the word that
/// its end is gone. No id is given out again, and nothing is deleted.
#[tokio::test]
async fn a_database_without_its_file_or_its_end_is_noticed() {
    for kind in ["empty", "cut", "no file", "no directory"] {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = open(directory.path());
            count(&store, 1).await;
            store.back_up(Timestamp::UNIX_EPOCH).unwrap();
            for number in 2..=300 {
                count(&store, number).await;
            }
        }
        // Not every run has logs.
        for run in (3..=300).step_by(3) {
            std::fs::create_dir_all(directory.path().join(format!("logs/{run}"))).unwrap();
        }
        let database = directory.path().join("db");
        let file = database.join("db");
        match kind {
            "empty" => std::fs::write(&file, b"").unwrap(),
            "cut" => {
                let length = std::fs::metadata(&file).unwrap().len();
                std::fs::File::options().write(true).open(&file).unwrap().set_len(length / 2).unwrap();
            }
            "no file" => std::fs::remove_file(&file).unwrap(),
            _ => std::fs::remove_dir_all(&database).unwrap(),
        }
        let (store, recovery) = Store::open(directory.path()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let records = store.load().unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(records.last_run >= 1300, "{kind}: ids come again after {}", records.last_run);
        assert!(recovery.is_some() || kind == "cut", "{kind}: nobody was told");
        if let Some(recovery) = recovery {
            let said = recovery.to_string();
            assert!(said.contains("was damaged") && said.contains("records were imported"), "{kind}: {said}");
        }
        // It works, and opens again without a word.
        count(&store, records.last_run + 1).await;
        drop(store);
        assert_eq!(open(directory.path()).load().unwrap().last_run, records.last_run + 1, "{kind}");
    }
}

#[tokio::test]
async fn an_export_carries_everything() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(from.path());
    count(&store, 5).await;
    let large: Vec<u8> = (0..100_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    store.put("space", "large", &large).await.unwrap();
    store.put("space", "lost", b"x").await.unwrap();
    store.delete("space", "lost").await.unwrap();
    let path = from.path().join("all.ndjson");
    let exported = store.export(Timestamp::UNIX_EPOCH, &path).unwrap();
    let other = open(to.path());
    assert_eq!(other.import(&path).unwrap(), exported);
    assert_eq!(other.scan("space", "").unwrap(), [("large".to_owned(), large)]);
    assert_eq!(other.load().unwrap().last_run, 5);
    std::fs::write(&path, "{\"towline_export\":2,\"at\":\"2026-01-01T00:00:00Z\"}\n").unwrap();
    assert!(other.import(&path).unwrap_err().to_string().contains("newer towline"));
}

#[tokio::test]
async fn a_delivery_is_accepted_once_and_open_until_handled() {
    let store = Store::temporary().unwrap();
    let delivery = |id: &str| DeliveryRecord {
        number: 0,
        id: id.to_owned(),
        source: "github/o/r".to_owned(),
        event: "push".to_owned(),
        received_at: Timestamp::UNIX_EPOCH,
        headers: std::collections::BTreeMap::new(),
        body: serde_json::Value::Null,
        state: DeliveryState::Accepted,
        replay_of: None,
        trouble: None,
    };
    let body = serde_json::json!({"large": "x".repeat(50_000)});
    assert_eq!(store.accept(delivery("a"), &body).await.unwrap(), (1, None));
    assert_eq!(store.accept(delivery("b"), &1).await.unwrap(), (2, None));
    let (number, before) = store.accept(delivery("a"), &2).await.unwrap();
    assert_eq!((number, before.map(|before| before.number)), (1, Some(1)));
    let handled = DeliveryState::Handled { runs: vec![RunId(9)], note: String::new() };
    store.conclude_delivery(1, handled.clone()).await.unwrap();
    let open: Vec<u64> = store.open_deliveries().unwrap();
    assert_eq!(open, [2]);
    let stored = store.delivery(1).unwrap().unwrap();
    assert_eq!((stored.state, &stored.body), (handled, &body));
    assert_eq!(store.delivery_body(1).unwrap(), Some(body));
    assert!(store.deliveries(&DeliveryFilter::default(), 0, 2).unwrap().iter().all(|one| one.body.is_null()));
    let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1);
    assert_eq!(store.prune_deliveries(later).await.unwrap(), 1);
    assert_eq!(store.delivery_body::<serde_json::Value>(1).unwrap(), None);
    assert_eq!(store.delivery_body(2).unwrap(), Some(1));
}

#[tokio::test]
async fn a_delivery_of_an_older_version_has_its_body_in_its_record() {
    use base64::Engine as _;
    let store = Store::temporary().unwrap();
    let record = serde_json::json!({
        "number": 7, "id": "old", "source": "github/o/r", "event": "push", "received_at": "2026-01-01T00:00:00Z",
        "headers": {}, "body": {"a": [1]}, "state": "accepted", "replay_of": null,
    });
    let value = [&[0, 0, 0, 1, 1, b'j'][..], record.to_string().as_bytes()].concat();
    let bytes = base64::engine::general_purpose::STANDARD.encode(value);
    let line = serde_json::json!({"tree": "inbox", "key": format!("{:016x}{:08x}", 7, 0), "bytes": bytes});
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.ndjson");
    std::fs::write(&path, format!("{{\"towline_export\":1,\"at\":\"2026-01-01T00:00:00Z\"}}\n{line}\n")).unwrap();
    assert_eq!(store.import(&path).unwrap(), 1);
    for state in [DeliveryState::Accepted, DeliveryState::Failed { reason: "why".to_owned() }] {
        store.conclude_delivery(7, state.clone()).await.unwrap();
        let stored = store.delivery(7).unwrap().unwrap();
        assert_eq!((stored.state, &stored.body), (state, &record["body"]));
        assert_eq!(store.delivery_body::<serde_json::Value>(7).unwrap().as_ref(), Some(&record["body"]));
    }
}

#[test]
fn a_packed_log_reads_the_same_from_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let logs = store.logs();
    let log = LogId { run: RunId(3), attempt: 1, job: JobId(4) };
    assert!(logs.read(log, 0, 10).unwrap().is_empty());
    let text: Vec<u8> = (0..200_000).flat_map(|line| format!("line number {line}\n").into_bytes()).collect();
    std::fs::create_dir_all(logs.path(log).parent().unwrap()).unwrap();
    std::fs::write(logs.path(log), &text).unwrap();
    for packed in [false, true] {
        if packed {
            logs.pack(log).unwrap();
            assert!(!logs.path(log).exists());
        }
        assert_eq!(logs.length(log).unwrap(), text.len() as u64);
        for from in [0_usize, 1, 1 << 20, (1 << 20) + 1, 2_345_678, text.len() - 5, text.len()] {
            let end = text.len().min(from + 3_000_000);
            assert!(logs.read(log, from as u64, 3_000_000).unwrap() == text[from..end], "from {from}, packed {packed}");
        }
        for line in [0_u64, 1, 77_777, 199_999] {
            let at = logs.line_offset(log, line).unwrap();
            let wanted = format!("line number {line}\n");
            assert_eq!(logs.read(log, at, wanted.len() as u64).unwrap(), wanted.as_bytes());
        }
        assert_eq!(logs.line_offset(log, 500_000).unwrap(), text.len() as u64);
    }
    // The daemon ended before the end of the job was on record: the next one takes the log up as it is.
    for _ in 0..2 {
        drop(logs.open(log));
        assert!(std::fs::read(logs.path(log)).unwrap() == text);
        logs.close(log);
        logs.pack(log).unwrap();
        assert!(!logs.path(log).exists() && logs.length(log).unwrap() == text.len() as u64);
    }
    std::fs::write(logs.path(log), "").unwrap();
    logs.pack(log).unwrap();
    assert!(logs.read(log, 0, 3_000_000).unwrap() == text[..3_000_000], "a log is not replaced by nothing");
    logs.remove_run(RunId(3)).unwrap();
    assert!(logs.read(log, 0, 10).unwrap().is_empty());
}

#[tokio::test]
async fn what_has_outlived_its_time_goes_oldest_first() {
    use towline::engine::{Input, Settings};
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut engine = towline::engine::Engine::new(Settings::github());
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    // A workflow that is refused ends at once; the fourth waits for a host.
    for number in 1..=4_i64 {
        let text = if number < 4 { "on: push\njobs: {}\n" } else { crate::engine::WAITS };
        let input = Input::StartRun { key: None, held: false, spec: Box::new(crate::engine::spec(text)) };
        for effect in engine.step(at(number * 100), input) {
            if let towline::engine::Effect::Persist(changes) = effect {
                store.commit(&changes).await.unwrap();
            }
        }
        let log = LogId { run: RunId(number.unsigned_abs()), attempt: 1, job: JobId(1) };
        std::fs::create_dir_all(store.logs().path(log).parent().unwrap()).unwrap();
        std::fs::write(store.logs().path(log), vec![b'x'; 1000]).unwrap();
    }
    assert_eq!(store.ended_before(at(100), 10).unwrap(), []);
    assert_eq!(store.ended_before(at(250), 10).unwrap(), [RunId(1), RunId(2)]);
    assert_eq!(store.ended_before(at(9999), 10).unwrap(), [RunId(1), RunId(2), RunId(3)], "one that runs never goes");
    let sizes = || (1..=4).map(|run| store.logs().size(RunId(run))).collect::<Vec<_>>();
    assert_eq!(store.trim_logs(at(150), u64::MAX).unwrap(), 1);
    assert_eq!(sizes(), [0, 1000, 1000, 1000]);
    assert_eq!(store.trim_logs(at(0), 2500).unwrap(), 1);
    assert_eq!(sizes(), [0, 0, 1000, 1000]);
    assert_eq!(store.trim_logs(at(0), 0).unwrap(), 1);
    assert_eq!(sizes(), [0, 0, 0, 1000], "the log of a run that is not over stays");
    assert_eq!(store.last_backup(), None);
    store.back_up(at(1_000_000)).unwrap();
    assert_eq!(store.last_backup(), Some(at(1_000_000)));
}

/// What earlier versions wrote is read for ever: one file per format, made by the version that had it.
#[test]
fn exports_of_every_earlier_format_are_read() {
    use towline::engine::{Engine, Settings};
    use towline::run::{Conclusion, RunStatus};
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/export-1.ndjson");
    assert_eq!(store.import(&file).unwrap(), 39);
    let page = store.runs(&towline::store::RunFilter::default(), 0, 10).unwrap();
    let seen: Vec<_> = page.runs.iter().map(|run| (run.id.0, run.status, run.conclusion)).collect();
    assert_eq!(seen, [(2, RunStatus::Completed, Some(Conclusion::Success)), (1, RunStatus::InProgress, None)]);
    let jobs: Vec<_> = store.jobs(RunId(1), 1).unwrap().into_iter().map(|job| job.state).collect();
    assert_eq!(jobs.len(), 6);
    let built = jobs.iter().find(|job| job.name == "build").unwrap();
    assert_eq!((built.conclusion, built.outputs["name"].as_str()), (Some(Conclusion::Success), Some("towline")));
    assert_eq!(store.environments(&"local/app".into()).unwrap()[0].1.reviewers, ["grace"]);
    let waits = jobs.iter().find(|job| job.name == "waits").unwrap().id;
    let (engine, _) = Engine::restore(Timestamp::UNIX_EPOCH, Settings::github(), store.load().unwrap());
    assert_eq!(engine.waiting_jobs(), [waits], "what waited waits again");
    assert_eq!(engine.groups().count(), 1, "and holds what it held");
}

/// A run of a small world: what it is like follows from its number and from how often it changed.
fn listed(id: u64, turn: u64) -> RunRecord {
    let at = Timestamp::from_second(i64::try_from(id * 60).unwrap()).unwrap();
    let over = turn > 0;
    RunRecord {
        id: RunId(id),
        run_number: id,
        attempt: 1,
        repository: RepositoryName::from(["a/one", "a/two"][usize::from(id.is_multiple_of(3))]),
        workflow_path: format!(".github/workflows/{}.yml", ["ci", "deploy"][usize::from(id.is_multiple_of(4))]),
        workflow_name: "CI".into(),
        title: "a change".into(),
        event: "push".into(),
        git_ref: format!("refs/heads/{}", if id.is_multiple_of(5) { "feature" } else { "main" }),
        sha: format!("{id:040x}"),
        actor: "ada".into(),
        triggering_actor: "ada".into(),
        status: if over { RunStatus::Completed } else { RunStatus::Queued },
        held: false,
        conclusion: over.then_some(if (id + turn).is_multiple_of(2) {
            Conclusion::Failure
        } else {
            Conclusion::Success
        }),
        created_at: at,
        attempted_at: at,
        started_at: over.then_some(at),
        updated_at: at,
        completed_at: over.then_some(at),
        delivery: None,
        messages: Vec::new(),
        paused: false,
        claims: Vec::new(),
        reviews: Vec::new(),
    }
}

/// Lists remember what they found. Whatever is written, changed and deleted between two looks, they show what is there.
#[tokio::test]
async fn lists_follow_every_change() {
    let seed = std::env::var("TOWLINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x70_77_6c_69_u64);
    println!("TOWLINE_SEED={seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let store = Store::temporary().unwrap();
    let mut world: BTreeMap<u64, RunRecord> = BTreeMap::new();
    // More than the lists have marks for.
    let first: Vec<Change> = (1..=2500).map(|id| Change::Run(Box::new(listed(id, id % 3)))).collect();
    store.commit(&first).await.unwrap();
    world.extend((1..=2500).map(|id| (id, listed(id, id % 3))));
    let filters = [
        RunFilter::default(),
        RunFilter { repository: Some("A/Two".into()), ..RunFilter::default() },
        RunFilter { branch: Some("feature".into()), ..RunFilter::default() },
        RunFilter { status: Some(StatusFilter::Conclusion(Conclusion::Failure)), ..RunFilter::default() },
        RunFilter { status: Some(StatusFilter::Status(RunStatus::Queued)), ..RunFilter::default() },
        RunFilter {
            repository: Some("a/one".into()),
            workflow_path: Some(".github/workflows/deploy.yml".into()),
            ..RunFilter::default()
        },
        RunFilter { created_from: Timestamp::from_second(60 * 2000).ok(), ..RunFilter::default() },
    ];
    let mut next = 2501;
    for _ in 0..400 {
        match random(4) {
            0 => {
                let record = listed(next, random(3));
                store.commit(&[Change::Run(Box::new(record.clone()))]).await.unwrap();
                world.insert(next, record);
                next += 1;
            }
            1 => {
                let id = *world.keys().nth(usize::try_from(random(world.len() as u64)).unwrap()).unwrap();
                let record = listed(id, random(3));
                store.commit(&[Change::Run(Box::new(record.clone()))]).await.unwrap();
                world.insert(id, record);
            }
            2 if random(4) == 0 => {
                let id = *world.keys().nth(usize::try_from(random(world.len() as u64)).unwrap()).unwrap();
                store.commit(&[Change::DeleteRun { run: RunId(id) }]).await.unwrap();
                world.remove(&id);
            }
            _ => {}
        }
        let filter = &filters[usize::try_from(random(filters.len() as u64)).unwrap()];
        let skip = usize::try_from(if random(2) == 0 { random(60) } else { random(2600) }).unwrap();
        let limit = usize::try_from(1 + random(100)).unwrap();
        let page = store.runs(filter, skip, limit).unwrap();
        let wanted: Vec<&RunRecord> = world.values().rev().filter(|run| filter.matches(run)).collect();
        let expected: Vec<&RunRecord> = wanted.iter().skip(skip).take(limit).copied().collect();
        let plain = RunFilter { repository: None, ..filter.clone() } == RunFilter::default();
        let most = if plain { usize::MAX } else { MOST_NARROWED.max(skip + limit) };
        assert_eq!(page.total, wanted.len().min(most), "{filter:?}, {skip}, {limit}");
        assert_eq!(page.runs.iter().collect::<Vec<_>>(), expected, "{filter:?}, {skip}, {limit}");
    }
}
