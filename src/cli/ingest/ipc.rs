//! Arrow IPC, files and streams: their batches are sent as they come.

use std::fs::File;
use std::io::{BufReader, Read};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};

use super::Batches;
use super::ledger::Ledger;
use crate::error::{Error, Result};

/// The rows of one file or stream.
pub(super) struct Ipc {
    name: String,
    reader: Reader,
    rows: u64,
    batches: u64,
}

enum Reader {
    File(Box<FileReader<BufReader<File>>>),
    Stream(Box<StreamReader<BufReader<Box<dyn Read + Send>>>>),
}

impl Ipc {
    pub(super) fn open_file(name: &str, file: File) -> Result<Self> {
        let reader = FileReader::try_new_buffered(file, None).map_err(|error| not_arrow(name, &error))?;
        Ok(Self::new(name, Reader::File(Box::new(reader))))
    }

    pub(super) fn open_stream(name: &str, stream: Box<dyn Read + Send>) -> Result<Self> {
        let reader = StreamReader::try_new_buffered(stream, None).map_err(|error| not_arrow(name, &error))?;
        Ok(Self::new(name, Reader::Stream(Box::new(reader))))
    }

    fn new(name: &str, reader: Reader) -> Self {
        Self { name: name.to_owned(), reader, rows: 0, batches: 0 }
    }
}

fn not_arrow(name: &str, error: &ArrowError) -> Error {
    Error::invalid(format!("{name}: cannot read it as Arrow IPC: {error}"))
}

impl Batches for Ipc {
    fn schema(&self) -> SchemaRef {
        match &self.reader {
            Reader::File(reader) => reader.schema(),
            Reader::Stream(reader) => reader.schema(),
        }
    }

    fn next(&mut self, ledger: &mut Ledger) -> Result<Option<RecordBatch>> {
        let batch = match &mut self.reader {
            Reader::File(reader) => reader.next(),
            Reader::Stream(reader) => reader.next(),
        };
        let failed = |error| Error::invalid(format!("{}: cannot read it after row {}: {error}", self.name, self.rows));
        let Some(batch) = batch.transpose().map_err(failed)? else {
            return Ok(None);
        };
        let rows = batch.num_rows() as u64;
        ledger.add_rows(self.rows + 1, rows);
        self.rows += rows;
        self.batches += 1;
        Ok(Some(batch))
    }

    fn parts(&self) -> Option<(u64, u64)> {
        match &self.reader {
            Reader::File(reader) => Some((self.batches, reader.num_batches() as u64)),
            Reader::Stream(_) => None,
        }
    }
}
