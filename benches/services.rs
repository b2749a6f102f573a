//! What actions cost, in ratios to what does the same without us in the same run: artifacts through the SSH forward to `scp`,
//! composite actions to plain steps, JavaScript actions to `node`, the built-in checkout to `git fetch && git checkout`.
//!
//! `cargo bench --bench services -- [artifacts] [composite] [javascript] [checkout]`; all of them when none is named.
//! `TOWLINE_BENCH_BYTES` is the size of the artifact. GitHub's client comes from npm, as for the tests.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its report")]

#[expect(dead_code, reason = "the fixture of the tests has more than a benchmark needs")]
#[path = "../tests/support/clients.rs"]
mod clients;
#[expect(dead_code, reason = "the fixture of the tests has more than a benchmark needs")]
#[path = "../tests/support/sshd.rs"]
mod sshd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use sshd::Sshd;

/// How often what is quick is measured; the middle counts.
const TIMES: usize = 5;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let measures: [(&str, fn()); 4] =
        [("composite", composite), ("javascript", javascript), ("checkout", checkout), ("artifacts", artifacts)];
    for (name, measure) in measures {
        if runs(name) {
            measure();
        }
    }
}

fn row(what: &str, ours: f64, peer: &str, theirs: f64, unit: &str, wanted: &str) {
    let ratio = ours / theirs;
    println!(
        "{what:<42} {ours:>9.1} {unit:<5} {peer:<30} {theirs:>9.1} {unit:<5} ratio {ratio:>6.3} (wanted {wanted})"
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A repository, and bare repositories of actions.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().expect("a directory") };
        fs::create_dir_all(desk.path("repo/.github/workflows")).expect("a directory");
        git(&desk.path("repo"), &["init", "-q", "-b", "main"]);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn action(&self, name: &str, files: &[(&str, &str)]) {
        let work = self.path("mirror").join(format!("{name}.git"));
        let from = self.path("work").join(name);
        fs::create_dir_all(&from).expect("a directory");
        git(&from, &["init", "-q", "-b", "main"]);
        for (path, text) in files {
            fs::write(from.join(path), text).expect("a file");
        }
        commit(&from);
        git(&from, &["tag", "v1"]);
        fs::create_dir_all(&work).expect("a directory");
        git(&work, &["init", "-q", "--bare", "-b", "main"]);
        git(&from, &["push", "-q", work.to_str().expect("text"), "main", "v1"]);
    }

    /// The program, to run a workflow of these steps.
    fn command(&self, steps: &str, arguments: &[String]) -> Command {
        let text = format!("on: push\njobs:\n  one:\n    runs-on: x\n    steps:\n{steps}");
        fs::write(self.path("repo/.github/workflows/w.yml"), text).expect("a file");
        commit(&self.path("repo"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
        command.current_dir(self.path("repo")).args(["exec", "w.yml", "--json"]).args(arguments);
        command.env("HOME", self.path("home")).env("TOWLINE_STATE", self.path("state"));
        if self.path("mirror").exists() {
            command.arg("--actions").arg(self.path("mirror"));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, steps: &str, arguments: &[String]) -> Json {
        let output = self.command(steps, arguments).output().expect("the program runs");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        last(&output.stdout)
    }
}

/// The object that the program prints at its end: of the only job.
fn last(stdout: &[u8]) -> Json {
    let text = String::from_utf8_lossy(stdout);
    let run: Json = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON");
    run["jobs"][0].clone()
}

fn number(value: &Json) -> f64 {
    value.as_f64().expect("a number")
}

fn git(directory: &Path, arguments: &[&str]) {
    let words = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "gc.auto=0"];
    let done = Command::new("git").current_dir(directory).args(words).args(arguments).status().expect("git runs");
    assert!(done.success(), "git {arguments:?}");
}

fn commit(directory: &Path) {
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-q", "--allow-empty", "-m", "change"]);
}

fn way(sshd: &Sshd) -> Vec<String> {
    let text = |name: &str| sshd.path(name).to_string_lossy().into_owned();
    let host = format!("{}@127.0.0.1:{}", sshd::user(), sshd.port());
    ["--host", &host, "--identity", &text("id"), "--known-hosts", &text("known_hosts")].map(str::to_owned).to_vec()
}

fn composite() {
    let desk = Desk::new();
    let inner = "    - { run: ':', shell: sh }\n".repeat(50);
    desk.action("o/fifty", &[("action.yml", &format!("runs:\n  using: composite\n  steps:\n{inner}"))]);
    let plain = "      - { run: ':', shell: sh }\n".repeat(50);
    let measure = |steps: &str| median((0..TIMES).map(|_| number(&desk.run(steps, &[])["duration_ms"])).collect());
    let (ours, theirs) = (measure("      - uses: o/fifty@v1\n"), measure(&plain));
    row("job of a composite action with 50 steps", ours, "job of 50 plain steps", theirs, "ms", "<= 1.2");
}

fn javascript() {
    let desk = Desk::new();
    desk.action("o/empty", &[("action.yml", "runs: { using: node20, main: main.js }\n"), ("main.js", "")]);
    let steps = "      - uses: o/empty@v1\n".repeat(TIMES);
    let job = desk.run(&steps, &[]);
    let ours =
        median(job["steps"].as_array().expect("steps").iter().map(|step| number(&step["duration_ms"])).collect());
    let script = desk.path("work/o/empty/main.js");
    let theirs = (0..TIMES).map(|_| {
        let began = Instant::now();
        assert!(Command::new("node").arg(&script).status().expect("node runs").success());
        milliseconds(began.elapsed())
    });
    let theirs = median(theirs.collect());
    row("step of an empty JavaScript action", ours, "node itself", theirs, "ms", "<= +30 ms");
    println!("{:<42} {:>9.1} ms", "  over node itself", ours - theirs);
}

fn checkout() {
    let desk = Desk::new();
    let repo = desk.path("repo");
    let file = |number: usize| repo.join(format!("d{}/f{number}", number % 50));
    for number in 0..5000 {
        fs::create_dir_all(file(number).parent().expect("a directory")).expect("a directory");
        fs::write(file(number), format!("{number}\n").repeat(50)).expect("a file");
    }
    commit(&repo);
    let branches: Vec<String> = (0..TIMES).map(|turn| format!("b{turn}")).collect();
    for (turn, branch) in branches.iter().enumerate() {
        git(&repo, &["checkout", "-q", "-b", branch, "main"]);
        for number in (turn..5000).step_by(100) {
            fs::write(file(number), format!("{turn}\n").repeat(50)).expect("a file");
        }
        commit(&repo);
    }
    git(&repo, &["checkout", "-q", "main"]);
    let mut steps = "      - uses: actions/checkout@v4\n".to_owned();
    for branch in &branches {
        steps.push_str(&format!("      - {{ uses: actions/checkout@v4, with: {{ ref: {branch} }} }}\n"));
    }
    let job = desk.run(&steps, &[]);
    let all: Vec<f64> =
        job["steps"].as_array().expect("steps").iter().map(|step| number(&step["duration_ms"])).collect();
    let ours = median(all[1..].to_vec());
    // The same between two directories of this machine, with what a checkout of the action runs.
    let clone = desk.path("clone");
    let url = format!("file://{}", repo.display());
    fs::create_dir(&clone).expect("a directory");
    git(&clone, &["init", "-q"]);
    git(&clone, &["remote", "add", "origin", &url]);
    let once = |branch: &str| {
        let began = Instant::now();
        let refspec = format!("+refs/heads/{branch}:refs/remotes/origin/{branch}");
        git(&clone, &["fetch", "-q", "--no-tags", "--depth=1", "origin", &refspec]);
        git(&clone, &["checkout", "-q", "--force", "-B", branch, &format!("refs/remotes/origin/{branch}")]);
        milliseconds(began.elapsed())
    };
    let cold = once("main");
    let theirs = median(branches.iter().map(|branch| once(branch)).collect());
    row("checkout of 5,000 files, warm", ours, "git fetch && git checkout", theirs, "ms", "<= 1.3");
    row("checkout of 5,000 files, cold", all[0], "git fetch && git checkout", cold, "ms", "-");
}

const TRANSFER: &str = r"
import fs from 'node:fs'; import path from 'node:path'; import { pathToFileURL } from 'node:url';
const { DefaultArtifactClient } = await import(pathToFileURL(process.env.INPUT_PACKAGES + '/node_modules/@actions/artifact/lib/artifact.js'));
const client = new DefaultArtifactClient(), file = process.env.INPUT_FILE;
let began = Date.now();
await client.uploadArtifact('large', [file], path.dirname(file), { compressionLevel: 0 });
console.log(`took: upload ${Date.now() - began}`);
const { artifact } = await client.getArtifact('large');
began = Date.now();
await client.downloadArtifact(artifact.id, { path: path.join(process.env.RUNNER_TEMP, 'back') });
console.log(`took: download ${Date.now() - began}`);
";

fn artifacts() {
    let Some(packages) = clients::toolkit() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let bytes: u64 = std::env::var("TOWLINE_BENCH_BYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(1 << 30);
    let desk = Desk::new();
    let manifest = "inputs: { packages: {}, file: {} }\nruns: { using: node20, main: main.mjs }\n";
    desk.action("o/transfer", &[("action.yml", manifest), ("main.mjs", TRANSFER)]);
    let file = desk.path("large");
    let made = Command::new("sh").arg("-c").arg(format!("head -c {bytes} /dev/urandom >'{}'", file.display())).status();
    assert!(made.expect("sh runs").success());
    let began = Instant::now();
    let copied = Command::new("scp")
        // Of the older kind: the server of the tests has no SFTP.
        .args(["-O", "-q", "-F", "none", "-P", &sshd.port().to_string(), "-i"])
        .arg(sshd.path("id"))
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", sshd.path("known_hosts").display()))
        .arg(&file)
        .arg(format!("{}@127.0.0.1:{}", sshd::user(), desk.path("copy").display()))
        .status();
    assert!(copied.expect("scp runs").success());
    let scp = bytes as f64 / began.elapsed().as_secs_f64() / 1e6;
    drop(fs::remove_file(desk.path("copy")));
    let steps = format!(
        "      - uses: o/transfer@v1\n        with: {{ packages: '{}', file: '{}' }}\n",
        packages.display(),
        file.display()
    );
    let child = desk.command(&steps, &way(&sshd)).spawn().expect("the program runs");
    let status = format!("/proc/{}/status", child.id());
    let (ended, watched) = std::sync::mpsc::channel::<()>();
    // The highest it ever was, as the kernel remembers it; gone with the process, so it is read while it runs.
    let watcher = std::thread::spawn(move || {
        let mut highest = 0;
        loop {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            highest = kilobytes.unwrap_or(0).max(highest);
            if watched.recv_timeout(Duration::from_millis(200)) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                return highest;
            }
        }
    });
    let output = child.wait_with_output().expect("it ends");
    drop(ended);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    for what in ["upload", "download"] {
        let took =
            log.lines().find_map(|line| line.split_once(&format!("took: {what} "))?.1.trim().parse::<f64>().ok());
        let ours = bytes as f64 / took.expect("it was said") / 1e3;
        row(&format!("{what} of an artifact"), ours, "scp", scp, "MB/s", ">= 0.6");
    }
    let highest = watcher.join().expect("it does not panic") as f64 / 1024.0;
    println!("{:<42} {highest:>9.1} MiB (wanted < 60)", "memory of the program");
}
