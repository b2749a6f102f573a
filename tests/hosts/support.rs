//! What the tests of hosts share: jobs, their output, their end.

use std::time::Duration;

use tempfile::TempDir;
use towline::id::HostName;
use towline::transport::{HostEvent, HostEvents, HostJob, Hosts, JobSpec, Spool, StepEnded, StepRequest, Target, Way};

/// Nothing here takes longer on any machine that is alive.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// This machine, with a root of its own.
pub(crate) fn local(directory: &TempDir) -> Target {
    Target {
        name: HostName::from("local"),
        way: Way::Local,
        root: directory.path().join("root").to_str().expect("text").to_owned(),
    }
}

/// A runtime for one test.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("done in time") })
}

/// A fresh job.
pub(crate) async fn open(hosts: &Hosts, target: &Target, key: &str) -> (HostJob, HostEvents) {
    let spec = JobSpec { key: key.to_owned(), nonce: JobSpec::new_nonce(), resume: None };
    hosts.open_job(target, spec).await.expect("the job opens")
}

/// A step that runs a script with `sh`.
pub(crate) fn sh(number: u32, script: &str) -> StepRequest {
    StepRequest {
        number,
        argv: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![("PATH".into(), std::env::var("PATH").expect("PATH"))],
        cwd: "/".into(),
        files: Vec::new(),
        timeout: None,
        spool: Spool::Main,
    }
}

/// Everything up to the end of a step: its output, and its end.
pub(crate) async fn until_end(events: &mut HostEvents, number: u32) -> (Vec<u8>, StepEnded) {
    let mut output = Vec::new();
    loop {
        match events.next().await {
            Some(HostEvent::Output { bytes, .. }) => output.extend_from_slice(&bytes),
            Some(HostEvent::StepEnded(ended)) if ended.number == number => return (output, *ended),
            Some(HostEvent::Lost { reason, .. }) => panic!("lost: {reason}"),
            Some(_) => {}
            None => panic!("the events ended after {} bytes", output.len()),
        }
    }
}
