//! What the tests of hosts share: jobs, their output, their end.

use std::time::Duration;

use tempfile::TempDir;
use towline::id::HostName;
use towline::transport::{
    HostEvent, HostEvents, HostJob, Hosts, IdentityFile, JobSpec, Spool, SshTarget, StepEnded, StepRequest, Target,
    UnknownKey, Way,
};

use crate::support::sshd::Sshd;

/// Nothing here takes longer on any machine that is alive.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

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
        contained: None,
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

/// A target as lines for another process: the root, and for SSH the port and the directory of the fixture; then the address
/// where it is not loopback.
pub(crate) fn target_lines(directory: &std::path::Path, sshd: Option<&Sshd>) -> Vec<String> {
    let text = |path: std::path::PathBuf| path.to_str().expect("text").to_owned();
    match sshd {
        None => vec![text(directory.join("root"))],
        Some(sshd) => vec!["~/.towline".to_owned(), sshd.port().to_string(), text(sshd.path(""))],
    }
}

/// The target of [`target_lines`].
pub(crate) fn target_from(lines: &[&str]) -> Target {
    let way = match lines {
        [_, port, directory, rest @ ..] => {
            let directory = std::path::Path::new(directory);
            Way::Ssh(Box::new(SshTarget {
                address: rest.first().unwrap_or(&"127.0.0.1").to_string(),
                port: port.parse().expect("a port"),
                user: crate::support::sshd::user(),
                identities: vec![IdentityFile { path: directory.join("id"), passphrase_file: None }],
                agent: false,
                password: None,
                known_hosts: vec![directory.join("known_hosts")],
                unknown_key: UnknownKey::Refuse,
                jump: None,
                connect_timeout: Duration::from_secs(if rest.is_empty() { 20 } else { 5 }),
            }))
        }
        _ => Way::Local,
    };
    Target { name: HostName::from("host"), way, root: lines[0].to_owned() }
}
