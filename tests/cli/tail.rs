//! `merganser tail`: rows as they are stored, each once, through deletions, new tables and a server that restarts.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::with_events;
use crate::support::{Machine, Output, Server, eventually};

/// A tail that runs.
struct Tail {
    child: Child,
    rows: Receiver<String>,
    warnings: Receiver<String>,
}

impl Tail {
    /// Follows a table; returns when it has looked for the first time.
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let all = [&["tail", "--interval", "100ms"], arguments].concat();
        let mut child = server.spawn(&all);
        let rows = lines(child.stdout.take().unwrap());
        let warnings = lines(child.stderr.take().unwrap());
        // Its first statement is done when a second one is under way.
        let looks = "SELECT count(*) FROM merganser.queries WHERE text LIKE '%rowid >=%'";
        let before = server.rows(looks);
        eventually("the tail's first look", || (server.rows(looks) != before).then_some(()));
        Self { child, rows, warnings }
    }

    fn row(&self) -> String {
        self.rows.recv_timeout(Duration::from_secs(30)).expect("a row comes")
    }

    fn rows(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.row()).collect()
    }

    fn warning(&self) -> String {
        self.warnings.recv_timeout(Duration::from_secs(30)).expect("a line comes on stderr")
    }

    /// Ends it as a user does; no row may be left.
    fn stop(mut self) {
        thread::sleep(Duration::from_millis(300));
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = eventually("the end of the tail", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        let rest: Vec<String> = self.rows.try_iter().chain(self.warnings.try_iter()).collect();
        assert_eq!(rest, [""; 0]);
    }
}

fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    receiver
}

/// Stores `count` events, whose names are numbers from `first` on.
fn store(server: &Server, table: &str, first: usize, count: usize) {
    let sql = format!(
        "INSERT INTO {table} SELECT n::VARCHAR, make_timestamp(n * 1_000_000), 'u', 'id' || n, '{{\"k\":1}}' \
         FROM range({first}, {}) t(n)",
        first + count
    );
    server.ok(&["query", &sql]);
}

/// The names of events in lines of JSON.
fn names(lines: &[String]) -> Vec<usize> {
    let name = |line: &String| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["event_name"].as_str().unwrap().parse().unwrap()
    };
    lines.iter().map(name).collect()
}

fn numbers(first: usize, count: usize) -> Vec<usize> {
    (first..first + count).collect()
}

/// A server whose table `events` has nothing in it.
fn empty(machine: &Machine) -> Server<'_> {
    let server = with_events(machine);
    server.ok(&["query", "TRUNCATE events"]);
    server
}

#[test]
fn rows_are_printed_as_they_are_stored() {
    let machine = Machine::new();
    let server = with_events(&machine);
    let tail = Tail::start(&server, &["events"]);
    store(&server, "events", 0, 3);
    let first = tail.row();
    assert_eq!(
        first,
        r#"{"event_name":"0","event_time":"1970-01-01T00:00:00","distinct_id":"u","insert_id":"id0","properties":{"k":1}}"#
    );
    assert_eq!(names(&tail.rows(2)), [1, 2]);
    // More than a batch, in order.
    store(&server, "events", 3, 150_000);
    assert_eq!(names(&tail.rows(150_000)), numbers(3, 150_000));
    store(&server, "events", 3, 10);
    store(&server, "events", 200_000, 1);
    assert_eq!(names(&tail.rows(1)), [200_000], "known keys are not stored, and not printed");
    tail.stop();
}

#[test]
fn it_begins_where_it_is_told_to() {
    let machine = Machine::new();
    let server = empty(&machine);
    store(&server, "events", 0, 100);
    let tail = Tail::start(&server, &["events", "--lines", "3", "--format", "csv"]);
    let header = "event_name,event_time,distinct_id,insert_id,properties";
    assert_eq!(tail.row(), header);
    assert!(tail.row().starts_with("97,1970-01-01T00:01:37,"));
    assert_eq!(tail.rows(2).len(), 2);
    store(&server, "events", 100, 1);
    assert!(tail.row().starts_with("100,"), "the header is printed once");
    tail.stop();

    server.ok(&[
        "query",
        "INSERT INTO events SELECT '7', now() AT TIME ZONE 'UTC' - INTERVAL 5 MINUTE, 'u', 'now', NULL",
    ]);
    let tail = Tail::start(&server, &["events", "--since", "10m"]);
    assert_eq!(names(&tail.rows(1)), [7]);
    tail.stop();

    let tail = Tail::start(&server, &["events", "-n", "2", "--where", "event_name::INTEGER % 10 = 5 -- fives"]);
    assert_eq!(names(&tail.rows(2)), [85, 95]);
    store(&server, "events", 1000, 100);
    assert_eq!(names(&tail.rows(10)), [1005, 1015, 1025, 1035, 1045, 1055, 1065, 1075, 1085, 1095]);
    tail.stop();

    let tail = Tail::start(&server, &["events", "--format", "table", "--lines", "1"]);
    assert!(tail.rows(6)[5].starts_with("1 row"), "a table");
    tail.stop();
}

/// Many commit at once, and each row is printed once.
#[test]
fn nothing_is_missed_while_many_write() {
    let machine = Machine::new();
    let server = machine.serve(&["rows.duckdb"]);
    server.ok(&["query", "CREATE TABLE plain (n BIGINT, s VARCHAR)"]);
    let tail = Tail::start(&server, &["plain", "--format", "csv"]);
    for turn in 0..15 {
        let insert = |writer: usize| {
            let first = (writer * 15 + turn) * 500;
            let sql = format!("INSERT INTO plain SELECT n, 'same' FROM range({first}, {}) t(n)", first + 500);
            server.spawn(&["query", &sql])
        };
        let writers: Vec<Child> = (0..4).map(insert).collect();
        for writer in writers {
            Output::of_child(writer, b"").success();
        }
    }
    assert_eq!(tail.row(), "n,s");
    let mut seen: Vec<usize> =
        tail.rows(30_000).iter().map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, numbers(0, 30_000));
    tail.stop();
}

/// Rows that are deleted, those that were printed last among them, do not hide what is stored later.
#[test]
fn deletions_hide_nothing() {
    let machine = Machine::new();
    let server = machine.serve(&["rows.duckdb"]);
    machine.write("one.csv", "event_name,event_time,distinct_id,insert_id,properties\n0,1970-01-01,u,id0,\n");
    server.ok(&["ingest", "one.csv", "--table", "events", "--kind", "events"]);
    let address = server.address().to_owned();
    let tail = Tail::start(&server, &["events"]);
    store(&server, "events", 1, 1000);
    assert_eq!(names(&tail.rows(1000)), numbers(1, 1000));
    server.ok(&["query", "DELETE FROM events WHERE event_name::INTEGER < 500 OR event_name::INTEGER > 990"]);
    store(&server, "events", 2000, 10);
    assert_eq!(names(&tail.rows(10)), numbers(2000, 10));
    // The end of the server writes the table anew.
    server.stop();
    assert!(tail.warning().ends_with(": trying again"));
    let server = machine.serve_at(&address, &["rows.duckdb"]);
    store(&server, "events", 3000, 10);
    assert_eq!(tail.warning(), "merganser: events is followed again");
    assert_eq!(names(&tail.rows(10)), numbers(3000, 10));
    // All that it knows is deleted.
    server.ok(&["query", "DELETE FROM events WHERE event_name::INTEGER > 600"]);
    assert!(tail.warning().contains("looked at last are deleted: followed from now on"));
    store(&server, "events", 4000, 10);
    assert_eq!(names(&tail.rows(10)), numbers(4000, 10));
    tail.stop();
}

#[test]
fn a_table_that_is_made_anew_is_followed_from_its_first_row() {
    let machine = Machine::new();
    let server = empty(&machine);
    let tail = Tail::start(&server, &["events"]);
    store(&server, "events", 0, 5);
    assert_eq!(names(&tail.rows(5)), numbers(0, 5));
    machine.write(
        "one.csv",
        "event_name,event_time,distinct_id,insert_id,properties\n7,1970-01-01,u,new,\n8,1970-01-01,u,newer,\n",
    );
    server.ok(&["ingest", "one.csv", "--table", "events", "--mode", "replace"]);
    assert_eq!(tail.warning(), "merganser: events was made anew: followed from its first row on");
    assert_eq!(names(&tail.rows(2)), [7, 8]);

    server.ok(&["drop", "events", "--yes"]);
    assert_eq!(tail.warning(), "merganser: events is gone: waiting for it");
    server.ok(&["ingest", "one.csv", "--table", "events"]);
    assert_eq!(tail.warning(), "merganser: events is there again: followed from its first row on");
    assert_eq!(names(&tail.rows(2)), [7, 8]);
    store(&server, "events", 9, 1);
    assert_eq!(names(&tail.rows(1)), [9]);
    tail.stop();
}

#[test]
fn a_server_that_restarts_is_followed() {
    let machine = Machine::new();
    let server = machine.serve(&["rows.duckdb"]);
    machine.write("one.csv", "event_name,event_time,distinct_id,insert_id,properties\n0,1970-01-01,u,id0,\n");
    server.ok(&["ingest", "one.csv", "--table", "events", "--kind", "events"]);
    let (uri, address) = (server.uri.clone(), server.address().to_owned());
    let tail = Tail::start(&server, &["events"]);
    store(&server, "events", 1, 1000);
    assert_eq!(names(&tail.rows(1000)), numbers(1, 1000));
    let mut server = server;
    for (round, first) in [2000, 3000].into_iter().enumerate() {
        // The second time rows are stored right before the end, and may not have been printed yet.
        if round == 1 {
            store(&server, "events", 2500, 10);
        }
        server.kill();
        let warning = tail.warning();
        assert!(
            warning.starts_with("merganser: ") && warning.contains(&uri) && warning.ends_with(": trying again"),
            "{warning}"
        );
        server = machine.serve_at(&address, &["rows.duckdb"]);
        store(&server, "events", first, 100);
        assert_eq!(tail.warning(), "merganser: events is followed again");
        if round == 1 {
            assert_eq!(names(&tail.rows(10)), numbers(2500, 10));
        }
        assert_eq!(names(&tail.rows(100)), numbers(first, 100));
    }
    tail.stop();
}

#[test]
fn what_cannot_be_followed_is_told() {
    let machine = Machine::new();
    let server = with_events(&machine);
    server.ok(&["query", "CREATE VIEW v AS FROM events"]);
    server.ok(&["query", "CREATE TABLE odd AS SELECT 1 AS rowid"]);
    server.ok(&["query", "CREATE TABLE plain AS SELECT 1 AS n"]);
    for (arguments, part) in [
        (&["nowhere"][..], "nowhere"),
        (&["v"], "v is a view: only tables can be followed"),
        (&["odd"], "odd has a column of the name rowid"),
        (&["plain", "--since", "1h"], "plain has no event_time or last_seen"),
        (&["events", "--where", "evnt_name = 'a'"], "evnt_name"),
    ] {
        let line = server.fails(&[&["tail"], arguments].concat());
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_it() {
    let machine = Machine::new();
    let server = empty(&machine);
    let mut child = server.spawn(&["tail", "events", "--interval", "100ms"]);
    drop(child.stdout.take());
    thread::sleep(Duration::from_millis(500));
    store(&server, "events", 0, 10);
    let output = Output::of_child(child, b"");
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}
