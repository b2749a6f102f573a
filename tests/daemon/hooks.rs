//! Container hooks under a daemon: kill -9 finds a call again and starts none twice, cancels end with the hook's own work.

use std::time::Instant;

use super::{Lab, PATIENCE, numbered, pause, ssh_host};
use crate::support::hooks::Hook;
use crate::support::sshd::Sshd;

const JOB: &str = r#"
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    container: { image: some/image, options: wait }
    services: { db: { image: postgres } }
    steps:
      - run: for i in $(seq 1 30); do echo "line $i"; sleep 0.1; done
      - run: echo "in ${{ job.container.id }} beside ${{ job.services.db.id }}"
"#;

fn lab() -> Option<(Hook, Sshd)> {
    let hook = Hook::new();
    let server = Sshd::start_with(&format!("SetEnv {}", hook.variable()))?;
    Some((hook, server))
}

fn wait_for(lab: &Lab, name: &str, moment: &str) {
    while !lab.text(name, 1).contains(moment) {
        pause();
    }
}

#[test]
fn d5_kill_9_finds_the_calls_of_a_hook_again() {
    let Some((hook, server)) = lab() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    lab.push("local/hooked", JOB);
    wait_for(&lab, "local/hooked", "preparing");
    lab.kill();
    lab.start();
    std::fs::write(hook.path("go"), "").unwrap();
    for moment in ["line 3", "line 20"] {
        wait_for(&lab, "local/hooked", moment);
        lab.kill();
        lab.start();
    }
    assert_eq!(lab.conclusion("local/hooked", 1), "success", "{}", lab.log("local/hooked", 1));
    let log = lab.log("local/hooked", 1);
    assert_eq!(numbered(&log), (1..=30).collect::<Vec<_>>(), "{log}");
    assert!(log.contains("in job-1 beside db-1"), "{log}");
    assert_eq!(hook.commands(), ["prepare_job", "run_script_step", "run_script_step", "cleanup_job"], "{log}");
    let notes = hook.notes();
    assert!(notes[0]["state"].as_object().unwrap().is_empty() && notes[3]["state"]["mounts"][0].is_object(), "{log}");
}

#[test]
fn d5_a_cancelled_job_is_cleaned_up_by_its_hook() {
    let Some((hook, server)) = lab() else { return };
    std::fs::write(hook.path("go"), "").unwrap();
    let lab = Lab::new(&ssh_host(&server));
    lab.push("local/cancelled", &JOB.replace("seq 1 30", "seq 1 3000"));
    wait_for(&lab, "local/cancelled", "line 3");
    lab.say(&["run", "cancel", "1"], "");
    assert_eq!(lab.conclusion("local/cancelled", 1), "cancelled");
    let log = lab.log("local/cancelled", 1);
    assert!(log.contains("The operation was canceled.") && log.contains("cleaning up"), "{log}");
    assert_eq!(hook.commands(), ["prepare_job", "run_script_step", "cleanup_job"], "{log}");
}

#[test]
fn d5_a_job_that_is_forced_to_end_is_cleaned_up_too() {
    let Some((hook, server)) = lab() else { return };
    let lab = Lab::new(&ssh_host(&server));
    lab.push("local/forced", JOB);
    // Nobody lets it go.
    wait_for(&lab, "local/forced", "preparing");
    lab.say(&["run", "cancel", "--force", "1"], "");
    assert_eq!(lab.conclusion("local/forced", 1), "cancelled");
    // The run does not wait for it.
    let start = Instant::now();
    while hook.commands().len() < 2 && start.elapsed() < PATIENCE {
        pause();
    }
    assert_eq!(hook.commands(), ["prepare_job", "cleanup_job"], "{}", lab.said());
}
