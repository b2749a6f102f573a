//! Certificates: our own authority in the state directory, or the user's files; replaced without a restart.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::OnceCell;

use super::Error;
use crate::services::ALIAS;

/// Where the server's certificate comes from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// Issued by our own authority, which is made on first use and kept in `folder` (`ca.pem`, `ca.key`). Clients trust
    /// it once (`towline trust`). The server's own certificate is renewed 30 days before its end.
    Own { folder: PathBuf, names: Vec<String> },
    /// PEM files of the user: the chain, leaf first, and its key.
    Files { certificate: PathBuf, key: PathBuf },
}

/// What a listener that speaks TLS is set up with.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: CertificateSource,
    /// PEM file of the authority whose client certificates are accepted; clients without one are let in all the same.
    pub clients: Option<PathBuf>,
}

/// What TLS is made of now, and how to get the next.
#[derive(Debug)]
pub struct Certificates {
    state: RwLock<State>,
    /// Where we listen: our own certificate names it.
    addresses: Vec<IpAddr>,
}

#[derive(Debug)]
struct State {
    identity: Identity,
    /// The certificate and the authority of clients that `config` was made of.
    made_of: (Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>),
    config: Arc<ServerConfig>,
}

impl Certificates {
    /// Loads the certificate, making authority and certificate first where they are ours to make.
    ///
    /// # Errors
    /// A file that cannot be read, written or understood, or a key that does not fit its certificate.
    pub fn load(now: Timestamp, identity: Identity, addresses: Vec<IpAddr>) -> Result<Self, Error> {
        Ok(Self { state: RwLock::new(build(now, identity, &addresses)?), addresses })
    }

    /// Takes another identity, or reads the files of the one in use again; says whether anything is new. Connections made
    /// from now on use it. On an error all stays as it was.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn reload(&self, now: Timestamp, identity: Option<Identity>) -> Result<bool, Error> {
        let identity = identity.unwrap_or_else(|| self.state().identity.clone());
        let next = build(now, identity, &self.addresses)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = next.made_of != state.made_of;
        if is_new {
            *state = next;
        } else {
            // Sessions that may be resumed stay so.
            state.identity = next.identity;
        }
        Ok(is_new)
    }

    /// The PEM text of our own authority, for clients to trust.
    ///
    /// # Errors
    /// The file cannot be read, or the certificate is the user's.
    pub fn authority(&self) -> Result<String, Error> {
        match &self.state().identity.certificate {
            CertificateSource::Own { folder, .. } => read(&folder.join("ca.pem")),
            CertificateSource::Files { certificate, .. } => read(certificate),
        }
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state().config)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Certificates that are made when the first client asks for them.
#[derive(Debug)]
pub(super) struct Offered {
    now: Timestamp,
    folder: PathBuf,
    made: OnceCell<Option<Arc<Certificates>>>,
}

impl Offered {
    pub(super) fn new(now: Timestamp, folder: PathBuf) -> Self {
        Self { now, folder, made: OnceCell::new() }
    }

    /// `None` when they cannot be made, which is logged once.
    pub(super) async fn certificates(&self) -> Option<Arc<Certificates>> {
        let made = self.made.get_or_init(|| async {
            let certificate = CertificateSource::Own { folder: self.folder.clone(), names: vec![ALIAS.to_owned()] };
            let (now, identity) = (self.now, Identity { certificate, clients: None });
            match tokio::task::spawn_blocking(move || Certificates::load(now, identity, Vec::new())).await {
                Ok(Ok(certificates)) => Some(Arc::new(certificates)),
                Ok(Err(error)) => {
                    log::warn!(
                        "jobs that speak TLS to this machine's services are refused: {:#}",
                        anyhow::Error::from(error)
                    );
                    None
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        });
        made.await.clone()
    }
}

fn build(now: Timestamp, identity: Identity, addresses: &[IpAddr]) -> Result<State, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certified = obtain(now, &identity.certificate, addresses)?;
    let authorities = identity.clients.as_deref().map_or_else(|| Ok(Vec::new()), |path| chain(path, &read(path)?))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Tls { source })?;
    let builder = match &identity.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unusable = |reason: String| Error::ClientAuthority { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for authority in &authorities {
                roots.add(authority.clone()).map_err(|error| unusable(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build().map_err(|error| unusable(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let made_of = (certified.cert.clone(), authorities);
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(State { identity, made_of, config: Arc::new(config) })
}

/// The common name in the certificate of a client, which the handshake has verified.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

fn obtain(now: Timestamp, source: &CertificateSource, addresses: &[IpAddr]) -> Result<CertifiedKey, Error> {
    match source {
        CertificateSource::Files { certificate, key } => certified(certificate, &read(certificate)?, key, &read(key)?),
        CertificateSource::Own { folder, names } => own(now, folder, &default_names(names, addresses)),
    }
}

/// Our own: authority once, leaf for 397 days (browsers refuse longer), new when names change or the end is near.
fn own(now: Timestamp, folder: &Path, names: &[String]) -> Result<CertifiedKey, Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
    let (ca_pem, ca_key) = (folder.join("ca.pem"), folder.join("ca.key"));
    if !ca_pem.exists() || !ca_key.exists() {
        let (pem, key) = authority(now).map_err(|source| Error::Issue { source })?;
        write(&ca_key, key.as_bytes(), 0o600)?;
        write(&ca_pem, pem.as_bytes(), 0o644)?;
    }
    let (leaf_pem, leaf_key, leaf_note) =
        (folder.join("server.pem"), folder.join("server.key"), folder.join("server.names"));
    // Beside the leaf stands what it was made for, so that nothing has to be parsed back out of it.
    let wanted = names.join("\n");
    let fresh = std::fs::read_to_string(&leaf_note).ok().and_then(|note| {
        let (until, made_for) = note.split_once('\n')?;
        let until: Timestamp = until.parse().ok()?;
        (made_for == wanted && until > now + (24 * 30).hours()).then_some(())
    });
    if fresh.is_none() || !leaf_pem.exists() || !leaf_key.exists() {
        let issuer = read(&ca_key).and_then(|key| {
            let key = KeyPair::from_pem(&key).map_err(|source| Error::Issue { source })?;
            Issuer::from_ca_cert_pem(&read(&ca_pem)?, key).map_err(|source| Error::Issue { source })
        })?;
        let until = now + (24 * 397).hours();
        let (pem, key) = leaf(now, until, names, &issuer).map_err(|source| Error::Issue { source })?;
        write(&leaf_key, key.as_bytes(), 0o600)?;
        write(&leaf_pem, (pem + &read(&ca_pem)?).as_bytes(), 0o644)?;
        write(&leaf_note, format!("{until}\n{wanted}").as_bytes(), 0o644)?;
    }
    certified(&leaf_pem, &read(&leaf_pem)?, &leaf_key, &read(&leaf_key)?)
}

fn authority(now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Towline local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, now, now + (24 * 3650).hours());
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn leaf(
    now: Timestamp,
    until: Timestamp,
    names: &[String],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("towline", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, until);
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

/// A day of slack before, for clients whose clock is behind. rcgen's own time type is reached through its calendar helper.
fn validity(params: &mut CertificateParams, now: Timestamp, until: Timestamp) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(now - 24.hours());
    params.not_after = day(until);
}

fn chain(path: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let chain = read.map_err(|source| Error::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(Error::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

fn certified(chain_path: &Path, chain: &str, key_path: &Path, key: &str) -> Result<CertifiedKey, Error> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pem { path, source }
    };
    let chain = self::chain(chain_path, chain)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(pem(key_path))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|source| Error::Tls { source })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Written beside and renamed, so that a crash leaves the old file or the new one.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    use std::io::Write;
    let beside = path.with_extension("new");
    let wrote = (|| {
        let _ = std::fs::remove_file(&beside);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    wrote.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Names a certificate for these listeners needs: loopback, this machine's name, and the configured ones.
fn default_names(configured: &[String], addresses: &[IpAddr]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = machine.trim();
    if !machine.is_empty() {
        names.push(machine.to_owned());
    }
    names.extend(addresses.iter().filter(|ip| !ip.is_unspecified()).map(ToString::to_string));
    names.extend(configured.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
