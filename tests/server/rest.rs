//! The API against GitHub's own description of it.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use towline::run::Conclusion;
use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, failed_run};
use super::schema::Schemas;

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_githubs_shape() {
    let Some(folder) = crate::support::conformance("rest-api") else { return };
    let text = std::fs::read_to_string(folder.join("openapi-actions-checks-statuses.json")).unwrap();
    let schemas = Schemas(serde_json::from_str(&text).unwrap());
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("t", Role::Admin, &[]).await;
    let run = failed_run(&mut daemon).await;
    let repo = "/api/v3/repos/o/r";
    let jobs = daemon.get(&format!("{repo}/actions/runs/{run}/jobs"), &token).await.json();
    let job = jobs["jobs"][1]["id"].as_u64().unwrap();
    let workflow = daemon.get(&format!("{repo}/actions/workflows"), &token).await.json()["workflows"][0]["id"].clone();
    let sha = "8f3ac1d9be0a8f3ac1d9be0a8f3ac1d9be0a8f3a";
    for place in ["actions", "environments/prod"] {
        let made =
            daemon.post(&format!("{repo}/{place}/variables"), &token, "{\"name\":\"where\",\"value\":\"x\"}").await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    }
    let mut checked = 0;
    for (template, path) in [
        ("/meta", "/api/v3/meta".to_owned()),
        ("/rate_limit", "/api/v3/rate_limit".to_owned()),
        ("/repos/{owner}/{repo}/actions/runs", format!("{repo}/actions/runs?per_page=1")),
        ("/repos/{owner}/{repo}/actions/runs/{run_id}", format!("{repo}/actions/runs/{run}")),
        (
            "/repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}",
            format!("{repo}/actions/runs/{run}/attempts/1"),
        ),
        (
            "/repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}/jobs",
            format!("{repo}/actions/runs/{run}/attempts/1/jobs"),
        ),
        ("/repos/{owner}/{repo}/actions/runs/{run_id}/jobs", format!("{repo}/actions/runs/{run}/jobs")),
        ("/repos/{owner}/{repo}/actions/runs/{run_id}/artifacts", format!("{repo}/actions/runs/{run}/artifacts")),
        ("/repos/{owner}/{repo}/actions/runs/{run_id}/timing", format!("{repo}/actions/runs/{run}/timing")),
        (
            "/repos/{owner}/{repo}/actions/runs/{run_id}/pending_deployments",
            format!("{repo}/actions/runs/{run}/pending_deployments"),
        ),
        ("/repos/{owner}/{repo}/actions/runs/{run_id}/approvals", format!("{repo}/actions/runs/{run}/approvals")),
        ("/repos/{owner}/{repo}/actions/secrets", format!("{repo}/actions/secrets")),
        ("/repos/{owner}/{repo}/actions/secrets/public-key", format!("{repo}/actions/secrets/public-key")),
        ("/repos/{owner}/{repo}/actions/variables", format!("{repo}/actions/variables")),
        ("/repos/{owner}/{repo}/actions/variables/{name}", format!("{repo}/actions/variables/WHERE")),
        ("/repos/{owner}/{repo}/actions/organization-secrets", format!("{repo}/actions/organization-secrets")),
        ("/repos/{owner}/{repo}/actions/organization-variables", format!("{repo}/actions/organization-variables")),
        ("/repos/{owner}/{repo}/environments/{environment_name}/secrets", format!("{repo}/environments/prod/secrets")),
        (
            "/repos/{owner}/{repo}/environments/{environment_name}/secrets/public-key",
            format!("{repo}/environments/prod/secrets/public-key"),
        ),
        (
            "/repos/{owner}/{repo}/environments/{environment_name}/variables",
            format!("{repo}/environments/prod/variables"),
        ),
        (
            "/repos/{owner}/{repo}/environments/{environment_name}/variables/{name}",
            format!("{repo}/environments/prod/variables/where"),
        ),
        ("/repos/{owner}/{repo}/actions/jobs/{job_id}", format!("{repo}/actions/jobs/{job}")),
        ("/repos/{owner}/{repo}/actions/artifacts", format!("{repo}/actions/artifacts")),
        ("/repos/{owner}/{repo}/actions/caches", format!("{repo}/actions/caches")),
        ("/repos/{owner}/{repo}/actions/workflows", format!("{repo}/actions/workflows")),
        ("/repos/{owner}/{repo}/actions/workflows/{workflow_id}", format!("{repo}/actions/workflows/ci.yml")),
        (
            "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/runs",
            format!("{repo}/actions/workflows/{workflow}/runs"),
        ),
        (
            "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/timing",
            format!("{repo}/actions/workflows/{workflow}/timing"),
        ),
        ("/repos/{owner}/{repo}/actions/runners", format!("{repo}/actions/runners")),
        ("/repos/{owner}/{repo}/actions/permissions", format!("{repo}/actions/permissions")),
        ("/repos/{owner}/{repo}/commits/{ref}/check-runs", format!("{repo}/commits/{sha}/check-runs")),
        ("/repos/{owner}/{repo}/commits/{ref}/status", format!("{repo}/commits/{sha}/status")),
        ("/repos/{owner}/{repo}/check-runs/{check_run_id}", format!("{repo}/check-runs/{job}")),
        ("/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations", format!("{repo}/check-runs/{job}/annotations")),
    ] {
        if schemas.0["paths"][template].is_null() {
            eprintln!("not described: {template}");
            continue;
        }
        let answer = daemon.get(&path, &token).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        let faults = schemas.faults(schemas.of("get", template, "200"), &answer.json(), template);
        assert!(faults.is_empty(), "{path}:\n{}", faults.join("\n"));
        checked += 1;
    }
    println!("rest-api: {checked} answers fit their schemas");
    assert!(checked >= 34, "{checked}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_pages_filters_and_tags() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("t", Role::Viewer, &[]).await;
    for number in 0..3 {
        daemon.push("o/r", &format!("commit {number}")).await;
        daemon.play(&[("Set up job", &["x"])], Conclusion::Failure).await;
    }
    let runs = "/api/v3/repos/O/R/actions/runs";
    let first = daemon.get(&format!("{runs}?per_page=2"), &token).await;
    assert_eq!(first.json()["total_count"], 3);
    assert_eq!(first.json()["workflow_runs"][0]["display_title"], "commit 2");
    let link = first.header("link");
    assert!(link.contains("per_page=2&page=2>; rel=\"next\"") && link.contains("rel=\"last\""), "{link}");
    assert!(link.contains("/api/v3/repos/O/R/actions/runs?"), "the whole path: {link}");
    let second = daemon.get(&format!("{runs}?per_page=2&page=2"), &token).await;
    assert_eq!(second.json()["workflow_runs"].as_array().unwrap().len(), 1);
    assert!(second.header("link").contains("rel=\"prev\""));
    for (query, count) in [
        ("status=failure", 3),
        ("status=success", 0),
        ("status=completed", 3),
        ("status=nonsense", 0),
        ("branch=main", 3),
        ("branch=other", 0),
        ("event=push", 3),
        ("actor=OCTO", 3),
        ("actor=nobody", 0),
        ("created=%3E%3D2020-01-01", 3),
        ("created=2020-01-01..2020-02-01", 0),
        ("head_sha=8f3ac1d9be0a8f3ac1d9be0a8f3ac1d9be0a8f3a", 3),
    ] {
        let answer = daemon.get(&format!("{runs}?{query}"), &token).await;
        assert_eq!(answer.json()["total_count"], count, "{query}");
    }
    assert_eq!(daemon.get(&format!("{runs}?created=soon"), &token).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let tag = first.header("etag").to_owned();
    let authorization = format!("Bearer {token}");
    let again = daemon
        .ask(
            Method::GET,
            &format!("{runs}?per_page=2"),
            &[("authorization", &authorization), ("if-none-match", &tag)],
            "",
        )
        .await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_cancelled_rerun_and_deleted() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("op", Role::Operator, &[]).await;
    let run = failed_run(&mut daemon).await;
    let path = format!("/api/v3/repos/o/r/actions/runs/{run}");
    assert_eq!(daemon.post(&format!("{path}/cancel"), &token, "").await.status, StatusCode::CONFLICT, "it is over");
    let again = daemon.post(&format!("{path}/rerun-failed-jobs"), &token, "").await;
    assert_eq!(again.status, StatusCode::CREATED, "{}", again.text());
    let now = daemon.get(&path, &token).await.json();
    assert_eq!((&now["run_attempt"], &now["conclusion"]), (&json!(2), &Value::Null));
    assert_eq!(daemon.get(&format!("{path}/attempts/1"), &token).await.json()["conclusion"], "failure");
    assert_eq!(
        daemon.ask(Method::DELETE, &path, &[("authorization", &format!("token {token}"))], "").await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(daemon.post(&format!("{path}/cancel"), &token, "").await.status, StatusCode::ACCEPTED);
    // The runner is told, and says so.
    let (assignment, ..) = daemon.take().await;
    let result = towline::run::report::JobResult {
        conclusion: Conclusion::Cancelled,
        outputs: serde_json::Map::new(),
        environment_url: None,
        reason: None,
        host_lost: false,
    };
    let report = towline::run::report::Report::Finished { at: towline::clock::Clock::System.now(), result };
    daemon
        .handle
        .send(towline::engine::Input::Report { job: assignment.job, host: assignment.host.clone(), report })
        .await
        .unwrap();
    assert_eq!(daemon.get(&path, &token).await.json()["conclusion"], "cancelled");
    assert_eq!(
        daemon.ask(Method::DELETE, &path, &[("authorization", &format!("token {token}"))], "").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(daemon.get(&path, &token).await.status, StatusCode::NOT_FOUND);
    let admin = daemon.token("admin", Role::Admin, &[]).await;
    let audit = daemon.get("/api/v3/towline/audit", &admin).await.json();
    let actions: Vec<&str> =
        audit["audit"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["run.delete", "run.cancel", "run.rerun"]);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_scopes() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let run = failed_run(&mut daemon).await;
    let viewer = daemon.token("viewer", Role::Viewer, &[]).await;
    let elsewhere = daemon.token("elsewhere", Role::Admin, &["o/other"]).await;
    let path = format!("/api/v3/repos/o/r/actions/runs/{run}");
    let anonymous = daemon.get(&path, "").await;
    assert_eq!(
        (anonymous.status, &anonymous.json()["message"]),
        (StatusCode::UNAUTHORIZED, &json!("Requires authentication"))
    );
    let wrong = daemon.get(&path, "twl_wrong").await;
    assert_eq!((wrong.status, &wrong.json()["message"]), (StatusCode::UNAUTHORIZED, &json!("Bad credentials")));
    assert_eq!(daemon.get(&path, &viewer).await.status, StatusCode::OK);
    assert_eq!(daemon.post(&format!("{path}/rerun"), &viewer, "").await.status, StatusCode::FORBIDDEN);
    // What a role may not see does not exist: in addresses, lists, counts, streams.
    for hidden in [
        path.clone(),
        "/api/v3/repos/o/r".into(),
        format!("/api/v3/towline/runs/{run}"),
        format!("/o/r/actions/runs/{run}"),
        "/o/r/actions".into(),
    ] {
        assert_eq!(daemon.get(&hidden, &elsewhere).await.status, StatusCode::NOT_FOUND, "{hidden}");
    }
    let listed = daemon.get("/api/v3/towline/runs", &elsewhere).await.json();
    assert_eq!(listed, json!({"total_count": 0, "workflow_runs": []}));
    assert!(!daemon.get("/", &elsewhere).await.text().contains("the thing"));
    assert!(!daemon.get("/runs", &elsewhere).await.text().contains("the thing"));
    assert_eq!(daemon.get("/api/v3/towline/tokens", &viewer).await.status, StatusCode::FORBIDDEN);
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(daemon.get(open, "").await.status, StatusCode::OK, "{open}");
    }
    // Ends are counted beside the engine, a moment later.
    let mut metrics = daemon.get("/metrics", "").await.text();
    for _ in 0..5000 {
        if metrics.contains("job_duration_seconds_count 2") && metrics.contains("runs_completed_total{") {
            break;
        }
        metrics = daemon.get("/metrics", "").await.text();
    }
    assert!(metrics.contains("towline_host_up{host=\"selene\"} 1") && metrics.ends_with("# EOF\n"), "{metrics}");
    for line in [
        "towline_ready 1",
        "towline_runs_completed_total{conclusion=\"failure\"} 1",
        "towline_job_duration_seconds_count 2",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in\n{metrics}");
    }
    let rules = include_str!("../../packaging/prometheus-rules.yml");
    let dashboard = include_str!("../../packaging/grafana-dashboard.json");
    for word in [rules, dashboard].iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
    {
        if word.starts_with("towline_") {
            let name = word.trim_end_matches("_bucket").trim_end_matches("_total");
            assert!(metrics.contains(&format!("# TYPE {name} ")), "{word} is asked for and not there");
        }
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_stream_from_any_byte_and_come_as_zip() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("t", Role::Viewer, &[]).await;
    let authorization = format!("token {token}");
    let run = daemon.push("o/r", "live").await;
    let (assignment, log, _) = daemon.take().await;
    let writer = daemon.store.logs().open(log);
    let path = format!("/api/v3/repos/o/r/actions/jobs/{}/logs?follow=1", assignment.job);
    let headers = [("authorization", authorization.as_str())];
    let mut stream = daemon.open(Method::GET, &path, &headers, "").await.into_body();
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for number in 0..50_u64 {
        let line = format!("2026-11-21T21:00:00.0000000Z line {number}\n");
        daemon.append(log, line.as_bytes());
        all.extend(line.bytes());
        writer.send_replace(all.len() as u64);
        while seen.len() < all.len() {
            let frame = http_body_util::BodyExt::frame(&mut stream).await.unwrap().unwrap();
            seen.extend(frame.into_data().unwrap());
        }
    }
    // A client that was cut goes on where it was, once per byte.
    let events = daemon
        .open(Method::GET, &path, &[headers[0], ("accept", "text/event-stream"), ("last-event-id", "100")], "")
        .await;
    let result = towline::run::report::JobResult {
        conclusion: Conclusion::Failure,
        outputs: serde_json::Map::new(),
        environment_url: None,
        reason: None,
        host_lost: false,
    };
    let report = towline::run::report::Report::Finished { at: towline::clock::Clock::System.now(), result };
    daemon
        .handle
        .send(towline::engine::Input::Report { job: assignment.job, host: assignment.host.clone(), report })
        .await
        .unwrap();
    drop(writer);
    daemon.store.logs().close(log);
    while let Some(frame) = http_body_util::BodyExt::frame(&mut stream).await {
        seen.extend(frame.unwrap().into_data().unwrap());
    }
    assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(&all), "every byte once");
    let events = http_body_util::BodyExt::collect(events.into_body()).await.unwrap().to_bytes();
    let events = String::from_utf8_lossy(&events).into_owned();
    assert!(
        events.contains(&format!("id: {}", all.len())) || events.contains(&format!("id:{}", all.len())),
        "{events}"
    );
    let text: String = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "end")
        .map(|data| format!("{data}\n"))
        .collect();
    assert_eq!(text, String::from_utf8_lossy(&all[100..]));
    let ranged = daemon.ask(Method::GET, &path, &[headers[0], ("range", "bytes=10-")], "").await;
    assert_eq!((ranged.status, ranged.body.len()), (StatusCode::PARTIAL_CONTENT, all.len() - 10));

    // The download is a redirect to an address that is good without a token, and no other is.
    let moved = daemon.get(&format!("/api/v3/repos/o/r/actions/jobs/{}/logs", assignment.job), &token).await;
    assert_eq!(moved.status, StatusCode::FOUND);
    let signed = moved.header("location").strip_prefix(&format!("http://{}", daemon.plain)).unwrap().to_owned();
    assert_eq!(daemon.get(&signed, "").await.body, all);
    assert_eq!(daemon.get(&signed.replace("sig=", "sig=x"), "").await.status, StatusCode::NOT_FOUND);
    let moved = daemon.get(&format!("/api/v3/repos/o/r/actions/runs/{run}/logs"), &token).await;
    let signed = moved.header("location").strip_prefix(&format!("http://{}", daemon.plain)).unwrap().to_owned();
    let zip = daemon.get(&signed, "").await;
    assert_eq!((zip.header("content-type"), &zip.body[..4]), ("application/zip", b"PK\x03\x04".as_slice()));
    daemon.end().await;
}
