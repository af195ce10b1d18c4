//! Copying the database while it is in use: everything in one snapshot, into a file of its own.
//!
//! DuckDB does the copying, inside one transaction: ingests and queries go on, and what they commit meanwhile is not in it. What
//! `COPY FROM DATABASE` leaves out (DuckDB 2.0.0: triggers) is made after it.

use std::path::Path;
use std::sync::Arc;

use duckdb_neo::Parameters;
use duckdb_neo::connection::Connection;
use duckdb_neo::environment::StorageLocation;
use duckdb_neo::instance::AttachBuilder;
use tracing::Span;
use uuid::Uuid;

use super::cancel::Cancel;
use super::contents::{Contents, rows};
use super::session::Wants;
use super::threads::Use;
use super::work::{CancelOnDrop, Work, quote};
use super::{CATALOG, Call, Engine};
use crate::error::{Error, Result};
use crate::files::with_ending;

/// The right to copy the database, on a thread of the engine's.
pub struct Copier(Work);

impl std::fmt::Debug for Copier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier").finish_non_exhaustive()
    }
}

impl Engine {
    /// Runs `work`, which copies the database, on a thread of the engine's and waits for it; dropping the future interrupts it. It
    /// takes no statement's turn, and no limit on a statement's time holds for it but the call's own.
    pub async fn back_up<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce(&Copier) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // Whoever asks for it, the copying is the server's: it reads every table, and writes another database.
        let call = Call { deadline: call.deadline, ..Call::default() };
        let place = self.0.sessions.place(&call, Wants::Statement)?;
        let cancel = Cancel::until(call.deadline);
        let guard = CancelOnDrop(Arc::clone(&cancel));
        let (answer_tx, answer_rx) = tokio::sync::oneshot::channel();
        self.start(Use::Statements, &call, place, cancel, Span::current(), move |state| {
            let answer = state.map(Copier).and_then(|copier| work(&copier).map_err(|error| copier.0.explain(error)));
            // The caller may be gone; then nobody needs the answer.
            drop(answer_tx.send(answer));
        })?;
        let answer = answer_rx.await;
        drop(guard);
        answer.map_err(|_| Error::internal("the engine ended without an answer"))?
    }
}

impl Copier {
    /// Tells whether the copying may go on, on any thread.
    pub fn checker(&self) -> impl Fn() -> Result<()> + Send + Sync + use<> {
        let cancel = Arc::clone(&self.0.cancel);
        move || cancel.check()
    }

    /// About how many bytes a copy takes: those of the database and of its log.
    pub fn bytes(&self) -> Result<u64> {
        let Some(path) = &self.0.engine.database.path else {
            let sql = "SELECT sum(memory_usage_bytes) FROM duckdb_memory()";
            let [bytes] = rows(self.0.connection(), sql)?.pop().unwrap_or_default();
            return Ok(bytes.parse().unwrap_or_default());
        };
        let size = |path: &Path| path.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        Ok(size(path) + size(&with_ending(path, ".wal")))
    }

    /// Copies everything in one snapshot into `file`, which is not there yet; answers what the snapshot holds. The file is complete
    /// then, and nobody has it open.
    pub fn copy_to(&self, file: &Path) -> Result<Contents> {
        let path = file.to_str().ok_or_else(|| Error::invalid("the backup's path is not valid UTF-8"))?;
        // Nobody else guesses it.
        let alias = format!("backup_{}", Uuid::new_v4().simple());
        let instance = &self.0.engine.instance;
        instance.attach(AttachBuilder::new(StorageLocation::OnDisk(path.to_owned())).alias(&alias))?;
        let copied = self.copy_into(&alias);
        let detached = instance.detach(&alias);
        let contents = copied?;
        detached?;
        Ok(contents)
    }

    fn copy_into(&self, alias: &str) -> Result<Contents> {
        let Self(work) = self;
        let (contents, triggers) = work.transaction(|| {
            // What DuckDB makes of COPY FROM DATABASE without either, by a function that the guard has taken away.
            for part in ["SCHEMA", "DATA"] {
                work.execute(&format!("COPY FROM DATABASE {CATALOG} TO {} ({part})", quote(alias)))?;
            }
            let contents = Contents::of(work.connection(), &|| work.cancel.check())?;
            let triggers = "SELECT sql FROM duckdb_triggers() WHERE database_name = 'merganser'";
            Ok((contents, rows::<1>(work.connection(), triggers)?))
        })?;
        // Only after the rows, which would set them off; names in them are those of the copy.
        let connection: Connection = work.engine.instance.connect()?;
        let execute = |sql: &str| connection.execute(sql, Parameters::None).map(drop).map_err(Error::from);
        execute(&format!("USE {}", quote(alias)))?;
        triggers.iter().flatten().try_for_each(|sql| execute(sql))?;
        execute(&format!("CHECKPOINT {}", quote(alias)))?;
        Ok(contents)
    }
}
