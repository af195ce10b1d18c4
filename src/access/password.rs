//! Passwords: only their argon2id hashes are kept.

use std::fmt;
use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Bytes of a password.
const BYTES_MAX: usize = 1024;

/// What is compared when there is nothing to compare, so that it takes as long: the hash of a password that nobody knows.
static OF_NOBODY: LazyLock<Hash> = LazyLock::new(|| {
    let unknown = uuid::Uuid::new_v4();
    hash(unknown.as_bytes()).expect("argon2's own parameters are good")
});

/// The hash of a password, as a PHC string. It is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Hash(String);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

impl TryFrom<String> for Hash {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let known = PasswordHash::new(&text).is_ok_and(|hash| hash.algorithm.as_str() == "argon2id");
        if known { Ok(Self(text)) } else { Err(Error::invalid("the password is not a PHC string of argon2id")) }
    }
}

impl Hash {
    /// The hash of `password`. It takes tens of milliseconds, and that is its purpose.
    pub fn of(password: &str) -> Result<Self> {
        if password.is_empty() || password.len() > BYTES_MAX {
            return Err(Error::invalid(format!("a password has 1 to {BYTES_MAX} bytes")));
        }
        hash(password.as_bytes())
    }

    /// Whether it is the hash of `password`; as slow as [`Hash::of`].
    pub fn verify(&self, password: &str) -> bool {
        // The parameters are those of the hash.
        let hash = PasswordHash::new(&self.0);
        hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    }

    /// The text of it, to tell two hashes apart.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Whether `password` has this hash. Without a hash nothing has, and it takes as long.
pub(super) fn verify(hash: Option<&Hash>, password: &str) -> bool {
    let verified = hash.unwrap_or(&OF_NOBODY).verify(password);
    hash.is_some() && verified
}

/// Makes the hash that stands for none, so that the first call which needs it does not take twice as long.
pub(super) fn prepare() {
    LazyLock::force(&OF_NOBODY);
}

fn hash(password: &[u8]) -> Result<Hash> {
    let hash = Argon2::default().hash_password(password);
    hash.map(|hash| Hash(hash.to_string())).map_err(|error| Error::internal(format!("cannot hash a password: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_shows_nothing() {
        let hash = Hash::of("se:cret").unwrap();
        assert!(hash.verify("se:cret") && !hash.verify("se:cre") && !hash.verify(""));
        assert!(verify(Some(&hash), "se:cret") && !verify(None, "se:cret"));
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert_eq!(format!("{hash:?}"), "Hash");
        assert_ne!(hash, Hash::of("se:cret").unwrap());
        assert!(Hash::of("").is_err() && Hash::of(&"x".repeat(1025)).is_err());
        for bad in ["", "secret", "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"] {
            let error = Hash::try_from(bad.to_owned()).unwrap_err();
            assert_eq!(error.message(), "the password is not a PHC string of argon2id");
        }
    }
}
