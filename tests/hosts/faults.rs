//! Bad days: links cut, servers gone, this process killed, at random moments from a seed. After each the log is whole, the side
//! effect happened once, the exit code is right and nothing is left.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use towline::transport::{Exit, HostEvent, Hosts, JobSpec, Resume, Target, TransportError};

use super::support::{block_on, sh};
use crate::support::sshd::{Sshd, kill};

/// Lines of one run; the producer is slow enough that a disturbance falls into it.
pub(super) const LINES: u32 = 200_000;
/// Names the file that tells the child process of a test what to do.
const CHILD: &str = "TOWLINE_TEST_FOLLOWER";

/// Small, repeatable, good enough to choose moments: splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub(super) fn seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
    let seed = number("TOWLINE_SEED", u64::try_from(now % 1_000_000_007).expect("small"));
    eprintln!("seed {seed} (TOWLINE_SEED={seed} repeats it)");
    seed
}

fn script(side: &str) -> String {
    format!(
        "echo once >>{side}; n=0; while [ $n -lt 20 ]; do seq $((n * {part} + 1)) $((n * {part} + {part})); n=$((n + 1)); sleep 0.05; \
         done; exit 7",
        part = LINES / 20
    )
}

pub(super) fn undisturbed() -> Vec<u8> {
    (1..=LINES).flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

/// What a daemon keeps of a job: the log, and in one small file the offset that belongs to it.
pub(super) struct Ledger {
    pub(super) directory: PathBuf,
}

impl Ledger {
    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Offset, length of the log, and the exit code once there is one.
    pub(super) fn state(&self) -> (u64, u64, Option<i32>) {
        let text = fs::read_to_string(self.directory.join("state")).unwrap_or_default();
        let mut words = text.split(' ').map(str::to_owned);
        let mut next = || words.next().and_then(|word| word.parse::<i64>().ok());
        let (offset, length) = (next().unwrap_or(0), next().unwrap_or(0));
        let code = next().and_then(|code| i32::try_from(code).ok());
        (offset.unsigned_abs(), length.unsigned_abs(), code)
    }

    fn store(&self, offset: u64, length: u64, code: Option<i32>) {
        let code = code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let new = self.directory.join("state.new");
        fs::write(&new, format!("{offset} {length} {code}")).expect("state");
        fs::rename(new, self.directory.join("state")).expect("state");
    }
}

/// Follows the job to the end of its step, from wherever the ledger says. What a daemon does after a restart.
async fn follow(target: &Target, nonce: &str, directory: &Path) {
    let ledger = Ledger { directory: directory.to_owned() };
    let (offset, mut length, code) = ledger.state();
    let mut log = fs::OpenOptions::new().create(true).append(true).open(ledger.log()).expect("a log");
    log.set_len(length).expect("what was written after the last state is forgotten");
    let hosts = Hosts::new();
    let spec = JobSpec {
        key: "9-1-1".to_owned(),
        nonce: nonce.to_owned(),
        resume: directory.join("opened").exists().then_some(Resume { offset, ended: 0 }),
    };
    let (job, mut events) = loop {
        match hosts.open_job(target, spec.clone()).await {
            Ok(opened) => break opened,
            Err(TransportError::Gone { .. }) if code.is_some() => return,
            Err(error @ TransportError::Gone { .. }) if directory.join("mortal").exists() => {
                return tell(directory, &error.to_string());
            }
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    };
    fs::write(directory.join("opened"), "").expect("noted");
    if code.is_some() {
        return job.finish().await.expect("finished");
    }
    let side = directory.join("side");
    job.start_step(sh(1, &script(side.to_str().expect("text")))).await.expect("started");
    loop {
        match events.next().await.expect("an event") {
            HostEvent::Output { bytes, offset, .. } => {
                log.write_all(&bytes).expect("log");
                length += bytes.len() as u64;
                ledger.store(offset, length, None);
            }
            HostEvent::StepEnded(ended) => {
                assert_eq!(ended.exit, Exit::Code(7));
                ledger.store(ended.offset, length, Some(7));
                job.finish().await.expect("finished");
                return;
            }
            HostEvent::Detached { reason } => tell(directory, &reason),
            HostEvent::Attached => tell(directory, "attached"),
            HostEvent::Lost { reason, host_died } => {
                assert!(host_died && directory.join("mortal").exists(), "lost: {reason}");
                return tell(directory, &reason);
            }
        }
    }
}

/// Notes what the follower was told of the link.
fn tell(directory: &Path, what: &str) {
    let mut told = fs::OpenOptions::new().create(true).append(true).open(directory.join("told")).expect("a file");
    writeln!(told, "{what}").expect("written");
}

/// Not a test by itself: the process that `disturb` kills. Without its file it has nothing to do.
#[test]
fn follower_process() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let directory = PathBuf::from(directory);
    let text = fs::read_to_string(directory.join("orders")).expect("orders");
    let lines: Vec<&str> = text.lines().collect();
    let target = super::support::target_from(&lines[1..]);
    block_on(follow(&target, lines[0], &directory));
}

/// Starts the process that follows; in a network namespace when one is named.
pub(super) fn start_follower(directory: &Path, namespace: Option<&str>) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mut command = match namespace {
        None => Command::new(program),
        Some(name) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{name}")).arg(program);
            command
        }
    };
    command
        .args(["--exact", "hosts::faults::follower_process", "--nocapture", "--test-threads=1"])
        .env(CHILD, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::OpenOptions::new().create(true).append(true).open(directory.join("errors")).expect("a file"))
        .spawn()
        .expect("started")
}

/// One job with disturbances, and what must be true after it.
fn disturb(random: &mut Random, sshd: Option<&mut Sshd>, expected: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let nonce = JobSpec::new_nonce();
    let mut sshd = sshd;
    let lines = super::support::target_lines(path, sshd.as_deref());
    fs::write(path.join("orders"), format!("{nonce}\n{}", lines.join("\n"))).expect("orders");
    let mut follower = start_follower(path, None);
    let mut story = Vec::new();
    let mut disturbances = 1 + random.below(4);
    let mut moment = std::time::Instant::now() + Duration::from_millis(random.below(900));
    let patience = std::time::Instant::now() + Duration::from_secs(25);
    loop {
        if let Some(status) = follower.try_wait().expect("a child") {
            let errors = fs::read_to_string(path.join("errors")).unwrap_or_default();
            assert!(status.success(), "{story:?}: {errors}");
            break;
        }
        if std::time::Instant::now() >= patience {
            let root = root_of(path, sshd.as_deref());
            let look = Command::new("sh")
                .args(["-c", "ls -lR --time-style=full-iso .; cat */*.sup */*.trouble; ps axo pid,ppid,sid,stat,args | grep -v grep | grep \"$PWD\""])
                .current_dir(root.join("jobs"))
                .output()
                .expect("sh runs");
            let errors = fs::read_to_string(path.join("errors")).unwrap_or_default();
            let state = fs::read_to_string(path.join("state")).unwrap_or_default();
            panic!("{story:?}: not done in time: {state}\n{errors}\n{}", String::from_utf8_lossy(&look.stdout));
        }
        if disturbances > 0 && std::time::Instant::now() >= moment {
            disturbances -= 1;
            moment = std::time::Instant::now() + Duration::from_millis(random.below(900));
            match (random.below(4), sshd.as_deref_mut()) {
                (0, Some(sshd)) => story.push(format!("{} sessions killed", sshd.kill_sessions())),
                (1, Some(sshd)) => {
                    sshd.stop();
                    let pause = random.below(400);
                    pause_for(Duration::from_millis(pause));
                    sshd.restart();
                    story.push(format!("server away for {pause} ms"));
                }
                (2, _) => {
                    kill("-STOP", follower.id());
                    let pause = random.below(400);
                    pause_for(Duration::from_millis(pause));
                    kill("-CONT", follower.id());
                    story.push(format!("follower stopped for {pause} ms"));
                }
                _ => {
                    follower.kill().expect("killed");
                    follower.wait().expect("ended");
                    follower = start_follower(path, None);
                    story.push("follower killed".to_owned());
                }
            }
        }
        pause_for(Duration::from_millis(5));
    }
    let ledger = Ledger { directory: path.to_owned() };
    let log = fs::read(ledger.log()).expect("a log");
    if log != expected {
        let at = log.iter().zip(expected).position(|(one, other)| one != other);
        panic!("{story:?}: {} bytes instead of {}, differing at {at:?}", log.len(), expected.len());
    }
    assert_eq!(ledger.state().2, Some(7), "{story:?}");
    assert_eq!(fs::read(path.join("side")).expect("a side effect"), b"once\n", "{story:?}");
    let root = root_of(path, sshd.as_deref());
    assert!(!root.join("jobs/9-1-1").exists(), "{story:?}: the job's directory is left");
}

fn root_of(directory: &Path, sshd: Option<&Sshd>) -> PathBuf {
    match sshd {
        Some(sshd) => sshd.path("home").join(".towline"),
        None => directory.join("root"),
    }
}

/// Waits for a moment that a seed chose: there is nothing to wait for instead.
pub(super) fn pause_for(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

fn disturbed_runs(over_ssh: bool, runs: u64) {
    let expected = undisturbed();
    let seed = seed();
    let workers = 4;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let expected = &expected;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_add(worker));
                let mut sshd = None;
                if over_ssh {
                    sshd = Sshd::start();
                    if sshd.is_none() {
                        return;
                    }
                }
                for _ in 0..runs.div_ceil(workers) {
                    disturb(&mut random, sshd.as_mut(), expected);
                }
            });
        }
    });
    eprintln!("{runs} disturbed runs of {LINES} lines, each with its log whole");
}

#[test]
fn disturbed_runs_over_ssh_lose_nothing() {
    disturbed_runs(true, number("TOWLINE_DISTURBED_RUNS", 40));
}

#[test]
fn disturbed_runs_on_this_machine_lose_nothing() {
    disturbed_runs(false, number("TOWLINE_DISTURBED_RUNS", 20));
}
