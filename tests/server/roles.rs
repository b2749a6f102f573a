//! What a client may not see is nowhere: not in addresses, lists, searches, counts, badges or streams.

use http::{Method, StatusCode};
use serde_json::Value;
use towline::run::Conclusion;
use towline::server::auth::Mode;
use towline::store::{DeliveryRecord, DeliveryState, Role};

use super::harness::{Daemon, WORKFLOW};

const SECRET: &str = "HIDDEN";

/// Every address that reads: pages, and the API's as its own document lists them.
async fn addresses(daemon: &Daemon, admin: &str, run: u64, job: u64) -> Vec<String> {
    let document = daemon.get("/api/v3/towline/openapi.json", admin).await.json();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if item["get"].is_null() {
            continue;
        }
        let path = path
            .replace("{owner}", "o")
            .replace("{repo}", "r")
            .replace("{run_id}", &run.to_string())
            .replace("{job_id}", &job.to_string())
            .replace("{check_run_id}", &job.to_string())
            .replace("{attempt_number}", "1")
            .replace("{workflow_id}", "ci.yml")
            .replace("{ref}", "8f3ac1d9be0a8f3ac1d9be0a8f3ac1d9be0a8f3a")
            .replace("{environment}", "HIDDEN-ENVIRONMENT")
            .replace("{entry}", "HIDDEN_NAME")
            .replace("{number}", "1")
            .replace("{host}", "selene")
            .replace("{name}", "HIDDEN_NAME");
        assert!(!path.contains('{'), "what stands for this? {path}");
        all.push(format!("/api/v3{path}"));
    }
    let base = "/o/r/actions";
    all.extend(
        [
            "/",
            "/runs",
            "/runs?q=hidden",
            "/workflows",
            "/queue",
            "/hosts",
            "/schedules",
            "/deliveries",
            "/deliveries/1",
            "/scripts",
            "/settings",
            "/o/r/settings",
            "/tokens",
            "/audit",
            "/o/r",
            base,
            "/login",
            "/api/v3/towline/secrets?repository=o/r",
            "/api/v3/towline/variables?repository=o/r",
            "/api/v3/towline/environments?repository=o/r",
            "/api/v3/towline/runs?q=hidden",
            "/api/v3/towline/runs?repository=o/r",
        ]
        .map(str::to_owned),
    );
    for rest in [
        format!("{base}/runs/{run}"),
        format!("{base}/runs/{run}/attempts/1"),
        format!("{base}/runs/{run}/job/{job}"),
        format!("{base}/runs/{run}/job/{job}/steps/1"),
        format!("{base}/runs/{run}/job/{job}/live?from=0"),
        format!("{base}/workflows/ci.yml"),
        format!("{base}/workflows/ci.yml/badge.svg"),
    ] {
        all.push(rest);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_may_not_see_is_nowhere() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let admin = daemon.token("HIDDEN-ADMIN", Role::Admin, &[]).await;
    let workflow = WORKFLOW.replace("name: CI <b>&", "name: HIDDEN-WORKFLOW").replace("build", "HIDDEN-JOB");
    let run = daemon.start_run("push", "o/r", "HIDDEN-TITLE", &workflow, serde_json::Map::new()).await;
    daemon.play(&[("HIDDEN-STEP", &["HIDDEN-LINE"])], Conclusion::Failure).await;
    let second = daemon.start_run("push", "o/r", "HIDDEN-TITLE", &workflow, serde_json::Map::new()).await;
    let job =
        daemon.get(&format!("/api/v3/towline/runs/{run}"), &admin).await.json()["jobs"][0]["id"].as_u64().unwrap();
    for path in ["/api/v3/repos/o/r/actions/variables", "/api/v3/repos/o/r/environments/HIDDEN-ENVIRONMENT/variables"] {
        let body = "{\"name\":\"HIDDEN_NAME\",\"value\":\"HIDDEN\"}";
        assert_eq!(daemon.post(path, &admin, body).await.status, StatusCode::CREATED);
    }
    let delivery = DeliveryRecord {
        number: 0,
        id: "HIDDEN-DELIVERY".into(),
        source: "github/o/r".into(),
        event: "push".into(),
        received_at: towline::clock::Clock::System.now(),
        headers: std::collections::BTreeMap::new(),
        body: Value::Null,
        state: DeliveryState::Handled { runs: vec![run], note: "HIDDEN-NOTE".into() },
        replay_of: None,
        trouble: None,
    };
    daemon.store.accept(delivery, &"HIDDEN-BODY").await.unwrap();
    let elsewhere = daemon.token("elsewhere", Role::Admin, &["o/other"]).await;
    let viewer = daemon.token("viewer", Role::Viewer, &[]).await;
    let share = daemon.post(&format!("/api/v3/towline/runs/{second}/share"), &admin, "").await.json();
    let key = share["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let share = format!("towline-share={key}");
    let mut walked = 0;
    for path in addresses(&daemon, &admin, run.0, job).await {
        let stream = path.contains("/events");
        let foreign = format!("token {elsewhere}");
        for (who, headers) in [
            ("nobody", None),
            ("elsewhere", Some(("authorization", foreign.as_str()))),
            ("share", Some(("cookie", share.as_str()))),
        ] {
            if stream && who == "elsewhere" {
                continue;
            }
            let headers: Vec<(&str, &str)> = headers.into_iter().collect();
            let answer = daemon.ask(Method::GET, &path, &headers, "").await;
            let text = answer.text();
            // Its own address may be repeated in a way to sign in.
            assert!(!text.contains(SECRET), "{who} at {path}: {text}");
            let open = ["/api/v3/meta", "/api/v3/rate_limit", "/api/v3/towline/openapi.json", "/login"]
                .contains(&path.as_str())
                || path.ends_with("/badge.svg");
            let refused = answer.status.is_client_error() || answer.status == StatusCode::SEE_OTHER;
            assert!(who == "elsewhere" || open || refused, "{who} at {path}: {}", answer.status);
        }
        walked += 1;
    }
    // Who sees all, sees; but not what only admins may.
    assert!(daemon.get("/runs", &viewer).await.text().contains("HIDDEN-TITLE"));
    for path in ["/deliveries", "/api/v3/towline/outbox"] {
        assert!(daemon.get(path, &viewer).await.text().contains("HIDDEN-LETTER"), "{path}");
    }
    let retry = "/api/v3/towline/outbox/0123456789ab/retry";
    for (token, status) in
        [(&viewer, StatusCode::FORBIDDEN), (&elsewhere, StatusCode::NOT_FOUND), (&admin, StatusCode::NO_CONTENT)]
    {
        assert_eq!(daemon.post(retry, token, "").await.status, status);
    }
    assert_eq!(daemon.post(&retry.replace("0123", "3210"), &admin, "").await.status, StatusCode::NOT_FOUND);
    for path in [
        "/api/v3/towline/audit",
        "/api/v3/towline/tokens",
        "/tokens",
        "/audit",
        "/scripts",
        "/settings",
        "/o/r/settings",
        "/api/v3/repos/o/r/actions/variables",
    ] {
        let answer = daemon.get(path, &viewer).await;
        assert!(answer.status == StatusCode::FORBIDDEN, "{path}: {}", answer.status);
        assert!(!answer.text().contains("HIDDEN_NAME"), "{path}");
    }
    // An admin of one repository is not one of the whole.
    for (method, path) in [
        (Method::POST, "/api/v3/towline/tokens"),
        (Method::POST, "/api/v3/towline/scripts"),
        (Method::PUT, "/api/v3/towline/queue/pause"),
        (Method::PUT, "/api/v3/towline/hosts/selene/drain"),
        (Method::PUT, "/api/v3/towline/secrets/A"),
        (Method::POST, "/api/v3/towline/master-key/rotate"),
        (Method::GET, "/api/v3/towline/export"),
    ] {
        let body = "{\"name\":\"x\",\"role\":\"admin\",\"script\":\"id\",\"hosts\":[\"selene\"],\"value\":\"v\"}";
        let answer = daemon.ask(method, path, &[("authorization", &format!("token {elsewhere}"))], body).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    // What is hidden is not counted, nor is there a next page of it.
    let counted = daemon.get("/api/v3/towline/runs?per_page=1", &elsewhere).await;
    assert_eq!((counted.json()["total_count"].as_u64(), counted.header("link")), (Some(0), ""));
    let page = daemon.get("/runs", &elsewhere).await.text();
    assert!(page.contains("0 runs") && !page.contains("rel=\"next\""), "{page}");
    // Machines are known by name and how busy they are: not where they are, nor what they did.
    daemon.app.set_hosts(vec![towline::server::HostDetail {
        name: towline::id::HostName::from("selene"),
        address: "ci@HIDDEN.lan".into(),
        ssh: Vec::new(),
        labels: Vec::new(),
        facts: vec![("system".into(), "HIDDEN-SYSTEM".into())],
        last_seen: None,
        latency: None,
        load: Some((1.0, 2)),
        reason: Some("HIDDEN-REASON".into()),
    }]);
    for path in ["/hosts", "/", "/api/v3/towline/hosts"] {
        let answer = daemon.get(path, &elsewhere).await.text();
        assert!(answer.contains("selene") && !answer.contains(SECRET), "{path}: {answer}");
        assert!(path == "/" || daemon.get(path, &viewer).await.text().contains("HIDDEN.lan"));
    }
    // The stream says nothing of what is hidden.
    let mut stream = daemon
        .open(Method::GET, "/api/v3/towline/events", &[("authorization", &format!("token {elsewhere}"))], "")
        .await
        .into_body();
    let first = http_body_util::BodyExt::frame(&mut stream).await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"event: hello"));
    daemon.play(&[("HIDDEN-STEP", &["HIDDEN-LINE"])], Conclusion::Success).await;
    let seen =
        tokio::time::timeout(std::time::Duration::from_millis(300), http_body_util::BodyExt::frame(&mut stream)).await;
    assert!(seen.is_err(), "{seen:?}");
    println!("security walk: {walked} addresses by three clients");
    assert!(walked > 70, "{walked}");
    drop(stream);
    daemon.end().await;
}
