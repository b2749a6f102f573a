//! What a kill, or a host that is away for a moment, must not change of a job: why it ends, what it is told, and the time it has.

use super::{Lab, PATIENCE, pause, ssh_host};
use crate::support::sshd::Sshd;

/// Counts the lines of a log that end with this.
fn count(log: &str, line: &str) -> usize {
    log.lines().filter(|known| known.get(29..) == Some(line)).count()
}

fn place(log: &str, line: &str) -> Option<usize> {
    log.lines().position(|known| known.get(29..) == Some(line))
}

impl Lab {
    fn wait_for(&self, moment: &str) {
        let start = std::time::Instant::now();
        while !self.text("local/a", 1).lines().any(|line| line.get(29..) == Some(moment)) {
            assert!(start.elapsed() < PATIENCE, "{moment:?} never comes: {}\n{}", self.text("local/a", 1), self.said());
            pause();
        }
    }

    fn killed(&mut self) {
        self.kill();
        self.start();
    }
}

/// Steps that clean up have the time that a job has after its own, and a job is told once that its own is over.
#[test]
fn kill_9_behind_the_time_of_a_job_leaves_it_timed_out() {
    const JOB: &str = r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    timeout-minutes: 0.05
    steps:
      - { background: true, run: 'echo beside; exec sleep 600' }
      - run: echo slow; exec sleep 600
      - { if: always(), run: 'for i in $(seq 1 115); do echo "clean $i"; sleep 0.1; done' }
      - { if: always(), run: 'for i in $(seq 1 20); do echo "last $i"; sleep 0.1; done' }
      - run: echo never
"#;
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    lab.push("local/a", JOB);
    for moment in ["clean 2", "clean 110", "last 3"] {
        lab.wait_for(moment);
        lab.killed();
    }
    lab.conclusion("local/a", 1);
    let log = lab.log("local/a", 1);
    let jobs = lab.get("/api/v3/repos/local/a/actions/runs/1/jobs").unwrap();
    assert_eq!(jobs["jobs"][0]["conclusion"].as_str(), Some("timed_out"), "{log}");
    assert_eq!(log.matches("has exceeded the maximum execution time").count(), 1, "{log}");
    for (word, last) in [("clean", 115), ("last", 20)] {
        for number in 1..=last {
            assert_eq!(count(&log, &format!("{word} {number}")), 1, "{log}");
        }
    }
    assert_eq!(count(&log, "never"), 0, "{log}");
}

/// The line of the cancel stands where it came, whichever daemon reads what the step wrote before it.
#[test]
fn kill_9_behind_a_cancel_says_it_once_and_in_its_place() {
    const JOB: &str = r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - { background: true, run: 'echo "first beside"; trap "echo ends beside; exit 1" INT; while :; do sleep 0.1; done' }
      - run: |
          trap 'until [ -e GO ]; do sleep 0.1; done; exit 1' INT
          echo "first"
          while :; do sleep 0.1; done
      - { if: always(), run: 'for i in $(seq 1 20); do echo "clean $i"; sleep 0.1; done' }
"#;
    let mut lab = Lab::new("[[host]]\nname = \"here\"\nkind = \"local\"\n");
    let go = lab.path("go");
    lab.push("local/a", &JOB.replace("GO", go.to_str().unwrap()));
    lab.wait_for("first");
    lab.say(&["run", "cancel", "1"], "");
    lab.wait_for("##[error]The operation was canceled.");
    lab.killed();
    std::fs::write(&go, "").unwrap();
    lab.wait_for("clean 4");
    lab.killed();
    assert_eq!(lab.conclusion("local/a", 1), "cancelled");
    let log = lab.log("local/a", 1);
    // One of the step, one of the step beside it.
    assert_eq!(count(&log, "##[error]The operation was canceled."), 2, "{log}");
    assert!(place(&log, "first") < place(&log, "##[error]The operation was canceled."), "{log}");
    for number in 1..=20 {
        assert_eq!(count(&log, &format!("clean {number}")), 1, "{log}");
    }
}

/// What a job that is ended by force runs ends, also when the daemon that was told is not there any more.
#[test]
fn kill_9_behind_a_forced_cancel_ends_what_the_job_runs() {
    let Some(mut server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    let alive = lab.path("alive");
    let job = format!(
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo $$ >{}; trap '' INT TERM; while :; do sleep 0.1; done\n",
        alive.display()
    );
    lab.push("local/a", &job);
    let pid = || std::fs::read_to_string(&alive).ok().and_then(|text| text.trim().parse::<u32>().ok());
    lab.eventually("the step", |_| pid().is_some());
    let process = std::path::PathBuf::from(format!("/proc/{}", pid().unwrap()));
    // The host hears nothing of it from this daemon.
    server.stop();
    lab.say(&["run", "cancel", "--force", "1"], "");
    assert_eq!(lab.conclusion("local/a", 1), "cancelled");
    lab.kill();
    assert!(process.exists());
    server.restart();
    lab.start();
    lab.eventually("the end of the step", |_| !process.exists());
    let jobs = server.path("home/.towline/jobs");
    lab.eventually("the end of its directory", |_| std::fs::read_dir(&jobs).unwrap().next().is_none());
}

/// Actions reach the services from the first moment of a daemon on.
#[test]
fn kill_9_leaves_actions_the_way_to_the_services() {
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    let (ask, answer) = (lab.path("ask"), lab.path("answer"));
    let job = format!(
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          \
         at=${{GITHUB_API_URL#http://127.0.0.1:}}; port=${{at%%/*}}\n          echo \"port $port\"\n          \
         for round in 1 2 3 4 5 6; do\n            until [ -e {ask}$round ]; do sleep 0.05; done\n            \
         until (exec 3<>/dev/tcp/127.0.0.1/$port && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q 200 <&3) 2>/dev/null; do sleep 0.05; done\n            \
         : >{answer}$round\n          done\n",
        ask = ask.display(),
        answer = answer.display()
    );
    lab.push("local/a", &job);
    for round in 1..=6 {
        std::fs::write(lab.path(&format!("ask{round}")), "").unwrap();
        lab.eventually("an answer", |lab| lab.path(&format!("answer{round}")).exists());
        if round < 6 {
            lab.killed();
        }
    }
    assert_eq!(lab.conclusion("local/a", 1), "success", "{}", lab.log("local/a", 1));
}

/// The time of an action is one, whoever measures it.
#[test]
fn kill_9_gives_a_composite_action_no_time_anew() {
    const JOB: &str = r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - run: |
          mkdir made
          cat >made/action.yml <<'END'
          name: made
          runs:
            using: composite
            steps:
              - { shell: bash, run: 'echo first; exec sleep 600' }
              - { if: always(), shell: bash, run: 'echo second; sleep 4; echo "too late"' }
          END
      - { uses: ./made, timeout-minutes: 0.1 }
"#;
    let mut lab = Lab::new("[[host]]\nname = \"here\"\nkind = \"local\"\n");
    lab.push("local/a", JOB);
    lab.wait_for("first");
    lab.kill();
    let ended = || {
        let jobs = std::fs::read_dir(lab.path(".towline/jobs")).unwrap().next().unwrap().unwrap().path();
        let spool = std::fs::read(jobs.join("main.spool")).unwrap();
        String::from_utf8_lossy(&spool).contains(" 2 t ")
    };
    lab.eventually("the time to be over", |_| ended());
    lab.start();
    assert_eq!(lab.conclusion("local/a", 1), "failure");
    let log = lab.log("local/a", 1);
    assert_eq!(count(&log, "too late"), 0, "{log}");
}

/// A mask that one step asked for holds for what another wrote after it, whichever of the two is followed first.
#[test]
fn w8_kill_9_forgets_no_mask_of_a_step_that_runs() {
    let mut lab = Lab::new("[[host]]\nname = \"here\"\nkind = \"local\"\n");
    let (masked, said, go) = (lab.path("masked"), lab.path("said"), lab.path("go"));
    let job = format!(
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - background: true\n        run: |\n          \
         seq -f 'beside %012g' 1 200000\n          echo ::add-mask::hush-hush\n          echo masked\n          until [ -e {go} ]; do sleep 0.05; done\n      \
         - run: |\n          until [ -e {masked} ]; do sleep 0.05; done\n          echo 'the word is hush-hush'\n          touch {said}\n          \
         until [ -e {go} ]; do sleep 0.05; done\n",
        go = go.display(),
        masked = masked.display(),
        said = said.display()
    );
    lab.push("local/a", &job);
    let beside = lab.path("state/logs/1/1");
    let has = |lab: &Lab, text: &str| {
        let logs = std::fs::read_dir(&beside).into_iter().flatten().flatten();
        let _ = lab;
        logs.map(|log| std::fs::read(log.path()).unwrap_or_default())
            .any(|log| String::from_utf8_lossy(&log).contains(text))
    };
    lab.eventually("the mask", |lab| has(lab, "Z masked\n"));
    std::fs::write(&masked, "").unwrap();
    lab.eventually("the word", |lab| said.exists() && has(lab, "Z the word is ***\n"));
    lab.killed();
    std::fs::write(&go, "").unwrap();
    assert_eq!(lab.conclusion("local/a", 1), "success");
    let log = lab.log("local/a", 1);
    assert_eq!((count(&log, "the word is ***"), count(&log, "the word is hush-hush")), (1, 0));
}
