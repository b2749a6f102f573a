//! This machine and the hosts: programs, limits, connections.

use std::process::Command;

use crate::config::{Config, Paths};
use crate::transport::{Facts, Hosts, Target, TransportError};

use super::super::host;
use super::Finding;

/// The oldest git that knows what we ask of it.
const GIT: (u32, u32) = (2, 30);

/// Programs the daemon calls.
pub(super) fn programs() -> Vec<Finding> {
    let mut findings = Vec::new();
    match said(&["git", "--version"]) {
        None => findings.push(Finding::error(
            "git",
            "it is not installed, or not in PATH",
            "apt install git, or dnf install git-core",
        )),
        Some(text) => {
            let numbers: Vec<u32> = text
                .split(|character: char| !character.is_ascii_digit())
                .filter_map(|number| number.parse().ok())
                .take(2)
                .collect();
            if let [major, minor] = numbers[..]
                && (major, minor) < GIT
            {
                let mend = format!("install git {}.{} or newer", GIT.0, GIT.1);
                findings.push(Finding::error("git", format!("{} is too old", text.trim()), mend));
            } else {
                findings.push(Finding::fine("git", text.trim()));
            }
        }
    }
    findings
}

fn said(words: &[&str]) -> Option<String> {
    let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Limits of the system that are met when it grows.
pub(super) fn limits() -> Vec<Finding> {
    let mut findings = Vec::new();
    let watches = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
    if let Some(watches) =
        watches.ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|watches| *watches < 8192)
    {
        findings.push(Finding::warning(
            "inotify",
            format!("only {watches} files can be watched; changed directories may be noticed late"),
            "echo fs.inotify.max_user_watches=65536 > /etc/sysctl.d/60-towline.conf && sysctl --system",
        ));
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(files) = files.filter(|files| *files < 1024) {
        let mend = "raise it: `ulimit -n 16384`, or LimitNOFILE= in the unit";
        findings.push(Finding::warning("open files", format!("only {files} may be open at once"), mend));
    }
    findings
}

/// Connects to every configured host at once.
pub(super) async fn hosts(paths: &Paths, config: &Config) -> Vec<Finding> {
    if config.hosts.is_empty() {
        return vec![Finding::note(
            "hosts",
            "none is configured: jobs run on this machine, as the daemon's user",
            "towline host add USER@ADDRESS adds one",
        )];
    }
    let pool = Hosts::new();
    let mut probes = Vec::new();
    for one in &config.hosts {
        let target = Target::from_config(one, &host::pins_of(paths));
        let pool = pool.clone();
        let probe = tokio::spawn(async move {
            match target {
                Ok(target) => pool.check(&target).await,
                Err(error) => Err(error),
            }
        });
        probes.push((format!("host {}", one.name), one.wake.is_some(), probe));
    }
    let mut findings = Vec::new();
    for (subject, wakes, probe) in probes {
        match probe.await {
            Ok(Ok(facts)) => findings.extend(facts_of(&subject, &facts)),
            Ok(Err(TransportError::Unreachable { reason, .. })) if wakes => {
                findings.push(Finding::note(
                    subject,
                    format!("it sleeps, or cannot be reached: {reason}"),
                    "a job that wants it wakes it",
                ));
            }
            // What to do is in its words.
            Ok(Err(error)) => findings.push(Finding::error(subject, error.to_string(), "")),
            Err(error) => findings.push(Finding::error(subject, format!("the check broke off: {error}"), "")),
        }
    }
    findings
}

fn facts_of(subject: &str, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for obstacle in &facts.obstacles {
        findings.push(Finding::warning(subject, obstacle.to_string(), ""));
    }
    if facts.node.is_empty() {
        findings.push(Finding::note(
            subject,
            "there is no node: JavaScript actions cannot run there",
            "install node 20 or newer, or set `node` of [actions]",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(subject, format!("{} {}, {}", facts.os, facts.arch, facts.system)));
    }
    findings
}
