//! Making a database file: in a directory of its own, and it gets its place when it is whole. A file that is half made is one that
//! DuckDB never opens again, so a start that is killed must not leave it in its place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use duckdb_neo::environment::StorageLocation;
use duckdb_neo::instance::{AttachBuilder, Instance};
use rustix::fs::{FlockOperation, flock};

use super::sync_directory;
use crate::error::{Error, Result};
use crate::files::{failed, is_taken, with_ending};

/// What the file is attached as meanwhile.
const ALIAS: &str = "new_file";
/// Where it is meanwhile: a directory beside its place, by this ending.
const UNFINISHED: &str = ".unfinished";
/// Its name there.
const NAME: &str = "new.duckdb";

/// How long a start waits for another one that makes the same file, and how often it looks.
const TURN_MAX: Duration = Duration::from_secs(10);
const TURN_LOOK: Duration = Duration::from_millis(10);

/// Makes an empty database file.
pub(super) fn make(instance: &Instance, file: &Path) -> Result<()> {
    let directory = with_ending(file, UNFINISHED);
    let _turn = turn(&directory)?;
    let made = if is_taken(file) { Ok(()) } else { make_in(instance, &directory, file) };
    // Empty, unless something went wrong; the next one who makes the file clears it.
    drop(fs::remove_dir(&directory));
    made
}

fn make_in(instance: &Instance, directory: &Path, file: &Path) -> Result<()> {
    let log = with_ending(file, ".wal");
    if is_taken(&log) {
        return Err(Error::precondition(format!(
            "database file {} is not there, and its log {} is: put the file back, or move the log away to begin an empty database",
            file.display(),
            log.display()
        )));
    }
    let unfinished = directory.join(NAME);
    // What a start that was killed has left.
    for path in [&unfinished, &with_ending(&unfinished, ".wal")] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("cannot remove", path, error)),
            _ => {}
        }
    }
    let text = unfinished.to_str().ok_or_else(|| Error::invalid("the database path is not valid UTF-8"))?;
    let cannot_make = |error: duckdb_neo::Error| {
        let reason = error.message.lines().next().unwrap_or_default();
        Error::precondition(format!("cannot make database file {}: {reason}", file.display())).with_source(error)
    };
    instance.attach(AttachBuilder::new(StorageLocation::OnDisk(text.to_owned())).alias(ALIAS)).map_err(cannot_make)?;
    instance.detach(ALIAS)?;
    // DuckDB has synced it.
    fs::rename(&unfinished, file).map_err(|error| failed("cannot name database file", file, error))?;
    sync_directory(file);
    Ok(())
}

/// Makes the directory, and takes the lock that the kernel gives back when this process ends; whoever has it, is the only one who
/// makes the file. Some file systems have no such locks: there, two starts at the same moment are up to whoever starts them.
fn turn(directory: &Path) -> Result<File> {
    let cannot_open = |error| failed("cannot make a database file in", directory, error);
    let until = Instant::now() + TURN_MAX;
    while Instant::now() < until {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot_open(error)),
            _ => {}
        }
        match File::open(directory) {
            Ok(open) => match flock(&open, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_still(&open, directory) => return Ok(open),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => {
                    tracing::debug!(%error, directory = %directory.display(), "the directory cannot be locked");
                    return Ok(open);
                }
            },
            // The one who made it was ready just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_open(error)),
        }
        std::thread::sleep(TURN_LOOK);
    }
    let shown = directory.display();
    Err(Error::precondition(format!("another process has been making {shown} for {TURN_MAX:?}: stop it first")))
}

/// Whether the directory is the one of this name, and not one that was removed meanwhile.
fn is_still(open: &File, path: &Path) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    inode(open.metadata()).is_some_and(|open| inode(path.metadata()) == Some(open))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{count, instance, open};
    use super::*;

    #[test]
    fn a_file_is_made_in_its_place_only_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.duckdb");
        open(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), 3 * 4096);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_start_has_left_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.duckdb");
        let unfinished = with_ending(&file, UNFINISHED);
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join(NAME), "half").unwrap();
        let instance = open(&file).unwrap();
        assert_eq!(count(&instance, "SELECT 1::BIGINT"), 1);
        assert!(!unfinished.exists());
    }

    #[test]
    fn a_file_that_is_there_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.duckdb");
        fs::write(&file, "somebody's").unwrap();
        make(&instance(), &file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"somebody's");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_log_without_its_file_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.duckdb");
        let log = directory.path().join("a.duckdb.wal");
        fs::write(&log, "somebody's").unwrap();
        let error = make(&instance(), &file).unwrap_err();
        assert!(error.message().contains("put the file back"), "{error}");
        assert!(log.exists() && !file.exists());
    }

    #[test]
    fn starts_at_the_same_moment_make_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.duckdb");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| make(&instance(), &file).unwrap());
            }
        });
        assert_eq!(fs::metadata(&file).unwrap().len(), 3 * 4096);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
