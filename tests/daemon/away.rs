//! Hosts that cannot be reached when a job is given to them, when the daemon starts anew, and those that restart.

use std::path::Path;

use super::{Lab, numbered, pause, ssh_host};
use crate::support::sshd::Sshd;

#[test]
fn a_host_that_is_away_when_the_daemon_starts_keeps_its_job() {
    let Some(mut server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    let steps = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n";
    let gate = lab.path("gate");
    let counts = format!(
        "{steps}      - run: for i in 1 2 3 4 5; do echo \"line $i\"; done; until [ -e {0} ]; do sleep 0.1; done; echo \"line 6\"; echo x >>{0}\n",
        gate.display()
    );
    lab.push("local/stays", &counts);
    while numbered(&lab.text("local/stays", 1)).len() < 5 {
        pause();
    }
    server.stop();
    // The daemon believes that the host is there. What is given to it comes back and waits.
    lab.push("local/waits", &format!("{steps}      - run: echo here\n"));
    while !lab.said().contains("job 2 started on lab") {
        pause();
    }
    lab.until("local/waits", 2, "a", "queued");
    lab.kill();
    lab.start();
    while !lab.said().contains("job 1 waits for its host") {
        pause();
    }
    std::fs::write(&gate, "").unwrap();
    server.restart();
    assert_eq!(lab.conclusion("local/stays", 1), "success", "{}", lab.log("local/stays", 1));
    assert_eq!(numbered(&lab.log("local/stays", 1)), (1..=6).collect::<Vec<_>>());
    assert_eq!(std::fs::read_to_string(&gate).unwrap(), "x\n");
    assert_eq!(lab.conclusion("local/waits", 2), "success", "{}", lab.log("local/waits", 2));
}

fn rewrite_boot(jobs: &Path) {
    for job in std::fs::read_dir(jobs).unwrap().flatten() {
        std::fs::write(job.path().join("boot"), "another\n").unwrap();
    }
}

#[test]
fn a_job_whose_host_restarts_before_its_first_step_runs_on_another() {
    let directory = tempfile::tempdir().unwrap();
    let (hook, gate, effect) =
        (directory.path().join("hook.sh"), directory.path().join("gate"), directory.path().join("effect"));
    let script = format!("echo \"it begins\"; : >{0}.is; until [ -e {0} ]; do sleep 0.1; done\n", gate.display());
    std::fs::write(&hook, script).unwrap();
    let hooked = format!("SetEnv ACTIONS_RUNNER_HOOK_JOB_STARTED={}", hook.display());
    let (Some(first), Some(second)) = (Sshd::start_with(&hooked), Sshd::start()) else { return };
    let hosts = |wanted: &[&Sshd]| -> String {
        let host = |(index, server): (usize, &&Sshd)| ssh_host(server).replace("\"lab\"", &format!("\"lab{index}\""));
        wanted.iter().enumerate().map(host).collect()
    };
    let mut lab = Lab::new(&hosts(&[&first]));
    let workflow = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo x >>{}\n      - run: echo \"on $RUNNER_NAME\"\n",
        effect.display()
    );
    lab.push("local/moves", &workflow);
    while !directory.path().join("gate.is").exists() {
        pause();
    }
    lab.kill();
    let config = std::fs::read_to_string(lab.path("towline.toml")).unwrap();
    std::fs::write(lab.path("towline.toml"), config.replace(&hosts(&[&first]), &hosts(&[&first, &second]))).unwrap();
    rewrite_boot(&first.path("home/.towline/jobs"));
    lab.start();
    assert_eq!(lab.conclusion("local/moves", 1), "success", "{} {}", lab.log("local/moves", 1), lab.said());
    std::fs::write(&gate, "").unwrap();
    let log = lab.log("local/moves", 1);
    assert!(log.contains("on lab1") && !log.contains("it begins"), "{log}");
    assert_eq!(std::fs::read_to_string(&effect).unwrap(), "x\n");
}
