//! Who we are, and the way there, as `~/.ssh/config` and its neighbours say: a real agent, encrypted keys, certificates, jumps.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::sshd::{Sshd, free_port, kill, user};
use crate::support::towline;

/// A user's home with a `.ssh`, and a configuration without hosts.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    /// With this `~/.ssh/config`.
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(directory.path().join("home/.ssh")).expect("a home");
        fs::write(directory.path().join("home/.ssh/config"), config).expect("a configuration");
        fs::write(directory.path().join("towline.toml"), "").expect("a configuration");
        Self { directory }
    }

    /// `host check NAME`: whether it is let in, and what is said.
    fn check(&self, name: &str, env: &[(&str, &Path)]) -> (bool, String) {
        let output = towline()
            .args(["host", "check", name])
            .env("HOME", self.directory.path().join("home"))
            .env("TOWLINE_CONFIG", self.directory.path().join("towline.toml"))
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("CREDENTIALS_DIRECTORY")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("towline runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), said)
    }

    fn enters(&self, name: &str, env: &[(&str, &Path)]) {
        let (entered, said) = self.check(name, env);
        assert!(entered, "{name}: {said}");
    }

    fn refused(&self, name: &str, env: &[(&str, &Path)], because: &str) {
        let (entered, said) = self.check(name, env);
        assert!(!entered && said.contains(because), "{name}, {because}: {said}");
    }
}

/// An `ssh-agent` with keys. It ends with the value.
struct Agent {
    process: Child,
    directory: tempfile::TempDir,
}

impl Agent {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let Ok(process) = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(directory.path().join("socket"))
            .stdout(Stdio::null())
            .spawn()
        else {
            eprintln!("skipped: there is no ssh-agent here; install openssh-client");
            return None;
        };
        let agent = Self { process, directory };
        while std::os::unix::net::UnixStream::connect(agent.socket()).is_err() {
            std::thread::yield_now();
        }
        Some(agent)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("socket")
    }

    fn add(&self, key: &Path) {
        let status = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", self.socket()).status();
        assert!(status.expect("ssh-add runs").success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        kill("-TERM", self.process.id());
        let _ = self.process.wait();
    }
}

fn keygen(arguments: &[&str]) {
    let output = Command::new("ssh-keygen").arg("-q").args(arguments).output().expect("ssh-keygen runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

/// The part of `~/.ssh/config` that leads to a server.
fn part(name: &str, sshd: &Sshd, more: &str) -> String {
    format!(
        "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  UserKnownHostsFile {}\n{more}\n",
        sshd.port(),
        user(),
        text(&sshd.path("known_hosts"))
    )
}

#[test]
fn an_agent_signs_with_keys_that_are_nowhere_else() {
    let (Some(sshd), Some(agent)) = (Sshd::start(), Agent::start()) else { return };
    let home = Home::new(&(part("box", &sshd, "") + &part("strict", &sshd, "  IdentitiesOnly yes")));
    let socket = agent.socket();
    let with: &[(&str, &Path)] = &[("SSH_AUTH_SOCK", &socket)];
    home.refused("box", with, "the SSH agent has no keys");
    keygen(&["-t", "ed25519", "-N", "", "-C", "a stranger", "-f", &text(&sshd.path("stranger"))]);
    agent.add(&sshd.path("stranger"));
    home.refused("box", with, "the agent's key a stranger was refused");
    // RSA in the agent, known to the server, its file gone.
    keygen(&["-t", "rsa", "-b", "2048", "-N", "", "-C", "of the agent", "-f", &text(&sshd.path("rsa"))]);
    fs::copy(sshd.path("rsa.pub"), sshd.path("authorized")).expect("keys");
    agent.add(&sshd.path("rsa"));
    fs::remove_file(sshd.path("rsa")).expect("removed");
    home.enters("box", with);
    home.refused("box", &[], "no SSH agent answers");
    home.refused("strict", with, "there is no key to offer");
    // A certificate in the agent, made for a key the server does not know.
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("ca"))]);
    let stranger = text(&sshd.path("stranger"));
    keygen(&["-s", &text(&sshd.path("ca")), "-I", "test", "-n", &user(), &format!("{stranger}.pub")]);
    let authority = fs::read_to_string(sshd.path("ca.pub")).expect("a key");
    fs::write(sshd.path("authorized"), format!("cert-authority {authority}")).expect("written");
    agent.add(&sshd.path("stranger"));
    home.enters("box", with);
}

#[test]
fn credentials_of_the_service_open_keys() {
    let Some(sshd) = Sshd::start() else { return };
    let credentials = tempfile::tempdir().expect("a directory");
    let with: &[(&str, &Path)] = &[("CREDENTIALS_DIRECTORY", credentials.path())];
    keygen(&["-t", "ed25519", "-N", "secret words", "-f", &text(&sshd.path("sealed"))]);
    fs::copy(sshd.path("sealed.pub"), sshd.path("authorized")).expect("keys");
    let home = Home::new(&part("box", &sshd, &format!("  IdentityFile {}", text(&sshd.path("sealed")))));
    home.refused("box", with, "it is encrypted");
    fs::write(credentials.path().join("ssh-passphrase"), "wrong words\n").expect("written");
    home.refused("box", with, "is the passphrase in ");
    fs::write(credentials.path().join("ssh-passphrase"), "secret words\n").expect("written");
    home.enters("box", with);
    // The key itself may be one of them.
    let home = Home::new(&part("box", &sshd, ""));
    fs::copy(sshd.path("sealed"), credentials.path().join("towline-ssh-identity")).expect("a key");
    home.enters("box", with);
}

#[test]
fn certificates_beside_keys_are_shown_and_expired_ones_named() {
    let Some(sshd) = Sshd::start() else { return };
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("ca"))]);
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("mine"))]);
    let authority = fs::read_to_string(sshd.path("ca.pub")).expect("a key");
    fs::write(sshd.path("authorized"), format!("cert-authority {authority}")).expect("written");
    let home = Home::new(&part("box", &sshd, &format!("  IdentityFile {}", text(&sshd.path("mine")))));
    let sign = |validity: &str| {
        let (ca, key) = (text(&sshd.path("ca")), text(&sshd.path("mine.pub")));
        keygen(&["-s", &ca, "-I", "test", "-n", &user(), "-V", validity, &key]);
    };
    sign("20200101:20200102");
    home.refused("box", &[], "-cert.pub was refused (it has expired)");
    sign("-1m:+1h");
    home.enters("box", &[]);
}

#[test]
fn the_configuration_of_openssh_leads_there() {
    let (Some(near), Some(far)) = (Sshd::start(), Sshd::start()) else { return };
    for server in [&near, &far] {
        fs::copy(near.path("id.pub"), server.path("authorized")).expect("keys");
    }
    let id = format!("  IdentityFile {}", text(&near.path("id")));
    let strangers = tempfile::tempdir().expect("a directory");
    let strange = |name: &str| text(&strangers.path().join(name));
    let mut config = format!(
        "# as people write it\nInclude more.conf\nMatch exec \"false\"\n  Port 1\nHost *.near !not.near\n  Port {}\n",
        near.port()
    );
    config.push_str(&part("*.near !not.near", &near, &id));
    config.push_str(&part("far", &far, &format!("{id}\n  ProxyJump jump.near")));
    config.push_str(&part("circle", &far, &format!("{id}\n  ProxyJump circle")));
    config
        .push_str(&format!("Host new\n  UserKnownHostsFile {}\n  StrictHostKeyChecking accept-new\n", strange("new")));
    config.push_str(&format!("Host any\n  UserKnownHostsFile \"{}\"\n  StrictHostKeyChecking no\n", strange("any")));
    config.push_str(&format!("Host asked\n  UserKnownHostsFile={}\n  StrictHostKeyChecking ask\n", strange("asked")));
    config.push_str(&format!(
        "Host *\n  HostName 127.0.0.1\n  Port {}\n  User {}\n{id}\n  ConnectTimeout 3\n",
        near.port(),
        user()
    ));
    let home = Home::new(&config);
    fs::write(
        home.directory.path().join("home/.ssh/more.conf"),
        format!("Host included\n  UserKnownHostsFile {}\n", text(&near.path("known_hosts"))),
    )
    .expect("written");
    home.enters("some.near", &[]);
    home.enters("included", &[]);
    home.refused("not.near", &[], "is not known");
    home.refused("asked", &[], "is not known");
    assert!(!Path::new(&strange("asked")).exists());
    home.enters("any", &[]);
    home.enters("new", &[]);
    home.refused("circle", &[], "hops in a circle");
    // Through the near one, and only so: what is behind it has no other way.
    home.enters("far", &[]);
    drop(near);
    home.refused("far", &[], "nothing listens at 127.0.0.1:");
    let nobody = free_port();
    home.refused(&format!("{}@127.0.0.1:{nobody}", user()), &[], "nothing listens");
}

#[test]
fn a_key_that_was_taken_on_first_sight_is_remembered() {
    let (Some(mut sshd), Ok(files)) = (Sshd::start(), tempfile::tempdir()) else { return };
    let known = files.path().join("known");
    let more = |strict: &str| {
        format!(
            "Host box\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n  StrictHostKeyChecking {strict}\n",
            sshd.port(),
            user(),
            text(&sshd.path("id")),
            text(&known)
        )
    };
    let home = Home::new(&more("accept-new"));
    let (relaxed, careless) = (home, Home::new(&more("no")));
    relaxed.enters("box", &[]);
    relaxed.enters("box", &[]);
    keygen(&["-t", "ed25519", "-N", "", "-f", &text(&sshd.path("new"))]);
    fs::rename(sshd.path("new"), sshd.path("host")).expect("renamed");
    sshd.stop();
    sshd.restart();
    relaxed.refused("box", &[], "has changed");
    careless.enters("box", &[]);
    relaxed.refused("box", &[], "has changed");
}
