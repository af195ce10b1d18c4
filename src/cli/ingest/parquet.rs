//! Parquet files: their batches are sent as they come.

use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::Batches;
use super::ledger::Ledger;
use crate::error::{Error, Result};

/// The rows of one file.
pub(super) struct Parquet {
    name: String,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
    rows: u64,
    rows_total: u64,
}

impl Parquet {
    pub(super) fn open(name: &str, file: File, batch_rows: usize) -> Result<Self> {
        let failed = |error| Error::invalid(format!("{name}: cannot read it as Parquet: {error}"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
        let schema = Arc::clone(builder.schema());
        let rows_total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let reader = builder.with_batch_size(batch_rows).build().map_err(failed)?;
        Ok(Self { name: name.to_owned(), schema, reader, rows: 0, rows_total })
    }
}

impl Batches for Parquet {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn next(&mut self, ledger: &mut Ledger) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.reader.next().transpose().map_err(|error| {
            Error::invalid(format!("{}: cannot read it after row {}: {error}", self.name, self.rows))
        })?
        else {
            return Ok(None);
        };
        let rows = batch.num_rows() as u64;
        ledger.add_rows(self.rows + 1, rows);
        self.rows += rows;
        Ok(Some(batch))
    }

    fn parts(&self) -> Option<(u64, u64)> {
        Some((self.rows, self.rows_total))
    }
}
