//! JSON Web Tokens: who they say that calls, if the configured issuer signed them for us and they are in time.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jsonwebtoken::errors::ErrorKind as JwtError;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::jwks::Jwks;
use super::{Grant, Principal, Role, signature};
use crate::config;
use crate::error::{Error, ErrorKind, Result};

/// Letters of a subject.
const SUBJECT_MAX: usize = 255;
/// What must be in every token.
const REQUIRED: [&str; 4] = ["exp", "iss", "aud", "sub"];

/// Checks the tokens of an issuer.
#[derive(Debug)]
pub(super) struct Issuer {
    config: config::Jwt,
    role_default: Option<Role>,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    One(Arc<DecodingKey>),
    Fetched(Box<Jwks>),
}

/// What a good token says.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) principal: Arc<Principal>,
    /// The second at which it expires.
    pub(super) expires: i64,
    /// What it was verified with.
    key: Arc<DecodingKey>,
}

impl Issuer {
    /// The issuer of the configuration, if there is one.
    ///
    /// # Errors
    /// What is wrong with its key or its URL. It is not asked for its keys yet: it may be down.
    pub(super) fn open(config: &config::Jwt) -> Result<Option<Self>> {
        if config.issuer.is_empty() {
            return Ok(None);
        }
        signature::install();
        let keys = if !config.secret.is_empty() {
            Keys::One(Arc::new(DecodingKey::from_secret(config.secret.as_bytes())))
        } else if !config.public_key_file.as_os_str().is_empty() {
            Keys::One(Arc::new(public_key(&config.public_key_file)?))
        } else {
            Keys::Fetched(Box::new(Jwks::new(config)?))
        };
        let role_default = if config.role_default.is_empty() { None } else { Some(config.role_default.parse()?) };
        Ok(Some(Self { config: config.clone(), role_default, keys }))
    }

    /// What a token says.
    ///
    /// # Errors
    /// `Unauthenticated` for one that is not good; `PermissionDenied` for one without a role that we know.
    pub(super) async fn verify(&self, token: &str, now: Instant) -> Result<Issued> {
        let header = decode_header(token).map_err(|error| wrong(&error))?;
        let key = match &self.keys {
            Keys::One(key) => Arc::clone(key),
            Keys::Fetched(jwks) => jwks.key(header.kid.as_deref(), now).await?,
        };
        // The key decides, never the token.
        let algorithm = signature::algorithm(&key).ok_or_else(|| Error::internal("a key without an algorithm"))?;
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&REQUIRED);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.leeway = self.config.leeway.as_secs();
        validation.validate_nbf = true;
        let claims = decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| wrong(&error))?.claims;
        let expires = claims.get("exp").and_then(|exp| exp.as_i64().or_else(|| seconds(exp.as_f64()?)));
        let expires = expires.ok_or_else(|| unauthenticated("its `exp` is no number"))?;
        let expires = expires.saturating_add(i64::try_from(self.config.leeway.as_secs()).unwrap_or(i64::MAX));
        Ok(Issued { principal: Arc::new(self.principal(&claims)?), expires, key })
    }

    /// Whether a token that was good is so still, at the second `unix`.
    pub(super) fn is_still_good(&self, issued: &Issued, unix: i64, now: Instant) -> bool {
        unix < issued.expires
            && match &self.keys {
                Keys::One(_) => true,
                Keys::Fetched(jwks) => jwks.has(&issued.key, now),
            }
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal> {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_MAX || subject.contains(char::is_control) {
            return Err(unauthenticated("its `sub` is not a name"));
        }
        let denied =
            |why: String| Error::new(ErrorKind::PermissionDenied, format!("user {subject:?} is refused: {why}"));
        let config::Jwt { role_claim, grants_claim, .. } = &self.config;
        let role = match (claims.get(role_claim), self.role_default) {
            (None | Some(Value::Null), Some(role)) => role,
            (None | Some(Value::Null), None) => return Err(denied(format!("the token has no claim `{role_claim}`"))),
            (Some(Value::String(role)), _) => {
                role.parse().map_err(|error: Error| denied(error.message().to_owned()))?
            }
            (Some(_), _) => return Err(denied(format!("the token's claim `{role_claim}` is not a word"))),
        };
        let grants: Vec<Grant> = match claims.get(grants_claim) {
            None | Some(Value::Null) => Vec::new(),
            // An empty list would otherwise stand for all tables.
            Some(Value::Array(list)) if list.is_empty() => return Err(denied("the token grants no table".to_owned())),
            Some(grants) => serde_json::from_value(grants.clone()).map_err(|_| {
                denied(format!("the token's claim `{grants_claim}` is not a list like [\"read:shop_*\"]"))
            })?,
        };
        Ok(Principal::new(subject, role).with_grants(grants))
    }
}

/// The whole seconds of a number of seconds.
#[expect(clippy::cast_possible_truncation, reason = "a time that no i64 holds becomes its largest")]
fn seconds(seconds: f64) -> Option<i64> {
    seconds.is_finite().then_some(seconds as i64)
}

/// The public key of a PEM file.
fn public_key(path: &Path) -> Result<DecodingKey> {
    let shown = path.display();
    let pem = fs::read_to_string(path).map_err(|error| {
        Error::invalid(format!("cannot read `jwt.public_key_file` = {shown}: {error}")).with_source(error)
    })?;
    // A private key would do as well, and does not belong here.
    let is_public = pem.contains("PUBLIC KEY-----");
    let rsa = || DecodingKey::from_rsa_pem(pem.as_bytes()).ok();
    let ec = || DecodingKey::from_ec_pem(pem.as_bytes()).ok().filter(is_p256);
    let key = if is_public { rsa().or_else(ec) } else { None };
    key.ok_or_else(|| {
        Error::invalid(format!("`jwt.public_key_file` = {shown} has no public key of RSA or of the curve P-256 in PEM"))
    })
}

/// An uncompressed point of 256 bits.
fn is_p256(key: &DecodingKey) -> bool {
    key.try_get_as_bytes().is_ok_and(|point| point.len() == 65)
}

fn wrong(error: &jsonwebtoken::errors::Error) -> Error {
    unauthenticated(match error.kind() {
        JwtError::ExpiredSignature => "it has expired",
        JwtError::ImmatureSignature => "it is not valid yet",
        JwtError::InvalidAudience => "it is for another audience",
        JwtError::InvalidIssuer => "it is of another issuer",
        JwtError::InvalidSignature => "its signature is wrong",
        JwtError::InvalidAlgorithm => "its algorithm is not that of the issuer's key",
        JwtError::MissingRequiredClaim(_) => "it lacks one of `exp`, `iss`, `aud` and `sub`",
        _ => "it cannot be read",
    })
}

fn unauthenticated(why: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, format!("the token is not valid: {why}"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a secret of at least thirty-two bytes";

    fn unsigned(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(header), part(claims))
    }

    fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
        let text = unsigned(header, claims);
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn claims() -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({ "iss": "us", "aud": "ducks", "sub": "ann", "exp": now + 60, "nbf": now - 1, "merganser_role": "writer" })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn config() -> config::Jwt {
        config::Jwt {
            issuer: "us".into(),
            audience: "ducks".into(),
            leeway: std::time::Duration::from_secs(5),
            ..config::Jwt::default()
        }
    }

    fn verify(issuer: &Issuer, token: &str) -> Result<Principal> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(issuer.verify(token, Instant::now())).map(|issued| (*issued.principal).clone())
    }

    #[test]
    fn a_token_is_checked_in_every_way() {
        let issuer = Issuer::open(&config::Jwt { secret: SECRET.into(), ..config() }).unwrap().unwrap();
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let now = jsonwebtoken::get_current_timestamp();
        let check = |claims: &Value| verify(&issuer, &hs256(&header, claims, SECRET.as_bytes()));
        assert_eq!(check(&claims()).unwrap(), Principal::new("ann", Role::Writer));
        let granted = check(&with("merganser_grants", json!(["read:a*"]))).unwrap();
        assert_eq!(granted.grants[..], ["read:a*".parse().unwrap()]);
        check(&with("aud", json!(["x", "ducks"]))).unwrap();
        check(&with("exp", json!(now - 2))).unwrap();
        for (claims, message) in [
            (with("aud", json!("geese")), "it is for another audience"),
            (with("aud", Value::Null), "it "),
            (with("iss", json!("them")), "it is of another issuer"),
            (with("exp", json!(now - 60)), "it has expired"),
            (with("exp", json!("2999-01-01")), "it "),
            (with("nbf", json!(now + 60)), "it is not valid yet"),
            (with("nbf", json!("2000")), "it "),
            (with("sub", json!("")), "its `sub` is not a name"),
            (with("sub", json!("a\nb")), "its `sub` is not a name"),
            (json!({ "sub": "ann" }), "it lacks one of"),
        ] {
            let error = check(&claims).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{claims}");
            assert!(error.message().starts_with(&format!("the token is not valid: {message}")), "{claims}: {error}");
        }
        for (claims, message) in [
            (with("merganser_role", json!("king")), "role \"king\" is not known"),
            (with("merganser_role", Value::Null), "the token has no claim `merganser_role`"),
            (with("merganser_role", json!(["admin"])), "is not a word"),
            (with("merganser_grants", json!("read:a")), "is not a list"),
            (with("merganser_grants", json!(["all"])), "is not a list"),
            (with("merganser_grants", json!([])), "grants no table"),
        ] {
            let error = check(&claims).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{claims}");
            assert!(error.message().contains(message), "{claims}: {error}");
        }
        let lenient = config::Jwt { secret: SECRET.into(), role_default: "reader".into(), ..config() };
        let lenient = Issuer::open(&lenient).unwrap().unwrap();
        let token = hs256(&header, &with("merganser_role", Value::Null), SECRET.as_bytes());
        assert_eq!(verify(&lenient, &token).unwrap().role, Role::Reader);
    }

    #[test]
    fn no_token_chooses_its_algorithm() {
        let issuer = Issuer::open(&config::Jwt { secret: SECRET.into(), ..config() }).unwrap().unwrap();
        let good = hs256(&json!({ "alg": "HS256" }), &claims(), SECRET.as_bytes());
        verify(&issuer, &good).unwrap();
        for algorithm in ["none", "None", "HS384", "RS256", "ES256", "EdDSA"] {
            let header = json!({ "alg": algorithm });
            for token in [format!("{}.", unsigned(&header, &claims())), hs256(&header, &claims(), SECRET.as_bytes())] {
                assert_eq!(verify(&issuer, &token).unwrap_err().kind(), ErrorKind::Unauthenticated, "{token}");
            }
        }
        let other = hs256(&json!({ "alg": "HS256" }), &claims(), b"another secret of thirty-two bytes");
        for bad in [other.as_str(), &good[..good.len() - 4], good.rsplit_once('.').unwrap().0, "..", "a.b.c", ""] {
            let error = verify(&issuer, bad).unwrap_err();
            assert!(!error.to_string().contains(bad) || bad.is_empty() || bad == "..", "{error}");
        }
    }

    #[test]
    fn a_public_key_verifies_and_is_no_secret() {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).unwrap();
        // What comes before the point in a SubjectPublicKeyInfo of P-256.
        let mut spki = STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").unwrap();
        spki.extend_from_slice(pair.public_key().as_ref());
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = |text: &str| {
            fs::write(file.path(), text).unwrap();
            Issuer::open(&config::Jwt { public_key_file: file.path().to_owned(), ..config() })
        };
        let public = pem("PUBLIC KEY", &spki);
        let issuer = open(&public).unwrap().unwrap();
        let text = unsigned(&json!({ "alg": "ES256" }), &claims());
        let signature = pair.sign(&random, text.as_bytes()).unwrap();
        let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(&*verify(&issuer, &token).unwrap().name, "ann");
        // Everybody knows the public key, and could sign with it as a secret.
        for secret in [public.as_bytes(), pair.public_key().as_ref(), &spki] {
            let forged = hs256(&json!({ "alg": "HS256" }), &claims(), secret);
            assert_eq!(verify(&issuer, &forged).unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
        for bad in ["", "PUBLIC KEY-----", &pem("PRIVATE KEY", der.as_ref())] {
            assert!(open(bad).unwrap_err().message().contains("has no public key"), "{bad}");
        }
    }
}
