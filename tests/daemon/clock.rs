//! A clock that jumps under the daemon, by hours and both ways, as it does on a machine that learns the time late.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value as Json;
use towline::clock::Clock;

use super::{Lab, PATIENCE, numbered, pause, ssh_host};
use crate::support::sshd::Sshd;

/// The clock of a daemon: the machine's and so many seconds.
pub(super) struct Set {
    library: PathBuf,
    file: PathBuf,
}

impl Set {
    /// A clock that shows the machine's time; `None` where no clock can be set for one process alone.
    fn new(directory: &Path) -> Option<Self> {
        let wanted = std::process::Command::new("sh")
            .args(["-c", "ls /usr/lib/*/faketime/libfaketime.so.1 /usr/lib/faketime/libfaketime.so.1 2>/dev/null"])
            .output()
            .ok()?;
        let Some(library) = String::from_utf8_lossy(&wanted.stdout).lines().next().map(PathBuf::from) else {
            eprintln!("skipped: no faketime is installed");
            return None;
        };
        let clock = Self { library, file: directory.join("offset") };
        clock.set(0);
        Some(clock)
    }

    fn set(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            // What passed is not what the clock says.
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

impl Lab {
    fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "{what}: {}", self.said());
            pause();
        }
    }

    /// The runs of a repository that an event started.
    fn runs_of(&self, name: &str, event: &str) -> Vec<Json> {
        let runs = self.get(&format!("/api/v3/repos/{name}/actions/runs?event={event}&per_page=100"));
        runs.and_then(|runs| runs["workflow_runs"].as_array().cloned()).unwrap_or_default()
    }
}

const HOURS: i64 = 3600;

#[test]
fn a_clock_that_jumps_loses_repeats_and_ends_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let Some(clock) = Set::new(outside.path()) else { return };
    // A host whose clock is right: on this machine the steps would inherit what sets the daemon's, which does not outlive it well.
    let Some(server) = Sshd::start() else { return };
    // Twenty minutes past the hour: nothing is due by itself while this runs.
    let first = 1200 - Clock::System.now().as_second() % 3600;
    clock.set(first);
    let ops = outside.path().join("ops");
    std::fs::create_dir(&ops).unwrap();
    let hourly = "on:\n  schedule:\n    - cron: '0 * * * *'\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: 'true'}]\n";
    std::fs::write(ops.join("hourly.yml"), hourly).unwrap();
    let hosts = format!(
        "{}\n[[source]]\nname = \"ops\"\nkind = \"directory\"\npath = \"{}\"\n",
        ssh_host(&server).replace("slots = 2", "slots = 1"),
        ops.display()
    );
    let mut lab = Lab::on(&hosts, false, Some(clock));
    let gate = |number: u32| outside.path().join(format!("gate-{number}"));
    let counting = |number: u32| {
        format!(
            "      - timeout-minutes: 30\n        run: |\n          echo effect >> {gate}.effect\n          i={from}\n          \
             until [ -e {gate} ]; do i=$((i + 1)); echo \"line $i\"; sleep 0.05; done\n          echo $i > {gate}.count\n",
            gate = gate(number).display(),
            from = if number == 1 { "0".to_owned() } else { format!("$(cat {}.count)", gate(number - 1).display()) },
        )
    };
    let workflow = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    timeout-minutes: 60\n    steps:\n{}{}{}      - run: echo over\n",
        counting(1),
        counting(2),
        counting(3)
    );
    lab.push("local/long", &workflow);
    let printed = |lab: &Lab| numbered(&lab.text("local/long", 1)).len();
    lab.wait_until("the job does not begin", || printed(&lab) > 3);
    // Waits for the only slot.
    lab.push("local/next", "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: 'echo next'}]\n");
    let signs = std::cell::Cell::new(0);
    let jump = |lab: &Lab, hours: i64, minutes: i64| {
        lab.clock.as_ref().unwrap().set(first + hours * HOURS + minutes * 60);
        // Schedules are read again whenever their directory changes, not only once a minute.
        signs.set(signs.get() + 1);
        std::fs::write(ops.join("sign"), signs.get().to_string()).unwrap();
    };
    let goes_on = |lab: &Lab| {
        let before = printed(lab);
        lab.wait_until("the step prints nothing more", || printed(lab) > before + 10);
    };
    let next_step = |lab: &Lab, number: u32| {
        std::fs::write(gate(number), "").unwrap();
        lab.wait_until("the next step does not begin", || gate(number + 1).with_extension("effect").exists());
    };

    // Thirty hours on: of all that was missed, the last start is made good.
    jump(&lab, 30, 0);
    lab.wait_until("the schedule is not started", || lab.runs_of("local/ops", "schedule").len() == 1);
    goes_on(&lab);
    next_step(&lab, 1);
    // What is picked up again is not out of time either.
    lab.kill();
    lab.start();
    goes_on(&lab);
    // Thirty hours back from where it began, and what is due there is started as well.
    jump(&lab, -30, 0);
    goes_on(&lab);
    next_step(&lab, 2);
    jump(&lab, -30, 41);
    lab.wait_until("the schedule is not started any more", || lab.runs_of("local/ops", "schedule").len() > 1);
    lab.terminate();
    lab.start();
    goes_on(&lab);
    std::fs::write(gate(3), "").unwrap();

    assert_eq!(lab.conclusion("local/long", 1), "success", "{}\n{}", lab.log("local/long", 1), lab.said());
    let log = lab.log("local/long", 1);
    let count: u32 = std::fs::read_to_string(gate(3).with_extension("count")).unwrap().trim().parse().unwrap();
    assert_eq!(numbered(&log), (1..=count).collect::<Vec<_>>(), "{log}");
    for number in 1..=3 {
        assert_eq!(std::fs::read_to_string(gate(number).with_extension("effect")).unwrap(), "effect\n");
    }
    assert_eq!(lab.conclusion("local/next", 2), "success", "{}", lab.said());
    let runs = lab.runs_of("local/ops", "schedule");
    assert_eq!(runs.len(), 2, "{runs:?}");
    for run in runs {
        assert_eq!(lab.conclusion("local/ops", run["id"].as_u64().unwrap()), "success", "{}", lab.said());
    }
    let said = lab.said();
    for fault in ["panicked", "ERROR"] {
        assert!(!said.contains(fault), "{said}");
    }
    println!("{count} lines, four jumps, two restarts");
}
