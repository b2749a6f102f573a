//! Reports to forges: a forge that keeps what it is told, and can be down, slow to forgive, or closed to us.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use towline::clock::Clock;
use towline::config::{self, Config};
use towline::forge::{self, Outbox, Report};
use towline::id::RepositoryName;
use towline::run::Conclusion;
use towline::run::report::{Annotation, AnnotationLevel};
use towline::store::Store;

use crate::support::conformance;

/// A request as the forge saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    path: String,
    authorization: String,
    body: Json,
}

/// A status, headers, and a message.
type Mood = (u16, Vec<(&'static str, String)>, &'static str);

#[derive(Clone, Default)]
struct Forge {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What to answer next instead of success.
    moods: Arc<Mutex<VecDeque<Mood>>>,
}

impl Forge {
    async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn mood(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.moods.lock().unwrap().push_back((status, headers, "not now"));
    }

    /// Refuses in words alone.
    fn says(&self, status: u16, message: &'static str) {
        self.moods.lock().unwrap().push_back((status, Vec::new(), message));
    }

    /// What came in since the last time.
    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn answer(State(forge): State<Forge>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let path = uri.path().to_owned();
    let body = serde_json::from_slice(&body).unwrap_or(Json::Null);
    forge.seen.lock().unwrap().push(Seen { method: method.clone(), path: path.clone(), authorization, body });
    let mood = forge.moods.lock().unwrap().pop_front();
    if let Some((status, headers, message)) = mood {
        let mut response =
            (StatusCode::from_u16(status).unwrap(), axum::Json(json!({ "message": message }))).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    let answer = if path.ends_with("/installation") {
        json!({ "id": 77 })
    } else if path.ends_with("/access_tokens") {
        json!({ "token": "ghs_installation", "expires_at": "2099-01-01T00:00:00Z", "permissions": {}, "repositories": [] })
    } else {
        json!({ "id": 4242 })
    };
    let status = if method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
    (status, axum::Json(answer)).into_response()
}

struct Desk {
    forge: Forge,
    store: Store,
    config: Arc<Config>,
    time: Arc<Mutex<Timestamp>>,
}

impl Desk {
    async fn new(kind: &str, credentials: &str) -> Self {
        let forge = Forge::default();
        let address = forge.serve().await;
        Self { forge, ..Self::at(kind, credentials, address) }
    }

    /// The same with a forge of one's own.
    fn at(kind: &str, credentials: &str, address: SocketAddr) -> Self {
        let text = format!(
            "[[source]]\nname = 'ada/app'\nkind = '{kind}'\nurl = 'http://{address}/ada/app.git'\ntriggers = []\n{credentials}\n"
        );
        let (config, diagnostics) = config::parse(&[config::File { path: "t.toml".into(), text }]);
        let config = Arc::new(config.unwrap_or_else(|| panic!("{diagnostics:?}")));
        let time = Arc::new(Mutex::new("2026-11-21T12:00:00Z".parse().unwrap()));
        Self { forge: Forge::default(), store: Store::temporary().unwrap(), config, time }
    }

    /// An outbox over the same store, as after a restart.
    fn outbox(&self) -> Outbox {
        let config = Arc::clone(&self.config);
        let source_of = move |name: &RepositoryName| config.sources.iter().find(|source| source.name == *name).cloned();
        Outbox::new(self.store.clone(), Clock::Manual(Arc::clone(&self.time)), Arc::new(source_of), Arc::new(Vec::new))
    }

    fn pass(&self, seconds: i64) {
        *self.time.lock().unwrap() += SignedDuration::from_secs(seconds);
    }
}

fn report(state: forge::State) -> Report {
    Report {
        repository: "ada/app".into(),
        sha: "a".repeat(40),
        context: "CI / test (push)".to_owned(),
        state,
        description: "x".repeat(200),
        summary: "s".repeat(70_000),
        url: "https://towline.lan/ada/app/actions/runs/1/job/2".to_owned(),
        external_id: "2".to_owned(),
        started_at: Some("2026-11-21T11:59:00Z".parse().unwrap()),
        completed_at: Some("2026-11-21T12:00:00Z".parse().unwrap()),
        annotations: Vec::new(),
    }
}

const SUCCESS: forge::State = forge::State::Ended(Conclusion::Success);

/// Whether a body is what GitHub's description of the operation allows. Says what was compared.
fn check_against_description(operation: &str, method: &str, body: &Json) -> bool {
    let Some(folder) = conformance("rest-api") else { return false };
    let text = std::fs::read(folder.join("openapi-actions-checks-statuses.json")).unwrap();
    let api: Json = serde_json::from_slice(&text).unwrap();
    let schema = &api["paths"][operation][method]["requestBody"]["content"]["application/json"]["schema"];
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{operation} has no properties"));
    for (name, value) in body.as_object().unwrap() {
        let property = properties.get(name).unwrap_or_else(|| panic!("{operation} has no property {name}"));
        if let Some(words) = property["enum"].as_array() {
            assert!(words.contains(value), "{name} cannot be {value}");
        }
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(body.get(required.as_str().unwrap()).is_some(), "{operation} needs {required}");
    }
    true
}

#[tokio::test]
async fn only_the_latest_state_is_told() {
    let desk = Desk::new("github", "token = 'ghp_1'").await;
    let outbox = desk.outbox();
    for state in [forge::State::Queued, forge::State::Running, SUCCESS] {
        outbox.put(report(state)).await.unwrap();
    }
    assert_eq!(outbox.turn().await.unwrap(), None);
    let seen = desk.forge.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (&seen[0].method, seen[0].path.as_str()),
        (&Method::POST, &*format!("/api/v3/repos/ada/app/statuses/{}", "a".repeat(40)))
    );
    assert_eq!(seen[0].authorization, "Bearer ghp_1");
    assert_eq!((&seen[0].body["state"], &seen[0].body["context"]), (&json!("success"), &json!("CI / test (push)")));
    assert_eq!(seen[0].body["description"].as_str().unwrap().chars().count(), 140);
    check_against_description("/repos/{owner}/{repo}/statuses/{sha}", "post", &seen[0].body);
    assert_eq!(outbox.waiting().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_the_forge_answers_is_told_too() {
    let desk = Desk::new("github", "token = 'ghp_1'").await;
    let outbox = desk.outbox();
    for round in 0..150_u32 {
        let mut first = report(forge::State::Queued);
        first.context = format!("CI / {round}");
        let last = Report { state: SUCCESS, ..first.clone() };
        // Every third is taken by the forge, the others are not, for good or for now.
        match round % 3 {
            0 => {}
            1 => desk.forge.mood(422, &[]),
            _ => desk.forge.mood(502, &[]),
        }
        outbox.put(first).await.unwrap();
        let sending = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.turn().await.unwrap() }
        });
        while desk.forge.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        // From before the forge has answered to after that was noted.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        outbox.put(last).await.unwrap();
        sending.await.unwrap();
        desk.pass(10);
        outbox.turn().await.unwrap();
        let seen = desk.forge.seen();
        let told = seen.last().map(|seen| &seen.body["state"]);
        assert_eq!((told, outbox.waiting().unwrap()), (Some(&json!("success")), 0), "round {round}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_no_report_up() {
    let desk = Desk::new("github", "token = 'ghp_1'").await;
    let outbox = desk.outbox();
    outbox.put(report(SUCCESS)).await.unwrap();
    desk.forge.mood(429, &[("retry-after", "100")]);
    outbox.turn().await.unwrap();
    desk.pass(-5 * 3600);
    assert_eq!(outbox.turn().await.unwrap(), None);
    assert_eq!((desk.forge.seen().len(), outbox.waiting().unwrap()), (2, 0));
}

#[tokio::test]
async fn a_forge_that_is_down_is_told_later_also_after_a_restart() {
    let desk = Desk::new("github", "token = 'ghp_1'").await;
    desk.outbox().put(report(SUCCESS)).await.unwrap();
    desk.forge.mood(502, &[]);
    let now = *desk.time.lock().unwrap();
    assert_eq!(desk.outbox().turn().await.unwrap(), Some(now + SignedDuration::from_secs(2)));
    // Too early: not even asked.
    desk.pass(1);
    desk.outbox().turn().await.unwrap();
    assert_eq!(desk.forge.seen().len(), 1);
    desk.pass(1);
    desk.forge.mood(429, &[("retry-after", "100")]);
    let now = *desk.time.lock().unwrap();
    assert_eq!(desk.outbox().turn().await.unwrap(), Some(now + SignedDuration::from_secs(100)));
    desk.pass(100);
    let date = "Sat, 21 Nov 2026 12:00:00 GMT";
    let reset = "2026-11-21T12:10:00Z".parse::<Timestamp>().unwrap().as_second().to_string();
    desk.forge.mood(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset), ("date", date)]);
    let now = *desk.time.lock().unwrap();
    assert_eq!(desk.outbox().turn().await.unwrap(), Some(now + SignedDuration::from_secs(600)));
    desk.pass(600);
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    assert_eq!(desk.forge.seen().len(), 3);
    assert_eq!((desk.outbox().waiting().unwrap(), desk.outbox().dead().unwrap().len()), (0, 0));
}

#[tokio::test]
async fn what_is_refused_for_good_is_shown_as_dead() {
    let desk = Desk::new("github", "token = 'revoked'").await;
    desk.outbox().put(report(SUCCESS)).await.unwrap();
    // Once more with the token as it is configured now, then no more.
    desk.forge.mood(401, &[]);
    desk.forge.mood(401, &[]);
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    let dead = desk.outbox().dead().unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.ends_with("answered 401: not now"), "{}", dead[0].reason);
    // The token was replaced: somebody has it sent again.
    let letters = desk.outbox().letters().unwrap();
    assert!(letters.len() == 1 && letters[0].dead && letters[0].subject == "ada/app: CI / test (push)", "{letters:?}");
    assert!(!desk.outbox().retry("nothing").await.unwrap());
    assert!(desk.outbox().retry(&letters[0].id).await.unwrap());
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    assert_eq!((desk.outbox().letters().unwrap(), desk.forge.seen().len()), (Vec::new(), 3));
    // One that nobody wants any more, and one that a later report makes good.
    for later in [false, true] {
        let report = Report { context: format!("{later}"), ..report(SUCCESS) };
        desk.outbox().put(report.clone()).await.unwrap();
        desk.forge.says(422, "No commit found for SHA");
        assert_eq!(desk.outbox().turn().await.unwrap(), None);
        let letters = desk.outbox().letters().unwrap();
        assert_eq!(letters.len(), 1);
        if later {
            desk.outbox().put(Report { external_id: "3".to_owned(), ..report }).await.unwrap();
            assert_eq!(desk.outbox().turn().await.unwrap(), None);
        } else {
            assert!(desk.outbox().forget(&letters[0].id).await.unwrap());
        }
        assert_eq!(desk.outbox().letters().unwrap(), Vec::new());
    }
}

#[tokio::test]
async fn a_limit_that_is_said_in_words_is_waited_for() {
    let desk = Desk::new("github", "token = 'ghp_1'").await;
    desk.outbox().put(report(SUCCESS)).await.unwrap();
    desk.forge.says(403, "You have exceeded a secondary rate limit. Please wait a few minutes.");
    let now = *desk.time.lock().unwrap();
    assert_eq!(desk.outbox().turn().await.unwrap(), Some(now + SignedDuration::from_secs(60)));
    let letters = desk.outbox().letters().unwrap();
    assert!(!letters[0].dead && letters[0].attempts == 1 && letters[0].reason.contains("403"), "{letters:?}");
    desk.pass(60);
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    // A 403 that is no limit will not change.
    desk.outbox().put(Report { context: "other".to_owned(), ..report(SUCCESS) }).await.unwrap();
    desk.forge.says(403, "Resource not accessible by personal access token");
    assert_eq!(desk.outbox().turn().await.unwrap(), None);
    assert_eq!(desk.outbox().dead().unwrap().len(), 1);
}

#[tokio::test]
async fn a_forge_that_does_not_answer_is_told_later() {
    // It takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let desk = Desk::at("github", "token = 'ghp_1'", listener.local_addr().unwrap());
    desk.outbox().put(report(SUCCESS)).await.unwrap();
    let now = *desk.time.lock().unwrap();
    let outbox = desk.outbox();
    let turn = tokio::spawn(async move { outbox.turn().await.unwrap() });
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut asked = vec![0; 4096];
    let length = tokio::io::AsyncReadExt::read(&mut connection, &mut asked).await.unwrap();
    assert!(asked[..length].starts_with(b"POST /api/v3/repos/ada/app/statuses/"));
    // Half a minute passes.
    tokio::time::pause();
    assert_eq!(turn.await.unwrap(), Some(now + SignedDuration::from_secs(2)));
    let letters = desk.outbox().letters().unwrap();
    assert!(!letters[0].dead && letters[0].attempts == 1 && !letters[0].reason.is_empty(), "{letters:?}");
}

#[tokio::test]
async fn an_app_makes_a_check_and_updates_it() {
    let directory = tempfile::tempdir().unwrap();
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    let file = directory.path().join("app.pem");
    std::fs::write(&file, pem).unwrap();
    let app = format!("[source.app]\nid = 5\nprivate_key = {{ file = '{}' }}", file.display());
    let desk = Desk::new("github", &app).await;
    desk.outbox().put(report(forge::State::Running)).await.unwrap();
    desk.outbox().turn().await.unwrap();
    let seen = desk.forge.seen();
    let paths: Vec<&str> = seen.iter().map(|one| one.path.as_str()).collect();
    let checks = "/api/v3/repos/ada/app/check-runs";
    assert_eq!(paths, ["/api/v3/repos/ada/app/installation", "/api/v3/app/installations/77/access_tokens", checks]);
    assert_eq!(seen[2].authorization, "Bearer ghs_installation");
    assert_eq!((&seen[2].body["status"], seen[2].body.get("conclusion")), (&json!("in_progress"), None));
    check_against_description("/repos/{owner}/{repo}/check-runs", "post", &seen[2].body);

    let annotation = |number: u64| Annotation {
        level: AnnotationLevel::Failure,
        message: format!("fault {number}"),
        title: None,
        file: Some("src/a.rs".to_owned()),
        line: Some(number),
        end_line: None,
        column: Some(3),
        end_column: None,
        step: None,
    };
    let ended =
        Report { annotations: (1..=120).map(annotation).collect(), ..report(forge::State::Ended(Conclusion::Failure)) };
    // Another life: the number of the check is remembered.
    desk.outbox().put(ended).await.unwrap();
    desk.outbox().turn().await.unwrap();
    let seen: Vec<Seen> = desk.forge.seen().into_iter().filter(|one| one.path.contains("check-runs")).collect();
    assert!(seen.iter().all(|one| one.method == Method::PATCH && one.path == format!("{checks}/4242")), "{seen:?}");
    let counts: Vec<usize> =
        seen.iter().map(|one| one.body["output"]["annotations"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [50, 50, 20]);
    assert_eq!(
        (&seen[0].body["conclusion"], &seen[0].body["completed_at"]),
        (&json!("failure"), &json!("2026-11-21T12:00:00Z"))
    );
}

#[tokio::test]
async fn the_other_forges_have_words_of_their_own() {
    let sha = "a".repeat(40);
    for (kind, path, state) in [
        ("gitea", format!("/api/v1/repos/ada/app/statuses/{sha}"), "error"),
        ("forgejo", format!("/api/v1/repos/ada/app/statuses/{sha}"), "error"),
        ("gitlab", format!("/api/v4/projects/ada%2Fapp/statuses/{sha}"), "canceled"),
    ] {
        let desk = Desk::new(kind, "token = 't'").await;
        desk.outbox().put(report(forge::State::Ended(Conclusion::Cancelled))).await.unwrap();
        assert_eq!(desk.outbox().turn().await.unwrap(), None, "{kind}");
        let seen = desk.forge.seen();
        assert_eq!((seen[0].path.as_str(), &seen[0].body["state"]), (path.as_str(), &json!(state)));
    }
}
