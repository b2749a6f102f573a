//! The packages and units as files.

use std::path::Path;
use std::process::Command;

use super::machine::{have, package, packages};

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    path.to_string_lossy().into_owned()
}

fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

#[test]
fn the_units_expose_little_and_explain_what_they_do() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    for (name, threshold) in [("towline.service", "15"), ("towline-backup.service", "10")] {
        let unit = unit(name);
        let (good, said) =
            run("systemd-analyze", &["security", "--offline=yes", &format!("--threshold={threshold}"), &unit]);
        println!("{name}: {}", said.lines().last().unwrap_or_default());
        assert!(good, "{said}");
    }
    let text = std::fs::read_to_string(unit("towline.service")).unwrap();
    for open in ["PrivateNetwork=", "RootDirectory=", "PrivateUsers=", "ProcSubset="] {
        let explained = text.lines().any(|line| line.starts_with('#') && line.contains(open));
        assert!(explained, "{open} is left open without a word");
    }
}

#[test]
fn the_units_have_no_unknown_lines() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let examples = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/examples")).unwrap();
    let work = tempfile::tempdir().unwrap();
    // The units with every example dropped in at once: a key that systemd does not know is said.
    let names = ["towline.service", "towline.socket", "towline-backup.service", "towline-backup.timer"];
    for name in names {
        std::fs::copy(unit(name), work.path().join(name)).unwrap();
    }
    for entry in examples {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let kind = if text.contains("[Socket]") { "socket" } else { "service" };
        let folder = work.path().join(format!("towline.{kind}.d"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    for name in names {
        let path = work.path().join(name);
        let (_, said) = run("systemd-analyze", &["verify", "--recursive-errors=no", &path.to_string_lossy()]);
        let faults: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("towline"))
            .filter(|line| !line.contains("is not executable") && !line.contains("Command 'man"))
            .collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}

#[test]
fn the_debian_package_has_no_errors() {
    let Some(directory) = packages() else { return };
    let file = package(directory, "-1_");
    if have(&["lintian"]) {
        let (good, said) = run("lintian", &["--fail-on", "error", "--allow-root", &file.to_string_lossy()]);
        assert!(good && !said.lines().any(|line| line.starts_with("E:")), "{said}");
    }
    let (_, listed) = run("dpkg-deb", &["-c", &file.to_string_lossy()]);
    for path in [
        "./usr/bin/towline",
        "./lib/systemd/system/towline.service",
        "./lib/systemd/system/towline.socket",
        "./usr/lib/sysusers.d/towline.conf",
        "./usr/share/man/man1/towline.1.gz",
        "./usr/share/man/man1/towline-host-add.1.gz",
        "./usr/share/man/man5/towline.toml.5.gz",
        "./usr/share/bash-completion/completions/towline",
        "./etc/towline/towline.toml",
        "./usr/share/doc/towline/copyright",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(path)), "{path} is not in\n{listed}");
    }
    assert!(!listed.contains("towline-hook"), "pages of hidden commands: {listed}");
}

#[test]
fn the_rpm_is_built_asked_and_installed_into_a_root() {
    let Some(directory) = packages() else { return };
    let file = package(directory, "-1.").to_string_lossy().into_owned();
    if have(&["rpmlint"]) {
        let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/rpmlint.conf");
        let (_, said) = run("rpmlint", &["-f", &configuration.to_string_lossy(), &file]);
        assert!(!said.lines().any(|line| line.contains(" E: ")), "{said}");
    }
    let (_, requires) = run("rpm", &["-qp", "--requires", &file]);
    assert!(requires.contains("git-core") && requires.contains("libc.so.6"), "{requires}");
    let (_, scripts) = run("rpm", &["-qp", "--scripts", &file]);
    assert!(scripts.contains("try-restart towline.service"), "{scripts}");
    let root = tempfile::tempdir().unwrap();
    let place = root.path().to_string_lossy().into_owned();
    let (good, said) = run("rpm", &["--root", &place, "--initdb"]);
    if !good {
        println!("skipped: rpm cannot make a database here: {said}");
        return;
    }
    let (good, said) = run("rpm", &["--root", &place, "-i", "--nodeps", "--noscripts", &file]);
    assert!(good, "{said}");
    let program = root.path().join("usr/bin/towline");
    let (_, version) = run(&program.to_string_lossy(), &["--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(root.path().join("usr/lib/systemd/system/towline.service").exists());
    // The configuration of an administrator survives: it is marked as such.
    let (_, configured) = run("rpm", &["-qpc", &file]);
    assert_eq!(configured.trim(), "/etc/towline/towline.toml");
}

#[test]
fn the_archive_installs_below_a_prefix() {
    let Some(directory) = packages() else { return };
    let work = tempfile::tempdir().unwrap();
    let place = work.path().to_string_lossy().into_owned();
    let (good, said) = run("tar", &["-C", &place, "-xf", &package(directory, ".tar.gz").to_string_lossy()]);
    assert!(good, "{said}");
    let script = format!("cd {place}/towline-* && ./install.sh --prefix {place}/root");
    let (good, said) = run("sh", &["-c", &script]);
    assert!(good, "{said}");
    let (_, version) = run(&format!("{place}/root/usr/bin/towline"), &["--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}
