//! Tests of the import as a whole: files in, batches and wire out.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use tempfile::TempDir;

use super::inputs::ReadOptions;
use super::ledger::{Ledger, RowMap, Skipped};
use super::source::FormatArg;
use super::*;
use crate::cli::client::Client;
use crate::cli::fake::{self, Script};
use crate::error::ErrorKind;
use crate::tables::Kind;

const OPTIONS: ReadOptions =
    ReadOptions { format: FormatArg::Auto, kind: None, fold: false, skip_bad: false, batch_rows: 1000 };

/// What was read.
#[derive(Debug)]
struct Got {
    schema: SchemaRef,
    kind: Option<Kind>,
    batches: Vec<RecordBatch>,
    rows: RowMap,
    skipped: Skipped,
}

impl Got {
    fn texts(&self, column: &str) -> Vec<String> {
        let columns = self.batches.iter().map(|batch| batch[column].as_string::<i32>());
        columns.flat_map(|column| column.iter().map(|text| text.unwrap_or("NULL").to_owned())).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }
}

struct Files {
    folder: TempDir,
    paths: Vec<PathBuf>,
}

impl Files {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |(name, content): &(&str, &[u8])| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let paths = files.iter().map(write).collect();
        Self { folder, paths }
    }

    fn read(&self, options: ReadOptions) -> Result<Got> {
        read_paths(self.paths.clone(), options, None).map_err(|error| self.short(&error))
    }

    /// The error with names of files instead of paths.
    fn short(&self, error: &Error) -> Error {
        let folder = format!("{}/", self.folder.path().display());
        Error::new(error.kind(), error.message().replace(&folder, ""))
    }
}

fn read_paths(paths: Vec<PathBuf>, options: ReadOptions, skip_bad: Option<&Path>) -> Result<Got> {
    let options = ReadOptions { skip_bad: skip_bad.is_some(), ..options };
    let inputs = Inputs::open(paths, options, Arc::default())?;
    let (schema, kind) = (Arc::clone(inputs.schema()), inputs.kind());
    let rows = RowMap::default();
    let mut ledger = Ledger::open(rows.clone(), skip_bad)?;
    let mut batches = Vec::new();
    inputs.read(&mut ledger, |batch| {
        assert_eq!(batch.schema(), schema);
        batches.push(batch);
        true
    })?;
    Ok(Got { schema, kind, batches, rows, skipped: ledger.finish()? })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

fn event(id: usize, properties: &str) -> String {
    format!(r#"{{"event":"e","properties":{{"time":1704067200,"distinct_id":"d","$insert_id":"{id}"{properties}}}}}"#)
}

fn numbers(count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(|number| number.to_string())));
    RecordBatch::try_from_iter([("number", numbers), ("word", words)]).unwrap()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow::ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn every_format_is_read_in_every_compression_and_from_a_pipe() {
    let batch = numbers(5);
    let ndjson = "{\"number\":0,\"word\":\"0\"}\r\n\n{\"number\":1,\"word\":\"1\"}\n \n{\"number\":2,\"word\":\"2\"}\n\
        {\"number\":3,\"word\":\"3\"}\n{\"number\":4,\"word\":\"4\"}";
    let csv = "number,word\r\n0,a\r\n\r\n1,b\n2,\"c\nc\"\n3,d\n4,e";
    let contents: [(&str, Vec<u8>); 5] = [
        ("a.jsonl", ndjson.into()),
        ("a.csv", csv.into()),
        ("a.parquet", parquet(&batch)),
        ("a.arrow", arrow_file(&batch)),
        ("a.arrows", arrow_stream(&batch)),
    ];
    for (name, plain) in contents {
        for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
            let check = |got: &Got| {
                assert_eq!(got.names(), ["number", "word"], "{name}");
                let numbers: Vec<i64> = got
                    .batches
                    .iter()
                    .flat_map(|batch| batch["number"].as_primitive::<Int64Type>().values().to_vec())
                    .collect();
                assert_eq!(numbers, [0, 1, 2, 3, 4], "{name}");
                assert_eq!(got.kind, None);
            };
            check(&Files::new(&[(name, &bytes)]).read(OPTIONS).unwrap());

            // A pipe has no name and no end to seek to; CSV has no mark either.
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(&bytes).unwrap();
            drop(writer);
            let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
            let format = if name == "a.csv" { FormatArg::Csv } else { FormatArg::Auto };
            check(&read_paths(vec![path], ReadOptions { format, ..OPTIONS }, None).unwrap());
        }
    }
}

#[test]
fn exports_are_told_from_our_own_columns() {
    let own = r#"{"event_name":"e","event_time":1,"distinct_id":"d","insert_id":"i"}
{"event_name":"e","event_time":1,"distinct_id":"d","insert_id":"j","properties":{}}"#;
    for (content, kind, columns) in [
        (event(1, ""), Some(Kind::Events), 5),
        (r#"{"$distinct_id":"d","$properties":{}}"#.to_owned(), Some(Kind::Profiles), 3),
        (own.to_owned(), Some(Kind::Events), 5),
        (r#"{"distinct_id":"d","properties":{},"last_seen":null}"#.to_owned(), Some(Kind::Profiles), 3),
        (r#"{"event":"e","n":1}"#.to_owned(), None, 2),
    ] {
        let got = Files::new(&[("a.ndjson", content.as_bytes())]).read(OPTIONS).unwrap();
        assert_eq!((got.kind, got.names().len()), (kind, columns), "{content}");
    }
    // Asked for, a plain table is made of anything.
    let options = ReadOptions { kind: Some(Kind::Table), ..OPTIONS };
    let got = Files::new(&[("a.ndjson", event(1, "").as_bytes())]).read(options).unwrap();
    assert_eq!(got.names(), ["event", "properties"]);
    // An empty export has no columns of its own, but its kind has.
    let options = ReadOptions { kind: Some(Kind::Events), format: FormatArg::Mixpanel, ..OPTIONS };
    assert_eq!(Files::new(&[("a", b"")]).read(options).unwrap().names().len(), 5);
    let error = Files::new(&[("a.ndjson", b"")]).read(OPTIONS).unwrap_err();
    assert_eq!(error.message(), "a.ndjson: no rows to tell the columns from");
}

#[test]
fn lines_may_be_long_and_hold_any_text() {
    let long = "x".repeat(10 << 20);
    let lines =
        [event(1, &format!(r#","long":"{long}""#)), event(2, r#","é\u00e9":"😀 \" \\","n":1.500e3"#)].join("\r\n");
    let got = Files::new(&[("a.ndjson.gz", &gzip(lines.as_bytes()))]).read(OPTIONS).unwrap();
    assert_eq!(
        got.texts("properties"),
        [format!(r#"{{"long":"{long}"}}"#), r#"{"é\u00e9":"😀 \" \\","n":1.500e3}"#.to_owned()]
    );
}

#[test]
fn a_bad_line_is_named_and_stops_the_import() {
    let good = event(1, "");
    for (bad, reason) in [
        ("{\"event\"", "not JSON: EOF while parsing an object at column 8"),
        ("plain text", "not a JSON object"),
        (r#"{"event":"e","properties":{}}"#, "`time` is missing"),
    ] {
        let content = format!("{good}\n\n{bad}\n{good}\n");
        let error = Files::new(&[("a.ndjson", content.as_bytes())]).read(OPTIONS).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, &*format!("a.ndjson:3: {reason}")));
    }
    let error =
        Files::new(&[("a.ndjson", &[good.as_bytes(), b"\n{\"event\":\"\xff\"}"].concat())]).read(OPTIONS).unwrap_err();
    assert_eq!(error.message(), "a.ndjson:2: not UTF-8 at byte 11");
    let error = Files::new(&[("a.csv", b"a,b\n1,2\n\n3\n")]).read(OPTIONS).unwrap_err();
    assert_eq!(error.message(), "a.csv:4: incorrect number of fields, expected 2 got 1");
}

#[test]
fn bad_lines_can_be_set_aside() {
    let files = Files::new(&[
        ("a.ndjson", format!("{}\nbad \u{e9}\n{}\n", event(1, ""), event(2, "")).as_bytes()),
        ("b.ndjson", format!("\n\"worse\"\r\n{}", event(3, "")).as_bytes()),
    ]);
    let bad = files.folder.path().join("bad");
    let got = read_paths(files.paths.clone(), OPTIONS, Some(&bad)).unwrap();
    assert_eq!(got.texts("insert_id"), ["1", "2", "3"]);
    assert_eq!(got.skipped.lines, 2);
    assert!(got.skipped.first.ends_with("a.ndjson:2: not a JSON object"), "{}", got.skipped.first);
    assert_eq!(std::fs::read_to_string(&bad).unwrap(), "bad é\n\"worse\"\n");
    let places: Vec<_> =
        (1..=4).map(|row| got.rows.locate(row).map(|place| place[place.len() - 10..].to_owned())).collect();
    let place = |text: &str| Some(text.to_owned());
    assert_eq!(places, [place("a.ndjson:1"), place("a.ndjson:3"), place("b.ndjson:3"), None]);

    let files = Files::new(&[("a.csv", b"n,s\n1,a\nx,b\n3,c,\n\n4,d\n")]);
    // The sample must not take the bad record's word for the column's type.
    let first = Files::new(&[("first.csv", b"n,s\n0,z\n")]);
    let got = read_paths(vec![first.paths[0].clone(), files.paths[0].clone()], OPTIONS, Some(&bad)).unwrap();
    assert_eq!(got.texts("s"), ["z", "a", "d"]);
    assert_eq!(std::fs::read_to_string(&bad).unwrap(), "x,b\n3,c,\n");
    assert!(got.rows.locate(3).unwrap().ends_with("/a.csv:6"));
}

#[test]
fn bad_values_can_be_set_aside() {
    let header = "event_name,event_time,distinct_id,insert_id,properties\n";
    let first = format!("{header}a,2024-01-01,u,1,\n\nb,\"yester\n\nday\",u,2,\nc,2024-01-01,u,3,\n");
    let second = format!("{header}d,2024-01-01,u,4,{{k}}\ne,2024-01-01,u,5,{{}}\n");
    let files = Files::new(&[("a.csv", first.as_bytes()), ("b.csv", second.as_bytes())]);
    let bad = files.folder.path().join("bad");
    let got = read_paths(files.paths.clone(), OPTIONS, Some(&bad)).unwrap();
    assert_eq!(got.texts("insert_id"), ["1", "3", "5"]);
    assert_eq!(std::fs::read_to_string(&bad).unwrap(), "b,\"yester\n\nday\",u,2,\nd,2024-01-01,u,4,{k}\n");
    assert_eq!(got.skipped.lines, 2);
    let reason = "a.csv:4: event_time: cannot read \"yester\\n\\nday\" as a time";
    assert!(got.skipped.first.ends_with(reason), "{}", got.skipped.first);
    for (row, place) in [(1, "a.csv:2"), (2, "a.csv:7"), (3, "b.csv:3")] {
        assert!(got.rows.locate(row).unwrap().ends_with(place), "{row}");
    }
    // Lines are judged by a kind, so no table of another one may take them.
    assert_eq!(got.kind, Some(Kind::Events));
    assert_eq!(files.read(OPTIONS).unwrap().kind, None);
    // A plain table takes any text.
    let options = ReadOptions { kind: Some(Kind::Table), ..OPTIONS };
    assert_eq!(read_paths(files.paths.clone(), options, Some(&bad)).unwrap().skipped.lines, 0);
}

#[test]
fn csv_of_a_managed_kind_is_text() {
    let csv = "insert_id,event_name,event_time,distinct_id,properties,plan\n1,e,2024-01-01,,,free\n2,e,1704067200,d,\"{\"\"a\"\":1}\",\n";
    let options = ReadOptions { kind: Some(Kind::Events), ..OPTIONS };
    let got = Files::new(&[("a.csv", csv.as_bytes())]).read(options).unwrap();
    assert!(got.schema.fields().iter().all(|field| field.data_type() == &DataType::Utf8));
    assert_eq!(got.texts("properties"), ["NULL", r#"{"a":1}"#]);
    assert_eq!(got.texts("distinct_id"), ["", "d"]);
    assert_eq!(got.texts("event_time"), ["2024-01-01", "1704067200"]);
    assert_eq!(got.texts("plan"), ["free", "NULL"]);

    // Without the extra column its names tell the kind to the server, and to us.
    let got = Files::new(&[("a.csv", b"distinct_id,last_seen,properties\n7,,\n")]).read(OPTIONS).unwrap();
    assert_eq!(got.texts("distinct_id"), ["7"]);
    assert_eq!(got.texts("last_seen"), ["NULL"]);
}

#[test]
fn files_join_by_the_names_of_their_columns() {
    let batch = numbers(2);
    let files = Files::new(&[
        ("a.parquet", &parquet(&batch)),
        ("b.arrow", &arrow_file(&batch.project(&[1, 0]).unwrap())),
        ("c.ndjson", b"{\"word\":\"x\",\"number\":9}\n"),
        ("d.csv", b"word,number\n5,6\n"),
    ]);
    let got = files.read(OPTIONS).unwrap();
    assert_eq!(got.texts("word"), ["0", "1", "0", "1", "x", "5"]);
    for (row, place) in [(2, "a.parquet row 2"), (3, "b.arrow row 1"), (5, "c.ndjson:1"), (6, "d.csv:2")] {
        assert!(got.rows.locate(row).unwrap().ends_with(place), "{row}");
    }

    for (content, message) in [
        (&b"number,word,more\n1,a,b\n"[..], "b.csv: column `more` is not in a.parquet"),
        (b"number\n1\n", "b.csv: it has no column `word` like a.parquet"),
    ] {
        let error = Files::new(&[("a.parquet", &parquet(&batch)), ("b.csv", content)]).read(OPTIONS).unwrap_err();
        assert!(error.message().ends_with(message), "{error}");
    }
    let other = Files::new(&[("a.parquet", &parquet(&batch)), ("b.arrow", &arrow_file(&other_types()))]);
    let error = other.read(OPTIONS).unwrap_err();
    assert_eq!(error.message(), "b.arrow: column `number` is Utf8, not Int64 as in a.parquet");
}

fn other_types() -> RecordBatch {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    RecordBatch::try_from_iter([("number", Arc::clone(&text)), ("word", text)]).unwrap()
}

#[test]
fn batches_are_as_long_as_asked() {
    let lines: Vec<String> = (0..25).map(|id| event(id, "")).collect();
    let options = ReadOptions { batch_rows: 10, ..OPTIONS };
    let got = Files::new(&[("a.ndjson", lines.join("\n").as_bytes())]).read(options).unwrap();
    assert_eq!(got.batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [10, 10, 5]);
}

/// Imports the files, and says what became of it.
async fn import_files(files: &Files, script: Script) -> (Result<Imported>, Arc<std::sync::Mutex<fake::Seen>>) {
    let (server, seen) = fake::start(script).await;
    let client = Client::connect(&server).await.unwrap();
    let options = ReadOptions { batch_rows: 100, ..OPTIONS };
    let inputs = Inputs::open(files.paths.clone(), options, Arc::default()).unwrap();
    let mut progress = Progress::new(Arc::default(), None, true);
    let command = Ingest { table: "t".to_owned(), ..Ingest::default() };
    let imported = import(&client, command, inputs, None, &mut progress).await;
    (imported.map_err(|error| files.short(&error)), seen)
}

fn events(count: usize) -> Vec<String> {
    (0..count).map(|id| event(id, &format!(r#","n":"{}""#, "x".repeat(1000)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wire_is_schema_batches_commit() {
    let files = Files::new(&[("a.ndjson", events(250).join("\n").as_bytes())]);
    let (imported, seen) = import_files(&files, Script::default()).await;
    assert_eq!(imported.unwrap().result.rows_received, 250);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.messages, ["schema", "batch", "batch", "batch", "commit"]);
    assert_eq!(seen.commit.as_ref().unwrap().rows, Some(250));
    assert_eq!(seen.command.as_ref().unwrap().table, "t");
    assert_eq!(seen.rows(), 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_rows_is_committed_too() {
    let files = Files::new(&[("a.csv", b"a,b\n")]);
    let (imported, seen) = import_files(&files, Script::default()).await;
    assert_eq!(imported.unwrap().result.rows_received, 0);
    assert_eq!(seen.lock().unwrap().messages, ["schema", "commit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_half_way_is_never_committed() {
    let mut lines = events(250);
    lines[220] = "bad".to_owned();
    let files = Files::new(&[("a.ndjson", lines.join("\n").as_bytes())]);
    let (imported, seen) = import_files(&files, Script::default()).await;
    assert_eq!(imported.unwrap_err().message(), "a.ndjson:221: not a JSON object");
    let seen = seen.lock().unwrap();
    assert!(seen.commit.is_none() && !seen.messages.contains(&"commit"), "{:?}", seen.messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_error_in_mid_stream_is_told_with_the_line() {
    let files = Files::new(&[("a.ndjson", format!("\n{}", events(50_000).join("\n")).as_bytes())]);
    for after in [0, 3] {
        let put_error = Some((after, "row 3: event_time is out of range".to_owned()));
        let (imported, _) = import_files(&files, Script { put_error, ..Script::default() }).await;
        let error = imported.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        // Refused at once, nothing may have been read yet, and no line is known.
        let known = "row 3 (a.ndjson:4): event_time is out of range";
        assert!(error.message() == known || after == 0, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_error_does_not_wait_for_stdin() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
    // More than the sample, and no end: the pipe stays open.
    let content = events(1500).join("\n");
    let writing = std::thread::spawn(move || {
        writer.write_all(content.as_bytes()).unwrap();
        writer
    });
    let files = Files { folder: tempfile::tempdir().unwrap(), paths: vec![path] };
    let put_error = Some((0, "table `t` is there".to_owned()));
    let (imported, _) = import_files(&files, Script { put_error, ..Script::default() }).await;
    assert_eq!(imported.unwrap_err().message(), "table `t` is there");
    drop((writing, reader));
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_are_sent_as_they_are() {
    let words: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([("word", Arc::new(words) as ArrayRef)]).unwrap();
    let files = Files::new(&[("a.arrows", &arrow_stream(&batch))]);
    let (imported, seen) = import_files(&files, Script::default()).await;
    imported.unwrap();
    assert_eq!(seen.lock().unwrap().batches, [batch]);
}

/// Not a check but a measurement: `MERGANSER_MEASURE=FILE cargo test --release --lib cli -- --nocapture measure`.
#[test]
fn measure() {
    let Some(path) = std::env::var_os("MERGANSER_MEASURE") else { return };
    let size = File::open(&path).unwrap().metadata().unwrap().len();
    for _ in 0..3 {
        let started = Instant::now();
        let got = read_paths(vec![PathBuf::from(&path)], ReadOptions { batch_rows: 32_768, ..OPTIONS }, None).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let rows: usize = got.batches.iter().map(RecordBatch::num_rows).sum();
        let bytes: usize = got.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        println!(
            "{rows} rows of {size} bytes into {bytes} bytes in {seconds:.3} s: {} rows/s",
            progress::rate(rows as u64, seconds)
        );
    }
}
