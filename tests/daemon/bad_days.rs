//! Bad days: the daemon is killed and stopped again and again under load, its disk is full, another one wants its state.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Lab, PATIENCE, numbered, pause};

/// Longer than a storm takes on a busy machine.
const STORM: Duration = Duration::from_secs(540);

fn number(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

/// Many small jobs, each with one side effect and lines that take a moment.
fn storm(jobs: u32, effects: &Path) -> String {
    let legs: Vec<String> = (1..=jobs).map(|leg| leg.to_string()).collect();
    format!(
        "on: push\njobs:\n  m:\n    strategy:\n      fail-fast: false\n      matrix: {{n: [{}]}}\n    runs-on: ubuntu-latest\n    \
         outputs: {{last: '${{{{ steps.s.outputs.n }}}}'}}\n    steps:\n      - id: s\n        run: |\n          echo effect >> {}/${{{{ matrix.n }}}}\n          \
         for i in 1 2 3 4 5 6 7 8 9 10; do echo \"line $i\"; sleep 0.02; done\n          echo \"n=${{{{ matrix.n }}}}\" >> \"$GITHUB_OUTPUT\"\n      \
         - run: echo \"leg ${{{{ matrix.n }}}} of $GITHUB_RUN_ID, ${{{{ steps.s.outputs.n }}}}\"\n        if: ${{{{ matrix.n != 7 }}}}\n      \
         - run: exit 3\n        if: ${{{{ matrix.n == 5 }}}}\n",
        legs.join(", "),
        effects.display()
    )
}

/// Runs the storm and disturbs the daemon until the run is over, at least `cycles` times; then all is as if nothing had
/// happened. `down` takes the daemon down.
fn weather(name: &str, jobs: u32, cycles: u32, down: impl Fn(&mut Lab, u32)) {
    let root = tempfile::tempdir().unwrap();
    let host =
        format!("[[host]]\nname = \"here\"\nkind = \"local\"\nroot = \"{}\"\nslots = 6\n", root.path().display());
    let mut lab = Lab::new(&host);
    let effects = lab.path("effects");
    std::fs::create_dir(&effects).unwrap();
    lab.push(name, &storm(jobs, &effects));
    let begin = Instant::now();
    let path = format!("/api/v3/repos/{name}/actions/runs/1");
    let (mut cycle, mut attempts) = (0, 1);
    loop {
        let run = lab.get(&path).expect("the daemon answers");
        if run["status"] == "completed" {
            // The leg that fails and the one that skips a step do so each time.
            assert_eq!(run["conclusion"], "failure", "{run}");
            if cycle >= cycles {
                break;
            }
            lab.say(&["run", "rerun", "1"], "");
            attempts += 1;
        }
        assert!(begin.elapsed() < STORM, "after {cycle} cycles: {run}");
        if cycle < cycles {
            down(&mut lab, cycle);
            lab.start();
            cycle += 1;
        } else {
            pause();
        }
    }
    for leg in 1..=jobs {
        let effect = std::fs::read_to_string(effects.join(leg.to_string())).unwrap();
        assert_eq!(effect, "effect\n".repeat(attempts), "leg {leg} ran as often as it was asked to");
    }
    for attempt in 1..=attempts {
        let mut jobs_of = Vec::new();
        for page in 1..=3 {
            let path = format!("{path}/attempts/{attempt}/jobs?per_page=100&page={page}");
            jobs_of.extend(lab.get(&path).unwrap()["jobs"].as_array().unwrap().clone());
        }
        assert_eq!(jobs_of.len(), jobs as usize);
        for job in jobs_of {
            let leg = job["name"].as_str().unwrap().trim_start_matches("m (").trim_end_matches(')').to_owned();
            let expected = if leg == "5" { "failure" } else { "success" };
            assert_eq!(job["conclusion"], expected, "{job}");
            let log = lab.body(&format!("/api/v3/repos/{name}/actions/jobs/{}/logs?follow=1", job["id"])).unwrap();
            assert_eq!(numbered(&log), (1..=10).collect::<Vec<_>>(), "leg {leg}, attempt {attempt}:\n{log}");
            let said = log.lines().filter(|line| line.ends_with(&format!("leg {leg} of 1, {leg}"))).count();
            assert_eq!(said, usize::from(leg != "7"), "{log}");
        }
    }
    println!("{name}: {cycle} cycles, {attempts} attempts of {jobs} jobs, nothing lost, nothing twice");
}

/// A hundred by default; `TOWLINE_KILLS` sets another number.
#[test]
fn kill_9_again_and_again_under_load() {
    let mut random = u64::from(std::process::id());
    let moments: Vec<u64> = (0..number("TOWLINE_KILLS", 80))
        .map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % 250
        })
        .collect();
    let cycles = u32::try_from(moments.len()).unwrap();
    weather("local/kills", 40, cycles, |lab, cycle| {
        let until = Instant::now() + Duration::from_millis(moments[cycle as usize]);
        while Instant::now() < until {
            pause();
        }
        lab.kill();
    });
}

#[test]
fn fifty_stops_and_starts_during_a_matrix_of_200_jobs_change_nothing() {
    weather("local/stops", 200, number("TOWLINE_STOPS", 50), |lab, _| lab.terminate());
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let lab = Lab::new("");
    let output = lab.command().args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is used by another towline (process"), "{said}");
    assert!(lab.body("/healthz").is_some(), "the first one goes on");
}

impl Lab {
    /// Asks the daemon to stop, and waits until it has.
    pub(super) fn terminate(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let killed = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
            assert!(killed.success());
            assert_eq!(daemon.wait().unwrap().code(), Some(0));
        }
    }

    /// Where the daemon's own disk is seen from outside of its mount namespace.
    fn disk(&self) -> std::path::PathBuf {
        let daemon = self.daemon.as_ref().unwrap().id();
        Path::new(&format!("/proc/{daemon}/root")).join(self.path("state").strip_prefix("/").unwrap())
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_and_recovers_by_itself() {
    let may = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let (bare, gate) = (outside.path().join("bare.git"), outside.path().join("gate"));
    let work = outside.path().join("work");
    std::fs::create_dir_all(work.join(".github/workflows")).unwrap();
    let workflow = format!(
        "on: workflow_dispatch\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          i=0\n          \
         until [ -e {0} ]; do i=$((i + 1)); echo \"line $i\"; sleep 0.05; done\n          echo $i > {0}.count\n      - run: echo over\n",
        gate.display()
    );
    std::fs::write(work.join(".github/workflows/ci.yml"), workflow).unwrap();
    super::git(&work, &["init", "-q", "-b", "main"]);
    super::git(&work, &["add", "-A"]);
    super::git(&work, &["commit", "-q", "-m", "First"]);
    super::git(outside.path(), &["clone", "-q", "--bare", work.to_str().unwrap(), bare.to_str().unwrap()]);
    let lab = Lab::on_small_disk(&format!(
        "[[host]]\nname = \"here\"\nkind = \"local\"\nroot = \"{}\"\n\n[[source]]\nname = \"local/full\"\nkind = \"git\"\npath = \"{}\"\n",
        outside.path().join("root").display(),
        bare.display()
    ));
    let start = |lab: &Lab| lab.ask("PUT", "/api/v3/repos/local/full/actions/workflows/ci.yml/enable").unwrap();
    lab.say(&["workflow", "run", "ci.yml"], "");
    let log = "/api/v3/repos/local/full/actions/jobs/1/logs";
    let begin = Instant::now();
    let printed = || std::fs::read_to_string(lab.disk().join("logs/1/1/1.log")).unwrap_or_default();
    while !printed().contains("line 3") {
        assert!(begin.elapsed() < PATIENCE);
        pause();
    }
    for round in 1..=2 {
        // Full to the last byte, while the job prints.
        let filler = lab.disk().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        drop(file);
        let (status, said) = lab.ask("GET", "/readyz").unwrap();
        assert!(status == 503 && said.contains("is full"), "{status} {said}");
        let (status, said) = start(&lab);
        assert!(status == 507 && said.contains("nothing new is accepted"), "{status} {said}");
        assert_eq!(lab.ask("GET", "/healthz").unwrap().0, 200);
        for _ in 0..20 {
            pause();
        }
        std::fs::remove_file(&filler).unwrap();
        let begin = Instant::now();
        while lab.ask("GET", "/readyz").unwrap().0 != 200 {
            assert!(begin.elapsed() < PATIENCE);
            pause();
        }
        assert_eq!(start(&lab).0, 204, "round {round}");
    }
    std::fs::write(&gate, "").unwrap();
    assert_eq!(lab.conclusion("local/full", 1), "success");
    let count: u32 = std::fs::read_to_string(outside.path().join("gate.count")).unwrap().trim().parse().unwrap();
    let log = lab.body(&format!("{log}?follow=1")).unwrap();
    assert_eq!(numbered(&log), (1..=count).collect::<Vec<_>>(), "every line once");
}
