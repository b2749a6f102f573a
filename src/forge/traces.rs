//! Runs as traces, for a collector of OpenTelemetry (`[telemetry]`): a run is a trace, its jobs and their steps are spans.
//!
//! Names are those of OpenTelemetry's conventions for CI/CD. The ids of a run's trace and spans follow from the run, so
//! one that is told twice, after a restart, is the same trace.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::updates::Updates;
use super::{Error, http as web, reporter};
use crate::config::Telemetry;
use crate::engine::{JobRecord, RunRecord, Update};
use crate::event::ref_name;
use crate::id::RunId;
use crate::run::report::StepState;
use crate::run::{Conclusion, RunStatus};
use crate::store::{Store, StoreError};

/// Spans in one request.
const BATCH: usize = 500;
/// How often a collector that is away is asked again, and how long is waited before the second time; twice as long each
/// time after.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// `[telemetry]` as it is now.
pub type Collector = Arc<dyn Fn() -> Option<Telemetry> + Send + Sync>;

/// Subscribes to updates and sends each run that ends.
pub struct Tracer {
    pub store: Store,
    pub collector: Collector,
    /// The daemon's address, for links.
    pub server_url: String,
}

impl Tracer {
    /// Sends until told to stop.
    pub async fn run(self, mut updates: Updates, stop: CancellationToken) {
        loop {
            let update = tokio::select! {
                () = stop.cancelled() => return,
                update = updates.next() => update,
            };
            match update {
                Ok(Some(Update::Run { run, attempt, status: RunStatus::Completed, .. })) => {
                    let Some(collector) = (self.collector)() else { continue };
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.tell(&collector, run, attempt) => {}
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => log::error!("a trace was not sent: {error}"),
            }
        }
    }

    async fn tell(&self, collector: &Telemetry, run: RunId, attempt: u32) {
        let batches = match self.batches(collector, run, attempt) {
            Ok(batches) => batches,
            Err(error) => {
                log::error!(run = run.0; "the trace of run {run} was not sent: {error}");
                return;
            }
        };
        for batch in batches {
            if let Err(error) = deliver(collector, &batch).await {
                log::warn!(run = run.0; "the trace of run {run} was not sent: {error}");
                return;
            }
        }
    }

    /// The requests that tell of a run.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn batches(&self, collector: &Telemetry, run: RunId, attempt: u32) -> Result<Vec<Json>, StoreError> {
        let Some(record) = self.store.run(run)?.filter(|record| record.attempt == attempt) else {
            return Ok(Vec::new());
        };
        let jobs = self.store.jobs(run, attempt)?;
        let spans = spans(&record, &jobs, &self.server_url);
        let resource = json!({"attributes": [
            attribute("service.name", collector.service.as_str()),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ]});
        let scope = json!({"name": "towline", "version": env!("CARGO_PKG_VERSION")});
        let request = |spans: &[Json]| json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]});
        Ok(spans.chunks(BATCH).map(request).collect())
    }
}

async fn deliver(collector: &Telemetry, batch: &Json) -> Result<(), Error> {
    let mut pause = FIRST_PAUSE;
    for last in (0..TRIES).rev() {
        match send(collector, batch).await {
            Err(error) if error.is_transient() && last > 0 => {
                let wait = error.retry_after().unwrap_or(pause).min(Duration::from_secs(60));
                tokio::time::sleep(wait).await;
                pause *= 2;
            }
            result => return result,
        }
    }
    Ok(())
}

async fn send(collector: &Telemetry, batch: &Json) -> Result<(), Error> {
    let url = format!("{}/v1/traces", collector.otlp);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("towline/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &collector.headers {
        request = request.header(name, value.read()?.expose_secret());
    }
    let request = request.body(Full::new(Bytes::from(batch.to_string()))).map_err(|_| Error::Address(url))?;
    web::send(request).await
}

/// The spans of a run that has ended: the run, then each job with its steps.
fn spans(run: &RunRecord, jobs: &[JobRecord], server_url: &str) -> Vec<Json> {
    let trace: String = hex(&[
        "trace",
        run.repository.as_str(),
        &run.id.to_string(),
        &run.attempt.to_string(),
        &run.created_at.to_string(),
    ])[..32]
        .to_owned();
    let id = |parts: &[&str]| {
        let all: Vec<&str> = std::iter::once(trace.as_str()).chain(parts.iter().copied()).collect();
        hex(&all)[..16].to_owned()
    };
    let root = id(&["run"]);
    let ended = run.completed_at.unwrap_or(run.updated_at);
    let mut all = vec![span(
        &trace,
        &root,
        None,
        &format!("{} #{}", run.workflow_name, run.run_number),
        (run.attempted_at, ended),
        run.conclusion,
        &[
            attribute("cicd.pipeline.name", run.workflow_name.as_str()),
            attribute("cicd.pipeline.action.name", "RUN"),
            attribute("cicd.pipeline.run.id", run.id.to_string()),
            attribute("cicd.pipeline.run.url.full", reporter::address(run, server_url)),
            attribute("cicd.pipeline.result", result(run.conclusion)),
            attribute("vcs.repository.name", run.repository.as_str()),
            attribute("vcs.ref.head.name", ref_name(&run.git_ref)),
            attribute("vcs.ref.head.type", if run.git_ref.starts_with("refs/tags/") { "tag" } else { "branch" }),
            attribute("vcs.ref.head.revision", run.sha.as_str()),
            attribute("towline.attempt", run.attempt.to_string()),
            attribute("towline.event", run.event.as_str()),
            attribute("towline.actor", run.triggering_actor.as_str()),
            attribute("towline.workflow.path", run.workflow_path.as_str()),
        ],
    )];
    for job in jobs {
        let state = &job.state;
        // One that was skipped took no time, and says so.
        let began = job.queued_at.or(state.started_at).unwrap_or(state.created_at);
        let ended = state.completed_at.unwrap_or(ended).max(began);
        let number = state.id.to_string();
        let this = id(&["job", &number]);
        let mut attributes = vec![
            attribute("cicd.pipeline.task.name", state.name.as_str()),
            attribute("cicd.pipeline.task.run.id", number.as_str()),
            attribute(
                "cicd.pipeline.task.run.url.full",
                format!("{}/job/{number}", reporter::address(run, server_url)),
            ),
            attribute("cicd.pipeline.task.run.result", result(state.conclusion)),
        ];
        if let Some(host) = &state.host {
            attributes.push(attribute("cicd.worker.name", host.as_str()));
        }
        if let (Some(queued), Some(started)) = (job.queued_at, state.started_at) {
            let waited = started.duration_since(queued).as_millis();
            attributes.push(json!({"key": "towline.queue.milliseconds", "value": {"intValue": waited.to_string()}}));
        }
        if let Some(reason) = &state.reason {
            attributes.push(attribute("towline.reason", reason.as_str()));
        }
        all.push(span(&trace, &this, Some(&root), &state.name, (began, ended), state.conclusion, &attributes));
        for step in &state.steps {
            all.extend(step_span(&trace, &id(&["step", &number, &step.number.to_string()]), &this, step));
        }
    }
    all
}

/// A step that ran.
fn step_span(trace: &str, id: &str, parent: &str, step: &StepState) -> Option<Json> {
    let times = (step.started_at?, step.completed_at?);
    let mut attributes = vec![
        attribute("towline.step.number", step.number.to_string()),
        attribute("towline.step.outcome", result(step.outcome)),
    ];
    if let Some(code) = step.exit_code {
        attributes.push(json!({"key": "process.exit.code", "value": {"intValue": code.to_string()}}));
    }
    Some(span(trace, id, Some(parent), &step.name, times, step.outcome, &attributes))
}

fn span(
    trace: &str,
    id: &str,
    parent: Option<&str>,
    name: &str,
    (from, to): (Timestamp, Timestamp),
    conclusion: Option<Conclusion>,
    attributes: &[Json],
) -> Json {
    let failed = matches!(conclusion, Some(Conclusion::Failure | Conclusion::TimedOut | Conclusion::StartupFailure));
    json!({
        "traceId": trace,
        "spanId": id,
        "parentSpanId": parent.unwrap_or_default(),
        "name": name,
        // Internal: nothing was asked of somebody else.
        "kind": 1,
        "startTimeUnixNano": from.as_nanosecond().to_string(),
        "endTimeUnixNano": to.as_nanosecond().to_string(),
        "attributes": attributes,
        "status": if failed { json!({"code": 2, "message": result(conclusion)}) } else { json!({}) },
    })
}

fn attribute(key: &str, value: impl Into<String>) -> Json {
    json!({"key": key, "value": {"stringValue": value.into()}})
}

/// The word of the conventions.
fn result(conclusion: Option<Conclusion>) -> &'static str {
    match conclusion {
        Some(Conclusion::Success | Conclusion::Neutral) => "success",
        Some(Conclusion::Failure) => "failure",
        Some(Conclusion::TimedOut) => "timeout",
        Some(Conclusion::Cancelled) => "cancellation",
        Some(Conclusion::Skipped) => "skip",
        Some(Conclusion::StartupFailure | Conclusion::Stale | Conclusion::ActionRequired) | None => "error",
    }
}

fn hex(parts: &[&str]) -> String {
    let digest = digest::digest(&digest::SHA256, parts.join("\0").as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
