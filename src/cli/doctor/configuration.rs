//! Files: the configuration, the state directory, secrets, repositories.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::{self, Config, NotifyHow, Paths, SecretSource, SourceKind, Tls, TriggerKind};
use crate::git::Repository;
use crate::triggers::hook;
use crate::triggers::inventory::Inventory;

use super::super::serve::one_line;
use super::Finding;
use crate::server::size;

/// Reads the configuration as the daemon would.
pub(super) fn read(paths: &Paths) -> (Config, Vec<Finding>) {
    const SUBJECT: &str = "configuration";
    let files = match config::read(&paths.config) {
        Ok(files) => files,
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::from(error));
            let mend = "run this as root or as a user who may read it, or name another file with TOWLINE_CONFIG";
            return (Config::default(), vec![Finding::error(SUBJECT, text, mend)]);
        }
    };
    let (config, diagnostics) = config::parse(&files);
    let mut findings = Vec::new();
    for fault in &diagnostics {
        let make = if fault.is_error() { Finding::error } else { Finding::warning };
        findings.push(make(SUBJECT.to_owned(), one_line(fault), String::new()));
    }
    for file in &files {
        let open = std::fs::metadata(&file.path).is_ok_and(|metadata| metadata.mode() & 0o002 != 0);
        if open {
            let mend = format!("chmod o-w {}", file.path.display());
            findings.push(Finding::error(SUBJECT, format!("everybody can write {}", file.path.display()), mend));
        }
    }
    if findings.is_empty() {
        let text = if files.is_empty() {
            format!("there is none at {}; the defaults count", paths.config.display())
        } else {
            format!("{} files without faults", files.len())
        };
        findings.push(Finding::fine(SUBJECT, text));
    }
    // The other checks go on all the same.
    (config.unwrap_or_default(), findings)
}

/// The state directory: there, ours, with room.
pub(super) fn state(paths: &Paths, config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "state";
    let place = paths.state.display();
    let metadata = match std::fs::metadata(&paths.state) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::note(
                SUBJECT,
                format!("{place} is not there yet"),
                "the first start of the daemon makes it",
            )];
        }
        Err(error) => {
            return vec![Finding::error(
                SUBJECT,
                format!("{place}: {error}"),
                "run this as root or as the daemon's user",
            )];
        }
    };
    let mut findings = Vec::new();
    if let Ok(disk) = rustix::fs::statvfs(&paths.state) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < config.limits.disk {
            findings.push(Finding::error(
                SUBJECT,
                format!(
                    "{} free below {place}; under {} nothing new is accepted",
                    size(free),
                    size(config.limits.disk)
                ),
                "make room, shorten [retention], or lower `disk` of [limits]",
            ));
        } else if disk.f_files > 0 && disk.f_favail < 1000 {
            findings.push(Finding::error(
                SUBJECT,
                format!("{} inodes are left below {place}", disk.f_favail),
                "delete files there",
            ));
        } else {
            findings.push(Finding::fine(SUBJECT, format!("{} free below {place}", size(free))));
        }
    }
    if metadata.mode() & 0o007 != 0 {
        findings.push(Finding::error(
            SUBJECT,
            format!("everybody can look into {place}"),
            format!("chmod o-rwx {place}"),
        ));
    }
    // One start as root, and the daemon's own user cannot write what root made.
    let strangers = ["db", "logs", "master.key", "tls", "repositories", ".ssh"].map(|name| paths.state.join(name));
    for path in strangers {
        let Ok(inner) = std::fs::symlink_metadata(&path) else { continue };
        if inner.uid() != metadata.uid() {
            let text = format!("{} belongs to another user than {place}", path.display());
            let mend = format!("chown -R --reference={place} {}", path.display());
            findings.push(Finding::error(SUBJECT, text, mend));
        }
    }
    let key = paths.state.join("master.key");
    if let Ok(metadata) = std::fs::metadata(&key)
        && metadata.mode() & 0o077 != 0
    {
        let mend = format!("chmod 600 {}", key.display());
        findings.push(Finding::error("master key", format!("others can read {}", key.display()), mend));
    }
    findings.extend(certificate(paths, config));
    findings
}

fn certificate(paths: &Paths, config: &Config) -> Option<Finding> {
    if let Some(clients) = &config.server.clients
        && !readable(&clients.authority)
    {
        return Some(Finding::error(
            "certificate",
            format!("the authority of clients, {}, cannot be read", clients.authority.display()),
            "let the daemon's user read it, or remove `client_authority` from [server.tls]",
        ));
    }
    let Tls::Files { certificate, key } = &config.server.tls else { return None };
    let missing = [certificate, key].into_iter().find(|path| !readable(path));
    Some(match missing {
        Some(path) => Finding::error(
            "certificate",
            format!("{} cannot be read", path.display()),
            format!(
                "let the daemon's user read it, or set `tls = true` in [server] for the daemon's own authority ({})",
                paths.state.join("tls").display()
            ),
        ),
        None => Finding::fine("certificate", format!("{} is there", certificate.display())),
    })
}

fn readable(path: &Path) -> bool {
    std::fs::File::open(path).is_ok()
}

/// Sources: what brings their events, their secrets, their hooks.
pub(super) async fn sources(paths: &Paths, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &config.sources {
        let subject = format!("source {}", source.name);
        let app = source.app.iter().map(|app| &app.private_key);
        for secret in source.webhook_secrets.iter().chain(&source.token).chain(app) {
            findings.extend(secret_is_there(&subject, secret));
        }
        if source.kind == SourceKind::GitHub && source.token.is_none() && source.app.is_none() {
            findings.push(Finding::note(
                &subject,
                "neither a token nor an app is configured: only public repositories can be read, and nothing is reported",
                "add `token = { file = \"…\" }`, or [source.app]",
            ));
        }
        if source.triggers.contains(&TriggerKind::Webhook) && config.server.url.is_none() {
            findings.push(Finding::note(
                &subject,
                "webhooks need an address that the forge can reach, and `url` of [server] is not set",
                "set `url`, or use `triggers = [\"poll\"]`, which needs none",
            ));
        }
        if let Some(path) = &source.path
            && !path.exists()
        {
            let mend = format!("git init --bare {}, or correct `path`", path.display());
            findings.push(Finding::error(&subject, format!("{} does not exist", path.display()), mend));
        }
    }
    for notify in &config.notify {
        let secret = match &notify.how {
            NotifyHow::Webhook { secret, .. } => secret.as_ref(),
            NotifyHow::Mail(mail) => mail.password.as_ref(),
            NotifyHow::Command(_) => None,
        };
        findings.extend(secret.and_then(|secret| secret_is_there("notify", secret)));
    }
    if let Some(login) = &config.server.github_login {
        findings.extend(secret_is_there("github_login", &login.client_secret));
        if config.server.url.is_none() {
            findings.push(Finding::warning(
                "github_login",
                "GitHub sends browsers back to `url` of [server], which is not set: the address they came by is used, and GitHub refuses all but the one it knows",
                "set `url`, and give the OAuth application the callback address URL/login/github/callback",
            ));
        }
    }
    for secret in config.telemetry.iter().flat_map(|telemetry| telemetry.headers.values()) {
        findings.extend(secret_is_there("telemetry", secret));
    }
    for source in Inventory::new(config.clone(), paths.clone()).all() {
        let Some(path) = source.path.as_ref().filter(|path| path.join("objects").is_dir()) else { continue };
        let subject = format!("repository {}", source.name);
        if !hook::is_installed(&Repository::at(path)).await {
            let mend = format!("towline repo add {} {}", source.name, path.display());
            findings.push(Finding::warning(
                &subject,
                format!("pushes to {} start nothing: the hook is missing", path.display()),
                mend,
            ));
        }
        match hook::spooled(path) {
            Ok(waiting) if !waiting.is_empty() => findings.push(Finding::note(
                &subject,
                format!("{} pushes wait for the daemon", waiting.len()),
                "they start their runs as soon as it is there",
            )),
            Ok(_) => {}
            Err(error) => findings.push(Finding::warning(
                &subject,
                format!("its spool cannot be read: {error}"),
                "run this as root",
            )),
        }
    }
    findings
}

/// Whether a secret can be read; its value is dropped at once. Credentials are only there inside of the unit.
fn secret_is_there(subject: &str, secret: &SecretSource) -> Option<Finding> {
    if matches!(secret, SecretSource::Credential(_)) && std::env::var_os("CREDENTIALS_DIRECTORY").is_none() {
        return None;
    }
    let error = secret.read().err()?;
    let mend = "write the secret there, readable for the daemon's user alone";
    Some(Finding::error(subject, format!("{:#}", anyhow::Error::from(error)), mend))
}
