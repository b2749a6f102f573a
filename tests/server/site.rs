//! Pages as a browser gets them.

use http::{Method, StatusCode};
use towline::run::Conclusion;
use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, failed_run};

/// No markup but ours: what came from outside is text.
fn is_harmless(html: &str) {
    for bad in ["<script>alert", "<img src=x", "javascript:", "\u{1b}", "onerror=alert(4)>", "<b>&"] {
        assert!(!html.contains(bad), "{bad:?} came through");
    }
    assert!(!html.contains(" style="), "the policy forbids inline styles");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_a_failure_first_and_escape_everything() {
    let mut daemon = Daemon::start(Mode::OpenOnLoopback).await;
    let empty = daemon.get("/", "").await;
    assert!(empty.text().contains("Ready for the first run"), "{}", empty.text());
    let run = failed_run(&mut daemon).await;
    let overview = daemon.get("/", "").await;
    for header in ["content-security-policy", "x-content-type-options", "referrer-policy"] {
        assert!(!overview.header(header).is_empty(), "{header}");
    }
    assert!(overview.text().contains("is broken"));
    let page = daemon.get(&format!("/o/r/actions/runs/{run}"), "").await.text();
    assert!(
        page.contains("Run make test") && page.contains("class=\"graph\"") && page.contains("Error: &lt;img"),
        "{page}"
    );
    assert!(page.contains("boom &#60;script&#62;") || page.contains("boom &lt;script&gt;"), "the annotation: {page}");
    let job = daemon.get("/api/v3/towline/runs/1", "").await.json()["jobs"][1]["id"].as_u64().unwrap();
    let log = daemon.get(&format!("/o/r/actions/runs/{run}/job/{job}"), "").await.text();
    assert!(log.contains("<span class=\"f1\">red</span> link") && log.contains("id=\"s2-3\""), "{log}");
    let found = daemon.get(&format!("/o/r/actions/runs/{run}/job/{job}?find=RED"), "").await.text();
    assert!(found.contains("1 matching line"), "{found}");
    for (path, says) in [
        ("/runs", "1 run"),
        ("/runs?q=thing", "1 run match"),
        ("/runs?status=success", "No run matches"),
        ("/o/r/actions", "Runs of o/r"),
        ("/o/r/actions/workflows/ci.yml", "Run workflow"),
        ("/workflows", "ci.yml"),
        ("/queue", "Nothing waits"),
        ("/hosts", "selene"),
        ("/deliveries", "Nothing has come in yet"),
        ("/o/r/actions/workflows/ci.yml/badge.svg", "failed"),
    ] {
        let answer = daemon.get(path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(answer.text().contains(says), "{path} does not say {says:?}: {}", answer.text());
        is_harmless(&answer.text());
    }
    for html in [overview.text(), page.clone(), log, found] {
        is_harmless(&html);
    }
    let style = page.split("href=\"/assets/").nth(1).unwrap().split('"').next().unwrap();
    let style = daemon.get(&format!("/assets/{style}"), "").await;
    assert!(style.header("cache-control").contains("immutable"));
    assert!(
        page.len() + style.body.len() < 60_000,
        "one document and one stylesheet: {} + {}",
        page.len(),
        style.body.len()
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tricks_with_paths_lead_nowhere() {
    let daemon = Daemon::start(Mode::OpenOnLoopback).await;
    for path in [
        "/assets/../Cargo.toml",
        "/assets/%2e%2e%2fCargo.toml",
        "/assets/..%5c..",
        "/o/r/actions/runs/1/job/999999",
        "/o/r/actions/runs/99999999999999999999",
        "/o/r/actions/runs/-1",
        "/o/%00/actions",
        "/api/v3/repos/o/r/actions/jobs/1/logs",
        "/api/v3/repos/../r/actions/runs",
        "/api/v3/nothing",
        "/nothing/here/at/all",
        "/o/r/actions/workflows/..%2f..%2fetc%2fpasswd",
    ] {
        let status = daemon.get(path, "").await.status;
        assert!(status == StatusCode::NOT_FOUND || status == StatusCode::BAD_REQUEST, "{path}: {status}");
    }
    let foreign = daemon.ask(Method::GET, "/", &[("host", "evil.example")], "").await;
    assert_eq!(foreign.status, StatusCode::MISDIRECTED_REQUEST);
    let large = "x".repeat(3 << 20);
    let status = daemon.ask(Method::POST, "/api/v3/towline/tokens", &[], &large).await.status;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_and_forms() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let run = failed_run(&mut daemon).await;
    let page = format!("/o/r/actions/runs/{run}");
    let led = daemon.get(&page, "").await;
    assert_eq!(
        (led.status, led.header("location")),
        (StatusCode::SEE_OTHER, format!("/login?next=%2Fo%2Fr%2Factions%2Fruns%2F{run}").as_str())
    );
    assert_eq!(daemon.ask(Method::POST, "/login", &[], "token=wrong").await.status, StatusCode::UNAUTHORIZED);
    let token = daemon.token("me", Role::Operator, &[]).await;
    let signed = daemon.ask(Method::POST, "/login", &[], &format!("token={token}&next=https://evil.example/")).await;
    assert_eq!((signed.status, signed.header("location")), (StatusCode::SEE_OTHER, "/"), "never to another site");
    let cookie = signed.header("set-cookie").split(';').next().unwrap().to_owned();
    let html = daemon.ask(Method::GET, &page, &[("cookie", &cookie)], "").await.text();
    let csrf = html.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let rerun = format!("{page}/rerun");
    for (headers, body) in [
        (vec![("cookie", cookie.as_str())], String::new()),
        (vec![("cookie", cookie.as_str())], "csrf=forged".to_owned()),
        (vec![("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")], format!("csrf={csrf}")),
    ] {
        assert_eq!(daemon.ask(Method::POST, &rerun, &headers, &body).await.status, StatusCode::FORBIDDEN, "{body}");
    }
    // The cookie alone changes nothing through the API either.
    let api = format!("/api/v3/repos/o/r/actions/runs/{run}/rerun");
    assert_eq!(daemon.ask(Method::POST, &api, &[("cookie", &cookie)], "").await.status, StatusCode::FORBIDDEN);
    let done = daemon.ask(Method::POST, &rerun, &[("cookie", &cookie)], &format!("csrf={csrf}")).await;
    assert_eq!((done.status, done.header("location")), (StatusCode::SEE_OTHER, page.as_str()), "{}", done.text());
    let html = daemon.ask(Method::GET, &page, &[("cookie", &cookie)], "").await.text();
    assert!(html.contains("Cancel run") && html.contains("/attempts/1"), "{html}");
    let bye = daemon.ask(Method::POST, "/logout", &[("cookie", &cookie)], &format!("csrf={csrf}")).await;
    assert!(bye.header("set-cookie").contains("Max-Age=0"));
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_follows_the_log() {
    let mut daemon = Daemon::start(Mode::OpenOnLoopback).await;
    let run = daemon.push("o/r", "live").await;
    let log = daemon
        .play(
            &[("Set up job", &["a", "b"]), ("Run make", &["##[group]g", "c", "##[endgroup]", "<i>"])],
            Conclusion::Success,
        )
        .await;
    let path = format!("/o/r/actions/runs/{run}/job/{}/live?from=0", log.job);
    let answer = daemon.get(&path, "").await;
    assert!(answer.header("content-type").starts_with("text/event-stream"));
    let text = answer.text();
    let data = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap();
    let rows: Vec<(u32, String, String)> = serde_json::from_str(data.trim()).unwrap();
    let shape: Vec<(u32, &str)> = rows.iter().map(|(step, kind, _)| (*step, kind.as_str())).collect();
    assert_eq!(shape, [(1, ""), (1, ""), (2, "group"), (2, ""), (2, "endgroup"), (2, "")]);
    assert!(rows[5].2.contains("id=\"s2-4\"") && rows[5].2.contains("&lt;i&gt;"), "{}", rows[5].2);
    assert!(text.contains("event: end") || text.contains("event:end"), "{text}");
    daemon.end().await;
}
