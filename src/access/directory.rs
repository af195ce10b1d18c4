//! The users that there are now: the users file, looked at again while the server runs.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::key::Key;
use super::password::Hash;
use super::users::{User, Users, is_readable_by_others};
use super::{Principal, api_token};
use crate::error::{Error, ErrorKind, Result};

/// Time between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The users that there are now.
#[derive(Debug)]
pub(super) struct Directory {
    key: Key,
    /// The file; none: there is no place for one.
    path: Option<PathBuf>,
    /// The user that the configuration names.
    configured: Option<User>,
    started: Instant,
    /// When the file is looked at next, in milliseconds since the start.
    next_look: AtomicU64,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    known: Arc<Known>,
    /// The file when it was last looked at, good or broken; none: it was not there.
    seen: Option<Seen>,
}

/// What tells one version of the file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    modified: (i64, i64),
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
}

/// The users of one version of the file.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether there is any user, or a file that may have some.
    pub(super) asks: bool,
    users: HashMap<Arc<str>, KnownUser>,
    tokens: HashMap<String, KnownToken>,
}

/// A user, ready for use.
#[derive(Debug)]
pub(super) struct KnownUser {
    pub(super) principal: Arc<Principal>,
    pub(super) hash: Option<Hash>,
    /// Another one when the user's password has changed, or the user was removed and added again.
    pub(super) stamp: u64,
}

#[derive(Debug)]
struct KnownToken {
    user: Arc<str>,
    digest: [u8; 32],
    expires: Option<Timestamp>,
}

impl Directory {
    /// Reads the file at `path`, which must be there when it is `required`.
    pub(super) fn open(key: Key, path: Option<PathBuf>, required: bool, configured: Option<User>) -> Result<Self> {
        let seen = path.as_deref().and_then(look);
        let users = match path.as_deref() {
            Some(path) if required || seen.is_some() => Some(read(path)?),
            _ => None,
        };
        let known = Arc::new(Known::new(&key, users, configured.as_ref()));
        Ok(Self {
            key,
            path,
            configured,
            started: Instant::now(),
            next_look: AtomicU64::new(0),
            state: RwLock::new(State { known, seen }),
        })
    }

    /// The users; the file is looked at again when the last look is a second old.
    pub(super) fn known(&self, now: Instant) -> Arc<Known> {
        if let Some(path) = &self.path {
            let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            let now = millis(now.saturating_duration_since(self.started));
            let next = self.next_look.load(Ordering::Relaxed);
            let later = now.saturating_add(millis(LOOK_EVERY));
            // One call looks, and others go on with what is known.
            if now >= next && self.next_look.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                self.look_again(path);
            }
        }
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).known)
    }

    fn look_again(&self, path: &Path) {
        let seen = look(path);
        let before = self.state.read().unwrap_or_else(PoisonError::into_inner).seen;
        if seen == before {
            return;
        }
        // The server does not open itself to everybody because its file is gone.
        let read = if seen.is_some() { read(path) } else { Err(Error::not_found("the users file is gone")) };
        let known = match read {
            Ok(users) => {
                tracing::info!(users = users.users.len(), tokens = users.tokens.len(), "the users file was read again");
                Some(Arc::new(Known::new(&self.key, Some(users), self.configured.as_ref())))
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the users stay as they were");
                None
            }
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.seen = seen;
        if let Some(known) = known {
            state.known = known;
        }
    }
}

fn look(path: &Path) -> Option<Seen> {
    let metadata = fs::metadata(path).ok()?;
    Some(Seen {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

fn read(path: &Path) -> Result<Users> {
    if is_readable_by_others(path) {
        let path = path.display();
        tracing::warn!("every user of this machine may read the hashes in the users file {path}; say chmod o-r {path}");
    }
    Users::read(path)
}

impl Known {
    fn new(key: &Key, file: Option<Users>, configured: Option<&User>) -> Self {
        let asks = file.is_some() || configured.is_some();
        let Users { users, tokens } = file.unwrap_or_default();
        let mut known = Self { asks, ..Self::default() };
        // The configured user comes last, and takes the place of one with the same name.
        for user in users.iter().chain(configured) {
            let name: Arc<str> = user.name.as_str().into();
            let principal = Principal::new(Arc::clone(&name), user.role).with_grants(user.grants.clone());
            let hash = user.password.clone();
            let created = user.created.as_nanosecond().to_be_bytes();
            let signature = key.sign(&[b"user", name.as_bytes(), &created, hash.as_ref().map_or(&[], Hash::bytes)]);
            let stamp = signature.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk));
            let user = KnownUser { principal: Arc::new(principal), hash, stamp };
            if known.users.insert(name, user).is_some() {
                tracing::warn!(
                    user = configured.map(|user| &*user.name),
                    "auth.user takes the place of a user in the users file"
                );
            }
        }
        for token in tokens {
            let user = known.users.get_key_value(token.user.as_str()).map(|(name, _)| Arc::clone(name));
            if let (Some(user), Some(digest)) = (user, api_token::digest_of_text(&token.sha256)) {
                known.tokens.insert(token.id, KnownToken { user, digest, expires: token.expires });
            } else {
                tracing::warn!(token = token.id, "a token of the users file has no user, or no digest: it is not used");
            }
        }
        known
    }

    /// The user of a name.
    pub(super) fn user(&self, name: &str) -> Option<&KnownUser> {
        self.users.get(name)
    }

    /// The user of an API token that is still good.
    pub(super) fn token_user(&self, id: &str, now: Timestamp) -> Option<&KnownUser> {
        let token = self.tokens.get(id).filter(|token| token.expires.is_none_or(|expires| now < expires))?;
        self.users.get(&token.user)
    }

    /// When an API token expires.
    pub(super) fn token_expires(&self, id: &str) -> Option<Timestamp> {
        self.tokens.get(id).and_then(|token| token.expires)
    }

    /// The user whose API token has this secret.
    ///
    /// # Errors
    /// `Unauthenticated`, without a word about what is wrong with it, but for its age, which only its owner gets to know.
    pub(super) fn check_token(&self, id: &str, secret: &str, now: Timestamp) -> Result<&KnownUser> {
        let wrong =
            || Error::new(ErrorKind::Unauthenticated, "the API token is not valid: it is wrong, or was revoked");
        let token = self.tokens.get(id).ok_or_else(wrong)?;
        // Digests of random secrets: how long a comparison takes tells nothing about a secret.
        if token.digest != api_token::digest(secret) {
            return Err(wrong());
        }
        let expired = || Error::new(ErrorKind::Unauthenticated, "the API token has expired");
        self.token_user(id, now).ok_or_else(expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::access::api_token::NewToken;
    use crate::access::users::ApiToken;

    #[test]
    fn a_file_that_changes_is_read_again_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let key = Key::random().unwrap();
        let open = |required| Directory::open(key.clone(), Some(path.clone()), required, None);
        assert_eq!(open(true).unwrap_err().kind(), ErrorKind::NotFound);

        // Nobody is asked until there is a file.
        let directory = open(false).unwrap();
        let start = Instant::now();
        let after = |seconds| directory.known(start + Duration::from_secs(seconds));
        assert!(!after(0).asks);
        Users::edit(&path, |users| users.add(User::reader("ann"))).unwrap();
        // The last look is not a second old.
        assert!(!after(0).asks);
        assert!(after(2).asks && after(2).user("ann").is_some());

        fs::write(&path, "[[user").unwrap();
        assert!(after(4).user("ann").is_some());
        fs::remove_file(&path).unwrap();
        let known = after(6);
        assert!(known.asks && known.user("ann").is_some());
        Users::edit(&path, |users| users.add(User::reader("bob"))).unwrap();
        let known = after(8);
        assert!(known.user("ann").is_none() && known.user("bob").is_some());
        // A file without users lets nobody in.
        Users::edit(&path, |users| users.remove("bob")).unwrap();
        assert!(after(10).asks && after(10).user("bob").is_none());
    }

    #[test]
    fn a_stamp_is_of_one_password_and_one_user() {
        let key = Key::random().unwrap();
        let stamp = |user: &User| Known::new(&key, None, Some(user)).user("ann").unwrap().stamp;
        let ann = User::reader("ann");
        let first = stamp(&ann);
        assert_eq!(first, stamp(&User { role: Role::Admin, ..ann.clone() }));
        assert_ne!(first, stamp(&User { password: Some(Hash::of("x").unwrap()), ..ann.clone() }));
        assert_ne!(first, stamp(&User { created: Timestamp::MAX, ..ann }));
    }

    #[test]
    fn tokens_are_good_until_they_expire_and_with_their_secret() {
        let new = NewToken::random().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let token = ApiToken {
            id: new.id.clone(),
            user: "ann".into(),
            name: String::new(),
            created: at(0),
            expires: Some(at(10)),
            sha256: new.sha256.clone(),
        };
        let orphan = ApiToken { id: "orphan".into(), user: "nobody".into(), ..token.clone() };
        let users = Users { users: vec![User::reader("ann")], tokens: vec![token, orphan] };
        let known = Known::new(&Key::random().unwrap(), Some(users), None);
        let (id, secret) = api_token::parse(&new.text).unwrap();
        assert_eq!(&*known.check_token(id, secret, at(9)).unwrap().principal.name, "ann");
        assert_eq!(known.check_token(id, secret, at(10)).unwrap_err().message(), "the API token has expired");
        let wrong = known.check_token(id, "x", at(9)).unwrap_err();
        assert_eq!(wrong.message(), known.check_token("none", secret, at(9)).unwrap_err().message());
        assert!(known.token_user("orphan", at(0)).is_none());
    }
}
