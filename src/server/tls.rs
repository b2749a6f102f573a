//! Certificates: our own authority in the state directory, or the user's files; replaced without a restart.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;

/// Where the server's certificate comes from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// Issued by our own authority, which is made on first use and kept in `folder` (`ca.pem`, `ca.key`). Clients trust
    /// it once (`towline trust`). The server's own certificate is renewed 30 days before its end.
    Own { folder: PathBuf, names: Vec<String> },
    /// PEM files of the user: the chain, leaf first, and its key.
    Files { certificate: PathBuf, key: PathBuf },
}

/// The certificate in use, and how to get the next.
#[derive(Debug)]
pub struct Certificates {
    source: CertificateSource,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificates {
    /// Loads the certificate, making authority and certificate first where they are ours to make.
    ///
    /// # Errors
    /// A file that cannot be read, written or understood, or a key that does not fit its certificate.
    pub fn load(now: Timestamp, source: CertificateSource) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = Arc::new(Current(RwLock::new(Arc::new(obtain(now, &source)?))));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::Tls { source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { source, config: Arc::new(config), current })
    }

    /// Reads the source again; connections made from now on use what it gives. On an error the old certificate stays.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn reload(&self, now: Timestamp) -> Result<(), Error> {
        let next = Arc::new(obtain(now, &self.source)?);
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// The PEM text of our own authority, for clients to trust.
    ///
    /// # Errors
    /// The file cannot be read, or the certificate is the user's.
    pub fn authority(&self) -> Result<String, Error> {
        match &self.source {
            CertificateSource::Own { folder, .. } => read(&folder.join("ca.pem")),
            CertificateSource::Files { certificate, .. } => read(certificate),
        }
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn obtain(now: Timestamp, source: &CertificateSource) -> Result<CertifiedKey, Error> {
    match source {
        CertificateSource::Files { certificate, key } => certified(certificate, &read(certificate)?, key, &read(key)?),
        CertificateSource::Own { folder, names } => own(now, folder, names),
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

fn certified(chain_path: &Path, chain: &str, key_path: &Path, key: &str) -> Result<CertifiedKey, Error> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().map_err(pem(chain_path))?;
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
#[must_use]
pub fn default_names(configured: &[String], addresses: &[IpAddr]) -> Vec<String> {
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
