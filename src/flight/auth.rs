//! Who calls, in which session: the credentials and the session of every call are read here, before anything else sees it.
//!
//! A session is named by a token that the server has signed, and a client carries it as its Bearer token or as a cookie;
//! never by the address of a connection, which a proxy may share. A call without one is offered one in its answer's headers.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::DataType;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures::future::{Either, Ready, ready};
use futures::{FutureExt, future::Map};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tonic::body::Body;
use tonic::codegen::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE, USER_AGENT};
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower::Service;
use uuid::Uuid;

use super::{body, observe, status};
use crate::access::{Principal, Role};
use crate::config::Auth;
use crate::engine::SessionKey;
use crate::error::{Error, ErrorKind, Result};

/// The cookie that names the session.
const COOKIE_NAME: &str = "merganser_session";

/// Bytes of a token: a random UUID and its signature.
const ID_BYTES: usize = 16;
const TOKEN_BYTES: usize = 48;

/// Go's driver leaves the padding out.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who calls, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Who it is.
    pub(super) principal: Arc<Principal>,
    /// The session that the call is in.
    pub(super) session: Option<SessionKey>,
    /// The session that its answer offers, when it is in none.
    pub(super) offered: Option<SessionKey>,
    /// Whether the call has Basic credentials.
    pub(super) has_basic: bool,
    /// Whether it is the JDBC driver, which cannot bind anything to a parameter of type Null.
    is_jdbc: bool,
}

impl Caller {
    /// The type to declare for a parameter that may have any.
    pub(super) fn open_type(&self) -> DataType {
        if self.is_jdbc { DataType::Utf8 } else { DataType::Null }
    }

    /// The token of its session, or of the one that it is offered.
    pub(super) fn token(&self) -> Option<&SessionKey> {
        self.session.as_ref().or(self.offered.as_ref())
    }
}

/// Checks credentials, and issues and checks the tokens of sessions.
#[derive(Clone)]
pub(super) struct Authority(Arc<Inner>);

struct Inner {
    /// The user who may call; none: everybody.
    user: Option<(String, String)>,
    /// Of this process: a session does not outlive it.
    key: [u8; 32],
}

impl Authority {
    pub(super) fn new(auth: &Auth) -> Self {
        let user = (!auth.password.is_empty()).then(|| (auth.user.clone(), auth.password.clone()));
        let mut key = [0; 32];
        for half in key.chunks_mut(ID_BYTES) {
            half.copy_from_slice(Uuid::new_v4().as_bytes());
        }
        Self(Arc::new(Inner { user, key }))
    }

    /// Who calls.
    ///
    /// # Errors
    /// `Unauthenticated` for credentials that are missing or wrong.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller> {
        let authorization = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        let bearer =
            authorization.and_then(|text| without_prefix(text, "bearer ")).and_then(|token| self.verify(token));
        self.check_credentials(authorization, bearer.is_some())?;
        let session = bearer.or_else(|| cookies(headers).find_map(|token| self.verify(token)));
        let offered = session.is_none().then(|| self.issue());
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let has_basic = authorization.is_some_and(|text| without_prefix(text, "basic ").is_some());
        let principal = Arc::new(match &self.0.user {
            Some((name, _)) => Principal::new(name.as_str(), Role::Admin),
            None => Principal::anonymous(),
        });
        Ok(Caller { principal, session, offered, has_basic, is_jdbc: agent.contains("JDBC Flight SQL Driver") })
    }

    fn check_credentials(&self, authorization: Option<&str>, has_token: bool) -> Result<()> {
        let Some((user, password)) = &self.0.user else { return Ok(()) };
        if has_token {
            return Ok(());
        }
        let unauthenticated = |why: &str| Err(Error::new(ErrorKind::Unauthenticated, why));
        let Some(authorization) = authorization else {
            return unauthenticated(
                "the server wants a user and a password: send Basic credentials, or sign in with a Handshake",
            );
        };
        let Some(basic) = without_prefix(authorization, "basic ") else {
            return unauthenticated(
                "the token is not valid: it was not issued by this server, or before it was restarted",
            );
        };
        let decoded = BASIC.decode(basic.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((given_user, given_password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return unauthenticated("the Basic credentials cannot be read");
        };
        // Both are compared, and in constant time.
        let (same_user, same_password) = (self.is_same(given_user, user), self.is_same(given_password, password));
        if same_user & same_password { Ok(()) } else { unauthenticated("the user or the password is wrong") }
    }

    fn is_same(&self, given: &str, known: &str) -> bool {
        self.mac(known.as_bytes()).verify_slice(&self.mac(given.as_bytes()).finalize().into_bytes()).is_ok()
    }

    /// A token that no session has yet.
    fn issue(&self) -> SessionKey {
        let id = Uuid::new_v4();
        let mut token = id.as_bytes().to_vec();
        token.extend(self.mac(id.as_bytes()).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(token).into()
    }

    /// The session of a token, if the token is one of ours.
    fn verify(&self, token: &str) -> Option<SessionKey> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == TOKEN_BYTES)?;
        let (id, signature) = bytes.split_at(ID_BYTES);
        self.mac(id).verify_slice(signature).ok().map(|()| token.into())
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0.key).expect("a key of any length is good");
        mac.update(bytes);
        mac
    }
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The values of our cookie.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value.trim_matches('"'))
    })
}

/// The headers that offer a session.
fn offer(headers: &mut HeaderMap, token: &str) {
    let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict");
    for (name, value) in [(AUTHORIZATION, format!("Bearer {token}")), (SET_COOKIE, cookie)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// A service that knows who calls: the caller is in each request's extensions.
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    authority: Authority,
}

impl<S> std::fmt::Debug for Authenticated<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticated").finish_non_exhaustive()
    }
}

impl<S> Authenticated<S> {
    pub(super) fn new(inner: S, authority: Authority) -> Self {
        Self { inner, authority }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

type Finish<E> = Box<dyn FnOnce(Result<Response<Body>, E>) -> Result<Response<Body>, E> + Send>;

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<Body>, S::Error>>, Map<S::Future, Finish<S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let caller = match self.authority.caller(request.headers()) {
            Ok(caller) => caller,
            Err(error) => return Either::Left(ready(Ok(status::from_error(error).into_http()))),
        };
        observe::set_user(&caller.principal.name);
        let offered = caller.offered.clone();
        request.extensions_mut().insert(caller);
        let finish: Finish<S::Error> = Box::new(move |response| {
            response.map(|response| {
                let mut response = body::replace(response);
                if let Some(token) = offered {
                    offer(response.headers_mut(), &token);
                }
                response
            })
        });
        Either::Right(self.inner.call(request).map(finish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: Option<&str>, cookie: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(AUTHORIZATION, authorization), (COOKIE, cookie)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    }

    fn authority(password: &str) -> Authority {
        Authority::new(&Auth { user: "alice".into(), password: password.into() })
    }

    #[test]
    fn an_open_server_offers_a_session_and_knows_it_again() {
        let open = authority("");
        let token = open.caller(&headers(None, None)).unwrap().offered.unwrap();
        for (authorization, cookie) in [
            (Some(format!("Bearer {token}")), None),
            (Some(format!("bearer {token}")), None),
            (None, Some(format!("a=b; {COOKIE_NAME}={token}"))),
            (Some("Basic x".to_owned()), Some(format!("{COOKIE_NAME}={token}"))),
        ] {
            let caller = open.caller(&headers(authorization.as_deref(), cookie.as_deref())).unwrap();
            assert_eq!((caller.session.as_deref(), caller.offered), (Some(&*token), None));
        }
        // A token of another server's is a credential that nobody checks, and no session.
        let foreign = authority("").issue();
        let caller = open.caller(&headers(Some(&format!("Bearer {foreign}")), None)).unwrap();
        assert!(caller.session.is_none() && caller.offered.is_some());
    }

    #[test]
    fn credentials_are_checked_where_a_password_is_set() {
        let closed = authority("a:b=");
        let padded = base64::engine::general_purpose::STANDARD.encode("alice:a:b=");
        for good in [padded.as_str(), padded.trim_end_matches('=')] {
            assert!(closed.caller(&headers(Some(&format!("Basic {good}")), None)).is_ok());
        }
        let token = closed.issue();
        assert!(closed.caller(&headers(Some(&format!("Bearer {token}")), None)).is_ok());
        let wrong = base64::engine::general_purpose::STANDARD.encode("alice:a");
        let foreign = authority("a:b=").issue();
        for bad in [
            headers(None, None),
            // A cookie names a session, and proves nothing.
            headers(None, Some(&format!("{COOKIE_NAME}={token}"))),
            headers(Some(&format!("Basic {wrong}")), None),
            headers(Some("Basic %"), None),
            headers(Some(&format!("Bearer {foreign}")), None),
        ] {
            assert_eq!(closed.caller(&bad).unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
    }
}
