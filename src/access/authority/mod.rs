//! Who calls: credentials in, a principal out.
//!
//! A call that brings what was seen before, a session's token or credentials that were verified lately, costs a signature and two
//! look-ups. Everything is looked up in the users file as it is now, so that who is removed from it is gone.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use lru::LruCache;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::attempts::Attempts;
use super::directory::{Directory, Known, KnownUser};
use super::jwt::{Issued, Issuer};
use super::key::{Key, SIGNATURE_BYTES};
use super::password::{self, Hash};
use super::session_token::{Claims, Who};
use super::users::{User, check_name};
use super::{ClientCertificate, Principal, Role, api_token};
use crate::config::{Auth, Config, Environment};
use crate::error::{Error, ErrorKind, Result};

/// Go's driver leaves the padding out.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The time of a call, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what is in files and tokens.
    pub time: Timestamp,
    /// For what is in memory.
    pub instant: Instant,
}

/// What a call brings to tell who it is from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The header `authorization`.
    pub authorization: Option<&'a str>,
    /// The client's certificate.
    pub certificate: Option<&'a ClientCertificate>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// Who calls, and the session that the credentials themselves name.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// The session.
    pub session: Option<Uuid>,
    who: Who,
}

/// Knows who calls; cheap to clone.
#[derive(Clone, Debug)]
pub struct Authority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Auth,
    key: Key,
    directory: Directory,
    issuer: Option<Issuer>,
    attempts: Attempts,
    /// `auth.verifications_max` of them.
    verifying: Arc<Semaphore>,
    /// `auth.verified_max` of them.
    verified: Mutex<LruCache<[u8; SIGNATURE_BYTES], Verified>>,
}

/// What was found out about credentials.
#[derive(Clone, Debug)]
struct Verified {
    at: Instant,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// The password was that of the user with this stamp.
    Password(u64),
    Token(Issued),
}

impl Authority {
    /// Reads the users file and the keys that are configured.
    ///
    /// # Errors
    /// What is wrong with them; `NotFound` when the configured users file is not there.
    pub fn open(config: &Config, environment: &Environment) -> Result<Self> {
        let auth = &config.auth;
        let configured = if auth.password.is_empty() { None } else { Some(configured(auth)?) };
        let key = Key::random()?;
        let required = !auth.users_file.as_os_str().is_empty();
        let directory = Directory::open(key.clone(), auth.users_path(environment), required, configured)?;
        password::prepare();
        Ok(Self(Arc::new(Inner {
            key,
            directory,
            issuer: Issuer::open(&config.jwt)?,
            attempts: Attempts::new(auth),
            verifying: Arc::new(Semaphore::new(auth.verifications_max)),
            verified: Mutex::new(LruCache::new(NonZeroUsize::new(auth.verified_max).unwrap_or(NonZeroUsize::MIN))),
            config: auth.clone(),
        })))
    }

    /// Whether callers are asked who they are: there is a users file, a configured user or an issuer of JWTs.
    pub fn asks(&self, now: Instant) -> bool {
        self.0.issuer.is_some() || self.0.directory.known(now).asks
    }

    /// Who calls.
    ///
    /// # Errors
    /// `Unauthenticated` for credentials that are missing or wrong, `ResourceExhausted` for too many attempts, and what
    /// the issuer of JWTs says.
    pub async fn identify(&self, credentials: Credentials<'_>, now: Now) -> Result<Identity> {
        let known = self.0.directory.known(now.instant);
        if self.0.issuer.is_none() && !known.asks {
            let claims = credentials.authorization.and_then(bearer).and_then(|token| self.claims(token, now));
            let session = claims.filter(|claims| claims.who == Who::Open).map(|claims| claims.session);
            return Ok(Identity { principal: Arc::new(Principal::anonymous()), session, who: Who::Open });
        }
        let certified = match credentials.certificate {
            Some(certificate) => Some(certified(&known, certificate)?),
            None => None,
        };
        let given = match credentials.authorization {
            Some(text) => Some(self.check(text, credentials.address, &known, now).await?),
            None => None,
        };
        match (certified, given) {
            (None, None) => {
                Err(unauthenticated("the server wants to know who calls: send a user and a password, or a token"))
            }
            (Some(identity), None) | (None, Some(identity)) => Ok(identity),
            (Some(certified), Some(given)) if certified.who.is_same(&given.who) => Ok(given),
            (Some(_), Some(_)) => Err(unauthenticated("the certificate and the credentials are of different users")),
        }
    }

    /// The session of a token that comes beside the caller's credentials, as a cookie: only if it is the caller's own.
    pub fn session_of(&self, token: &str, identity: &Identity, now: Now) -> Option<Uuid> {
        let claims = self.claims(token, now)?;
        let known = self.0.directory.known(now.instant);
        // Who was let in without a name is on an open server.
        let may = || identity.who == Who::Open || resume(&claims, &known, now).is_some();
        (claims.who.is_same(&identity.who) && may()).then_some(claims.session)
    }

    /// A token for a session of the caller's, new or its own.
    pub fn issue(&self, identity: &Identity, session: Uuid, now: Now) -> String {
        let lifetime = i64::try_from(self.0.config.session_token_expire.as_secs()).unwrap_or(i64::MAX);
        let latest = match &identity.who {
            Who::Issued { expires, .. } => *expires,
            Who::ApiToken { id, .. } => {
                let known = self.0.directory.known(now.instant);
                known.token_expires(id).map_or(i64::MAX, Timestamp::as_second)
            }
            Who::Open | Who::User { .. } => i64::MAX,
        };
        let expires = now.time.as_second().saturating_add(lifetime).min(latest);
        Claims { session, expires, who: identity.who.clone() }.sign(&self.0.key)
    }

    fn claims(&self, token: &str, now: Now) -> Option<Claims> {
        Claims::verify(&self.0.key, token, now.time)
    }

    async fn check(&self, authorization: &str, address: Option<IpAddr>, known: &Known, now: Now) -> Result<Identity> {
        if let Some(token) = bearer(authorization) {
            return self.check_bearer(token, known, now).await;
        }
        let Some(basic) = without_prefix(authorization, "basic ") else {
            return Err(unauthenticated("the header `authorization` is neither Basic nor Bearer"));
        };
        let decoded = BASIC.decode(basic.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((name, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(unauthenticated("the Basic credentials cannot be read"));
        };
        self.check_password(name, password, address, known, now).await
    }

    async fn check_bearer(&self, token: &str, known: &Known, now: Now) -> Result<Identity> {
        if let Some((id, secret)) = api_token::parse(token) {
            let user = known.check_token(id, secret, now.time)?;
            let who = Who::ApiToken { name: user.principal.name.to_string(), id: id.to_owned() };
            return Ok(Identity { principal: Arc::clone(&user.principal), session: None, who });
        }
        if let Some(issuer) = self.0.issuer.as_ref().filter(|_| token.contains('.')) {
            return self.check_issued(issuer, token, now).await;
        }
        let claims = self.claims(token, now);
        let resumed = claims.and_then(|claims| Some((resume(&claims, known, now)?, claims)));
        match resumed {
            Some((principal, claims)) => Ok(Identity { principal, session: Some(claims.session), who: claims.who }),
            None => Err(unauthenticated(
                "the token is not valid: it has expired, its user has changed, or it was not issued by this server since its start",
            )),
        }
    }

    async fn check_issued(&self, issuer: &Issuer, token: &str, now: Now) -> Result<Identity> {
        let name = self.0.key.sign(&[b"jwt", token.as_bytes()]);
        let said = match self.verified(&name, now.instant) {
            Some(What::Token(said)) if issuer.is_still_good(&said, now.time.as_second(), now.instant) => said,
            _ => {
                let said = issuer.verify(token, now.instant).await?;
                self.remember(name, What::Token(said.clone()), now.instant);
                said
            }
        };
        let Principal { name, role, grants } = &*said.principal;
        let who = Who::Issued { name: name.to_string(), role: *role, grants: grants.to_vec(), expires: said.expires };
        Ok(Identity { principal: said.principal, session: None, who })
    }

    async fn check_password(
        &self,
        name: &str,
        password: &str,
        address: Option<IpAddr>,
        known: &Known,
        now: Now,
    ) -> Result<Identity> {
        let credentials = self.0.key.sign(&[b"password", name.as_bytes(), password.as_bytes()]);
        let user = known.user(name);
        let remembered = || {
            let user = user?;
            let is_same =
                matches!(self.verified(&credentials, now.instant), Some(What::Password(stamp)) if stamp == user.stamp);
            is_same.then(|| of_user(user))
        };
        if let Some(identity) = remembered() {
            return Ok(identity);
        }
        // All that come from nowhere share their attempts.
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.0.attempts.check(address, name, now.instant).map_err(too_many)?;
        // As many wait here as there are calls, which `server.calls_per_connection_max` bounds.
        let permit = Arc::clone(&self.0.verifying).acquire_owned();
        let permit = tokio::time::timeout(self.0.config.verifications_wait, permit).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Error::exhausted(
                "too many passwords are being verified (auth.verifications_wait): try again later",
            ));
        };
        // A client's calls come together, and the first one is enough.
        if let Some(identity) = remembered() {
            return Ok(identity);
        }
        self.0.attempts.take(address, name, now.instant).map_err(too_many)?;
        let hash: Option<Hash> = user.and_then(|user| user.hash.clone());
        let given = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || {
            let verified = password::verify(hash.as_ref(), &given);
            // The permit goes with the work, and not with a call that was given up.
            drop(permit);
            verified
        });
        let verified = verified.await.map_err(|error| Error::internal("verifying failed").with_source(error))?;
        match user {
            Some(user) if verified => {
                self.0.attempts.succeeded(address, name);
                self.remember(credentials, What::Password(user.stamp), now.instant);
                Ok(of_user(user))
            }
            // What a client calls itself may be its password: only names that are known get into the log.
            _ => {
                let known = user.map(|user| &*user.principal.name);
                tracing::info!(%address, user = known, "a sign-in has failed");
                Err(unauthenticated("the user or the password is wrong"))
            }
        }
    }

    fn verified(&self, name: &[u8; SIGNATURE_BYTES], now: Instant) -> Option<What> {
        let mut verified = self.0.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let found = verified.get(name)?;
        let is_old = now.saturating_duration_since(found.at) >= self.0.config.verified_expire;
        (!is_old).then(|| found.what.clone())
    }

    fn remember(&self, name: [u8; SIGNATURE_BYTES], what: What, at: Instant) {
        self.0.verified.lock().unwrap_or_else(PoisonError::into_inner).put(name, Verified { at, what });
    }
}

/// Who a session's token is of, if they may still use it.
fn resume(claims: &Claims, known: &Known, now: Now) -> Option<Arc<Principal>> {
    match &claims.who {
        Who::Open => None,
        Who::User { name, stamp } => {
            let user = known.user(name).filter(|user| user.stamp == *stamp)?;
            Some(Arc::clone(&user.principal))
        }
        Who::ApiToken { name, id } => {
            let user = known.token_user(id, now.time).filter(|user| *user.principal.name == **name)?;
            Some(Arc::clone(&user.principal))
        }
        Who::Issued { name, role, grants, expires } => (now.time.as_second() < *expires)
            .then(|| Arc::new(Principal::new(name.as_str(), *role).with_grants(grants.clone()))),
    }
}

/// The user that the configuration names.
fn configured(auth: &Auth) -> Result<User> {
    // It may be empty, as before there were others.
    if !auth.user.is_empty() {
        check_name(&auth.user)?;
    }
    Ok(User {
        name: auth.user.clone(),
        role: Role::Admin,
        grants: Vec::new(),
        created: Timestamp::UNIX_EPOCH,
        password: Some(Hash::of(&auth.password)?),
    })
}

fn certified(known: &Known, certificate: &ClientCertificate) -> Result<Identity> {
    let name = &certificate.name;
    let user = known.user(name);
    user.map(of_user)
        .ok_or_else(|| unauthenticated(&format!("the certificate is of {name:?}, and there is no such user")))
}

fn of_user(user: &KnownUser) -> Identity {
    let who = Who::User { name: user.principal.name.to_string(), stamp: user.stamp };
    Identity { principal: Arc::clone(&user.principal), session: None, who }
}

fn bearer(authorization: &str) -> Option<&str> {
    without_prefix(authorization, "bearer ").map(str::trim)
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn unauthenticated(why: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, why)
}

fn too_many(wait: Duration) -> Error {
    let seconds = wait.as_secs() + 1;
    Error::exhausted(format!("too many attempts to sign in have failed (auth.attempts_max): try again in {seconds} s"))
}

#[cfg(test)]
mod tests;
