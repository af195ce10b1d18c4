//! The way back: a backup's file in the place of a server's database.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};
use uuid::Uuid;

use super::directory::{failed, sync};
use super::manifest::{DATA_FILE, FileDigest, Manifest, verify};
use crate::config::Engine as EngineConfig;
use crate::engine::settle;
use crate::error::{Error, Result};
use crate::files::{directory_of, is_taken, with_ending};

/// What a database has beside its file while it is in use, or after a crash.
const BESIDE: &[&str] = &[".wal", ".wal.checkpoint", ".wal.recovery"];

/// Puts a backup, after a check of all of it, in the place of `target`. What was there stays beside it, under the name that is answered;
/// at each moment either the old file is there or the new one.
///
/// # Errors
/// `AlreadyExists` when there is a file and it may not be replaced, `FailedPrecondition` when a server has it open or the backup is not
/// whole.
pub fn restore(
    backup: &Path,
    target: &Path,
    replace: bool,
    config: &EngineConfig,
) -> Result<(Manifest, Option<PathBuf>)> {
    // What a link leads to is what is replaced.
    let target = &fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    let old: Vec<PathBuf> = std::iter::once(target.to_owned())
        .chain(BESIDE.iter().map(|end| with_ending(target, end)))
        .filter(|path| is_taken(path))
        .collect();
    if let (Some(first), false) = (old.first(), replace) {
        return Err(Error::already_exists(format!(
            "{} exists: say --replace to keep it under another name and put the backup in its place",
            first.display()
        )));
    }
    // Held until the end, so that no server opens it meanwhile.
    let _held = if is_taken(target) { Some(take(target, config)?) } else { None };
    let manifest = verify(backup, config)?;
    let parent = directory_of(target);
    fs::create_dir_all(parent).map_err(|error| failed("cannot make directory", parent, error))?;
    let copy = with_ending(target, format!(".restoring-{}", Uuid::new_v4().simple()));
    let placed = copy_to(backup, &manifest, &copy).and_then(|()| {
        let kept = if old.is_empty() { None } else { Some(keep(target)?) };
        fs::rename(&copy, target).map_err(|error| failed("cannot name", target, error))?;
        sync(parent)?;
        Ok(kept)
    });
    if placed.is_err() {
        // It may not be there; the error that is shown is the first.
        drop(fs::remove_file(&copy));
    }
    Ok((manifest, placed?))
}

/// Takes the lock of a file, as DuckDB does; it ends with the answer. What its log has is in the file then, unless that cannot be
/// opened, which is a good reason to replace it.
fn take(target: &Path, config: &EngineConfig) -> Result<File> {
    let settled = settle(target, config);
    let held = File::options().read(true).write(true).open(target);
    let held = held.map_err(|error| failed("cannot open", target, error))?;
    match (fcntl_lock(&held, FlockOperation::NonBlockingLockExclusive), settled) {
        (Ok(()), Ok(())) => Ok(held),
        (Ok(()), Err(error)) => {
            tracing::debug!(%error, "the old file cannot be opened");
            Ok(held)
        }
        // It names who has it.
        (Err(_), Err(error)) => Err(error),
        (Err(error), Ok(())) => Err(failed("cannot lock", target, error.into())),
    }
}

fn copy_to(backup: &Path, manifest: &Manifest, copy: &Path) -> Result<()> {
    let mut file = File::create_new(copy).map_err(|error| failed("cannot write", copy, error))?;
    let digest = FileDigest::of(&backup.join(DATA_FILE), &mut file, &|| Ok(()))?;
    file.sync_all().map_err(|error| failed("cannot sync", copy, error))?;
    manifest.check_digest(backup, &digest)
}

/// Gives what is at `target` a second name, and moves its log there; answers the name.
fn keep(target: &Path) -> Result<PathBuf> {
    let names = std::iter::once(".before-restore".to_owned()).chain((2..).map(|n| format!(".before-restore-{n}")));
    let mut names = names.map(|end| with_ending(target, &end));
    let kept = names.find(|name| !is_taken(name) && !BESIDE.iter().any(|end| is_taken(&with_ending(name, end))));
    let kept = kept.ok_or_else(|| Error::internal("there is no name left"))?;
    // A log without its file would be taken for one of the new file's, so it goes first. There is one only when the old file cannot be
    // opened.
    for end in BESIDE {
        let from = with_ending(target, end);
        if is_taken(&from) {
            fs::rename(&from, with_ending(&kept, end)).map_err(|error| failed("cannot move", &from, error))?;
        }
    }
    if is_taken(target) {
        // A second name, so that there is always a file under the first; not every file system has them.
        let linked = fs::hard_link(target, &kept).or_else(|_| fs::rename(target, &kept));
        linked.map_err(|error| failed("cannot keep", target, error))?;
    }
    Ok(kept)
}
