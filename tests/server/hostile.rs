//! Those who mean harm, and those who are merely absurd.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::run::Conclusion;
use towline::server::auth::Mode;
use towline::store::Role;

use super::harness::{Daemon, WORKFLOW, failed_run};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_keep_nobody_out() {
    // Both ends of each are in this process.
    let (soft, hard) = (4096, rustix::process::getrlimit(rustix::process::Resource::Nofile));
    let wanted = rustix::process::Rlimit { current: Some(hard.maximum.map_or(soft, |most| most.min(soft))), ..hard };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    let daemon = Daemon::start(Mode::Tokens).await;
    let mut idle = Vec::new();
    for number in 0..1000 {
        let mut stream = tokio::net::TcpStream::connect(daemon.plain).await.unwrap();
        // Some say nothing, some begin and stop.
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        }
        idle.push(stream);
    }
    let before = Instant::now();
    for _ in 0..20 {
        assert_eq!(daemon.get("/healthz", "").await.status, StatusCode::OK);
    }
    println!("20 answers beside 1000 idle connections: {:?}", before.elapsed());
    drop(idle);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_a_megabyte_do_not_make_pages_of_megabytes() {
    let mut daemon = Daemon::start(Mode::OpenOnLoopback).await;
    let long = "\u{202e}<b>\u{7}A".repeat(200_000);
    let workflow =
        WORKFLOW.replace("  build:\n", &format!("  build:\n    name: \"{}\"\n", long.replace('\u{7}', "\\a")));
    let run = daemon.start_run("push", "o/r", &long, &workflow, serde_json::Map::new()).await;
    // A file this large is refused; names and lines this large may still come from a runner.
    let refused = daemon.get(&format!("/o/r/actions/runs/{run}"), "").await;
    assert!(refused.status == StatusCode::OK && refused.body.len() < 200_000, "{}", refused.body.len());
    let run = daemon.start_run("push", "o/r", &long, WORKFLOW, serde_json::Map::new()).await;
    daemon.play(&[(&long, &[&long]), ("Last", &[&long])], Conclusion::Failure).await;
    let job = daemon.get(&format!("/api/v3/towline/runs/{run}"), "").await.json()["jobs"][0]["id"].clone();
    for path in [
        "/".to_owned(),
        "/runs".to_owned(),
        "/queue".to_owned(),
        "/workflows".to_owned(),
        format!("/o/r/actions/runs/{run}"),
        format!("/o/r/actions/runs/{run}/job/{job}?step=9"),
    ] {
        let page = daemon.get(&path, "").await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        let text = page.text();
        assert!(page.body.len() < 200_000, "{path} is {} bytes", page.body.len());
        assert!(!text.contains('\u{7}') && !text.contains('\u{202e}'), "{path}");
        assert!(!text.contains("<b>A") && !text.contains("<b>\u{fffd}"), "{path}");
    }
    let zip = daemon.get(&format!("/api/v3/repos/o/r/actions/runs/{run}/logs"), "").await;
    assert_eq!(zip.status, StatusCode::FOUND);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_in_a_log_reach_a_page_as_markup() {
    let mut daemon = Daemon::start(Mode::OpenOnLoopback).await;
    let run = daemon.push("o/r", "noise").await;
    // Every byte but the line break, in an order that makes sequences, beginnings and ends of them.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut noise = Vec::new();
    for _ in 0..60_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let pieces: [&[u8]; 12] = [
            b"\x1b[",
            b"\x1b]8;;javascript:alert(1)\x07",
            b"\x1b]0;",
            b"\x07",
            b"\x1b\\",
            b"38;5;300m",
            b"<script>",
            b"&",
            b"\"'>",
            b"##[error]",
            b"::add-mask::",
            b"</div>",
        ];
        match seed % 3 {
            0 => noise.extend_from_slice(pieces[usize::try_from(seed >> 32).unwrap() % pieces.len()]),
            1 => noise.push(u8::try_from((seed >> 40) & 0xff).unwrap()),
            _ => noise.extend_from_slice(b"2026-11-21T21:00:00.0000000Z "),
        }
    }
    let lines: Vec<String> =
        noise.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let log = daemon.play(&[("Set up job", &lines)], Conclusion::Failure).await;
    for path in [format!("/o/r/actions/runs/{run}"), format!("/o/r/actions/runs/{run}/job/{}?step=1&from=1", log.job)] {
        let page = daemon.get(&path, "").await.text();
        let body = page.split("<main").nth(1).unwrap();
        for tag in body.split('<').skip(1) {
            let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').collect();
            assert!(name != "script" && name != "/script", "{path}: <{}", tag.chars().take(60).collect::<String>());
        }
        let controls = page.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
        assert_eq!(controls, None, "{path}");
        assert!(!page.contains("javascript:"), "{path}");
    }
    let live = daemon.get(&format!("/o/r/actions/runs/{run}/job/{}/live?from=0", log.job), "").await.text();
    assert!(!live.contains("<script") && !live.contains('\u{1b}'));
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_form_changes_nothing() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let run = failed_run(&mut daemon).await;
    let token = daemon.token("me", Role::Admin, &[]).await;
    let signed = daemon.ask(Method::POST, "/login", &[], &format!("token={token}")).await;
    let cookie = signed.header("set-cookie").split(';').next().unwrap().to_owned();
    let before = daemon.get("/api/v3/towline/audit", &token).await.json();
    let run = format!("/o/r/actions/runs/{run}");
    for path in [
        format!("{run}/cancel"),
        format!("{run}/rerun"),
        format!("{run}/rerun-failed"),
        format!("{run}/approve"),
        format!("{run}/review"),
        format!("{run}/share"),
        "/o/r/actions/workflows/ci.yml/dispatch".into(),
        "/o/r/actions/workflows/ci.yml/disable".into(),
        "/o/r/settings/secrets".into(),
        "/o/r/settings/variables".into(),
        "/o/r/settings/environments".into(),
        "/settings/secrets".into(),
        "/settings/variables".into(),
        "/tokens".into(),
        "/tokens/revoke".into(),
        "/queue/pause".into(),
        "/hosts/drain".into(),
        "/deliveries/1/replay".into(),
        "/scripts".into(),
        "/logout".into(),
    ] {
        let body = "csrf=&name=x&value=y&role=admin&host=selene&script=id&environment=e&word=approve";
        let answer = daemon.ask(Method::POST, &path, &[("cookie", &cookie)], body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        let anonymous = daemon.ask(Method::POST, &path, &[], body).await;
        assert!(
            anonymous.status == StatusCode::SEE_OTHER && anonymous.header("location").starts_with("/login")
                || anonymous.status == StatusCode::FORBIDDEN,
            "{path}: {}",
            anonymous.status
        );
    }
    // The API takes no cookie for a change.
    for (method, path) in [
        (Method::PUT, "/api/v3/towline/queue/pause"),
        (Method::POST, "/api/v3/towline/scripts"),
        (Method::POST, "/api/v3/towline/tokens"),
        (Method::POST, "/api/v3/repos/o/r/actions/variables"),
        (Method::PUT, "/api/v3/repos/o/r/environments/e"),
        (Method::PUT, "/api/v3/repos/o/r/actions/workflows/ci.yml/disable"),
    ] {
        let answer = daemon.ask(method, path, &[("cookie", &cookie)], "{\"name\":\"a\",\"value\":\"b\"}").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(daemon.get("/api/v3/towline/audit", &token).await.json(), before, "nothing was done");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_tokens_costs_the_guesser_only() {
    let daemon = Daemon::start(Mode::Tokens).await;
    let token = daemon.token("me", Role::Viewer, &[]).await;
    let mut last = StatusCode::OK;
    for number in 0..200 {
        last = daemon.get("/api/v3/user", &format!("twl_{number}")).await.status;
        if last == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        assert_eq!(last, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let blocked = daemon.get("/api/v3/user", &token).await;
    assert_eq!((blocked.status, blocked.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "60"));
    // A session that is already there goes on; so does what needs no token.
    assert_eq!(daemon.get("/healthz", "").await.status, StatusCode::OK);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_reads_nothing_is_dropped_by_nobody_and_holds_nobody() {
    let mut daemon = Daemon::start(Mode::OpenOnLoopback).await;
    daemon.push("o/r", "flood").await;
    let (assignment, log, _) = daemon.take().await;
    let writer = daemon.store.logs().open(log);
    let path = format!("/api/v3/repos/o/r/actions/jobs/{}/logs?follow=1", assignment.job);
    let mut deaf = tokio::net::TcpStream::connect(daemon.plain).await.unwrap();
    deaf.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let line = format!("2026-11-21T21:00:00.0000000Z {}\n", "x".repeat(1000));
    let block = line.repeat(1000);
    let mut length = 0;
    for _ in 0..24 {
        daemon.append(log, block.as_bytes());
        length += block.len() as u64;
        writer.send_replace(length);
    }
    // Others read all of it meanwhile.
    let mut stream = daemon.open(Method::GET, &path, &[], "").await.into_body();
    let mut seen = 0;
    while seen < length {
        let frame = tokio::time::timeout(Duration::from_secs(120), http_body_util::BodyExt::frame(&mut stream));
        seen += frame.await.expect("the log goes on").unwrap().unwrap().into_data().unwrap().len() as u64;
    }
    // The deaf one finds it all when it listens again.
    let mut heard = 0;
    let mut buffer = vec![0; 1 << 16];
    while heard < length {
        heard += deaf.read(&mut buffer).await.unwrap() as u64;
    }
    daemon.end().await;
}
