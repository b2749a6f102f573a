//! Jobs whose end cannot be known any more, and hosts on which nothing can be written: each says what it is.

use std::fs;
use std::path::PathBuf;

use towline::transport::{Exit, Grace, HostEvent, HostEvents, HostJob, Hosts, JobSpec, Resume, TransportError};

use super::support::{block_on, local, open, sh};
use crate::support::sshd::{Sshd, kill};

async fn until_lost(events: &mut HostEvents) -> (String, bool) {
    loop {
        match events.next().await {
            Some(HostEvent::Lost { reason, host_died }) => return (reason, host_died),
            Some(_) => {}
            None => panic!("the events ended"),
        }
    }
}

#[test]
fn a_killed_supervisor_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    block_on(async {
        let hosts = Hosts::new();
        let (job, mut events) = open(&hosts, &local(&directory), "8-1-1").await;
        job.start_step(sh(1, "echo on; exec sleep 1000")).await.expect("started");
        let Some(HostEvent::Output { .. }) = events.next().await else { panic!("output comes first") };
        let supervisor = fs::read_to_string(PathBuf::from(job.dir()).join("main.sup")).expect("a supervisor");
        let pid = supervisor.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
        assert!(kill("-KILL", pid));
        let (reason, host_died) = until_lost(&mut events).await;
        assert!(reason.contains("supervisor of step 1") && !host_died, "{reason}");
        assert_eq!(events.next().await, None);
        assert!(matches!(job.start_step(sh(2, "true")).await, Err(TransportError::Gone { .. })));
        let script = format!("exec /bin/sh ../launcher-* sweep x {}", job.tracking_id());
        let swept = Hosts::new().exec(&local(&directory), &script, b"").await.expect("runs");
        assert!(swept.stdout.starts_with(b"killed "), "{swept:?}");
    });
}

#[test]
fn a_machine_that_restarted_is_not_started_on_again() {
    let Some(sshd) = Sshd::start() else { return };
    block_on(async {
        let hosts = Hosts::new();
        let target = sshd.target("restarting");
        let spec = JobSpec { key: "8-1-2".into(), nonce: JobSpec::new_nonce(), resume: None };
        let (job, mut events) = hosts.open_job(&target, spec.clone()).await.expect("opens");
        let boot = PathBuf::from(job.dir()).join("boot");
        // A restart is another boot id: nothing else of it can be shown without one.
        let before = fs::read_to_string(&boot).expect("recorded");
        fs::write(&boot, "another\n").expect("written");
        sshd.kill_sessions();
        let (reason, host_died) = until_lost(&mut events).await;
        assert!(reason.contains("restarted") && host_died, "{reason}");
        let resume = Some(Resume { offset: 0, ended: 0 });
        let again = Hosts::new().open_job(&target, JobSpec { resume, ..spec.clone() }).await.map(|_| ());
        assert!(matches!(again, Err(TransportError::Gone { .. })), "{again:?}");
        fs::write(&boot, before).expect("written");
        fs::remove_dir_all(job.dir()).expect("removed");
        let again = Hosts::new().open_job(&target, JobSpec { resume, ..spec }).await.map(|_| ());
        assert!(matches!(again, Err(TransportError::Gone { .. })), "{again:?}");
    });
}

#[test]
fn a_machine_that_restarts_under_a_step_that_nobody_listens_to_ends_what_waits() {
    let Some(sshd) = Sshd::start() else { return };
    block_on(async {
        let target = sshd.target("restarting");
        let spec = JobSpec { key: "8-1-3".into(), nonce: JobSpec::new_nonce(), resume: None };
        let (job, mut events) = Hosts::new().open_job(&target, spec).await.expect("opens");
        // Far more than fits on the way, and nobody takes it while a cancel is under way.
        job.start_step(sh(1, "yes | head -c 20000000")).await.expect("starts");
        assert!(events.next().await.is_some());
        fs::write(PathBuf::from(job.dir()).join("boot"), "another\n").expect("written");
        sshd.kill_sessions();
        let cancelled = job.cancel_step(1, Grace::GITHUB).await;
        assert!(matches!(&cancelled, Err(TransportError::Gone { host_died: true, .. })), "{cancelled:?}");
        let (reason, host_died) = until_lost(&mut events).await;
        assert!(reason.contains("restarted") && host_died, "{reason}");
        assert!(events.next().await.is_none());
    });
}

#[test]
fn a_home_that_cannot_be_written_says_so() {
    let Some(sshd) = Sshd::start() else { return };
    let mut target = sshd.target("full");
    target.root = "/proc/towline".into();
    let result = block_on(async { Hosts::new().probe(&target).await });
    match result {
        Err(TransportError::Unusable { reason, .. }) => assert!(reason.contains("/proc/towline"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_loses_no_end() {
    // A small file system of its own, which a step fills.
    let prelude = "mkdir -p /tmp/towline-small && mount -t tmpfs -o size=2m,mode=700 tmpfs /tmp/towline-small";
    let Some(sshd) = Sshd::start_inside("", prelude) else { return };
    block_on(async {
        let hosts = Hosts::new();
        let mut target = sshd.target("small");
        target.root = "/tmp/towline-small/root".into();
        let (job, mut events) = open(&hosts, &target, "8-1-3").await;
        job.start_step(sh(1, "echo before; cat /dev/zero >/tmp/towline-small/fill 2>/dev/null; exit 3"))
            .await
            .expect("started");
        let (_, ended) = super::support::until_end(&mut events, 1).await;
        assert_eq!(ended.exit, Exit::Code(3));
        job.exec("rm /tmp/towline-small/fill", b"").await.map(|_| ()).unwrap_or_else(|error| {
            // The command itself needs room for its script.
            assert!(error.to_string().contains("the disk is full"), "{error}");
        });
        job.finish().await.expect("finished");
    });
}

#[test]
fn what_nobody_owns_is_collected() {
    let directory = tempfile::tempdir().expect("a directory");
    block_on(async {
        let target = local(&directory);
        let hosts = Hosts::new();
        let (running, mut running_events) = open(&hosts, &target, "8-1-4").await;
        running.start_step(sh(1, "echo on; exec sleep 1000")).await.expect("started");
        let Some(HostEvent::Output { .. }) = running_events.next().await else { panic!("output comes first") };
        let (_idle, _) = open(&hosts, &target, "8-1-5").await;
        let (fresh, _fresh_events) = open(&hosts, &target, "8-1-6").await;
        let (removed, _removed_events) = open(&hosts, &target, "8-1-7").await;
        let root = PathBuf::from(running.root());
        for key in ["8-1-4", "8-1-5", "8-1-7"] {
            let job = root.join("jobs").join(key);
            let supervisor = job.join("main.sup");
            while fs::read_to_string(&supervisor).is_ok_and(|text| !text.ends_with('\n')) || !supervisor.exists() {
                std::thread::yield_now();
            }
            // Where the next step's process is made ahead, its files are the last that are made by themselves.
            while !running.facts().bash.is_empty() && !job.join("steps/1.artifacts").exists() {
                std::thread::yield_now();
            }
            let old = "touch -d '2020-01-01' . steps ./*.spool";
            assert!(
                std::process::Command::new("sh").args(["-c", old]).current_dir(&job).status().expect("runs").success()
            );
        }
        // The lane may be making a file of its own at this moment.
        while fs::remove_dir_all(removed.dir()).is_err() {
            std::thread::yield_now();
        }
        let gone = hosts.collect(&target).await.expect("collected");
        assert!(gone.contains(&"removed job 8-1-5".to_owned()), "{gone:?}");
        assert!(gone.iter().any(|one| one.starts_with("ended lane")), "{gone:?}");
        assert!(PathBuf::from(running.dir()).exists() && PathBuf::from(fresh.dir()).exists(), "{gone:?}");
        assert!(!root.join("jobs/8-1-5").exists());
        let grace =
            towline::transport::Grace { interrupt: std::time::Duration::ZERO, terminate: std::time::Duration::ZERO };
        running.cancel_step(1, grace).await.expect("cancelled");
        super::support::until_end(&mut running_events, 1).await;
        running.finish().await.expect("finished");
        fresh.finish().await.expect("finished");
    });
}

#[test]
fn a_supervisor_ends_by_itself_when_its_job_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    block_on(async {
        let hosts = Hosts::new();
        let (job, mut events) = open(&hosts, &local(&directory), "8-1-8").await;
        if job.facts().bash.is_empty() {
            eprintln!("skipped: there is no bash here, and other shells wait without looking about");
            return;
        }
        job.start_step(sh(1, "true")).await.expect("started");
        super::support::until_end(&mut events, 1).await;
        until_it_ends(job, events, || ()).await;
    });
}

#[test]
fn a_supervisor_ends_with_its_step_when_its_job_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let stay = directory.path().join("stay");
    fs::write(&stay, "").expect("written");
    block_on(async {
        let (job, mut events) = open(&Hosts::new(), &local(&directory), "8-1-9").await;
        let step = format!("echo on; while [ -e '{}' ]; do sleep 0.1; done", stay.display());
        job.start_step(sh(1, &step)).await.expect("started");
        let Some(HostEvent::Output { .. }) = events.next().await else { panic!("output comes first") };
        until_it_ends(job, events, || fs::remove_file(&stay).expect("removed")).await;
    });
}

/// Removes all jobs, as somebody does who cleans up by hand, and waits for the end of this one's supervisor.
async fn until_it_ends(job: HostJob, events: HostEvents, then: impl FnOnce()) {
    let supervisor = fs::read_to_string(PathBuf::from(job.dir()).join("main.sup")).expect("a supervisor");
    let pid: u32 = supervisor.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    let jobs = PathBuf::from(job.root()).join("jobs");
    drop((job, events));
    while fs::remove_dir_all(&jobs).is_err() {
        tokio::task::yield_now().await;
    }
    then();
    while kill("-0", pid) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
