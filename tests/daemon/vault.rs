//! Secrets, variables and environments from the command line to the job.

use super::Lab;

const WORKFLOW: &str = r#"on: push
jobs:
  plain:
    runs-on: ubuntu-latest
    steps:
      - env:
          TOKEN: ${{ secrets.TOKEN }}
          ONLY: ${{ secrets.ONLY }}
        run: |
          echo "region ${{ vars.REGION }}, token $TOKEN, only '$ONLY'"
          [ "$TOKEN" = of-the-repository ] && echo "the token is right"
  deploy:
    runs-on: ubuntu-latest
    environment: production
    steps:
      - env:
          TOKEN: ${{ secrets.token }}
        run: |
          echo "region ${{ vars.REGION }}"
          [ "$TOKEN" = of-the-environment ] && echo "the token is right"
"#;

impl Lab {
    pub(super) fn job(&self, name: &str, run: u64, job: &str) -> serde_json::Value {
        let jobs = self.get(&format!("/api/v3/repos/{name}/actions/runs/{run}/jobs")).unwrap();
        jobs["jobs"].as_array().unwrap().iter().find(|one| one["name"] == job).unwrap().clone()
    }

    pub(super) fn log_of(&self, name: &str, run: u64, job: &str) -> String {
        let id = &self.job(name, run, job)["id"];
        self.body(&format!("/api/v3/repos/{name}/actions/jobs/{id}/logs?follow=1")).unwrap()
    }

    pub(super) fn until(&self, name: &str, run: u64, job: &str, state: &str) {
        let start = std::time::Instant::now();
        loop {
            let now = self.job(name, run, job);
            if now["status"] == state {
                return;
            }
            assert!(start.elapsed() < super::PATIENCE, "{job} does not become {state}: {now}");
            super::pause();
        }
    }
}

#[test]
fn an_environment_with_reviewers_waits_for_approval_and_gives_its_own_values() {
    let lab = Lab::new("");
    lab.say(&["secret", "set", "TOKEN", "--global"], "of-all\n");
    lab.say(&["secret", "set", "token", "-R", "local/vault"], "of-the-repository\n");
    lab.say(&["secret", "set", "TOKEN", "-R", "local/vault", "--env", "Production"], "of-the-environment\n");
    let file = lab.path("value");
    std::fs::write(&file, "north").unwrap();
    lab.say(&["variable", "set", "REGION", "--global", "--body-file", file.to_str().unwrap()], "");
    lab.say(&["variable", "set", "REGION", "-R", "local/vault", "-e", "production", "-b", "south"], "");
    lab.say(&["environment", "set", "production", "-R", "local/vault", "--reviewer", "grace", "--branch", "main"], "");

    assert_eq!(lab.say(&["variable", "get", "region", "--global"], ""), "north\n");
    let listed = lab.say(&["secret", "list", "-R", "local/vault"], "");
    assert!(listed.contains("TOKEN") && !listed.contains("of-the"), "{listed}");
    let listed = lab.say(&["environment", "list", "-R", "local/vault"], "");
    assert!(listed.contains("production") && listed.contains("grace") && listed.contains("main"), "{listed}");
    let (success, said) = lab.try_say(&["secret", "set", "GITHUB_X", "--global"], "x");
    assert!(!success && said.contains("valid name"), "{said}");
    let (success, said) = lab.try_say(&["secret", "delete", "NONE", "--global"], "");
    assert!(!success && said.contains("no secret NONE"), "{said}");

    lab.push("local/vault", WORKFLOW);
    lab.until("local/vault", 1, "plain", "completed");
    let log = lab.log_of("local/vault", 1, "plain");
    assert!(log.contains("region north, token ***, only ''") && log.contains("the token is right"), "{log}");
    lab.until("local/vault", 1, "deploy", "waiting");
    let id = lab.job("local/vault", 1, "deploy")["id"].to_string();
    let why = lab.get(&format!("/api/v3/towline/jobs/{id}/why")).unwrap().to_string();
    assert!(why.contains("the environment production needs the approval of one of grace"), "{why}");
    let said = lab.say(&["run", "approve", "1", "--env", "PRODUCTION", "--comment", "go"], "");
    assert!(said.contains("production approved"), "{said}");
    assert_eq!(lab.conclusion("local/vault", 1), "success");
    let log = lab.log_of("local/vault", 1, "deploy");
    assert!(log.contains("region south") && log.contains("the token is right"), "{log}");

    // A wait timer that will not end in this test, a refusal, and a branch that may not deploy.
    lab.say(&["environment", "set", "production", "-R", "local/vault", "--reviewer", "grace"], "");
    lab.say(&["run", "rerun", "1"], "");
    lab.until("local/vault", 1, "deploy", "waiting");
    lab.say(&["run", "reject", "1"], "");
    assert_eq!(lab.conclusion("local/vault", 1), "failure");
    lab.say(&["environment", "set", "production", "-R", "local/vault", "--branch", "releases/*"], "");
    lab.say(&["run", "rerun", "1"], "");
    assert_eq!(lab.conclusion("local/vault", 1), "failure");
    let said = lab.say(&["run", "view", "1"], "");
    assert!(said.contains("is not allowed to deploy to production"), "{said}");
    lab.say(&["environment", "set", "production", "-R", "local/vault", "--wait", "30"], "");
    lab.say(&["run", "rerun", "1"], "");
    lab.until("local/vault", 1, "deploy", "waiting");
    lab.say(&["environment", "delete", "production", "-R", "local/vault"], "");
    assert_eq!(lab.conclusion("local/vault", 1), "success");
}

#[test]
fn values_survive_rotations_of_the_key_and_a_move_of_the_state() {
    let mut lab = Lab::new("");
    lab.say(&["secret", "set", "A", "--global"], "first");
    let key = std::fs::read(lab.path("state/master.key")).unwrap();
    for _ in 0..2 {
        let said = lab.say(&["secret", "rotate-key"], "");
        assert!(said.contains("sealed under a new master key"), "{said}");
    }
    assert_ne!(std::fs::read(lab.path("state/master.key")).unwrap(), key);
    std::fs::remove_file(lab.path("state/master.key.old")).unwrap();
    let export = lab.path("export.ndjson");
    lab.say(&["export", export.to_str().unwrap()], "");
    let text = std::fs::read_to_string(&export).unwrap();
    assert!(text.starts_with("{\"towline_export\":") && !text.contains("first"));
    let (success, said) = lab.try_say(&["import", export.to_str().unwrap()], "");
    assert!(!success && said.contains("is used by another towline"), "{said}");
    lab.kill();
    let (success, said) = lab.try_say(&["import", export.to_str().unwrap()], "");
    assert!(!success && said.contains("not empty"), "{said}");
    let keys = std::fs::read(lab.path("state/master.key")).unwrap();
    std::fs::rename(lab.path("state"), lab.path("state.before")).unwrap();
    lab.say(&["import", export.to_str().unwrap()], "");
    std::fs::copy(lab.path("state.before/master.key"), lab.path("state/master.key")).unwrap();
    assert_eq!(std::fs::read(lab.path("state/master.key")).unwrap(), keys);
    lab.start();
    assert!(lab.say(&["secret", "list", "--global"], "").contains('A'));
}
