//! Who calls, in which session: the credentials and the session of every call are read here, before anything else sees it.
//!
//! A session is named by a token that the server has signed, and a client carries it as its Bearer token or as a cookie;
//! never by the address of a connection, which a proxy may share. A call without one is offered one in its answer's headers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use arrow::datatypes::DataType;
use jiff::Timestamp;
use tonic::body::Body;
use tonic::codegen::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE, USER_AGENT};
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower::Service;
use uuid::Uuid;

use super::arriving::Arrivals;
use super::{body, observe, status};
use crate::access::{Authority, ClientCertificate, Credentials, Now, Principal};
use crate::engine::SessionKey;
use crate::error::Result;

/// The cookie that names the session.
const COOKIE_NAME: &str = "merganser_session";

/// Who calls, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Who it is.
    pub(super) principal: Arc<Principal>,
    /// The session that the call is in.
    pub(super) session: Option<SessionKey>,
    /// The session that its answer offers, when it is in none.
    pub(super) offered: Option<SessionKey>,
    /// The token of its session, or of the one that it is offered.
    pub(super) token: Arc<str>,
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
}

/// Who makes a request.
///
/// # Errors
/// What [`Authority::identify`] says.
async fn caller(authority: &Authority, request: &Request<()>, now: Now) -> Result<Caller> {
    let (headers, extensions) = (request.headers(), request.extensions());
    let authorization = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let address = observe::peer(extensions).map(|address| address.ip());
    let certificate = extensions.get::<ClientCertificate>();
    let identity = authority.identify(Credentials { authorization, certificate, address }, now).await?;
    // The session of the credentials, else that of a cookie, which proves nothing by itself.
    let named = match (identity.session, authorization) {
        (Some(session), Some(authorization)) => authorization.split_once(' ').map(|(_, token)| (session, token.trim())),
        _ => cookies(headers).find_map(|token| Some((authority.session_of(token, &identity, now)?, token))),
    };
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (session, offered, token) = if let Some((session, token)) = named {
        (Some(key(session)), None, token.into())
    } else {
        let session = Uuid::new_v4();
        (None, Some(key(session)), authority.issue(&identity, session, now).into())
    };
    Ok(Caller {
        principal: identity.principal,
        session,
        offered,
        token,
        has_basic: authorization
            .is_some_and(|text| text.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("basic "))),
        is_jdbc: agent.contains("JDBC Flight SQL Driver"),
    })
}

/// What the engine calls a session. It is no secret, as the token is.
fn key(session: Uuid) -> SessionKey {
    (&*session.simple().encode_lower(&mut Uuid::encode_buffer())).into()
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
    arrivals: Arrivals,
}

impl<S> std::fmt::Debug for Authenticated<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticated").finish_non_exhaustive()
    }
}

impl<S> Authenticated<S> {
    pub(super) fn new(inner: S, authority: Authority, arrivals: Arrivals) -> Self {
        Self { inner, authority, arrivals }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (authority, arrivals) = (self.authority.clone(), self.arrivals.clone());
        Box::pin(async move {
            // A body is not to be shared between threads, and this future is.
            let (head, body) = request.into_parts();
            let head = Request::from_parts(head, ());
            let caller = match caller(&authority, &head, Now { time: Timestamp::now(), instant: Instant::now() }).await
            {
                Ok(caller) => caller,
                Err(error) => return Ok(status::from_error(error).into_http()),
            };
            observe::set_user(&caller.principal.name);
            let offered = caller.offered.is_some().then(|| Arc::clone(&caller.token));
            let body = arrivals.watch(head.uri().path(), body);
            let mut request = Request::from_parts(head.into_parts().0, body);
            request.extensions_mut().insert(caller);
            let mut response = body::replace(inner.call(request).await?);
            if let Some(token) = offered {
                offer(response.headers_mut(), &token);
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::config::{Auth, Config, Environment};
    use crate::error::ErrorKind;

    fn request(authorization: Option<&str>, cookie: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in [(AUTHORIZATION, authorization), (COOKIE, cookie)] {
            if let Some(value) = value {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
        }
        request
    }

    fn authority(password: &str) -> Authority {
        let auth = Auth { user: "alice".into(), password: password.into(), ..Auth::default() };
        Authority::open(&Config { auth, ..Config::default() }, &Environment::default()).unwrap()
    }

    fn call(authority: &Authority, authorization: Option<&str>, cookie: Option<&str>) -> Result<Caller> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let now = Now { time: Timestamp::now(), instant: Instant::now() };
        runtime.block_on(caller(authority, &request(authorization, cookie), now))
    }

    #[test]
    fn a_session_is_offered_and_known_again() {
        let basic = format!("Basic {}", BASE64_STANDARD.encode("alice:a:b="));
        for (authority, credentials) in [(authority(""), None), (authority("a:b="), Some(basic.as_str()))] {
            let first = call(&authority, credentials, None).unwrap();
            let (offered, token) = (first.offered.unwrap(), first.token);
            assert!(first.session.is_none() && !token.contains(&*offered));
            let cookie = format!("a=b; {COOKIE_NAME}={token}");
            for (authorization, cookie) in [
                (Some(format!("Bearer {token}")), None),
                (Some(format!("bearer {token}")), Some("merganser_session=x")),
                (credentials.map(str::to_owned), Some(cookie.as_str())),
            ] {
                let caller = call(&authority, authorization.as_deref(), cookie).unwrap();
                assert_eq!((caller.session.as_ref(), caller.offered, &caller.token), (Some(&offered), None, &token));
            }
        }
    }

    #[test]
    fn a_cookie_names_a_session_and_proves_nothing() {
        let closed = authority("secret");
        let basic = format!("Basic {}", BASE64_STANDARD.encode("alice:secret"));
        let token = call(&closed, Some(&basic), None).unwrap().token;
        let foreign = call(&authority("secret"), Some(&basic), None).unwrap().token;
        let cookie = format!("{COOKIE_NAME}={token}");
        let bearer = format!("Bearer {foreign}");
        for (authorization, cookie) in
            [(None, None), (None, Some(cookie.as_str())), (Some(bearer.as_str()), Some(&cookie))]
        {
            assert_eq!(call(&closed, authorization, cookie).unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
        // On an open server it is a credential that nobody checks, and no session.
        let caller = call(&authority(""), Some(&bearer), None).unwrap();
        assert!(caller.session.is_none() && caller.offered.is_some());
    }
}
