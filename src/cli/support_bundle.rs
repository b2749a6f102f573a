//! `towline support-bundle`: what somebody needs who helps from afar, and nothing that is secret.
//!
//! What goes in is listed, never what is left out: versions, findings of the doctor, the configuration without its
//! values of secrets, facts of hosts, lists of runs and waiting jobs, the service's own journal, sizes. Logs of jobs, the database, keys,
//! certificates and repositories stay where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;

use crate::clock::Clock;
use crate::config::{self, Paths};

use super::doctor;
use super::output::say;
use super::remote::{Target, block};

/// Keys whose values are secrets wherever they stand in the configuration.
const SECRET: &[&str] = &["password", "token", "secret", "webhook_secret", "client_secret", "private_key"];
/// What the journal may add.
const JOURNAL_LINES: &str = "3000";

/// Arguments of `towline support-bundle`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to; `towline-support-DATE.tar.gz` when absent.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Runs the command and says the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    block(async move {
        let now = Clock::System.now();
        let name = format!("towline-support-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let output = arguments.output.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
        let parts = gather(&Paths::from_environment()).await;
        write(&output, &name, &parts).with_context(|| format!("cannot write {}", output.display()))?;
        say(&format!("{}:\n", output.display()))?;
        for (part, text) in &parts {
            say(&format!("  {part} ({} bytes)\n", text.len()))?;
        }
        say("Look into it before you send it: names of hosts, repositories and people are in it.\n")?;
        Ok(super::SUCCESS)
    })
}

async fn gather(paths: &Paths) -> Vec<(String, String)> {
    let mut parts = vec![
        ("version.txt".to_owned(), format!("towline {}\n{}", env!("CARGO_PKG_VERSION"), told(&["uname", "-a"]))),
        ("doctor.json".to_owned(), format!("{:#}\n", doctor::json(&doctor::examine(paths).await))),
        (
            "programs.txt".to_owned(),
            told(&["git", "--version"]) + &told(&["ssh", "-V"]) + &told(&["systemctl", "--version"]),
        ),
        ("os-release.txt".to_owned(), std::fs::read_to_string("/etc/os-release").unwrap_or_default()),
        ("state.txt".to_owned(), sizes(&paths.state)),
        ("unit.txt".to_owned(), told(&["systemctl", "cat", "towline.service", "towline.socket"])),
        (
            "status.txt".to_owned(),
            told(&["systemctl", "status", "--no-pager", "-n", "0", "towline.service", "towline.socket"]),
        ),
        (
            "journal.txt".to_owned(),
            told(&["journalctl", "-u", "towline", "--no-pager", "-o", "short-iso", "-n", JOURNAL_LINES]),
        ),
    ];
    for file in config::read(&paths.config).unwrap_or_default() {
        let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        parts.push((format!("configuration/{name}"), without_secrets(&file.text)));
    }
    let target = Target::default();
    for (name, path) in [
        ("hosts.json", "/api/v3/towline/hosts"),
        ("queue.json", "/api/v3/towline/queue"),
        ("runs.json", "/api/v3/towline/runs?per_page=50"),
    ] {
        let text = match target.json(Method::GET, path, None).await {
            Ok(answer) => format!("{answer:#}\n"),
            Err(error) => format!("{error:#}\n"),
        };
        parts.push((name.to_owned(), text));
    }
    parts
}

/// What a program says; what it lacks is said instead.
fn told(words: &[&str]) -> String {
    match Command::new(words[0]).args(&words[1..]).output() {
        Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        Err(error) => format!("{}: {error}\n", words[0]),
    }
}

/// The directories of the state and how much is in each; no names of files.
fn sizes(state: &Path) -> String {
    let mut out = String::new();
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in names {
        let (files, bytes) = count(&path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        out.push_str(&format!("{name}: {files} files, {bytes} bytes\n"));
    }
    out
}

fn count(path: &Path) -> (u64, u64) {
    let Ok(metadata) = path.symlink_metadata() else { return (0, 0) };
    if !metadata.is_dir() {
        return (1, metadata.len());
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| count(&entry.path())).fold((0, 0), |(files, bytes), (more, size)| (files + more, bytes + size))
}

/// The text of a configuration file with the values of secrets taken out, wherever they are. A file that is no TOML is
/// left out as a whole: nobody knows what is in it.
fn without_secrets(text: &str) -> String {
    match text.parse::<toml::Table>() {
        Ok(mut table) => {
            table.iter_mut().for_each(|(key, value)| hide(key, value));
            table.to_string()
        }
        Err(error) => format!("# left out, since it cannot be read: {}\n", error.message()),
    }
}

fn hide(key: &str, value: &mut toml::Value) {
    let secret = SECRET.contains(&key);
    match value {
        toml::Value::Table(table) => {
            // `{ file = … }` says where a secret is, not what it is. What is sent to a collector is secret under any name.
            let all = key == "headers";
            table.iter_mut().for_each(|(key, value)| hide(if all && value.is_str() { "secret" } else { key }, value));
        }
        toml::Value::Array(items) => items.iter_mut().for_each(|item| hide(key, item)),
        toml::Value::String(text) if secret => *text = "(left out)".to_owned(),
        toml::Value::String(text) => *text = without_password(text),
        _ => {}
    }
}

/// An address without the name and password in front of its host.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    match rest.split_once('@') {
        Some((before, after)) if !before.contains('/') => format!("{scheme}://(left out)@{after}"),
        _ => text.to_owned(),
    }
}

fn write(output: &Path, name: &str, parts: &[(String, String)]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(output)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (part, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, format!("{name}/{part}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let text = "[[source]]\nname = 'a/b'\ntoken = 'ghp_1'\nwebhook_secret = ['one', { file = '/s' }]\nurl = 'https://me:pw@git.lan/a/b.git'\n\
                    [source.app]\nid = 1\nprivate_key = '-----BEGIN'\n[[host]]\nname = 'h'\npassword = { env = 'PW' }\n";
        let shown = without_secrets(text);
        for secret in ["ghp_1", "one", "me:pw", "BEGIN"] {
            assert!(!shown.contains(secret), "{secret} in\n{shown}");
        }
        for kept in ["a/b", "/s", "PW", "git.lan"] {
            assert!(shown.contains(kept), "{kept} not in\n{shown}");
        }
        assert!(!without_secrets("token = 'ghp_1\n").contains("ghp_1"));
    }
}
