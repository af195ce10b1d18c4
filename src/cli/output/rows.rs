//! Result rows in each format: one batch in, its text or bytes out. Only the table keeps rows, and only those it shows.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::errors::ParquetError;
use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::json::writer::{JsonArray, LineDelimited, make_encoder};

use super::table::Table;
use super::{Stdout, json, parquet, write_error};
use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 128 << 10;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// Table for people: the first rows, and how many there are
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
    /// Arrow IPC stream
    Arrow,
    /// Arrow IPC file
    #[value(skip)]
    ArrowFile,
    /// Parquet file
    Parquet,
}

impl Format {
    /// Whether a terminal cannot show it.
    pub(in crate::cli) fn is_binary(self) -> bool {
        matches!(self, Self::Arrow | Self::ArrowFile | Self::Parquet)
    }
}

/// How rows are written, and how much of them a table shows.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct RowWriterOptions {
    pub(in crate::cli) format: Format,
    /// Rows that a table shows.
    pub(in crate::cli) rows_max: usize,
    /// Characters that a table's cell shows; 0 for all.
    pub(in crate::cli) width_max: usize,
    /// Whether CSV begins with the names of the columns.
    pub(in crate::cli) header: bool,
}

impl RowWriterOptions {
    /// All rows in `format`.
    pub(in crate::cli) const fn all(format: Format) -> Self {
        Self { format, rows_max: usize::MAX, width_max: 0, header: true }
    }
}

/// Writes the rows of one result to a `W`.
pub(in crate::cli) struct RowWriter<W: Write + Send = Box<dyn Write + Send>>(Writer<W>);

enum Writer<W: Write + Send> {
    Table(Box<Table>, BufWriter<W>),
    Csv(Box<Csv<W>>),
    Json(Box<arrow::json::Writer<BufWriter<W>, JsonArray>>),
    Ndjson(Box<arrow::json::Writer<BufWriter<W>, LineDelimited>>),
    Arrow(Box<StreamWriter<BufWriter<W>>>, SchemaRef),
    ArrowFile(Box<FileWriter<BufWriter<W>>>, SchemaRef),
    Parquet(Box<ArrowWriter<BufWriter<W>>>, SchemaRef),
}

impl<W: Write + Send> RowWriter<W> {
    /// A writer of rows of `schema` to `out`.
    pub(in crate::cli) fn new(schema: &SchemaRef, options: RowWriterOptions, out: W) -> Result<Self> {
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        Ok(Self(match options.format {
            Format::Table => Writer::Table(Box::new(Table::new(schema, options.rows_max, options.width_max)), out),
            Format::Csv => Writer::Csv(Box::new(Csv::new(schema, options.header, out).map_err(arrow_error)?)),
            Format::Json => Writer::Json(Box::new(json::writer_builder().build(out))),
            Format::Ndjson => Writer::Ndjson(Box::new(json::writer_builder().build(out))),
            Format::Arrow => {
                let schema = json::tagged(schema);
                Writer::Arrow(Box::new(StreamWriter::try_new(out, &schema).map_err(arrow_error)?), schema)
            }
            Format::ArrowFile => {
                let schema = json::tagged(schema);
                Writer::ArrowFile(Box::new(FileWriter::try_new(out, &schema).map_err(arrow_error)?), schema)
            }
            Format::Parquet => {
                let schema = json::tagged(schema);
                let writer = parquet::writer(out, &schema);
                Writer::Parquet(Box::new(writer.map_err(parquet_error)?), schema)
            }
        }))
    }

    /// Writes the rows of `batch`.
    pub(in crate::cli) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.0 {
            Writer::Table(table, _) => table.write(batch),
            Writer::Csv(csv) => csv.write(batch).map_err(arrow_error),
            Writer::Json(writer) => writer.write(batch).map_err(arrow_error),
            Writer::Ndjson(writer) => writer.write(batch).map_err(arrow_error),
            Writer::Arrow(writer, schema) => {
                under(schema, batch).and_then(|batch| writer.write(&batch)).map_err(arrow_error)
            }
            Writer::ArrowFile(writer, schema) => {
                under(schema, batch).and_then(|batch| writer.write(&batch)).map_err(arrow_error)
            }
            Writer::Parquet(writer, schema) => {
                let batch = under(schema, batch).map_err(arrow_error)?;
                writer.write(&batch).map_err(parquet_error)
            }
        }
    }

    /// Ends the output: what is not finished is not complete.
    pub(in crate::cli) fn finish(self) -> Result<()> {
        self.into_inner().map(drop)
    }

    /// The same; gives back what was written to.
    pub(in crate::cli) fn into_inner(self) -> Result<W> {
        let out = match self.0 {
            Writer::Table(table, mut out) => {
                table.finish(&mut out)?;
                out
            }
            Writer::Csv(csv) => csv.writer.into_inner(),
            Writer::Json(mut writer) => {
                writer.finish().map_err(arrow_error)?;
                let mut out = writer.into_inner();
                out.write_all(b"\n").map_err(|error| write_error("the output", error))?;
                out
            }
            Writer::Ndjson(mut writer) => {
                writer.finish().map_err(arrow_error)?;
                writer.into_inner()
            }
            Writer::Arrow(writer, _) => writer.into_inner().map_err(arrow_error)?,
            Writer::ArrowFile(writer, _) => writer.into_inner().map_err(arrow_error)?,
            Writer::Parquet(writer, _) => writer.into_inner().map_err(parquet_error)?,
        };
        let mut out = out.into_inner().map_err(|error| write_error("the output", error.into_error()))?;
        out.flush().map_err(|error| write_error("the output", error))?;
        Ok(out)
    }
}

/// `batch` under a schema of the same types.
fn under(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    batch.clone().with_schema(Arc::clone(schema))
}

fn arrow_error(error: ArrowError) -> Error {
    if let ArrowError::IoError(_, error) = error {
        return write_error("the output", error);
    }
    // The csv crate tells what the system said as text only.
    if let ArrowError::CsvError(text) = &error
        && let Some((reason, _)) = text.split_once(" (os error ")
    {
        return Error::exhausted(format!("cannot write to the output: {}", reason.to_lowercase())).with_source(error);
    }
    Error::internal(format!("cannot write the result: {error}")).with_source(error)
}

fn parquet_error(error: ParquetError) -> Error {
    if let ParquetError::External(error) = error {
        return match error.downcast::<io::Error>() {
            Ok(error) => write_error("the output", *error),
            Err(error) => Error::internal(format!("cannot write the result: {error}")),
        };
    }
    Error::internal(format!("cannot write the result: {error}")).with_source(error)
}

/// CSV has no nested values: they are written as JSON text.
struct Csv<W: Write> {
    writer: arrow::csv::Writer<BufWriter<W>>,
    schema: SchemaRef,
}

impl<W: Write> Csv<W> {
    fn new(schema: &SchemaRef, header: bool, out: BufWriter<W>) -> Result<Self, ArrowError> {
        let fields: Vec<FieldRef> = schema.fields().iter().map(flat_field).collect();
        let schema = Arc::new(Schema::new(fields));
        let mut writer = arrow::csv::WriterBuilder::new().with_header(header).build(out);
        // The header of a result without rows.
        writer.write(&RecordBatch::new_empty(Arc::clone(&schema)))?;
        Ok(Self { writer, schema })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| flat_column(field, column));
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn flat_field(field: &FieldRef) -> FieldRef {
    if field.data_type().is_nested() {
        Arc::new(Field::new(field.name(), DataType::Utf8, true))
    } else {
        Arc::clone(field)
    }
}

fn flat_column(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !field.data_type().is_nested() {
        return Ok(Arc::clone(column));
    }
    let options = json::encoder_options();
    let mut encoder = make_encoder(field, column.as_ref(), &options)?;
    let mut builder = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..column.len() {
        if encoder.is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        builder.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(builder.finish()))
}

/// Stdout as the target of a writer.
pub(in crate::cli) fn stdout() -> Box<dyn Write + Send> {
    Box::new(Stdout)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::File;
    use std::io::{Read, Seek};

    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int64Type;

    use super::*;

    /// One column of each sort; the second row is null.
    fn batch() -> RecordBatch {
        let json: HashMap<_, _> = [("ARROW:FLIGHT:SQL:TYPE_NAME".to_owned(), "JSON".to_owned())].into();
        let inner = Field::new("x", DataType::Int64, true);
        let columns: Vec<(Field, ArrayRef)> = vec![
            (
                Field::new("json", DataType::Utf8, true).with_metadata(json),
                Arc::new(StringArray::from(vec![Some("{\"b\": 1.0,\n \"a\":\"é\"}"), None])),
            ),
            (Field::new("text", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("a \"b\",\nc"), None]))),
            (Field::new("number", DataType::Int64, true), Arc::new(Int64Array::from(vec![Some(-5), None]))),
            (Field::new("float", DataType::Float64, true), Arc::new(Float64Array::from(vec![Some(f64::NAN), None]))),
            (Field::new("flag", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None]))),
            (
                Field::new("decimal", DataType::Decimal128(10, 2), true),
                Arc::new(Decimal128Array::from(vec![Some(1250), None]).with_precision_and_scale(10, 2).unwrap()),
            ),
            (
                Field::new("time", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None), true),
                Arc::new(TimestampMicrosecondArray::from(vec![Some(1_704_067_200_000_001), None])),
            ),
            (
                Field::new("blob", DataType::Binary, true),
                Arc::new(BinaryArray::from(vec![Some(&b"\x01\xff"[..]), None])),
            ),
            (
                Field::new("list", DataType::new_list(DataType::Int64, true), true),
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None]), None])),
            ),
            (
                Field::new("object", DataType::Struct(vec![inner.clone()].into()), true),
                Arc::new(StructArray::new(
                    vec![inner].into(),
                    vec![Arc::new(Int64Array::from(vec![1, 2]))],
                    Some(vec![true, false].into()),
                )),
            ),
        ];
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn written(format: Format, schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        let options = RowWriterOptions { format, rows_max: 3, width_max: 12, header: true };
        let mut writer = RowWriter::new(schema, options, Box::new(file.try_clone().unwrap())).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn text(format: Format, batches: &[RecordBatch]) -> String {
        String::from_utf8(written(format, &batch().schema(), batches)).unwrap()
    }

    const OBJECT: &str = r#"{"json":{"b": 1.0,  "a":"é"},"text":"a \"b\",\nc","number":-5,"float":null,"flag":true,"decimal":12.50,"time":"2024-01-01T00:00:00.000001","blob":"01ff","list":[1,null],"object":{"x":1}}"#;
    const NULLS: &str = r#"{"json":null,"text":null,"number":null,"float":null,"flag":null,"decimal":null,"time":null,"blob":null,"list":null,"object":null}"#;

    #[test]
    fn ndjson_embeds_json() {
        assert_eq!(text(Format::Ndjson, &[batch()]), format!("{OBJECT}\n{NULLS}\n"));
        assert_eq!(text(Format::Ndjson, &[]), "");
    }

    #[test]
    fn json_is_one_array() {
        let text = |batches: &[RecordBatch]| text(Format::Json, batches);
        assert_eq!(text(&[batch(), batch()]), format!("[{OBJECT},{NULLS},{OBJECT},{NULLS}]\n"));
        assert_eq!(text(&[]), "[]\n");
        let value: serde_json::Value = serde_json::from_str(&text(&[batch()])).unwrap();
        assert_eq!(value[0]["json"]["a"], "é");
    }

    #[test]
    fn csv_has_nested_values_as_json() {
        let header = "json,text,number,float,flag,decimal,time,blob,list,object\n";
        let row = "\"{\"\"b\"\": 1.0,\n \"\"a\"\":\"\"é\"\"}\",\"a \"\"b\"\",\nc\",-5,NaN,true,12.50,2024-01-01T00:00:00.000001,01ff,\"[1,null]\",\"{\"\"x\"\":1}\"\n";
        assert_eq!(text(Format::Csv, &[batch(), batch()]), format!("{header}{row},,,,,,,,,\n{row},,,,,,,,,\n"));
        assert_eq!(text(Format::Csv, &[]), header);
    }

    #[test]
    fn a_table_shows_the_first_rows() {
        let batch = batch().project(&[1, 2]).unwrap();
        let table =
            |batches: &[RecordBatch]| String::from_utf8(written(Format::Table, &batch.schema(), batches)).unwrap();
        let head = "+----------+--------+\n| text     | number |\n+----------+--------+\n";
        let first = "| a \"b\", c |     -5 |\n";
        let second = "| NULL     |   NULL |\n";
        let end = "+----------+--------+\n";
        assert_eq!(table(std::slice::from_ref(&batch)), format!("{head}{first}{second}{end}2 rows\n"));
        assert_eq!(
            table(&[batch.clone(), batch.clone(), batch.clone()]),
            format!("{head}{first}{second}{first}{end}... 3 more rows (6 in all)\n")
        );
        assert_eq!(table(&[]), "+------+--------+\n| text | number |\n+------+--------+\n0 rows\n");
        let long: ArrayRef = Arc::new(StringArray::from(vec!["0123456789abcdef"]));
        let long = RecordBatch::try_from_iter([("x", long)]).unwrap();
        let shown = String::from_utf8(written(Format::Table, &long.schema(), std::slice::from_ref(&long))).unwrap();
        assert!(shown.contains("| 0123456789a… |"), "{shown}");
    }

    #[test]
    fn binary_formats_read_back() {
        let schema = batch().schema();
        let bytes = written(Format::Arrow, &schema, &[batch(), batch()]);
        let batches: Vec<_> =
            arrow::ipc::reader::StreamReader::try_new(&*bytes, None).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.len(), 2);
        assert_eq!(format!("{:?}", batches[0].columns()), format!("{:?}", batch().columns()));
        assert_eq!(batches[0].schema().field(0).extension_type_name(), Some("arrow.json"));
        assert!(!written(Format::Arrow, &schema, &[]).is_empty());

        let bytes = written(Format::ArrowFile, &schema, &[batch(), batch()]);
        let file = arrow::ipc::reader::FileReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
        assert_eq!((file.num_batches(), &file.schema()), (2, &batches[0].schema()));

        let bytes = written(Format::Parquet, &schema, &[batch(), batch()]);
        let reader =
            ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))
                .unwrap();
        let json = reader.parquet_schema().column(0).logical_type_ref().cloned();
        assert_eq!(json, Some(::parquet::basic::LogicalType::Json));
        assert!(reader.metadata().row_group(0).column(2).statistics().is_some());
        let rows: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rows, 4);
    }

    #[test]
    fn csv_has_a_header_where_it_is_wanted() {
        let batch = batch().project(&[2]).unwrap();
        let options = RowWriterOptions { header: false, ..RowWriterOptions::all(Format::Csv) };
        let mut writer = RowWriter::new(&batch.schema(), options, Vec::new()).unwrap();
        writer.write(&batch).unwrap();
        assert_eq!(writer.into_inner().unwrap(), b"-5\n\"\"\n");
    }

    #[test]
    fn a_full_disk_is_an_error_of_writing() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let options = RowWriterOptions::all(Format::Ndjson);
        let mut writer = RowWriter::new(&batch().schema(), options, Box::new(full)).unwrap();
        let error = writer.write(&batch()).and_then(|()| writer.finish()).unwrap_err();
        assert_eq!(error.message(), "cannot write to the output: no space left on device");
    }
}
