//! Who we are to the server: the agent's keys, then the key files, certificates before bare keys.

use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, load_openssh_certificate, load_secret_key};

use super::super::{IdentityFile, SshTarget, TransportError};
use super::server_key::Checker;
use crate::id::HostName;

/// Logs in, or says what was tried.
pub(super) async fn log_in(
    handle: &mut Handle<Checker>,
    host: &HostName,
    ssh: &SshTarget,
) -> Result<(), TransportError> {
    let mut tried = Vec::new();
    let failed = |error: russh::Error| TransportError::Unreachable {
        host: host.clone(),
        reason: format!("the connection broke while logging in: {error}"),
    };
    // Some servers let a user in without anything; the answer also lists what they take.
    if handle.authenticate_none(ssh.user.as_str()).await.map_err(failed)?.success() {
        return Ok(());
    }
    let mut rsa_hash = None;
    if ssh.agent && ask_agent(handle, ssh, &mut rsa_hash, &mut tried).await.map_err(failed)? {
        return Ok(());
    }
    for identity in &ssh.identities {
        let key = match load(identity) {
            Ok(key) => Arc::new(key),
            Err(Unloadable::Absent) => continue,
            Err(Unloadable::Because(why)) => {
                tried.push(why);
                continue;
            }
        };
        let shown = identity.path.display();
        let certificate = beside(&identity.path);
        if certificate.exists() {
            match load_openssh_certificate(&certificate) {
                Ok(loaded) => {
                    let result = handle.authenticate_openssh_cert(ssh.user.as_str(), Arc::clone(&key), loaded).await;
                    if result.map_err(failed)?.success() {
                        return Ok(());
                    }
                    tried.push(format!("the certificate {} was refused", certificate.display()));
                }
                Err(error) => tried.push(format!("{} cannot be read: {error}", certificate.display())),
            }
        }
        let hash = if key.algorithm().is_rsa() { rsa(handle, &mut rsa_hash).await.map_err(failed)? } else { None };
        let offer = PrivateKeyWithHashAlg::new(key, hash);
        if handle.authenticate_publickey(ssh.user.as_str(), offer).await.map_err(failed)?.success() {
            return Ok(());
        }
        tried.push(format!("the key {shown} was refused"));
    }
    if let Some(password) = &ssh.password {
        let result = handle.authenticate_password(ssh.user.as_str(), password.0.as_str()).await.map_err(failed)?;
        if result.success() {
            return Ok(());
        }
        tried.push("the password was refused".to_owned());
    }
    if handle.is_closed() {
        // russh tells a link that broke in the middle as a refusal of every key.
        return Err(TransportError::Unreachable {
            host: host.clone(),
            reason: "the connection broke while logging in".to_owned(),
        });
    }
    let tried = if tried.is_empty() {
        "there is no key to offer; make one with `ssh-keygen -t ed25519`".to_owned()
    } else {
        tried.join("; ")
    };
    Err(TransportError::Refused {
        host: host.clone(),
        user: ssh.user.clone(),
        reason: format!(
            "{tried}. Check ~{}/.ssh/authorized_keys there, its modes, and that the account is not locked",
            ssh.user
        ),
    })
}

/// The best hash for RSA signatures that the server takes; asked for once, because the question may take a second.
async fn rsa(handle: &Handle<Checker>, known: &mut Option<Option<HashAlg>>) -> Result<Option<HashAlg>, russh::Error> {
    if let Some(hash) = known {
        return Ok(*hash);
    }
    let hash = handle.best_supported_rsa_hash().await?.unwrap_or(Some(HashAlg::Sha256));
    *known = Some(hash);
    Ok(hash)
}

async fn ask_agent(
    handle: &mut Handle<Checker>,
    ssh: &SshTarget,
    rsa_hash: &mut Option<Option<HashAlg>>,
    tried: &mut Vec<String>,
) -> Result<bool, russh::Error> {
    // Without an agent there is nothing to say: most daemons have none.
    let Ok(mut agent) = AgentClient::connect_env().await else {
        return Ok(false);
    };
    let identities = match agent.request_identities().await {
        Ok(identities) => identities,
        Err(error) => {
            tried.push(format!("the SSH agent does not answer: {error}"));
            return Ok(false);
        }
    };
    for identity in identities {
        let (result, comment) = match identity {
            AgentIdentity::PublicKey { key, comment } => {
                let hash = if key.algorithm().is_rsa() { rsa(handle, rsa_hash).await? } else { None };
                let user = ssh.user.as_str();
                (handle.authenticate_publickey_with(user, key, hash, &mut agent).await, comment)
            }
            AgentIdentity::Certificate { certificate, comment } => {
                let hash = if certificate.algorithm().is_rsa() { rsa(handle, rsa_hash).await? } else { None };
                let user = ssh.user.as_str();
                (handle.authenticate_certificate_with(user, certificate, hash, &mut agent).await, comment)
            }
        };
        match result {
            Ok(AuthResult::Success) => return Ok(true),
            Ok(AuthResult::Failure { .. }) => tried.push(format!("the agent's key {comment} was refused")),
            Err(error) => tried.push(format!("the agent did not sign with {comment}: {error}")),
        }
    }
    Ok(false)
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
            russh::keys::Error::KeyIsEncrypted => {
                "it is encrypted: name the file of its passphrase, or use an agent".to_owned()
            }
            other => other.to_string(),
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
