//! Whether the server is the one we mean.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use russh::client::{ChannelOpenHandle, Handler, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};
use russh::{Channel, ChannelOpenFailure, Preferred};
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use super::super::forward::Routes;
use super::super::known_hosts::{Judgement, KnownHosts, line, recorded_name};
use super::super::{SshTarget, TransportError, UnknownKey};
use super::trouble::Progress;
use crate::clock::Clock;
use crate::id::HostName;

/// What ends the setting up of a connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    Russh(russh::Error),
    Key(Box<TransportError>),
}

impl From<russh::Error> for ConnectError {
    fn from(error: russh::Error) -> Self {
        Self::Russh(error)
    }
}

/// Judges a server's key or certificate by the known_hosts files.
pub(super) struct Checker {
    host: HostName,
    ssh: SshTarget,
    name: String,
    known: KnownHosts,
    progress: Progress,
    forwarding: Option<Forwarding>,
}

/// What the server may open towards us. The connection's end drops it.
struct Forwarding {
    routes: Routes,
    tracker: TaskTracker,
    _closed: DropGuard,
}

impl Checker {
    /// Reads the files of known keys.
    pub(super) fn new(host: &HostName, ssh: &SshTarget, progress: Progress) -> Result<Self, TransportError> {
        Ok(Self {
            host: host.clone(),
            name: recorded_name(&ssh.address, ssh.port),
            ssh: ssh.clone(),
            known: read(&ssh.known_hosts)?,
            progress,
            forwarding: None,
        })
    }

    /// Lets the server open channels for the ports we asked it to forward.
    pub(super) fn forwarding(self, routes: Routes, closed: DropGuard, tracker: TaskTracker) -> Self {
        Self { forwarding: Some(Forwarding { routes, tracker, _closed: closed }), ..self }
    }

    /// The algorithms to ask for: those recorded for the host first.
    pub(super) fn key_algorithms(&self) -> Cow<'static, [Algorithm]> {
        let all = Preferred::default().key;
        let recorded = self.known.algorithms(&self.name);
        let is_recorded = |algorithm: &Algorithm| match algorithm {
            Algorithm::Rsa { .. } => recorded.iter().any(|name| name == "ssh-rsa"),
            other => recorded.iter().any(|name| name == other.as_str()),
        };
        let (first, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_recorded);
        Cow::Owned([first, rest].concat())
    }

    /// Certificates are asked for only where an authority could vouch for them.
    pub(super) fn certificate_algorithms(&self) -> Cow<'static, [Algorithm]> {
        if self.known.has_authority(&self.name) { Preferred::default().key } else { Cow::Borrowed(&[]) }
    }

    fn refuse(&self, key: &PublicKey, reason: String) -> ConnectError {
        ConnectError::Key(Box::new(TransportError::HostKey {
            host: self.host.clone(),
            fingerprint: fingerprint(key),
            unknown: false,
            reason,
        }))
    }

    fn check_key(&self, key: &PublicKey) -> Result<bool, ConnectError> {
        let fingerprint = fingerprint(key);
        let (host, address) = (&self.host, &self.name);
        let blob = key.to_bytes().map_err(|error| self.refuse(key, error.to_string()))?;
        let own = own_key(key);
        let accepted = matches!(&self.ssh.unknown_key, UnknownKey::Fingerprint(accepted) if *accepted == fingerprint);
        let mut judgement = self.known.judge(&self.name, &blob);
        if accepted && matches!(judgement, Judgement::Changed(_)) {
            // What was pinned before is what was accepted before.
            judgement = self.forget().map_err(|error| ConnectError::Key(Box::new(error)))?.judge(&self.name, &blob);
        }
        match judgement {
            Judgement::Known => Ok(true),
            Judgement::Revoked(place) => Err(self.refuse(
                key,
                format!(
                    "{host} ({address}) shows a key that is revoked at {place}: {fingerprint}. Whoever has that key can pass for the \
                     host: give it a new one (`sudo rm /etc/ssh/ssh_host_*_key*; sudo ssh-keygen -A` there, and restart its sshd), and \
                     accept that"
                ),
            )),
            Judgement::Changed(place) => Err(self.refuse(key, self.changed(&place, &fingerprint, &own))),
            Judgement::Unknown if accepted => {
                self.record(key);
                Ok(true)
            }
            Judgement::Unknown => match &self.ssh.unknown_key {
                UnknownKey::AcceptAny => Ok(true),
                UnknownKey::AcceptNew => {
                    self.record(key);
                    Ok(true)
                }
                UnknownKey::Fingerprint(_) | UnknownKey::Refuse => Err(ConnectError::Key(Box::new(TransportError::HostKey {
                    host: host.clone(),
                    unknown: true,
                    reason: format!(
                        "the host key of {host} ({address}) is not known: {fingerprint}. Compare it with what {own} shows there; to \
                         accept it: `towline host check {host} --accept {fingerprint}`"
                    ),
                    fingerprint,
                }))),
            },
        }
    }

    fn changed(&self, place: &str, fingerprint: &str, own: &str) -> String {
        let (host, address) = (&self.host, &self.name);
        let file = place.rsplit_once(':').map_or(place, |(file, _)| file);
        let pinned = self.ssh.known_hosts.first().is_some_and(|first| first.display().to_string() == file);
        // Only what we wrote is ours to replace.
        let forget = if pinned { String::new() } else { format!("`ssh-keygen -f {file} -R '{address}'`, then ") };
        format!(
            "the host key of {host} ({address}) has changed: it is now {fingerprint}, another one is recorded at {place}. Someone may be \
             in between. If the machine was installed anew, and {own} there shows the new one: {forget}\
             `towline host check {host} --accept {fingerprint}`"
        )
    }

    /// Removes what is pinned for exactly this name; gives what is known then.
    fn forget(&self) -> Result<KnownHosts, TransportError> {
        if let Some(file) = self.ssh.known_hosts.first()
            && let Ok(text) = std::fs::read_to_string(file)
        {
            let stays = |line: &&str| line.split_ascii_whitespace().next().is_none_or(|names| names != self.name);
            let rest: String = text.split_inclusive('\n').filter(stays).collect();
            if rest != text {
                let new = file.with_extension("new");
                std::fs::write(&new, rest)
                    .and_then(|()| std::fs::rename(&new, file))
                    .map_err(|error| TransportError::Invalid(format!("cannot write {}: {error}", file.display())))?;
            }
        }
        read(&self.ssh.known_hosts)
    }

    /// A certificate must be a host's, for this name, valid now, without conditions we do not know, and signed by an authority of
    /// this host.
    fn check_certificate(&self, certificate: &Certificate) -> Result<bool, ConnectError> {
        let host = &self.host;
        let authority = PublicKey::from(certificate.signature_key().clone());
        let refuse =
            |why: &str| self.refuse(&authority, format!("the host certificate of {host} ({}) {why}", self.name));
        if certificate.cert_type() != CertType::Host {
            return Err(refuse("is a user's"));
        }
        let blob = authority.to_bytes().map_err(|error| refuse(&error.to_string()))?;
        match self.known.judge_authority(&self.name, &blob) {
            Judgement::Known => {}
            Judgement::Revoked(place) => return Err(refuse(&format!("was signed by an authority revoked at {place}"))),
            _ => return Err(refuse("was signed by an authority that is not known for it")),
        }
        let own = PublicKey::from(certificate.public_key().clone());
        let own = own.to_bytes().map_err(|error| refuse(&error.to_string()))?;
        if let Judgement::Revoked(place) = self.known.judge(&self.name, &own) {
            return Err(refuse(&format!("holds a key revoked at {place}")));
        }
        let now = u64::try_from(Clock::System.now().as_second()).unwrap_or(0);
        if now < certificate.valid_after() || now >= certificate.valid_before() {
            return Err(refuse("is not valid now; look at its dates and at both clocks"));
        }
        if certificate.critical_options().iter().next().is_some() {
            return Err(refuse("has critical options that are not known"));
        }
        // OpenSSH compares with the host name, never with the port. No names at all would mean any host: refused.
        let address = self.ssh.address.to_ascii_lowercase();
        let names = certificate.valid_principals();
        if !names
            .iter()
            .any(|name| super::super::known_hosts::matches(name.to_ascii_lowercase().as_bytes(), address.as_bytes()))
        {
            return Err(refuse(&format!("is for {}, not for {address}", names.join(", "))));
        }
        let print = authority.fingerprint(HashAlg::Sha256);
        match certificate.validate_at(now, [&print]) {
            Ok(()) => Ok(true),
            Err(error) => Err(refuse(&format!("does not hold: {error}"))),
        }
    }

    /// `StrictHostKeyChecking accept-new`: the key goes to the first file.
    fn record(&self, key: &PublicKey) {
        let (Some(file), Ok(text)) = (self.ssh.known_hosts.first(), key.to_openssh()) else {
            return;
        };
        if let Err(error) = append(file, &line(&self.ssh.address, self.ssh.port, &text)) {
            log::warn!("cannot record the key of {} in {}: {error}", self.host, file.display());
        }
    }
}

impl Handler for Checker {
    type Error = ConnectError;

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Self::Error> {
        self.progress.show_banner(banner);
        Ok(())
    }

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.check_key(key),
            PublicKeyOrCertificate::Certificate(certificate) => self.check_certificate(certificate),
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let forwarding = self.forwarding.as_ref().and_then(|known| Some((known.routes.to(port)?, &known.tracker)));
        let Some((to, tracker)) = forwarding else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        reply.accept().await;
        tracker.spawn(async move {
            let mut channel = channel.into_stream();
            match tokio::net::TcpStream::connect(to).await {
                Ok(mut stream) => {
                    // How it ends is between the two ends: both see it.
                    let _ = stream.set_nodelay(true);
                    let _ =
                        tokio::io::copy_bidirectional_with_sizes(&mut channel, &mut stream, 256 << 10, 256 << 10).await;
                }
                Err(error) => log::warn!("what a forwarded port leads to does not answer at {to}: {error}"),
            }
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut channel).await;
        });
        Ok(())
    }
}

/// `SHA256:...`, as `ssh-keygen -l` shows it.
fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// What shows a machine's own fingerprint on its own screen.
fn own_key(key: &PublicKey) -> String {
    let kind = match key.algorithm() {
        Algorithm::Rsa { .. } => "rsa",
        Algorithm::Ecdsa { .. } => "ecdsa",
        _ => "ed25519",
    };
    format!("`ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub`")
}

/// A file that is not there is empty; one that cannot be read is an error, because a revoked key may be in it.
fn read(files: &[PathBuf]) -> Result<KnownHosts, TransportError> {
    let mut known = KnownHosts::default();
    for file in files {
        match std::fs::read(file) {
            Ok(text) => known.read(&file.display().to_string(), &String::from_utf8_lossy(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(TransportError::Invalid(format!("cannot read {}: {error}", file.display())));
            }
        }
    }
    Ok(known)
}

/// Appends a line to a file that only we may write.
fn append(file: &Path, line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    // Keys of hosts are public, and the daemon may be another user than who pins them.
    let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o644).open(file)?;
    file.write_all(line.as_bytes())
}
