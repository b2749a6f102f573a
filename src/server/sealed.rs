//! Sealed boxes, as clients of GitHub's API send secrets: X25519, XSalsa20, Poly1305 and BLAKE2b in libsodium's
//! construction (`crypto_box_seal`). Only opening is needed here, and only its key is kept.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use blake2::digest::consts::{U10, U24};
use blake2::{Blake2b, Digest};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};

/// The public key of a client made for one box, before the box itself.
const EPHEMERAL: usize = 32;
/// The authenticator of the box.
const TAG: usize = 16;

/// A key pair that boxes are sealed for.
pub(super) struct BoxKey {
    private: PrivateKey,
    public: [u8; 32],
}

impl BoxKey {
    /// The key pair of 32 secret bytes; `None` when they are not 32.
    pub(super) fn from_seed(seed: &[u8]) -> Option<Self> {
        let private = PrivateKey::from_private_key(&X25519, seed).ok()?;
        let public = private.compute_public_key().ok()?.as_ref().try_into().ok()?;
        Some(Self { private, public })
    }

    /// What clients seal for.
    pub(super) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Opens a box; `None` when it was not sealed for this key or was changed.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (ephemeral, sealed) = sealed.split_at_checked(EPHEMERAL)?;
        let (tag, content) = sealed.split_at_checked(TAG)?;
        let peer = UnparsedPublicKey::new(&X25519, ephemeral);
        let shared: [u8; 32] =
            agreement::agree(&self.private, peer, (), |shared| shared.try_into().map_err(drop)).ok()?;
        let mut cipher = cipher(&shared, &nonce(ephemeral, &self.public));
        if !constant_time_equal(&authenticator(&mut cipher, content), tag) {
            return None;
        }
        let mut content = content.to_vec();
        cipher.apply_keystream(&mut content);
        Some(content)
    }
}

/// The nonce of a sealed box is the digest of both public keys.
fn nonce(ephemeral: &[u8], public: &[u8]) -> [u8; 24] {
    Blake2b::<U24>::new().chain_update(ephemeral).chain_update(public).finalize().into()
}

/// The cipher of a box between two keys, given what they agree on.
fn cipher(shared: &[u8; 32], nonce: &[u8; 24]) -> XSalsa20 {
    let key = salsa20::hsalsa::<U10>(&(*shared).into(), &[0; 16].into());
    XSalsa20::new(&key, &(*nonce).into())
}

/// The first 32 bytes of the key stream authenticate the rest.
fn authenticator(cipher: &mut XSalsa20, content: &[u8]) -> [u8; 16] {
    let mut key = [0; 32];
    cipher.apply_keystream(&mut key);
    Poly1305::new(&key.into()).compute_unpadded(content).into()
}

fn constant_time_equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with libsodium's `crypto_box_seal` (PyNaCl) for the key of 32 times 7.
    const SEALED: &str = "82017a4e9d8f8b59ae18defb82e0c98088e581b123a888dbee2a8363fe8572547f8afc87c3ecfbc623376dcf8e47c0d82bae28c18dd1ed81a4";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn boxes_of_libsodium_open() {
        let key = BoxKey::from_seed(&[7; 32]).unwrap();
        let sealed = bytes(SEALED);
        assert_eq!(key.open(&sealed).as_deref(), Some("a sécret".as_bytes()));
        assert!(BoxKey::from_seed(&[8; 32]).unwrap().open(&sealed).is_none(), "another key");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // The highest bit of a point's last byte does not count in X25519, but the nonce is made of it too.
            assert!(key.open(&changed).is_none(), "byte {at} changed");
        }
        for length in 0..EPHEMERAL + TAG {
            assert!(key.open(&sealed[..length]).is_none(), "cut to {length}");
        }
        assert!(BoxKey::from_seed(&[7; 31]).is_none());
    }
}
