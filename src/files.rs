//! Names and places of files, as everybody here needs them: beside another file, on a disk with room.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// `<path><ending>`.
pub(crate) fn with_ending(path: &Path, ending: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Whether the name is taken, even if by a link that leads nowhere.
pub(crate) fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The directory that a file is in.
pub(crate) fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Bytes that are free on the disk of a file or directory which is there.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// An error of the disk, for the operator.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::precondition(format!("{what} {}: {error}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_beside_their_file() {
        assert_eq!(with_ending(Path::new("/a/b.duckdb"), ".wal"), Path::new("/a/b.duckdb.wal"));
        for (file, directory) in [("/a/b", "/a"), ("a/b", "a"), ("b", "."), ("/", ".")] {
            assert_eq!(directory_of(Path::new(file)), Path::new(directory));
        }
    }

    #[test]
    fn links_that_lead_nowhere_take_their_name() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(is_taken(&link) && !is_taken(&file));
        assert!(free_bytes(directory.path()).unwrap() > 0 && free_bytes(&file).is_err());
    }
}
