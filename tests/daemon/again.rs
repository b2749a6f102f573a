//! What a job that is picked up goes on with: what was decided, begun and over before a kill -9 stays so.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Lab, pause, ssh_host};
use crate::support::sshd::Sshd;

/// Waits until the job's log has a line.
fn wait_for(lab: &Lab, name: &str, line: &str) {
    while !lab.text(name, 1).contains(line) {
        assert!(
            lab.get(&format!("/api/v3/repos/{name}/actions/runs/1")).is_some_and(|run| run["conclusion"].is_null())
        );
        pause();
    }
}

/// How many files below a directory hold these bytes.
fn files_with(directory: &Path, bytes: &[u8]) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        found += match entry.file_type().unwrap() {
            kind if kind.is_dir() => files_with(&entry.path(), bytes),
            kind if kind.is_file() => {
                let content = std::fs::read(entry.path()).unwrap();
                usize::from(content.windows(bytes.len()).any(|part| part == bytes))
            }
            _ => 0,
        };
    }
    found
}

fn again(lab: &mut Lab) {
    lab.kill();
    lab.start();
}

#[test]
fn a_time_limit_that_has_passed_ends_nothing_that_began_behind_it() {
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    let gate = lab.path("gate");
    let workflow = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    timeout-minutes: 0.03\n    steps:\n      - run: exec sleep 1000\n      \
         - if: always()\n        run: echo \"it begins\"; until [ -e {} ]; do sleep 0.1; done; echo \"it ends\"\n",
        gate.display()
    );
    lab.push("local/late", &workflow);
    wait_for(&lab, "local/late", "Z it begins");
    again(&mut lab);
    while !lab.said().contains("picked up") {
        pause();
    }
    // Far behind the moment in which the job would be ended again.
    for _ in 0..50 {
        pause();
    }
    std::fs::write(&gate, "").unwrap();
    let conclusion = lab.conclusion("local/late", 1);
    let log = lab.log("local/late", 1);
    for once in ["exceeded the maximum execution time", "Z it begins", "Z it ends"] {
        assert_eq!(log.matches(once).count(), 1, "{once}: {log}");
    }
    let job = lab.job("local/late", 1, "a");
    assert_eq!((conclusion.as_str(), &job["conclusion"]), ("failure", &"timed_out".into()), "{job}");
    assert_eq!(job["steps"][2]["conclusion"], "success", "{job}");
}

#[test]
fn what_host_and_configuration_say_by_now_changes_no_job_that_runs() {
    let Some(mut server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    let gate = lab.path("gate");
    let workflow = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      \
         - run: echo \"it waits\"; until [ -e {} ]; do sleep 0.1; done\n      - run: test -f .github/workflows/ci.yml\n",
        gate.display()
    );
    lab.push("local/same", &workflow);
    wait_for(&lab, "local/same", "Z it waits");
    lab.kill();
    server.stop();
    let hook = lab.path("hook.sh");
    std::fs::write(&hook, "echo hooked\n").unwrap();
    let config = std::fs::read_to_string(server.path("sshd_config")).unwrap();
    let hooked = format!("SetEnv ACTIONS_RUNNER_HOOK_JOB_STARTED={} ", hook.display());
    std::fs::write(server.path("sshd_config"), config.replacen("SetEnv ", &hooked, 1)).unwrap();
    server.restart();
    let config = std::fs::read_to_string(lab.path("towline.toml")).unwrap();
    std::fs::write(lab.path("towline.toml"), format!("[actions]\ncheckout = \"node\"\n\n{config}")).unwrap();
    lab.start();
    std::fs::write(&gate, "").unwrap();
    assert_eq!(lab.conclusion("local/same", 1), "success", "{}", lab.log("local/same", 1));
    let log = lab.log("local/same", 1);
    assert!(!log.contains("hooked") && log.matches("Syncing repository").count() == 1, "{log}");
}

#[test]
fn a_checkout_that_the_host_has_begun_is_not_prepared_again() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let git = std::env::var("PATH").unwrap();
    let git = git.split(':').map(|place| Path::new(place).join("git")).find(|git| git.is_file()).unwrap();
    // The host's git takes its time over the checkout.
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' checkout '*)\n: >{0}/begun\nuntil [ -e {0}/gate ]; do sleep 0.1; done ;; esac\nexec {1} \"$@\"\n",
        place.display(),
        git.display(),
    );
    std::fs::write(place.join("git"), script).unwrap();
    std::fs::set_permissions(place.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("SetEnv PATH={}:{}", place.display(), std::env::var("PATH").unwrap());
    let Some(server) = Sshd::start_with(&path) else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    lab.push(
        "local/checked",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: test -f .github/workflows/ci.yml && echo \"it is here\"\n",
    );
    while !place.join("begun").exists() {
        pause();
    }
    again(&mut lab);
    while !lab.said().contains("picked up") {
        pause();
    }
    // Time enough to clear away what the checkout is at.
    for _ in 0..25 {
        pause();
    }
    std::fs::write(place.join("gate"), "").unwrap();
    assert_eq!(lab.conclusion("local/checked", 1), "success", "{}", lab.log("local/checked", 1));
    let log = lab.log("local/checked", 1);
    for once in ["Syncing repository", "Fetching the repository", "Z it is here"] {
        assert_eq!(log.matches(once).count(), 1, "{once}: {log}");
    }
}

#[test]
fn s14_a_cancel_ends_the_wait_for_a_step_whose_turn_never_came() {
    let Some(server) = Sshd::start() else { return };
    let lab = Lab::new(&ssh_host(&server));
    let mut workflow = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n".to_owned();
    for number in 1..=11 {
        workflow += &format!("      - {{id: s{number}, background: true, run: exec sleep 1000}}\n");
    }
    workflow += "      - wait: s11\n      - if: always()\n        run: echo \"it is over\"\n";
    lab.push("local/queue", &workflow);
    wait_for(&lab, "local/queue", "Waiting for background step(s)");
    lab.say(&["run", "cancel", "1"], "");
    assert_eq!(lab.conclusion("local/queue", 1), "cancelled", "{}", lab.log("local/queue", 1));
    assert!(lab.log("local/queue", 1).contains("Z it is over"), "{}", lab.log("local/queue", 1));
}

#[test]
fn a_secret_that_is_set_anew_stays_for_a_job_what_it_was_and_is_masked() {
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    let gate = lab.path("gate");
    lab.say(&["secret", "set", "WORD", "--global"], "first-value");
    let workflow = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    env: {{W: '${{{{ secrets.WORD }}}}'}}\n    steps:\n      \
         - run: echo \"it waits\"; until [ -e {} ]; do sleep 0.1; done; echo \"still $W\"\n      \
         - run: echo \"then $W or $(echo \"$W\" | rev)\"\n",
        gate.display()
    );
    lab.push("local/word", &workflow);
    wait_for(&lab, "local/word", "Z it waits");
    lab.say(&["secret", "set", "WORD", "--global"], "second-value");
    lab.kill();
    // The records of a job are sealed, this one too; what is no secret can be found there.
    let kept = lab.path("state");
    let holding = |text: &str| files_with(&kept, text.as_bytes());
    assert!(holding("local/word") > 0);
    assert_eq!((holding("first-value"), holding("second-value")), (0, 0));
    lab.start();
    std::fs::write(&gate, "").unwrap();
    assert_eq!(lab.conclusion("local/word", 1), "success", "{}", lab.log("local/word", 1));
    let log = lab.log("local/word", 1);
    assert!(log.contains("Z still ***\n") && log.contains("Z then *** or eulav-tsrif\n"), "{log}");
}
