//! The free space of the database's disk: below `engine.disk_free_min` nothing is written, so that what is committed can always be
//! checkpointed, and whoever frees space finds a database that works.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use crate::error::{Error, Result};
use crate::files::{directory_of, free_bytes};

/// How long one look at the disk is good for.
const LOOK: Duration = Duration::from_secs(1);

/// The floor of a disk.
#[derive(Debug)]
pub(in crate::engine) struct DiskFloor {
    /// Where the data file is; none for a database in memory, which has no floor.
    directory: Option<PathBuf>,
    free_min: ByteSize,
    /// When it was last looked, and what was free then.
    last: Mutex<Option<(Instant, u64)>>,
}

impl DiskFloor {
    pub(in crate::engine) fn new(file: Option<&Path>, free_min: ByteSize) -> Self {
        let directory = file.filter(|_| free_min.as_u64() > 0).map(|file| directory_of(file).to_owned());
        Self { directory, free_min, last: Mutex::default() }
    }

    /// # Errors
    /// `ResourceExhausted` when less is free than must be.
    pub(in crate::engine) fn check(&self) -> Result<()> {
        match self.free() {
            Some(free) if free < self.free_min.as_u64() => Err(Error::exhausted(format!(
                "the disk of the database has {} free, less than the {} of engine.disk_free_min: nothing is written until there \
                 is more, reading and DROP go on",
                ByteSize(free),
                self.free_min
            ))),
            _ => Ok(()),
        }
    }

    /// Bytes that are free; none where there is no floor, or the disk does not tell.
    fn free(&self) -> Option<u64> {
        let directory = self.directory.as_deref()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, free)) = *last
            && at.elapsed() < LOOK
        {
            return Some(free);
        }
        let free = free_bytes(directory).ok()?;
        *last = Some((Instant::now(), free));
        Some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_floor_holds_where_there_is_a_disk() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.duckdb");
        DiskFloor::new(Some(&file), ByteSize(1)).check().unwrap();
        DiskFloor::new(Some(&file), ByteSize(0)).check().unwrap();
        DiskFloor::new(None, ByteSize::pib(1)).check().unwrap();
        let error = DiskFloor::new(Some(&file), ByteSize::pib(1)).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains("engine.disk_free_min"), "{error}");
    }
}
