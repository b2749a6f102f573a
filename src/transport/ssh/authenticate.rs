//! Who we are to the server: the agent's keys, then the key files, certificates before bare keys.

use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, load_openssh_certificate, load_secret_key};

use super::super::destination::is_usual_key;
use super::super::{IdentityFile, SshTarget, TransportError};
use super::server_key::Checker;
use super::trouble::{self, Progress, destination};
use crate::id::HostName;

/// Logs in, or says what was tried.
pub(super) async fn log_in(
    handle: &mut Handle<Checker>,
    host: &HostName,
    ssh: &SshTarget,
    progress: &Progress,
) -> Result<(), TransportError> {
    let mut login = Login { handle, ssh, rsa_hash: None, tried: Tried::default() };
    match login.attempt().await {
        Ok(true) => Ok(()),
        // russh tells a link that broke in the middle as a refusal of every key.
        Ok(false) if login.handle.is_closed() => Err(trouble::broke(host, ssh, progress)),
        Err(_) => Err(trouble::broke(host, ssh, progress)),
        Ok(false) => Err(TransportError::Refused {
            host: host.clone(),
            user: ssh.user.clone(),
            reason: format!("{}{}", login.tried.reason(ssh), progress.banner()),
        }),
    }
}

struct Login<'a> {
    handle: &'a mut Handle<Checker>,
    ssh: &'a SshTarget,
    /// The best hash for RSA signatures that the server takes; asked for once, because the question may take a second.
    rsa_hash: Option<Option<HashAlg>>,
    tried: Tried,
}

/// What did not open the door.
#[derive(Debug, Default)]
struct Tried {
    /// A sentence each.
    refusals: Vec<String>,
    /// The first key that was offered and refused, as a file.
    refused: Option<String>,
    /// Whether the server takes keys at all, and what else it takes.
    takes: Vec<&'static str>,
    /// One way was taken, and the server wants another one besides.
    wants_more: bool,
    /// Keys that were named and are not there.
    absent: Vec<String>,
    /// What the agent had.
    agent: Option<usize>,
}

impl Tried {
    /// Notes an answer; whether it opens the door.
    fn note(&mut self, result: AuthResult, refusal: impl FnOnce() -> String) -> bool {
        match result {
            AuthResult::Success => true,
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.takes = remaining_methods.iter().map(<&'static str>::from).collect();
                self.wants_more |= partial_success;
                self.refusals.push(refusal());
                false
            }
        }
    }

    /// What went wrong, and the way out.
    fn reason(&self, ssh: &SshTarget) -> String {
        let user = &ssh.user;
        if self.wants_more {
            return format!(
                "the key was taken, and the server wants {} besides. Set `AuthenticationMethods publickey` for {user} in its sshd_config",
                self.takes.join(" or ")
            );
        }
        let mut all = self.refusals.clone();
        all.extend(self.absent.iter().map(|path| format!("the key {path} is not there")));
        if !self.takes.is_empty() && !self.takes.contains(&"publickey") && ssh.password.is_none() {
            let refused = if all.is_empty() { String::new() } else { format!("{}; ", all.join("; ")) };
            return format!(
                "{refused}the server takes no keys, only {}. Set `PubkeyAuthentication yes` in its sshd_config, or give the host a \
                 `password` in the configuration",
                self.takes.join(" and ")
            );
        }
        let jump = ssh.jump.as_ref().map_or_else(String::new, |jump| format!("-o ProxyJump={} ", destination(jump)));
        let port = if ssh.port == 22 { String::new() } else { format!("-p {} ", ssh.port) };
        let copy = |key: &str| format!("`ssh-copy-id -i {key} {port}{jump}{user}@{}`", ssh.address);
        let Some(refused) = &self.refused else {
            let agent = match self.agent {
                None => "no SSH agent answers".to_owned(),
                Some(0) => "the SSH agent has no keys".to_owned(),
                Some(_) => String::new(),
            };
            if all.is_empty() {
                let names: Vec<String> = ssh.identities.iter().map(|one| one.path.display().to_string()).collect();
                all.push(format!("there is no key to offer: of {} none is there, and {agent}", names.join(", ")));
            }
            let mut wayout = String::new();
            if self.agent.unwrap_or_default() == 0 && self.refusals.is_empty() {
                let key = ssh
                    .identities
                    .first()
                    .map_or_else(|| "~/.ssh/id_ed25519".to_owned(), |one| one.path.display().to_string());
                wayout = format!(
                    ". Make one: `ssh-keygen -t ed25519 -f {key}`, and bring it there: {}",
                    copy(&format!("{key}.pub"))
                );
            }
            return format!("{}{wayout}", all.join("; "));
        };
        let root = if user == "root" { "`PermitRootLogin` of its sshd_config may forbid root, " } else { "" };
        format!(
            "{}. To bring the key there: {}. If it is there: {root}the account may be locked (`sudo passwd -S {user}` shows L; \
             `sudo usermod -p '*' {user}` opens it for keys) or its shell missing, or others may write to ~{user} (`chmod go-w ~{user} ~{user}/.ssh \
             ~{user}/.ssh/authorized_keys`); the log there says which: `journalctl -u ssh`",
            all.join("; "),
            copy(refused)
        )
    }
}

impl Login<'_> {
    /// Whether anything opened the door.
    async fn attempt(&mut self) -> Result<bool, russh::Error> {
        let user = self.ssh.user.as_str();
        // Some servers let a user in without anything; the answer also lists what they take.
        let result = self.handle.authenticate_none(user).await?;
        if self.tried.note(result, String::new) {
            return Ok(true);
        }
        self.tried.refusals.clear();
        if self.ssh.agent && self.ask_agent().await? {
            return Ok(true);
        }
        for identity in &self.ssh.identities {
            if self.offer(identity).await? {
                return Ok(true);
            }
        }
        if let Some(password) = &self.ssh.password {
            let result = self.handle.authenticate_password(user, password.0.as_str()).await?;
            return Ok(self.tried.note(result, || "the password was refused".to_owned()));
        }
        Ok(false)
    }

    async fn offer(&mut self, identity: &IdentityFile) -> Result<bool, russh::Error> {
        let user = self.ssh.user.as_str();
        let key = match load(identity) {
            Ok(key) => Arc::new(key),
            Err(Unloadable::Absent) => {
                if !is_usual_key(&identity.path) {
                    self.tried.absent.push(identity.path.display().to_string());
                }
                return Ok(false);
            }
            Err(Unloadable::Because(why)) => {
                self.tried.refusals.push(why);
                return Ok(false);
            }
        };
        let shown = identity.path.display();
        let certificate = beside(&identity.path);
        if certificate.exists() {
            match load_openssh_certificate(&certificate) {
                Ok(loaded) => {
                    let dates = validity(&loaded);
                    let result = self.handle.authenticate_openssh_cert(user, Arc::clone(&key), loaded).await?;
                    let refusal = || format!("the certificate {} was refused{dates}", certificate.display());
                    if self.tried.note(result, refusal) {
                        return Ok(true);
                    }
                }
                Err(error) => self.tried.refusals.push(format!("{} cannot be read: {error}", certificate.display())),
            }
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let hash = if key.algorithm().is_rsa() { self.rsa().await? } else { None };
        let offer = PrivateKeyWithHashAlg::new(key, hash);
        let result = self.handle.authenticate_publickey(user, offer).await?;
        let opened = self.tried.note(result, || format!("the key {shown} ({fingerprint}) was refused"));
        if !opened && self.tried.refused.is_none() {
            self.tried.refused = Some(format!("{shown}.pub"));
        }
        Ok(opened)
    }

    async fn rsa(&mut self) -> Result<Option<HashAlg>, russh::Error> {
        if let Some(hash) = self.rsa_hash {
            return Ok(hash);
        }
        let hash = self.handle.best_supported_rsa_hash().await?.unwrap_or(Some(HashAlg::Sha256));
        self.rsa_hash = Some(hash);
        Ok(hash)
    }

    async fn ask_agent(&mut self) -> Result<bool, russh::Error> {
        // Without an agent there is nothing to say: most daemons have none.
        let Ok(mut agent) = AgentClient::connect_env().await else {
            return Ok(false);
        };
        let identities = match agent.request_identities().await {
            Ok(identities) => identities,
            Err(error) => {
                self.tried.refusals.push(format!("the SSH agent does not answer: {error}"));
                return Ok(false);
            }
        };
        self.tried.agent = Some(identities.len());
        let user = self.ssh.user.as_str();
        for identity in identities {
            let (result, comment) = match identity {
                AgentIdentity::PublicKey { key, comment } => {
                    let hash = if key.algorithm().is_rsa() { self.rsa().await? } else { None };
                    (self.handle.authenticate_publickey_with(user, key, hash, &mut agent).await, comment)
                }
                AgentIdentity::Certificate { certificate, comment } => {
                    let hash = if certificate.algorithm().is_rsa() { self.rsa().await? } else { None };
                    (self.handle.authenticate_certificate_with(user, certificate, hash, &mut agent).await, comment)
                }
            };
            match result {
                Ok(result) => {
                    if self.tried.note(result, || format!("the agent's key {comment} was refused")) {
                        return Ok(true);
                    }
                    self.tried.refused.get_or_insert_with(|| "KEY.pub".to_owned());
                }
                Err(error) => self.tried.refusals.push(format!("the agent did not sign with {comment}: {error}")),
            }
        }
        Ok(false)
    }
}

/// Why a certificate may have been refused, when its dates say so.
fn validity(certificate: &russh::keys::Certificate) -> String {
    let now = u64::try_from(crate::clock::Clock::System.now().as_second()).unwrap_or(0);
    if now >= certificate.valid_before() {
        " (it has expired)".to_owned()
    } else if now < certificate.valid_after() {
        " (it is not valid yet)".to_owned()
    } else {
        String::new()
    }
}

enum Unloadable {
    Absent,
    Because(String),
}

fn load(identity: &IdentityFile) -> Result<russh::keys::PrivateKey, Unloadable> {
    let shown = identity.path.display();
    if !identity.path.exists() {
        return Err(Unloadable::Absent);
    }
    let passphrase = match &identity.passphrase_file {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Unloadable::Because(format!("cannot read the passphrase in {}: {error}", file.display()))
            })?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    load_secret_key(&identity.path, passphrase.as_deref()).map_err(|error| {
        let why = match error {
            russh::keys::Error::KeyIsEncrypted => format!(
                "it is encrypted: `ssh-add {shown}` gives it to your agent; the service takes the passphrase from its credential \
                 `ssh-passphrase` (`LoadCredential=ssh-passphrase:FILE` in the unit)"
            ),
            other => match &identity.passphrase_file {
                Some(file) => format!("{other} (is the passphrase in {} the right one?)", file.display()),
                None => other.to_string(),
            },
        };
        Unloadable::Because(format!("cannot use the key {shown}: {why}"))
    })
}

/// `KEY-cert.pub`, where OpenSSH looks for a key's certificate.
fn beside(key: &Path) -> std::path::PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push("-cert.pub");
    name.into()
}
