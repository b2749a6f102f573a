//! A job that failed is held for somebody to look at it: its workspace, its slot, and what its steps left running.

use std::process::Command;

use serde_json::Value as Json;

use super::{Lab, ssh_host};
use crate::support::sshd::Sshd;

const WORKFLOW: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo evidence > found.txt\n      - run: exit 3\n      - if: always()\n        run: echo \"always runs\"\n";

impl Lab {
    fn only_job(&self, run: u64) -> Json {
        self.get(&format!("/api/v3/towline/runs/{run}")).unwrap()["jobs"][0].clone()
    }
}

/// What `sh` makes of a line.
fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_failed_job_is_held_until_it_is_released_also_over_a_restart() {
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    lab.push("local/held", WORKFLOW);
    assert_eq!(lab.conclusion("local/held", 1), "failure");
    let (held, said) = lab.try_say(&["job", "release", "1"], "");
    assert!(!held && said.contains("not held"), "{said}");

    lab.say(&["run", "rerun", "1", "--hold-on-failure=2h"], "");
    lab.eventually("the hold", |lab| lab.only_job(1)["held_until"].is_string());
    lab.kill();
    lab.start();
    let job = lab.only_job(1);
    assert_eq!((&job["state"], job["held_until"].is_string()), (&Json::from("running"), true), "{job}");
    let id = job["id"].to_string();

    // It is shown where people look, keeps its slot, and everybody may see the way to it.
    let view = lab.say(&["run", "view", "1"], "");
    assert!(view.contains("held until") && view.contains(&format!("towline job ssh {id}")), "{view}");
    let page = lab.body(&format!("/local/held/actions/runs/1/job/{id}")).unwrap();
    assert!(page.contains("for you to look at") && page.contains("Release"), "{page}");
    let used = |lab: &Lab| lab.get("/api/v3/towline/hosts").unwrap()["hosts"][0]["slots_used"].clone();
    lab.eventually("the host", |lab| used(lab) == 1);
    let way = lab.say(&["job", "ssh", &id], "");
    assert!(way.starts_with("ssh -t -p ") && way.trim_end().ends_with("-l'"), "{way}");
    // As a person would, but for the shell that waits for what is typed.
    let looked = shell(
        &way.trim_end()
            .replace("ssh -t", "ssh -oBatchMode=yes")
            .replace("exec \"${SHELL:-/bin/sh}\" -l", "cat found.txt"),
    );
    assert_eq!(looked, "evidence\n");

    assert!(lab.say(&["job", "release", &id], "").contains("goes on to its end"));
    assert_eq!(lab.conclusion("local/held", 1), "failure");
    let log = lab.log("local/held", 1);
    for once in ["##[warning]The job failed and is held until", "Cleaning up orphan processes"] {
        assert_eq!(log.matches(once).count(), 1, "{log}");
    }
    assert!(log.contains("always runs"), "{log}");
    lab.eventually("a free slot", |lab| used(lab) == 0);
}

#[test]
fn a_source_may_hold_what_fails_and_a_cancel_ends_it() {
    let mut lab = Lab::new("");
    lab.configure(&format!(
        "[[source]]\nname = \"local/held\"\npath = \"{}\"\nhold_on_failure = \"1h\"\n",
        lab.path("state/repositories/local/held.git").display()
    ));
    lab.kill();
    lab.start();
    lab.push("local/held", WORKFLOW);
    lab.eventually("the hold", |lab| {
        lab.get("/api/v3/towline/runs/1").is_some() && lab.only_job(1)["held_until"].is_string()
    });
    let way = lab.say(&["job", "ssh", "1"], "");
    assert!(way.starts_with("sh -c 'cd -- "), "{way}");
    lab.say(&["run", "cancel", "1"], "");
    lab.eventually("the end", |lab| lab.conclusion("local/held", 1) == "cancelled");
}

#[test]
fn exec_holds_a_failed_job_until_ctrl_c() {
    use std::io::{BufRead as _, BufReader};
    let lab = Lab::new("");
    let work = lab.path("work");
    std::fs::create_dir_all(work.join(".github/workflows")).unwrap();
    std::fs::write(work.join(".github/workflows/ci.yml"), WORKFLOW).unwrap();
    super::git(&work, &["init", "-q", "-b", "main"]);
    let mut command = lab.command();
    command.args(["exec", "ci", "--hold-on-failure=1h"]).current_dir(&work).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let held = lines.by_ref().find(|line| line.contains("Ctrl-C releases it")).expect("it says where to look");
    let path = held.split("look at ").nth(1).unwrap().split(" on ").next().unwrap();
    assert_eq!(std::fs::read_to_string(std::path::Path::new(path).join("found.txt")).unwrap(), "evidence\n");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:?}");
    assert!(rest.iter().any(|line| line.starts_with("failure in")), "{rest:?}");
}
