//! CSV with a header. For a managed kind every column is sent as text, and the server makes times and JSON of it; for a plain
//! table the types are told from a sample.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::buffered::{Parse, plain};
use super::lines::{LINE_BYTES_MAX, Lines, trim_end};
use crate::error::{Error, Result};
use crate::tables::Kind;

/// Parses records of CSV.
#[derive(Debug)]
pub(super) struct Table {
    schema: SchemaRef,
    /// Columns in which an empty cell is empty text: text that must not be null.
    never_null: Vec<usize>,
}

impl Table {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, never_null: Vec::new() }
    }

    /// All columns as text; an empty cell is null where the kind allows null.
    pub(super) fn managed(names: &[String], kind: Kind) -> Self {
        let is_required =
            |name: &str| kind.columns().iter().any(|column| !column.nullable && column.name.eq_ignore_ascii_case(name));
        let never_null = (0..names.len()).filter(|index| is_required(&names[*index])).collect();
        let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        Self { schema: Arc::new(Schema::new(fields)), never_null }
    }
}

impl Parse for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn parse(&self, text: &[u8], rows: usize) -> Result<RecordBatch, ArrowError> {
        let mut decoder = ReaderBuilder::new(self.schema()).with_batch_size(rows.max(1)).build_decoder();
        let mut rest = text;
        loop {
            match decoder.decode(rest).map_err(|error| without_line(&error))? {
                0 if rest.is_empty() => break,
                0 => return Err(ArrowError::CsvError("more than one record".to_owned())),
                read => rest = &rest[read..],
            }
        }
        let batch = decoder.flush().map_err(|error| without_line(&error))?;
        let batch = batch.unwrap_or_else(|| RecordBatch::new_empty(self.schema()));
        if self.never_null.is_empty() {
            return Ok(batch);
        }
        let mut columns = batch.columns().to_vec();
        for index in &self.never_null {
            columns[*index] = empty_for_null(&columns[*index]);
        }
        RecordBatch::try_new(self.schema(), columns)
    }
}

/// arrow counts the lines of the text that it was given, which are not the file's.
fn without_line(error: &ArrowError) -> ArrowError {
    let text = plain(error);
    let text = text.split(" at line ").next().unwrap_or_default();
    let text = match text.split_once(" for line ") {
        Some((what, rest)) => format!("{what}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => text.to_owned(),
    };
    ArrowError::CsvError(text)
}

fn empty_for_null(column: &ArrayRef) -> ArrayRef {
    if column.null_count() == 0 {
        return Arc::clone(column);
    }
    let texts = column.as_string::<i32>().iter().map(|text| Some(text.unwrap_or_default()));
    Arc::new(texts.collect::<StringArray>())
}

/// Appends the next record, its line end included, to `record`, and returns the number of its first line. A record goes on to
/// the next line while a quoted field is open.
pub(super) fn next_record(lines: &mut Lines, record: &mut Vec<u8>) -> Result<Option<u64>> {
    let start = record.len();
    let Some(number) = lines.next(record)? else { return Ok(None) };
    let mut quotes = Quotes::default();
    quotes.read(&record[start..]);
    while quotes.open {
        let read = record.len();
        if lines.next(record)?.is_none() || record.len() > LINE_BYTES_MAX {
            return Err(Error::invalid(format!("{}:{number}: a quoted field is not closed", lines.name())));
        }
        quotes.read(&record[read..]);
    }
    Ok(Some(number))
}

/// Whether a quoted field is open. A quote opens a field at its beginning only; elsewhere in an unquoted field it is text.
#[derive(Debug, Default)]
struct Quotes {
    open: bool,
    /// In an unquoted field, behind its beginning.
    inside: bool,
}

impl Quotes {
    fn read(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                // A doubled quote closes and opens again, which comes to the same.
                b'"' if self.open => self.open = false,
                b'"' if !self.inside => self.open = true,
                _ if self.open => {}
                b',' | b'\n' | b'\r' => self.inside = false,
                _ => self.inside = true,
            }
        }
    }
}

/// The names in a header record.
pub(super) fn header(name: &str, record: &[u8]) -> Result<Vec<String>> {
    let failed = |reason: &str| Error::invalid(format!("{name}:1: {reason}"));
    let record = trim_end(record);
    let inferred = Format::default().with_header(true).infer_schema(record, Some(0));
    let (schema, _) = inferred.map_err(|error| failed(&format!("not a CSV header: {}", plain(&error))))?;
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().trim().to_owned()).collect();
    for (index, column) in names.iter().enumerate() {
        if column.is_empty() {
            return Err(failed(&format!("column {} of the header has no name", index + 1)));
        }
        if names[..index].iter().any(|earlier| earlier.eq_ignore_ascii_case(column)) {
            return Err(failed(&format!("the header has `{column}` twice")));
        }
    }
    Ok(names)
}

/// The types of the columns `names`, told from the records of `sample`, whose first one is the header.
pub(super) fn infer(names: &[String], sample: &[u8]) -> Result<SchemaRef, String> {
    // Bad records are passed over; the reader meets them again.
    let sample = String::from_utf8_lossy(sample);
    let format = Format::default().with_header(true).with_truncated_rows(true);
    let (schema, _) = format
        .infer_schema(sample.as_bytes(), None)
        .map_err(|error| format!("cannot tell the columns' types: {}", plain(&error)))?;
    let fields = schema.fields().iter().zip(names).map(|(field, name)| -> FieldRef {
        let data_type = if field.data_type().is_null() { &DataType::Utf8 } else { field.data_type() };
        Arc::new(Field::new(name, data_type.clone(), true))
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_over_lines() {
        let text = b"a,b\r\n1,\"x\n\n\"\"y\"\"\r\nz\"\n2,it\"s\n\"\",3\n\"open";
        let mut lines = Lines::new("a.csv", Box::new(&text[..]));
        let mut records = Vec::new();
        let error = loop {
            let mut record = Vec::new();
            match next_record(&mut lines, &mut record) {
                Ok(number) => records.push((number.unwrap(), String::from_utf8(record).unwrap())),
                Err(error) => break error,
            }
        };
        let record = |number, text: &str| (number, text.to_owned());
        assert_eq!(
            records,
            [
                record(1, "a,b\r\n"),
                record(2, "1,\"x\n\n\"\"y\"\"\r\nz\"\n"),
                record(6, "2,it\"s\n"),
                record(7, "\"\",3\n")
            ]
        );
        assert_eq!(error.message(), "a.csv:8: a quoted field is not closed");
    }

    #[test]
    fn headers() {
        assert_eq!(header("a", b"id,\"the, name\", x \r\n").unwrap(), ["id", "the, name", "x"]);
        assert_eq!(header("a.csv", b"id,,x").unwrap_err().message(), "a.csv:1: column 2 of the header has no name");
        assert_eq!(header("a.csv", b"id,x,ID").unwrap_err().message(), "a.csv:1: the header has `ID` twice");
    }

    #[test]
    fn empty_cells_of_a_managed_kind() {
        let names = ["distinct_id", "properties", "last_seen"].map(str::to_owned);
        let table = Table::managed(&names, Kind::Profiles);
        let batch = table.parse(b",,\nd,\"{\"\"a\"\": \"\"x,\n\"\"}\",2024-01-01\n", 2).unwrap();
        let texts = |column: &str| batch[column].as_string::<i32>().iter().collect::<Vec<_>>();
        assert_eq!(texts("distinct_id"), [Some(""), Some("d")]);
        assert_eq!(texts("properties"), [None, Some("{\"a\": \"x,\n\"}")]);
        assert_eq!(texts("last_seen"), [None, Some("2024-01-01")]);
    }

    #[test]
    fn bad_records_are_told_without_arrow_s_line() {
        let names = ["a", "b"].map(str::to_owned);
        let schema = infer(&names, b"a,b\n1,x\n2,\n3\n").unwrap();
        assert_eq!(schema.field(0).data_type(), &DataType::Int64);
        assert_eq!(schema.field(1).data_type(), &DataType::Utf8);
        let table = Table::new(schema);
        for (record, reason) in [
            (&b"1,x,y\n"[..], "incorrect number of fields, expected 2 got more than 2"),
            (b"1\n", "incorrect number of fields, expected 2 got 1"),
            (b"one,x\n", "Error while parsing value 'one' as type 'Int64' for column 0"),
            (b"1,x\r2,y\n", "more than one record"),
        ] {
            let error = table.parse(record, 1).unwrap_err();
            assert_eq!(plain(&error), reason);
        }
    }
}
