//! What actions expect on the wire, over loopback: with plain requests, and with GitHub's own packages from npm.

mod client;
pub(crate) mod npm;
mod protocol;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use towline::clock::Clock;
use towline::services::{Job, Scopes, Services, Settings, identity_claims};

/// The services on a port of loopback.
struct Served {
    services: Services,
    base: String,
    time: Arc<Mutex<Timestamp>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings(directory: &Path, base: &str) -> Settings {
    Settings {
        directory: directory.to_owned(),
        issuer: base.to_owned(),
        artifact_retention: Duration::from_secs(90 * 24 * 3600),
        bytes: 200_000_000,
        cache_bytes: 100_000_000,
        cache_idle: Duration::from_secs(7 * 24 * 3600),
    }
}

async fn serve(directory: &Path, change: impl FnOnce(&mut Settings)) -> Served {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let time = Arc::new(Mutex::new(Clock::System.now()));
    let mut settings = settings(directory, &base);
    change(&mut settings);
    let services = Services::open(settings, Clock::Manual(time.clone())).await.unwrap();
    let router = services.router();
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Served { services, base, time, task }
}

impl Served {
    fn job(&self, run: u64, job: u64, reference: &str) -> Job {
        let github = json!({
            "repository": "acme/app", "repository_owner": "acme", "server_url": "https://github.com", "ref": reference,
            "event_name": "push", "run_id": run.to_string(), "event": {"repository": {"default_branch": "main"}},
        });
        let github = github.as_object().unwrap();
        Job {
            run,
            job,
            repository: "acme/app".to_owned(),
            scopes: Scopes::of(github),
            permissions: std::collections::BTreeMap::new(),
            base: self.base.clone(),
            identity: Some(identity_claims(github, ("", ""), None, job)),
            until: *self.time.lock().unwrap() + Duration::from_secs(3600),
        }
    }

    fn pass(&self, time: Duration) {
        *self.time.lock().unwrap() += time;
    }
}
