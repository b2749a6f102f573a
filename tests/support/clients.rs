//! Other people's clients, installed for the tests by their own package managers into the target directory, once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// GitHub's own packages for actions.
const TOOLKIT: [&str; 5] = [
    "@actions/artifact@6.2.1",
    "@actions/cache@6.3.0",
    "@actions/core@3.0.1",
    "@actions/github@9.1.1",
    "@actions/tool-cache@4.0.0",
];

/// A directory with GitHub's packages for actions. Nothing where there is no node or no registry.
pub(crate) fn toolkit() -> Option<PathBuf> {
    node(&TOOLKIT)
}

/// One installation at a time: tests run side by side.
static INSTALLING: Mutex<()> = Mutex::new(());

fn folder(name: &str) -> PathBuf {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name)
}

/// Runs an installer for a folder named by what is in it, unless an earlier run completed it; says so when it cannot be had.
fn installed(what: &str, install: impl FnOnce(&Path) -> Command) -> Option<PathBuf> {
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = folder(what);
    let done = folder.join("installed");
    if !done.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let why = match install(&folder).output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            eprintln!("skipped: {what} cannot be installed: {why}");
            return None;
        }
        std::fs::write(done, "").unwrap();
    }
    Some(folder)
}

/// A package of PyPI, in a folder of its own.
pub(crate) fn python(requirement: &str) -> Option<PathBuf> {
    installed(requirement, |folder| {
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--target"]).arg(folder).arg(requirement);
        command
    })
}

/// Packages of npm, in a folder of their own.
pub(crate) fn node(packages: &[&str]) -> Option<PathBuf> {
    installed(&packages.join("+"), |folder| {
        std::fs::write(folder.join("package.json"), "{\"type\":\"module\",\"private\":true}").unwrap();
        let mut command = Command::new("npm");
        command.args(["install", "--loglevel=error", "--no-audit", "--no-fund", "--ignore-scripts"]).args(packages);
        command.current_dir(folder);
        command
    })
}

/// A program below a folder.
pub(crate) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut folders = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            folders.push(path);
        } else if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
    }
    folders.iter().find_map(|folder| find(folder, name))
}
