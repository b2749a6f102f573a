//! What a step over SSH costs, in ratios to what others need in the same run: real sshd on loopback, `ssh`, a plain exec over
//! russh, `act` and `wrkflw` where they are installed (`TOWLINE_ACT`, `TOWLINE_WRKFLW` name the programs).
//!
//! `cargo bench --bench ssh -- [step] [job] [throughput] [hosts]`; all of them when none is named.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its report")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "ssh/plain.rs"]
mod plain;
#[expect(dead_code, reason = "the fixture of the tests has more than a benchmark needs")]
#[path = "../tests/support/sshd.rs"]
mod sshd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use towline::transport::{HostEvent, HostEvents, HostJob, Hosts, JobSpec, Spool, StepFile, StepRequest, Target, Way};

use sshd::Sshd;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    if runs("step") {
        runtime.block_on(steps());
    }
    if runs("job") {
        jobs();
    }
    if runs("throughput") {
        runtime.block_on(throughput());
    }
    if runs("hosts") {
        runtime.block_on(many_hosts());
    }
}

/// A number from the environment.
fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The middle of several measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A line of the report: our time, theirs, the ratio that is asked for.
fn row(what: &str, ours: f64, peer: &str, theirs: f64, unit: &str, ratio: f64, wanted: &str) {
    println!(
        "{what:<38} {ours:>9.2} {unit:<5} {peer:<30} {theirs:>9.2} {unit:<5} ratio {ratio:>6.3} (wanted {wanted})"
    );
}

/// The client `ssh` of the machine, with its options for this server.
fn ssh(server: &Sshd, options: &[&str]) -> Command {
    let mut command = Command::new("ssh");
    let file = |name: &str| server.path(name).to_str().expect("text").to_owned();
    command
        .args(["-F", "none", "-p", &server.port().to_string(), "-i", &file("id"), "-o", "BatchMode=yes"])
        .args(["-o", &format!("UserKnownHostsFile={}", file("known_hosts"))])
        .args(options)
        .arg(format!("{}@127.0.0.1", sshd::user()))
        .stdin(Stdio::null());
    command
}

async fn open(hosts: &Hosts, target: &Target, key: &str) -> (HostJob, HostEvents) {
    let spec = JobSpec { key: key.to_owned(), nonce: JobSpec::new_nonce(), resume: None };
    hosts.open_job(target, spec).await.expect("the job opens")
}

/// A `run` step as a job sends it: a script of 2 KiB in a file, some environment, a time limit.
fn step(job: &HostJob, number: u32, script: &str) -> StepRequest {
    let path = format!("{}/script-{number}", job.dir());
    let mut env = vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())];
    env.extend((0..40).map(|one| (format!("GITHUB_VARIABLE_{one}"), format!("refs/heads/value-{one}"))));
    StepRequest {
        number,
        argv: vec!["sh".into(), path.clone()],
        env,
        cwd: "/".into(),
        files: vec![StepFile { path, content: script.into(), executable: false, temporary: true }],
        timeout: Some(Duration::from_secs(6 * 3600)),
        spool: Spool::Main,
        contained: None,
    }
}

async fn until_end(events: &mut HostEvents, number: u32, mut take: impl FnMut(&[u8])) -> i32 {
    loop {
        match events.next().await.expect("an event") {
            HostEvent::Output { bytes, .. } => take(&bytes),
            HostEvent::StepEnded(ended) if ended.number == number => return ended.exit.code(),
            HostEvent::Lost { reason, .. } => panic!("lost: {reason}"),
            _ => {}
        }
    }
}

/// One small step on a held connection, against `ssh` over a master connection and a plain exec channel.
async fn steps() {
    let Some(server) = Sshd::start() else { return };
    let (rounds, each) = (number("TOWLINE_BENCH_ROUNDS", 5), number("TOWLINE_BENCH_STEPS", 100));
    let socket = server.path("master").to_str().expect("text").to_owned();
    let mut master = ssh(&server, &["-M", "-S", &socket, "-N"]).spawn().expect("ssh runs");
    while !Path::new(&socket).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let plain = plain::Plain::connect(&server).await;
    let hosts = Hosts::new();
    let target = server.target("loopback");
    let (job, mut events) = open(&hosts, &target, "1-1-1").await;
    let filler = "# a comment of the script, as scripts have them\n".repeat(41);
    let script = format!("{filler}echo done\nexit 7\n");
    let mut next = 1;
    let (mut durable, mut mux, mut exec) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (mut ours, mut theirs, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        // By turns: what else the machine does meets all of them.
        for _ in 0..each {
            let begin = Instant::now();
            let status = ssh(&server, &["-S", &socket]).arg("true").status().expect("ssh runs");
            theirs.push(milliseconds(begin.elapsed()));
            assert!(status.success());
            let begin = Instant::now();
            plain.exec("true").await;
            floor.push(milliseconds(begin.elapsed()));
            let request = step(&job, next, &script);
            let begin = Instant::now();
            let (started, code) = tokio::join!(job.start_step(request), until_end(&mut events, next, |_| {}));
            ours.push(milliseconds(begin.elapsed()));
            started.expect("started");
            assert_eq!(code, 7);
            next += 1;
        }
        durable.push(median(ours));
        mux.push(median(theirs));
        exec.push(median(floor));
    }
    job.finish().await.expect("finished");
    let _ = master.kill();
    let _ = master.wait();
    let ratio = |others: &[f64]| median(durable.iter().zip(others).map(|(ours, theirs)| ours / theirs).collect());
    let (to_mux, to_exec) = (ratio(&mux), ratio(&exec));
    let ours = median(durable.clone());
    row("durable step, 2 KiB script, p50", ours, "ssh ControlMaster, true", median(mux), "ms", to_mux, "<= 0.30");
    row("durable step, 2 KiB script, p50", ours, "plain russh exec, true", median(exec), "ms", to_exec, "<= 0.90");
}

fn workflow(steps: usize, before: bool) -> String {
    let needs = if before { "    needs: before\n" } else { "" };
    let before = if before { "  before:\n    runs-on: ubuntu-latest\n    steps:\n      - run: \"true\"\n" } else { "" };
    let steps = "      - run: \"true\"\n".repeat(steps);
    // wrkflw reads no workflow without a name.
    format!("name: steps\non: push\njobs:\n{before}  many:\n    runs-on: ubuntu-latest\n{needs}    steps:\n{steps}")
}

/// A whole job of 50 trivial steps on a held connection: what it adds to a run that had a job on the host already.
fn jobs() {
    let Some(towline) = option_env!("CARGO_BIN_EXE_towline") else { return };
    let Some(server) = Sshd::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let place = home.path().join("project/.github/workflows");
    fs::create_dir_all(&place).expect("a directory");
    let project = home.path().join("project");
    let git = |arguments: &[&str]| {
        let status = Command::new("git").args(arguments).current_dir(&project).stdout(Stdio::null()).status();
        assert!(status.expect("git runs").success());
    };
    fs::write(place.join("one.yml"), workflow(1, true)).expect("written");
    fs::write(place.join("fifty.yml"), workflow(50, true)).expect("written");
    fs::write(place.join("plain1.yml"), workflow(1, false)).expect("written");
    fs::write(place.join("plain50.yml"), workflow(50, false)).expect("written");
    git(&["init", "-q", "."]);
    git(&["add", "."]);
    git(&["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "all"]);
    let known = fs::read_to_string(server.path("known_hosts")).expect("known");
    fs::create_dir_all(home.path().join(".ssh")).expect("a directory");
    fs::create_dir_all(home.path().join("config")).expect("a directory");
    fs::write(home.path().join("config/known_hosts"), &known).expect("written");
    fs::write(home.path().join(".ssh/known_hosts"), known).expect("written");
    let config = format!(
        "Host bench\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n",
        server.port(),
        sshd::user(),
        server.path("id").display()
    );
    fs::write(home.path().join(".ssh/config"), config).expect("written");
    let ours = |file: &str| -> f64 {
        let begin = Instant::now();
        let output = Command::new(towline)
            .args(["exec", file, "--host", "bench"])
            .current_dir(&project)
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path().join("config"))
            .stdin(Stdio::null())
            .output()
            .expect("towline runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
        milliseconds(begin.elapsed())
    };
    let peer = |program: &Path, arguments: &[&str], file: &str| -> Option<f64> {
        let begin = Instant::now();
        let status = Command::new(program)
            .args(arguments.iter().map(|argument| argument.replace("FILE", file)))
            .current_dir(&project)
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok()?;
        status.success().then(|| milliseconds(begin.elapsed()))
    };
    let act = program("TOWLINE_ACT", "act");
    let wrkflw = program("TOWLINE_WRKFLW", "wrkflw");
    let (mut held, mut steps, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    let (mut with_act, mut with_wrkflw) = (Vec::new(), Vec::new());
    for _ in 0..number("TOWLINE_BENCH_ROUNDS", 5) {
        let (one, fifty) = (ours(".github/workflows/one.yml"), ours(".github/workflows/fifty.yml"));
        let (plain_one, plain_fifty) = (ours(".github/workflows/plain1.yml"), ours(".github/workflows/plain50.yml"));
        steps.push((fifty - one) / 49.0);
        // The second job of a run finds its host connected and probed.
        held.push(fifty - plain_one);
        cold.push(plain_fifty);
        let arguments = ["push", "-P", "ubuntu-latest=-self-hosted", "-W", "FILE"];
        with_act.extend(act.as_deref().and_then(|act| peer(act, &arguments, ".github/workflows/plain50.yml")));
        let arguments = ["run", "--runtime", "emulation", "FILE"];
        with_wrkflw
            .extend(wrkflw.as_deref().and_then(|wrkflw| peer(wrkflw, &arguments, ".github/workflows/plain50.yml")));
    }
    println!(
        "one more step of a job: {:.2} ms; the whole command with its connection: {:.0} ms",
        median(steps),
        median(cold)
    );
    let held = median(held);
    for (name, times, wanted) in [("act, no SSH", with_act, 0.5), ("wrkflw emulation, no SSH", with_wrkflw, 1.2)] {
        if times.is_empty() {
            println!("skipped: {name} is not installed or does not run here");
            continue;
        }
        let theirs = median(times);
        row("job of 50 steps, held connection", held, name, theirs, "ms", held / theirs, &format!("<= {wanted}"));
    }
}

/// A program named by a variable, else found in `PATH`.
fn program(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path));
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|place| place.join(name)).find(|path| path.is_file())
}

/// The greatest resident size of this process so far, in MiB.
fn peak() -> f64 {
    status("VmHWM:") / 1024.0
}

fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// What a step prints, into a file, against `ssh host cat` into a file.
async fn throughput() {
    let Some(server) = Sshd::start() else { return };
    let size = number("TOWLINE_BENCH_MIB", 1024) << 20;
    let source = server.path("source");
    let text: String =
        (0..400_000).map(|line| format!("   Compiling some-crate-{line} v0.1.0 (/code/crates/{line})\n")).collect();
    let mut content = text.into_bytes();
    content.truncate(16 << 20);
    let mut file = fs::File::create(&source).expect("a file");
    for _ in 0..size.div_ceil(content.len()) {
        std::io::Write::write_all(&mut file, &content).expect("written");
    }
    let total = fs::metadata(&source).expect("there").len() as f64 / 1e6;
    let hosts = Hosts::new();
    let target = server.target("loopback");
    let source = source.to_str().expect("text").to_owned();
    let (mut ours, mut theirs, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..number("TOWLINE_BENCH_ROUNDS", 3) {
        let copy = fs::File::create(server.path("copy")).expect("a file");
        let begin = Instant::now();
        let status = ssh(&server, &["-c", "aes128-gcm@openssh.com"]).arg(format!("cat {source}")).stdout(copy).status();
        assert!(status.expect("ssh runs").success());
        theirs.push(total / begin.elapsed().as_secs_f64());
        for masked in [false, true] {
            let (job, mut events) = open(&hosts, &target, &format!("2-{round}-{}", u8::from(masked))).await;
            let mut log = fs::File::create(server.path("log")).expect("a file");
            let mut request = step(&job, 1, "");
            request.argv = vec!["cat".into(), source.clone()];
            let begin = Instant::now();
            job.start_step(request).await.expect("started");
            if masked {
                let mut stamped = plain::Stamped::new();
                until_end(&mut events, 1, |bytes| stamped.take(bytes, &mut log)).await;
                lines.push(total / begin.elapsed().as_secs_f64());
            } else {
                until_end(&mut events, 1, |bytes| std::io::Write::write_all(&mut log, bytes).expect("written")).await;
                ours.push(total / begin.elapsed().as_secs_f64());
                assert_eq!(fs::metadata(server.path("log")).expect("there").len() as f64 / 1e6, total);
            }
            job.finish().await.expect("finished");
        }
    }
    let ratio = |ours: &[f64]| median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
    let (raw, whole) = (ratio(&ours), ratio(&lines));
    let cat = median(theirs.clone());
    row("output to a file, raw", median(ours), "ssh host cat", cat, "MB/s", raw, ">= 0.8");
    row("output to a file, masked and stamped", median(lines), "ssh host cat", cat, "MB/s", whole, ">= 0.4");
    println!("greatest resident size of this process: {:.0} MiB (wanted below 60)", peak());
}

/// Many hosts at once, each with a job of its own.
async fn many_hosts() {
    let count = number("TOWLINE_BENCH_HOSTS", 200);
    let Some(server) = Sshd::start_with("PerSourceMaxStartups none") else { return };
    let hosts = Hosts::new();
    let before = status("VmRSS:");
    let begin = Instant::now();
    let mut jobs = Vec::new();
    for number in 0..count {
        let mut ssh = server.ssh();
        // One server stands for all of them: what differs in anything is another host to the pool.
        ssh.connect_timeout = Duration::from_secs(120) + Duration::from_millis(number as u64);
        let target = Target {
            name: format!("h{number}").as_str().into(),
            way: Way::Ssh(Box::new(ssh)),
            root: "~/.towline".into(),
        };
        let hosts = hosts.clone();
        jobs.push(tokio::spawn(async move {
            let key = format!("3-1-{number}");
            let opened = loop {
                let spec = JobSpec { key: key.clone(), nonce: JobSpec::new_nonce(), resume: None };
                match hosts.open_job(&target, spec).await {
                    Ok(opened) => break Ok(opened),
                    Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(200)).await,
                    Err(error) => break Err(error.to_string()),
                }
            };
            let (job, mut events) = opened?;
            job.start_step(step(&job, 1, "echo here\n")).await.map_err(|error| error.to_string())?;
            let code = until_end(&mut events, 1, |_| {}).await;
            Ok::<_, String>((code, job, events))
        }));
    }
    let mut held = Vec::new();
    let mut failed = Vec::new();
    for job in jobs {
        match job.await.expect("no panic") {
            Ok((0, job, events)) => held.push((job, events)),
            Ok((code, ..)) => failed.push(format!("exit code {code}")),
            Err(error) => failed.push(error),
        }
    }
    let took = begin.elapsed().as_secs_f64();
    let connections = plain::connections(server.port());
    let each = (status("VmRSS:") - before) / connections.max(1) as f64;
    println!(
        "{count} hosts, a job each: {} done, {} failed in {took:.1} s; {connections} connections, {each:.0} KiB each (wanted <= 150) {}",
        held.len(),
        failed.len(),
        failed.first().map_or("", String::as_str)
    );
    for (job, events) in held {
        drop(events);
        let _ = job.finish().await;
    }
}
