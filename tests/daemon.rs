//! The daemon as a person runs it: a push starts jobs on a real SSH server, kill -9 and restarts lose nothing.

mod actions;
mod again;
mod away;
mod background;
mod bad_days;
mod clock;
mod containers;
mod held;
mod hooks;
mod hosts;
mod kills;
mod reload;
mod stops;
mod vault;
mod why;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::support::sshd::{self, Sshd};
use crate::support::towline;

/// Longer than anything here takes; reaching it is a failure, never a pass.
const PATIENCE: Duration = Duration::from_secs(300);

/// A daemon on a temporary state, and a repository that is pushed to.
struct Lab {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    address: String,
    /// Whether the state is on a small disk of the daemon's own.
    small: bool,
    /// The clock of the daemon and of all that it starts, where that is not the machine's.
    clock: Option<clock::Set>,
}

impl Lab {
    fn new(hosts: &str) -> Self {
        Self::on(hosts, false, None)
    }

    /// A daemon whose state is on a disk of 24 MB that only it sees; needs to be root.
    fn on_small_disk(hosts: &str) -> Self {
        Self::on(hosts, true, None)
    }

    fn on(hosts: &str, small: bool, clock: Option<clock::Set>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = sshd::free_port();
        let address = format!("127.0.0.1:{port}");
        let config = format!("[server]\nlisten = [\"{address}\"]\ntls = false\n\n{hosts}");
        std::fs::write(directory.path().join("towline.toml"), config).unwrap();
        let mut lab = Self { directory, daemon: None, address, small, clock };
        lab.start();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = towline();
        command
            .env("TOWLINE_CONFIG", self.path("towline.toml"))
            .env("TOWLINE_STATE", self.path("state"))
            .env("TOWLINE_RUNTIME", self.path("run"))
            .env("HOME", self.directory.path())
            .env("PATH", format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap()));
        command
    }

    /// Starts the daemon and waits until it says that it listens.
    fn start(&mut self) {
        let mut command = self.command();
        if self.small {
            let state = self.path("state");
            std::fs::create_dir_all(&state).unwrap();
            let mount = format!("mount -t tmpfs -o size=24m none {} && exec \"$0\" \"$@\"", state.display());
            let program = command.get_program().to_owned();
            let environment: Vec<_> =
                command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
            command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &mount]).arg(program);
            command.envs(environment.into_iter().filter_map(|(key, value)| Some((key, value?))));
        }
        if let Some(clock) = &self.clock {
            command.envs(clock.environment());
        }
        let mut child =
            command.args(["serve", "--open-on-loopback"]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(&format!("listening on http://{}", self.address)) {
            let before = said.len();
            lines.read_line(&mut said).unwrap();
            assert!(said.len() > before, "the daemon ended: {said}");
        }
        // What it says later must not fill the pipe.
        let mut file = std::fs::File::options().append(true).create(true).open(self.path("daemon.log")).unwrap();
        file.write_all(said.as_bytes()).unwrap();
        std::thread::spawn(move || std::io::copy(&mut lines, &mut file));
        self.daemon = Some(child);
    }

    /// What all daemons so far said on standard error.
    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("daemon.log")).unwrap_or_default()).into_owned()
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Runs a command with this on its standard input; it has to succeed. What it printed.
    fn say(&self, arguments: &[&str], input: &str) -> String {
        let (success, said) = self.try_say(arguments, input);
        assert!(success, "towline {arguments:?}: {said}");
        said
    }

    /// The same, whether or not it succeeds; with what it printed on standard error.
    fn try_say(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// A JSON answer of the API.
    fn get(&self, path: &str) -> Option<Json> {
        serde_json::from_str(&self.body(path)?).ok()
    }

    /// The body of an answer; `None` when nobody answers or the answer is not 200.
    fn body(&self, path: &str) -> Option<String> {
        let (status, body) = self.ask("GET", path)?;
        (status == 200).then_some(body)
    }

    /// The status and the body of an answer; `None` when nobody answers.
    fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: */*\r\n\r\n", self.address).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Adds a repository with one workflow and pushes it; what the pusher's terminal showed.
    fn push(&self, name: &str, workflow: &str) -> String {
        self.push_with(name, workflow, &[])
    }

    fn push_with(&self, name: &str, workflow: &str, options: &[&str]) -> String {
        let added = self.command().args(["repo", "add", name]).output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let work = self.path(&name.replace('/', "-"));
        std::fs::create_dir_all(work.join(".github/workflows")).unwrap();
        std::fs::write(work.join(".github/workflows/ci.yml"), workflow).unwrap();
        let bare = self.path("state").join("repositories").join(format!("{name}.git"));
        git(&work, &["init", "-q", "-b", "main"]);
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "First"]);
        git(&work, &[&["push", "-q"], options, &[bare.to_str().unwrap(), "main"]].concat())
    }

    /// Waits for the end of a run.
    fn conclusion(&self, name: &str, run: u64) -> String {
        let start = Instant::now();
        loop {
            let run = self.get(&format!("/api/v3/repos/{name}/actions/runs/{run}"));
            if let Some(word) = run.as_ref().and_then(|run| run["conclusion"].as_str()) {
                return word.to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "the run does not end: {run:?}");
            pause();
        }
    }

    /// What the log of the run's job holds so far.
    fn text(&self, name: &str, run: u64) -> String {
        let jobs = self.get(&format!("/api/v3/repos/{name}/actions/runs/{run}/jobs"));
        let job = jobs.as_ref().and_then(|jobs| jobs["jobs"][0]["id"].as_u64()).unwrap_or_default();
        let path = self.path("state").join("logs").join(run.to_string()).join(format!("1/{job}.log"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    fn log(&self, name: &str, run: u64) -> String {
        let jobs = self.get(&format!("/api/v3/repos/{name}/actions/runs/{run}/jobs")).unwrap();
        let job = jobs["jobs"][0]["id"].as_u64().unwrap();
        let path = format!("/api/v3/repos/{name}/actions/jobs/{job}/logs?follow=1");
        self.body(&path).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

/// A moment between two looks at the same thing: nothing is decided by how long it is.
fn pause() {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(20));
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {said}");
    said
}

fn ssh_host(server: &Sshd) -> String {
    format!(
        "[[host]]\nname = \"lab\"\naddress = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\nidentity = \"{}\"\nknown_hosts = \"{}\"\nslots = 2\n",
        server.port(),
        sshd::user(),
        server.path("id").display(),
        server.path("known_hosts").display(),
    )
}

/// A job that prints numbered lines slowly enough to be hit in the middle, and has one side effect.
fn counting(effect: &Path) -> String {
    format!(
        "on: push\njobs:\n  count:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          echo effect >> {effect}\n          \
         for i in $(seq 1 400); do echo \"line $i\"; [ $((i % 40)) -ne 0 ] || sleep 0.1; done\n      - run: echo \"done $GITHUB_RUN_ID\"\n",
        effect = effect.display()
    )
}

fn numbered(log: &str) -> Vec<u32> {
    let text =
        |line: &str| line.get(29..).unwrap_or_default().strip_prefix("line ").and_then(|number| number.parse().ok());
    log.lines().filter_map(text).collect()
}

#[test]
fn a_push_runs_over_ssh_and_is_served() {
    let Some(server) = Sshd::start() else { return };
    let lab = Lab::new(&ssh_host(&server));
    let workflow = "on: push\njobs:\n  hello:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: cat .github/workflows/ci.yml\n      - run: printf '## Done\\n\\n<b>42</b> <script>alert(1)</script>' >>\"$GITHUB_STEP_SUMMARY\"\n";
    let said = lab.push("local/hello", workflow);
    assert!(said.contains("remote:") && said.contains("/actions/runs/1"), "{said}");
    assert_eq!(lab.conclusion("local/hello", 1), "success");
    assert!(lab.log("local/hello", 1).contains("runs-on: ubuntu-latest"));
    let page = lab.body("/local/hello/actions/runs/1").expect("the run has a page");
    assert!(page.contains("hello") && page.contains("success"), "{page}");
    assert!(
        page.contains("Summary of hello") && page.contains("<h2>Done</h2>") && page.contains("<b>42</b>"),
        "{page}"
    );
    assert!(!page.contains("<script>alert"), "{page}");
}

#[test]
fn kill_9_at_random_moments_loses_and_repeats_nothing() {
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    let seed: u64 = std::env::var("TOWLINE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = std::process::id();
        u64::from(now) * 2_654_435_761
    });
    println!("seed {seed} (TOWLINE_SEED={seed} replays it)");
    let mut random = seed;
    let rounds = 20_u64;
    for round in 1..=rounds {
        let name = format!("local/count{round}");
        let effect = lab.path(&format!("effect-{round}"));
        lab.push(&name, &counting(&effect));
        // xorshift: anywhere from before the first line to the job's last steps.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let until = Instant::now() + Duration::from_millis(random % 1400);
        while Instant::now() < until {
            pause();
        }
        lab.kill();
        lab.start();
        let conclusion = lab.conclusion(&name, round);
        let context = || format!("round {round}, seed {seed}:\n{}\n{}", lab.log(&name, round), lab.said());
        assert_eq!(conclusion, "success", "{}", context());
        let log = lab.log(&name, round);
        assert_eq!(numbered(&log), (1..=400).collect::<Vec<_>>(), "round {round}, seed {seed}:\n{log}");
        assert_eq!(log.lines().filter(|line| line.ends_with(&format!("done {round}"))).count(), 1, "{log}");
        assert_eq!(std::fs::read_to_string(&effect).unwrap(), "effect\n", "round {round}, seed {seed}");
    }
}

/// The moment between a host that forgot its job and the record that the job has ended.
#[test]
fn kill_9_at_the_very_end_of_a_job_keeps_its_result() {
    let mut lab = Lab::new("[[host]]\nname = \"here\"\nkind = \"local\"\nslots = 12\n");
    let jobs = lab.path(".towline/jobs");
    for round in 1..=6 {
        let name = format!("local/end{round}");
        let effect = lab.path(&format!("effect-{round}"));
        let workflow = format!(
            "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    strategy: {{matrix: {{leg: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}}}}\n    \
             steps:\n      - run: echo ${{{{ matrix.leg }}}} >> {}\n",
            effect.display()
        );
        lab.push(&name, &workflow);
        let legs = || std::fs::read_to_string(&effect).unwrap_or_default().lines().count();
        let here = || std::fs::read_dir(&jobs).map_or(0, Iterator::count);
        let started = Instant::now();
        // Most of them are over then, some just so.
        while legs() < 12 || here() > 6 {
            assert!(started.elapsed() < PATIENCE, "the jobs do not end: {}", lab.said());
            std::thread::yield_now();
        }
        lab.kill();
        lab.start();
        assert_eq!(lab.conclusion(&name, round), "success", "round {round}:\n{}", lab.said());
        assert_eq!(legs(), 12, "round {round}");
        let jobs = lab.get(&format!("/api/v3/repos/{name}/actions/runs/{round}/jobs")).unwrap();
        for job in jobs["jobs"].as_array().unwrap() {
            let steps = job["steps"].as_array().unwrap();
            assert!(
                steps.len() == 3 && steps.iter().all(|step| step["conclusion"] == "success"),
                "round {round}: {job}"
            );
            let log = lab.body(&format!("/api/v3/repos/{name}/actions/jobs/{}/logs?follow=1", job["id"])).unwrap();
            assert!(log.contains("Cleaning up orphan processes"), "round {round}, {}:\n{log}", job["name"]);
        }
    }
}

#[test]
fn the_pusher_follows_lines_of_any_length_to_the_end() {
    let lab = Lab::new("");
    let said = lab.push_with(
        "local/long",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: head -c 300000 /dev/zero | tr '\\0' x; echo; echo after; exit 3\n",
        &["-o", "follow"],
    );
    let line = |text: &str| said.lines().any(|line| line.trim_end() == format!("remote: a | {text}"));
    assert!(line("after") && line("Error: Process completed with exit code 3."), "{}", &said[said.len() - 2000..]);
    assert!(said.matches('x').count() >= 300_000, "the long line is whole");
}

/// What a state that is gone left on a host is not in the way of the first job of the next.
#[test]
fn a_state_that_begins_anew_meets_nothing_of_the_old_one() {
    let mut lab = Lab::new("");
    let effect = lab.path("effect");
    let workflow =
        |script: &str| format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{{run: '{script}'}}]\n");
    lab.push("local/old", &workflow(&format!("echo >> {}; sleep 5", effect.display())));
    let started = Instant::now();
    while !effect.exists() {
        assert!(started.elapsed() < PATIENCE, "the job does not begin: {}", lab.said());
        pause();
    }
    lab.kill();
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    lab.start();
    lab.push("local/new", &workflow("echo anew"));
    assert_eq!(lab.conclusion("local/new", 1), "success", "{}", lab.said());
    assert!(lab.log("local/new", 1).contains(" anew"));
}

/// Only git's hook on this machine may tell of a push: over the network the route is not there.
#[test]
fn nobody_tells_of_a_push_over_the_network() {
    let lab = Lab::new("");
    lab.push("local/quiet", "on: workflow_dispatch\njobs:\n  a:\n    runs-on: x\n    steps: [{run: 'true'}]\n");
    let body = "{}";
    let mut stream = TcpStream::connect(&lab.address).unwrap();
    let head =
        format!("POST /api/v3/towline/push HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n", lab.address);
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.lines().next().unwrap_or_default().contains(" 404 "), "{answer}");
}

#[test]
fn a_workflow_that_github_refuses_fails_at_startup() {
    let lab = Lab::new("");
    let said = lab.push("local/broken", "on: push\njobs:\n  a:\n    runs-on: x\n    step: []\n");
    assert!(said.contains("remote:"), "{said}");
    assert_eq!(lab.conclusion("local/broken", 1), "startup_failure");
}

#[test]
fn the_demo_runs_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let output = towline().args(["demo", "--once"]).env("HOME", home.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("127.0.0.1:0/"), "{said}");
    for text in ["astraeus", "selene", "remote:", "/actions/runs/1", "Deploy", "success in"] {
        assert!(said.contains(text), "no '{text}' in:\n{said}");
    }
}

#[test]
fn a_configuration_with_faults_is_refused_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("towline.toml");
    std::fs::write(&file, "[server]\nlisen = []\n").unwrap();
    let output = towline().args(["serve", "--config"]).arg(&file).env("HOME", directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("listen") && said.contains("towline.toml:2"), "{said}");
}
