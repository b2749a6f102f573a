//! The loop around the engine on a real store: accepted means durable, jobs reach the executor, restarts lose nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use towline::clock::Clock;
use towline::drive::{self, DriveError, Handle, StartKind};
use towline::engine::{Answer, Input, Settings, Update};
use towline::event::{ChangedFiles, Event};
use towline::id::{RepositoryName, RunId};
use towline::queue::HostFacts;
use towline::run::report::{JobResult, Report};
use towline::run::{Cancel, Conclusion, Rerun, RunSpec, RunStatus, Which};
use towline::store::{RunFilter, Store};

const WORKFLOW: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: x}]\n  b:\n    needs: a\n    runs-on: ubuntu-latest\n    steps: [{run: x}]\n";

pub fn spec(text: &str) -> RunSpec {
    RunSpec {
        run: RunId(0),
        run_number: 0,
        attempt: 0,
        event: Event {
            name: "push".to_owned(),
            action: None,
            payload: json!({}),
            repository: RepositoryName::from("o/r"),
            git_ref: "refs/heads/main".to_owned(),
            sha: "0123456789012345678901234567890123456789".to_owned(),
            head_ref: None,
            base_ref: None,
            actor: "ada".to_owned(),
            default_branch: "main".to_owned(),
            changed_files: ChangedFiles::Unknown,
            head_message: None,
            received_at: Clock::System.now(),
            delivery: None,
            workflow: None,
            server_url: "https://github.com".to_owned(),
        },
        workflow_path: ".github/workflows/ci.yml".to_owned(),
        workflow_text: text.to_owned(),
        workflow_sha: "0123456789012345678901234567890123456789".to_owned(),
        called: BTreeMap::new(),
        inputs: Map::new(),
        vars: Map::new(),
        triggering_actor: "ada".to_owned(),
        debug: false,
        hold_minutes: 0,
        only: None,
    }
}

fn host() -> HostFacts {
    HostFacts {
        name: "alpha".into(),
        slots: 2,
        os: "Linux".to_owned(),
        arch: "X64".to_owned(),
        labels: Vec::new(),
        label_limits: BTreeMap::new(),
        repositories: Vec::new(),
    }
}

fn result(conclusion: Conclusion) -> JobResult {
    JobResult { conclusion, outputs: Map::new(), environment_url: None, reason: None, host_lost: false }
}

struct Daemon {
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DriveError>>,
    executor: JoinHandle<Vec<StartKind>>,
}

/// A daemon whose jobs end at once, or never when `hang` is set.
fn start(store: &Store, hang: bool) -> Daemon {
    let stop = CancellationToken::new();
    let parts = drive::prepare(store.clone(), Clock::System, Settings::github(), stop.clone()).unwrap();
    let handle = parts.handle.clone();
    let mut assignments = parts.assignments;
    let task = tokio::spawn(parts.task);
    let executor = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(mut assignment) = assignments.recv().await {
            seen.push(assignment.start);
            let (job, host, handle) = (assignment.job, assignment.host, handle.clone());
            tokio::spawn(async move {
                let mut conclusion = Conclusion::Success;
                if hang {
                    // Ends only when it is told to; the daemon may stop before.
                    if assignment.told.wait_for(|told| told.cancel != Cancel::No).await.is_err() {
                        return;
                    }
                    conclusion = Conclusion::Cancelled;
                }
                let report = Report::Finished { at: Clock::System.now(), result: result(conclusion) };
                // Repeated, as after a lost answer.
                for _ in 0..2 {
                    let input = Input::Report { job, host: host.clone(), report: report.clone() };
                    let _ = handle.send(input).await;
                }
            });
        }
        seen
    });
    Daemon { handle: parts.handle, stop, task, executor }
}

impl Daemon {
    async fn stop(self) -> Vec<StartKind> {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.executor.await.unwrap()
    }
}

async fn until_over(handle: &Handle, store: &Store, run: RunId) -> Conclusion {
    let mut updates = handle.updates();
    loop {
        let record = store.run(run).unwrap().unwrap();
        if record.status == RunStatus::Completed {
            return record.conclusion.unwrap();
        }
        while let Ok(update) = updates.recv().await {
            if matches!(update, Update::Run { run: of, .. } if of == run) {
                break;
            }
        }
    }
}

fn open(directory: &Path) -> Store {
    let (store, recovery) = Store::open(directory).unwrap();
    assert_eq!(recovery, None);
    store
}

#[tokio::test]
async fn a_run_goes_through_and_is_listed() {
    let store = Store::temporary().unwrap();
    let daemon = start(&store, false);
    daemon.handle.send(Input::HostUp(host())).await.unwrap();
    let started = daemon.handle.start_run(Some("d1".to_owned()), false, spec(WORKFLOW)).await.unwrap();
    assert_eq!((started.run_number, started.repeated), (1, false));
    assert_eq!(until_over(&daemon.handle, &store, started.run).await, Conclusion::Success);
    let again = daemon.handle.start_run(Some("d1".to_owned()), false, spec(WORKFLOW)).await.unwrap();
    assert_eq!((again.run, again.repeated), (started.run, true));
    let page = store.runs(&RunFilter::default(), 0, 10).unwrap();
    assert_eq!((page.total, page.runs[0].id), (1, started.run));
    let jobs = store.jobs(started.run, 1).unwrap();
    assert_eq!(jobs.iter().map(|job| job.state.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(store.job(jobs[1].state.id).unwrap().unwrap(), jobs[1]);
    assert_eq!(daemon.stop().await, [StartKind::Start, StartKind::Start]);
}

#[tokio::test]
async fn a_second_attempt_keeps_the_run_and_two_at_once_are_one_too_many() {
    let store = Store::temporary().unwrap();
    let daemon = start(&store, false);
    daemon.handle.send(Input::HostUp(host())).await.unwrap();
    let run = daemon.handle.start_run(None, false, spec(WORKFLOW)).await.unwrap().run;
    until_over(&daemon.handle, &store, run).await;
    let wish = Rerun { which: Which::All, actor: "eve".to_owned(), debug: false, hold_minutes: 0, called: None };
    let (first, second) = tokio::join!(daemon.handle.rerun(run, wish.clone()), daemon.handle.rerun(run, wish.clone()));
    let refused = [first.unwrap(), second.unwrap()].into_iter().filter(|answer| matches!(answer, Answer::Refused(_)));
    assert_eq!(refused.count(), 1);
    until_over(&daemon.handle, &store, run).await;
    let record = store.run(run).unwrap().unwrap();
    assert_eq!((record.attempt, record.triggering_actor.as_str()), (2, "eve"));
    assert_eq!(store.jobs(run, 1).unwrap().len(), 2);
    // What is being deleted does not come back.
    let (deleted, again) = tokio::join!(daemon.handle.send(Input::Delete { run }), daemon.handle.rerun(run, wish));
    assert!(matches!((deleted.unwrap(), again.unwrap()), (Answer::Done, Answer::Unknown(_))));
    assert_eq!(store.run(run).unwrap(), None);
    assert!(store.jobs(run, 1).unwrap().is_empty() && store.spec(run, 1).unwrap().is_none());
    daemon.stop().await;
}

#[tokio::test]
async fn a_restart_attaches_and_a_cancel_reaches_the_runner() {
    let directory = tempfile::tempdir().unwrap();
    let run = {
        let store = open(directory.path());
        let daemon = start(&store, true);
        daemon.handle.send(Input::HostUp(host())).await.unwrap();
        let run = daemon.handle.start_run(None, false, spec(WORKFLOW)).await.unwrap().run;
        assert_eq!(daemon.stop().await, [StartKind::Start]);
        run
    };
    let store = open(directory.path());
    let daemon = start(&store, true);
    daemon.handle.send(Input::HostUp(host())).await.unwrap();
    daemon.handle.send(Input::Cancel { run, force: false, actor: "eve".to_owned() }).await.unwrap();
    assert_eq!(until_over(&daemon.handle, &store, run).await, Conclusion::Cancelled);
    assert!(store.run(run).unwrap().unwrap().messages.contains(&"cancelled by eve".to_owned()));
    assert_eq!(daemon.stop().await, [StartKind::Attach]);
}

#[tokio::test]
async fn a_waiting_job_says_why() {
    let store = Store::temporary().unwrap();
    let daemon = start(&store, true);
    let run = daemon.handle.start_run(None, false, spec(WORKFLOW)).await.unwrap().run;
    let job = store.jobs(run, 1).unwrap()[0].state.id;
    let reasons = daemon.handle.why(job).await.unwrap();
    assert_eq!(reasons[0].to_string(), "there is no host, and the job asks for `ubuntu-latest`");
    daemon.handle.send(Input::HostUp(HostFacts { os: "macOS".to_owned(), ..host() })).await.unwrap();
    let reasons = daemon.handle.why(job).await.unwrap();
    assert_eq!(
        reasons[0].to_string(),
        "no host has the labels `ubuntu-latest`; alpha comes closest but lacks `ubuntu-latest`"
    );
    daemon.handle.send(Input::HostUp(host())).await.unwrap();
    assert_eq!(daemon.handle.why(job).await.unwrap(), []);
    let host = daemon.handle.read(move |engine| engine.host_of(job).cloned()).await.unwrap();
    assert_eq!(host, Some("alpha".into()));
    daemon.stop().await;
}
