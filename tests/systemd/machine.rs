//! A machine with systemd as PID 1, in a layer over this machine's own root.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::towline;

/// Longer than anything here takes; reaching it is a failure, never a pass.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// A booted machine; it ends with the value.
pub(super) struct Machine {
    place: tempfile::TempDir,
    leader: String,
}

impl Machine {
    /// Boots one, or says why it cannot and gives `None`: then the test passes. `packages` is /packages inside.
    pub(super) fn boot(packages: &Path) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let output = script().arg("up").arg(place.path()).arg(packages).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let leader = said.lines().last().unwrap_or_default().to_owned();
        if !output.status.success() || leader.is_empty() {
            let console = std::fs::read_to_string(place.path().join("console")).unwrap_or_default();
            println!(
                "skipped: no systemd machine can be booted here: {}{console}",
                String::from_utf8_lossy(&output.stderr)
            );
            drop(script().arg("down").arg(place.path()).output());
            return None;
        }
        Some(Self { place, leader })
    }

    /// Takes the power away and switches it on again: what was on the disk is there, what ran is gone.
    pub(super) fn power_cut(&mut self, packages: &Path) {
        assert!(script().arg("cut").arg(self.place.path()).status().unwrap().success());
        let output = script().arg("again").arg(self.place.path()).arg(packages).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        self.leader = said.lines().last().unwrap_or_default().to_owned();
        assert!(!self.leader.is_empty(), "it does not come back: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a script inside, as root; it must succeed. Gives what it printed on standard output.
    pub(super) fn run(&self, text: &str) -> String {
        let output = self.attempt(text);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}\n{out}{error}\n{}", self.journal());
        out.into_owned()
    }

    /// Runs a script inside, as root, whatever comes of it.
    pub(super) fn attempt(&self, text: &str) -> Output {
        self.command(text).output().unwrap()
    }

    /// A script that will run inside, as root.
    pub(super) fn command(&self, text: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader, "-m", "-u", "-i", "-n", "-p", "-C", "-w", "--"]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]);
        command.args(["bash", "-euc", text]).stdin(Stdio::null());
        command
    }

    /// Runs a script again until it succeeds; what it printed then.
    pub(super) fn eventually(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let output = self.attempt(text);
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            assert!(start.elapsed() < PATIENCE, "{text}\n{}", self.journal());
            pause();
        }
    }

    fn journal(&self) -> String {
        let output =
            self.attempt("journalctl --no-pager -n 60 -o short-monotonic; systemctl status --no-pager towline || true");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(script().arg("down").arg(self.place.path()).output());
    }
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/machine"))
}

/// A moment between two looks at the same thing: nothing is decided by how long it is.
pub(super) fn pause() {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(50));
}

/// Whether these programs are there; says which one is not.
pub(super) fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output();
        !found.is_ok_and(|output| output.status.success())
    });
    if let Some(program) = missing {
        println!("skipped: {program} is not installed");
    }
    missing.is_none()
}

/// Builds packages of the program under test, once for all tests; the directory they are in.
pub(super) fn packages() -> Option<&'static Path> {
    static PACKAGES: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = PACKAGES.get_or_init(|| {
        if !have(&["dpkg-deb", "dpkg", "strip", "rpmbuild"]) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        for (release, kinds) in [("1", &["deb", "rpm", "tar"][..]), ("2", &["deb", "rpm"][..])] {
            let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build"))
                .args(["--fast", "--release", release, "--binary"])
                .arg(towline().get_program())
                .arg("--out")
                .arg(directory.path())
                .args(kinds)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let path = directory.path().to_owned();
        Some((directory, path))
    });
    built.as_ref().map(|(_, path)| path.as_path())
}

/// The package whose name has this part.
pub(super) fn package(directory: &Path, part: &str) -> PathBuf {
    let mut files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.to_string_lossy().contains(part)).unwrap_or_else(|| panic!("no package with {part}"))
}
