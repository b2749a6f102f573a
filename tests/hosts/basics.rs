//! What every way to a host must do.

use std::time::Duration;

use towline::transport::{
    CommandFile, Exit, Grace, HostEvent, Hosts, JobSpec, Resume, Spool, StepFile, Target, TransportError,
};

use super::support::{block_on, local, open, sh, until_end};
use crate::support::sshd::Sshd;

/// Runs a test on this machine and through sshd.
fn each_way(test: impl AsyncFn(Hosts, Target)) {
    let directory = tempfile::tempdir().expect("a directory");
    block_on(test(Hosts::new(), local(&directory)));
    if let Some(sshd) = Sshd::start() {
        block_on(test(Hosts::new(), sshd.target("loopback")));
    }
}

#[test]
fn steps_run_one_after_the_other_with_output_codes_and_command_files() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-1").await;
        assert!(!job.attached() && job.dir().ends_with("/jobs/1-1-1"));
        let mut step = sh(1, "echo out; echo err >&2; cat; exit 7");
        step.env.push(("A".into(), "1".into()));
        job.start_step(step).await.expect("started");
        let (output, ended) = until_end(&mut events, 1).await;
        assert_eq!((&output[..], ended.exit), (&b"out\nerr\n"[..], Exit::Code(7)));
        let mut step = sh(2, "echo a=b >>$GITHUB_ENV; printf 'x\\036y' >>$GITHUB_OUTPUT; printf 'no newline'");
        step.env.push(("GITHUB_ENV".into(), job.file_path(2, CommandFile::Env)));
        step.env.push(("GITHUB_OUTPUT".into(), job.file_path(2, CommandFile::Output)));
        job.start_step(step).await.expect("started");
        let (output, ended) = until_end(&mut events, 2).await;
        assert_eq!((&output[..], ended.exit), (&b"no newline"[..], Exit::Code(0)));
        assert_eq!((&ended.files.env[..], &ended.files.output[..]), (&b"a=b\n"[..], &b"x\x1ey"[..]));
        job.finish().await.expect("finished");
        assert_eq!(events.next().await, None);
        let gone = hosts.exec(&target, &format!("[ ! -e '{}' ]", job.dir()), b"").await.expect("runs");
        assert_eq!(gone.status, 0);
    });
}

#[test]
fn a_relative_root_stays_where_it_was_meant() {
    let Some(sshd) = Sshd::start() else { return };
    block_on(async {
        let hosts = Hosts::new();
        let target = Target { root: "kept/here".to_owned(), ..sshd.target("loopback") };
        let (job, mut events) = open(&hosts, &target, "1-1-1").await;
        assert!(job.dir().starts_with('/') && job.dir().ends_with("/kept/here/jobs/1-1-1"), "{}", job.dir());
        job.start_step(sh(1, "echo out")).await.expect("started");
        let (output, ended) = until_end(&mut events, 1).await;
        assert_eq!((&output[..], ended.exit), (&b"out\n"[..], Exit::Code(0)));
        job.finish().await.expect("finished");
    });
}

#[test]
fn a_step_has_its_environment_and_nothing_else() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-2").await;
        let mut step = sh(1, "");
        step.argv = vec!["env".into()];
        step.env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("HOME".into(), "/nowhere".into()),
            ("QUOTES".into(), "a'b\"c$d`e\\f".into()),
            ("INPUT_WHO-TO-GREET".into(), "100% \u{e9}".into()),
        ];
        job.start_step(step).await.expect("started");
        let (output, _) = until_end(&mut events, 1).await;
        let output = String::from_utf8(output).expect("text");
        let mut lines: Vec<&str> = output.lines().collect();
        lines.sort_unstable();
        let tracking = format!("RUNNER_TRACKING_ID={}", job.tracking_id());
        // A shell in between may add what shells add.
        lines.retain(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)));
        assert_eq!(
            lines,
            [
                "HOME=/nowhere",
                "INPUT_WHO-TO-GREET=100% \u{e9}",
                "PATH=/usr/bin:/bin",
                "QUOTES=a'b\"c$d`e\\f",
                &tracking
            ]
        );
        job.finish().await.expect("finished");
    });
}

#[test]
fn files_come_with_a_step_and_small_commands_run_beside_it() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-3").await;
        let script = format!("{}/script.sh", job.dir());
        let big: Vec<u8> = (0..200_000_u32).flat_map(|number| format!("# {number}\n").into_bytes()).collect();
        let mut step = sh(1, "");
        step.argv = vec![script.clone()];
        step.files = vec![
            StepFile {
                path: script,
                content: b"#!/bin/sh\nwc -c <$BIG; od -An -c $ODD; read line <&0 || echo no input\nsleep 0.3".to_vec(),
                executable: true,
                temporary: true,
            },
            StepFile { path: format!("{}/big", job.dir()), content: big.clone(), executable: false, temporary: false },
            StepFile {
                path: format!("{}/odd", job.dir()),
                content: vec![0, 1, 0x7f, 0xff, b'\r'],
                executable: false,
                temporary: false,
            },
        ];
        step.env.push(("BIG".into(), format!("{}/big", job.dir())));
        step.env.push(("ODD".into(), format!("{}/odd", job.dir())));
        job.start_step(step).await.expect("started");
        let output = job.exec("cat; echo err >&2; exit 3", b"in\0put").await.expect("runs");
        assert_eq!((output.status, &output.stdout[..], &output.stderr[..]), (3, &b"in\0put"[..], &b"err\n"[..]));
        let (text, ended) = until_end(&mut events, 1).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(ended.exit, Exit::Code(0), "{text}");
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            [&big.len().to_string(), "\\0", "001", "177", "377", "\\r", "no", "input"]
        );
        let path = format!("{}/new/dir/file", job.dir());
        job.write_file(&path, 0o640, &big).await.expect("written");
        assert_eq!(job.read_file(&path, 10_000_000).await.expect("read").as_deref(), Some(&big[..]));
        assert!(job.read_file(&path, 10).await.is_err());
        assert_eq!(job.read_file("/does/not/exist", 10).await.expect("looked"), None);
        let mut archive = Vec::new();
        job.get_tar(job.dir(), &["new".into()], &mut archive).await.expect("packed");
        let there = format!("{}/there", job.dir());
        job.put_tar(&mut &archive[..], &there).await.expect("unpacked");
        let copy = job.read_file(&format!("{there}/new/dir/file"), 10_000_000).await.expect("read");
        assert_eq!(copy.as_deref(), Some(&big[..]));
        job.finish().await.expect("finished");
    });
}

#[test]
fn what_cannot_be_started_says_so() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-4").await;
        let mut step = sh(1, "true");
        step.cwd = "/does/not/exist".into();
        job.start_step(step).await.expect("taken");
        let (output, ended) = until_end(&mut events, 1).await;
        assert_eq!(ended.exit, Exit::NotStarted(126), "{}", String::from_utf8_lossy(&output));
        let mut step = sh(2, "");
        step.argv = vec!["no-such-program".into()];
        job.start_step(step).await.expect("taken");
        let (output, ended) = until_end(&mut events, 2).await;
        assert_eq!(ended.exit, Exit::NotStarted(127));
        assert_eq!(output, b"##[error]no-such-program: command not found\n");
        job.finish().await.expect("finished");
    });
}

#[test]
fn the_same_step_is_started_once_and_another_process_goes_on_where_the_first_stopped() {
    each_way(async |hosts, target| {
        let spec = JobSpec { key: "1-1-5".into(), nonce: JobSpec::new_nonce(), resume: None };
        let (job, mut events) = hosts.open_job(&target, spec.clone()).await.expect("opens");
        let side = format!("{}/side", job.root());
        let step = sh(1, &format!("echo once >>{side}; echo one; sleep 0.5; echo two"));
        job.start_step(step.clone()).await.expect("started");
        job.start_step(step.clone()).await.expect("attached");
        let Some(HostEvent::Output { bytes, offset, .. }) = events.next().await else {
            panic!("no output");
        };
        assert_eq!((&bytes[..], offset), (&b"one\n"[..], 4));
        drop((job, events));
        // As if this process had been killed: new connections, the stored offset.
        let hosts = Hosts::new();
        let resume = Some(Resume { offset, ended: 0 });
        let (job, mut events) = hosts.open_job(&target, JobSpec { resume, ..spec.clone() }).await.expect("attaches");
        assert!(job.attached());
        job.start_step(step).await.expect("attached");
        let (output, ended) = until_end(&mut events, 1).await;
        assert_eq!((&output[..], ended.exit), (&b"two\n"[..], Exit::Code(0)));
        let side = job.read_file(&side, 100).await.expect("read");
        assert_eq!(side.as_deref(), Some(&b"once\n"[..]));
        let foreign = JobSpec { nonce: JobSpec::new_nonce(), ..spec };
        let refused = hosts.open_job(&target, foreign).await.map(|_| ());
        assert!(matches!(refused, Err(TransportError::ForeignJob { .. })), "{refused:?}");
        job.finish().await.expect("finished");
    });
}

#[test]
fn cancel_ends_the_whole_tree_and_the_trap_is_heard() {
    each_way(async |hosts, target| {
        let grace = Grace { interrupt: Duration::from_secs(3), terminate: Duration::from_millis(500) };
        let (job, mut events) = open(&hosts, &target, "1-1-6").await;
        job.start_step(sh(1, "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.1; done"))
            .await
            .expect("started");
        wait_for(&mut events, b"ready\n").await;
        job.cancel_step(1, grace).await.expect("cancelling");
        let (output, ended) = until_end(&mut events, 1).await;
        assert_eq!((&output[..], ended.exit), (&b"interrupted\n"[..], Exit::Cancelled(9)));
        // Ignores everything, and leaves a daemon in a session of its own.
        let daemon = "setsid sh -c 'trap \"\" INT TERM HUP; while :; do sleep 0.1; done' >/dev/null 2>&1 & ";
        let script = format!("trap '' INT TERM; {daemon} echo daemon $!; while :; do sleep 0.1; done");
        let mut step = sh(2, &script);
        step.env.push(("GITHUB_ENV".into(), job.file_path(2, CommandFile::Env)));
        job.start_step(step).await.expect("started");
        wait_for(&mut events, b"daemon").await;
        let grace = Grace { interrupt: Duration::from_millis(300), terminate: Duration::from_millis(300) };
        job.cancel_step(2, grace).await.expect("cancelling");
        let (_, ended) = until_end(&mut events, 2).await;
        assert_eq!(ended.exit, Exit::Cancelled(137));
        assert_eq!(job.sweep_orphans().await.expect("swept"), []);
        // What ended is not cancelled any more, and what was cancelled before it came is not started.
        job.cancel_step(2, grace).await.expect("nothing to do");
        job.cancel_step(3, grace).await.expect("noted");
        job.start_step(sh(3, "echo never")).await.expect("taken");
        let (output, ended) = until_end(&mut events, 3).await;
        assert_eq!((&output[..], ended.exit), (&b""[..], Exit::Cancelled(130)));
        job.finish().await.expect("finished");
    });
}

#[test]
fn a_time_out_is_enforced_on_the_host() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-7").await;
        let mut step = sh(1, "echo on; exec sleep 1000");
        step.timeout = Some(Duration::from_millis(700));
        job.start_step(step).await.expect("started");
        let (output, ended) = until_end(&mut events, 1).await;
        assert_eq!((&output[..], ended.exit), (&b"on\n"[..], Exit::TimedOut(130)));
        let mut step = sh(2, "echo quick");
        step.timeout = Some(Duration::from_secs(1000));
        job.start_step(step).await.expect("started");
        assert_eq!(until_end(&mut events, 2).await.1.exit, Exit::Code(0));
        job.finish().await.expect("finished");
    });
}

#[test]
fn a_time_out_that_nobody_watches_is_watched_when_the_step_is_asked_for_again() {
    each_way(async |hosts, target| {
        let spec = JobSpec { key: "1-1-8".into(), nonce: JobSpec::new_nonce(), resume: None };
        let (job, events) = hosts.open_job(&target, spec.clone()).await.expect("opens");
        let mut step = sh(1, "echo on; exec sleep 1000");
        step.timeout = Some(Duration::from_secs(50));
        job.start_step(step.clone()).await.expect("started");
        // As if the link had broken between the step and what watches it.
        let end = "until set -- steps/1.watch.* && [ -s \"$1\" ] && [ -s steps/1.begun ]; do sleep 0.1; done\n\
                   read -r pid rest <\"$1\"; kill -KILL $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done";
        let ended = job.exec(&format!("cd {}; {end}\n", job.dir()), b"").await.expect("runs");
        assert_eq!(ended.status, 0, "{ended:?}");
        drop((job, events));
        let resume = Some(Resume { offset: 0, ended: 0 });
        let (job, mut events) = hosts.open_job(&target, JobSpec { resume, ..spec }).await.expect("opens again");
        step.timeout = Some(Duration::from_millis(700));
        job.start_step(step).await.expect("is there");
        assert_eq!(until_end(&mut events, 1).await.1.exit, Exit::TimedOut(130));
        job.finish().await.expect("finished");
    });
}

#[test]
fn orphans_are_swept_and_named() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-8").await;
        job.start_step(sh(1, "setsid sleep 1000 >/dev/null 2>&1 & sleep 0.2; echo left")).await.expect("started");
        assert_eq!(until_end(&mut events, 1).await.0, b"left\n");
        let orphans = job.sweep_orphans().await.expect("swept");
        assert_eq!(orphans.len(), 1, "{orphans:?}");
        assert_eq!((orphans[0].command.as_str(), orphans[0].survived), ("sleep", false));
        assert_eq!(job.sweep_orphans().await.expect("swept"), []);
        job.finish().await.expect("finished");
    });
}

#[test]
fn background_steps_run_beside_the_others_with_their_own_output() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-9").await;
        let mut first = sh(1, "while [ ! -e $FLAG ]; do sleep 0.05; done; echo background");
        let flag = format!("{}/flag", job.dir());
        first.env.push(("FLAG".into(), flag.clone()));
        first.spool = Spool::Own(0);
        job.start_step(first).await.expect("started");
        job.start_step(sh(2, &format!("echo main; touch {flag}"))).await.expect("started");
        let (mut own, mut main, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        while ends.len() < 2 {
            match events.next().await.expect("an event") {
                HostEvent::Output { step: 1, bytes, .. } => own.extend_from_slice(&bytes),
                HostEvent::Output { bytes, .. } => main.extend_from_slice(&bytes),
                HostEvent::StepEnded(ended) => ends.push((ended.number, ended.exit)),
                other => panic!("{other:?}"),
            }
        }
        ends.sort_unstable_by_key(|(number, _)| *number);
        assert_eq!((&own[..], &main[..]), (&b"background\n"[..], &b"main\n"[..]));
        assert_eq!(ends, [(1, Exit::Code(0)), (2, Exit::Code(0))]);
        job.finish().await.expect("finished");
    });
}

#[test]
fn long_command_files_binary_output_and_printed_marks() {
    each_way(async |hosts, target| {
        let (job, mut events) = open(&hosts, &target, "1-1-10").await;
        let mut step = sh(
            1,
            "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done >>$GITHUB_STEP_SUMMARY",
        );
        step.env.push(("GITHUB_STEP_SUMMARY".into(), job.file_path(1, CommandFile::Summary)));
        job.start_step(step).await.expect("started");
        assert_eq!(until_end(&mut events, 1).await.1.files.summary.len(), 3000 * 41);
        // A step that repeats what the supervisor wrote before it, and bytes of every value.
        job.start_step(sh(
            2,
            &format!("head -c 70 {}/main.spool; head -c 100000 /dev/urandom | tee {}/random", job.dir(), job.dir()),
        ))
        .await
        .expect("started");
        let (output, ended) = until_end(&mut events, 2).await;
        assert_eq!(ended.exit, Exit::Code(0));
        let random = job.read_file(&format!("{}/random", job.dir()), 1 << 20).await.expect("read").expect("there");
        assert!(output.ends_with(&random) && output.len() > random.len() && output[0] == 0x1e);
        job.finish().await.expect("finished");
    });
}

async fn wait_for(events: &mut towline::transport::HostEvents, text: &[u8]) {
    let mut seen = Vec::new();
    while !seen.windows(text.len()).any(|window| window == text) {
        match events.next().await.expect("an event") {
            HostEvent::Output { bytes, .. } => seen.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
}
