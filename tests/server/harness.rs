//! A server on loopback over a real store and engine; the test plays the runner.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use towline::clock::Clock;
use towline::drive::{self, Assignment, Handle};
use towline::engine::{Input, Settings as EngineSettings};
use towline::event::{ChangedFiles, Event};
use towline::id::{HostName, RepositoryName, RunId};
use towline::queue::HostFacts;
use towline::run::report::{Annotation, AnnotationLevel, JobResult, Report, StepKind, StepState};
use towline::run::{Conclusion, RunSpec};
use towline::server::auth::{Auth, Mode};
use towline::server::source::{Outside, WorkflowFile};
use towline::server::view::{LetterView, ScheduleView};
use towline::server::{
    Address, App, AppParts, CertificateSource, Config, Endpoint, HostDetail, Identity, Limits, Server, Settings,
};
use towline::store::logs::LogId;
use towline::store::{Role, Store};
use towline::vault::{MasterKey, Vault};

pub(crate) const WORKFLOW: &str = "\
name: CI <b>&
on:
  push:
  workflow_dispatch:
    inputs:
      where:
        type: choice
        options: [here, there]
jobs:
  build:
    runs-on: self-hosted
    steps:
      - run: make
  test:
    needs: build
    runs-on: self-hosted
    steps:
      - run: make test
";

pub(crate) struct Daemon {
    pub(crate) store: Store,
    pub(crate) handle: Handle,
    pub(crate) app: App,
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    pub(crate) authority: PathBuf,
    pub(crate) vault: Vault,
    /// What is said of hosts besides their load.
    pub(crate) details: Mutex<Vec<HostDetail>>,
    clock: Clock,
    pub(crate) assignments: mpsc::Receiver<Assignment>,
    pub(crate) stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    client: Client<HttpConnector, Full<Bytes>>,
    folder: tempfile::TempDir,
}

/// An answer with its body read to the end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Daemon {
    pub(crate) async fn start(mode: Mode) -> Self {
        Self::start_at(mode, Clock::System).await
    }

    /// A daemon whose time is that of a clock.
    pub(crate) async fn start_at(mode: Mode, clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("state")).unwrap();
        let stop = CancellationToken::new();
        let parts = drive::prepare(store.clone(), clock.clone(), EngineSettings::github(), stop.clone()).unwrap();
        tokio::spawn(parts.task);
        let auth = Auth::open(folder.path(), store.clone(), mode, false, Vec::new()).unwrap();
        let vault = Vault::new(store.clone(), vec![MasterKey::generate().unwrap()]);
        let (engine, now) = (parts.handle.clone(), clock.clone());
        let outside = Outside {
            repositories: Arc::new(|| vec![RepositoryName::from("o/r")]),
            files: Arc::new(|repository| {
                Box::pin(async move {
                    let text = match repository.as_str() {
                        "o/r" => WORKFLOW,
                        "yadag/todo-app" | "yadag/shop" => super::scene::PIPELINE,
                        "yadag/infra" => super::scene::NIGHTLY,
                        _ => return Ok(Vec::new()),
                    };
                    Ok(vec![WorkflowFile {
                        path: ".github/workflows/ci.yml".into(),
                        text: text.into(),
                        default_branch: "main".into(),
                    }])
                })
            }),
            schedules: Arc::new(|count| {
                let first: jiff::Timestamp = "2026-11-22T03:30:00Z".parse().unwrap();
                let next = |day| first + jiff::SignedDuration::from_hours(24 * day);
                vec![ScheduleView {
                    repository: RepositoryName::from("yadag/infra"),
                    workflow: ".github/workflows/ci.yml".into(),
                    cron: "30 3 * * *".into(),
                    timezone: Some("Europe/Berlin".into()),
                    next: (0..i64::try_from(count).unwrap()).map(next).collect(),
                }]
            }),
            dispatch: Arc::new(move |request| {
                let repository = request.repository.as_str();
                let text = if repository == "o/r" { WORKFLOW } else { super::scene::PIPELINE };
                let spec = spec(&now, "workflow_dispatch", repository, "by hand", text, request.inputs);
                let engine = engine.clone();
                Box::pin(async move {
                    engine.start_run(None, false, spec).await.map(|start| start.run).map_err(|error| error.to_string())
                })
            }),
            letters: Arc::new(|| {
                Ok(vec![LetterView {
                    id: "0123456789ab".into(),
                    kind: "report",
                    repository: RepositoryName::from("o/r"),
                    subject: "HIDDEN-LETTER".into(),
                    dead: true,
                    attempts: 0,
                    reason: "forge.lan answered 401: Bad credentials".into(),
                    at: "2026-11-22T03:30:00Z".parse().unwrap(),
                }])
            }),
            change_letter: Arc::new(|_, _| Box::pin(async { Ok(true) })),
            ..Outside::nothing()
        };
        let settings = Settings { public_url: None, own_url: None, open_metrics: true, trusted_proxies: Vec::new() };
        let app = App::new(AppParts {
            store: store.clone(),
            engine: parts.handle.clone(),
            vault: vault.clone(),
            outside,
            auth,
            clock: clock.clone(),
            settings,
            stop: stop.clone(),
        });
        tokio::spawn(app.clone().count_ends());
        let config = Config {
            endpoints: vec![
                Endpoint::Http("127.0.0.1:0".parse().unwrap()),
                Endpoint::Https("127.0.0.1:0".parse().unwrap()),
            ],
            identity: Some(Identity {
                certificate: CertificateSource::Own { folder: folder.path().join("tls"), names: Vec::new() },
                clients: None,
            }),
            passed: towline::server::Passed::default(),
            authority: None,
            limits: Limits::STANDARD,
        };
        let bound = Server::bind(clock.now(), config).unwrap();
        let [Address::Http(plain), Address::Https(secure)] = bound.addresses()[..] else { panic!("two sockets") };
        let day = std::time::Duration::from_secs(24 * 3600);
        let services = towline::services::Settings {
            directory: folder.path().join("services"),
            issuer: format!("http://{plain}"),
            artifact_retention: day,
            bytes: 1 << 30,
            cache_bytes: 1 << 30,
            cache_idle: day,
        };
        let services = towline::services::Services::open(services, clock.clone()).await.unwrap();
        let (authorized, based) = (app.clone(), app.clone());
        let repositories = towline::services::Repositories {
            find: Arc::new(|_| None),
            authorize: Arc::new(move |parts, repository, _| authorized.access(parts, repository)),
            base: Arc::new(move |parts| based.base(parts)),
            who: Arc::new(|_| None),
        };
        let router = towline::server::router(&app).merge(services.repositories(repositories));
        let served = tokio::spawn(bound.serve(router, stop.clone()));
        let host = HostFacts {
            name: HostName::from("selene"),
            slots: 2,
            os: "Linux".into(),
            arch: "X64".into(),
            labels: Vec::new(),
            label_limits: std::collections::BTreeMap::new(),
            repositories: Vec::new(),
        };
        parts.handle.send(Input::HostUp(host)).await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let authority = folder.path().join("tls/ca.pem");
        Self {
            store,
            handle: parts.handle,
            app,
            plain,
            secure,
            authority,
            vault,
            details: Mutex::default(),
            clock,
            assignments: parts.assignments,
            stop,
            served,
            client,
            folder,
        }
    }

    /// Ends the server; everything it wrote goes with it.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.served.await.unwrap();
        drop(self.folder);
    }

    /// Starts a run of a repository as a push would.
    pub(crate) async fn push(&self, repository: &str, title: &str) -> RunId {
        self.start_run("push", repository, title, WORKFLOW, Map::new()).await
    }

    /// Starts a run of a workflow.
    pub(crate) async fn start_run(
        &self,
        event: &str,
        repository: &str,
        title: &str,
        workflow: &str,
        inputs: Map<String, Value>,
    ) -> RunId {
        let spec = spec(&self.clock, event, repository, title, workflow, inputs);
        self.handle.start_run(None, false, spec).await.unwrap().run
    }

    /// Plays a job to its end: each step with its lines. Lines of the last step decide nothing; `conclusion` does.
    pub(crate) async fn play(&mut self, steps: &[(&str, &[&str])], conclusion: Conclusion) -> LogId {
        let (assignment, log, mut length) = self.take().await;
        let writer = self.store.logs().open(log);
        let mut states: Vec<StepState> = Vec::new();
        let mut line = 0;
        for (at, (name, lines)) in steps.iter().enumerate() {
            let text: String = lines.iter().map(|line| format!("2026-11-21T21:00:00.0000000Z {line}\n")).collect();
            self.append(log, text.as_bytes());
            let ended = if at + 1 == steps.len() { conclusion } else { Conclusion::Success };
            states.push(StepState {
                number: u32::try_from(at).unwrap() + 1,
                id: String::new(),
                name: (*name).to_owned(),
                kind: StepKind::Main,
                started_at: Some(Clock::System.now()),
                completed_at: Some(Clock::System.now()),
                outcome: Some(ended),
                conclusion: Some(ended),
                log_start: Some(length),
                log_end: Some(length + text.len() as u64),
                first_line: Some(line),
                exit_code: None,
            });
            line += lines.len() as u64;
            length += text.len() as u64;
            writer.send_replace(length);
        }
        let job = assignment.job;
        let note = Annotation {
            level: AnnotationLevel::Failure,
            message: "boom <script>".into(),
            title: None,
            file: Some("src/a.c".into()),
            line: Some(3),
            end_line: None,
            column: None,
            end_column: None,
            step: Some(2),
        };
        let mut reports = vec![
            Report::Started { at: Clock::System.now(), workspace: "/srv/ci/work/1/o/r".to_owned() },
            Report::Steps { steps: states },
        ];
        if conclusion == Conclusion::Failure {
            reports.push(Report::Annotation { annotation: note });
        }
        let result =
            JobResult { conclusion, outputs: Map::new(), environment_url: None, reason: None, host_lost: false };
        reports.push(Report::Finished { at: Clock::System.now(), result });
        for report in reports {
            self.handle.send(Input::Report { job, host: assignment.host.clone(), report }).await.unwrap();
        }
        self.store.logs().close(log);
        log
    }

    /// The next job that wants to run, and its log.
    pub(crate) async fn take(&mut self) -> (Assignment, LogId, u64) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(120), self.assignments.recv());
        let assignment = next.await.expect("a job in time").expect("the engine lives");
        let order = &assignment.order;
        let log = LogId { run: order.run, attempt: order.attempt, job: assignment.job };
        (assignment, log, 0)
    }

    /// Adds bytes to a log, as a runner does.
    pub(crate) fn append(&self, log: LogId, bytes: &[u8]) {
        let path = self.store.logs().path(log);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    pub(crate) async fn token(&self, name: &str, role: Role, repositories: &[&str]) -> String {
        let repositories = repositories.iter().map(|name| RepositoryName::from(*name)).collect();
        self.app.auth().create(Clock::System.now(), name, role, repositories, None).await.unwrap()
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// An answer whose body is still open.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<hyper::body::Incoming> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.plain));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client.request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        let authorization = format!("token {token}");
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("authorization", &authorization)] };
        self.ask(Method::GET, path, headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &str) -> Answer {
        self.ask(Method::POST, path, &[("authorization", &format!("token {token}"))], body).await
    }
}

/// A run whose second job failed, with a log that tries everything.
pub(crate) async fn failed_run(daemon: &mut Daemon) -> RunId {
    let run = daemon.push("o/r", "Fix <script>alert(1)</script> the thing").await;
    daemon
        .play(
            &[("Set up job", &["ready"]), ("Run make", &["##[group]Run make", "make", "##[endgroup]", "done"])],
            Conclusion::Success,
        )
        .await;
    let hostile = [
        "\u{1b}]0;owned\u{7}<script>alert(2)</script>",
        "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;javascript:alert(3)\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "##[error]<img src=x onerror=alert(4)>",
    ];
    daemon.play(&[("Set up job", &["ready"]), ("Run make test", &hostile)], Conclusion::Failure).await;
    run
}

fn spec(
    clock: &Clock,
    event: &str,
    repository: &str,
    title: &str,
    workflow: &str,
    inputs: Map<String, Value>,
) -> RunSpec {
    let sha = "8f3ac1d9be0a8f3ac1d9be0a8f3ac1d9be0a8f3a";
    let event = Event {
        name: event.into(),
        action: None,
        payload: json!({"head_commit": {"id": sha, "message": title}}),
        repository: RepositoryName::from(repository),
        git_ref: "refs/heads/main".into(),
        sha: sha.into(),
        head_ref: None,
        base_ref: None,
        actor: "octo".into(),
        default_branch: "main".into(),
        changed_files: ChangedFiles::Unknown,
        head_message: None,
        received_at: clock.now(),
        delivery: None,
        workflow: None,
        server_url: "https://github.com".into(),
    };
    RunSpec {
        run: RunId(0),
        run_number: 0,
        attempt: 1,
        event,
        workflow_path: ".github/workflows/ci.yml".into(),
        workflow_text: workflow.into(),
        workflow_sha: sha.into(),
        called: std::collections::BTreeMap::new(),
        inputs,
        vars: Map::new(),
        triggering_actor: "octo".into(),
        debug: false,
        hold_minutes: 0,
        only: None,
    }
}
