//! Properties that hold for any input: nothing panics, every run ends, nothing that has ended changes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use towline::event::dispatch::{self, DispatchInputs, Place};
use towline::event::filters::{PatternKind, Patterns, check};
use towline::event::{activity, forges, github};
use towline::expr::Value;
use towline::id::{HostName, JobId, RepositoryName, RunId};
use towline::plan::{Files, matrix};
use towline::run::report::{JobResult, Report};
use towline::run::{Cancel, Conclusion, JobPhase, Run, RunEffect, RunInput, RunSpec, RunStatus};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[a-z/*!]{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec(("(include|exclude|a|b|A)", inner), 0..4)
                .prop_map(|pairs| Json::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn patterns_answer_on_any_text(patterns in prop::collection::vec(".{0,20}", 0..4), text in ".{0,30}") {
        let compiled = Patterns::new(&patterns);
        prop_assert_eq!(compiled.matches(&text), compiled.pass(&[&text]));
        for pattern in &patterns {
            drop(check(pattern, PatternKind::Ref));
            drop(check(pattern, PatternKind::Path));
        }
    }

    #[test]
    fn matrices_are_bounded(value in any_json()) {
        if let Ok(legs) = matrix::expand(&Value::from_json(&value)) {
            prop_assert!(legs.len() <= matrix::MAX_LEGS);
        }
        let strategy = json!({ "matrix": value, "max-parallel": value, "fail-fast": value });
        drop(matrix::strategy(&Value::from_json(&strategy)));
    }

    #[test]
    fn deliveries_of_any_shape_are_answered(value in any_json(), kind in 0..activity::EVENTS.len()) {
        let payload = json!({
            "repository": { "full_name": "o/r", "default_branch": value }, "ref": value, "pull_request": value,
            "project": { "path_with_namespace": "o/r" }, "object_attributes": value, "release": value, "number": value,
        });
        drop(github::from_payload(NOW, activity::EVENTS[kind].name, payload.clone()));
        for event in ["Push Hook", "Merge Request Hook", "Release Hook", "Issue Hook", "Note Hook"] {
            drop(forges::from_payload(forges::Forge::GitLab, NOW, event, payload.clone()));
        }
        drop(forges::from_payload(forges::Forge::Gitea, NOW, "pull_request", payload));
    }
}

/// A graph of jobs: for each, which earlier ones it needs, its condition, whether it is a matrix, a call, forgiven.
fn graph() -> impl Strategy<Value = String> {
    let conditions = ["", "always()", "failure()", "cancelled()", "!cancelled()", "needs.j0.outputs.x == 'v'", "false"];
    let job =
        (prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0..conditions.len(), 0..6_usize, any::<bool>());
    prop::collection::vec(job, 1..7).prop_map(move |jobs| {
        let mut text = String::from("on: push\njobs:\n");
        for (number, (needs, condition, kind, forgiven)) in jobs.iter().enumerate() {
            let mut needs: Vec<usize> =
                needs.iter().filter(|_| number > 0).map(|need| need.index(number.max(1))).collect();
            needs.sort_unstable();
            needs.dedup();
            let has_first = needs.contains(&0);
            text.push_str(&format!("  j{number}:\n"));
            if !needs.is_empty() {
                let ids: Vec<String> = needs.iter().map(|need| format!("j{need}")).collect();
                text.push_str(&format!("    needs: [{}]\n", ids.join(", ")));
            }
            let condition = conditions[*condition];
            if !condition.is_empty() && (has_first || !condition.contains("j0")) {
                text.push_str(&format!("    if: ${{{{ {condition} }}}}\n"));
            }
            match kind {
                0 => text.push_str("    strategy: {matrix: {n: [1, 2, 3]}}\n"),
                1 => text.push_str("    strategy: {max-parallel: 1, fail-fast: false, matrix: {n: [1, 2]}}\n"),
                2 => text.push_str("    strategy: {matrix: {n: '${{ fromJSON(vars.legs) }}'}}\n"),
                3 => text.push_str("    concurrency: c\n"),
                _ => {}
            }
            if *kind == 4 {
                text.push_str("    uses: ./called.yml\n");
            } else {
                text.push_str(&format!("    continue-on-error: {forgiven}\n    runs-on: x\n    steps: [{{run: a}}]\n"));
            }
        }
        text
    })
}

const CALLED: &str = "on: workflow_call
jobs:
  a: {runs-on: x, steps: [{run: a}]}
  b: {needs: a, if: always(), runs-on: x, steps: [{run: a}]}
";

fn spec(text: String) -> RunSpec {
    let place = Place {
        repository: RepositoryName("octo/hello".to_owned()),
        git_ref: "refs/heads/main".to_owned(),
        sha: "1".repeat(40),
        default_branch: "main".to_owned(),
        actor: "mona".to_owned(),
        server_url: "https://github.com".to_owned(),
    };
    let mut event = dispatch::workflow_dispatch(NOW, &place, "ci.yml", &DispatchInputs::default());
    event.name = "push".to_owned();
    let called = towline::plan::calls::CalledWorkflow {
        text: CALLED.to_owned(),
        repository: event.repository.clone(),
        sha: event.sha.clone(),
    };
    RunSpec {
        run: RunId(1),
        run_number: 1,
        attempt: 1,
        workflow_path: "ci.yml".to_owned(),
        workflow_text: text,
        workflow_sha: event.sha.clone(),
        called: BTreeMap::from([("./called.yml".to_owned(), called)]),
        inputs: Map::new(),
        vars: json!({ "legs": "[1, 2]" }).as_object().cloned().unwrap_or_default(),
        triggering_actor: event.actor.clone(),
        debug: false,
        hold_minutes: 0,
        only: None,
        event,
    }
}

/// A run driven by numbers until it ends, with the ends of its jobs.
fn drive(mut run: Run, mut effects: Vec<RunEffect>, moves: &[u8], last: &mut u64) -> Result<Run, TestCaseError> {
    let mut moves = moves.iter().copied().chain(std::iter::repeat(0));
    let mut ended: BTreeMap<JobId, Conclusion> = BTreeMap::new();
    for turn in 0.. {
        prop_assert!(turn < 2000, "the run does not end");
        for job in run.state().jobs.values() {
            prop_assert_eq!(job.phase == JobPhase::Completed, job.conclusion.is_some());
            if let Some(conclusion) = job.conclusion {
                let first = *ended.entry(job.id).or_insert(conclusion);
                prop_assert_eq!(first, conclusion, "{} ended twice", job.name);
            }
        }
        let finished = effects.iter().filter(|effect| matches!(effect, RunEffect::Finished(_))).count();
        prop_assert_eq!(finished, usize::from(run.state().status == RunStatus::Completed));
        if run.state().status == RunStatus::Completed {
            prop_assert!(run.state().jobs.values().all(|job| job.conclusion.is_some()));
            return Ok(run);
        }
        let step = moves.next().unwrap_or_default();
        let open: Vec<(JobId, JobPhase)> = run
            .state()
            .jobs
            .values()
            .filter(|job| job.phase != JobPhase::Completed)
            .map(|job| (job.id, job.phase))
            .collect();
        let admit = run.outstanding().into_iter().find_map(|effect| match effect {
            RunEffect::Admit { job, .. } => Some(job),
            _ => None,
        });
        let picked = open.get(usize::from(step) % open.len().max(1)).copied();
        let input = match (admit, picked) {
            _ if step == 255 => RunInput::Cancel { force: false },
            _ if step == 254 => RunInput::Cancel { force: true },
            (Some(job), _) => RunInput::Admitted { job },
            (None, Some((job, _))) if step == 253 => {
                RunInput::CancelJob { job, force: false, reason: "asked".to_owned() }
            }
            (None, Some((job, _))) if step == 252 => RunInput::Failed { job, reason: "refused".to_owned() },
            (None, Some((job, JobPhase::InProgress))) if step == 251 => {
                RunInput::Requeued { job, reason: "host died".to_owned() }
            }
            (None, Some((job, JobPhase::InProgress))) => {
                let cancelled = run.job(job).is_some_and(|job| job.cancel != Cancel::No);
                let conclusion = match step % 5 {
                    _ if cancelled => Conclusion::Cancelled,
                    1 => Conclusion::Failure,
                    2 => Conclusion::TimedOut,
                    _ => Conclusion::Success,
                };
                let outputs = json!({ "x": "v" }).as_object().cloned().unwrap_or_default();
                let result = JobResult { conclusion, outputs, environment_url: None, reason: None, host_lost: false };
                RunInput::Report { job, report: Report::Finished { at: NOW, result } }
            }
            (None, Some((job, JobPhase::Queued))) => RunInput::Started { job, host: HostName("h".to_owned()) },
            // Held back by max-parallel: another one must end first.
            (None, Some(_)) => continue,
            (None, None) => return Err(TestCaseError::fail("nothing can happen any more")),
        };
        for told in 0..2 {
            let before = run.state().clone();
            let more = run.apply(NOW, input.clone(), &mut || {
                *last += 1;
                JobId(*last)
            });
            // Facts told twice are harmless; a job that was given back may start twice.
            if told == 1 && !matches!(input, RunInput::Requeued { .. }) {
                prop_assert_eq!(&before, run.state());
                prop_assert!(more.is_empty(), "{:?} again gives {:?}", input, more);
            }
            effects.extend(more);
        }
        let state = serde_json::to_string(run.state()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let state = serde_json::from_str(&state).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(run.state(), &state);
        run = Run::restore(RunSpec::clone(run.spec()), state, &Files::default()).map_err(TestCaseError::fail)?;
    }
    Ok(run)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_run_ends_and_every_job_ends_once(text in graph(), moves in prop::collection::vec(any::<u8>(), 0..60), again in prop::collection::vec(0..250_u8, 0..40)) {
        let mut last = 0;
        let (run, effects) = Run::start(NOW, spec(text.clone()), &Files::default(), &mut || {
            last += 1;
            JobId(last)
        });
        prop_assert_eq!(&run.state().startup_failure, &None, "{}", text);
        let run = drive(run, effects, &moves, &mut last)?;
        // And so does its next attempt.
        let wish = towline::run::Rerun { which: towline::run::Which::Failed, actor: "a".to_owned(), debug: false, hold_minutes: 0, called: None };
        let next = run.rerun(NOW, &wish, &Files::default(), &mut || {
            last += 1;
            JobId(last)
        });
        if let Ok((run, effects)) = next {
            drive(run, effects, &again, &mut last)?;
        }
    }
}
