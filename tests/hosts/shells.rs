//! Every shell a user may log in with, every shell that may be `/bin/sh`, and a host without GNU tools.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use towline::transport::{
    CommandFile, Exit, Grace, HostEvent, Hosts, JobSpec, Resume, StepFile, Target, TransportError,
};

use super::support::{block_on, sh, until_end};
use crate::support::sshd::Sshd;

/// A whole job: everything that leans on the shell.
pub(crate) async fn scenario(target: &Target) {
    let hosts = Hosts::new();
    let spec = JobSpec { key: "7-1-1".into(), nonce: JobSpec::new_nonce(), resume: None };
    let (job, mut events) = hosts.open_job(target, spec.clone()).await.expect("opens");
    let facts = job.facts();
    assert!(!facts.home.is_empty() && facts.cores > 0 && facts.variable("PATH").is_some(), "{facts:?}");
    let script = format!("{}/script", job.dir());
    let mut content = b"printf 'a\\tb'; echo \"$ODD\"; echo x=1 >>\"$GITHUB_OUTPUT\"; exit 3\n".to_vec();
    content.extend((0..4000).flat_map(|line| format!("# it's line {line} of \"many\" \u{e9}\u{201c}\n").into_bytes()));
    assert!(content.len() > 100_000);
    let mut step = sh(1, "");
    step.argv = vec!["sh".into(), script.clone()];
    step.env.push(("ODD".into(), "it's \\ \"$HOME\" \u{e9}\u{201c}\n%0A".into()));
    step.env.push(("GITHUB_OUTPUT".into(), job.file_path(1, CommandFile::Output)));
    step.files = vec![StepFile { path: script, content, executable: false, temporary: true }];
    job.start_step(step).await.expect("started");
    let (output, ended) = until_end(&mut events, 1).await;
    assert_eq!(String::from_utf8_lossy(&output), "a\tbit's \\ \"$HOME\" \u{e9}\u{201c}\n%0A\n");
    assert_eq!((ended.exit, &ended.files.output[..]), (Exit::Code(3), &b"x=1\n"[..]));
    let output = job.exec("cat; exit 5", &[7; 100_000]).await.expect("runs");
    assert_eq!((output.status, output.stdout.len()), (5, 100_000));
    let small = "#!/bin/sh\nit's \\n \"small\" \u{e9} %s\n";
    let path = format!("{}/small", job.dir());
    let mut step = sh(2, "cat small; trap 'echo trapped; exit 9' INT; echo ready; while :; do sleep 1; done");
    step.cwd = job.dir().to_owned();
    step.files = vec![StepFile { path, content: small.into(), executable: true, temporary: false }];
    job.start_step(step).await.expect("started");
    let mut seen = Vec::new();
    let mut stored = 0;
    while !seen.ends_with(b"ready\n") {
        let Some(HostEvent::Output { bytes, offset, .. }) = events.next().await else { panic!("output comes first") };
        seen.extend_from_slice(&bytes);
        stored = offset;
    }
    assert_eq!(String::from_utf8_lossy(&seen), format!("{small}ready\n"));
    drop((job, events));
    let hosts = Hosts::new();
    let resume = Some(Resume { offset: stored, ended: 1 });
    let (job, mut events) = hosts.open_job(target, JobSpec { resume, ..spec }).await.expect("attaches");
    let grace = Grace { interrupt: Duration::from_secs(60), terminate: Duration::from_secs(1) };
    job.cancel_step(2, grace).await.expect("cancelling");
    let (output, ended) = until_end(&mut events, 2).await;
    assert_eq!((String::from_utf8_lossy(&output).as_ref(), ended.exit), ("trapped\n", Exit::Cancelled(9)));
    let mut step = sh(3, "sleep 1000");
    step.timeout = Some(Duration::from_millis(1000));
    job.start_step(step).await.expect("started");
    assert!(matches!(until_end(&mut events, 3).await.1.exit, Exit::TimedOut(_)));
    job.start_step(sh(4, "sleep 1000 >/dev/null 2>&1 & true")).await.expect("started");
    assert_eq!(until_end(&mut events, 4).await.1.exit, Exit::Code(0));
    assert_eq!(job.sweep_orphans().await.expect("swept").len(), 1);
    job.finish().await.expect("finished");
    let left = hosts.exec(target, "ls -A ../jobs", b"").await.expect("runs");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

/// The first of these programs that is here.
fn program(names: &[&str]) -> Option<String> {
    let found = names.iter().find(|name| Path::new(name).exists()).map(|name| (*name).to_owned());
    if found.is_none() {
        eprintln!("skipped: none of {names:?} is here");
    }
    found
}

/// Runs the scenario where this prelude was run in the server's namespace.
fn inside(prelude: &str) {
    if let Some(sshd) = Sshd::start_inside("", prelude) {
        block_on(scenario(&sshd.target("shells")));
    }
}

/// Another login shell for everybody.
fn login_with(shell: &str) -> String {
    format!("d=$(mktemp -d); sed 's|:[^:]*$|:{shell}|' /etc/passwd >$d/passwd; mount --bind $d/passwd /etc/passwd")
}

/// Another `/bin/sh`.
fn sh_is(shell: &str) -> String {
    format!("mount --bind {shell} \"$(readlink -f /bin/sh)\"")
}

#[test]
fn users_log_in_with_any_shell() {
    for names in
        [&["/usr/bin/fish"][..], &["/usr/bin/zsh", "/bin/zsh"], &["/usr/bin/mksh", "/bin/mksh"], &["/bin/dash"]]
    {
        if let Some(shell) = program(names) {
            inside(&login_with(&shell));
        }
    }
}

#[test]
fn any_shell_may_be_sh() {
    for names in [&["/usr/bin/bash", "/bin/bash"][..], &["/usr/bin/mksh", "/bin/mksh"], &["/usr/bin/zsh", "/bin/zsh"]] {
        if let Some(shell) = program(names) {
            inside(&sh_is(&shell));
        }
    }
}

#[test]
fn busybox_is_enough() {
    let Some(busybox) = program(&["/bin/busybox", "/usr/bin/busybox"]) else { return };
    // busybox is the applet of the name it is started by.
    let names = "cat chmod cp cut date dd df env expr grep head hostname id ls mkdir mkfifo mktemp mv nproc od ps readlink rm rmdir \
                 sed seq setsid sleep sort tail tar tr uname wc";
    let prelude = format!(
        "b=$(mktemp -d); cp {busybox} $b/busybox; for n in {names}; do p=$(command -v $n) || continue; case $p in /*) ;; *) continue ;; esac; $b/busybox mount --bind $b/busybox \
         \"$($b/busybox readlink -f $p)\" || exit 1; done; $b/busybox mount --bind $b/busybox \"$($b/busybox readlink -f /bin/sh)\""
    );
    inside(&prelude);
}

#[test]
fn a_host_without_proc_is_enough() {
    for program in ["ps", "python3"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("skipped: there is no {program} here");
            return;
        }
    }
    // As on macOS and the BSDs: what processes are there only ps tells, in their way.
    let prelude = r#"d=$(mktemp -d); chmod 755 $d; mkdir $d/proc; mount --bind /proc $d/proc
cat >$d/all.py <<'END'
import os
for one in filter(str.isdigit, os.listdir(".")):
    try:
        words = b"".join(open(one + name, "rb").read() for name in ("/cmdline", "/environ"))
    except OSError:
        continue
    os.write(1, one.encode() + b" " + words.replace(b"\0", b" ").replace(b"\n", b" ") + b"\n")
END
printf '#!/bin/sh\ncd %s/proc\n' $d >$d/ps
cat >>$d/ps <<'END'
for pid; do :; done
case $* in
"axeww -o pid= -o command=") exec python3 -SE ../all.py ;;
"-o pgid= -o lstart= -p "*)
	{ read -r line <$pid/stat; } 2>/dev/null || exit 1
	set -- ${line##*) }
	echo "  $3 Sat Nov 28 ${20} 2026" ;;
"-o comm= -p "*) cat $pid/comm ;;
*) echo "ps: $*: not known" >&2; exit 1 ;;
esac
END
chmod 755 $d/ps; mount --bind $d/ps "$(readlink -f "$(command -v ps)")"; mount -t tmpfs tmpfs /proc"#;
    inside(prelude);
}

#[test]
fn accounts_that_cannot_run_anything_say_why() {
    for (shell, expected) in [("/usr/sbin/nologin", "not available"), ("/bin/false", "ended with code 1")] {
        let Some(sshd) = Sshd::start_inside("", &login_with(shell)) else { return };
        let result = block_on(async { Hosts::new().probe(&sshd.target("closed")).await });
        match result {
            Err(TransportError::Unusable { reason, .. }) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn start_up_files_that_print_do_no_harm() {
    let Some(sshd) = Sshd::start() else { return };
    std::fs::write(
        sshd.path("home/.bashrc"),
        "echo Welcome; echo to this host >&2; printf 'no newline'\nexport FROM_RC=1\n",
    )
    .expect("written");
    block_on(scenario(&sshd.target("talkative")));
    let facts = block_on(async { Hosts::new().probe(&sshd.target("talkative")).await.expect("probed") });
    if facts.login_shell.ends_with("bash") {
        assert_eq!(facts.variable("FROM_RC"), Some("1"));
    }
}

/// What runs on hosts, as files.
const SCRIPTS: [&str; 3] = ["launcher.sh", "probe.sh", "trouble.sh"];

#[test]
fn what_runs_on_hosts_is_posix_shell() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transport");
    // Names that the reading shell sets, words that are to be split, values read and not needed, and two things of bash
    // alone where it is known to be bash, or with a substitute.
    let meant = "SC2154,SC2046,SC2034,SC1090,SC1091,SC3028,SC3045";
    let shells: [&[&str]; 6] = [
        &["shellcheck", "-s", "sh", "-S", "warning", "-e", meant],
        &["dash", "-n"],
        &["bash", "--posix", "-n"],
        &["mksh", "-n"],
        &["busybox", "sh", "-n"],
        &["zsh", "--emulate", "sh", "-n"],
    ];
    for words in shells {
        for script in SCRIPTS {
            let Ok(output) = Command::new(words[0]).args(&words[1..]).arg(place.join(script)).output() else {
                eprintln!("skipped: there is no {} here", words[0]);
                break;
            };
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            assert!(output.status.success(), "{words:?} {script}: {said}");
        }
    }
}
