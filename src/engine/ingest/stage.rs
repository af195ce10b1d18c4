//! Rows of a stream that wait for its end: in memory while they are few, in a temporary table of the connection beyond that
//! (DuckDB keeps those within its memory limit and spills them to its temporary directory).

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Held;
use crate::batch;
use crate::engine::import::Import;
use crate::engine::work::Work;
use crate::error::Result;

/// Rows that wait, all of one schema.
#[derive(Debug)]
pub(super) struct Stage {
    /// The temporary table's name.
    name: &'static str,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    permits: Vec<Held>,
    memory_bytes: usize,
    memory_bytes_max: usize,
    spilled: bool,
    rows: u64,
}

/// Staged rows, ready to be read by a statement.
#[derive(Debug)]
pub(super) struct Source {
    /// What to read `FROM`.
    pub(super) from: String,
    /// Kept for as long as it is read.
    _import: Option<Import>,
}

impl Stage {
    /// An empty stage that spills to the temporary table `name` beyond `memory_bytes_max`.
    pub(super) fn new(name: &'static str, schema: &SchemaRef, memory_bytes_max: usize) -> Self {
        Self {
            name,
            schema: Arc::clone(schema),
            batches: Vec::new(),
            permits: Vec::new(),
            memory_bytes: 0,
            memory_bytes_max,
            spilled: false,
            rows: 0,
        }
    }

    /// Whether everything is still in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        !self.spilled
    }

    /// Adds rows; spills when they are too many.
    pub(super) fn add(&mut self, work: &Work, batches: Vec<RecordBatch>, permit: Option<Held>) -> Result<()> {
        for batch in batches {
            self.rows += batch.num_rows() as u64;
            self.memory_bytes += batch::bytes(&batch);
            self.batches.push(batch);
        }
        self.permits.extend(permit);
        if self.memory_bytes > self.memory_bytes_max { self.spill(work) } else { Ok(()) }
    }

    fn spill(&mut self, work: &Work) -> Result<()> {
        let import = work.engine.imports.add(&self.schema, std::mem::take(&mut self.batches));
        let _slot = work.slot()?;
        let table = self.table();
        if self.spilled {
            work.execute(&format!("INSERT INTO {table} FROM {}", import.sql()))?;
        } else {
            work.execute(&format!("CREATE TEMP TABLE {table} AS FROM {}", import.sql()))?;
            self.spilled = true;
        }
        self.permits.clear();
        self.memory_bytes = 0;
        Ok(())
    }

    fn table(&self) -> String {
        format!("temp.main.{}", self.name)
    }

    /// The rows in memory, and their share of the memory budget.
    pub(super) fn into_memory(self) -> (Vec<RecordBatch>, Vec<Held>) {
        (self.batches, self.permits)
    }

    /// Drops the temporary table, on a connection that goes on to other work.
    pub(super) fn drop_table(&self, work: &Work) {
        if self.spilled
            && let Err(error) = work.execute(&format!("DROP TABLE IF EXISTS {}", self.table()))
        {
            tracing::debug!(%error, "cannot drop a stage");
        }
    }

    /// Everything staged, to be read by a statement; none if there is nothing.
    pub(super) fn source(&mut self, work: &Work) -> Result<Option<Source>> {
        if self.rows == 0 {
            return Ok(None);
        }
        if self.spilled {
            if !self.batches.is_empty() {
                self.spill(work)?;
            }
            return Ok(Some(Source { from: self.table(), _import: None }));
        }
        Ok(Some(Source::of(work, &self.schema, std::mem::take(&mut self.batches))))
    }
}

impl Source {
    /// Batches in memory, to be read by a statement.
    pub(super) fn of(work: &Work, schema: &SchemaRef, batches: Vec<RecordBatch>) -> Self {
        let import = work.engine.imports.add(schema, batches);
        Self { from: import.sql(), _import: Some(import) }
    }
}
