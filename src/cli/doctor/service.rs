//! The daemon as it runs: whether it answers, its unit, who can reach it.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use http::Method;
use http_body_util::BodyExt as _;

use crate::config::{Config, Reach};

use super::super::output::items;
use super::super::remote::{Target, usual_socket};
use super::Finding;

/// Whether the daemon answers, is of this version, and accepts.
pub(super) async fn answers() -> Vec<Finding> {
    const SUBJECT: &str = "daemon";
    let socket = usual_socket();
    if let Err(error) = UnixStream::connect(&socket) {
        let mend = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "join its group: `usermod -aG towline YOU`, then log in again",
            _ if Path::new("/run/systemd/system").exists() => {
                "systemctl start towline (or `towline serve` in a terminal)"
            }
            _ => "towline serve",
        };
        return vec![Finding::error(SUBJECT, format!("nobody answers at {}: {error}", socket.display()), mend)];
    }
    let target = Target::default();
    let mut findings = Vec::new();
    match target.send(Method::GET, "/readyz", None).await {
        Ok(response) if response.status().is_success() => {
            findings.push(Finding::fine(SUBJECT, "it answers and accepts work"));
        }
        Ok(response) => {
            let body =
                response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let text = String::from_utf8_lossy(&body).trim().to_owned();
            findings.push(Finding::error(
                SUBJECT,
                format!("it is not ready: {text}"),
                "journalctl -u towline -p warning says more",
            ));
        }
        Err(error) => findings.push(Finding::error(
            SUBJECT,
            format!("{error:#}"),
            "systemctl restart towline; jobs go on meanwhile",
        )),
    }
    if let Ok(meta) = target.json(Method::GET, "/api/v3/meta", None).await {
        let version = meta["github_services_sha"].as_str().unwrap_or_default();
        if version != env!("CARGO_PKG_VERSION") {
            let text = format!("it is version {version}, this program is {}", env!("CARGO_PKG_VERSION"));
            findings.push(Finding::warning(SUBJECT, text, "systemctl restart towline; nothing is lost by it"));
        }
    }
    if let Ok(outbox) = target.json(Method::GET, "/api/v3/towline/outbox", None).await {
        let dead: Vec<_> = items(&outbox["letters"]).filter(|one| one["dead"] == true).collect();
        if let Some(first) = dead.first() {
            let reason = first["reason"].as_str().unwrap_or_default();
            let text = format!("{} reports or messages were taken by nobody, the last because {reason}", dead.len());
            findings.push(Finding::warning(SUBJECT, text, "towline outbox list; then towline outbox retry ID"));
        }
    }
    findings
}

/// The unit, where there is one.
pub(super) fn unit(config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "unit";
    let Some(shown) = show("towline.service") else { return Vec::new() };
    let value = |name: &str| {
        shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    if value("LoadState") != "loaded" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if value("UnitFileState") == "disabled" {
        findings.push(Finding::warning(
            SUBJECT,
            "it does not start with the machine",
            "systemctl enable towline.service towline.socket",
        ));
    }
    if value("ActiveState") == "failed" {
        let text = format!("it failed ({})", value("Result"));
        findings.push(Finding::error(
            SUBJECT,
            text,
            "journalctl -u towline -n 50 says why; then systemctl reset-failed towline && systemctl start towline",
        ));
    }
    if value("NeedDaemonReload") == "yes" {
        findings.push(Finding::warning(
            SUBJECT,
            "its files changed and systemd has not read them",
            "systemctl daemon-reload && systemctl restart towline",
        ));
    }
    if let Some(restarts) = value("NRestarts").parse::<u32>().ok().filter(|restarts| *restarts > 0) {
        findings.push(Finding::note(
            SUBJECT,
            format!("systemd had to start it again {restarts} times"),
            "journalctl -u towline -p err says why",
        ));
    }
    let local = config.hosts.is_empty() || config.hosts.iter().any(|host| host.reach == Reach::Local);
    if local && value("MemoryDenyWriteExecute") == "yes" {
        findings.push(Finding::note(
            SUBJECT,
            "jobs on this machine run inside the sandbox of the service: node, sudo, containers and writing outside of the state directory do not work there",
            "add this machine over SSH (towline host add USER@localhost), or put local-jobs.conf from /usr/share/doc/towline/examples/systemd into /etc/systemd/system/towline.service.d",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(SUBJECT, format!("{}, {}", value("ActiveState"), value("StatusText"))));
    }
    findings
}

fn show(unit: &str) -> Option<String> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let output = Command::new("systemctl").args(["show", unit]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether others can reach what the links name.
pub(super) fn reachable(config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "address";
    let Some(url) = &config.server.url else { return Vec::new() };
    let named = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let host = named.split(['/', ':']).next().unwrap_or_default();
    let outward = config.server.listen.iter().any(|address| !address.ip().is_loopback());
    let sockets = show("towline.socket").unwrap_or_default();
    let passed = sockets.lines().any(|line| {
        line.starts_with("Listen=") && line.contains("(Stream)") && !line.contains('/') && !line.contains("127.0.0.1")
    });
    let local = matches!(host, "localhost" | "127.0.0.1");
    if !local && !outward && !passed && config.server.trusted_proxies.is_empty() {
        return vec![Finding::warning(
            SUBJECT,
            format!("links name {url}, but the daemon listens on this machine alone"),
            "add the address to `listen` of [server], or to towline.socket (`systemctl edit towline.socket`), or put a proxy in front and name it in `trusted_proxies`",
        )];
    }
    vec![Finding::fine(SUBJECT, url.clone())]
}
