//! Containers under a daemon: restarts find them again, cancels end them.

use super::{Lab, pause, ssh_host};
use crate::support::engine::Engine;
use crate::support::sshd::Sshd;

const JOB: &str = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    container: ubuntu:latest
    services:
      web: { image: "nginx:latest", options: --health-cmd "wget -q -O /dev/null http://127.0.0.1/" --health-interval 300ms }
    steps:
      - run: |
          echo "job ${{ job.container.id }}"
          for i in $(seq 1 30); do echo "line $i"; sleep 0.1; done
      - run: wget -q -O - http://web/ && echo "in ${{ job.container.id }}"
"#;

fn lab() -> Option<(&'static Engine, Sshd)> {
    let engine = Engine::get()?;
    let server = Sshd::start_with(&format!("SetEnv DOCKER_HOST={}", engine.address()))?;
    Some((engine, server))
}

#[test]
fn kill_9_finds_the_containers_again() {
    let Some((engine, server)) = lab() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    lab.push("local/contained", JOB);
    // In the middle of pulls, of starts, of health checks and of a step.
    for moment in ["Checking docker version", "Starting web service", "Starting job container", "line 3", "line 20"] {
        while !lab.text("local/contained", 1).contains(moment) {
            pause();
        }
        lab.kill();
        lab.start();
    }
    assert_eq!(lab.conclusion("local/contained", 1), "success", "{}", lab.log("local/contained", 1));
    let log = lab.log("local/contained", 1);
    assert_eq!(super::numbered(&log), (1..=30).collect::<Vec<_>>(), "{log}");
    for once in [
        "Starting web service container",
        "Starting job container",
        "network create --label",
        " create --name",
        "served",
    ] {
        let due = if once == " create --name" { 2 } else { 1 };
        assert_eq!(log.matches(once).count(), due, "{once}: {log}");
    }
    assert_eq!(engine.left(&server.path("home/.towline")), "", "{log}");
}

#[test]
fn a_cancelled_job_leaves_no_container() {
    let Some((engine, server)) = lab() else { return };
    let lab = Lab::new(&ssh_host(&server));
    lab.push("local/cancelled", &JOB.replace("seq 1 30", "seq 1 3000"));
    while !lab.text("local/cancelled", 1).contains("line 3") {
        pause();
    }
    lab.say(&["run", "cancel", "1"], "");
    assert_eq!(lab.conclusion("local/cancelled", 1), "cancelled");
    let log = lab.log("local/cancelled", 1);
    assert!(log.contains("The operation was canceled.") && log.contains("Stop and remove container:"), "{log}");
    assert_eq!(engine.left(&server.path("home/.towline")), "", "{log}");
}

#[test]
fn what_a_lost_job_left_is_swept_by_the_next() {
    let Some((engine, server)) = lab() else { return };
    let root = server.path("home/.towline");
    let label = format!("towline.root={}", root.display());
    let made = engine.docker(&[
        "run",
        "-d",
        "--label",
        &label,
        "--label",
        "towline.job=77-1-1",
        "busybox:stand-in",
        "sleep",
        "600",
    ]);
    assert!(made.0 && !engine.left(&root).is_empty(), "{}", made.1);
    let lab = Lab::new(&ssh_host(&server));
    lab.push(
        "local/next",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    container: ubuntu:latest\n    steps: [{run: 'true'}]\n",
    );
    assert_eq!(lab.conclusion("local/next", 1), "success");
    assert!(lab.log("local/next", 1).contains("of job 77-1-1"));
    assert_eq!(engine.left(&root), "");
}

/// The sweep leaves what belongs to a job that runs.
#[test]
fn jobs_with_containers_run_beside_each_other() {
    let Some((engine, server)) = lab() else { return };
    let lab = Lab::new(&ssh_host(&server));
    let meeting = lab.path("meeting");
    std::fs::create_dir(&meeting).unwrap();
    let workflow = format!(
        "on: push\njobs:\n  meet:\n    runs-on: ubuntu-latest\n    timeout-minutes: 2\n    strategy: {{matrix: {{leg: [1, 2]}}}}\n    \
         container: {{image: 'ubuntu:latest', volumes: ['{}:/meeting']}}\n    steps:\n      \
         - run: touch /meeting/${{{{ matrix.leg }}}}; until [ -e /meeting/1 ] && [ -e /meeting/2 ]; do sleep 0.1; done\n",
        meeting.display()
    );
    lab.push("local/meet", &workflow);
    assert_eq!(lab.conclusion("local/meet", 1), "success", "{}", lab.log("local/meet", 1));
    assert_eq!(engine.left(&server.path("home/.towline")), "");
}
