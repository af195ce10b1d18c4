//! The tokens of sessions: which session, whose, until when, and signed with the key of the process.
//!
//! A token says who signed in and how, and not what they may do: that is looked up at each call. Only for an issuer's JWT,
//! which is not kept anywhere, the token repeats what the JWT said.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::{Key, SIGNATURE_BYTES};
use super::{Grant, Role};

/// The first byte of every token. In base64 it begins with `A`, and so is no API token.
const VERSION: u8 = 1;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Claims {
    /// The session.
    #[serde(rename = "s")]
    pub(super) session: Uuid,
    /// The second after which it is worth nothing.
    #[serde(rename = "e")]
    pub(super) expires: i64,
    #[serde(rename = "w")]
    pub(super) who: Who,
}

/// Who signed in, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) enum Who {
    /// Nobody was asked.
    #[serde(rename = "o")]
    Open,
    /// A user, with a password or a certificate.
    #[serde(rename = "u")]
    User {
        /// Its name.
        name: String,
        /// [`KnownUser::stamp`](super::directory::KnownUser::stamp) at that time.
        stamp: u64,
    },
    /// A user, with this API token.
    #[serde(rename = "t")]
    ApiToken {
        /// Its name.
        name: String,
        /// The token's id.
        id: String,
    },
    /// Somebody that an issuer knows.
    #[serde(rename = "j")]
    Issued {
        /// The JWT's subject.
        name: String,
        /// The JWT's role.
        role: Role,
        /// The JWT's grants.
        grants: Vec<Grant>,
        /// When the JWT expires.
        expires: i64,
    },
}

impl Who {
    /// Whether both are the same person by the same authority: a session of one is one of the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open, Self::Open) => true,
            (
                Self::User { name, .. } | Self::ApiToken { name, .. },
                Self::User { name: other, .. } | Self::ApiToken { name: other, .. },
            )
            | (Self::Issued { name, .. }, Self::Issued { name: other, .. }) => name == other,
            _ => false,
        }
    }
}

impl Claims {
    /// The token.
    pub(super) fn sign(&self, key: &Key) -> String {
        let mut token = vec![VERSION];
        // Plain structs of strings and numbers can be written as JSON, and in memory.
        serde_json::to_writer(&mut token, self).expect("a token can be written");
        let signature = key.sign(&[b"session", &token]);
        token.extend(signature);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What a token of ours says; none for any other, and for one that has expired.
    pub(super) fn verify(key: &Key, token: &str, now: Timestamp) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE_BYTES)?)?;
        if !key.verify(&[b"session", signed], signature) {
            return None;
        }
        let claims: Self = serde_json::from_slice(signed.strip_prefix(&[VERSION])?).ok()?;
        (now.as_second() < claims.expires).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_tokens_are_read_and_only_in_time() {
        let key = Key::random().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let issued = Who::Issued {
            name: "auth0|ann".into(),
            role: Role::Writer,
            grants: vec!["read:a*".parse().unwrap()],
            expires: 90,
        };
        let user = Who::User { name: "ann".into(), stamp: u64::MAX };
        let api_token = Who::ApiToken { name: "ann".into(), id: "0a".into() };
        for who in [Who::Open, user.clone(), api_token.clone(), issued.clone()] {
            let claims = Claims { session: Uuid::new_v4(), expires: 100, who };
            let token = claims.sign(&key);
            assert!(!token.contains('.') && token.starts_with('A'));
            assert_eq!(Claims::verify(&key, &token, at(99)), Some(claims));
            assert_eq!(Claims::verify(&key, &token, at(100)), None);
            assert_eq!(Claims::verify(&Key::random().unwrap(), &token, at(0)), None);
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            for at_byte in 0..bytes.len() {
                bytes[at_byte] ^= 1;
                assert_eq!(Claims::verify(&key, &URL_SAFE_NO_PAD.encode(&bytes), at(0)), None);
                bytes[at_byte] ^= 1;
            }
        }
        for bad in ["", "A", "é", "mgt_a_b", &"A".repeat(200)] {
            assert_eq!(Claims::verify(&key, bad, at(0)), None);
        }
        assert!(user.is_same(&api_token) && !user.is_same(&issued) && !user.is_same(&Who::Open));
        assert!(!user.is_same(&Who::User { name: "Ann".into(), stamp: 0 }));
    }
}
