//! Texts of records, one a line or so, become batches: blank lines are passed over, bad records are reported with their line.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::ledger::Ledger;
use super::lines::{Lines, trim_end};
use super::{Batches, csv};
use crate::error::{Error, Result};

/// Text in a batch, at most; a batch of long records has fewer rows.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// What makes rows of records.
pub(super) trait Decode: Send {
    fn schema(&self) -> SchemaRef;

    /// Takes one record, without its line end. An error says why it is no row; it is not taken then.
    fn push(&mut self, record: &[u8]) -> Result<(), String>;

    /// The rows of the records since the last flush. Some decoders find only now that a record is bad.
    fn flush(&mut self) -> Result<Flushed, ArrowError>;
}

/// Rows, and the records that turned out to be none.
#[derive(Debug)]
pub(super) struct Flushed {
    pub(super) batch: RecordBatch,
    pub(super) refused: Vec<Refused>,
}

/// A record that was taken, but is no row.
#[derive(Debug)]
pub(super) struct Refused {
    /// Its place among the records since the last flush.
    pub(super) index: usize,
    pub(super) record: Vec<u8>,
    pub(super) reason: String,
}

impl From<RecordBatch> for Flushed {
    fn from(batch: RecordBatch) -> Self {
        Self { batch, refused: Vec::new() }
    }
}

/// A record as text.
pub(super) fn utf8(record: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(record).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))
}

/// How records are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// One a line.
    Lines,
    /// CSV: a quoted field may hold line ends.
    Csv,
}

/// The records of one input, as batches.
pub(super) struct Text {
    lines: Lines,
    records: Records,
    decoder: Box<dyn Decode>,
    batch_rows: usize,
    record: Vec<u8>,
    /// The lines of the records since the last flush.
    taken: Vec<u64>,
    ended: bool,
}

impl Text {
    pub(super) fn new(lines: Lines, records: Records, decoder: Box<dyn Decode>, batch_rows: usize) -> Self {
        Self { lines, records, decoder, batch_rows, record: Vec::new(), taken: Vec::new(), ended: false }
    }

    /// Reads the next record that is not blank, and returns its first line's number.
    fn next_record(&mut self) -> Result<Option<u64>> {
        loop {
            self.record.clear();
            let number = match self.records {
                Records::Lines => self.lines.next(&mut self.record)?,
                Records::Csv => csv::next_record(&mut self.lines, &mut self.record)?,
            };
            match number {
                Some(_) if self.record.trim_ascii().is_empty() => {}
                number => return Ok(number),
            }
        }
    }

    fn flush(&mut self, ledger: &mut Ledger) -> Result<RecordBatch> {
        let flushed = self.decoder.flush().map_err(|error| {
            Error::internal(format!("cannot make a batch of {}: {error}", self.lines.name())).with_source(error)
        })?;
        for refused in &flushed.refused {
            ledger.bad_line(self.taken[refused.index], &refused.record, &refused.reason)?;
        }
        let mut refused = flushed.refused.iter().map(|refused| refused.index).peekable();
        let mut index = 0;
        self.taken.retain(|_| {
            index += 1;
            refused.next_if_eq(&(index - 1)).is_none()
        });
        ledger.add_lines(&self.taken);
        self.taken.clear();
        Ok(flushed.batch)
    }
}

impl Batches for Text {
    fn schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    fn next(&mut self, ledger: &mut Ledger) -> Result<Option<RecordBatch>> {
        let mut bytes = 0;
        while !self.ended && self.taken.len() < self.batch_rows && bytes < BATCH_BYTES_MAX {
            let Some(number) = self.next_record()? else {
                self.ended = true;
                break;
            };
            let record = trim_end(&self.record);
            match self.decoder.push(record) {
                Ok(()) => {
                    self.taken.push(number);
                    bytes += record.len();
                }
                Err(reason) => ledger.bad_line(number, record, &reason)?,
            }
        }
        if self.taken.is_empty() {
            return Ok(None);
        }
        self.flush(ledger).map(Some)
    }
}
