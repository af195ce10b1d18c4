//! The directory that holds the backups. One process at a time makes one backup in it: whoever does has the lock of its `.lock`, which the
//! kernel gives back even after `kill -9`. So what is incomplete there belongs to nobody, and goes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::files::{free_bytes, is_taken};

/// The file whose lock is held while a backup is made.
const LOCK_FILE: &str = ".lock";
/// What the names of incomplete backups begin with; no name of a backup does.
const PARTIAL_PREFIX: &str = ".partial-";
/// Characters of a name.
const NAME_MAX: usize = 128;

/// The right to make a backup in a directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

/// A backup that is being made; dropped before it is complete, it is removed.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    /// Where it will be.
    target: PathBuf,
    /// Held until it is removed or complete.
    _directory: Directory,
}

/// Checks the name of a backup: it is the name of a directory, and no way out of the one that it is in.
pub(super) fn check_name(name: &str) -> Result<()> {
    let rule = if name.is_empty() {
        "it must not be empty"
    } else if name.starts_with(['.', '-']) {
        "it must not begin with `.` or `-`"
    } else if name.chars().any(|c| !c.is_ascii_alphanumeric() && !"._-".contains(c)) {
        "only letters, digits, `.`, `_` and `-` are allowed"
    } else if name.len() > NAME_MAX {
        "at most 128 characters are allowed"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(64).collect();
    Err(Error::invalid(format!("invalid name of a backup {shown:?}: {rule}")))
}

/// Removes what backups that were broken off have left in `path`, if none is being made there. What cannot be removed is only logged.
pub fn clean(path: &Path) {
    if path.is_dir()
        && let Err(error) = Directory::lock(path)
    {
        tracing::info!(%error, "the backups' directory is not cleaned");
    }
}

impl Directory {
    /// Takes the right, and removes what was left incomplete.
    ///
    /// # Errors
    /// `FailedPrecondition` when a backup is being made there, or the directory cannot be written.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| failed("cannot make directory", path, error))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| failed("cannot write", &lock_path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::precondition("a backup is being made already: try again when it has ended"));
            }
            Err(error) => return Err(failed("cannot lock", &lock_path, error.into())),
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.remove_partial();
        Ok(directory)
    }

    fn remove_partial(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(|name| name.starts_with(PARTIAL_PREFIX)) {
                continue;
            }
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::info!(directory = %entry.path().display(), "removed a backup that was broken off"),
                Err(error) => {
                    tracing::warn!(%error, directory = %entry.path().display(), "incomplete backup not removed");
                }
            }
        }
    }

    /// Begins the backup `name`.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one of that name, `ResourceExhausted` when the disk has no room for `bytes` beside those
    /// that have to stay free.
    pub(super) fn begin(self, name: &str, bytes: u64, stays_free: ByteSize) -> Result<Partial> {
        check_name(name)?;
        let target = self.path.join(name);
        if is_taken(&target) {
            return Err(Error::already_exists(format!("there is a backup {name:?} already")));
        }
        let free = free_bytes(&self.path).map_err(|error| failed("cannot look at", &self.path, error))?;
        if free < bytes.saturating_add(stays_free.as_u64()) {
            return Err(Error::exhausted(format!(
                "a backup takes about {}, and the disk of backup.directory has {} free, of which {stays_free} stay free \
                 (engine.disk_free_min)",
                ByteSize(bytes),
                ByteSize(free)
            )));
        }
        let path = self.path.join(format!("{PARTIAL_PREFIX}{name}-{}", Uuid::new_v4().simple()));
        fs::create_dir(&path).map_err(|error| failed("cannot make directory", &path, error))?;
        Ok(Partial { path, target, _directory: self })
    }
}

impl Partial {
    /// Where its files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, when all its files are on the disk; answers its path.
    pub(super) fn finish(self) -> Result<PathBuf> {
        sync(&self.path)?;
        fs::rename(&self.path, &self.target).map_err(|error| failed("cannot name", &self.target, error))?;
        if let Some(parent) = self.target.parent() {
            sync(parent)?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Ok(()) => {}
            // It has its name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, directory = %self.path.display(), "incomplete backup not removed"),
        }
    }
}

/// Has a file, or the names in a directory, on the disk.
pub(super) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| failed("cannot sync", path, error))
}

/// An error of the disk; the message is for an operator.
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("{what} {}: {error}", path.display());
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error_of = if full { Error::exhausted(message) } else { Error::precondition(message) };
    error_of.with_source(error)
}
