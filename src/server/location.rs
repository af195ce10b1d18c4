//! Where the data is: the database file, and the directory for what does not fit in memory.
//!
//! A scratch directory belongs to one process and goes with it. The process holds the directory's own lock, which the
//! kernel gives back even after `kill -9`: so whoever can take the lock knows that the owner is gone, and removes what it
//! left behind. (systemd's cleaning of old temporary files leaves locked directories alone, too.)

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{self, Path, PathBuf};
use std::process;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use uuid::Uuid;

use crate::config::{Config, Environment, Mode};
use crate::error::{Error, Result};
use crate::files::{failed, with_ending};

/// What the names of scratch directories begin with, once they are locked.
const SCRATCH_PREFIX: &str = "merganser-ephemeral-";
/// The database file in the user's data directory.
const DEFAULT_FILE: &str = "merganser/merganser.duckdb";

/// Where the data is. Dropping it removes what is temporary, so the database must be closed before.
#[derive(Debug)]
pub struct Location {
    mode: Mode,
    file: Option<PathBuf>,
    temp_directory: Option<PathBuf>,
    /// Held for their `Drop`.
    _scratch: Vec<Scratch>,
}

impl Location {
    /// Makes the directories that the configuration asks for, and removes what crashed servers left in their place.
    pub fn resolve(config: &Config, environment: &Environment) -> Result<Self> {
        let mode = config.database.mode;
        let mut scratch = Vec::new();
        let file = match mode {
            Mode::Persistent => Some(persistent_file(config, environment)?),
            Mode::Ephemeral => Some(new_scratch(&mut scratch, &environment.temp_directory)?.join("merganser.duckdb")),
            Mode::Memory => None,
            Mode::ReadOnly => Some(existing_file(config, environment)?),
        };
        let temp_directory = match shared_temp_directory(config, environment) {
            Some(parent) => Some(new_scratch(&mut scratch, parent)?),
            None => file.as_deref().map(|file| with_ending(file, ".tmp")),
        };
        Ok(Self { mode, file, temp_directory, _scratch: scratch })
    }

    /// How the database is kept.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The database file; none if it is in memory.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The file beside which a certificate is kept: the database's, if it stays.
    pub fn certificates_beside(&self) -> Option<&Path> {
        self.file().filter(|_| self.mode.has_path())
    }

    /// The directory for what does not fit in memory, used by this process alone; DuckDB makes it when it needs it. None for
    /// a database in memory, unless the configuration names one.
    pub fn temp_directory(&self) -> Option<&Path> {
        self.temp_directory.as_deref()
    }

    /// The file that the configuration names, or the default one.
    pub fn named_file(config: &Config, environment: &Environment) -> Result<PathBuf> {
        let file = if !config.database.path.as_os_str().is_empty() {
            config.database.path.clone()
        } else if let Some(directory) = &environment.data_directory {
            directory.join(DEFAULT_FILE)
        } else {
            return Err(Error::invalid("there is no home directory for the database: give its PATH"));
        };
        let file = path::absolute(&file).map_err(|error| failed("cannot use", &file, error))?;
        if file.is_dir() {
            return Err(Error::invalid(format!("{} is a directory: give the path of a database file", file.display())));
        }
        Ok(file)
    }
}

/// The directory in which a directory of our own is made for what does not fit in memory. None: it is beside the database
/// file. Servers that read one file cannot share that place, and may not be able to write there.
fn shared_temp_directory<'a>(config: &'a Config, environment: &'a Environment) -> Option<&'a Path> {
    let chosen = &config.engine.temp_directory;
    if !chosen.as_os_str().is_empty() {
        Some(chosen)
    } else if config.database.mode == Mode::ReadOnly {
        Some(&environment.temp_directory)
    } else {
        None
    }
}

fn persistent_file(config: &Config, environment: &Environment) -> Result<PathBuf> {
    let file = Location::named_file(config, environment)?;
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(|error| failed("cannot make directory", parent, error))?;
    }
    Ok(file)
}

fn existing_file(config: &Config, environment: &Environment) -> Result<PathBuf> {
    let file = Location::named_file(config, environment)?;
    if file.exists() { Ok(file) } else { Err(Error::not_found(format!("database file not found: {}", file.display()))) }
}

fn new_scratch(scratch: &mut Vec<Scratch>, parent: &Path) -> Result<PathBuf> {
    let own = Scratch::create(parent).map_err(|error| failed("cannot make a directory in", parent, error))?;
    let directory = own.directory.clone();
    scratch.push(own);
    Ok(directory)
}

/// A directory of this process alone, removed when it is dropped or, after a crash, when the next one is made beside it.
#[derive(Debug)]
struct Scratch {
    directory: PathBuf,
    /// The open directory, which holds the lock.
    _lock: File,
}

impl Scratch {
    fn create(parent: &Path) -> io::Result<Self> {
        let parent = path::absolute(parent)?;
        fs::create_dir_all(&parent)?;
        remove_leftovers(&parent);
        // It gets its name only once it is locked, so that nobody takes it for a leftover.
        let unnamed = tempfile::Builder::new()
            .prefix(".merganser-new-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)?;
        let lock = File::open(unnamed.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let random = Uuid::new_v4().simple().to_string();
        let directory = parent.join(format!("{SCRATCH_PREFIX}{}-{}", process::id(), &random[..12]));
        fs::rename(unnamed.path(), &directory)?;
        // Nothing is left to remove at the first name.
        let _first_name = unnamed.keep();
        Ok(Self { directory, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "temporary directory not removed");
        }
    }
}

/// Removes the scratch directories in `parent` whose process is gone. What cannot be removed is only logged: it must not keep
/// a server from starting.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(SCRATCH_PREFIX)) {
            continue;
        }
        let directory = entry.path();
        match remove_leftover(&directory) {
            Ok(true) => tracing::info!(directory = %directory.display(), "removed what a crashed server left behind"),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, directory = %directory.display(), "leftover directory not removed"),
        }
    }
}

/// Removes `directory` if it is ours and its lock can be taken; tells whether it did.
fn remove_leftover(directory: &Path) -> io::Result<bool> {
    // Not the metadata of what a link points to: the parent may be everybody's.
    let metadata = fs::symlink_metadata(directory)?;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return Ok(false);
    }
    let lock = File::open(directory)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => fs::remove_dir_all(directory).map(|()| true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::error::ErrorKind;

    struct Machine {
        directory: TempDir,
        environment: Environment,
    }

    impl Machine {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let environment = Environment {
                data_directory: Some(directory.path().join("data")),
                temp_directory: directory.path().join("tmp"),
                ..Environment::default()
            };
            Self { directory, environment }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn resolve(&self, mode: Mode, path: &str, temp_directory: &str) -> Result<Location> {
            let mut config = Config::default();
            config.database.mode = mode;
            if !path.is_empty() {
                config.database.path = self.path(path);
            }
            if !temp_directory.is_empty() {
                config.engine.temp_directory = self.path(temp_directory);
            }
            Location::resolve(&config, &self.environment)
        }

        fn scratch_directories(&self) -> usize {
            fs::read_dir(self.path("tmp")).map_or(0, Iterator::count)
        }
    }

    #[test]
    fn a_persistent_database_is_at_its_path_or_in_the_data_directory() {
        let machine = Machine::new();
        let location = machine.resolve(Mode::Persistent, "new/dir/a.duckdb", "").unwrap();
        assert_eq!(location.file(), Some(machine.path("new/dir/a.duckdb").as_path()));
        assert_eq!(location.temp_directory(), Some(machine.path("new/dir/a.duckdb.tmp").as_path()));
        assert!(machine.path("new/dir").is_dir());

        let location = machine.resolve(Mode::Persistent, "", "").unwrap();
        assert_eq!(location.file(), Some(machine.path("data/merganser/merganser.duckdb").as_path()));
        assert!(machine.path("data/merganser").is_dir());

        let error = machine.resolve(Mode::Persistent, "new/dir", "").unwrap_err();
        assert!(error.message().ends_with("is a directory: give the path of a database file"), "{error}");
        assert_eq!(machine.scratch_directories(), 0);
    }

    #[test]
    fn a_read_only_database_must_be_there_and_may_be_shared() {
        let machine = Machine::new();
        let error = machine.resolve(Mode::ReadOnly, "a.duckdb", "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.message(), format!("database file not found: {}", machine.path("a.duckdb").display()));
        assert!(!machine.path("a.duckdb").exists());

        fs::write(machine.path("a.duckdb"), "").unwrap();
        let first = machine.resolve(Mode::ReadOnly, "a.duckdb", "").unwrap();
        let second = machine.resolve(Mode::ReadOnly, "a.duckdb", "").unwrap();
        assert_eq!(first.file(), second.file());
        assert_ne!(first.temp_directory(), second.temp_directory());
        drop((first, second));
        assert!(machine.path("a.duckdb").exists());
        assert_eq!(machine.scratch_directories(), 0);
    }

    #[test]
    fn a_database_in_memory_is_nowhere() {
        let machine = Machine::new();
        let location = machine.resolve(Mode::Memory, "", "").unwrap();
        assert_eq!((location.file(), location.temp_directory()), (None, None));
        let location = machine.resolve(Mode::Memory, "", "spill").unwrap();
        assert!(location.temp_directory().unwrap().starts_with(machine.path("spill")));
    }

    #[test]
    fn an_ephemeral_database_goes_with_its_location() {
        let machine = Machine::new();
        let location = machine.resolve(Mode::Ephemeral, "", "").unwrap();
        let file = location.file().unwrap().to_owned();
        let directory = file.parent().unwrap();
        assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
        let name = directory.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("merganser-ephemeral-{}-", process::id())), "{name}");
        fs::write(&file, "data").unwrap();
        fs::create_dir(location.temp_directory().unwrap()).unwrap();
        drop(location);
        assert!(!directory.exists());
        assert_eq!(machine.scratch_directories(), 0);
    }

    #[test]
    fn what_a_crash_left_behind_is_removed_and_a_live_database_is_not() {
        let machine = Machine::new();
        let live = machine.resolve(Mode::Ephemeral, "", "").unwrap();
        fs::write(live.file().unwrap(), "live").unwrap();

        // The kernel closes what a killed process had open, and with it the lock.
        let left = machine.path("tmp/merganser-ephemeral-1-crashed");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("merganser.duckdb"), "left").unwrap();

        // Not ours to follow or to remove.
        fs::create_dir(machine.path("elsewhere")).unwrap();
        symlink(machine.path("elsewhere"), machine.path("tmp/merganser-ephemeral-1-link")).unwrap();
        fs::write(machine.path("tmp/merganser-ephemeral-1-file"), "").unwrap();
        fs::create_dir(machine.path("tmp/other")).unwrap();

        let next = machine.resolve(Mode::Ephemeral, "", "").unwrap();
        assert!(!left.exists());
        assert_eq!(fs::read(live.file().unwrap()).unwrap(), b"live");
        assert!(machine.path("elsewhere").exists());
        // live, next, the link, the file, the other
        assert_eq!(machine.scratch_directories(), 5);
        drop((live, next));
        assert_eq!(machine.scratch_directories(), 3);
    }
}
