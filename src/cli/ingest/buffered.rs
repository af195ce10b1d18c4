//! Records that are parsed a batch at a time by arrow, and found one by one when the batch does not parse.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::text::{Decode, Flushed, Refused};

/// What parses the text of some records, each with a line end.
pub(super) trait Parse: Send {
    fn schema(&self) -> SchemaRef;

    /// The rows of `text`, which holds `rows` records.
    fn parse(&self, text: &[u8], rows: usize) -> Result<RecordBatch, ArrowError>;
}

/// Keeps the records' text until the batch is full.
#[derive(Debug)]
pub(super) struct Buffered<P> {
    parser: P,
    records: Kept,
}

/// The text of some records, each with a line end.
#[derive(Debug, Default)]
pub(super) struct Kept {
    text: Vec<u8>,
    /// Where each record ends, its line end included.
    ends: Vec<usize>,
}

impl<P: Parse> Buffered<P> {
    pub(super) fn new(parser: P) -> Self {
        Self { parser, records: Kept::default() }
    }

    /// Parses records `first..end`; each must be one row.
    fn parse(&self, first: usize, end: usize) -> Result<RecordBatch, String> {
        let batch = self.parser.parse(self.records.range(first, end), end - first).map_err(|error| plain(&error))?;
        if batch.num_rows() == end - first { Ok(batch) } else { Err("not one record".to_owned()) }
    }

    /// The records of `first..end` that are no rows, by halves: most batches have none, and most others a few.
    fn search(&self, first: usize, end: usize, refused: &mut Vec<Refused>) {
        let Err(reason) = self.parse(first, end) else { return };
        if end - first == 1 {
            refused.push(Refused { index: first, record: self.records.get(first).to_vec(), reason });
            return;
        }
        let middle = first.midpoint(end);
        self.search(first, middle, refused);
        self.search(middle, end, refused);
    }

    /// Finds the records that are no rows, and parses the others.
    fn parse_good(&self, refused: &mut Vec<Refused>) -> Result<RecordBatch, ArrowError> {
        self.search(0, self.records.len(), refused);
        let is_good = |index: &usize| refused.binary_search_by_key(index, |bad| bad.index).is_err();
        let good: Vec<usize> = (0..self.records.len()).filter(is_good).collect();
        let text: Vec<u8> = good.iter().flat_map(|index| self.records.range(*index, index + 1)).copied().collect();
        self.parser.parse(&text, good.len())
    }
}

impl Kept {
    pub(super) fn push(&mut self, record: &[u8]) {
        self.text.extend_from_slice(record);
        self.text.push(b'\n');
        self.ends.push(self.text.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A record, without its line end.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        self.range(index, index + 1).strip_suffix(b"\n").unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Records `first..end`, with their line ends.
    fn range(&self, first: usize, end: usize) -> &[u8] {
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        end.checked_sub(1).map_or(&[], |last| &self.text[start..self.ends[last]])
    }
}

impl<P: Parse> Decode for Buffered<P> {
    fn schema(&self) -> SchemaRef {
        self.parser.schema()
    }

    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        self.records.push(record);
        Ok(())
    }

    fn flush(&mut self) -> Result<Flushed, ArrowError> {
        let mut refused = Vec::new();
        let batch = match self.parse(0, self.records.len()) {
            Ok(batch) => batch,
            Err(_) => self.parse_good(&mut refused)?,
        };
        self.records.clear();
        Ok(Flushed { batch, refused })
    }
}

/// An error of arrow about one record, without arrow's name for the kind of error.
pub(super) fn plain(error: &ArrowError) -> String {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((_, rest)) if text.starts_with("Json error") || text.starts_with("Csv error") => rest.to_owned(),
        Some((_, rest)) if text.starts_with("Parser error") => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::cli::ingest::ndjson::{Table, infer};

    #[test]
    fn bad_records_are_found_in_their_batch() {
        let schema = infer([&br#"{"a":1,"b":"x"}"#[..]].into_iter()).unwrap();
        let mut decoder = Buffered::new(Table::new(schema));
        let records = [
            r#"{"a":1,"b":"x"}"#,
            r#"{"a":"one"}"#,
            r#"{"a":2,"b":5}"#,
            r#"{"a":3} {"a":4}"#,
            r#"{"a":5"#,
            "}",
            r#"{"a":6,"new":1}"#,
            r#"{"a":7}"#,
        ];
        for record in records {
            decoder.push(record.as_bytes()).unwrap();
        }
        let flushed = decoder.flush().unwrap();
        assert_eq!(flushed.batch["a"].as_primitive::<Int64Type>().values(), &[1, 2, 7]);
        let refused: Vec<_> = flushed.refused.iter().map(|bad| bad.index).collect();
        assert_eq!(refused, [1, 3, 4, 5, 6]);
        assert_eq!(flushed.refused[0].record, records[1].as_bytes());
        assert!(flushed.refused[4].reason.contains("new"), "{}", flushed.refused[4].reason);

        decoder.push(br#"{"a":8}"#).unwrap();
        assert_eq!(decoder.flush().unwrap().batch.num_rows(), 1);
        assert_eq!(decoder.flush().unwrap().batch.num_rows(), 0);
    }
}
