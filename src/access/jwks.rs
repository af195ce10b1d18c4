//! The keys of an issuer, fetched from it: where they are is told by the configuration or by OpenID's discovery.
//!
//! They are fetched when a JWT needs them, again when they are old or a JWT names one that is not known, and never more often
//! than every `jwt.keys_refetch`. An issuer that is down, or answers something else, leaves the keys as they are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use reqwest::{Client, Url, redirect};
use serde::Deserialize;

use super::signature;
use crate::config::Jwt;
use crate::error::{Error, ErrorKind, Result};

/// Where OpenID's discovery is, after the issuer's name.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// The keys of an issuer.
#[derive(Debug)]
pub(super) struct Jwks {
    config: Jwt,
    /// Where the keys are, or where that is told.
    place: Place,
    client: Client,
    state: Mutex<State>,
    /// Held while keys are fetched.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
enum Place {
    Keys(Url),
    Discovery(Url),
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<Keys>,
    /// When the keys came.
    fetched: Option<Instant>,
    /// When they were asked for, with or without success.
    tried: Option<Instant>,
}

/// Keys that can verify, with their ids.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(Option<String>, Arc<DecodingKey>)>);

impl Keys {
    /// The key of an id; without an id, the only one.
    fn find(&self, id: Option<&str>) -> Option<Arc<DecodingKey>> {
        let found = match id {
            Some(_) => self.0.iter().find(|(known, _)| known.as_deref() == id),
            None => self.0.first().filter(|_| self.0.len() == 1),
        };
        found.map(|(_, key)| Arc::clone(key))
    }

    /// Reads a JSON Web Key Set. What is no public key for one of our algorithms is left out.
    fn parse(text: &[u8], keys_max: usize) -> Result<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|_| Error::invalid("the answer is no JSON Web Key Set"))?;
        if set.keys.len() > keys_max {
            let count = set.keys.len();
            return Err(Error::invalid(format!("it has {count} keys, and {keys_max} are allowed (jwt.keys_max)")));
        }
        let keys = set.keys.into_iter().filter_map(|key| {
            let key: Jwk = serde_json::from_value(key).ok()?;
            let decoding = usable(&key)?;
            Some((key.common.key_id, Arc::new(decoding)))
        });
        Ok(Self(keys.collect()))
    }
}

/// The key, if it is a public one that signs with one of our algorithms.
fn usable(key: &Jwk) -> Option<DecodingKey> {
    let (algorithm, is_known) = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (KeyAlgorithm::RS256, true),
        AlgorithmParameters::EllipticCurve(parameters) => {
            (KeyAlgorithm::ES256, parameters.curve == EllipticCurve::P256)
        }
        // A symmetric key that is published is no secret.
        _ => return None,
    };
    let may_sign = key.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let same_algorithm = key.common.key_algorithm.is_none_or(|known| known == algorithm);
    if !is_known || !may_sign || !same_algorithm {
        return None;
    }
    DecodingKey::from_jwk(key).ok().filter(|key| signature::algorithm(key).is_some())
}

impl Jwks {
    pub(super) fn new(config: &Jwt) -> Result<Self> {
        let place = if config.jwks_url.is_empty() {
            Place::Discovery(url(&format!("{}{DISCOVERY}", config.issuer.trim_end_matches('/')), "jwt.issuer")?)
        } else {
            Place::Keys(url(&config.jwks_url, "jwt.jwks_url")?)
        };
        // reqwest takes the process's, which may be there already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let (Place::Keys(first) | Place::Discovery(first)) = &place;
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(config.fetch_timeout)
            .timeout(config.fetch_timeout);
        if is_loopback(first) {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| Error::precondition(format!("cannot fetch keys: {error}")).with_source(error))?;
        Ok(Self {
            config: config.clone(),
            place,
            client,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// The key of an id.
    ///
    /// # Errors
    /// `Unauthenticated` when the issuer has no such key; `Unavailable` when it has never given any.
    pub(super) async fn key(&self, id: Option<&str>, now: Instant) -> Result<Arc<DecodingKey>> {
        let (found, old) = self.find(id, now);
        match found {
            Some(key) if !old => return Ok(key),
            // Another call fetches them already, and this one goes on with what there is.
            Some(key) if self.fetching.try_lock().is_err() => return Ok(key),
            _ => {}
        }
        let fetching = self.fetching.lock().await;
        let (found, old) = self.find(id, now);
        let may_fetch =
            self.lock().tried.is_none_or(|tried| now.saturating_duration_since(tried) >= self.config.keys_refetch);
        if (found.is_none() || old) && may_fetch {
            self.lock().tried = Some(now);
            match self.fetch().await {
                Ok(keys) => {
                    tracing::info!(keys = keys.0.len(), issuer = self.config.issuer, "the issuer's keys were fetched");
                    let mut state = self.lock();
                    state.keys = Arc::new(keys);
                    state.fetched = Some(now);
                }
                Err(error) => {
                    tracing::warn!(%error, issuer = self.config.issuer, "the issuer's keys cannot be fetched, and stay as they were");
                }
            }
        }
        drop(fetching);
        self.find(id, now).0.ok_or_else(|| {
            if self.lock().fetched.is_none() {
                Error::new(
                    ErrorKind::Unavailable,
                    "the keys of the token's issuer cannot be fetched now: try again later",
                )
            } else {
                Error::new(ErrorKind::Unauthenticated, "the token is not valid: its issuer has no such key")
            }
        })
    }

    /// Whether `key` is one of the issuer's, by keys that are not old.
    pub(super) fn has(&self, key: &Arc<DecodingKey>, now: Instant) -> bool {
        let state = self.lock();
        !self.is_old(&state, now) && state.keys.0.iter().any(|(_, known)| Arc::ptr_eq(known, key))
    }

    fn find(&self, id: Option<&str>, now: Instant) -> (Option<Arc<DecodingKey>>, bool) {
        let state = self.lock();
        (state.keys.find(id), self.is_old(&state, now))
    }

    fn is_old(&self, state: &State, now: Instant) -> bool {
        state.fetched.is_none_or(|at| now.saturating_duration_since(at) >= self.config.keys_expire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Keys> {
        let place = match &self.place {
            Place::Keys(place) => place.clone(),
            Place::Discovery(discovery) => self.discover(discovery).await?,
        };
        Keys::parse(&self.get(place).await?, self.config.keys_max)
    }

    async fn discover(&self, discovery: &Url) -> Result<Url> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let document: Document = serde_json::from_slice(&self.get(discovery.clone()).await?)
            .map_err(|_| Error::invalid("the answer is no document of OpenID's discovery"))?;
        if document.issuer != self.config.issuer {
            return Err(Error::invalid(format!("it says that it is the issuer {:?}", document.issuer)));
        }
        url(&document.jwks_uri, "jwks_uri")
    }

    /// What is at `place`, as far as `jwt.response_bytes_max` goes.
    async fn get(&self, place: Url) -> Result<Vec<u8>> {
        let failed = |error: reqwest::Error| Error::new(ErrorKind::Unavailable, error.to_string()).with_source(error);
        let response = self.client.get(place.clone()).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(Error::new(ErrorKind::Unavailable, format!("{place} answers {}", response.status())));
        }
        let bytes_max = usize::try_from(self.config.response_bytes_max.as_u64()).unwrap_or(usize::MAX);
        let (mut response, mut bytes) = (response, Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(Error::exhausted(format!(
                    "{place} answers more than {bytes_max} bytes (jwt.response_bytes_max)"
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// A URL that cannot be listened in on.
fn url(text: &str, name: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| Error::invalid(format!("`{name}` = {text} is no URL: {error}")))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(Error::invalid(format!(
            "`{name}` = {text} is not https, which only an issuer on this machine need not be"
        ))),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_set_only_public_keys_of_our_algorithms_are_taken() {
        let set = serde_json::json!({ "keys": [
            { "kty": "EC", "kid": "ec", "crv": "P-256", "x": "AAAA", "y": "AAAA", "use": "sig" },
            { "kty": "EC", "kid": "other curve", "crv": "P-384", "x": "AAAA", "y": "AAAA" },
            { "kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB", "alg": "RS256" },
            { "kty": "RSA", "kid": "other algorithm", "n": "AQAB", "e": "AQAB", "alg": "RS512" },
            { "kty": "RSA", "kid": "to encrypt", "n": "AQAB", "e": "AQAB", "use": "enc" },
            { "kty": "oct", "kid": "no secret", "k": "AQAB" },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": "AQAB" },
            { "kty": "something new" },
            7,
        ] });
        let text = serde_json::to_vec(&set).unwrap();
        let keys = Keys::parse(&text, 9).unwrap();
        let ids: Vec<_> = keys.0.iter().map(|(id, _)| id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["ec", "rsa"]);
        assert!(keys.find(Some("ec")).is_some() && keys.find(Some("ed")).is_none() && keys.find(None).is_none());
        assert!(Keys::parse(&text, 8).unwrap_err().message().contains("jwt.keys_max"));
        assert!(Keys::parse(b"{}", 8).is_err() && Keys::parse(b"<html>", 8).is_err());
    }

    #[test]
    fn issuers_elsewhere_are_asked_over_https_only() {
        for good in ["https://id.example/x", "http://127.0.0.1:1", "http://[::1]:1/", "http://localhost/"] {
            assert!(url(good, "jwt.issuer").is_ok(), "{good}");
        }
        for bad in ["http://id.example", "http://127.0.0.1.example", "http://10.0.0.1", "file:///etc/passwd", "id", ""]
        {
            assert!(url(bad, "jwt.issuer").is_err(), "{bad}");
        }
    }
}
