//! Who may call: the settings of users and of JSON Web Tokens.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{Environment, text};

/// Who may call: everybody, when there is no users file, no password and no issuer of JWTs.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The name of a user that is an admin, beside those of the users file.
    pub user: String,
    /// This user's password; empty: there is no such user.
    #[serde(serialize_with = "text::secret")]
    pub password: String,
    /// The file of users and API tokens; empty: `merganser/users.toml` in the user's configuration directory, if it is there.
    pub users_file: PathBuf,
    /// Time after which a session's token is worth nothing, and its client signs in again.
    #[serde(with = "text::duration")]
    pub session_token_expire: Duration,
    /// Passwords that are verified at once, each on a thread, with 19 MiB of memory.
    pub verifications_max: usize,
    /// Time that a call waits for the verification of its password before it is RESOURCE_EXHAUSTED.
    #[serde(with = "text::duration")]
    pub verifications_wait: Duration,
    /// Credentials whose verification is remembered; beyond it the ones not used for longest are verified again.
    pub verified_max: usize,
    /// Time after which they are verified again.
    #[serde(with = "text::duration")]
    pub verified_expire: Duration,
    /// Wrong passwords of one address for one user in `auth.attempts_window`; more attempts are RESOURCE_EXHAUSTED.
    pub attempts_max: u32,
    /// The same of one address for all users.
    pub attempts_per_address_max: u32,
    /// Time in which all attempts come back, one after the other.
    #[serde(with = "text::duration")]
    pub attempts_window: Duration,
    /// Addresses, and users at them, whose attempts are counted; beyond it the ones not seen for longest are forgotten.
    pub attempts_tracked_max: usize,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            user: String::new(),
            password: String::new(),
            users_file: PathBuf::new(),
            session_token_expire: Duration::from_hours(24),
            verifications_max: 2,
            verifications_wait: Duration::from_secs(10),
            verified_max: 1024,
            verified_expire: Duration::from_mins(10),
            attempts_max: 10,
            attempts_per_address_max: 100,
            attempts_window: Duration::from_mins(1),
            attempts_tracked_max: 10_000,
        }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("user", &self.user).field("users_file", &self.users_file).finish_non_exhaustive()
    }
}

impl Auth {
    /// The users file, which may not be there; none: the user has no configuration directory.
    pub fn users_path(&self, environment: &Environment) -> Option<PathBuf> {
        if self.users_file.as_os_str().is_empty() {
            environment.config_directory.as_ref().map(|directory| directory.join("merganser/users.toml"))
        } else {
            Some(self.users_file.clone())
        }
    }
}

/// JSON Web Tokens, of one issuer: they count when `jwt.issuer` is set.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// Who issues them: their `iss`. Where none of the three settings of keys is set, its keys are found by OpenID's discovery.
    pub issuer: String,
    /// Who they are for: one of their `aud`.
    pub audience: String,
    /// The key of HS256, at least 32 bytes.
    #[serde(serialize_with = "text::secret")]
    pub secret: String,
    /// A PEM file with the public key of RS256 (RSA) or ES256 (P-256).
    pub public_key_file: PathBuf,
    /// Where the issuer's JSON Web Key Set is: keys of RS256 and ES256.
    pub jwks_url: String,
    /// The claim that says the role: `reader`, `writer` or `admin`.
    pub role_claim: String,
    /// The role of those without that claim; empty: they are refused.
    pub role_default: String,
    /// The claim that lists the grants, like `read:shop_*`; without it all tables.
    pub grants_claim: String,
    /// How far the issuer's clock may be off.
    #[serde(with = "text::duration")]
    pub leeway: Duration,
    /// Time after which the issuer's keys are fetched again.
    #[serde(with = "text::duration")]
    pub keys_expire: Duration,
    /// Time between two fetches at least, whatever keys are asked for.
    #[serde(with = "text::duration")]
    pub keys_refetch: Duration,
    /// Keys of the issuer; it may not give more.
    pub keys_max: usize,
    /// Time that one fetch may take.
    #[serde(with = "text::duration")]
    pub fetch_timeout: Duration,
    /// Bytes of an answer of the issuer.
    #[serde(with = "text::size")]
    pub response_bytes_max: ByteSize,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            secret: String::new(),
            public_key_file: PathBuf::new(),
            jwks_url: String::new(),
            role_claim: "merganser_role".to_owned(),
            role_default: String::new(),
            grants_claim: "merganser_grants".to_owned(),
            leeway: Duration::from_secs(30),
            keys_expire: Duration::from_hours(1),
            keys_refetch: Duration::from_secs(10),
            keys_max: 64,
            fetch_timeout: Duration::from_secs(5),
            response_bytes_max: ByteSize::kib(256),
        }
    }
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("issuer", &self.issuer).field("audience", &self.audience).finish_non_exhaustive()
    }
}
