//! Workflows of other runners: which are refused, which start, how many legs they have, and how their jobs end.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use towline::event::dispatch::{self, Place};
use towline::event::{Event, select};
use towline::id::{HostName, JobId, RepositoryName, RunId};
use towline::plan::Files;
use towline::plan::calls::{CalledWorkflow, missing};
use towline::run::report::{JobResult, Report};
use towline::run::{Conclusion, JobPhase, Run, RunEffect, RunInput, RunSpec};

use super::same;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn event(name: &str, path: &str, case: &Json) -> Event {
    let place = Place {
        repository: RepositoryName("octo/hello".to_owned()),
        git_ref: "refs/heads/main".to_owned(),
        sha: "1".repeat(40),
        default_branch: "main".to_owned(),
        actor: "mona".to_owned(),
        server_url: "https://github.com".to_owned(),
    };
    let mut event = dispatch::workflow_dispatch(NOW, &place, path, &dispatch::DispatchInputs::default());
    event.name = name.to_owned();
    event.workflow = None;
    if let Json::Object(payload) = &case["payload"] {
        event.payload.as_object_mut().expect("an object").extend(payload.clone());
    }
    event
}

fn spec(repo: &Path, path: &str, event: Event) -> RunSpec {
    let read = |path: &str| std::fs::read_to_string(repo.join(path)).ok();
    let workflow_text = read(path).expect("the workflow is in the repository");
    let mut called = BTreeMap::new();
    loop {
        let wanted: Vec<_> =
            missing(path, &workflow_text, &called).into_iter().filter(|target| target.elsewhere.is_none()).collect();
        let before = called.len();
        for target in wanted {
            if let Some(text) = read(&target.path) {
                let file = CalledWorkflow { text, repository: event.repository.clone(), sha: event.sha.clone() };
                called.insert(target.key(), file);
            }
        }
        if called.len() == before {
            break;
        }
    }
    RunSpec {
        run: RunId(1),
        run_number: 1,
        attempt: 1,
        workflow_path: path.to_owned(),
        workflow_text,
        workflow_sha: event.sha.clone(),
        called,
        inputs: Map::new(),
        vars: Map::new(),
        triggering_actor: event.actor.clone(),
        debug: false,
        hold_minutes: 0,
        only: None,
        event,
    }
}

/// Lets every job end as the case says (a leg: with its job, if that is no success the failing legs are not told).
fn play(repo: &Path, case: &Json) -> Result<(), String> {
    let path = case["workflow"].as_str().expect("a workflow");
    let spec = spec(repo, path, event(case["event"].as_str().expect("an event"), path, case));
    if let (Some(workflow), _) = towline::workflow::parse(path, &spec.workflow_text) {
        let selected = select(&workflow, &spec.event).selected;
        if case["conclusion"] != "invalid" {
            same("selected", selected, case["runs"] != 0)?;
        }
        if !selected {
            return Ok(());
        }
    }
    let mut last = 0;
    let mut ids = || {
        last += 1;
        JobId(last)
    };
    let (mut run, _) = Run::start(NOW, spec, &Files::default(), &mut ids);
    let refused = run.state().conclusion == Some(Conclusion::StartupFailure);
    same("refused", refused, case["conclusion"] == "invalid")?;
    // Whatever the outputs would be, the run comes to an end: every job that is queued ends.
    for _ in 0..1000 {
        for effect in run.outstanding() {
            if let RunEffect::Admit { job, .. } = effect {
                run.apply(NOW, RunInput::Admitted { job }, &mut ids);
            }
        }
        let Some(job) = run.state().jobs.values().find(|job| job.phase == JobPhase::Queued) else { break };
        let (id, name) = (job.id, job.path.clone());
        let expect = case["jobs"][&name]["conclusion"].as_str();
        let conclusion = match expect {
            Some("failure") => Conclusion::Failure,
            Some("skipped") => return Err(format!("{name} runs, but should be skipped")),
            _ => Conclusion::Success,
        };
        if run.order(id).is_none() {
            return Err(format!("{name} has no order"));
        }
        run.apply(NOW, RunInput::Started { job: id, host: HostName("h".to_owned()) }, &mut ids);
        let result =
            JobResult { conclusion, outputs: Map::new(), environment_url: None, reason: None, host_lost: false };
        run.apply(NOW, RunInput::Report { job: id, report: Report::Finished { at: NOW, result } }, &mut ids);
    }
    if !refused {
        for (id, count) in case["job_counts"].as_object().into_iter().flatten() {
            let legs = run.state().jobs.values().filter(|job| job.path == *id).count();
            same(&format!("legs of {id}"), Some(legs as u64), count.as_u64())?;
        }
    }
    same("an end", run.state().conclusion.is_some(), true)
}

#[test]
fn workflows_of_other_runners() {
    for folder in ["act-runner", "server-workflows"] {
        let Some(folder_path) = crate::support::conformance(folder) else { continue };
        let mut names: Vec<_> = std::fs::read_dir(folder_path)
            .expect("the folder can be read")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.join("case.json").is_file())
            .collect();
        names.sort();
        let cases: Vec<Json> = names
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path.join("case.json")).expect("a case");
                let mut case: Json = serde_json::from_str(&text).expect("a case is JSON");
                case["folder"] = Json::from(path.to_str());
                case
            })
            .collect();
        super::all_cases(&format!("{folder} (graph only)"), &cases, |case| {
            play(&Path::new(case["folder"].as_str().expect("a path")).join("repo"), case)
        });
    }
}
