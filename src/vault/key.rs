//! The master key: a systemd credential, else a file that only its owner can read.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::VaultError;

/// Bytes of a key.
const LENGTH: usize = 32;
/// Bytes that tell keys apart.
pub(super) const KEY_ID: usize = 8;
/// Names under `$CREDENTIALS_DIRECTORY`.
const CREDENTIAL: &str = "towline-master-key";
const OLD_CREDENTIAL: &str = "towline-master-key-old";
/// Name in the state directory.
const FILE: &str = "master.key";
const OLD_FILE: &str = "master.key.old";

/// A key that seals everything else.
#[derive(Clone)]
pub struct MasterKey([u8; LENGTH]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    /// A new random key.
    ///
    /// # Errors
    /// The machine gives no random numbers.
    pub fn generate() -> Result<Self, VaultError> {
        let mut bytes = [0; LENGTH];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| VaultError::Key { path: FILE.into(), reason: "no random numbers can be had".to_owned() })?;
        Ok(Self(bytes))
    }

    /// Reads a key: 32 bytes, or 64 hexadecimal digits, or 44 characters of base64.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        use base64::Engine as _;
        if let Ok(key) = bytes.try_into() {
            return Some(Self(key));
        }
        let text = std::str::from_utf8(bytes).ok()?.trim();
        if text.len() == LENGTH * 2 {
            let digits: Option<Vec<u8>> = (0..LENGTH)
                .map(|at| text.get(at * 2..at * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect();
            return digits?.try_into().ok().map(Self);
        }
        base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn id(&self) -> [u8; KEY_ID] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.0);
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest.as_ref()[..KEY_ID]);
        id
    }

    fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Makes this the key of a state directory; the one before stays readable as the old key until the next call.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn install(&self, state: &Path) -> Result<(), VaultError> {
        let path = state.join(FILE);
        let fail = |error: io::Error| VaultError::Key { path: path.clone(), reason: error.to_string() };
        let unfinished = state.join("master.key.unfinished");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(fail)?;
        file.write_all(self.to_hex().as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        if path.exists() {
            // A second name first, so that the old key is never without one.
            let old = state.join(OLD_FILE);
            match fs::remove_file(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
                _ => {}
            }
            fs::hard_link(&path, &old).map_err(fail)?;
        }
        fs::rename(&unfinished, &path).map_err(fail)?;
        File::open(state).and_then(|directory| directory.sync_all()).map_err(fail)
    }
}

/// Whether the key of this process is a credential of systemd: exchanged there, not here.
#[must_use]
pub fn is_credential(credentials: Option<&Path>) -> bool {
    credentials.is_some_and(|directory| directory.join(CREDENTIAL).exists())
}

/// The keys of a state directory, the one to seal with first: the credential `towline-master-key`, else the file
/// `master.key`, which is made on first use. Old keys still open what they sealed.
///
/// # Errors
/// A key cannot be read, is no key, or can be read by others.
pub fn open_keys(credentials: Option<&Path>, state: &Path) -> Result<Vec<MasterKey>, VaultError> {
    let mut keys = Vec::new();
    if let Some(credentials) = credentials {
        keys.extend(read(&credentials.join(CREDENTIAL), false)?);
        keys.extend(read(&credentials.join(OLD_CREDENTIAL), false)?);
    }
    let path = state.join(FILE);
    match read(&path, true)? {
        Some(key) => keys.push(key),
        None if keys.is_empty() => {
            let key = MasterKey::generate()?;
            key.install(state)?;
            keys.push(key);
        }
        None => {}
    }
    keys.extend(read(&state.join(OLD_FILE), true)?);
    Ok(keys)
}

fn read(path: &Path, private: bool) -> Result<Option<MasterKey>, VaultError> {
    let fail = |reason: String| VaultError::Key { path: path.to_owned(), reason };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error.to_string())),
    };
    let mode = fs::metadata(path).map_err(|error| fail(error.to_string()))?.permissions().mode();
    if private && mode & 0o077 != 0 {
        return Err(fail(format!("others can read it (mode {:o}); run `chmod 600` on it", mode & 0o777)));
    }
    MasterKey::parse(&bytes)
        .map(Some)
        .ok_or_else(|| fail("it is not a key of 32 bytes, 64 hexadecimal digits or base64".to_owned()))
}
