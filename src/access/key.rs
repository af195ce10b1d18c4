//! The key of the process: it signs the tokens of sessions, and names credentials without keeping them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;

use crate::error::{Error, Result};

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 32;

/// A random key; what it signed is worth nothing after a restart.
#[derive(Clone)]
pub(super) struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) fn random() -> Result<Self> {
        random().map(Self)
    }

    /// The signature of `parts`, each of which counts with its length.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
        self.mac(parts).finalize().into_bytes().into()
    }

    /// Whether `signature` is that of `parts`; in constant time.
    pub(super) fn verify(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        self.mac(parts).verify_slice(signature).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("a key of any length is good");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// Random bytes, good enough for secrets.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::internal("the system gives no random bytes"))?;
    Ok(bytes)
}
