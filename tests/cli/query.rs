//! `merganser query`: every format, to stdout and to files, and what a failure leaves behind.

use std::fs::{self, File};

use arrow::ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::with_events;
use crate::support::{Machine, Output};

const FORMATTED: &str = "SELECT * FROM (VALUES (1, 'x', NULL, TIMESTAMP '2024-01-01 12:00:00'), (2, 'y,\"z', 1.5, NULL)) \
                         AS t(a, b, c, t) ORDER BY a";

#[test]
fn query_writes_text_formats() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let first = json!({"a": 1, "b": "x", "c": null, "t": "2024-01-01T12:00:00"});
    let second = json!({"a": 2, "b": "y,\"z", "c": 1.5, "t": null});
    let printed = |format: &str| {
        let printed = server.ok(&["query", FORMATTED, "--format", format]);
        // A file holds what stdout would.
        assert_eq!(server.ok(&["query", FORMATTED, "--format", format, "-o", format]), "");
        assert_eq!(machine.read(format), printed);
        printed
    };
    assert_eq!(printed("csv"), "a,b,c,t\n1,x,,2024-01-01T12:00:00\n2,\"y,\"\"z\",1.5,\n");
    let lines: Vec<Value> = printed("ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [first.clone(), second.clone()]);
    assert_eq!(serde_json::from_str::<Value>(&printed("json")).unwrap(), json!([first, second]));
    let table = "\
+---+------+------+---------------------+
| a | b    | c    | t                   |
+---+------+------+---------------------+
| 1 | x    | NULL | 2024-01-01T12:00:00 |
| 2 | y,\"z |  1.5 | NULL                |
+---+------+------+---------------------+
2 rows
";
    assert_eq!(printed("table"), table);
    assert_eq!(server.ok(&["query", FORMATTED]), table, "it is the default");
}

#[test]
fn query_writes_binary_formats() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let query = |format: &str| {
        let sql = "SELECT range AS n, 'row ' || range AS s FROM range(300_000)";
        let output = Output::of(&mut server.command(&["query", sql, "--format", format]), b"");
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        fs::write(machine.path(format), output.stdout).unwrap();
        File::open(machine.path(format)).unwrap()
    };
    let arrow = StreamReader::try_new(query("arrow"), None).unwrap();
    assert_eq!(arrow.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 300_000);
    let parquet = ParquetRecordBatchReaderBuilder::try_new(query("parquet")).unwrap();
    assert_eq!(parquet.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["n", "s"]);
    assert_eq!(parquet.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 300_000);
}

/// As `query --help` promises.
#[test]
fn json_columns_are_embedded() {
    let machine = Machine::new();
    let server = with_events(&machine);
    let sql = "SELECT properties, properties->'$.device' AS device FROM events WHERE device IS NOT NULL LIMIT 1";
    let lines: Value = serde_json::from_str(&server.ok(&["query", sql, "--format", "ndjson"])).unwrap();
    assert!(lines["properties"].is_object(), "{lines}");
    assert_eq!(lines["properties"]["device"], lines["device"]);
    let array: Value = serde_json::from_str(&server.ok(&["query", sql, "--format", "json"])).unwrap();
    assert_eq!(array, json!([lines]));
}

#[test]
fn a_table_shows_its_first_rows() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let sql = "SELECT range AS n, repeat('long', 50) AS s FROM range(1000)";
    let table = server.ok(&["query", sql, "--max-rows", "3", "--max-width", "10"]);
    assert_eq!(table.lines().filter(|line| line.starts_with("| ") && !line.contains(" n ")).count(), 3, "{table}");
    assert!(table.lines().all(|line| line.chars().count() < 40), "{table}");
    assert!(table.lines().last().unwrap().contains("1,000"), "{table}");
}

#[test]
fn sql_comes_from_stdin() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    for arguments in [&["query", "--format", "csv"][..], &["query", "-", "--format", "csv"]] {
        assert_eq!(server.ok_with(arguments, b"SELECT 42 AS n\n"), "n\n42\n");
    }
    let line = Output::of(&mut server.command(&["query"]), b" \n").failure();
    assert_eq!(line, "no SQL: the text is empty");
}

#[test]
fn statements_run_once_and_alone() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    server.ok(&["query", "CREATE TABLE t (n INTEGER)"]);
    server.ok(&["query", "INSERT INTO t VALUES (1), (2)"]);
    assert_eq!(server.rows("SELECT count(*) FROM t"), ["2"]);
    let line = server.fails(&["query", "INSERT INTO t VALUES (3); INSERT INTO t VALUES (4)"]);
    assert!(line.contains("several"), "{line}");
    assert_eq!(server.rows("SELECT count(*) FROM t"), ["2"]);
}

#[test]
fn a_query_that_fails_leaves_the_file_as_it_was() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("rows.csv", "old");
    let names = machine.list("");
    for sql in [
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT CASE WHEN range = 2_900_000 THEN error('half-way') END FROM range(3_000_000)",
    ] {
        server.fails(&["query", sql, "--format", "csv", "--output", "rows.csv"]);
        assert_eq!(machine.read("rows.csv"), "old", "{sql}");
        assert_eq!(machine.list(""), names, "{sql}");
    }
    let line = server.fails(&["query", "SELECT 1", "--output", "nowhere/rows.csv"]);
    assert!(line.starts_with("cannot write to nowhere/rows.csv: no such file or directory"), "{line}");
}
