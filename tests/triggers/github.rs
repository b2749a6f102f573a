//! A GitHub that has a state: an App, its installation and tokens, checks, statuses, pull requests. It checks what it is
//! sent against GitHub's own description, and can be slow, rate limited, broken, or forget its tokens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde_json::{Value as Json, json};

use towline::clock::Clock;

use super::whole::{PATIENCE, Whole};
use crate::support::conformance;

/// What the fake does instead of answering, once.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    Status(u16, Vec<(&'static str, String)>),
    Slow(Duration),
}

#[derive(Default)]
pub(super) struct Hub {
    /// Token → what it may do.
    pub(super) tokens: BTreeMap<String, Json>,
    pub(super) made: Vec<Json>,
    pub(super) revoked: BTreeSet<String>,
    pub(super) checks: Vec<Json>,
    pub(super) statuses: Vec<Json>,
    pub(super) deployments: Vec<Json>,
    pub(super) pulls: Json,
    pub(super) events: Json,
    /// Who pushed what.
    pub(super) activity: Json,
    /// `Authorization` of requests by git.
    pub(super) git: Vec<String>,
    /// For how many seconds nobody is to ask again what happened, and how often somebody did.
    pub(super) interval: Option<u64>,
    pub(super) asked: usize,
    /// Questions that were answered with 304.
    pub(super) unchanged: usize,
    pub(super) moods: VecDeque<Mood>,
    /// Complaints about requests; must stay empty.
    pub(super) faults: Vec<String>,
    description: Option<Json>,
    served: usize,
}

#[derive(Clone)]
pub(super) struct GitHub {
    pub(super) hub: Arc<Mutex<Hub>>,
    pub(super) url: String,
}

impl GitHub {
    pub(super) async fn start() -> Self {
        let description = conformance("rest-api").map(|folder| {
            let text = std::fs::read(folder.join("openapi-actions-checks-statuses.json")).unwrap();
            serde_json::from_slice(&text).unwrap()
        });
        let hub = Hub { description, pulls: json!([]), events: json!([]), activity: json!([]), ..Hub::default() };
        let hub = Arc::new(Mutex::new(hub));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&hub));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { hub, url }
    }

    /// Waits until the state is as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Hub) -> bool) {
        let wait = async {
            while !wanted(&self.hub.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        let hub = self.hub.lock().unwrap();
        assert!(waited.is_ok(), "{what}: {:#?} {:#?}", hub.checks, hub.faults);
    }

    pub(super) fn faults(&self) -> Vec<String> {
        self.hub.lock().unwrap().faults.clone()
    }
}

async fn answer(
    State(hub): State<Arc<Mutex<Hub>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mood = hub.lock().unwrap().moods.pop_front();
    match mood {
        Some(Mood::Slow(pause)) => tokio::time::sleep(pause).await,
        Some(Mood::Status(status, more)) => {
            let said = axum::Json(json!({ "message": "not now", "documentation_url": "x" }));
            let mut response = (StatusCode::from_u16(status).unwrap(), said).into_response();
            for (name, value) in more {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            return response;
        }
        None => {}
    }
    if uri.path().starts_with("/ada/app.git") {
        let who = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let status = if who.is_empty() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        let mut hub = hub.lock().unwrap();
        // Everybody on a machine may read the arguments of programs.
        let encoded = who.trim_start_matches("Basic ");
        let secrets = hub.tokens.keys().map(String::as_str).chain([encoded]).filter(|secret| !secret.is_empty());
        let told: Vec<String> = secrets.filter(|secret| is_in_arguments(secret)).map(str::to_owned).collect();
        hub.faults.extend(told.into_iter().map(|secret| format!("{secret} is in the arguments of a program")));
        hub.git.push(who);
        return (status, [("www-authenticate", "Basic realm=\"x\"")]).into_response();
    }
    let body: Json = serde_json::from_slice(&body).unwrap_or(Json::Null);
    let (status, json) = hub.lock().unwrap().answer(&method, &uri, &headers, &body);
    let etag =
        format!("\"{:x}\"", json.to_string().bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte)));
    let known = headers.get("if-none-match").and_then(|value| value.to_str().ok());
    let mut response = if method == Method::GET && known == Some(&etag) {
        hub.lock().unwrap().unchanged += 1;
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (StatusCode::from_u16(status).unwrap(), [("etag", etag)], axum::Json(json)).into_response()
    };
    if let Some(interval) = hub.lock().unwrap().interval.filter(|_| uri.path().ends_with("/events")) {
        response.headers_mut().insert("x-poll-interval", interval.into());
    }
    response
}

/// Whether the arguments of any program that runs now hold a text.
fn is_in_arguments(text: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|arguments| arguments.windows(text.len()).any(|part| part == text.as_bytes()))
}

impl Hub {
    fn answer(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Json) -> (u16, Json) {
        let refuse = |status: u16, message: &str| (status, json!({ "message": message, "documentation_url": "x" }));
        let path = uri.path().strip_prefix("/api/v3").unwrap_or_default().to_owned();
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = bearer.rsplit(' ').next().unwrap_or_default().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        self.served += 1;
        // What only the App itself may ask, with a signed token.
        let is_app = token.matches('.').count() == 2;
        match (method.as_str(), &parts[..]) {
            ("GET", ["app"]) if is_app => return (200, json!({ "id": 5, "slug": "lab-towline" })),
            ("GET", ["repos", _, _, "installation"]) if is_app => {
                let permissions = json!({
                    "metadata": "read", "contents": "write", "checks": "write", "issues": "write", "statuses": "read",
                    "deployments": "write",
                });
                return (200, json!({ "id": 77, "permissions": permissions }));
            }
            ("POST", ["app", "installations", "77", "access_tokens"]) if is_app => {
                let token = format!("ghs_{}{}", self.made.len() + 1, "a".repeat(30));
                self.made.push(body.clone());
                self.tokens.insert(
                    token.clone(),
                    body.get("permissions").cloned().unwrap_or_else(|| json!({"checks": "write"})),
                );
                let permissions = body.get("permissions").cloned().unwrap_or_else(|| json!({}));
                return (
                    201,
                    json!({
                        "token": token, "expires_at": "2099-01-01T00:00:00Z", "permissions": permissions, "repositories": [],
                    }),
                );
            }
            _ => {}
        }
        if token != "ghp_known" && (!self.tokens.contains_key(&token) || self.revoked.contains(&token)) {
            return refuse(401, "Bad credentials");
        }
        match (method.as_str(), &parts[..]) {
            ("DELETE", ["installation", "token"]) => {
                self.revoked.insert(token);
                (204, Json::Null)
            }
            ("POST", ["repos", _, _, "check-runs"]) => {
                self.check("/repos/{owner}/{repo}/check-runs", "post", body);
                let id = self.checks.len() as u64 + 1;
                let mut check = body.clone();
                check["id"] = json!(id);
                check["annotations"] = body["output"]["annotations"].clone();
                self.checks.push(check);
                (201, json!({ "id": id }))
            }
            ("PATCH", ["repos", _, _, "check-runs", id]) => {
                self.check("/repos/{owner}/{repo}/check-runs/{check_run_id}", "patch", body);
                let id: usize = id.parse().unwrap();
                let Some(check) = self.checks.get_mut(id - 1) else { return refuse(404, "Not Found") };
                for (key, value) in body.as_object().unwrap() {
                    check[key] = value.clone();
                }
                let more = body["output"]["annotations"].as_array().cloned().unwrap_or_default();
                check["annotations"].as_array_mut().unwrap().extend(more);
                (200, json!({ "id": id }))
            }
            ("POST", ["repos", _, _, "statuses", _]) => {
                self.check("/repos/{owner}/{repo}/statuses/{sha}", "post", body);
                self.statuses.push(body.clone());
                (201, json!({ "id": self.statuses.len() }))
            }
            ("POST", ["repos", _, _, "deployments"]) => {
                let mut deployment = body.clone();
                deployment["statuses"] = json!([]);
                self.deployments.push(deployment);
                (201, json!({ "id": self.deployments.len() }))
            }
            ("POST", ["repos", _, _, "deployments", id, "statuses"]) => {
                let id: usize = id.parse().unwrap();
                self.deployments[id - 1]["statuses"].as_array_mut().unwrap().push(body.clone());
                (201, json!({ "id": 1 }))
            }
            ("GET", ["repos", owner, name]) => (
                200,
                json!({
                    "full_name": format!("{owner}/{name}"), "name": name, "owner": { "login": owner }, "default_branch": "main",
                    "html_url": format!("https://github.lan/{owner}/{name}"),
                }),
            ),
            ("GET", ["repos", _, _, "pulls"]) => (200, self.pulls.clone()),
            ("GET", ["repos", _, _, "activity"]) => (200, self.activity.clone()),
            ("GET", ["repos", _, _, "events"]) => {
                self.asked += 1;
                (200, self.events.clone())
            }
            _ => {
                self.faults.push(format!("nobody knows {method} {path}"));
                refuse(404, "Not Found")
            }
        }
    }

    /// Compares a body with GitHub's description of the operation.
    fn check(&mut self, operation: &str, method: &str, body: &Json) {
        let Some(description) = &self.description else { return };
        let schema = &description["paths"][operation][method]["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{operation}");
        let mut faults = Vec::new();
        validate(description, schema, body, operation, &mut faults);
        self.faults.extend(faults);
    }
}

/// What of a JSON Schema matters here.
fn validate(root: &Json, schema: &Json, value: &Json, place: &str, faults: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return validate(root, root.pointer(reference.trim_start_matches('#')).unwrap(), value, place, faults);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let fits = choices.iter().any(|one| {
                let mut found = Vec::new();
                validate(root, one, value, place, &mut found);
                // A choice need not name everything.
                found.iter().all(|fault| fault.contains("there is no "))
            });
            if !fits {
                faults.push(format!("{place}: none of {choice} fits {value}"));
            }
        }
    }
    let is = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    let absent = value.is_null() && schema["nullable"] == true;
    if !is && !absent {
        faults.push(format!("{place}: {value} is no {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        faults.push(format!("{place}: {value} is none of {words:?}"));
    }
    let limit = |key: &str| schema[key].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    if value.as_str().is_some_and(|text| text.chars().count() > limit("maxLength"))
        || value.as_array().is_some_and(|items| items.len() > limit("maxItems"))
    {
        faults.push(format!("{place}: too long"));
    }
    for item in value.as_array().into_iter().flatten() {
        validate(root, &schema["items"], item, place, faults);
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, value) in fields {
            match properties.get(name) {
                Some(property) => validate(root, property, value, &format!("{place}.{name}"), faults),
                None => faults.push(format!("{place}: there is no {name}")),
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(required.as_str().unwrap()) {
                faults.push(format!("{place}: {required} is missing"));
            }
        }
    }
}

/// A private key of an App in a file.
pub(super) fn app_key(directory: &std::path::Path) -> std::path::PathBuf {
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    let file = directory.join("app.pem");
    std::fs::write(&file, pem).unwrap();
    file
}

const WORKFLOW: &str = "name: CI
on: [push, pull_request]
permissions:
  contents: read
  issues: write
  packages: write
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: |
          echo \"told ${{ github.token }}\"
          printf %s '${{ secrets.GITHUB_TOKEN }}' > $OUT
          echo '::error file=src/a.rs,line=3,title=Fault::It is wrong'
          echo '# Hello' >> $GITHUB_STEP_SUMMARY
          exit 1
";

/// A daemon whose repository is on the fake GitHub, with an App; its work tree, and what a push webhook says.
pub(super) struct Lab {
    pub(super) hub: GitHub,
    pub(super) whole: Whole,
    pub(super) project: tempfile::TempDir,
    pub(super) head: String,
}

impl Lab {
    pub(super) async fn start(more: &str) -> Self {
        Self::start_at(more, Clock::System).await
    }

    async fn start_at(more: &str, clock: Clock) -> Self {
        let hub = GitHub::start().await;
        let project = tempfile::tempdir().unwrap();
        super::daemon::git(project.path(), &["init", "-q"]);
        let workflow = WORKFLOW.replace("$OUT", project.path().join(".git/out").to_str().unwrap());
        let head = super::daemon::commit(project.path(), &[(".github/workflows/ci.yml", &workflow)], "first");
        let key = app_key(project.path().join(".git").as_path());
        let config = format!(
            "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{}/ada/app.git'\npath = '{}'\n\
             webhook_secret = ['old', 'hush']\n{more}\n[source.app]\nid = 5\nprivate_key = {{ file = '{}' }}\n",
            hub.url,
            project.path().display(),
            key.display()
        );
        let whole = Whole::start_at(&config, clock).await;
        Self { hub, whole, project, head }
    }

    pub(super) async fn deliver(&self, event: &str, id: &str, payload: &Json) -> u16 {
        let body = serde_json::to_vec(payload).unwrap();
        let address = self.whole.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        super::webhooks::deliver_signed(address, "hush", event, id, &body).await.0
    }

    pub(super) fn push(&self, sender: &str) -> Json {
        json!({
            "ref": "refs/heads/main", "before": "0".repeat(40), "after": self.head, "created": true, "deleted": false,
            "repository": { "full_name": "ada/app", "default_branch": "main", "name": "app", "owner": { "login": "ada" } },
            "sender": { "login": sender, "type": if sender.ends_with("[bot]") { "Bot" } else { "User" } },
            "head_commit": { "id": self.head, "message": "first" },
        })
    }

    /// Waits for a run that is held, and lets it go.
    async fn approve(&self) {
        let store = self.whole.daemon().store().clone();
        let mut updates = self.whole.daemon().engine().updates();
        let run = loop {
            let runs = store.runs(&towline::store::RunFilter::default(), 0, 100).unwrap().runs;
            if let Some(run) = runs.into_iter().find(|run| run.held) {
                break run;
            }
            drop(updates.recv().await);
        };
        assert!(store.jobs(run.id, 1).unwrap().is_empty(), "{run:?}");
        let approve = format!("/api/v3/repos/ada/app/actions/runs/{}/approve", run.id);
        let address = self.whole.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let (status, _, said) = super::webhooks::post(address, &approve, &[], b"").await;
        assert_eq!(status, 201, "{said}");
    }

    pub(super) fn pressed(&self, action: &str, number: usize, identifier: &str) -> Json {
        let check = self.hub.hub.lock().unwrap().checks[number].clone();
        json!({
            "action": action,
            "check_run": { "id": check["id"], "external_id": check["external_id"], "head_sha": self.head, "app": { "id": 5 } },
            "requested_action": { "identifier": identifier },
            "repository": { "full_name": "ada/app", "default_branch": "main" },
            "sender": { "login": "grace" },
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_app_shows_a_check_with_annotations_and_obeys_its_buttons() {
    let lab = Lab::start("").await;
    let (hub, whole) = (&lab.hub, &lab.whole);
    assert_eq!(lab.deliver("push", "one", &lab.push("ada")).await, 202);
    let runs = whole.ended(1).await;
    let ended = |hub: &Hub, number: usize| hub.checks.get(number).is_some_and(|check| check["status"] == "completed");
    hub.until("the check", |hub| ended(hub, 0)).await;
    hub.until("the end of the token", |hub| hub.revoked.len() == 1).await;
    {
        let state = hub.hub.lock().unwrap();
        let check = &state.checks[0];
        assert_eq!((&check["name"], &check["conclusion"]), (&json!("CI / test (push)"), &json!("failure")));
        let annotations: Vec<(&str, u64, &str)> = check["annotations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                (one["path"].as_str().unwrap(), one["start_line"].as_u64().unwrap(), one["message"].as_str().unwrap())
            })
            .collect();
        assert_eq!(annotations[0], ("src/a.rs", 3, "It is wrong"));
        assert_eq!(annotations.iter().filter(|one| one.2 == "It is wrong").count(), 1);
        assert_eq!(check["actions"][0]["identifier"], "rerun_failed");
        let summary = check["output"]["summary"].as_str().unwrap();
        assert!(summary.starts_with("# Hello") && summary.contains("| Complete job | success |"), "{summary}");
        // The token was the job's own: as far as `permissions:` and the App go, for this repository alone.
        let asked = state.made.iter().find(|made| made["repositories"] == json!(["app"])).unwrap();
        assert_eq!(asked["permissions"], json!({ "contents": "read", "issues": "write", "metadata": "read" }));
        let token = std::fs::read_to_string(lab.project.path().join(".git/out")).unwrap();
        assert!(state.revoked.contains(&token), "{token} {:?}", state.revoked);
        let job = whole.daemon().store().jobs(runs[0].id, 1).unwrap()[0].state.id;
        let log = towline::store::logs::LogId { run: runs[0].id, attempt: 1, job };
        let log = whole.daemon().store().logs().read(log, 0, 1 << 20).unwrap();
        let log = String::from_utf8_lossy(&log);
        assert!(log.contains("told ***") && !log.contains(&token), "{log}");
    }
    // What jobs do with their token starts nothing (T16).
    for (id, sender) in [("bot", "github-actions[bot]"), ("own", "lab-towline[bot]")] {
        assert_eq!(lab.deliver("push", id, &lab.push(sender)).await, 202);
    }
    // Re-run from GitHub: another attempt, another check.
    assert_eq!(lab.deliver("check_run", "again", &lab.pressed("rerequested", 0, "")).await, 202);
    hub.until("the second check", |hub| ended(hub, 1)).await;
    let runs = whole.ended(1).await;
    assert_eq!((runs.len(), runs[0].attempt, runs[0].triggering_actor.as_str()), (1, 2, "grace"));
    // The App's token is gone, GitHub is slow, broken and at its limit: told all the same.
    {
        let mut hub = hub.hub.lock().unwrap();
        let all: Vec<String> = hub.tokens.keys().cloned().collect();
        hub.revoked.extend(all);
        hub.moods.extend([
            Mood::Slow(Duration::from_millis(50)),
            Mood::Status(502, Vec::new()),
            Mood::Status(429, vec![("retry-after", "1".to_owned())]),
        ]);
    }
    assert_eq!(lab.deliver("check_run", "third", &lab.pressed("requested_action", 1, "rerun_failed")).await, 202);
    hub.until("the third check", |hub| ended(hub, 2)).await;
    assert_eq!(whole.ended(1).await[0].attempt, 3);
    assert_eq!(hub.faults(), Vec::<String>::new());
    lab.whole.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t7_a_fork_waits_for_somebody_and_then_only_reads() {
    let lab = Lab::start("").await;
    let git = |arguments: &[&str]| super::daemon::git(lab.project.path(), arguments);
    git(&["update-ref", "refs/pull/7/merge", &lab.head]);
    assert_eq!(lab.deliver("pull_request", "fork", &opened(7, &lab.head, "bob/app")).await, 202);
    let store = lab.whole.daemon().store().clone();
    lab.approve().await;
    let runs = lab.whole.ended(1).await;
    assert_eq!((runs.len(), runs[0].event.as_str()), (1, "pull_request"));
    lab.hub.until("the token", |hub| hub.revoked.len() == 1).await;
    let asked = lab.hub.hub.lock().unwrap().made.iter().find(|made| made["repositories"] == json!(["app"])).cloned();
    assert_eq!(asked.unwrap()["permissions"], json!({ "contents": "read", "issues": "read", "metadata": "read" }));
    // T15: the head commit says that nothing shall run.
    let skip = super::daemon::commit(lab.project.path(), &[("x", "1")], "wip [skip ci]");
    git(&["update-ref", "refs/pull/8/merge", &skip]);
    assert_eq!(lab.deliver("pull_request", "skip", &opened(8, &skip, "ada/app")).await, 202);
    loop {
        let open = store.open_deliveries().unwrap();
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let filter = towline::store::DeliveryFilter::default();
    let last = store.deliveries(&filter, 0, 1).unwrap().remove(0);
    let towline::store::DeliveryState::Handled { runs, note } = last.state else { panic!("{last:?}") };
    assert!(runs.is_empty() && note.contains("[skip ci]"), "{note}");
    assert_eq!(lab.hub.faults(), Vec::<String>::new());
    lab.whole.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t7_the_code_of_a_fork_gets_no_other_repository_of_this_machine() {
    let lab = Lab::start("").await;
    let private = lab.whole.project("private");
    lab.whole.push(&private, &[("secret", "hidden\n")]).await;
    let workflow = "on: pull_request\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n        \
                    with: { repository: local/private, path: other }\n      - run: cat other/secret\n";
    let head = super::daemon::commit(lab.project.path(), &[(".github/workflows/ci.yml", workflow)], "reads another");
    let mut logs = Vec::new();
    // A pull request of the repository's own people may; the same one from a fork may not, approved or not.
    for (number, from) in [(1, "ada/app"), (2, "bob/app")] {
        super::daemon::git(lab.project.path(), &["update-ref", &format!("refs/pull/{number}/merge"), &head]);
        assert_eq!(lab.deliver("pull_request", from, &opened(number, &head, from)).await, 202);
        if from == "bob/app" {
            lab.approve().await;
        }
        let run = lab.whole.ended(logs.len() + 1).await.pop().unwrap();
        let store = lab.whole.daemon().store();
        let job = store.jobs(run.id, 1).unwrap()[0].state.id;
        let log = store.logs().read(towline::store::logs::LogId { run: run.id, attempt: 1, job }, 0, 1 << 20).unwrap();
        logs.push((run.conclusion, String::from_utf8_lossy(&log).into_owned()));
    }
    assert_eq!(logs[0].0, Some(towline::run::Conclusion::Success), "{}", logs[0].1);
    assert!(logs[0].1.contains("hidden"), "{}", logs[0].1);
    assert_eq!(logs[1].0, Some(towline::run::Conclusion::Failure), "{}", logs[1].1);
    // It is asked for at the forge, as any other that is not here.
    assert!(!logs[1].1.contains("hidden"), "{}", logs[1].1);
    lab.whole.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_reads_private_repositories_with_a_token_of_its_own() {
    let hub = GitHub::start().await;
    let directory = tempfile::tempdir().unwrap();
    let key = app_key(directory.path());
    let daemon = super::daemon::Daemon::new(&format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{}/ada/app.git'\n[source.app]\nid = 5\nprivate_key = {{ file = '{}' }}\n",
        hub.url,
        key.display()
    ));
    let source = daemon.triggers.source("ada/app").unwrap();
    for _ in 0..2 {
        let error = daemon.triggers.inventory().open(&source, &[]).await.unwrap_err();
        assert!(!error.to_string().contains("ghs_"), "{error}");
    }
    assert_eq!(hub.faults(), Vec::<String>::new());
    let hub = hub.hub.lock().unwrap();
    let (token, permissions) = hub.tokens.first_key_value().unwrap();
    assert_eq!((hub.tokens.len(), permissions), (1, &json!({ "contents": "read", "metadata": "read" })));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
    assert!(hub.git.contains(&format!("Basic {basic}")), "{:?}", hub.git);
}

/// What a webhook says of a pull request that bob opened.
fn opened(number: u64, head: &str, from: &str) -> Json {
    let pull = pull(number, "open", head, from);
    json!({
        "action": "opened", "number": number, "pull_request": pull, "repository": pull["base"]["repo"],
        "sender": { "login": "bob" },
    })
}

pub(super) fn pull(number: u64, state: &str, head: &str, from: &str) -> Json {
    let repo =
        |name: &str| json!({ "full_name": name, "default_branch": "main", "name": "app", "owner": { "login": "ada" } });
    json!({
        "number": number, "state": state, "title": "t", "draft": false, "updated_at": "2026-11-21T12:00:00Z",
        "merged_at": null, "user": { "login": "bob" },
        "head": { "sha": head, "ref": "topic", "repo": repo(from) }, "base": { "ref": "main", "sha": head, "repo": repo("ada/app") },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_bring_what_webhooks_would_and_nothing_twice() {
    let lab = Lab::start("triggers = ['webhook', 'poll']\npoll_interval = '1d'").await;
    let hub = &lab.hub;
    let daemon = super::daemon::Daemon::new(&format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = '{}/ada/app.git'\npath = '{}'\ntoken = 'ghp_known'\ntriggers = ['webhook', 'poll']\nwebhook_secret = 'hush'\n",
        hub.url,
        lab.project.path().display()
    ));
    let source = daemon.triggers.source("ada/app").unwrap();
    let look = async || towline::triggers::poll::look(&daemon.triggers, &source).await.unwrap();
    assert_eq!(look().await, 0);
    assert_eq!(look().await, 0);
    assert!(hub.hub.lock().unwrap().unchanged >= 2);
    {
        let mut hub = hub.hub.lock().unwrap();
        hub.pulls = json!([pull(7, "open", &lab.head, "ada/app")]);
        let actor = json!({ "login": "bob" });
        hub.events = json!([
            { "id": "1", "type": "WatchEvent", "actor": actor, "payload": { "action": "started" } },
            { "id": "2", "type": "PushEvent", "actor": actor, "payload": {} },
        ]);
    }
    assert_eq!(look().await, 2);
    let runs = daemon.runs();
    assert_eq!(runs.len(), 1);
    let event = &runs[0].event;
    assert_eq!((event.name.as_str(), event.action.as_deref()), ("pull_request", Some("opened")));
    assert_eq!((event.git_ref.as_str(), event.actor.as_str()), ("refs/pull/7/merge", "bob"));
    // A webhook brings the same: nothing new.
    let address = daemon.serve_webhooks().await;
    let mut payload = json!({ "action": "opened", "number": 7, "pull_request": pull(7, "open", &lab.head, "ada/app") });
    payload["repository"] = payload["pull_request"]["base"]["repo"].clone();
    payload["sender"] = json!({ "login": "bob" });
    let body = serde_json::to_vec(&payload).unwrap();
    let (status, ..) = super::webhooks::deliver_signed(address, "hush", "pull_request", "w1", &body).await;
    assert_eq!(status, 202);
    super::webhooks::settled(&daemon).await;
    assert_eq!(daemon.runs().len(), 1);
    // At the rate limit it is said when to come back.
    hub.hub.lock().unwrap().moods.push_back(Mood::Status(403, vec![("retry-after", "77".to_owned())]));
    let error = towline::triggers::poll::look(&daemon.triggers, &source).await.unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
    assert_eq!(look().await, 0);
    assert_eq!(hub.faults(), Vec::<String>::new());
    lab.whole.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_brings_webhooks_to_a_home_that_nobody_reaches() {
    let project = tempfile::tempdir().unwrap();
    super::daemon::git(project.path(), &["init", "-q"]);
    let ci = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n";
    let head = super::daemon::commit(project.path(), &[(".github/workflows/ci.yml", ci)], "first");
    let body = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": head,
        "repository": { "full_name": "ada/app", "default_branch": "main" }, "sender": { "login": "ada" },
        "head_commit": { "id": head, "message": "größer" },
    });
    let message = |secret: &str, id: &str, raw: bool| {
        let text = serde_json::to_vec(&body).unwrap();
        let mut message = json!({
            "x-github-event": "push", "x-github-delivery": id, "content-type": "application/json",
            "x-hub-signature-256": format!("sha256={}", super::webhooks::sign(secret, &text)), "timestamp": 1, "query": {},
        });
        let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
        if raw {
            message["bodyB"] = json!(encoded);
        } else {
            message["body"] = body.clone();
        }
        format!("id: {id}\ndata: {message}\n\n")
    };
    let told = ["event: ready\ndata: {}\n\n".to_owned(), message("hush", "one", false), message("wrong", "two", false)];
    let rest = [message("hush", "three", true), message("hush", "one", false), ": ping\n\n".to_owned()];
    // The relay is away at first, breaks off once, and is told what came last.
    let asked: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = format!("http://{}/channel", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(move |headers: HeaderMap| {
        let last = headers.get("last-event-id").map(|value| value.to_str().unwrap().to_owned());
        let mut seen = seen.lock().unwrap();
        seen.push(last);
        let (status, text) = match seen.len() {
            1 => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
            2 => (StatusCode::OK, told.concat()),
            _ => (StatusCode::OK, rest.concat()),
        };
        async move { (status, [("content-type", "text/event-stream")], text) }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let daemon = super::daemon::Daemon::new(&format!(
        "[[source]]\nname = 'ada/app'\nkind = 'github'\nurl = 'http://127.0.0.1:1/x.git'\npath = '{}'\nwebhook_secret = 'hush'\nrelay = '{relay}'\n",
        project.path().display()
    ));
    let stop = tokio_util::sync::CancellationToken::new();
    let listening = tokio::spawn(towline::triggers::relay::run(daemon.triggers.clone(), stop.clone()));
    let wait = async {
        while daemon.runs().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{:?}", asked.lock().unwrap());
    stop.cancel();
    listening.await.unwrap();
    super::webhooks::settled(&daemon).await;
    assert_eq!(daemon.runs().len(), 2);
    let asked = asked.lock().unwrap();
    assert_eq!((&asked[1], asked[2].as_deref()), (&None, Some("two")));
    // It waits between two times, longer after one that failed.
    assert!(asked.len() < 6, "{asked:?}");
}

const DEPLOY: &str = "name: Deploy
on: push
jobs:
  live:
    runs-on: ubuntu-latest
    environment: {name: production, url: 'https://app.example/${{ steps.at.outputs.path }}'}
    steps:
      - id: at
        run: echo path=v1 >> $GITHUB_OUTPUT
  quiet:
    runs-on: ubuntu-latest
    environment: {name: staging, deployment: false}
    steps: [{run: 'true'}]
  broken:
    runs-on: ubuntu-latest
    environment: staging
    steps: [{run: 'exit 1'}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_github_is_told_of_deployments_and_how_they_ended() {
    let mut lab = Lab::start("").await;
    lab.head = super::daemon::commit(lab.project.path(), &[(".github/workflows/ci.yml", DEPLOY)], "deploy");
    assert_eq!(lab.deliver("push", "one", &lab.push("ada")).await, 202);
    lab.whole.ended(1).await;
    let last = |deployment: &Json| deployment["statuses"].as_array().and_then(|all| all.last().cloned());
    let over = |deployment: &Json| last(deployment).is_some_and(|last| last["state"] != "in_progress");
    lab.hub.until("both ends", |hub| hub.deployments.iter().filter(|one| over(one)).count() == 2).await;
    let mut deployments = lab.hub.hub.lock().unwrap().deployments.clone();
    deployments.sort_by_key(|one| one["environment"].to_string());
    assert_eq!(deployments.len(), 2, "{deployments:?}");
    let (live, broken) = (&deployments[0], &deployments[1]);
    assert_eq!((&live["environment"], &broken["environment"]), (&json!("production"), &json!("staging")));
    assert_eq!(
        (&live["ref"], &live["auto_merge"], &live["required_contexts"]),
        (&json!(lab.head), &json!(false), &json!([]))
    );
    let (live, broken) = (last(live).unwrap(), last(broken).unwrap());
    assert_eq!((&live["state"], &live["environment_url"]), (&json!("success"), &json!("https://app.example/v1")));
    assert_eq!(broken["state"], "failure");
    assert!(live["log_url"].as_str().unwrap().contains("/ada/app/actions/runs/1/job/"), "{live}");
    assert_eq!(lab.hub.faults(), Vec::<String>::new());
    lab.whole.end().await;
}

const LONG: &str = "on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - run: printf %s '${{ github.token }}' > $DIR/1
      - run: until [ -e $DIR/gate ]; do sleep 0.02; done
      - run: printf %s '${{ secrets.GITHUB_TOKEN }}' > $DIR/2; echo 'told ${{ github.token }}'
      - run: printf %s '${{ github.token }}' > $DIR/3
";

/// GitHub ends an App's token after an hour: a step that begins long after its job did has another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_a_long_job_have_a_token_that_is_good() {
    let time = Arc::new(Mutex::new(Clock::System.now()));
    let mut lab = Lab::start_at("", Clock::Manual(Arc::clone(&time))).await;
    let directory = lab.project.path().join(".git");
    let workflow = LONG.replace("$DIR", directory.to_str().unwrap());
    lab.head = super::daemon::commit(lab.project.path(), &[(".github/workflows/ci.yml", &workflow)], "long");
    assert_eq!(lab.deliver("push", "one", &lab.push("ada")).await, 202);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    lab.hub.until("the first step", |_| !read("1").is_empty()).await;
    *time.lock().unwrap() += jiff::SignedDuration::from_mins(50);
    std::fs::write(directory.join("gate"), "").unwrap();
    let runs = lab.whole.ended(1).await;
    lab.hub.until("the end of the tokens", |hub| hub.revoked.len() == 2).await;
    let (first, second) = (read("1"), read("2"));
    assert!(first.starts_with("ghs_") && second.starts_with("ghs_") && first != second, "{first} {second}");
    assert_eq!(second, read("3"), "a token that is young is kept");
    assert!(lab.hub.hub.lock().unwrap().revoked.contains(&second));
    let job = lab.whole.daemon().store().jobs(runs[0].id, 1).unwrap()[0].state.id;
    let log = towline::store::logs::LogId { run: runs[0].id, attempt: 1, job };
    let log = lab.whole.daemon().store().logs().read(log, 0, 1 << 20).unwrap();
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("told ***") && !log.contains(&second), "{log}");
    assert_eq!(lab.hub.faults(), Vec::<String>::new());
    lab.whole.end().await;
}
