//! A new host: its key is shown and accepted, it is probed, and it is written down. The command line and the page of hosts
//! do the same.

use std::path::PathBuf;

use super::{Destination, Facts, Hosts, SshOptions, SshTarget, Target, TransportError, UnknownKey, Way};
use crate::config::{Config, Paths, inventory};
use crate::id::HostName;

/// A host as somebody wishes it.
#[derive(Clone, Debug)]
pub struct NewHost {
    /// `[USER@]ADDRESS[:PORT]`, or a name of `~/.ssh/config`.
    pub destination: String,
    /// `None`: the address up to its first dot.
    pub name: Option<String>,
    pub slots: u32,
    pub labels: Vec<String>,
    pub identity: Vec<PathBuf>,
    pub jump: Vec<String>,
    /// `None`: the usual one.
    pub root: Option<String>,
    /// The fingerprint of the key that was looked at and found right.
    pub accept: Option<String>,
}

/// How far it came.
#[derive(Clone, Debug)]
pub enum Enrolled {
    /// Nobody knows this key yet: somebody has to look at it.
    Key { name: String, fingerprint: String, reason: String },
    /// It can be used, and is in the configuration.
    Added { name: String, facts: Box<Facts> },
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("there is a host {0} already; choose another name")]
    Taken(String),
    #[error("{0:?} cannot be the name of a host: letters, digits, `.`, `_` and `-`, at most 64 of them")]
    Name(String),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("cannot write {}", file.display())]
    Write { file: PathBuf, source: std::io::Error },
}

/// Connects to a host and writes it down, if its key is known or accepted.
///
/// # Errors
/// See [`EnrolError`]; nothing was written then, but the key that was accepted stays known.
pub async fn enrol(paths: &Paths, config: &Config, hosts: &Hosts, new: &NewHost) -> Result<Enrolled, EnrolError> {
    let destination = Destination::parse(new.destination.trim())?;
    let name = new.name.clone().unwrap_or_else(|| usual_name(&destination.address));
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with(['-', '.']) || !name.chars().all(fits) {
        return Err(EnrolError::Name(name));
    }
    if config.hosts.iter().any(|host| host.name.as_str().eq_ignore_ascii_case(&name)) {
        return Err(EnrolError::Taken(name));
    }
    let mut options = SshOptions::with_pins(&inventory::pins(paths));
    options.identities.clone_from(&new.identity);
    options.jump.clone_from(&new.jump);
    options.unknown_key = Some(new.accept.clone().map_or(UnknownKey::Refuse, UnknownKey::Fingerprint));
    let target = Target {
        name: HostName::from(name.as_str()),
        way: Way::Ssh(Box::new(SshTarget::resolve(&destination, &options)?)),
        root: new.root.clone().unwrap_or_else(|| "~/.towline".to_owned()),
    };
    let facts = match hosts.check(&target).await {
        Ok(facts) => facts,
        Err(TransportError::HostKey { fingerprint, unknown: true, reason, .. }) if new.accept.is_none() => {
            return Ok(Enrolled::Key { name, fingerprint, reason });
        }
        Err(error) => return Err(error.into()),
    };
    let entry = inventory::Entry {
        name: &name,
        address: &destination.address,
        user: destination.user.as_deref(),
        port: destination.port,
        identity: &new.identity,
        jump: &new.jump,
        root: new.root.as_deref(),
        labels: &new.labels,
        slots: new.slots,
    };
    // Somebody else, or a second press of the button, may have added it since.
    match inventory::append(paths, &entry) {
        Ok(true) => Ok(Enrolled::Added { name, facts: Box::new(facts) }),
        Ok(false) => Err(EnrolError::Taken(name)),
        Err(source) => Err(EnrolError::Write { file: inventory::file(paths), source }),
    }
}

/// The address up to its first dot; one of numbers as a whole.
fn usual_name(address: &str) -> String {
    match address.parse::<std::net::IpAddr>() {
        Ok(_) => address.replace(':', "-"),
        Err(_) => address.split('.').next().unwrap_or(address).to_owned(),
    }
}
