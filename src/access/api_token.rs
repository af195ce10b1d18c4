//! The text of API tokens: `mgt_<id>_<secret>`, with 256 random bits of secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::key::random;
use crate::error::Result;

/// What every API token begins with, so that scanners of secrets find those that got lost.
const PREFIX: &str = "mgt_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// A new API token.
pub struct NewToken {
    /// Its public part.
    pub id: String,
    /// SHA-256 of its secret, in hexadecimal.
    pub sha256: String,
    /// The whole of it, which is shown once.
    pub text: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl NewToken {
    /// Makes one.
    pub fn random() -> Result<Self> {
        let id = hex::encode(random::<ID_BYTES>()?);
        let secret = URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>()?);
        Ok(Self { sha256: hex::encode(digest(&secret)), text: format!("{PREFIX}{id}_{secret}"), id })
    }
}

/// The id and the secret of an API token; none for what is no API token.
pub(super) fn parse(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(PREFIX)?.split_once('_')
}

/// What is kept of a secret.
pub(super) fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The bytes of a digest in hexadecimal.
pub(super) fn digest_of_text(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_apart_as_it_was_made() {
        let tokens: Vec<NewToken> = (0..100).map(|_| NewToken::random().unwrap()).collect();
        for token in &tokens {
            let (id, secret) = parse(&token.text).unwrap();
            assert_eq!(id, token.id);
            assert_eq!(digest_of_text(&token.sha256), Some(digest(secret)));
            assert!(!format!("{token:?}").contains(secret) && secret.len() == 43);
        }
        assert!(parse("mgt_x").is_none() && parse("x.y.z").is_none() && digest_of_text("é").is_none());
        assert_eq!(digest_of_text(&"g".repeat(64)), None);
    }
}
