//! `merganser ingest`: twice, from everywhere, in every format, and with bad lines.

use std::fs::{self, File};
use std::io::{Read, Write};

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::FileWriter;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::with_events;
use crate::support::{EVENTS, Machine, Output, PROFILES, Server, sample};

/// Lines of an export of events: the second is broken JSON, the fourth lacks its time.
const BAD_EXPORT: &str = r#"{"event":"a","properties":{"time":1700000000,"distinct_id":"u","$insert_id":"1"}}
{"event":"b","properties":{"time":1700000000,"distinct_id":"u","$insert_id":"2"
{"event":"c","properties":{"time":1700000000,"distinct_id":"u","$insert_id":"3"}}
{"event":"d","properties":{"distinct_id":"u","$insert_id":"4"}}
"#;
/// Events under our own columns: rows 2 and 3 hold values that only the server reads.
const BAD_VALUES: &str = r#"event_name,event_time,distinct_id,insert_id,properties
a,2024-01-01T00:00:00Z,u,1,"{""k"": 1}"
b,yesterday,u,2,{}
c,2024-01-01,u,3,{k}
d,2024-01-02,u,4,
"#;

/// Rows received, inserted, duplicate and replaced of an ingest's summary.
fn counts(summary: &Value) -> [u64; 4] {
    ["rows_received", "rows_inserted", "rows_duplicate", "rows_replaced"]
        .map(|name| summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {summary}")))
}

/// Rows of `left` that `right` has not, and the other way round.
fn differences(server: &Server, left: &str, right: &str) -> Vec<String> {
    let one = |a: &str, b: &str| format!("(SELECT * FROM {a} EXCEPT ALL SELECT * FROM {b})");
    server.rows(&format!("FROM {} UNION ALL FROM {}", one(left, right), one(right, left)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory can be written")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory can be read")
}

#[test]
fn a_second_import_adds_nothing() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    for (name, kind, rows) in [("events", "events", EVENTS), ("profiles", "profiles", PROFILES)] {
        let file = sample(&format!("{name}.ndjson.gz"));
        let first = server.json(&["ingest", &file, "--table", name]);
        assert_eq!(counts(&first), [rows, rows, 0, 0]);
        assert_eq!((&first["table"], &first["bad_lines"]), (&json!(name), &json!(0)));
        assert_eq!(counts(&server.json(&["ingest", &file, "--table", name])), [rows, 0, rows, 0]);
        assert_eq!(server.count(name), rows);
        let replaced = server.json(&["ingest", &file, "--table", name, "--on-duplicate", "replace"]);
        assert_eq!(counts(&replaced), [rows, 0, 0, rows]);
        assert_eq!(server.json(&["metadata", name])["type"], kind);
    }
    let summary = server.ok(&["ingest", &sample("events.ndjson.gz"), "--table", "events"]);
    assert!(summary.starts_with("events: 2,000 rows received, 0 inserted, 2,000 duplicates in "), "{summary}");
    assert!(summary.ends_with(" rows/s)\n") && summary.lines().count() == 1, "{summary}");
    assert_eq!(server.ok(&["ingest", &sample("events.ndjson.gz"), "--table", "quiet", "--quiet"]), "");
}

#[test]
fn properties_are_kept_byte_for_byte() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let properties = r#""z": 1.50, "a":[1e3,{"$x":"\u00e9\/"}],"a":null, "big":12345678901234567890"#;
    let line = format!(r#"{{"event":"e","properties":{{"time":1,"distinct_id":"u","$insert_id":"i",{properties}}}}}"#);
    server.ok_with(&["ingest", "-", "--table", "events"], line.as_bytes());
    let stored = server.ok(&["query", "SELECT properties::VARCHAR AS p FROM events", "--format", "ndjson"]);
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["p"], format!("{{{properties}}}"));
}

#[test]
fn stdin_is_a_file_like_any_other() {
    let machine = Machine::new();
    let server = with_events(&machine);
    let compressed = fs::read(sample("events.ndjson.gz")).unwrap();
    let mut plain = Vec::new();
    MultiGzDecoder::new(&compressed[..]).read_to_end(&mut plain).unwrap();
    let parquet = Output::of(&mut server.command(&["query", "FROM events", "--format", "parquet"]), b"").stdout;
    for (table, bytes) in [("plain", &plain), ("gz", &compressed), ("zstd", &zstd(&plain)), ("parquet", &parquet)] {
        server.ok_with(&["ingest", "-", "--table", table], bytes);
        assert_eq!(differences(&server, "events", table), [""; 0], "{table}");
    }
}

#[test]
fn each_format_gives_the_same_rows_compressed_or_not() {
    let machine = Machine::new();
    let server = with_events(&machine);
    server.ok(&["ingest", &sample("profiles.ndjson.gz"), "--table", "profiles"]);
    for kind in ["events", "profiles"] {
        for format in ["csv", "ndjson", "parquet", "arrow"] {
            let sql = format!("SELECT * REPLACE (properties::VARCHAR AS properties) FROM {kind}");
            server.ok(&["query", &sql, "--format", format, "--output", "plain"]);
            let plain = fs::read(machine.path("plain")).unwrap();
            for (suffix, bytes) in [("", plain.clone()), (".gz", gzip(&plain)), (".zst", zstd(&plain))] {
                let name = format!("rows.{format}{suffix}");
                machine.write(&name, bytes);
                let table = name.replace('.', "_");
                server.ok(&["ingest", &name, "--table", &table]);
                assert_eq!(differences(&server, kind, &table), [""; 0], "{kind}, {name}");
                assert_eq!(server.json(&["metadata", &table])["type"], kind);
                server.ok(&["drop", &table, "--yes"]);
            }
        }
    }
}

#[test]
fn an_arrow_file_is_told_from_a_stream() {
    let machine = Machine::new();
    let server = with_events(&machine);
    server.ok(&["query", "FROM events", "--format", "arrow", "--output", "stream"]);
    let reader = StreamReader::try_new(File::open(machine.path("stream")).unwrap(), None).unwrap();
    let file = File::create(machine.path("file")).unwrap();
    let mut writer = FileWriter::try_new(file, &reader.schema()).unwrap();
    for batch in reader {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    server.ok(&["ingest", "file", "--table", "copy"]);
    assert_eq!(differences(&server, "events", "copy"), [""; 0]);
}

#[test]
fn plain_tables_take_the_columns_of_the_file() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("a.csv", "day,n,share,open\n2024-01-01,1,0.5,true\n2024-01-02,,1.5,false\n");
    server.ok(&["ingest", "a.csv", "--table", "plain"]);
    server.ok(&["ingest", "a.csv", "--table", "plain"]);
    assert_eq!(server.rows("SELECT sum(n), sum(share), count_if(open), max(day) FROM plain"), ["2,4.0,2,2024-01-02"]);
    assert!(server.fails(&["metadata", "plain"]).contains("plain"));
}

#[test]
fn a_bad_line_is_named_and_nothing_is_stored() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("bad.ndjson", BAD_EXPORT);
    machine.write("bad.csv", BAD_VALUES);
    let line = server.fails(&["ingest", "bad.ndjson", "--table", "t"]);
    assert!(line.starts_with("bad.ndjson:2: not JSON"), "{line}");
    // Of two files that are one stream, too.
    let events = sample("events.ndjson.gz");
    for one in [&["--atomic"][..], &["--mode", "create"], &["--mode", "replace"]] {
        let all = [&["ingest", &events, "bad.ndjson", "--table", "t"], one].concat();
        let line = server.fails(&all);
        assert!(line.starts_with("bad.ndjson:2: "), "{line}");
    }
    let line = server.fails(&["ingest", &sample("events.ndjson.gz"), "none.ndjson", "--table", "t"]);
    assert_eq!(line, "cannot read none.ndjson: no such file or directory");
    // What only the server can tell is told with the line, too.
    let line = server.fails(&["ingest", "bad.csv", "--table", "t"]);
    assert!(line.contains("2 bad rows, nothing is stored"), "{line}");
    assert!(line.contains("row 2 (bad.csv:3): event_time") && line.contains("\"yesterday\""), "{line}");
    assert!(line.contains("row 3 (bad.csv:4): properties: malformed JSON"), "{line}");
    assert_eq!(server.tables(), [""; 0]);
    assert_eq!(server.rows("SELECT count(*) FROM _metadata"), ["0"]);
}

#[test]
fn a_bad_line_leaves_a_table_as_it_was() {
    let machine = Machine::new();
    let server = with_events(&machine);
    machine.write("bad.ndjson", BAD_EXPORT);
    let before = server.json(&["metadata", "events"]);
    for mode in ["append", "create_append", "replace"] {
        server.fails(&["ingest", "bad.ndjson", "--table", "events", "--mode", mode]);
        assert_eq!(server.count("events"), EVENTS);
        assert_eq!(server.json(&["metadata", "events"]), before);
    }
}

#[test]
fn bad_lines_can_be_set_aside() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("bad.ndjson", BAD_EXPORT);
    let ingest = ["ingest", "bad.ndjson", "--table", "t", "--skip-bad", "aside"];
    let output = Output::of(&mut server.command(&ingest), b"");
    assert!(
        output.stderr.starts_with("merganser: 2 bad lines are in aside; the first is bad.ndjson:2: "),
        "{output:?}"
    );
    assert!(output.success().starts_with("t: 2 rows received, 2 inserted"));
    let bad: Vec<&str> = BAD_EXPORT.lines().skip(1).step_by(2).collect();
    assert_eq!(machine.read("aside").lines().collect::<Vec<_>>(), bad);
    assert_eq!(server.rows("SELECT insert_id FROM t ORDER BY 1"), ["1", "3"]);
    assert_eq!(server.json(&ingest)["bad_lines"], 2);
}

/// A line is bad whoever finds out: this side, or the server that reads the value.
#[test]
fn bad_values_can_be_set_aside() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("bad.csv", BAD_VALUES);
    let output = Output::of(&mut server.command(&["ingest", "bad.csv", "--table", "t", "--skip-bad", "aside"]), b"");
    output.success();
    let bad: Vec<&str> = BAD_VALUES.lines().skip(2).take(2).collect();
    assert_eq!(machine.read("aside").lines().collect::<Vec<_>>(), bad);
    assert_eq!(server.rows("SELECT insert_id FROM t ORDER BY 1"), ["1", "4"]);
}

#[test]
fn modes_and_duplicates_are_the_servers() {
    let machine = Machine::new();
    let server = with_events(&machine);
    server.ok(&["ingest", &sample("profiles.ndjson.gz"), "--table", "people"]);
    let events = sample("events.ndjson.gz");
    for (arguments, part) in [
        (&["--table", "events", "--mode", "create"][..], "\"events\" already exists"),
        (&["--table", "none", "--mode", "append"], "\"none\" not found"),
        (&["--table", "people"], "kind profiles"),
        (&["--table", "_mine"], "must not begin with `_`"),
        (&["--table", "events", "--on-duplicate", "error"], "events.ndjson.gz:1): insert_id"),
    ] {
        let all: Vec<&str> = ["ingest", &events].iter().chain(arguments).copied().collect();
        let line = server.fails(&all);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    assert_eq!(server.tables(), ["events", "people"]);
    assert_eq!(server.count("events"), EVENTS);
}
