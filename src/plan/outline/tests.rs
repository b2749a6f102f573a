use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::{PlannedJob, outline};
use crate::event::context::RunFacts;
use crate::event::{Place, dispatch};
use crate::id::RepositoryName;
use crate::plan::calls::CalledWorkflow;
use crate::plan::{Files, Material, Plan, Refused};

fn plan(text: &str, called: &[(&str, &str)]) -> Result<Plan, Refused> {
    let event = dispatch::schedule(Timestamp::UNIX_EPOCH, &Place::example(), "ci.yml", "0 0 * * *");
    let called: BTreeMap<String, CalledWorkflow> = called
        .iter()
        .map(|(key, text)| {
            let file = CalledWorkflow {
                text: (*text).to_owned(),
                repository: RepositoryName("octo/hello".to_owned()),
                sha: "1".repeat(40),
            };
            ((*key).to_owned(), file)
        })
        .collect();
    Plan::new(&Material {
        event: &event,
        facts: RunFacts {
            run_id: 1,
            run_number: 4,
            run_attempt: 1,
            workflow: "",
            workflow_path: "ci.yml",
            workflow_sha: "",
            triggering_actor: "mona",
            retention_days: 90,
        },
        workflow_path: "ci.yml",
        workflow_text: text,
        called: &called,
        inputs: &Map::new(),
        vars: &Map::new(),
        only: None,
        partial: false,
        files: &Files::default(),
    })
}

fn jobs(text: &str, called: &[(&str, &str)]) -> Vec<PlannedJob> {
    outline(&plan(text, called).expect("accepted"), &Map::new())
}

#[test]
fn legs_are_listed_where_they_are_known() {
    let jobs = jobs(
        "on: push
jobs:
  a:
    strategy: {matrix: {os: [x, y]}}
    runs-on: [\"${{ matrix.os }}\", big]
    if: github.ref_name == 'main'
    steps: [{run: a}]
  b:
    needs: a
    strategy: {matrix: {n: \"${{ fromJSON(needs.a.outputs.n) }}\"}}
    name: Leg ${{ matrix.n }}
    runs-on: ${{ matrix.n }}
    steps: [{run: a}]
  c:
    if: github.ref_name == 'other'
    runs-on: x
    steps: [{run: a}]
",
        &[],
    );
    let shown: Vec<(&str, &str, Json, bool, Option<bool>)> = jobs
        .iter()
        .map(|job| (job.id.as_str(), job.name.as_str(), job.matrix.clone(), job.dynamic, job.runs))
        .collect();
    assert_eq!(
        shown,
        [
            ("a", "a (x)", json!({ "os": "x" }), false, Some(true)),
            ("a", "a (y)", json!({ "os": "y" }), false, Some(true)),
            ("b", "${{ format('Leg {0}', matrix.n) }}", Json::Null, true, Some(true)),
            ("c", "c", Json::Null, false, Some(false)),
        ]
    );
    assert_eq!(jobs[1].runs_on, ["y", "big"]);
    assert_eq!(jobs[2].runs_on, ["${{ matrix.n }}"]);
    assert_eq!(jobs[2].needs, ["a"]);
    assert_eq!(jobs[0].condition, "success() && (github.ref_name == 'main')");
}

#[test]
fn jobs_of_calls_follow_their_call() {
    let called = "on: workflow_call\njobs:\n  x: {runs-on: l, steps: [{run: a}]}\n  y: {needs: x, runs-on: l, steps: [{run: a}]}\n";
    let jobs = jobs("on: push\njobs: {c: {uses: ./called.yml}}\n", &[("./called.yml", called)]);
    let shown: Vec<(&str, &str, &[String])> =
        jobs.iter().map(|job| (job.id.as_str(), job.name.as_str(), job.needs.as_slice())).collect();
    let needs = ["c/x".to_owned()];
    assert_eq!(shown, [("c", "c", &[][..]), ("c/x", "c / x", &[][..]), ("c/y", "c / y", &needs[..])]);
    assert_eq!(jobs[0].uses.as_deref(), Some("./called.yml"));
}

#[test]
fn s1_titles() {
    let title = |text: &str| plan(text, &[]).expect("accepted").title;
    let rest = "on: push\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n";
    assert_eq!(title(rest), "ci.yml");
    assert_eq!(title(&format!("name: Build\n{rest}")), "Build");
    assert_eq!(
        title(&format!("run-name: By ${{{{ github.actor }}}} in ${{{{ github.run_number }}}}\n{rest}")),
        "By mona in 4"
    );
}
