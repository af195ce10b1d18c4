//! Exports against a server that does what a script says: formats, compressions, and what a failure leaves.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use clap::Parser;

use super::{Args, Encoding, Format, run};
use crate::cli::endings::Compression;
use crate::cli::fake::{self, Script};
use crate::error::Result;

#[derive(Parser)]
struct Outer {
    #[command(flatten)]
    args: Args,
}

fn batch() -> RecordBatch {
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let word: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    RecordBatch::try_from_iter([("number", number), ("word", word)]).unwrap()
}

async fn export(script: Script, output: &Path, more: &[&str]) -> Result<()> {
    let (server, _) = fake::start(script).await;
    let output = output.to_str().unwrap();
    let all = ["export", "--query", "SELECT", "--quiet", "--output", output, "--server", &server.server];
    run(Outer::try_parse_from(all.iter().chain(more)).unwrap().args).await
}

fn script() -> Script {
    Script { batches: vec![batch(), batch()], ..Script::default() }
}

#[test]
fn names_tell_the_encoding() {
    let of = |name: &str, format| Encoding::of(Path::new(name), format);
    let encoding = |format, compression| Encoding { format, compression };
    assert_eq!(of("a.parquet", None).unwrap(), encoding(Format::Parquet, None));
    assert_eq!(of("a.csv.gz", None).unwrap(), encoding(Format::Csv, Some(Compression::Gzip)));
    assert_eq!(of("a.arrow", Some(Format::Ndjson)).unwrap(), encoding(Format::Ndjson, None));
    assert_eq!(of("a.zst", Some(Format::Csv)).unwrap(), encoding(Format::Csv, Some(Compression::Zstd)));
    assert_eq!(of("-", Some(Format::ArrowStream)).unwrap(), encoding(Format::ArrowStream, None));
    assert!(of("-", None).unwrap_err().message().starts_with("cannot tell the format of -: "));
    assert!(of("a.parquet.gz", None).unwrap_err().message().starts_with("a.parquet.gz: only CSV and NDJSON"));
    assert!(of("a.csv.gz", None).unwrap().is_binary() && !of("a.csv", None).unwrap().is_binary());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["a.parquet", "a.csv", "a.csv.gz", "a.ndjson", "a.ndjson.zst", "a.arrow", "a.arrows"] {
        export(script(), &path(name), &[]).await.unwrap();
    }
    let csv = "number,word\n1,a\n2,b\n1,a\n2,b\n";
    let ndjson = "{\"number\":1,\"word\":\"a\"}\n{\"number\":2,\"word\":\"b\"}\n".repeat(2);
    assert_eq!(fs::read_to_string(path("a.csv")).unwrap(), csv);
    assert_eq!(fs::read_to_string(path("a.ndjson")).unwrap(), ndjson);
    let mut text = String::new();
    flate2::read::GzDecoder::new(File::open(path("a.csv.gz")).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, csv);
    assert_eq!(zstd::decode_all(File::open(path("a.ndjson.zst")).unwrap()).unwrap(), ndjson.as_bytes());
    let file = |name| File::open(path(name)).unwrap();
    let parquet = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file("a.parquet"), 10).unwrap();
    assert_eq!(parquet.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 4);
    let arrow = arrow::ipc::reader::FileReader::try_new(file("a.arrow"), None).unwrap();
    assert_eq!(arrow.map(Result::unwrap).collect::<Vec<_>>(), [batch(), batch()]);
    let stream = arrow::ipc::reader::StreamReader::try_new(file("a.arrows"), None).unwrap();
    assert_eq!(stream.map(Result::unwrap).collect::<Vec<_>>(), [batch(), batch()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_stays_unless_it_is_replaced_by_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "old").unwrap();
    let error = export(script(), &path, &[]).await.unwrap_err();
    assert!(error.message().ends_with("a.csv is there: --replace puts the new file in its place"), "{error}");
    let failing = Script { query_error: Some("half-way".to_owned()), ..script() };
    assert_eq!(export(failing, &path, &["--replace"]).await.unwrap_err().message(), "half-way");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    export(script(), &path, &["--replace"]).await.unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("number"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_it() {
    for format in ["ndjson", "csv", "parquet", "arrow", "arrow-stream"] {
        let error = export(script(), Path::new("/dev/full"), &["--format", format]).await.unwrap_err();
        assert_eq!(error.message(), "cannot write to the output: no space left on device", "{format}");
    }
}
