//! A lab at work, made up: repositories, hosts and runs of an afternoon, at a time that stands still.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::Map;
use towline::clock::Clock;
use towline::drive::Assignment;
use towline::engine::Input;
use towline::engine::record::EnvironmentRules;
use towline::id::{HostName, RunId};
use towline::queue::HostFacts;
use towline::run::Conclusion;
use towline::run::report::{JobResult, Report, StepKind, StepState};
use towline::server::HostDetail;
use towline::server::auth::Mode;
use towline::store::logs::LogId;

use super::harness::Daemon;

pub(crate) const PIPELINE: &str = r#"
name: CI
run-name: ${{ inputs.target && format('Deploy {0} to {1}', inputs.version, inputs.target) || github.event.head_commit.message }}
on:
  push:
  workflow_dispatch:
    inputs:
      target: {description: Where to, type: choice, options: [staging, production], required: true}
      version: {description: Version, required: true, default: v1.4.2}
      dry-run: {description: Only show what would happen, type: boolean, default: true}
      parallel: {description: At once, type: number, default: 2}
jobs:
  lint: {runs-on: self-hosted, steps: [{run: cargo clippy}]}
  test:
    strategy: {fail-fast: false, matrix: {system: [debian-12, alpine-3.20, fedora-41]}}
    runs-on: self-hosted
    steps: [{run: cargo test}]
  build: {needs: [lint, test], runs-on: self-hosted, steps: [{run: cargo build --release}]}
  deploy: {needs: build, environment: production, runs-on: self-hosted, steps: [{run: ./deploy}]}
"#;
pub(crate) const NIGHTLY: &str = "
name: Nightly backup
on: {schedule: [{cron: '30 3 * * *'}]}
jobs: {backup: {runs-on: self-hosted, steps: [{run: restic backup}]}}
";
const GPU: &str = "
name: Train the ranker
on: push
jobs: {train: {runs-on: [self-hosted, gpu], steps: [{run: python train.py}]}}
";

/// A step: its name, its seconds, its log.
pub(crate) type Step<'a> = (&'a str, i64, &'a str);

pub(crate) struct Scene {
    pub(crate) daemon: Daemon,
    time: Arc<Mutex<Timestamp>>,
}

/// A job that goes on.
pub(crate) struct Running {
    pub(crate) assignment: Assignment,
    pub(crate) log: LogId,
    length: u64,
    count: u64,
    steps: Vec<StepState>,
    writer: tokio::sync::watch::Sender<u64>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let time = Arc::new(Mutex::new("2026-11-21T09:00:00Z".parse().unwrap()));
        let daemon = Daemon::start_at(Mode::OpenOnLoopback, Clock::Manual(Arc::clone(&time))).await;
        Self { daemon, time }
    }

    pub(crate) fn now(&self) -> Timestamp {
        *self.time.lock().unwrap()
    }

    pub(crate) fn pass(&self, seconds: i64) {
        *self.time.lock().unwrap() += SignedDuration::from_secs(seconds);
    }

    pub(crate) async fn host(&self, name: &str, slots: u32, labels: &[&str], facts: &[(&str, &str)]) {
        let facts_of = HostFacts {
            name: HostName::from(name),
            slots,
            os: "Linux".into(),
            arch: "X64".into(),
            labels: labels.iter().map(|label| (*label).into()).collect(),
            label_limits: std::collections::BTreeMap::new(),
            repositories: Vec::new(),
        };
        self.daemon.handle.send(Input::HostUp(facts_of)).await.unwrap();
        let mut details = self.daemon.details.lock().unwrap();
        details.push(HostDetail {
            name: HostName::from(name),
            address: format!("ci@{name}.lan"),
            ssh: vec![format!("ci@{name}.lan")],
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            facts: facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            last_seen: Some(self.now()),
            latency: Some(SignedDuration::from_millis(3)),
            load: Some((1.4, 8)),
            reason: None,
        });
        self.daemon.app.set_hosts(details.clone());
    }

    /// Takes the next job and plays steps of it; the last one goes on when `open`.
    pub(crate) async fn begin(&mut self, steps: &[Step<'_>], open: bool) -> Running {
        let (assignment, log, _) = self.daemon.take().await;
        let writer = self.daemon.store.logs().open(log);
        let mut job = Running { assignment, log, length: 0, count: 0, steps: Vec::new(), writer };
        self.report(&job, Report::Started { at: self.now(), workspace: "/srv/ci/work/1/o/r".to_owned() }).await;
        for (at, step) in steps.iter().enumerate() {
            self.step(&mut job, *step, if open && at + 1 == steps.len() { None } else { Some(Conclusion::Success) })
                .await;
        }
        job
    }

    async fn report(&self, job: &Running, report: Report) {
        let input = Input::Report { job: job.assignment.job, host: job.assignment.host.clone(), report };
        self.daemon.handle.send(input).await.unwrap();
    }

    /// Adds lines to the step that runs.
    pub(crate) fn lines(&self, job: &mut Running, text: &str) {
        let stamp = self.now().strftime("%Y-%m-%dT%H:%M:%S.0000000Z");
        let text: String = text.lines().map(|line| format!("{stamp} {line}\n")).collect();
        self.daemon.append(job.log, text.as_bytes());
        job.length += text.len() as u64;
        job.count += text.lines().count() as u64;
        job.writer.send_replace(job.length);
    }

    pub(crate) async fn step(&self, job: &mut Running, (name, seconds, text): Step<'_>, ended: Option<Conclusion>) {
        let started = self.now();
        let (log_start, first_line) = (Some(job.length), Some(job.count));
        self.lines(job, text);
        self.pass(seconds);
        job.steps.push(StepState {
            number: u32::try_from(job.steps.len()).unwrap() + 1,
            id: String::new(),
            name: name.to_owned(),
            kind: StepKind::Main,
            started_at: Some(started),
            completed_at: ended.map(|_| self.now()),
            outcome: ended,
            conclusion: ended,
            log_start,
            log_end: ended.map(|_| job.length),
            first_line,
            exit_code: None,
        });
        self.report(job, Report::Steps { steps: job.steps.clone() }).await;
    }

    pub(crate) async fn end(&self, mut job: Running, conclusion: Conclusion) {
        if let Some(last) = job.steps.last_mut().filter(|step| step.conclusion.is_none()) {
            (last.outcome, last.conclusion) = (Some(conclusion), Some(conclusion));
            (last.completed_at, last.log_end) = (Some(self.now()), Some(job.length));
        }
        self.report(&job, Report::Steps { steps: job.steps.clone() }).await;
        let result =
            JobResult { conclusion, outputs: Map::new(), environment_url: None, reason: None, host_lost: false };
        self.report(&job, Report::Finished { at: self.now(), result }).await;
        self.daemon.store.logs().close(job.log);
    }

    /// Plays the next job to its end.
    pub(crate) async fn play(&mut self, steps: &[Step<'_>], conclusion: Conclusion) {
        let mut job = self.begin(steps, false).await;
        if conclusion != Conclusion::Success {
            let last = job.steps.last_mut().unwrap();
            (last.outcome, last.conclusion) = (Some(conclusion), Some(conclusion));
        }
        self.end(job, conclusion).await;
    }

    pub(crate) async fn push(&self, repository: &str, title: &str, workflow: &str) -> RunId {
        self.daemon.start_run("push", repository, title, workflow, Map::new()).await
    }

    /// An afternoon: many green runs, one broken workflow, one run under way, one that waits for an approval, one for a host.
    pub(crate) async fn busy() -> (Self, RunId, RunId, RunId) {
        let mut scene = Self::new().await;
        scene
            .host(
                "chronos",
                2,
                &["production"],
                &[("system", "AlmaLinux 9.5"), ("processors", "8"), ("memory", "32 GB")],
            )
            .await;
        scene.host("gpu-box", 1, &["gpu"], &[("system", "Debian 13"), ("processors", "16"), ("memory", "64 GB")]).await;
        let set_up: Step<'_> = ("Set up job", 1, "Runner: selene\nPrepare workflow directory");
        for (number, title) in [
            "Keep the session over a restart",
            "Answer 304 when nothing changed",
            "Name the host in errors",
            "Rows align on narrow screens",
            "Bound the queue of deliveries",
        ]
        .into_iter()
        .enumerate()
        {
            let extra = i64::try_from(number).unwrap();
            scene.push("yadag/todo-app", title, PIPELINE).await;
            for seconds in [21, 48 + extra * 7, 55, 51 - extra * 3, 96 + extra * 9] {
                scene
                    .play(
                        &[set_up, ("Check out", 2, "HEAD is now at 8f3ac1d"), ("Run cargo", seconds, "Finished")],
                        Conclusion::Success,
                    )
                    .await;
            }
            // The deployment waits for no one yet: there are no rules.
            scene.play(&[set_up, ("Run ./deploy", 14, "healthy after 3 checks")], Conclusion::Success).await;
            scene.pass(1500);
        }
        scene.daemon.start_run("schedule", "yadag/infra", "Nightly backup", NIGHTLY, Map::new()).await;
        scene.play(&[set_up, ("Run restic backup", 241, "snapshot 5d1c9b20 saved")], Conclusion::Success).await;
        scene.pass(900);
        // Broken: tests fail on one system.
        let broken = scene.push("yadag/todo-app", "Count unread items per list", PIPELINE).await;
        let failure = "##[group]Run cargo test --workspace\ncargo test --workspace\nshell: /usr/bin/bash -e {0}\n##[endgroup]\n\u{1b}[32m   Compiling\u{1b}[0m todo-core v0.8.0\n\u{1b}[32m    Finished\u{1b}[0m `test` profile in 24.61s\n\u{1b}[1mrunning 212 tests\u{1b}[0m\ntest list::sorted_by_due_date ... \u{1b}[32mok\u{1b}[0m\ntest list::unread_is_counted_once ... \u{1b}[31mFAILED\u{1b}[0m\n\nfailures:\n\n---- list::unread_is_counted_once stdout ----\nthread 'list::unread_is_counted_once' panicked at src/list.rs:118:5:\nassertion `left == right` failed: one unread item in two lists\n  left: 2\n right: 1\n\ntest result: FAILED. 211 passed; 1 failed; 0 ignored; finished in 3.41s\n##[error]Process completed with exit code 101.";
        scene
            .play(
                &[set_up, ("Check out", 2, "HEAD is now at 41be07c"), ("Run cargo clippy", 22, "Finished")],
                Conclusion::Success,
            )
            .await;
        for (seconds, text, conclusion) in [
            (47, "test result: ok. 212 passed", Conclusion::Success),
            (39, failure, Conclusion::Failure),
            (52, "test result: ok. 212 passed", Conclusion::Success),
        ] {
            scene
                .play(
                    &[set_up, ("Check out", 2, "HEAD is now at 41be07c"), ("Run cargo test", seconds, text)],
                    conclusion,
                )
                .await;
        }
        scene.pass(240);
        // From now on a person has to let deployments of this one go.
        let rules = EnvironmentRules {
            reviewers: vec!["ada".into(), "grace".into()],
            prevent_self_review: false,
            wait_minutes: 0,
            branches: Vec::new(),
        };
        let input =
            Input::SetEnvironment { repository: "yadag/shop".into(), name: "production".into(), rules: Some(rules) };
        scene.daemon.handle.send(input).await.unwrap();
        let waiting = scene.push("yadag/shop", "Release 2.31: prices by region", PIPELINE).await;
        for seconds in [19, 61, 58, 64, 122] {
            scene.play(&[set_up, ("Run cargo", seconds, "Finished")], Conclusion::Success).await;
        }
        scene.pass(130);
        let live = scene.push("yadag/todo-app", "Show what changed since the last visit", PIPELINE).await;
        (scene, broken, waiting, live)
    }

    /// Jobs that only the machine with the graphics card can take: the first runs, the second waits for it.
    pub(crate) async fn busy_gpu(&mut self) -> Running {
        self.push("yadag/ranker", "Longer context, smaller batches", GPU).await;
        self.push("yadag/ranker", "Try the new optimiser", GPU).await;
        self.begin(&[("Set up job", 1, "ready"), ("Run python train.py", 300, "epoch 3 of 40, loss 0.418")], true).await
    }
}
