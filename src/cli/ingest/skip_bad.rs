//! The file of bad lines of a load of many files: those of one file are put into it when the file is stored.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempPath;

use super::ledger::Skipped;
use crate::cli::output;
use crate::error::{Error, Result};

/// Bad lines of all files.
#[derive(Debug)]
pub(super) struct SkipBad {
    path: PathBuf,
    all: Mutex<(File, Skipped)>,
}

impl SkipBad {
    /// The file at `path`; a load that goes on adds to it.
    pub(super) fn open(path: &Path, goes_on: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        if goes_on {
            options.append(true)
        } else {
            options.write(true).truncate(true)
        };
        let file = options.create(true).open(path).map_err(|error| failed(path, error))?;
        Ok(Self { path: path.to_owned(), all: Mutex::new((file, Skipped::default())) })
    }

    /// A place for the bad lines of one file.
    pub(super) fn part() -> Result<TempPath> {
        let file = tempfile::NamedTempFile::new();
        Ok(file.map_err(|error| Error::exhausted("cannot make a temporary file").with_source(error))?.into_temp_path())
    }

    /// Takes over the bad lines of a file that is stored.
    pub(super) fn take(&self, part: &Path, skipped: &Skipped) -> Result<()> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, total) = &mut *all;
        File::open(part).and_then(|mut part| io::copy(&mut part, file)).map_err(|error| failed(&self.path, error))?;
        if total.lines == 0 {
            total.first.clone_from(&skipped.first);
        }
        total.lines += skipped.lines;
        Ok(())
    }

    /// What was set aside.
    pub(super) fn finish(self) -> Result<Skipped> {
        let (file, skipped) = self.all.into_inner().unwrap_or_else(PoisonError::into_inner);
        file.sync_data().or_else(unless_unsupported).map_err(|error| failed(&self.path, error))?;
        Ok(skipped)
    }
}

/// A pipe or a device has nothing to be synced.
fn unless_unsupported(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}

fn failed(path: &Path, error: io::Error) -> Error {
    output::write_error(&path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bad_lines_come_together_and_those_of_an_earlier_run_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad");
        fs::write(&path, "of another day\n").unwrap();
        for (goes_on, wanted) in [(false, "one\ntwo\n"), (true, "one\ntwo\none\ntwo\n")] {
            let all = SkipBad::open(&path, goes_on).unwrap();
            for (line, first) in [("one\n", "a.csv:1: bad"), ("two\n", "b.csv:2: bad")] {
                let part = SkipBad::part().unwrap();
                fs::write(&part, line).unwrap();
                all.take(&part, &Skipped { lines: 1, first: first.to_owned() }).unwrap();
            }
            assert_eq!(all.finish().unwrap(), Skipped { lines: 2, first: "a.csv:1: bad".to_owned() });
            assert_eq!(fs::read_to_string(&path).unwrap(), wanted);
        }
    }
}
