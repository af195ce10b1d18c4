//! What a load of many files has stored so far, in a file of the user's state directory, so that the same command goes on where an
//! interrupted one was. It is gone when the load has stored all of its files.
//!
//! Each file is one ingest, whose id is made of the load's id and of the file: its path, size and time of change. A file whose line is
//! missing, because the process died before it was written, is sent again under the same id, and the server stores nothing twice.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cli::output;
use crate::error::{Error, Result};

/// Journals of loads that nobody has gone on with for so long are removed.
const KEPT: Duration = Duration::from_hours(30 * 24);
const ENDING: &str = "load";

/// One line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first one: the load's id.
    Load(Uuid),
    /// The table that it goes into was made at this time; not told of plain tables.
    Table { created_at: String },
    /// A file is stored.
    Stored { id: Uuid, file: String, rows_inserted: u64 },
}

/// What a load has stored.
#[derive(Debug)]
pub(super) struct Journal {
    /// None where there is no place to keep it.
    file: Option<(PathBuf, File)>,
    load: Uuid,
    /// Rows inserted, by the id of the file's ingest.
    stored: HashMap<Uuid, u64>,
    created_at: Option<String>,
}

impl Journal {
    /// The journal of the load that `key` names, in `directory`; a new one if there is none.
    ///
    /// # Errors
    /// `FailedPrecondition` when another process has it.
    pub(super) fn open(directory: Option<&Path>, key: &str) -> Result<Self> {
        let mut journal = Self { file: None, load: Uuid::now_v7(), stored: HashMap::new(), created_at: None };
        let Some(directory) = directory else { return Ok(journal) };
        let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes());
        let path = directory.join(format!("{name}.{ENDING}"));
        let failed = |error| failed(&path, error);
        fs::create_dir_all(directory).map_err(failed)?;
        remove_old(directory);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::precondition("the same load is running in another process"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let known = journal.read(&file).map_err(failed)?;
        journal.file = Some((path, file));
        if !known {
            journal.restart()?;
        }
        Ok(journal)
    }

    /// Takes over what is in `file`; whether that is a journal. A last line that is cut off is taken away: what it was to tell of
    /// is sent again.
    fn read(&mut self, mut file: &File) -> std::io::Result<bool> {
        let mut text = String::new();
        if file.read_to_string(&mut text).is_err() {
            return Ok(false);
        }
        let mut bytes = 0_u64;
        for (index, text) in text.split_inclusive('\n').filter(|text| text.ends_with('\n')).enumerate() {
            match (index, serde_json::from_str(text)) {
                (0, Ok(Line::Load(load))) => self.load = load,
                (0, _) => return Ok(false),
                (_, Ok(Line::Table { created_at })) => self.created_at = Some(created_at),
                (_, Ok(Line::Stored { id, rows_inserted, .. })) => {
                    self.stored.insert(id, rows_inserted);
                }
                (_, Ok(Line::Load(_)) | Err(_)) => break,
            }
            bytes += text.len() as u64;
        }
        file.set_len(bytes)?;
        Ok(bytes > 0)
    }

    /// Forgets all: what was stored is to be stored again, under new ids.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.load = Uuid::now_v7();
        self.stored.clear();
        self.created_at = None;
        if let Some((path, file)) = &mut self.file {
            file.set_len(0).map_err(|error| failed(path, error))?;
        }
        self.write(&Line::Load(self.load))
    }

    /// The id of a file's ingest; a new one each time for what is no file.
    pub(super) fn id(&self, path: &Path) -> Uuid {
        let Some(metadata) = fs::metadata(path).ok().filter(fs::Metadata::is_file) else { return Uuid::now_v7() };
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let state = format!("\0{}\0{}\0{}", metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let name = [path.as_os_str().as_bytes(), state.as_bytes()].concat();
        Uuid::new_v5(&self.load, &name)
    }

    pub(super) fn is_stored(&self, id: Uuid) -> bool {
        self.stored.contains_key(&id)
    }

    /// Files that are stored.
    pub(super) fn files(&self) -> usize {
        self.stored.len()
    }

    /// Rows that they have added to the table.
    pub(super) fn rows_inserted(&self) -> u64 {
        self.stored.values().sum()
    }

    /// When the table was made that they went into, if it is known.
    pub(super) fn created_at(&self) -> Option<&str> {
        self.created_at.as_deref()
    }

    /// Where it is kept.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// Notes when the table was made.
    pub(super) fn note_table(&mut self, created_at: &str) -> Result<()> {
        self.created_at = Some(created_at.to_owned());
        self.write(&Line::Table { created_at: created_at.to_owned() })
    }

    /// Notes that a file is stored.
    pub(super) fn note_stored(&mut self, id: Uuid, path: &Path, rows_inserted: u64) -> Result<()> {
        self.stored.insert(id, rows_inserted);
        self.write(&Line::Stored { id, file: path.display().to_string(), rows_inserted })
    }

    /// The load is done: the next one with the same arguments is another.
    pub(super) fn finish(self) -> Result<()> {
        match self.file {
            Some((path, _file)) => fs::remove_file(&path).map_err(|error| failed(&path, error)),
            None => Ok(()),
        }
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let mut text =
            serde_json::to_vec(line).map_err(|error| Error::internal("cannot write the journal").with_source(error))?;
        text.push(b'\n');
        file.write_all(&text).and_then(|()| file.sync_data()).map_err(|error| failed(path, error))
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    let reason = output::reason(&error);
    Error::exhausted(format!("cannot keep what is stored in {}: {reason}", path.display())).with_source(error)
}

/// Removes journals that are old. One that cannot be removed harms nobody.
fn remove_old(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if path.extension().is_some_and(|ending| ending == ENDING) && age.is_some_and(|age| age > KEPT) {
            drop(fs::remove_file(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn open(&self, key: &str) -> Result<Journal> {
            Journal::open(Some(self.0.path()), key)
        }

        fn file(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    #[test]
    fn what_is_stored_is_known_the_next_time() {
        let place = Place::new();
        let (first, second) = (place.file("a.csv", "a"), place.file("b.csv", "b"));
        let mut journal = place.open("load").unwrap();
        let ids = [journal.id(&first), journal.id(&second)];
        assert_ne!(ids[0], ids[1]);
        journal.note_stored(ids[0], &first, 7).unwrap();
        journal.note_table("2024-01-01").unwrap();
        assert!(place.open("load").unwrap_err().message().contains("running in another process"));
        assert_eq!(place.open("other").unwrap().files(), 0);
        drop(journal);

        let mut journal = place.open("load").unwrap();
        assert_eq!([journal.id(&first), journal.id(&second)], ids);
        assert!(journal.is_stored(ids[0]) && !journal.is_stored(ids[1]));
        assert_eq!((journal.files(), journal.rows_inserted(), journal.created_at()), (1, 7, Some("2024-01-01")));
        // A file that has changed is another one.
        place.file("a.csv", "changed");
        assert!(!journal.is_stored(journal.id(&first)));

        journal.restart().unwrap();
        assert_eq!((journal.files(), journal.created_at()), (0, None));
        assert_ne!(journal.id(&second), ids[1], "a load that begins anew has other ids");
        drop(journal);
        let journal = place.open("load").unwrap();
        assert_eq!(journal.files(), 0);
        let path = journal.path().unwrap().to_owned();
        journal.finish().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_line_that_is_cut_off_is_not_there() {
        let place = Place::new();
        let file = place.file("a.csv", "a");
        let mut journal = place.open("load").unwrap();
        let id = journal.id(&file);
        journal.note_stored(id, &file, 1).unwrap();
        let path = journal.path().unwrap().to_owned();
        drop(journal);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 5]).unwrap();
        let journal = place.open("load").unwrap();
        assert_eq!((journal.files(), journal.id(&file)), (0, id), "it is sent again under the same id");
        drop(journal);
        let mut journal = place.open("load").unwrap();
        journal.note_stored(id, &file, 1).unwrap();
        drop(journal);
        assert_eq!(place.open("load").unwrap().files(), 1, "what follows a line that was cut off is whole");
        fs::write(&path, "not a journal").unwrap();
        assert_eq!(place.open("load").unwrap().files(), 0);
    }

    #[test]
    fn old_journals_are_removed() {
        let place = Place::new();
        let path = place.open("old").unwrap().path().unwrap().to_owned();
        let long_ago = SystemTime::now() - KEPT - Duration::from_mins(1);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        drop(place.open("new").unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn without_a_place_nothing_is_kept() {
        let mut journal = Journal::open(None, "load").unwrap();
        let id = journal.id(Path::new("/nowhere"));
        assert_ne!(id, journal.id(Path::new("/nowhere")), "what is no file has no identity");
        journal.note_stored(id, Path::new("/nowhere"), 1).unwrap();
        assert!(journal.is_stored(id) && journal.path().is_none());
        journal.finish().unwrap();
    }
}
