//! What is done to the files of a database before DuckDB opens them, when the server starts: a file that is not there is made so
//! that a start that is killed meanwhile leaves nothing behind ([`new_file`]), the unfinished end that a crash or a power loss left in the
//! write-ahead log is cut off ([`log`]), and what a checkpoint has half written is mended ([`blocks`]).

mod blocks;
mod log;
mod log_format;
mod new_file;

use std::fs::File;
use std::path::{Path, PathBuf};

use duckdb_neo::instance::Instance;

use super::Database;
use crate::error::Result;
use crate::files::{directory_of, is_taken, with_ending};

/// Makes the files ready to be opened; those of a database in memory, or for reading only, stay as they are.
///
/// # Errors
/// `FailedPrecondition` when the log is damaged before something that was acknowledged, or a file cannot be read or written.
pub(in crate::engine) fn prepare(instance: &Instance, database: &Database) -> Result<()> {
    match database.path.as_deref() {
        Some(_) if database.read_only => Ok(()),
        Some(file) if file.exists() => log::mend(file),
        // What a link leads to is DuckDB's to make.
        Some(file) if is_taken(file) => Ok(()),
        Some(file) => new_file::make(instance, file),
        None => Ok(()),
    }
}

/// A name beside `path` that nothing has: `<path>.<word>-<time>`.
fn free_name(path: &Path, word: &str) -> PathBuf {
    let end = jiff::Timestamp::now().strftime(&format!(".{word}-%Y%m%dT%H%M%SZ")).to_string();
    let ends = std::iter::once(end.clone()).chain((2..).map(|number: u64| format!("{end}-{number}")));
    ends.map(|end| with_ending(path, &end)).find(|name| !is_taken(name)).unwrap_or_else(|| with_ending(path, &end))
}

/// Makes what was done to the names beside `path` durable. Not every file system lets a directory be synced.
fn sync_directory(path: &Path) {
    let directory = directory_of(path);
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::debug!(%error, directory = %directory.display(), "cannot sync the directory");
    }
}

#[cfg(test)]
mod tests {
    use duckdb_neo::Parameters;
    use duckdb_neo::environment::Environment;
    use duckdb_neo::instance::InstanceBuilder;

    use super::*;
    use crate::engine::open::attach;

    pub(super) fn instance() -> Instance {
        InstanceBuilder::new().option("memory_limit", "256MB").build(Environment::new().unwrap()).unwrap()
    }

    fn database(file: &Path, read_only: bool) -> Database {
        Database { path: Some(file.to_owned()), temp_directory: None, read_only }
    }

    /// Opens a file as the server does.
    pub(super) fn open(file: &Path) -> Result<Instance> {
        let (instance, database) = (instance(), database(file, false));
        prepare(&instance, &database)?;
        attach(&instance, &database)?;
        Ok(instance)
    }

    pub(super) fn execute(instance: &Instance, sql: &str) {
        try_execute(instance, sql).unwrap();
    }

    pub(super) fn try_execute(instance: &Instance, sql: &str) -> Result<()> {
        Ok(instance.connect()?.execute(sql, Parameters::None).map(drop)?)
    }

    pub(super) fn count(instance: &Instance, sql: &str) -> i64 {
        let connection = instance.connect().unwrap();
        let mut result = connection.query(sql, Parameters::None).unwrap();
        let chunk = result.next_chunk().unwrap().unwrap();
        *chunk.get_vector_at::<i64>(0).unwrap().reader().unwrap().get(0).unwrap().unwrap()
    }

    #[test]
    fn files_for_reading_and_links_that_lead_nowhere_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a.duckdb"), directory.path().join("b.duckdb"));
        let instance = instance();
        prepare(&instance, &database(&file, true)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        prepare(&instance, &database(&link, false)).unwrap();
        assert!(!file.exists());
        open(&link).unwrap();
        assert!(file.exists());
    }
}
