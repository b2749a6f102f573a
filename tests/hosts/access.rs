//! Getting in: host keys, certificates, identities, jump hosts, sessions that a server limits, another server.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use towline::transport::{Exit, Hosts, IdentityFile, SshTarget, Target, TransportError, UnknownKey, Way};

use super::support::{block_on, open, sh, until_end};
use crate::support::sshd::{Sshd, free_port};

fn to(ssh: SshTarget) -> Target {
    Target { name: "host".into(), way: Way::Ssh(Box::new(ssh)), root: "~/.towline".into() }
}

fn probe(ssh: SshTarget) -> Result<(), TransportError> {
    block_on(async { Hosts::new().probe(&to(ssh)).await.map(|_| ()) })
}

fn keygen(arguments: &[&str]) {
    let output = Command::new("ssh-keygen").arg("-q").args(arguments).output().expect("ssh-keygen runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

#[test]
fn unknown_changed_and_revoked_host_keys_are_told_apart() {
    let Some(sshd) = Sshd::start() else { return };
    let mut ssh = sshd.ssh();
    let empty = sshd.path("empty");
    ssh.known_hosts = vec![empty.clone()];
    let Err(TransportError::HostKey { fingerprint, unknown: true, reason, .. }) = probe(ssh.clone()) else {
        panic!("an unknown key was accepted");
    };
    let shown = Command::new("ssh-keygen").args(["-lf", &text(&sshd.path("host.pub"))]).output().expect("runs");
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&fingerprint), "{fingerprint}");
    assert!(reason.contains("towline host check host --accept") && reason.contains(&fingerprint), "{reason}");
    ssh.unknown_key = UnknownKey::Fingerprint("SHA256:wrong".into());
    assert!(matches!(probe(ssh.clone()), Err(TransportError::HostKey { .. })));
    assert!(!empty.exists());
    // Accepted once, it is pinned.
    ssh.unknown_key = UnknownKey::Fingerprint(fingerprint);
    probe(ssh.clone()).expect("accepted");
    ssh.unknown_key = UnknownKey::Refuse;
    probe(ssh.clone()).expect("known");
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("other"))]);
    let other = fs::read_to_string(sshd.path("other.pub")).expect("a key");
    fs::write(&empty, format!("[127.0.0.1]:{} {other}", sshd.port())).expect("written");
    let Err(TransportError::HostKey { unknown: false, reason, .. }) = probe(ssh.clone()) else {
        panic!("a changed key was accepted");
    };
    assert!(reason.contains("has changed") && reason.contains("empty:1"), "{reason}");
    let own = fs::read_to_string(sshd.path("host.pub")).expect("a key");
    fs::write(&empty, format!("@revoked * {own}[127.0.0.1]:{} {own}", sshd.port())).expect("written");
    let Err(TransportError::HostKey { reason, .. }) = probe(ssh) else { panic!("a revoked key was accepted") };
    assert!(reason.contains("revoked"), "{reason}");
}

#[test]
fn host_certificates_are_checked() {
    let Some(mut sshd) = Sshd::start() else { return };
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("ca"))]);
    let configuration = fs::read_to_string(sshd.path("sshd_config")).expect("there");
    let line = format!("HostCertificate {}\n", text(&sshd.path("host-cert.pub")));
    fs::write(sshd.path("sshd_config"), format!("{line}{configuration}")).expect("written");
    let authority = fs::read_to_string(sshd.path("ca.pub")).expect("a key");
    let known = sshd.path("authorities");
    fs::write(&known, format!("@cert-authority [127.0.0.1]:* {authority}")).expect("written");
    let ca = text(&sshd.path("ca"));
    let host = text(&sshd.path("host.pub"));
    let always = ["-V", "always:forever"];
    let cases: [(&[&str], Option<&str>); 4] = [
        (&["-h", "-n", "127.0.0.1", always[0], always[1]], None),
        (&["-h", "-n", "elsewhere.lan", always[0], always[1]], Some("not for 127.0.0.1")),
        (&["-h", "-n", "127.0.0.1", "-V", "20200101:20200102"], Some("not valid now")),
        (&["-n", "127.0.0.1", always[0], always[1]], Some("")),
    ];
    for (options, refusal) in cases {
        keygen(&[&["-s", &ca, "-I", "test"], options, &[host.as_str()]].concat());
        sshd.stop();
        sshd.restart();
        let mut ssh = sshd.ssh();
        ssh.known_hosts = vec![known.clone()];
        match (probe(ssh), refusal) {
            (Ok(()), None) => {}
            (Err(TransportError::HostKey { reason, .. }), Some(expected)) => {
                assert!(reason.contains(expected), "{reason}");
            }
            (result, _) => panic!("{options:?}: {result:?}"),
        }
    }
}

#[test]
fn identities_of_every_kind_are_offered() {
    let Some(sshd) = Sshd::start() else { return };
    // A key that the server does not know comes first, one that is not there second.
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("stranger"))]);
    keygen(&["-t", "rsa", "-b", "2048", "-N", "secret words", "-f", &text(&sshd.path("rsa"))]);
    let plain = |name: &str| IdentityFile { path: sshd.path(name), passphrase_file: None };
    let mut ssh = sshd.ssh();
    ssh.identities = vec![plain("stranger"), plain("absent")];
    let Err(TransportError::Refused { reason, .. }) = probe(ssh.clone()) else { panic!("a stranger was let in") };
    assert!(
        reason.contains("/stranger (SHA256:") && reason.contains("was refused") && reason.contains("authorized_keys"),
        "{reason}"
    );
    ssh.identities.push(plain("id"));
    probe(ssh.clone()).expect("the third key");
    // RSA, encrypted, with the passphrase in a file.
    let keys = ["id.pub", "rsa.pub"].map(|name| fs::read_to_string(sshd.path(name)).expect("a key")).concat();
    fs::write(sshd.path("authorized"), keys).expect("written");
    ssh.identities = vec![plain("rsa")];
    let Err(TransportError::Refused { reason, .. }) = probe(ssh.clone()) else { panic!("an encrypted key was read") };
    assert!(reason.contains("encrypted"), "{reason}");
    fs::write(sshd.path("passphrase"), "secret words\n").expect("written");
    ssh.identities[0].passphrase_file = Some(sshd.path("passphrase"));
    probe(ssh.clone()).expect("the encrypted key");
    // A certificate beside a key that the server does not know.
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("ca"))]);
    let user = crate::support::sshd::user();
    keygen(&["-s", &text(&sshd.path("ca")), "-I", "test", "-n", &user, &text(&sshd.path("stranger.pub"))]);
    let authority = fs::read_to_string(sshd.path("ca.pub")).expect("a key");
    fs::write(sshd.path("authorized"), format!("cert-authority {authority}")).expect("written");
    ssh.identities = vec![plain("stranger")];
    probe(ssh).expect("the certificate");
}

#[test]
fn a_jump_host_carries_the_connection() {
    let (Some(first), Some(second)) = (Sshd::start(), Sshd::start()) else { return };
    let mut ssh = second.ssh();
    ssh.jump = Some(Box::new(first.ssh()));
    block_on(async {
        let hosts = Hosts::new();
        let (job, mut events) = open(&hosts, &to(ssh.clone()), "5-1-1").await;
        job.start_step(sh(1, "echo through")).await.expect("started");
        assert_eq!(until_end(&mut events, 1).await.0, b"through\n");
        job.finish().await.expect("finished");
    });
    drop(first);
    assert!(matches!(probe(ssh), Err(TransportError::Unreachable { .. })));
}

#[test]
fn what_is_not_there_is_told_at_once() {
    let Some(sshd) = Sshd::start() else { return };
    let mut ssh = sshd.ssh();
    ssh.port = free_port();
    let Err(TransportError::Unreachable { reason, .. }) = probe(ssh.clone()) else { panic!("nothing answered") };
    assert!(reason.contains("nothing listens"), "{reason}");
    // Listens and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    ssh.port = listener.local_addr().expect("bound").port();
    ssh.connect_timeout = Duration::from_millis(300);
    let Err(TransportError::Unreachable { reason, .. }) = probe(ssh) else { panic!("silence was an answer") };
    assert!(reason.contains("sent no SSH greeting"), "{reason}");
}

#[test]
fn a_server_that_limits_sessions_serves_many_jobs() {
    for limit in [1, 10] {
        let Some(sshd) = Sshd::start_with(&format!("MaxSessions {limit}")) else { return };
        let target = sshd.target("limited");
        block_on(async {
            let hosts = Hosts::new();
            let mut jobs = Vec::new();
            for number in 0..8 {
                let (hosts, target) = (hosts.clone(), target.clone());
                jobs.push(tokio::spawn(async move {
                    let (job, mut events) = open(&hosts, &target, &format!("6-1-{number}")).await;
                    for step in 1..=3 {
                        job.start_step(sh(step, &format!("echo {number} {step}"))).await.expect("started");
                        let (output, ended) = until_end(&mut events, step).await;
                        assert_eq!(String::from_utf8_lossy(&output), format!("{number} {step}\n"));
                        assert_eq!(ended.exit, Exit::Code(0));
                        assert_eq!(job.exec("echo beside", b"").await.expect("runs").stdout, b"beside\n");
                    }
                    job.finish().await.expect("finished");
                }));
            }
            for job in jobs {
                job.await.expect("no job failed");
            }
        });
    }
}

#[test]
fn dropbear_serves_as_well() {
    let user = crate::support::sshd::user();
    let (Ok(_), true) = (Command::new("dropbear").arg("-V").output(), user == "root") else {
        eprintln!("skipped: there is no dropbear here, or no root to give it a home");
        return;
    };
    let Some(sshd) = Sshd::start() else { return };
    let home = sshd.path("home");
    fs::create_dir_all(home.join(".ssh")).expect("a directory");
    fs::copy(sshd.path("id.pub"), home.join(".ssh/authorized_keys")).expect("keys");
    let key = text(&sshd.path("dropbear_key"));
    let made = Command::new("dropbearkey").args(["-t", "ed25519", "-f", &key]).output().expect("dropbearkey runs");
    let public = String::from_utf8_lossy(&made.stdout).lines().find(|line| line.starts_with("ssh-")).map(str::to_owned);
    let port = free_port();
    let known = sshd.path("dropbear_known");
    fs::write(&known, format!("[127.0.0.1]:{port} {}\n", public.expect("a public key"))).expect("written");
    // Keys come only from the home of the passwd file: another one is mounted over it.
    let script = format!(
        "set -e; chmod 700 {0} {0}/.ssh; chmod 600 {0}/.ssh/authorized_keys; d=$(mktemp -d); \
         sed 's|^root:\\(.*\\):/root:|root:\\1:{0}:|' /etc/passwd >$d/passwd; mount --bind $d/passwd /etc/passwd; \
         exec dropbear -F -E -s -p 127.0.0.1:{port} -r {key} -P {0}/pid",
        home.display()
    );
    let mut server = Server(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare runs"),
    );
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Ok(Some(status)) = server.0.try_wait() {
            panic!("dropbear ended: {status}");
        }
        std::thread::yield_now();
    }
    let mut ssh = sshd.ssh();
    ssh.port = port;
    ssh.known_hosts = vec![known];
    block_on(super::shells::scenario(&to(ssh)));
}

/// A server that ends with the test, however the test ends.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
