//! The client commands against a running server: what they store and print (one file for each), and how they end.

mod export;
mod ingest;
mod load;
mod query;
mod tables;
mod tail;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;

use crate::support::{Machine, Output, Server, sample};

/// A server with the sample's events in the table `events`.
fn with_events(machine: &Machine) -> Server<'_> {
    let server = machine.serve(&["--memory"]);
    server.ok(&["ingest", &sample("events.ndjson.gz"), "--table", "events", "--quiet"]);
    server
}

/// The commands that need a server.
const CLIENTS: &[&[&str]] = &[
    &["tables"],
    &["schema", "t"],
    &["metadata", "t"],
    &["drop", "t", "--yes"],
    &["query", "SELECT 1"],
    &["export", "t", "--output", "t.parquet"],
    &["tail", "t"],
    &["ingest", "a.csv", "--table", "t"],
];

#[test]
fn exit_codes_tell_usage_from_failure() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    for arguments in [&["--help"][..], &["--version"], &["help", "ingest"], &["query", "--help"]] {
        let output = machine.run(arguments);
        assert!(output.stderr.is_empty(), "{output:?}");
        assert!(!output.success().is_empty());
    }
    for arguments in [
        &[][..],
        &["nonsense"],
        &["tables", "extra"],
        &["tables", "--kind", "index"],
        &["schema"],
        &["query", "SELECT 1", "--format", "xml"],
        &["export", "t"],
        &["export", "t", "--query", "SELECT 1", "--output", "a.csv"],
        &["export", "--output", "a.csv"],
        &["tail", "t", "--interval", "1ms"],
        &["ingest", "--table", "t"],
        &["ingest", "a.csv"],
        &["ingest", "a.csv", "--table", "t", "--mode", "upsert"],
        &["ingest", "a.csv", "--table", "t", "--from-date", "2024-02-30"],
        &["serve", "--memory", "--ephemeral"],
    ] {
        let output = Output::of(&mut server.command(arguments), b"");
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.contains("--help") | output.stderr.contains("Usage"),
            "{output:?}"
        );
    }
    for arguments in [&["query", "SELEC 1"][..], &["schema", "t"], &["drop", "t", "--yes"], &["ingest", "a", "-tt"]] {
        server.fails(arguments);
    }
}

#[test]
fn a_server_out_of_reach_is_one_line() {
    let machine = Machine::new();
    machine.write("a.csv", "n\n1\n");
    // Bound and dropped: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let uri = format!("grpc://{address}");
    for command in CLIENTS {
        let line = Output::of(machine.command(command).env("MERGANSER_SERVER", &uri), b"").failure();
        assert_eq!(line, format!("cannot reach {uri}: is the server running? start one with `merganser serve`"));
    }
    // The flag is stronger than the environment.
    let server = machine.serve(&["--memory"]);
    Output::of(machine.command(&["tables", "--server", &server.uri]).env("MERGANSER_SERVER", &uri), b"").success();
    let line = server.fails(&["tables", "--server", &uri]);
    assert!(line.starts_with(&format!("cannot reach {uri}: ")), "{line}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    for format in ["csv", "ndjson", "json", "arrow"] {
        let sql = "SELECT range AS n FROM range(100_000_000_000)";
        let mut child = server.spawn(&["query", sql, "--format", format]);
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 3]).unwrap();
        drop(stdout);
        let output = Output::of_child(child, b"");
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{format}");
    }
    for command in [&["tables"][..], &["query", "SELECT 1"], &["schema", "_metadata", "--json"]] {
        let mut child = server.spawn(command);
        drop(child.stdout.take());
        let output = Output::of_child(child, b"");
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn a_server_that_dies_is_one_line() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let uri = server.uri.clone();
    let mut child = server.spawn(&["query", "SELECT range AS n FROM range(100_000_000_000)", "--format", "csv"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    server.kill();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!(Output::of_child(child, b"").failure(), format!("lost the connection to {uri}"));
}
