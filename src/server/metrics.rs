//! `/metrics`: numbers for Prometheus, in its names and units.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::engine::{JobRecord, Summary};
use crate::queue::HostState;
use crate::run::Conclusion;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Host {
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    conclusion: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

/// What is counted.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    waiting: Gauge,
    running: Gauge,
    paused: Gauge,
    up: Family<Host, Gauge>,
    slots: Family<Host, Gauge>,
    used: Family<Host, Gauge>,
    ready: Gauge,
    free: Gauge,
    runs: Family<Ended, Counter>,
    jobs: Family<Ended, Counter>,
    took: Histogram,
    queued: Histogram,
    requests: Family<Code, Counter>,
    pub(super) followers: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("towline");
        let metrics = Self {
            registry: Arc::default(),
            waiting: Gauge::default(),
            running: Gauge::default(),
            paused: Gauge::default(),
            up: Family::default(),
            slots: Family::default(),
            used: Family::default(),
            ready: Gauge::default(),
            free: Gauge::default(),
            runs: Family::default(),
            jobs: Family::default(),
            took: Histogram::new(exponential_buckets(1.0, 2.0, 15)),
            queued: Histogram::new(exponential_buckets(0.25, 2.0, 16)),
            requests: Family::default(),
            followers: Gauge::default(),
        };
        registry.register("jobs_waiting", "Jobs that wait for a host", metrics.waiting.clone());
        registry.register("jobs_running", "Jobs that have a host", metrics.running.clone());
        registry.register("queue_paused", "1 while the queue is paused", metrics.paused.clone());
        registry.register("host_up", "1 while the host can be reached", metrics.up.clone());
        registry.register("host_slots", "Slots of the host", metrics.slots.clone());
        registry.register("host_slots_used", "Slots of the host that are taken", metrics.used.clone());
        registry.register("ready", "1 while new work can be made durable", metrics.ready.clone());
        registry.register("state_free_bytes", "Free space of the disk that holds the state", metrics.free.clone());
        registry.register("runs_completed", "Runs that ended since the start, by conclusion", metrics.runs.clone());
        registry.register("jobs_completed", "Jobs that ended since the start, by conclusion", metrics.jobs.clone());
        registry.register("job_duration_seconds", "From a job's start to its end", metrics.took.clone());
        registry.register("job_queue_seconds", "From when a job could start to its start", metrics.queued.clone());
        registry.register("http_requests", "Requests answered, by status code", metrics.requests.clone());
        registry.register("log_followers", "Clients that follow a log", metrics.followers.clone());
        Self { registry: Arc::new(registry), ..metrics }
    }
}

impl Metrics {
    pub(super) fn answered(&self, code: u16) {
        self.requests.get_or_create(&Code { code }).inc();
    }

    /// A run ended.
    pub(super) fn run_ended(&self, conclusion: Conclusion) {
        self.runs.get_or_create(&Ended { conclusion: conclusion.as_str().to_owned() }).inc();
    }

    /// A job ended.
    pub(super) fn job_ended(&self, conclusion: Conclusion, job: Option<&JobRecord>) {
        self.jobs.get_or_create(&Ended { conclusion: conclusion.as_str().to_owned() }).inc();
        let Some(record) = job else { return };
        let job = &record.state;
        if let (Some(started), Some(ended)) = (job.started_at, job.completed_at) {
            self.took.observe(ended.duration_since(started).as_secs_f64().max(0.0));
        }
        if let (Some(queued), Some(started)) = (record.queued_at, job.started_at) {
            self.queued.observe(started.duration_since(queued).as_secs_f64().max(0.0));
        }
    }

    /// The text, with the engine's numbers as they are now.
    pub(super) fn text(&self, summary: &Summary, ready: bool, free: Option<u64>) -> String {
        self.ready.set(i64::from(ready));
        self.free.set(free.and_then(|free| i64::try_from(free).ok()).unwrap_or(-1));
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.waiting.set(number(summary.waiting));
        self.running.set(number(summary.running));
        self.paused.set(i64::from(summary.paused));
        // Hosts that are gone go from the list.
        self.up.clear();
        self.slots.clear();
        self.used.clear();
        for host in &summary.hosts {
            let label = Host { host: host.name.to_string() };
            self.up.get_or_create(&label).set(i64::from(host.state != HostState::Down));
            self.slots.get_or_create(&label).set(host.slots.into());
            self.used.get_or_create(&label).set(host.used.into());
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}
