//! Where results go that are written to a file: beside its place first, and there when they are complete, so that one that fails
//! half-way neither leaves half a result nor takes an earlier one away.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{reason, write_error};
use crate::error::{Error, Result};
use crate::files;

/// What becomes of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Existing {
    /// The result takes its place.
    Replace,
    /// It stays, and nothing is written.
    Keep,
}

/// A file that is written; dropping it leaves what was there.
#[derive(Debug)]
pub(in crate::cli) struct Target {
    file: Place,
    path: PathBuf,
    existing: Existing,
}

#[derive(Debug)]
enum Place {
    Beside(NamedTempFile),
    /// A pipe or a device: there is no beside.
    Direct(File),
}

impl Target {
    pub(in crate::cli) fn open(path: &Path, existing: Existing) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::invalid(format!("cannot write to {}: {}", path.display(), reason(&error))).with_source(error)
        };
        // The file that a link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            return Ok(Self { file: Place::Direct(file), path, existing });
        }
        if existing == Existing::Keep && files::is_taken(&path) {
            return Err(taken(&path));
        }
        let permissions = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions(),
            // What File::create would give it: the process's umask applies.
            Err(_) => fs::Permissions::from_mode(0o666),
        };
        let file = tempfile::Builder::new()
            .prefix(".merganser-")
            .permissions(permissions)
            .tempfile_in(files::directory_of(&path))
            .map_err(failed)?;
        Ok(Self { file: Place::Beside(file), path, existing })
    }

    pub(in crate::cli) fn writer(&self) -> Result<Box<dyn Write + Send>> {
        let file = match &self.file {
            Place::Beside(file) => file.as_file(),
            Place::Direct(file) => file,
        };
        let file = file.try_clone().map_err(|error| write_error(&self.path.display().to_string(), error))?;
        Ok(Box::new(file))
    }

    /// Puts the file, which is complete, in its place.
    pub(in crate::cli) fn keep(self) -> Result<()> {
        let Self { file, path, existing } = self;
        let Place::Beside(file) = file else { return Ok(()) };
        let failed = |error: io::Error| write_error(&path.display().to_string(), error);
        // A file that has its name before its content is on the disk would be empty after a loss of power.
        file.as_file().sync_all().map_err(failed)?;
        let kept = match existing {
            Existing::Replace => file.persist(&path),
            Existing::Keep => file.persist_noclobber(&path),
        };
        match kept {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(taken(&path)),
            Err(error) => Err(failed(error.error)),
        }
    }
}

fn taken(path: &Path) -> Error {
    Error::already_exists(format!("{} is there: --replace puts the new file in its place", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        fs::write(&path, "old").unwrap();

        let target = Target::open(&path, Existing::Replace).unwrap();
        target.writer().unwrap().write_all(b"half").unwrap();
        drop(target);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");

        let target = Target::open(&path, Existing::Replace).unwrap();
        target.writer().unwrap().write_all(b"new").unwrap();
        target.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let target = Target::open(&path, Existing::Keep).unwrap();
        target.writer().unwrap().write_all(b"late").unwrap();
        // Somebody else was faster.
        fs::write(&path, "first").unwrap();
        let wanted = format!("{} is there: --replace puts the new file in its place", path.display());
        assert_eq!(target.keep().unwrap_err().message(), wanted);
        assert_eq!(Target::open(&path, Existing::Keep).unwrap_err().message(), wanted);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_is_written_to() {
        let target = Target::open(Path::new("/dev/null"), Existing::Keep).unwrap();
        target.writer().unwrap().write_all(b"x").unwrap();
        target.keep().unwrap();
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = Target::open(Path::new("/nowhere/rows.csv"), Existing::Replace).unwrap_err();
        assert_eq!(error.message(), "cannot write to /nowhere/rows.csv: no such file or directory");
    }
}
