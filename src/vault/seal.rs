//! Sealing: AES-256-GCM with a random nonce, the name as associated data.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::VaultError;
use super::key::{KEY_ID, MasterKey};

/// One byte of format, the id of the key, the nonce, the sealed text with its tag.
const FORMAT: u8 = 1;

/// The known keys; the first seals.
#[derive(Clone)]
pub(super) struct Ring(Vec<MasterKey>);

impl Ring {
    pub(super) fn new(keys: Vec<MasterKey>) -> Self {
        Self(keys)
    }

    /// The same keys with another one before them.
    pub(super) fn with_first(&self, key: MasterKey) -> Self {
        let mut keys = vec![key];
        keys.extend(self.0.iter().filter(|known| known.id() != keys[0].id()).cloned().collect::<Vec<_>>());
        Self(keys)
    }

    /// Whether the first key sealed this.
    pub(super) fn is_first(&self, sealed: &[u8]) -> bool {
        self.0.first().is_some_and(|key| sealed.get(1..=KEY_ID) == Some(&key.id()[..]))
    }

    pub(super) fn seal(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, VaultError> {
        let damaged = || VaultError::Damaged { name: name.to_owned() };
        let key = self.0.first().ok_or_else(|| VaultError::WrongKey { key_id: "none".to_owned() })?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| damaged())?;
        let mut text = bytes.to_vec();
        cipher(key)
            .ok_or_else(damaged)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut text)
            .map_err(|_| damaged())?;
        let mut sealed = Vec::with_capacity(1 + KEY_ID + NONCE_LEN + text.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.id());
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut text);
        Ok(sealed)
    }

    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let damaged = || VaultError::Damaged { name: name.to_owned() };
        let [FORMAT, rest @ ..] = sealed else { return Err(damaged()) };
        let (id, rest) = rest.split_at_checked(KEY_ID).ok_or_else(damaged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let key =
            self.0.iter().find(|key| key.id() == id).ok_or_else(|| VaultError::WrongKey {
                key_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            })?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut text = text.to_vec();
        let cipher = cipher(key).ok_or_else(damaged)?;
        let plain = cipher.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text).map_err(|_| damaged())?;
        Ok(plain.to_vec())
    }
}

fn cipher(key: &MasterKey) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.bytes()).ok().map(LessSafeKey::new)
}
