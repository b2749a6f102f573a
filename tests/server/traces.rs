//! Runs as traces, sent to a collector.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use towline::clock::Clock;
use towline::config::{SecretSource, Telemetry};
use towline::forge::{Tracer, Updates};
use towline::server::auth::Mode;

use super::harness::{Daemon, failed_run};

/// A collector that is busy the first time.
async fn collector() -> (String, mpsc::Receiver<(HeaderMap, Value)>) {
    let (sender, receiver) = mpsc::channel(16);
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let take = move |headers: HeaderMap, body: String| {
        let (sender, first) = (sender.clone(), Arc::clone(&first));
        async move {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "");
            }
            sender.send((headers, serde_json::from_str(&body).unwrap())).await.unwrap();
            (StatusCode::OK, [("retry-after", "0")], "{}")
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), receiver)
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a str {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == key);
    found.and_then(|one| one["value"]["stringValue"].as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_a_trace_of_its_jobs_and_steps() {
    let mut daemon = Daemon::start(Mode::Tokens).await;
    let (url, mut taken) = collector().await;
    let telemetry = Telemetry {
        otlp: url,
        headers: BTreeMap::from([("x-key".to_owned(), SecretSource::Plain("k3y".into()))]),
        service: "lab".into(),
    };
    let stop = CancellationToken::new();
    let updates = Updates::open("traces", daemon.store.clone(), Clock::System, daemon.handle.updates()).unwrap();
    let tracer = || Tracer {
        store: daemon.store.clone(),
        collector: Arc::new({
            let telemetry = telemetry.clone();
            move || Some(telemetry.clone())
        }),
        server_url: "https://ci.lan".into(),
    };
    let again = tracer();
    tokio::spawn(tracer().run(updates, stop.clone()));
    let run = failed_run(&mut daemon).await;
    let (headers, body) = taken.recv().await.unwrap();
    assert_eq!(headers["x-key"], "k3y");
    let resource = &body["resourceSpans"][0];
    assert_eq!(attribute(&resource["resource"], "service.name"), "lab");
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    let named =
        |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{name}: {body:#}"));
    let root = &spans[0];
    assert_eq!((root["parentSpanId"].as_str(), root["traceId"].as_str().map(str::len)), (Some(""), Some(32)));
    assert_eq!(attribute(root, "cicd.pipeline.result"), "failure");
    assert_eq!(attribute(root, "cicd.pipeline.run.url.full"), format!("https://ci.lan/o/r/actions/runs/{run}"));
    assert_eq!(root["status"]["code"], 2);
    let (build, test, step) = (named("build"), named("test"), named("Run make test"));
    for job in [build, test] {
        assert_eq!(job["parentSpanId"], root["spanId"]);
        assert_eq!(attribute(job, "cicd.worker.name"), "selene");
    }
    assert_eq!((&step["parentSpanId"], &step["status"]["code"]), (&test["spanId"], &serde_json::json!(2)));
    assert_eq!(attribute(build, "cicd.pipeline.task.run.result"), "success");
    assert_eq!(spans.len(), 1 + 2 + 4);
    let nanos = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<i128>().unwrap();
    for span in spans {
        assert!(nanos(span, "startTimeUnixNano") <= nanos(span, "endTimeUnixNano"), "{span}");
        assert!(span["spanId"].as_str().is_some_and(|id| id.len() == 16));
        assert_eq!(span["traceId"], root["traceId"]);
    }
    // Told again, after a restart, it is the same trace.
    let told = again.batches(&telemetry, run, 1).unwrap();
    assert_eq!(told, [body]);
    stop.cancel();
    daemon.end().await;
}
