//! The file of users and API tokens: TOML that `merganser user` and `merganser token` write, and that a person may read.
//!
//! It is replaced as a whole, so that a reader sees the old one or the new one, and changed under a lock, so that no
//! change is lost. It holds no secret that signs in: passwords and tokens are hashed.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind as Io, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::password::Hash;
use super::{Grant, Role};
use crate::error::{Error, Result};

/// The first line of the file.
const HEAD: &str = "# Users and API tokens of Merganser: `merganser user` and `merganser token` write it.\n\n";
/// Bytes of the file: some fifty thousand users.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Letters of a user's name.
const NAME_MAX: usize = 128;
/// What others than the owner may not do to the file. Its group may read it: so does a service whose file is root's.
const WRITE_BY_OTHERS: u32 = 0o022;
const READ_BY_OTHERS: u32 = 0o004;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// The users, in the order in which they were added.
    #[serde(default, rename = "user", skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Their API tokens.
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<ApiToken>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name: what [`check_name`] allows.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// The tables that it may do that to; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// When it was added.
    pub created: Timestamp,
    /// Its password; none: it comes with a certificate or an API token only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Hash>,
}

/// An API token: who has its secret is its user.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// Its public part.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// What it is for, in its user's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; none: with its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// SHA-256 of its secret, in hexadecimal. The secret is random, so that nothing slower is needed.
    pub sha256: String,
}

impl Users {
    /// The user of a name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The user of a name, to change.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn user_mut(&mut self, name: &str) -> Result<&mut User> {
        let user = self.users.iter_mut().find(|user| user.name == name);
        user.ok_or_else(|| Error::not_found(format!("there is no user {name:?}")))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn add(&mut self, user: User) -> Result<()> {
        if self.user(&user.name).is_some() {
            return Err(Error::already_exists(format!("user {:?} is there already", user.name)));
        }
        self.users.push(user);
        Ok(())
    }

    /// Removes a user with its tokens.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.user_mut(name)?;
        self.users.retain(|user| user.name != name);
        self.tokens.retain(|token| token.user != name);
        Ok(())
    }

    /// Removes an API token.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn revoke(&mut self, id: &str) -> Result<()> {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.id != id);
        if self.tokens.len() < before { Ok(()) } else { Err(Error::not_found(format!("there is no token {id:?}"))) }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for one that cannot be used, in words that show nothing of it.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
        let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
        if metadata.mode() & WRITE_BY_OTHERS != 0 {
            let path = path.display();
            return Err(Error::invalid(format!("users file {path}: others may write it; say chmod go-w {path}")));
        }
        let mut text = String::new();
        let read = (&mut file).take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        let length = read.map_err(|error| unreadable(path, error))?;
        if length as u64 > FILE_BYTES_MAX {
            return Err(Error::invalid(format!("users file {} is larger than {FILE_BYTES_MAX} bytes", path.display())));
        }
        Self::parse(&text).map_err(|why| Error::invalid(format!("users file {}: {why}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let users: Self = toml::from_str(text).map_err(|error| {
            // The error's own text shows the line, and with it a hash.
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
            format!("line {line}: {}", error.message().lines().next().unwrap_or_default())
        })?;
        let mut names = HashSet::new();
        for user in &users.users {
            check_name(&user.name).map_err(|error| error.message().to_owned())?;
            if !names.insert(&user.name) {
                return Err(format!("user {:?} is there twice", user.name));
            }
        }
        let mut ids = HashSet::new();
        match users.tokens.iter().find(|token| !ids.insert(&token.id)) {
            Some(token) => Err(format!("token {:?} is there twice", token.id)),
            None => Ok(users),
        }
    }

    /// Changes the file, which is made if it is not there. What others change meanwhile waits.
    ///
    /// # Errors
    /// What `change` says, and then the file is as it was; what [`Users::read`] says; `FailedPrecondition` when it cannot be written.
    pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        // Not the link, but what it names.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let cannot = |error: std::io::Error| {
            Error::precondition(format!("cannot write users file {}: {error}", path.display())).with_source(error)
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(cannot)?;
        let mut lock_name = path.clone().into_os_string();
        lock_name.push(".lock");
        // It stays: a lock on a file that was removed meanwhile would be none.
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_name);
        let lock = lock.map_err(cannot)?;
        lock.lock().map_err(cannot)?;
        let mut users = if path.exists() { Self::read(&path)? } else { Self::default() };
        let result = change(&mut users)?;
        users.write(&path, &directory).map_err(cannot)?;
        drop(lock);
        Ok(result)
    }

    /// Replaces the file; the new one has the old one's owner and rights.
    fn write(&self, path: &Path, directory: &Path) -> std::io::Result<()> {
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        let private = Permissions::from_mode(0o600);
        let mut file = tempfile::Builder::new().prefix(".users-").permissions(private).tempfile_in(directory)?;
        file.write_all(HEAD.as_bytes())?;
        file.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(path) {
            let new = file.as_file().metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
            file.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o777 & !WRITE_BY_OTHERS))?;
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    }
}

/// Whether others than its owner and its group may read the file.
pub(super) fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & READ_BY_OTHERS != 0)
}

/// Checks the name of a user.
pub fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    if !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(good) {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "{name:?} is not the name of a user: up to {NAME_MAX} letters of ASCII, digits, _, ., @ and -"
        )))
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let path = path.display();
    if error.kind() == Io::NotFound {
        Error::not_found(format!("users file not found: {path}; `merganser user add` makes it"))
    } else {
        Error::invalid(format!("cannot read users file {path}: {error}")).with_source(error)
    }
}

#[cfg(test)]
impl User {
    /// A reader without a password, for tests.
    pub(super) fn reader(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            role: Role::Reader,
            grants: Vec::new(),
            created: Timestamp::UNIX_EPOCH,
            password: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_written_is_read_and_changes_side_by_side_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/users.toml");
        assert_eq!(Users::read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..10 {
                        Users::edit(path, |users| users.add(User::reader(&format!("u{writer}.{number}")))).unwrap();
                    }
                });
            }
        });
        let users = Users::read(&path).unwrap();
        assert_eq!(users.users.len(), 40);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");

        let full = User {
            grants: vec!["read:shop_*".parse().unwrap(), "write:tmp".parse().unwrap()],
            password: Some(Hash::of("x").unwrap()),
            ..User::reader("full@example.com")
        };
        let token = ApiToken {
            id: "t".into(),
            user: full.name.clone(),
            name: String::new(),
            created: Timestamp::UNIX_EPOCH,
            expires: Some(Timestamp::UNIX_EPOCH),
            sha256: "00".into(),
        };
        Users::edit(&path, |users| {
            users.add(full.clone())?;
            users.tokens.push(token.clone());
            Ok(())
        })
        .unwrap();
        let users = Users::read(&path).unwrap();
        assert_eq!((users.user(&full.name), &users.tokens[..]), (Some(&full), &[token][..]));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("grants = [\"read:shop_*\", \"write:tmp\"]\n"), "{text}");

        // A change that fails leaves the file alone; with a user go its tokens.
        let error = Users::edit(&path, |users| users.add(full.clone())).unwrap_err();
        assert_eq!(error.message(), "user \"full@example.com\" is there already");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        Users::edit(&path, |users| users.remove(&full.name)).unwrap();
        assert!(Users::read(&path).unwrap().tokens.is_empty());
        assert_eq!(Users::edit(&path, |users| users.revoke("t")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_file_keeps_its_rights_and_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("real.toml"), folder.path().join("users.toml"));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Users::edit(&link, |users| users.add(User::reader("ann"))).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(!is_readable_by_others(&path) && Users::read(&path).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(is_readable_by_others(&path) && Users::read(&path).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        assert!(Users::read(&path).unwrap_err().message().contains("others may write it; say chmod go-w "));
    }

    #[test]
    fn what_is_wrong_is_told_without_showing_it() {
        let hash = "password = \"$argon2id$SECRET\"";
        let one = "[[user]]\nname = \"ann\"\nrole = \"reader\"\ncreated = \"1970-01-01T00:00:00Z\"\n";
        for (text, message) in [
            (format!("{one}{hash}\n"), "line "),
            (format!("{one}{hash} x\n"), "line 5: "),
            (format!("{one}pasword = \"SECRET\"\n"), "line "),
            (one.replace("reader", "king"), "line "),
            (one.replace("ann", "a:b"), "\"a:b\" is not the name of a user"),
            (format!("{one}{one}"), "user \"ann\" is there twice"),
        ] {
            let error = Users::parse(&text).unwrap_err();
            assert!(error.contains(message) && !error.contains("SECRET"), "{error}");
        }
        for bad in ["", "ü", "a b", "a/b", &"x".repeat(129)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        check_name(&"x".repeat(128)).unwrap();
        check_name("Ann.B_c-1@example.com").unwrap();
    }
}
