//! What the engine does and holds, for those who operate the server, and the probe that tells whether it works.
//!
//! Both look past the queue of statements: a server with much to do is not one that fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duckdb_neo::Parameters;
use tokio::sync::oneshot;

use super::contents::rows;
use super::error::invalidates_database;
use super::{Activity, CATALOG, Engine, Inner, recovery};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, with_ending};

/// What the engine does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// What is open.
    pub activity: Activity,
    /// Statements that DuckDB works for.
    pub running: usize,
    /// Statements that wait for their turn.
    pub waiting: usize,
    /// Threads for statements.
    pub statement_threads: ThreadCount,
    /// Threads for ingests.
    pub ingest_threads: ThreadCount,
}

/// Threads of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadCount {
    /// Those that work, or wait for a client.
    pub busy: usize,
    /// Those that wait for work.
    pub idle: usize,
}

/// What DuckDB and its files take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of DuckDB's buffers, by what they are for.
    pub memory: Vec<(String, u64)>,
    /// Bytes of the files that it has spilled to.
    pub temporary_bytes: u64,
    /// Files that it has spilled to.
    pub temporary_files: u64,
    /// Bytes of the database file; none for a database in memory.
    pub file_bytes: Option<u64>,
    /// Bytes of the write-ahead log.
    pub wal_bytes: Option<u64>,
    /// Free bytes where the database file is.
    pub data_free_bytes: Option<u64>,
    /// Free bytes where files are spilled to.
    pub temporary_free_bytes: Option<u64>,
}

/// A look at the database that is under way.
#[derive(Debug)]
pub struct Probe {
    began: Arc<AtomicBool>,
    answer: oneshot::Receiver<Result<()>>,
}

impl Probe {
    /// Whether a thread of the engine has begun with it.
    pub fn has_begun(&self) -> bool {
        self.began.load(Ordering::Acquire)
    }

    /// Waits for the answer; again, if a former wait was given up.
    ///
    /// # Errors
    /// `Unavailable` when the database is not there, or does not answer as it should.
    pub async fn answer(&mut self) -> Result<()> {
        (&mut self.answer).await.map_err(|_| Error::internal("the engine ended without an answer"))?
    }
}

impl Engine {
    /// What the engine does at this moment.
    pub fn load(&self) -> Load {
        let (running, waiting) = self.0.slots.counts();
        Load {
            activity: self.activity(),
            running,
            waiting,
            statement_threads: self.0.threads.count(),
            ingest_threads: self.0.ingest_threads.count(),
        }
    }

    /// Whether nothing runs, to the last line of it.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        let busy = self.0.threads.count().busy + self.0.ingest_threads.count().busy;
        self.0.watchdog.is_idle() && busy == 0
    }

    /// Asks DuckDB and the file system what they hold.
    pub async fn stats(&self) -> Result<Usage> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        // Nobody waits for the answer any more when the receiver is gone.
        self.0.threads.spawn_look(move || drop(answer_tx.send(inner.usage())))?;
        answer_rx.await.map_err(|_| Error::internal("the engine ended without an answer"))?
    }

    /// Starts a look at the database: whether a thread takes it, and a statement on the attached file is answered.
    ///
    /// # Errors
    /// `ResourceExhausted` when all threads are busy, which is not to say that they do not work.
    pub fn probe(&self) -> Result<Probe> {
        self.0.threads.check()?;
        let (answer_tx, answer) = oneshot::channel();
        let began = Arc::new(AtomicBool::new(false));
        let (engine, taken) = (self.clone(), Arc::clone(&began));
        self.0.threads.spawn_look(move || {
            taken.store(true, Ordering::Release);
            drop(answer_tx.send(engine.look()));
        })?;
        Ok(Probe { began, answer })
    }

    /// Whether the database is attached and answers.
    fn look(&self) -> Result<()> {
        self.0.recovery.turn()?;
        let connection = self.0.instance.connect()?;
        let attached = format!("SELECT database_name FROM duckdb_databases() WHERE database_name = '{CATALOG}'");
        if rows::<1>(&connection, &attached)?.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "the database is not open"));
        }
        let look = format!("SELECT 1 FROM {CATALOG}.main.{} LIMIT 1", crate::tables::METADATA_TABLE);
        match connection.execute(look, Parameters::None).map_err(Error::from) {
            Err(error) if invalidates_database(&error) => {
                // An idle server comes back by itself, too.
                self.start_recovery();
                Err(recovery::reopening().with_source(error))
            }
            // A file that was opened for reading may lack the table, and says so; others have it.
            Err(error) if !self.0.database.read_only => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Inner {
    fn usage(&self) -> Result<Usage> {
        let connection = self.instance.connect()?;
        let number = |text: &String| text.parse().unwrap_or(0);
        let memory = rows(
            &connection,
            "SELECT tag, memory_usage_bytes FROM duckdb_memory() WHERE memory_usage_bytes IS NOT NULL",
        )?;
        let spilled = "SELECT count(*), coalesce(sum(size), 0) FROM duckdb_temporary_files()";
        let [temporary_files, temporary_bytes] = rows(&connection, spilled)?.pop().unwrap_or_default();
        let file = self.database.path.as_deref();
        // There is none after a checkpoint.
        let wal = file.map(|file| bytes_of(&with_ending(file, ".wal")).unwrap_or(0));
        Ok(Usage {
            memory: memory.iter().map(|[tag, bytes]| (tag.to_lowercase(), number(bytes))).collect(),
            temporary_files: number(&temporary_files),
            temporary_bytes: number(&temporary_bytes),
            file_bytes: file.and_then(bytes_of),
            wal_bytes: wal,
            data_free_bytes: file.and_then(free_bytes),
            temporary_free_bytes: self.database.temp_directory.as_deref().and_then(free_bytes),
        })
    }
}

fn bytes_of(file: &Path) -> Option<u64> {
    Some(std::fs::metadata(file).ok()?.len())
}

/// Free bytes of the file system that `path` is on, or will be on.
fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists())?;
    files::free_bytes(there).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::{Availability, Database};

    fn open(folder: &tempfile::TempDir) -> Engine {
        let path = Some(folder.path().join("a.duckdb"));
        let temp_directory = Some(folder.path().join("not").join("there"));
        Engine::open(&Config::default(), Database { path, temp_directory, read_only: false }).unwrap()
    }

    async fn probe(engine: &Engine) -> Result<()> {
        // The thread of the look before ends after its answer.
        let mut probe = loop {
            match engine.probe() {
                Ok(probe) => break probe,
                Err(_) => std::thread::yield_now(),
            }
        };
        let answer = probe.answer().await;
        assert!(probe.has_begun());
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_that_is_opened_again_is_not_ready_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&folder);
        probe(&engine).await.unwrap();
        for availability in [Availability::Reopening, Availability::Lost] {
            engine.0.recovery.set(availability);
            assert_eq!(probe(&engine).await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        engine.0.recovery.set(Availability::Ready);
        probe(&engine).await.unwrap();
        // Whoever lets it go without another in its place.
        let inner = Arc::clone(&engine.0);
        tokio::task::spawn_blocking(move || inner.open_again()).await.unwrap().unwrap();
        probe(&engine).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_and_memory_are_measured() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&folder);
        let usage = engine.stats().await.unwrap();
        assert!(usage.file_bytes.unwrap() > 0 && usage.wal_bytes.is_some());
        assert!(usage.data_free_bytes.unwrap() > 0 && usage.temporary_free_bytes.unwrap() > 0);
        assert!(usage.memory.iter().any(|(tag, _)| tag == "base_table"), "{usage:?}");
        assert_eq!((usage.temporary_files, usage.temporary_bytes), (0, 0));
        let load = engine.load();
        assert_eq!((load.running, load.waiting, load.activity.statements), (0, 0, 0));
        assert!(load.statement_threads.busy + load.statement_threads.idle >= 1);
    }
}
