use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::report::{JobResult, Report};
use super::*;
use crate::event::{Place, dispatch};
use crate::id::{HostName, RepositoryName, RunId};
use crate::plan::calls::CalledWorkflow;

/// A run with a counter for ids, and everything it asked for.
struct Play {
    run: Run,
    last: u64,
    effects: Vec<RunEffect>,
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn spec(text: &str, called: &[(&str, &str)]) -> RunSpec {
    let mut event = dispatch::schedule(NOW, &Place::example(), ".github/workflows/ci.yml", "0 0 * * *");
    event.name = "push".to_owned();
    let called = called.iter().map(|(key, text)| {
        let file = CalledWorkflow {
            text: (*text).to_owned(),
            repository: RepositoryName("octo/shared".to_owned()),
            sha: "5".repeat(40),
        };
        ((*key).to_owned(), file)
    });
    RunSpec {
        run: RunId(1),
        run_number: 1,
        attempt: 1,
        event,
        workflow_path: ".github/workflows/ci.yml".to_owned(),
        workflow_text: text.to_owned(),
        workflow_sha: "1".repeat(40),
        called: called.collect::<BTreeMap<_, _>>(),
        inputs: Map::new(),
        vars: json!({ "legs": "[1,2]" }).as_object().cloned().unwrap_or_default(),
        triggering_actor: "mona".to_owned(),
        debug: false,
        hold_minutes: 0,
        only: None,
    }
}

fn play(text: &str) -> Play {
    play_calls(text, &[])
}

fn play_calls(text: &str, called: &[(&str, &str)]) -> Play {
    let mut last = 0;
    let (run, effects) = Run::start(NOW, spec(text, called), &Files::default(), &mut || {
        last += 1;
        JobId(last)
    });
    assert_eq!(run.state.startup_failure, None);
    Play { run, last, effects }
}

impl Play {
    #[expect(clippy::needless_pass_by_value, reason = "inputs are written where they are told")]
    fn apply(&mut self, input: RunInput) {
        let last = &mut self.last;
        let effects = self.run.apply(NOW, input.clone(), &mut || {
            *last += 1;
            JobId(*last)
        });
        self.effects.extend(effects);
        self.check();
        // What is stored and read again goes on in the same way.
        let stored = serde_json::to_string(self.run.state()).expect("a state is JSON");
        let state: RunState = serde_json::from_str(&stored).expect("and is read again");
        assert_eq!(&state, self.run.state());
        self.run =
            Run::restore(RunSpec::clone(self.run.spec()), state, &Files::default()).expect("the texts are the same");
    }

    /// What always holds.
    fn check(&self) {
        let finished = self.effects.iter().filter(|effect| matches!(effect, RunEffect::Finished(_))).count();
        assert_eq!(finished, usize::from(self.run.state.status == RunStatus::Completed));
        for job in self.run.state.jobs.values() {
            assert_eq!(job.phase == JobPhase::Completed, job.conclusion.is_some(), "{}", job.name);
        }
    }

    fn id(&self, name: &str) -> JobId {
        let job = self.run.state.jobs.values().find(|job| job.name == name);
        job.unwrap_or_else(|| panic!("no job {name}: {:?}", self.names())).id
    }

    fn names(&self) -> Vec<&str> {
        self.run.state.jobs.values().map(|job| job.name.as_str()).collect()
    }

    fn phase(&self, name: &str) -> JobPhase {
        self.run.job(self.id(name)).expect("the job exists").phase
    }

    fn conclusion(&self, name: &str) -> Option<&'static str> {
        self.run.job(self.id(name)).and_then(|job| job.conclusion).map(Conclusion::as_str)
    }

    fn start(&mut self, name: &str) {
        let job = self.id(name);
        self.apply(RunInput::Started { job, host: HostName("h".to_owned()) });
    }

    #[expect(clippy::needless_pass_by_value, reason = "outputs are literals")]
    fn end_with(&mut self, name: &str, conclusion: Conclusion, outputs: Json) {
        let job = self.id(name);
        self.apply(RunInput::Started { job, host: HostName("h".to_owned()) });
        let result = JobResult {
            conclusion,
            outputs: outputs.as_object().cloned().unwrap_or_default(),
            environment_url: None,
            reason: None,
            host_lost: false,
        };
        let finished = RunInput::Report { job, report: Report::Finished { at: NOW, result } };
        self.apply(finished.clone());
        // Told twice, nothing more happens.
        let before = (self.run.state().clone(), self.effects.len());
        self.apply(finished);
        assert_eq!(before, (self.run.state().clone(), self.effects.len()));
    }

    fn pass(&mut self, name: &str) {
        self.end_with(name, Conclusion::Success, json!({}));
    }

    fn fail(&mut self, name: &str) {
        self.end_with(name, Conclusion::Failure, json!({}));
    }

    fn ended(&self) -> Option<&'static str> {
        self.run.state.conclusion.map(Conclusion::as_str)
    }

    fn needs(&self, name: &str) -> Json {
        Json::Object(self.run.order(self.id(name)).expect("an order").needs)
    }

    fn cancelled(&self) -> Vec<&str> {
        let names = self.effects.iter().filter_map(|effect| match effect {
            RunEffect::CancelJob { job, .. } => self.run.job(*job).map(|job| job.name.as_str()),
            _ => None,
        });
        names.collect()
    }
}

const STEPS: &str = "runs-on: x\n    steps: [{run: a}]";

fn workflow(jobs: &[(&str, &str)]) -> String {
    let jobs: String = jobs
        .iter()
        .map(|(id, more)| {
            let more = more.lines().fold(String::new(), |text, line| text + "    " + line + "\n");
            let body = if more.contains("uses:") { String::new() } else { format!("    {STEPS}\n") };
            format!("  {id}:\n{more}{body}")
        })
        .collect();
    format!("on: [push, workflow_call]\njobs:\n{jobs}")
}

#[test]
fn n1_jobs_start_as_soon_as_their_own_needs_end() {
    let mut play = play(&workflow(&[("a", ""), ("b", ""), ("c", "needs: a"), ("d", "needs: [b, c]")]));
    assert_eq!(play.names(), ["a", "b"]);
    play.pass("a");
    assert_eq!(play.phase("c"), JobPhase::Queued, "b still runs");
    play.pass("c");
    play.pass("b");
    play.pass("d");
    assert_eq!(play.ended(), Some("success"));
}

#[test]
fn n3_skips_go_down_the_whole_chain() {
    let mut play = play(&workflow(&[
        ("a", "if: false"),
        ("b", "needs: a"),
        ("c", "needs: b"),
        ("always", "needs: c\nif: always()"),
        // N5: success() looks at all ancestors, so the skipped `a` still counts.
        ("last", "needs: always"),
    ]));
    for name in ["a", "b", "c"] {
        assert_eq!(play.conclusion(name), Some("skipped"));
    }
    assert_eq!(play.needs("always"), json!({ "c": { "result": "skipped", "outputs": {} } }));
    play.pass("always");
    assert_eq!(play.conclusion("last"), Some("skipped"));
    assert_eq!(play.ended(), Some("success"));
}

#[test]
fn n3_a_run_of_skipped_jobs_is_skipped() {
    assert_eq!(play(&workflow(&[("a", "if: false"), ("b", "needs: a")])).ended(), Some("skipped"));
}

#[test]
fn n5_failure_sees_a_grandparent() {
    let mut play = play(&workflow(&[
        ("a", ""),
        ("b", "needs: a\nif: always()"),
        ("c", "needs: b\nif: failure()"),
        ("d", "needs: b\nif: success('b')"),
        ("e", "needs: b\nif: failure('b')"),
    ]));
    play.fail("a");
    play.pass("b");
    assert_eq!(play.phase("c"), JobPhase::Queued);
    assert_eq!(play.phase("d"), JobPhase::Queued);
    assert_eq!(play.conclusion("e"), Some("skipped"));
    play.pass("c");
    play.pass("d");
    assert_eq!(play.ended(), Some("failure"));
}

#[test]
fn n4_n7_matrix_results_and_outputs() {
    let matrix = "strategy:\n  fail-fast: false\n  matrix: {n: [1, 2, 3]}";
    let mut play = play(&workflow(&[("a", matrix), ("b", "needs: a\nif: always()")]));
    play.end_with("a (2)", Conclusion::Success, json!({ "x": "two", "only": "two" }));
    play.end_with("a (1)", Conclusion::Failure, json!({ "x": "one", "only": "" }));
    play.end_with("a (3)", Conclusion::Cancelled, json!({ "X": "three" }));
    assert_eq!(play.needs("b"), json!({ "a": { "result": "failure", "outputs": { "x": "three", "only": "two" } } }));
}

#[test]
fn n8_dynamic_matrices_wait_for_their_needs() {
    let matrix = "needs: a\nstrategy:\n  matrix: {n: \"${{ fromJSON(needs.a.outputs.list) }}\"}";
    let mut play = play(&workflow(&[("a", ""), ("b", matrix)]));
    assert_eq!(play.names(), ["a"]);
    play.end_with("a", Conclusion::Success, json!({ "list": "[\"x\", \"y\"]" }));
    assert_eq!(play.names(), ["a", "b (x)", "b (y)"]);
    let order = play.run.order(play.id("b (y)")).expect("an order");
    assert_eq!(order.matrix, json!({ "n": "y" }));
    assert_eq!(
        Json::Object(order.strategy),
        json!({ "fail-fast": true, "job-index": 1, "job-total": 2, "max-parallel": 2 })
    );
}

#[test]
fn n8_an_empty_dynamic_matrix_fails_its_job() {
    let matrix = "needs: a\nstrategy:\n  matrix: {n: \"${{ fromJSON('[]') }}\"}";
    let mut play = play(&workflow(&[("a", ""), ("b", matrix), ("c", "needs: b")]));
    play.pass("a");
    let job = play.run.job(play.id("b")).expect("it is shown");
    assert_eq!(
        job.annotations[0].message,
        "Error when evaluating 'strategy' for job 'b'. Matrix vector 'n' does not contain any values"
    );
    assert_eq!((play.conclusion("c"), play.ended()), (Some("skipped"), Some("failure")));
}

#[test]
fn n9_a_skipped_job_is_never_expanded() {
    let skipped = "name: Leg ${{ matrix.n }}\nif: false\nstrategy:\n  matrix: {n: [1, 2]}";
    assert_eq!(play(&workflow(&[("a", skipped)])).names(), ["a"]);
}

#[test]
fn m7_fail_fast_cancels_the_siblings() {
    let matrix = "strategy:\n  max-parallel: 3\n  matrix: {n: [1, 2, 3, 4]}";
    let mut play = play(&workflow(&[("a", matrix)]));
    play.start("a (1)");
    play.fail("a (2)");
    assert_eq!(play.conclusion("a (3)"), Some("cancelled"), "it was queued");
    assert_eq!(play.conclusion("a (4)"), Some("cancelled"), "it was held back");
    assert_eq!(play.conclusion("a (1)"), None, "its runner ends it");
    assert_eq!(play.cancelled(), ["a (1)", "a (3)"]);
    play.end_with("a (1)", Conclusion::Cancelled, json!({}));
    assert_eq!(play.ended(), Some("failure"));
}

#[test]
fn s9_continue_on_error_spares_the_siblings_and_the_run() {
    let matrix = "continue-on-error: ${{ matrix.n == 2 }}\nstrategy:\n  matrix: {n: [1, 2]}";
    let mut play = play(&workflow(&[("a", matrix), ("b", "needs: a")]));
    play.fail("a (2)");
    assert_eq!(play.conclusion("a (2)"), Some("failure"));
    play.pass("a (1)");
    assert_eq!(play.needs("b")["a"]["result"], "success");
    play.pass("b");
    assert_eq!(play.ended(), Some("success"));
}

#[test]
fn m8_max_parallel_holds_legs_back() {
    let matrix = "strategy:\n  max-parallel: 2\n  matrix: {n: [1, 2, 3]}";
    let mut play = play(&workflow(&[("a", matrix)]));
    assert_eq!(play.phase("a (2)"), JobPhase::Queued);
    assert_eq!(play.phase("a (3)"), JobPhase::Pending);
    play.pass("a (2)");
    assert_eq!(play.phase("a (3)"), JobPhase::Queued);
}

#[test]
fn m9_names() {
    let matrix = "strategy:\n  matrix: {os: [l, m]}";
    let names = |more: &str| {
        let play = play(&workflow(&[("a", &format!("{more}{matrix}"))]));
        play.names().iter().map(|&name| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["a (l)", "a (m)"]);
    assert_eq!(names("name: Build\n"), ["Build (l)", "Build (m)"]);
    assert_eq!(names("name: On ${{ matrix.os }}\n"), ["On l", "On m"]);
}

const CALLED: &str = "on:
  workflow_call:
    inputs:
      n: {type: number, required: true}
      flag: {type: boolean}
      note: {type: string, default: \"${{ github.event_name }}\"}
    outputs:
      out: {value: \"${{ jobs.inner.outputs.x }}-${{ jobs.inner.result }}\"}
env: {FROM: called}
permissions: {contents: read}
jobs:
  inner:
    runs-on: x
    outputs: {x: y}
    steps: [{run: a}]
  after:
    needs: inner
    runs-on: x
    steps: [{run: a}]
";

fn calling(more: &str) -> String {
    format!(
        "on: push
env: {{FROM: caller}}
permissions: {{contents: write}}
jobs:
  call:
    {more}uses: ./.github/workflows/called.yml
    with: {{n: \"${{{{ matrix.n || 7 }}}}\"}}
    secrets: inherit
  last:
    needs: call
    if: always()
    runs-on: x
    steps: [{{run: a}}]
"
    )
}

const CALLED_FILE: &str = "./.github/workflows/called.yml";

#[test]
fn r5_r8_calls_give_outputs_and_results() {
    let mut play = play_calls(&calling(""), &[(CALLED_FILE, CALLED)]);
    assert_eq!(play.names(), ["call / inner"]);
    let order = play.run.order(play.id("call / inner")).expect("an order");
    assert_eq!(Json::Object(order.inputs), json!({ "n": 7, "flag": false, "note": "push" }));
    assert_eq!((order.env.len(), order.job_id.as_str()), (1, "inner"), "R3: the caller's env stays out");
    assert_eq!(order.secret_levels.len(), 1);
    assert_eq!(
        (order.workflow_repository.as_str(), order.github["workflow_sha"].clone()),
        ("octo/shared", json!("1".repeat(40)))
    );
    assert_eq!(play.run.job(play.id("call / inner")).map(|job| job.path.as_str()), Some("call/inner"));
    play.end_with("call / inner", Conclusion::Success, json!({ "x": "v" }));
    play.fail("call / after");
    assert_eq!(play.needs("last"), json!({ "call": { "result": "failure", "outputs": { "out": "v-success" } } }));
    play.pass("last");
    assert_eq!(play.ended(), Some("failure"));
}

#[test]
fn m11_a_matrix_of_calls() {
    let text = calling("strategy:\n      max-parallel: 1\n      matrix: {n: [1, 2]}\n    ");
    let mut play = play_calls(&text, &[(CALLED_FILE, CALLED)]);
    assert_eq!(play.names(), ["call (1) / inner"], "max-parallel counts calls");
    play.pass("call (1) / inner");
    play.pass("call (1) / after");
    assert_eq!(play.run.order(play.id("call (2) / inner")).expect("an order").inputs["n"], 2);
    play.fail("call (2) / inner");
    assert_eq!(play.conclusion("call (2) / after"), Some("skipped"));
    assert_eq!(play.needs("last")["call"]["result"], "failure");
}

#[test]
fn m7_fail_fast_ends_sibling_calls() {
    let text = calling("strategy:\n      matrix: {n: [1, 2]}\n    ");
    let mut play = play_calls(&text, &[(CALLED_FILE, CALLED)]);
    play.start("call (2) / inner");
    play.fail("call (1) / inner");
    assert_eq!(play.cancelled(), ["call (2) / inner"]);
    play.end_with("call (2) / inner", Conclusion::Cancelled, json!({}));
    assert_eq!(play.conclusion("call (2) / after"), Some("skipped"));
    assert_eq!(play.needs("last")["call"]["result"], "failure");
}

#[test]
fn r1_a_skipped_call_is_shown_as_one_job() {
    let mut play = play_calls(&calling("if: false\n    "), &[(CALLED_FILE, CALLED)]);
    assert_eq!(play.conclusion("call"), Some("skipped"));
    assert_eq!(play.needs("last"), json!({ "call": { "result": "skipped", "outputs": {} } }));
    play.pass("last");
    assert_eq!(play.ended(), Some("success"));
}

#[test]
fn r2_r6_r7_calls_that_are_refused() {
    let refused = |text: &str, called: &[(&str, &str)]| {
        let (run, effects) = Run::start(NOW, spec(text, called), &Files::default(), &mut || JobId(1));
        assert_eq!(effects.last(), Some(&RunEffect::Finished(Conclusion::StartupFailure)));
        run.state.startup_failure.expect("a reason")
    };
    let text = calling("");
    assert!(refused(&text, &[]).contains("was not found"));
    assert!(refused(&text, &[(CALLED_FILE, &workflow(&[("a", "")]))]).contains("Invalid input, n is not defined"));
    let greedy = CALLED.replace("{contents: read}", "{actions: read}");
    assert!(refused(&text, &[(CALLED_FILE, &greedy)]).ends_with(
        "The workflow './.github/workflows/called.yml' is requesting 'actions: read', but is only allowed 'actions: none'."
    ));
    let wrong = text.replace("{n: \"${{ matrix.n || 7 }}\"}", "{n: seven}");
    assert!(refused(&wrong, &[(CALLED_FILE, CALLED)]).contains("Unexpected value 'seven'"));
    let secret = text.replace("secrets: inherit", "secrets: {token: x}");
    let keeper =
        CALLED.replace("    outputs:\n      out:", "    secrets: {other: {required: true}}\n    outputs:\n      out:");
    assert!(refused(&secret, &[(CALLED_FILE, &keeper)]).contains("Invalid secret, token is not defined"));
    let without = text.replace("    secrets: inherit\n", "");
    assert!(refused(&without, &[(CALLED_FILE, &keeper)]).contains("Secret other is required"));
    let endless = workflow(&[("a", &format!("uses: {CALLED_FILE}")), ("b", &format!("uses: {CALLED_FILE}"))]);
    assert_eq!(refused(&endless, &[(CALLED_FILE, &endless)]), "Nested reusable workflow depth exceeded 10.");
}

#[test]
fn z1_cancel_asks_the_conditions_again() {
    let mut play = play(&workflow(&[
        ("a", ""),
        ("b", "if: always()"),
        ("c", ""),
        ("d", "needs: [a, b]\nif: always()"),
        ("e", "needs: a"),
        ("f", "needs: b\nif: failure() || cancelled()"),
    ]));
    play.start("a");
    play.start("b");
    play.apply(RunInput::Cancel { force: false });
    assert_eq!(play.cancelled(), ["a", "c"]);
    assert_eq!(play.conclusion("c"), Some("cancelled"));
    play.end_with("a", Conclusion::Cancelled, json!({}));
    assert_eq!(play.conclusion("e"), Some("skipped"));
    play.pass("b");
    play.pass("f");
    play.pass("d");
    assert_eq!(play.ended(), Some("cancelled"));
}

#[test]
fn z1_force_ends_everything() {
    let mut play = play(&workflow(&[("a", "if: always()"), ("b", "needs: a\nif: always()")]));
    play.start("a");
    play.apply(RunInput::Cancel { force: false });
    assert_eq!(play.conclusion("a"), None);
    play.apply(RunInput::Cancel { force: true });
    assert_eq!((play.conclusion("a"), play.conclusion("b")), (Some("cancelled"), Some("cancelled")));
    assert_eq!(play.ended(), Some("cancelled"));
}

#[test]
fn q1_the_run_asks_for_its_group_first() {
    let text = format!(
        "concurrency: {{group: \"g-${{{{ github.ref_name }}}}\", cancel-in-progress: true}}\n{}",
        workflow(&[("a", "")])
    );
    let mut admitted = play(&text);
    let concurrency =
        Concurrency { group: "g-main".to_owned(), cancel_in_progress: true, queue: ConcurrencyQueue::Single };
    assert_eq!(admitted.effects[1..], [RunEffect::Admit { job: None, concurrency }]);
    assert_eq!(admitted.run.state.status, RunStatus::Pending);
    admitted.apply(RunInput::Admitted { job: None });
    admitted.pass("a");
    assert!(admitted.effects.contains(&RunEffect::Release { job: None }));
    // Q2: a newcomer takes its place.
    let mut refused = play(&text);
    refused.apply(RunInput::Refused { job: None, reason: "a newer run waits".to_owned() });
    assert_eq!((refused.conclusion("a"), refused.ended()), (Some("cancelled"), Some("cancelled")));
}

#[test]
fn q1_a_call_asks_for_its_group() {
    let mut play = play_calls(&calling("concurrency: deploy\n    "), &[(CALLED_FILE, CALLED)]);
    let Some(RunEffect::Admit { job: Some(call), .. }) =
        play.effects.iter().find(|e| matches!(e, RunEffect::Admit { .. })).cloned()
    else {
        panic!("no wish: {:?}", play.effects)
    };
    assert!(play.names().is_empty());
    assert_eq!(play.run.outstanding().len(), 1);
    play.apply(RunInput::Admitted { job: Some(call) });
    play.pass("call / inner");
    play.pass("call / after");
    assert!(play.effects.contains(&RunEffect::Release { job: Some(call) }));
}

#[test]
fn x2_a_condition_that_raises_fails_its_job() {
    let mut play =
        play(&workflow(&[("a", "if: fromJSON('x')"), ("b", ""), ("c", "runs-on: ${{ github.nothing }}")]).replacen(
            "runs-on: ${{ github.nothing }}\n    runs-on: x",
            "runs-on: ${{ github.nothing }}",
            1,
        ));
    assert_eq!((play.conclusion("a"), play.conclusion("c")), (Some("failure"), Some("failure")));
    assert!(play.run.job(play.id("c")).is_some_and(|job| job.annotations[0].message.contains("runs-on")));
    play.pass("b");
    assert_eq!(play.ended(), Some("failure"));
}

#[test]
fn a_host_that_died_gives_its_job_back() {
    let mut play = play(&workflow(&[("a", "")]));
    play.start("a");
    let job = play.id("a");
    play.apply(RunInput::Requeued { job, reason: "host h died".to_owned() });
    assert_eq!(play.phase("a"), JobPhase::Queued);
    assert!(matches!(play.effects.last(), Some(RunEffect::Enqueue(pending)) if pending.job == job));
    play.pass("a");
    assert_eq!(play.ended(), Some("success"));
}

fn rerun(play: &Play, which: Which) -> Play {
    let mut last = play.last;
    let wish = Rerun { which, actor: "hubot".to_owned(), debug: true, hold_minutes: 0, called: None };
    let (run, effects) = play
        .run
        .rerun(NOW, &wish, &Files::default(), &mut || {
            last += 1;
            JobId(last)
        })
        .expect("it can be repeated");
    Play { run, last, effects }
}

#[test]
fn u1_failed_jobs_and_their_dependants_run_again() {
    let matrix = "strategy:\n  fail-fast: false\n  matrix: {n: [1, 2]}";
    let mut first = play(&workflow(&[("a", matrix), ("b", "needs: a"), ("c", "")]));
    first.end_with("a (1)", Conclusion::Success, json!({ "x": "kept" }));
    first.fail("a (2)");
    first.pass("c");
    assert_eq!((first.conclusion("b"), first.ended()), (Some("skipped"), Some("failure")));

    let mut second = rerun(&first, Which::Failed);
    assert_eq!(second.id("a (1)"), first.id("a (1)"));
    assert_ne!(second.id("a (2)"), first.id("a (2)"));
    assert_eq!(second.conclusion("c"), Some("success"));
    let order = second.run.order(second.id("a (2)")).expect("an order");
    assert_eq!((order.attempt, order.debug, order.github["triggering_actor"].clone()), (2, true, json!("hubot")));
    second.pass("a (2)");
    assert_eq!(second.needs("b"), json!({ "a": { "result": "success", "outputs": { "x": "kept" } } }));
    second.pass("b");
    assert_eq!(second.ended(), Some("success"));

    let third = rerun(&second, Which::Job(second.id("c")));
    let queued: Vec<&str> = third
        .run
        .state
        .jobs
        .values()
        .filter(|job| job.phase == JobPhase::Queued)
        .map(|job| job.name.as_str())
        .collect();
    assert_eq!((third.run.spec.attempt, queued), (3, vec!["c"]));

    let all = rerun(&second, Which::All);
    assert_eq!(all.names(), ["a (1)", "a (2)", "c"]);
    assert!(
        second
            .run
            .rerun(
                NOW,
                &Rerun { which: Which::Failed, actor: String::new(), debug: false, hold_minutes: 0, called: None },
                &Files::default(),
                &mut || JobId(99)
            )
            .is_err()
    );
}

#[test]
fn u1_thirty_days_long() {
    let mut play = play(&workflow(&[("a", "")]));
    play.fail("a");
    let wish = Rerun { which: Which::Failed, actor: String::new(), debug: false, hold_minutes: 0, called: None };
    let at = |days: i64| {
        let now = NOW + jiff::SignedDuration::from_hours(24 * days);
        play.run.rerun(now, &wish, &Files::default(), &mut || JobId(99))
    };
    assert!(at(30).is_ok());
    assert_eq!(at(31).map(|_| ()), Err("a run may be repeated for 30 days; start a new one".to_owned()));
}

#[test]
fn n6_outputs_have_limits() {
    let mut play = play(&workflow(&[("a", ""), ("b", "needs: a\nif: always()")]));
    // Counted in UTF-16: two bytes for each of these characters.
    play.end_with("a", Conclusion::Success, json!({ "x": "é".repeat(1 << 19) }));
    assert_eq!(play.conclusion("a"), Some("failure"));
    assert_eq!(play.needs("b"), json!({ "a": { "result": "failure", "outputs": {} } }));
    let reason = play.run.job(play.id("a")).and_then(|job| job.reason.clone()).unwrap_or_default();
    assert!(reason.contains("1 MB"), "{reason}");

    let legs: Vec<String> = (0..51).map(|leg| leg.to_string()).collect();
    let matrix = format!("strategy:\n  fail-fast: false\n  matrix: {{n: [{}]}}", legs.join(", "));
    let mut play = super::tests::play(&workflow(&[("a", &matrix)]));
    let value = "x".repeat((1 << 19) - 10);
    for leg in &legs {
        let job = play.id(&format!("a ({leg})"));
        let outputs = [(format!("o{leg}"), json!(value))].into_iter().collect();
        let result = JobResult {
            conclusion: Conclusion::Success,
            outputs,
            environment_url: None,
            reason: None,
            host_lost: false,
        };
        // Not by `apply` of the play, which writes the whole state out each time.
        play.run.apply(NOW, RunInput::Report { job, report: Report::Finished { at: NOW, result } }, &mut || JobId(0));
    }
    assert_eq!((play.conclusion("a (49)"), play.conclusion("a (50)")), (Some("success"), Some("failure")));
}

#[test]
fn u1_inside_a_called_workflow() {
    let mut first = play_calls(&calling(""), &[(CALLED_FILE, CALLED)]);
    first.end_with("call / inner", Conclusion::Success, json!({ "x": "v" }));
    first.fail("call / after");
    first.pass("last");
    let mut second = rerun(&first, Which::Failed);
    assert_eq!(second.conclusion("call / inner"), Some("success"));
    assert_eq!(second.phase("call / after"), JobPhase::Queued);
    second.pass("call / after");
    assert_eq!(second.needs("last"), json!({ "call": { "result": "success", "outputs": { "out": "v-success" } } }));
    second.pass("last");
    assert_eq!(second.ended(), Some("success"));
}
