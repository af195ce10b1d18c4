//! `merganser export`: every format and back, files that are there, and what an interruption, a dead server and a failure leave.

use std::fs;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::with_events;
use crate::support::{Machine, Output, Server, eventually, sample};

/// Every ending that names a format.
const NAMES: [&str; 8] = [
    "rows.parquet",
    "rows.csv",
    "rows.csv.gz",
    "rows.ndjson",
    "rows.ndjson.gz",
    "rows.ndjson.zst",
    "rows.arrow",
    "rows.arrows",
];

/// Values of the types that text has a spelling for, which DuckDB reads.
/// An object of NDJSON becomes a struct on its way into a plain table, whose members are in the order of the alphabet.
const TEXT_TYPES: &str = "
    CREATE TABLE plain AS SELECT
        n::TINYINT AS tiny, n::SMALLINT AS small, n::INTEGER AS int, n * 1_000_000_007 AS big, n::UINTEGER AS unsigned,
        n % 2 = 0 AS flag, n / 7 AS double, (n / 8)::FLOAT AS float, (n / 4)::DECIMAL(18, 4) AS decimal,
        'row ' || n || ', \"quoted\"' || chr(10) || 'é' AS text, DATE '2024-01-01' + n::INTEGER AS date, TIME '12:34:56.789' AS time,
        TIMESTAMP '2024-01-01 00:00:00.000001' + INTERVAL (n) HOUR AS at, TIMESTAMPTZ '2024-01-01 00:00:00+02' AS at_zone,
        '123e4567-e89b-12d3-a456-426614174000'::UUID AS id, json_object('list', [n, n + 1], 'n', n) AS json
    FROM range(100) t(n)
    UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";
/// And those that it has not.
const OTHER_TYPES: &str = "
    CREATE TABLE plain AS SELECT n, encode('bytes ' || n) AS blob, [n, NULL, n + 1] AS list, {'a': n, 'b': {'c': 'x' || n}} AS struct,
        MAP {'k' || n: n} AS map, n::HUGEINT AS huge, ('color' || n % 3) AS word, json_object('n', n) AS json
    FROM range(100) t(n)
    UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";

/// Rows of `left` that `right` has not, and the other way round.
fn differences(server: &Server, left: &str, right: &str) -> Vec<String> {
    let one = |a: &str, b: &str| format!("(SELECT * FROM {a} EXCEPT ALL SELECT * FROM {b})");
    server.rows(&format!("FROM {} UNION ALL FROM {}", one(left, right), one(right, left)))
}

#[test]
fn managed_tables_come_back_from_every_format() {
    let machine = Machine::new();
    let server = with_events(&machine);
    server.ok(&["ingest", &sample("profiles.ndjson.gz"), "--table", "profiles"]);
    for kind in ["events", "profiles"] {
        for name in NAMES {
            let summary = server.ok(&["export", kind, "--output", name, "--replace"]);
            let rows = if kind == "events" { "2,000" } else { "200" };
            assert!(summary.starts_with(&format!("{name}: {rows} rows, ")), "{summary}");
            let table = format!("copy_{}", name.replace('.', "_"));
            server.ok(&["ingest", name, "--table", &table]);
            assert_eq!(differences(&server, kind, &table), [""; 0], "{kind}, {name}");
            assert_eq!(server.json(&["metadata", &table])["type"], kind);
            server.ok(&["drop", &table, "--yes"]);
        }
    }
}

#[test]
fn plain_tables_come_back_from_every_format() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    for (types, names) in [(TEXT_TYPES, &NAMES[..]), (OTHER_TYPES, &["rows.parquet", "rows.arrow", "rows.arrows"])] {
        server.ok(&["query", types]);
        for name in names {
            server.ok(&["export", "plain", "--output", name, "--replace", "--quiet"]);
            server.ok(&["query", "CREATE TABLE copy AS FROM plain LIMIT 0"]);
            server.ok(&["ingest", name, "--table", "copy", "--kind", "table", "--mode", "append"]);
            assert_eq!(differences(&server, "plain", "copy"), [""; 0], "{name}");
            server.ok(&["drop", "copy", "--yes"]);
        }
        server.ok(&["drop", "plain", "--yes"]);
    }
}

/// Of JSON and of numbers, Parquet and Arrow say the types as well.
#[test]
fn binary_formats_keep_the_types() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    server.ok(&[
        "query",
        "CREATE TABLE plain AS SELECT 1::SMALLINT AS a, DATE '2024-01-01' AS b, '{\"k\": 1}'::JSON AS c",
    ]);
    let types = |table: &str| server.rows(&format!("SELECT column_name, column_type FROM (DESCRIBE {table})"));
    for name in ["rows.parquet", "rows.arrow", "rows.arrows"] {
        server.ok(&["export", "plain", "--output", name]);
        server.ok(&["ingest", name, "--table", "copy", "--mode", "replace"]);
        assert_eq!(types("copy"), types("plain"), "{name}");
    }
}

#[test]
fn a_query_goes_to_a_file_and_to_stdout() {
    let machine = Machine::new();
    let server = with_events(&machine);
    let sql = "SELECT range AS n, {'a': range}::JSON AS j FROM range(3)";
    let lines = "{\"n\":0,\"j\":{\"a\":0}}\n{\"n\":1,\"j\":{\"a\":1}}\n{\"n\":2,\"j\":{\"a\":2}}\n";
    let summary = server.ok(&["export", "--query", sql, "--output", "rows.ndjson"]);
    assert!(summary.starts_with("rows.ndjson: 3 rows, 60 B in "), "{summary}");
    assert_eq!(machine.read("rows.ndjson"), lines);
    assert_eq!(server.ok(&["export", "--query", sql, "--output", "-", "--format", "ndjson"]), lines);
    server.ok(&["query", "CREATE VIEW v AS SELECT event_name FROM events LIMIT 7"]);
    assert_eq!(server.ok(&["export", "v", "-o", "-", "-f", "csv"]).lines().count(), 8);
}

#[test]
fn what_is_wrong_is_told_before_anything_is_written() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("rows.csv", "old");
    let names = machine.list("");
    for (arguments, part) in [
        (&["--output", "rows.txt"][..], "cannot tell the format of rows.txt: "),
        (&["--output", "-"], "cannot tell the format of -: "),
        (&["--output", "rows.parquet.gz"], "only CSV and NDJSON are compressed as a whole"),
        (&["--output", "rows.csv"], "rows.csv is there: --replace puts the new file in its place"),
        (&["--output", "no/rows.csv"], "cannot write to no/rows.csv: no such file or directory"),
        (&["--output", "new.csv"], "half-way"),
        (&["--output", "rows.csv", "--replace"], "half-way"),
        (&["--output", "new.csv.gz"], "half-way"),
        (&["--output", "new.parquet"], "half-way"),
    ] {
        let sql = "SELECT CASE WHEN range = 900_000 THEN error('half-way') END AS n FROM range(1_000_000)";
        let all = [&["export", "--query", sql], arguments].concat();
        let line = server.fails(&all);
        assert!(line.contains(part), "{arguments:?}: {line}");
        assert_eq!(machine.list(""), names, "{arguments:?}");
        assert_eq!(machine.read("rows.csv"), "old");
    }
    assert!(server.fails(&["export", "nowhere", "--output", "a.csv"]).contains("nowhere"));
    assert_eq!(machine.list(""), names);
}

/// An export without an end, of which some is on the disk.
fn endless(machine: &Machine, server: &Server) -> Child {
    let sql = "SELECT range AS n, 'text ' || range AS s FROM range(100_000_000_000)";
    let child = server.spawn(&["export", "--query", sql, "--output", "rows.csv", "--replace"]);
    let is_written = |name: &String| {
        name.starts_with(".merganser-")
            && fs::metadata(machine.path(name)).is_ok_and(|metadata| metadata.len() > 1 << 20)
    };
    eventually("rows in the file beside", || machine.list("").iter().any(is_written).then_some(()));
    child
}

#[test]
fn an_interruption_leaves_what_was_there() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("rows.csv", "old");
    let names = machine.list("");
    for signal in [Signal::INT, Signal::TERM] {
        let child = endless(&machine, &server);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(Output::of_child(child, b"").failure(), "interrupted");
        assert_eq!((machine.read("rows.csv").as_str(), machine.list("")), ("old", names.clone()));
    }
}

#[test]
fn a_server_that_dies_leaves_what_was_there() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    machine.write("rows.csv", "old");
    let names = machine.list("");
    let uri = server.uri.clone();
    let child = endless(&machine, &server);
    server.kill();
    assert_eq!(Output::of_child(child, b"").failure(), format!("lost the connection to {uri}"));
    assert_eq!((machine.read("rows.csv").as_str(), machine.list("")), ("old", names));
}
