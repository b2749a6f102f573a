//! What `towline host check` and `host add` say when something is wrong: what exactly it is, and the command that mends it. Each
//! on a real server that really has the fault.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::sshd::{Sshd, free_port, user};
use crate::support::towline;

/// A user with a home, a configuration and no agent.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("home")).expect("a home");
        fs::write(directory.path().join("towline.toml"), "").expect("a configuration");
        Self { directory }
    }

    /// With one host, `box`.
    fn with(host: &str) -> Self {
        let desk = Self::new();
        fs::write(desk.path("towline.toml"), format!("[[host]]\nname = \"box\"\n{host}")).expect("a configuration");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The exit code, and what was said.
    fn say(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = towline()
            .arg("host")
            .args(arguments)
            .env("HOME", self.path("home"))
            .env("TOWLINE_CONFIG", self.path("towline.toml"))
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .output()
            .expect("towline runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.code(), said)
    }

    /// `host check box`, which has to fail and say all of this.
    fn fails(&self, expected: &[&str]) {
        let (code, said) = self.say(&["check", "box"]);
        eprintln!("{said}");
        assert_eq!(code, Some(1), "{said}");
        for words in expected {
            assert!(said.contains(words), "not said: {words}\n{said}");
        }
        assert_eq!(said.lines().count(), 1, "one host, one line: {said}");
    }

    /// `host check box`, which has to succeed with a warning that says all of this.
    fn warns(&self, expected: &[&str]) {
        let (code, said) = self.say(&["check", "box"]);
        assert_eq!(code, Some(0), "{said}");
        for line in said.lines().filter(|line| line.contains("warning")) {
            eprintln!("{line}");
        }
        let told =
            said.lines().any(|line| line.contains("warning: ") && expected.iter().all(|words| line.contains(words)));
        assert!(told, "no warning of {expected:?}: {said}");
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().expect("text"))
}

/// The lines of a host that leads to the server, with other lines.
fn entry(sshd: &Sshd, user: &str, more: &str) -> String {
    let identity =
        if more.contains("identity") { String::new() } else { format!("identity = [{}]\n", quoted(&sshd.path("id"))) };
    let known = if more.contains("known_hosts") {
        String::new()
    } else {
        format!("known_hosts = [{}]\n", quoted(&sshd.path("known_hosts")))
    };
    format!("address = \"127.0.0.1\"\nport = {}\nuser = \"{user}\"\n{identity}{known}{more}", sshd.port())
}

/// A prelude that adds an account: name, field of the password, home, shell.
fn account(name: &str, password: &str, home: &str, shell: &str) -> String {
    let number = 12_000 + name.bytes().map(u32::from).sum::<u32>();
    format!(
        "d=$(mktemp -d); cp -p /etc/passwd /etc/shadow $d; chmod 755 $d; echo '{name}:x:{number}:{number}::{home}:{shell}' >>$d/passwd; \
         echo '{name}:{password}:19000:0:99999:7:::' >>$d/shadow; mount --bind $d/passwd /etc/passwd; \
         mount --bind $d/shadow /etc/shadow\n"
    )
}

fn keygen(arguments: &[&str]) -> String {
    let output = Command::new("ssh-keygen").args(arguments).output().expect("ssh-keygen runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn who_is_not_let_in_is_told_why_and_what_to_do() {
    let prelude = account("locked", "!", "/", "/bin/sh") + &account("open", "*", "/", "/bin/sh");
    let Some(sshd) = Sshd::start_inside("SetEnv HOME=/nowhere\nDenyUsers barred", &prelude) else { return };
    let port = sshd.port();
    // Nobody outside can tell a locked account from a missing key: both are named, each with its command.
    let id = sshd.path("id");
    Desk::with(&entry(&sshd, "locked", "")).fails(&[
        "box refuses to let locked in: the key ",
        "was refused",
        "the account may be locked",
        "`sudo usermod -p '*' locked`",
        "journalctl",
    ]);
    let stranger = sshd.path("stranger");
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", stranger.to_str().expect("text")]);
    let fingerprint = keygen(&["-lf", stranger.to_str().expect("text")]);
    let fingerprint = fingerprint.split(' ').nth(1).expect("a fingerprint");
    let more = format!("identity = [{}, {}]\n", quoted(&stranger), quoted(&sshd.path("absent")));
    Desk::with(&entry(&sshd, "open", &more)).fails(&[
        &format!(
            "the key {} ({fingerprint}) was refused; the key {} is not there",
            stranger.display(),
            sshd.path("absent").display()
        ),
        &format!("`ssh-copy-id -i {}.pub -p {port} open@127.0.0.1`", stranger.display()),
    ]);
    // Nothing to offer: neither files nor an agent.
    let desk = Desk::with(&entry(&sshd, "open", "").replace(&format!("identity = [{}]\n", quoted(&id)), ""));
    desk.fails(&[
        "there is no key to offer: of ",
        "and no SSH agent answers",
        "`ssh-keygen -t ed25519 -f ",
        "ssh-copy-id",
    ]);
    // A key that cannot be opened.
    let sealed = sshd.path("sealed");
    keygen(&["-q", "-t", "ed25519", "-N", "secret words", "-f", sealed.to_str().expect("text")]);
    let more = format!("identity = [{}]\n", quoted(&sealed));
    Desk::with(&entry(&sshd, "open", &more))
        .fails(&["it is encrypted: `ssh-add ", "LoadCredential=ssh-passphrase:FILE"]);
}

#[test]
fn servers_that_want_other_proofs_are_understood() {
    let Some(sshd) = Sshd::start_with("PubkeyAuthentication no\nPasswordAuthentication yes") else { return };
    Desk::with(&entry(&sshd, &user(), ""))
        .fails(&["the server takes no keys, only password", "`PubkeyAuthentication yes`"]);
    let Some(sshd) = Sshd::start_with("PasswordAuthentication yes\nAuthenticationMethods publickey,password") else {
        return;
    };
    Desk::with(&entry(&sshd, &user(), "")).fails(&["the key was taken, and the server wants password besides"]);
    if user() == "root" {
        let Some(sshd) = Sshd::start_with("PermitRootLogin no\nBanner /etc/hostname") else { return };
        let name = fs::read_to_string("/etc/hostname").unwrap_or_default();
        let name = name.trim();
        let banner = if name.is_empty() { String::new() } else { format!("(it says: {name})") };
        Desk::with(&entry(&sshd, "root", "")).fails(&["`PermitRootLogin` of its sshd_config may forbid root", &banner]);
    }
}

#[test]
fn keys_of_hosts_are_accepted_by_the_command_that_is_named() {
    let Some(mut sshd) = Sshd::start() else { return };
    let none = "known_hosts = [\"/nonexistent\"]\n";
    let desk = Desk::with(&entry(&sshd, &user(), none));
    let own = keygen(&["-lf", sshd.path("host.pub").to_str().expect("text")]);
    let own = own.split(' ').nth(1).expect("a fingerprint").to_owned();
    let accept = format!("`towline host check box --accept {own}`");
    desk.fails(&[
        "the host key of box ([127.0.0.1]:",
        "is not known",
        "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`",
        &accept,
    ]);
    let (code, said) = desk.say(&["check", "box", "--accept", "SHA256:another"]);
    assert!(code == Some(1) && said.contains(&accept), "{said}");
    let (code, said) = desk.say(&["check", "box", "--accept", &own]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(desk.say(&["check", "box"]).0, Some(0));
    assert_eq!(desk.say(&["check", "--accept", &own]).0, Some(2));
    // The machine is installed anew.
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", sshd.path("new").to_str().expect("text")]);
    for end in ["", ".pub"] {
        fs::rename(sshd.path(&format!("new{end}")), sshd.path(&format!("host{end}"))).expect("renamed");
    }
    sshd.stop();
    sshd.restart();
    let new = keygen(&["-lf", sshd.path("host.pub").to_str().expect("text")]);
    let new = new.split(' ').nth(1).expect("a fingerprint").to_owned();
    let accept = format!("`towline host check box --accept {new}`");
    let pins = desk.path("known_hosts");
    desk.fails(&[
        "has changed: it is now ",
        &new,
        &format!("recorded at {}:1", pins.display()),
        "Someone may be in between",
        &accept,
    ]);
    let (code, said) = desk.say(&["check", "box", "--accept", &new]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_to_string(&pins).expect("pins").lines().count(), 1, "the old key is pinned still");
    // What somebody else recorded is not ours to remove.
    let desk = Desk::with(&entry(&sshd, &user(), ""));
    let forget = format!(
        "`ssh-keygen -f {} -R '[127.0.0.1]:{}'`, then {accept}",
        sshd.path("known_hosts").display(),
        sshd.port()
    );
    desk.fails(&["has changed", &forget]);
    assert_eq!(desk.say(&["check", "box", "--accept", &new]).0, Some(1));
    let forget = forget.split('`').nth(1).expect("a command");
    assert!(
        Command::new("sh")
            .args(["-c", forget])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("runs")
            .success()
    );
    assert_eq!(desk.say(&["check", "box", "--accept", &new]).0, Some(0));
    let public = fs::read_to_string(sshd.path("host.pub")).expect("a key");
    fs::write(desk.path("known_hosts"), format!("@revoked * {public}")).expect("written");
    desk.fails(&[
        "shows a key that is revoked at ",
        "known_hosts:1",
        "`sudo rm /etc/ssh/ssh_host_*_key*; sudo ssh-keygen -A`",
    ]);
    assert_eq!(desk.say(&["check", "box", "--accept", &new]).0, Some(1), "a revoked key was accepted");
}

#[test]
fn adding_a_host_names_the_command_that_accepts_its_key() {
    let Some(sshd) = Sshd::start() else { return };
    let desk = Desk::new();
    let destination = format!("{}@127.0.0.1:{}", user(), sshd.port());
    let identity = sshd.path("id");
    let identity = identity.to_str().expect("text");
    let (code, said) = desk.say(&["add", &destination, "--name", "new", "--identity", identity]);
    assert!(code != Some(0) && said.contains("is not known"), "{said}");
    let command = said.split('`').find(|part| part.starts_with("towline host add")).expect("a command").to_owned();
    let words: Vec<&str> = command.split(' ').skip(2).collect();
    let (code, said) = desk.say(&words);
    assert!(code == Some(0) && said.contains("Added new"), "{said}");
    let (code, said) = desk.say(&["check", "new"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn homes_and_disks_that_take_nothing_are_told_apart() {
    let prelude = account("homeless", "*", "/nonexistent/homeless", "/bin/sh")
        + &account("guest", "*", "/", "/bin/sh")
        + "m=/tmp/towline-words; mkdir -p $m && mount -t tmpfs -o mode=755 tmpfs $m; \
           for n in full inodes ro noexec; do mkdir $m/$n; done; \
           mount -t tmpfs -o size=128k,mode=1777 tmpfs $m/full; head -c 200k /dev/zero >$m/full/fill 2>/dev/null || true; \
           mount -t tmpfs -o nr_inodes=2,mode=1777 tmpfs $m/inodes; touch $m/inodes/last; \
           mount -t tmpfs -o ro tmpfs $m/ro; mount -t tmpfs -o noexec tmpfs $m/noexec; touch $m/file\n";
    let Some(sshd) = Sshd::start_inside("SetEnv HOME=/nonexistent/homeless", &prelude) else { return };
    Desk::with(&entry(&sshd, "homeless", "")).fails(&[
        "homeless has no home: /nonexistent/homeless is not there",
        "`sudo install -d -o homeless -m 700 /nonexistent/homeless`",
        "`towline host add`",
    ]);
    let root =
        |user: &str, root: &str| Desk::with(&entry(&sshd, user, &format!("root = \"/tmp/towline-words/{root}\"\n")));
    root("guest", "towline").fails(&[
        "guest may not write in /tmp/towline-words (drwxr-xr-x, owner root)",
        "`sudo chown guest /tmp/towline-words`",
    ]);
    root("guest", "full/towline").fails(&[
        "the disk is full: 0 KiB are free in /tmp/towline-words/full",
        "`sudo du -xk /tmp/towline-words/full",
    ]);
    root("guest", "inodes/towline")
        .fails(&["no inodes are left in /tmp/towline-words/inodes", "`sudo du -x --inodes "]);
    root("root", "ro/towline")
        .fails(&["/tmp/towline-words/ro is mounted read-only", "`mount -o remount,rw /tmp/towline-words/ro`"]);
    root("root", "file/towline")
        .fails(&["/tmp/towline-words/file is in the way", "`mv /tmp/towline-words/file /tmp/towline-words/file.old`"]);
    root("root", "noexec/towline").warns(&[
        "files under /tmp/towline-words/noexec/towline cannot be executed: /tmp/towline-words/noexec is mounted noexec",
        "`mount -o remount,exec /tmp/towline-words/noexec`",
    ]);
}

#[test]
fn a_disk_that_is_full_later_is_named_too() {
    let prelude = "m=/tmp/towline-later; mkdir -p $m && mount -t tmpfs -o size=256k,mode=777 tmpfs $m\n";
    let Some(sshd) = Sshd::start_inside("", prelude) else { return };
    let desk = Desk::with(&entry(&sshd, &user(), "root = \"/tmp/towline-later/towline\"\n"));
    desk.warns(&["MiB are free in /tmp/towline-later"]);
    // Through the server itself: the disk is in its namespace.
    let status = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-p", &sshd.port().to_string(), "-i"])
        .arg(sshd.path("id"))
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.path("known_hosts").display())])
        .args([&format!("{}@127.0.0.1", user()), "cat /dev/zero >/tmp/towline-later/fill"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("ssh runs");
    assert!(!status.success());
    desk.fails(&["the disk is full: ", "free in /tmp/towline-later"]);
}

#[test]
fn shells_that_run_nothing_or_never_end_are_named() {
    for (shell, expected) in [
        (
            "/usr/sbin/nologin",
            "the login shell of odd ended with code 1 (it said: This account is currently not available.)",
        ),
        ("/bin/false", "the login shell of odd ended with code 1. Give the account one"),
    ] {
        let Some(sshd) = Sshd::start_inside("", &account("odd", "*", "/", shell)) else { return };
        Desk::with(&entry(&sshd, "odd", "")).fails(&[expected, "`sudo usermod -s /bin/sh odd`", "`ForceCommand`"]);
    }
    let Some(sshd) = Sshd::start_with("ForceCommand internal-sftp") else { return };
    Desk::with(&entry(&sshd, &user(), "")).fails(&["ended with code", "`ForceCommand`"]);
    let Some(sshd) = Sshd::start_inside("", &account("slow", "*", "/", "/bin/bash")) else { return };
    fs::write(sshd.path("home/.bashrc"), "echo Loading the world\nexec sleep 1000\n").expect("written");
    Desk::with(&entry(&sshd, "slow", "connect_timeout = \"1s\"\n")).fails(&[
        "the login shell of slow did not come to an end of its start-up files within 6 s (it said: Loading the world)",
        "~/.bashrc",
        "`connect_timeout`",
    ]);
}

#[test]
fn machines_that_lack_something_are_described() {
    let hide = |names: &str| {
        format!(
            "for n in {names}; do for p in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do [ ! -x $p/$n ] || \
             mount --bind /dev/null \"$(readlink -f $p/$n)\"; done; done\n"
        )
    };
    // Programs that nobody may start, and a clock an hour ahead.
    let clock = "d=$(mktemp -d); cp -p /bin/date $d/real; printf '#!/bin/sh\\nexpr $('$d'/real +%%s) + 3600\\n' >$d/date; chmod 755 $d $d/date; \
                 mount --bind $d/date \"$(readlink -f /bin/date)\"\n";
    let prelude = account("poor", "*", "/", "/bin/sh") + &hide("bash git mkfifo") + clock;
    let Some(sshd) = Sshd::start_inside("", &prelude) else { return };
    let open = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("modes");
    };
    open(&sshd.path("home"));
    let desk = Desk::with(&entry(&sshd, "poor", ""));
    desk.warns(&["there is no bash: steps without a `shell` run in sh", "bash`"]);
    desk.warns(&["no job can run: mkfifo is not there; coreutils, findutils and grep have it"]);
    desk.warns(&["there is no git"]);
    desk.warns(&["its clock is 3", " s ahead", "timedatectl set-ntp true"]);
    let linger = account("logged", "*", "/", "/bin/sh")
        + "d=$(mktemp -d); chmod 755 $d; mkdir -p /etc/systemd; printf '[Login]\\nKillUserProcesses=yes\\n' >$d/logind.conf; mount --bind $d /etc/systemd\n";
    let Some(sshd) = Sshd::start_inside("AllowTcpForwarding no", &linger) else { return };
    let root = tempfile::tempdir().expect("a directory");
    open(root.path());
    let desk = Desk::with(&entry(&sshd, "logged", &format!("root = {}\n", quoted(&root.path().join("towline")))));
    desk.warns(&["(KillUserProcesses=yes)", "`sudo loginctl enable-linger logged`"]);
    desk.warns(&["the SSH server of box forwards no ports", "`AllowTcpForwarding yes`"]);
}

/// A server on loopback that says this, and ends each connection if `then_ends`.
fn impostor(words: &'static [u8], then_ends: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(words);
            if then_ends {
                // What is unread would become a reset, which could overtake the words.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            } else {
                held.push(stream);
            }
        }
    });
    port
}

#[test]
fn addresses_where_no_server_is_are_told_apart() {
    let at = |address: &str, port: u16| {
        let identity = "identity = [\"/nonexistent\"]\n";
        Desk::with(&format!(
            "address = \"{address}\"\nport = {port}\nuser = \"ci\"\n{identity}connect_timeout = \"1s\"\n"
        ))
    };
    let port = free_port();
    at("127.0.0.1", port).fails(&[
        &format!("cannot reach box: nothing listens at 127.0.0.1:{port}"),
        "`sudo systemctl enable --now ssh`",
        "ci@127.0.0.1:PORT",
    ]);
    at("127.0.0.1", impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n", true))
        .fails(&["is no SSH server: it says \"HTTP/1.1 400 Bad Request\"", "ci@127.0.0.1:PORT"]);
    at("127.0.0.1", impostor(b"", true)).fails(&[
        "closed the connection without a greeting",
        "`MaxStartups`",
        "journalctl",
    ]);
    at("127.0.0.1", impostor(b"", false))
        .fails(&["took the connection, and sent no SSH greeting within 1 s", "`ssh -v -p "]);
    at("127.0.0.1", impostor(b"SSH-2.0-Slow\r\n", false))
        .fails(&["greeted, and did not agree on keys within 1 s", "`connect_timeout`"]);
    // An address that nobody has, and one that never answers, in a network of their own.
    let route = "ip link add tl0 type veth peer name tl1; ip addr add 10.78.0.1/24 dev tl0; ip link set tl0 up; ip link set tl1 up";
    for (network, address, expected) in [
        ("true", "no-such-name.invalid", "the name no-such-name.invalid does not resolve ("),
        ("ip link set lo up", "10.78.0.2", "there is no way to 10.78.0.2:22"),
        (route, "10.78.0.2", "10.78.0.2:22 did not answer within 1 s. The machine may be off"),
    ] {
        let desk = at(address, 22);
        let script = format!("{network} && exec \"$@\"");
        let output = Command::new("unshare")
            .args(["--net", "sh", "-c", &script, "sh"])
            .arg(env!("CARGO_BIN_EXE_towline"))
            .args(["host", "check", "box"])
            .env("HOME", desk.path("home"))
            .env("TOWLINE_CONFIG", desk.path("towline.toml"))
            .stdin(Stdio::null())
            .output()
            .expect("unshare runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        if said.contains("unshare") || said.contains("RTNETLINK") {
            eprintln!("skipped: no network namespace or no dummy device here: {said}");
            continue;
        }
        eprintln!("{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_server_that_takes_no_more_connections_is_named() {
    let Some(sshd) = Sshd::start_with("MaxStartups 1\nLoginGraceTime 60") else { return };
    let desk = Desk::with(&entry(&sshd, &user(), "connect_timeout = \"2s\"\n"));
    // Whoever came before may be counted for a moment still.
    while desk.say(&["check", "box"]).0 != Some(0) {}
    let _waiting = loop {
        let mut waiting = std::net::TcpStream::connect(("127.0.0.1", sshd.port())).expect("connected");
        let mut greeting = [0; 4];
        if waiting.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-" {
            break waiting;
        }
    };
    desk.fails(&["cannot reach box: 127.0.0.1:", "`MaxStartups`", "journalctl"]);
}

#[test]
fn jump_hosts_that_lead_nowhere_are_named() {
    let (Some(closed), Some(behind)) = (Sshd::start_with("AllowTcpForwarding no"), Sshd::start()) else { return };
    let desk = Desk::new();
    let id = closed.path("id");
    // Both servers know the same key, and the same file knows both servers.
    fs::copy(closed.path("id.pub"), behind.path("authorized")).expect("keys");
    let known = [&closed, &behind].map(|sshd| fs::read_to_string(sshd.path("known_hosts")).expect("keys")).concat();
    fs::write(closed.path("known_hosts"), known).expect("written");
    let hop = format!("{}@127.0.0.1:{}", user(), closed.port());
    let host = |port: u16| {
        format!(
            "[[host]]\nname = \"box\"\naddress = \"127.0.0.1\"\nport = {port}\nuser = \"{}\"\nidentity = [{}]\nknown_hosts = [{}]\njump = [\"{hop}\"]\n",
            user(),
            quoted(&id),
            quoted(&closed.path("known_hosts"))
        )
    };
    fs::write(desk.path("towline.toml"), host(behind.port())).expect("written");
    desk.fails(&[&format!("the jump host {hop} forwards no connections"), "`AllowTcpForwarding yes`"]);
    let Some(open) = Sshd::start() else { return };
    fs::copy(closed.path("id.pub"), open.path("authorized")).expect("keys");
    let key = fs::read_to_string(open.path("known_hosts")).expect("keys");
    let mut known = fs::read_to_string(closed.path("known_hosts")).expect("keys");
    known.push_str(&key);
    fs::write(closed.path("known_hosts"), known).expect("written");
    let nobody = free_port();
    let text = host(nobody).replace(&hop, &format!("{}@127.0.0.1:{}", user(), open.port()));
    fs::write(desk.path("towline.toml"), text).expect("written");
    desk.fails(&["cannot reach 127.0.0.1:", &format!("`nc -vz 127.0.0.1 {nobody}` on the jump host")]);
}
