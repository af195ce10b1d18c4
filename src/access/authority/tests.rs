//! Who gets in with what, and whose sessions are whose.

use std::path::PathBuf;

use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::access::api_token::NewToken;
use crate::access::users::{ApiToken, Users};

/// A server's authority over a users file that a test may change.
struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
    authority: Authority,
    start: Now,
}

fn user(name: &str, role: Role, password: &str) -> User {
    let password = (!password.is_empty()).then(|| Hash::of(password).unwrap());
    User { name: name.to_owned(), role, grants: Vec::new(), created: Timestamp::UNIX_EPOCH, password }
}

fn place(auth: Auth) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    Users::edit(&path, |users| {
        users.add(user("ann", Role::Writer, "apple"))?;
        users.add(user("bob", Role::Reader, "berry"))
    })
    .unwrap();
    let config = Config { auth: Auth { users_file: path.clone(), ..auth }, ..Config::default() };
    let authority = Authority::open(&config, &Environment::default()).unwrap();
    Place { _folder: folder, path, authority, start: Now { time: Timestamp::now(), instant: Instant::now() } }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

impl Place {
    /// So many seconds after the start.
    fn at(&self, seconds: u64) -> Now {
        let passed = Duration::from_secs(seconds);
        Now { time: self.start.time + passed, instant: self.start.instant + passed }
    }

    fn identify(&self, authorization: &str, seconds: u64) -> Result<Identity> {
        self.with_certificate(Some(authorization), None, seconds)
    }

    fn with_certificate(&self, authorization: Option<&str>, certificate: Option<&str>, at: u64) -> Result<Identity> {
        let certificate = certificate.map(|name| ClientCertificate { name: name.into() });
        let credentials = Credentials { authorization, certificate: certificate.as_ref(), address: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.authority.identify(credentials, self.at(at)))
    }

    /// The user whom `authorization` signs in.
    fn name(&self, authorization: &str, seconds: u64) -> Result<String> {
        self.identify(authorization, seconds).map(|identity| identity.principal.name.to_string())
    }

    fn edit(&self, change: impl FnOnce(&mut Users) -> Result<()>) {
        Users::edit(&self.path, change).unwrap();
    }
}

fn refused(result: Result<impl std::fmt::Debug>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    error.message().to_owned()
}

#[test]
fn a_password_lets_in_until_it_changes() {
    let place = place(Auth::default());
    let (ann, wrong) = (basic("ann", "apple"), refused(place.name(&basic("ann", "berry"), 0)));
    assert_eq!(place.name(&ann, 0).unwrap(), "ann");
    assert_eq!(place.name(ann.trim_end_matches('='), 0).unwrap(), "ann");
    // Nothing tells which of both was wrong.
    assert_eq!(refused(place.name(&basic("zoe", "apple"), 0)), wrong);
    assert_eq!(refused(place.name(&basic("ann", ""), 0)), wrong);
    for bad in ["Basic %", "Basic YQ==", "Digest x", "", "Basic"] {
        refused(place.name(bad, 0));
    }
    refused(place.with_certificate(None, None, 0));
    // What was verified before is forgotten with the password.
    place.edit(|users| {
        users.user_mut("ann")?.password = Some(Hash::of("other")?);
        Ok(())
    });
    assert_eq!(refused(place.name(&ann, 2)), wrong);
    assert_eq!(place.name(&basic("ann", "other"), 2).unwrap(), "ann");
    place.edit(|users| users.remove("ann"));
    assert_eq!(refused(place.name(&basic("ann", "other"), 4)), wrong);
}

#[test]
fn a_session_is_its_users_own_and_ends_with_them() {
    let place = place(Auth { session_token_expire: Duration::from_secs(100), ..Auth::default() });
    let sign_in = |name: &str, password: &str| place.identify(&basic(name, password), 0).unwrap();
    let (ann, bob) = (sign_in("ann", "apple"), sign_in("bob", "berry"));
    let session = Uuid::new_v4();
    let token = place.authority.issue(&ann, session, place.at(0));
    let bearer = format!("Bearer {token}");
    let resumed = place.identify(&bearer, 0).unwrap();
    assert_eq!((&*resumed.principal.name, resumed.session), ("ann", Some(session)));
    let own = |identity: &Identity, at| place.authority.session_of(&token, identity, place.at(at));
    assert_eq!((own(&ann, 0), own(&bob, 0)), (Some(session), None));

    // A new role counts at once, and so does the end.
    place.edit(|users| {
        users.user_mut("ann")?.role = Role::Reader;
        Ok(())
    });
    assert_eq!(place.identify(&bearer, 2).unwrap().principal.role, Role::Reader);
    place.edit(|users| users.remove("ann"));
    refused(place.name(&bearer, 4));
    assert_eq!(own(&ann, 4), None);
    // The next one of the name is another one.
    place.edit(|users| users.add(User { created: Timestamp::MAX, ..user("ann", Role::Admin, "apple") }));
    refused(place.name(&bearer, 6));

    let bobs = format!("Bearer {}", place.authority.issue(&bob, session, place.at(6)));
    assert_eq!(place.name(&bobs, 105).unwrap(), "bob");
    refused(place.name(&bobs, 106));
}

#[test]
fn an_api_token_lets_in_until_it_is_revoked() {
    let place = place(Auth::default());
    let new = NewToken::random().unwrap();
    let token = ApiToken {
        id: new.id.clone(),
        user: "bob".into(),
        name: String::new(),
        created: Timestamp::now(),
        expires: Some(place.at(50).time),
        sha256: new.sha256.clone(),
    };
    place.edit(|users| {
        users.tokens.push(token);
        Ok(())
    });
    let api_token = format!("Bearer {}", new.text);
    let identity = place.identify(&api_token, 2).unwrap();
    let session = format!("Bearer {}", place.authority.issue(&identity, Uuid::new_v4(), place.at(2)));
    assert_eq!((place.name(&api_token, 49).unwrap(), place.name(&session, 49).unwrap()), ("bob".into(), "bob".into()));
    refused(place.name(&api_token, 50));
    refused(place.name(&session, 50));
    refused(place.name(&format!("{api_token}x"), 2));
    place.edit(|users| users.revoke(&new.id));
    refused(place.name(&api_token, 10_000));
    refused(place.name(&session, 48));
}

#[test]
fn a_certificate_is_a_user_and_agrees_with_the_rest() {
    let place = place(Auth::default());
    let name = |authorization: Option<&str>, certificate| {
        place.with_certificate(authorization, Some(certificate), 0).map(|identity| identity.principal.name.to_string())
    };
    assert_eq!(name(None, "bob").unwrap(), "bob");
    assert_eq!(name(Some(&basic("bob", "berry")), "bob").unwrap(), "bob");
    refused(name(Some(&basic("ann", "apple")), "bob"));
    refused(name(Some(&basic("bob", "x")), "bob"));
    assert_eq!(refused(name(None, "zoe")), "the certificate is of \"zoe\", and there is no such user");
    let ann = place.identify(&basic("ann", "apple"), 0).unwrap();
    let token = format!("Bearer {}", place.authority.issue(&ann, Uuid::new_v4(), place.at(0)));
    refused(name(Some(&token), "bob"));
    assert_eq!(name(Some(&token), "ann").unwrap(), "ann");
}

#[test]
fn attempts_are_limited_and_those_who_are_in_stay_in() {
    let place = place(Auth { attempts_max: 3, ..Auth::default() });
    place.identify(&basic("bob", "berry"), 0).unwrap();
    for _ in 0..3 {
        refused(place.name(&basic("ann", "x"), 0));
        refused(place.name(&basic("bob", "x"), 0));
    }
    for (name, password) in [("ann", "apple"), ("ann", "x"), ("bob", "x")] {
        let error = place.name(&basic(name, password), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains("try again in 21 s"), "{error}");
    }
    assert_eq!(place.name(&basic("bob", "berry"), 0).unwrap(), "bob");
    assert_eq!(place.name(&basic("ann", "apple"), 21).unwrap(), "ann");
}

#[test]
fn a_server_that_knows_nobody_is_open_and_keeps_sessions() {
    let environment = Environment::default();
    let authority = Authority::open(&Config::default(), &environment).unwrap();
    let now = Now { time: Timestamp::now(), instant: Instant::now() };
    assert!(!authority.asks(now.instant));
    let identify = |authorization: Option<&str>| {
        let credentials = Credentials { authorization, ..Credentials::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(authority.identify(credentials, now)).unwrap()
    };
    let anonymous = identify(None);
    assert_eq!(*anonymous.principal, Principal::anonymous());
    let token = authority.issue(&anonymous, Uuid::nil(), now);
    assert_eq!(identify(Some(&format!("bearer {token}"))).session, Some(Uuid::nil()));
    assert_eq!(authority.session_of(&token, &anonymous, now), Some(Uuid::nil()));
    for other in ["Basic x", "Bearer x", &basic("any", "thing")] {
        assert_eq!(identify(Some(other)).session, None);
    }
}

#[test]
fn the_configured_user_is_an_admin() {
    let auth = Auth { user: "alice".into(), password: "a:b=".into(), ..Auth::default() };
    let authority = Authority::open(&Config { auth, ..Config::default() }, &Environment::default()).unwrap();
    let now = Now { time: Timestamp::now(), instant: Instant::now() };
    assert!(authority.asks(now.instant));
    let identify = |authorization: &str| {
        let credentials = Credentials { authorization: Some(authorization), ..Credentials::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(authority.identify(credentials, now))
    };
    assert_eq!(*identify(&basic("alice", "a:b=")).unwrap().principal, Principal::new("alice", Role::Admin));
    refused(identify(&basic("alice", "a")));
    // A token of an open server's is worth nothing here.
    let open = Authority::open(&Config::default(), &Environment::default()).unwrap();
    let anonymous = Identity { principal: Arc::new(Principal::anonymous()), session: None, who: Who::Open };
    for authority in [&open, &authority] {
        refused(identify(&format!("Bearer {}", authority.issue(&anonymous, Uuid::nil(), now))));
    }
}
