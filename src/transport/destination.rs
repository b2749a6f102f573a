//! From `[USER@]ADDRESS[:PORT]` or a configured host to everything a connection needs, with `~/.ssh/config` applied.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ssh_config::{Settings, Strict};
use super::{IdentityFile, Password, SshTarget, Target, TransportError, UnknownKey, Way};
use crate::config::{Host, Reach};

/// Keys that OpenSSH offers without being told.
const USUAL_KEYS: [&str; 4] = ["id_ed25519", "id_ecdsa", "id_ed25519_sk", "id_rsa"];
/// The most hops a connection may take.
const MOST_HOPS: usize = 8;
/// A systemd credential that opens encrypted keys.
const PASSPHRASE: &str = "ssh-passphrase";
/// A systemd credential that is a private key, tried before the usual ones.
const IDENTITY: &str = "towline-ssh-identity";

/// Whether a key is one that is offered without being told: then it is no fault that it is not there.
pub(super) fn is_usual_key(path: &Path) -> bool {
    path.file_name().is_some_and(|name| USUAL_KEYS.iter().any(|usual| name == *usual))
}

/// What is said of a server before any file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub user: Option<String>,
    /// A name of `~/.ssh/config`, a host name or an address.
    pub address: String,
    pub port: Option<u16>,
}

impl Destination {
    /// Reads `[ssh://][USER@]ADDRESS[:PORT]`; an IPv6 address with a port stands in brackets.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, TransportError> {
        let wrong =
            |why: &str| TransportError::Invalid(format!("{text}: {why}; write USER@ADDRESS or USER@ADDRESS:PORT"));
        let rest = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (address, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (address, after) = inner.split_once(']').ok_or_else(|| wrong("the bracket is not closed"))?;
            (address, after.strip_prefix(':'))
        } else if rest.matches(':').count() == 1 {
            rest.split_once(':').map_or((rest, None), |(address, port)| (address, Some(port)))
        } else {
            (rest, None)
        };
        let port = match port {
            None => None,
            Some(port) => Some(port.parse().map_err(|_| wrong("that is no port"))?),
        };
        if address.is_empty() || address.starts_with('-') || address.contains(char::is_whitespace) {
            return Err(wrong("there is no address"));
        }
        if user.as_deref() == Some("") {
            return Err(wrong("there is no user"));
        }
        Ok(Self { user, address: address.to_owned(), port })
    }
}

/// What is configured beside the destination; empty lists leave it to `~/.ssh/config` and the usual places.
#[derive(Clone, Debug)]
pub struct SshOptions {
    pub identities: Vec<PathBuf>,
    pub known_hosts: Vec<PathBuf>,
    /// `[USER@]ADDRESS[:PORT]`, from the first hop to the last.
    pub jump: Vec<String>,
    pub agent: bool,
    pub password: Option<Password>,
    pub connect_timeout: Duration,
    /// Where `towline host add` pins keys: read before every other file.
    pub pins: PathBuf,
    /// `None`: as `StrictHostKeyChecking` says, else refuse.
    pub unknown_key: Option<UnknownKey>,
}

impl SshOptions {
    /// Nothing but the file of pinned keys.
    #[must_use]
    pub fn with_pins(pins: &Path) -> Self {
        Self {
            identities: Vec::new(),
            known_hosts: Vec::new(),
            jump: Vec::new(),
            agent: true,
            password: None,
            connect_timeout: Duration::from_secs(10),
            pins: pins.to_owned(),
            unknown_key: None,
        }
    }
}

impl SshTarget {
    /// Applies the configuration and `~/.ssh/config`. Reads files and the environment of this process.
    ///
    /// # Errors
    /// A hop that cannot be read, or too many of them.
    pub fn resolve(destination: &Destination, options: &SshOptions) -> Result<Self, TransportError> {
        resolve(destination, options, MOST_HOPS)
    }

    /// The arguments that have OpenSSH's `ssh` reach the same server in the same way.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-p".to_owned(), self.port.to_string()];
        let text = |path: &Path| path.to_string_lossy().into_owned();
        for identity in self.identities.iter().filter(|identity| identity.path.exists()) {
            arguments.extend(["-i".to_owned(), text(&identity.path)]);
        }
        let pinned = self.known_hosts.iter().filter(|file| file.exists()).map(|file| format!("\"{}\"", text(file)));
        let pinned: Vec<String> = pinned.collect();
        if !pinned.is_empty() {
            arguments.extend(["-o".to_owned(), format!("UserKnownHostsFile={}", pinned.join(" "))]);
        }
        let hops: Vec<String> = std::iter::successors(self.jump.as_deref(), |hop| hop.jump.as_deref())
            .map(|hop| format!("{}@{}:{}", hop.user, bracketed(&hop.address), hop.port))
            .collect();
        if !hops.is_empty() {
            // The last hop is the nearest to the server.
            arguments.extend(["-J".to_owned(), hops.into_iter().rev().collect::<Vec<_>>().join(",")]);
        }
        arguments.push(format!("{}@{}", self.user, self.address));
        arguments
    }
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

impl Target {
    /// The same host, where this key is accepted: pinned if none is recorded, and in the place of one that was pinned.
    #[must_use]
    pub fn accepting(mut self, fingerprint: &str) -> Self {
        if let Way::Ssh(ssh) = &mut self.way {
            let mut hop = Some(ssh);
            while let Some(ssh) = hop {
                ssh.unknown_key = UnknownKey::Fingerprint(fingerprint.to_owned());
                hop = ssh.jump.as_mut();
            }
        }
        self
    }

    /// A host of the configuration. `pins` is the file of [`SshOptions::pins`].
    ///
    /// # Errors
    /// A hop or a password that cannot be read.
    pub fn from_config(host: &Host, pins: &Path) -> Result<Self, TransportError> {
        let way = match &host.reach {
            Reach::Local => Way::Local,
            Reach::Ssh(ssh) => {
                let destination = Destination { user: ssh.user.clone(), address: ssh.address.clone(), port: ssh.port };
                let password = match &ssh.password {
                    None => None,
                    Some(source) => Some(Password::from_secret(
                        &source.read().map_err(|error| TransportError::Invalid(error.to_string()))?,
                    )),
                };
                let options = SshOptions {
                    identities: ssh.identity.clone(),
                    known_hosts: ssh.known_hosts.clone(),
                    jump: ssh.jump.clone(),
                    agent: ssh.agent,
                    password,
                    connect_timeout: ssh.connect_timeout,
                    pins: pins.to_owned(),
                    unknown_key: None,
                };
                Way::Ssh(Box::new(SshTarget::resolve(&destination, &options)?))
            }
        };
        let root = host.root.clone().unwrap_or_else(|| "~/.towline".to_owned());
        Ok(Self { name: host.name.clone(), way, root })
    }
}

fn resolve(destination: &Destination, options: &SshOptions, hops: usize) -> Result<SshTarget, TransportError> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let mut settings = Settings::default();
    for file in [home.join(".ssh/config"), PathBuf::from("/etc/ssh/ssh_config")] {
        if let Ok(text) = std::fs::read_to_string(&file) {
            let directory = file.parent().unwrap_or(&home).to_owned();
            settings.read(&destination.address, &text, &|pattern| included(pattern, &directory, &home));
        }
    }
    let user = destination
        .user
        .clone()
        .or_else(|| settings.user.clone())
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| "root".to_owned());
    let port = destination.port.or(settings.port).unwrap_or(22);
    let address = settings.host_name.clone().unwrap_or_else(|| destination.address.clone());
    let expand = |text: &String| expand(text, &home, &address, &user, port);
    let identities: Vec<PathBuf> = if !options.identities.is_empty() {
        options.identities.clone()
    } else if !settings.identity_files.is_empty() {
        settings.identity_files.iter().map(expand).collect()
    } else {
        let usual = USUAL_KEYS.iter().map(|name| home.join(".ssh").join(name));
        credential(IDENTITY).into_iter().chain(usual).collect()
    };
    let mut known_hosts = vec![options.pins.clone()];
    if !options.known_hosts.is_empty() {
        known_hosts.extend(options.known_hosts.iter().cloned());
    } else if let Some(files) = &settings.known_hosts {
        known_hosts.extend(files.iter().filter(|file| *file != "none").map(expand));
    } else {
        known_hosts.push(home.join(".ssh/known_hosts"));
    }
    known_hosts.push(PathBuf::from("/etc/ssh/ssh_known_hosts"));
    let unknown_key = options.unknown_key.clone().unwrap_or(match settings.strict {
        None | Some(Strict::Refuse) => UnknownKey::Refuse,
        Some(Strict::AcceptNew) => UnknownKey::AcceptNew,
        Some(Strict::AcceptAny) => UnknownKey::AcceptAny,
    });
    let through =
        if options.jump.is_empty() { settings.jump.clone().unwrap_or_default() } else { options.jump.clone() };
    let jump = match through.split_last() {
        None => None,
        Some(_) if hops == 0 => {
            return Err(TransportError::Invalid(format!("{address}: more than {MOST_HOPS} hops, or hops in a circle")));
        }
        Some((last, before)) => {
            let hop = SshOptions { jump: before.to_vec(), password: None, ..options.clone() };
            Some(Box::new(resolve(&Destination::parse(last)?, &hop, hops - 1)?))
        }
    };
    let passphrase_file = credential(PASSPHRASE);
    Ok(SshTarget {
        address,
        port,
        user,
        identities: identities
            .into_iter()
            .map(|path| IdentityFile { path, passphrase_file: passphrase_file.clone() })
            .collect(),
        agent: options.agent && !settings.identities_only,
        password: options.password.clone(),
        known_hosts,
        unknown_key,
        jump,
        connect_timeout: options.connect_timeout,
    })
}

/// The file of a credential that systemd passed to us.
fn credential(name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    Some(Path::new(&directory).join(name)).filter(|file| file.exists())
}

fn expand(text: &str, home: &Path, address: &str, user: &str, port: u16) -> PathBuf {
    let text = text
        .replace("%d", &home.to_string_lossy())
        .replace("%h", address)
        .replace("%r", user)
        .replace("%p", &port.to_string())
        .replace("%%", "%");
    match text.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(text),
    }
}

/// The texts of the files that an `Include` names: a path, or a pattern in its last part.
fn included(pattern: &str, directory: &Path, home: &Path) -> Vec<String> {
    let path = match pattern.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => directory.join(pattern),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let mut names: Vec<PathBuf> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| super::known_hosts::matches(name.as_bytes(), entry.file_name().as_encoded_bytes()))
        .map(|entry| entry.path())
        .collect();
    names.sort();
    names.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read() {
        let cases = [
            ("selene", Some((None, "selene", None))),
            ("ci@selene.lan:2222", Some((Some("ci"), "selene.lan", Some(2222)))),
            ("ssh://ci@selene/", Some((Some("ci"), "selene", None))),
            ("[fe80::1]:22", Some((None, "fe80::1", Some(22)))),
            ("a@b@fe80::1", Some((Some("a@b"), "fe80::1", None))),
            ("selene:x", None),
            ("@selene", None),
            ("ci@", None),
            ("-oProxyCommand=x", None),
            ("[::1", None),
        ];
        for (text, expected) in cases {
            let parsed = Destination::parse(text).ok();
            let parsed = parsed.as_ref().map(|one| (one.user.as_deref(), one.address.as_str(), one.port));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
