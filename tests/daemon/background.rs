//! Background actions under a daemon: kill -9 in the middle loses nothing of them and doubles nothing.

use super::{Lab, numbered, pause, ssh_host};
use crate::support::sshd::Sshd;

/// A composite action that runs beside a script; both print numbered lines, and each step of it has one side effect.
const JOB: &str = r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - run: |
          mkdir -p made
          cat >made/action.yml <<'END'
          name: made
          outputs: { word: { value: "@{{ steps.third.outputs.word }}" } }
          runs:
            using: composite
            steps:
              - shell: bash
                run: |
                  echo first >>"$GITHUB_WORKSPACE/effects"; echo "FROM=first" >>"$GITHUB_ENV"
                  for i in $(seq 1 15); do echo "inner $i"; sleep 0.1; done
              - shell: bash
                run: |
                  echo second >>"$GITHUB_WORKSPACE/effects"
                  for i in $(seq 16 30); do echo "inner $i"; sleep 0.1; done
              - { id: third, shell: bash, run: 'echo "word=$FROM" >>"$GITHUB_OUTPUT"; echo "SEEN=${FROM}" >>"$GITHUB_ENV"' }
          END
          sed -i 's/@{/${/' made/action.yml
      - { id: beside, uses: ./made, background: true }
      - { id: script, background: true, run: 'echo script >>effects; for i in $(seq 1 25); do echo "script $i"; sleep 0.1; done' }
      - run: for i in $(seq 1 35); do echo "line $i"; sleep 0.1; done
      - run: echo "not yet '${{ steps.beside.outputs.word }}' '$FROM'"
      - wait-all:
      - run: |
          echo "got ${{ steps.beside.outputs.word }} $SEEN ${{ steps.script.outcome }}"
          echo "effects $(sort effects | tr '\n' ' ')"
          for i in $(seq 1 25); do echo "after $i"; sleep 0.1; done
"#;

#[test]
fn s14_kill_9_finds_background_actions_again() {
    let Some(server) = Sshd::start() else { return };
    let mut lab = Lab::new(&ssh_host(&server));
    lab.push("local/beside", JOB);
    for moment in ["line 3\n", "line 18\n", "line 30\n", "not yet", "Waiting for all", "after 3\n", "after 15\n"] {
        // The log of a job that is over is packed.
        let over =
            || lab.get("/api/v3/repos/local/beside/actions/runs/1").is_some_and(|run| run["conclusion"].is_string());
        while !lab.text("local/beside", 1).contains(moment) && !over() {
            pause();
        }
        lab.kill();
        lab.start();
    }
    assert_eq!(lab.conclusion("local/beside", 1), "success", "{}", lab.log("local/beside", 1));
    let log = lab.log("local/beside", 1);
    assert_eq!(numbered(&log), (1..=35).collect::<Vec<_>>(), "{log}");
    for (word, last) in [("inner", 30), ("script", 25), ("after", 25)] {
        let said: Vec<String> = log
            .lines()
            .filter_map(|line| line.get(29..).filter(|text| text.starts_with(&format!("{word} "))).map(str::to_owned))
            .collect();
        let due: Vec<String> = (1..=last).map(|number| format!("{word} {number}")).collect();
        assert_eq!(said, due, "{log}");
    }
    assert!(log.contains("not yet '' ''"), "{log}");
    assert!(log.contains("got first first success"), "{log}");
    assert!(log.contains("effects first script second "), "{log}");
    // The logs beside the job's have become part of it.
    let folder = std::fs::read_dir(lab.path("state/logs/1/1")).unwrap();
    let names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let beside = |name: &String| name.rsplit('.').next().is_some_and(|end| end.parse::<u32>().is_ok());
    assert!(!names.iter().any(beside), "{names:?}");
}
