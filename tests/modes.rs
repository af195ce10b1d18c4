//! The server as a process: where it keeps its data, what it refuses to start with, and what is left however it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command};

use arrow_flight::error::FlightError;
use rustix::process::Signal;
use tonic::Code;

use crate::support::flight::{self, Upload};
use crate::support::{EVENTS, Machine, Output, PROFILES, Server, eventually, sample};

/// Ingests the sample's events into `events`.
fn store_events(server: &Server) {
    server.ok(&["ingest", &sample("events.ndjson.gz"), "--table", "events", "--quiet"]);
}

/// The directories of ephemeral databases.
fn ephemeral(machine: &Machine) -> Vec<String> {
    machine.list("tmp").into_iter().filter(|name| name.starts_with("merganser-ephemeral-")).collect()
}

// --- starting ---

#[test]
fn the_first_lines_tell_how_to_connect() {
    let machine = Machine::new();
    let mut server = machine.serve(&["--memory"]);
    let port: u16 = server.uri.strip_prefix("grpc://127.0.0.1:").unwrap().parse().unwrap();
    assert_ne!(port, 0);
    let second = server.line();
    assert!(second.contains(&server.uri), "{second}");
    // What it says there works.
    assert_eq!(machine.run(&["query", "--server", &server.uri, "SELECT 1 AS n", "--format=csv"]).success(), "n\n1\n");
}

#[test]
fn it_is_ready_soon() {
    let machine = Machine::new();
    let persistent = machine.serve(&["a.duckdb"]);
    store_events(&persistent);
    println!("ready after {:?} with a new file", persistent.ready_after);
    persistent.kill();
    for arguments in [&["--memory"][..], &["--ephemeral"], &["a.duckdb"], &["a.duckdb"]] {
        let server = machine.serve(arguments);
        println!("ready after {:?} with {arguments:?}", server.ready_after);
        server.stop();
    }
}

#[test]
fn a_locked_file_is_one_line_that_names_the_process() {
    let machine = Machine::new();
    let server = machine.serve(&["a.duckdb"]);
    for arguments in [&["a.duckdb"][..], &["--read-only", "a.duckdb"]] {
        let line = machine.serve_fails(arguments);
        assert!(line.contains("a.duckdb is in use by process"), "{line}");
        assert!(line.contains(&server.pid().to_string()), "{line}");
    }
    store_events(&server);
    assert_eq!(server.count("events"), EVENTS, "who holds the file does not notice");
}

#[test]
fn a_port_in_use_is_one_line() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let output = machine.run(&["serve", "b.duckdb", "--listen", server.address()]);
    let line = output.failure();
    assert!(line.starts_with(&format!("cannot listen on {}: ", server.address())), "{line}");
    assert!(line.to_lowercase().contains("in use"), "{line}");
    // And no lock is left behind.
    machine.serve(&["b.duckdb"]).stop();
}

#[test]
fn what_cannot_be_opened_is_one_line() {
    let machine = Machine::new();
    machine.write("text", "not a database");
    for (arguments, part) in [
        (&["--read-only", "none.duckdb"][..], "database file not found: "),
        (&["text"], "not a valid DuckDB database"),
        (&["--read-only", "text"], "not a valid DuckDB database"),
        (&["tmp"], "is a directory"),
        (&["--memory", "--set", "engine.treads=1"], "did you mean `engine.threads`?"),
        (&["--memory", "--config", "none.toml"], "none.toml"),
    ] {
        let line = machine.serve_fails(arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    assert_eq!(machine.list(""), ["text", "tmp"], "nothing was made");
    assert_eq!(machine.read("text"), "not a database");
}

#[test]
fn the_configuration_tells_where_each_value_comes_from() {
    let machine = Machine::new();
    machine.write("my.toml", "[engine]\nthreads = 3\n[query]\nbatch_rows = 1\n[log]\nfilter = \"warn\"\n");
    let arguments = ["serve", "--config", "my.toml", "--memory", "--print-config", "--set", "ingest.ids_max=7"];
    let mut command = machine.command(&arguments);
    let printed = Output::of(command.env("MERGANSER_QUERY_BATCH_ROWS", "1000"), b"").success();
    let source = |setting: &str| {
        let line = printed.lines().find(|line| line.starts_with(&format!("{setting} ")));
        line.unwrap_or_else(|| panic!("no {setting} in {printed}")).rsplit("# ").next().unwrap()
    };
    assert!(printed.contains("\nthreads = 3 ") && source("threads").ends_with("my.toml"), "{printed}");
    assert!(printed.contains("\nbatch_rows = 1000 "), "the environment is stronger than the file: {printed}");
    assert_eq!(source("batch_rows"), "MERGANSER_QUERY_BATCH_ROWS");
    assert!(source("ids_max").starts_with("--set"), "{printed}");
    assert_eq!((source("mode"), source("listen")), ("--memory", "default"));
    assert_eq!(machine.list(""), ["my.toml", "tmp"], "nothing was opened");

    // What is printed is a configuration.
    machine.write("printed.toml", &printed);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim().to_owned()).collect()
    };
    let again = machine.run(&["serve", "--config", "printed.toml", "--print-config"]).success();
    assert_eq!(values(&again), values(&printed));
}

#[test]
fn it_stops_when_stdin_ends_if_that_counts() {
    let machine = Machine::new();
    // /dev/null ends at once, and does not count.
    let server = machine.serve(&["--memory"]);
    assert_eq!(server.ok(&["query", "SELECT 1 AS one", "--format", "csv"]), "one\n1\n");

    let arguments = ["serve", "--listen", "127.0.0.1:0", "--stop-with-stdin", "a.duckdb"];
    let printed = Output::of(&mut machine.command(&arguments), b"anything").success();
    assert!(printed.starts_with("listening on grpc://127.0.0.1:"), "{printed}");
    let files: Vec<String> = machine.list("").into_iter().filter(|name| name.starts_with("a.")).collect();
    assert_eq!(files, ["a.duckdb"], "the log is written back");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_its_health() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let mut client = HealthClient::new(flight::connect(&server).await);
    for service in ["", "arrow.flight.protocol.FlightService"] {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = client.check(HealthCheckRequest { service: "none".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

// --- where the data is ---

#[test]
fn a_persistent_database_stays_and_is_checkpointed() {
    let machine = Machine::new();
    for (signal, rows) in [(Signal::TERM, EVENTS), (Signal::INT, EVENTS + 1)] {
        let mut server = machine.serve(&["data/new/a.duckdb"]);
        store_events(&server);
        let one = "event_name,event_time,distinct_id,insert_id,properties\na,2024-01-01,u,1,\n";
        if rows > EVENTS {
            server.ok_with(&["ingest", "-", "--table", "events", "--format", "csv"], one.as_bytes());
        }
        assert_eq!(server.count("events"), rows);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}: {}", server.log());
        assert_eq!(machine.list("data/new"), ["a.duckdb"], "{signal:?}: the log is written back");
    }
    let server = machine.serve(&["data/new/a.duckdb"]);
    assert_eq!(server.count("events"), EVENTS + 1);
    assert_eq!(server.json(&["metadata", "events"])["row_count"], EVENTS + 1);
    assert_eq!(machine.list("tmp"), [""; 0], "nothing is outside of the data's directory");
}

#[test]
fn the_default_file_is_in_the_users_data_directory() {
    let machine = Machine::new();
    let server = machine.serve(&[]);
    store_events(&server);
    server.stop();
    assert_eq!(machine.list("data/merganser"), ["merganser.duckdb"]);
    assert_eq!(machine.serve(&["data/merganser/merganser.duckdb"]).count("events"), EVENTS);
}

#[test]
fn an_ephemeral_database_goes_with_its_server() {
    let machine = Machine::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = machine.serve(&["--ephemeral"]);
        store_events(&server);
        assert_eq!(ephemeral(&machine).len(), 1);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}: {}", server.log());
        assert_eq!(machine.list("tmp"), [""; 0]);
    }
}

#[test]
fn what_a_crashed_ephemeral_server_left_goes_at_the_next_start() {
    let machine = Machine::new();
    let (crashed, alive) = (machine.serve(&["--ephemeral"]), machine.serve(&["--ephemeral"]));
    store_events(&crashed);
    let both = ephemeral(&machine);
    crashed.kill();
    assert_eq!(ephemeral(&machine), both, "a killed server cannot clear up");
    machine.serve(&["--ephemeral"]).stop();
    let left = ephemeral(&machine);
    assert_eq!((both.len(), left.len()), (2, 1));
    assert!(left[0].starts_with(&format!("merganser-ephemeral-{}-", alive.pid())), "{left:?}");
    store_events(&alive);
    alive.stop();
    assert_eq!(machine.list("tmp"), [""; 0]);
}

#[test]
fn a_database_in_memory_is_nowhere_else() {
    let machine = Machine::new();
    let mut server = machine.serve(&["--memory"]);
    let names = machine.list("");
    store_events(&server);
    assert_eq!(server.count("events"), EVENTS);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(machine.list(""), names);
    assert_eq!(machine.list("tmp"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_servers_share_a_file_and_never_write_to_it() {
    let machine = Machine::new();
    let writer = machine.serve(&["a.duckdb"]);
    store_events(&writer);
    // What was not written back is read from the log.
    writer.kill();
    let bytes = |name: &str| fs::read(machine.path(name)).unwrap();
    let before = (bytes("a.duckdb"), bytes("a.duckdb.wal"));

    let servers = [machine.serve(&["--read-only", "a.duckdb"]), machine.serve(&["--read-only", "a.duckdb"])];
    for server in &servers {
        assert_eq!(server.count("events"), EVENTS);
        assert_eq!(server.json(&["metadata", "events"])["row_count"], EVENTS);
        for command in [
            &["ingest", &sample("profiles.ndjson.gz"), "--table", "people"][..],
            &["ingest", &sample("events.ndjson.gz"), "--table", "events"],
            &["drop", "events", "--yes"],
            &["query", "CREATE TABLE t (n INTEGER)"],
            &["query", "DELETE FROM events"],
        ] {
            let line = server.fails(command);
            assert!(line.contains("read-only"), "{command:?}: {line}");
        }
        let status = Upload::start(server, "people", "create").await.refused().await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
    for server in servers {
        server.stop();
    }
    assert_eq!((bytes("a.duckdb"), bytes("a.duckdb.wal")), before);
    assert_eq!(machine.list("tmp"), [""; 0]);
}

// --- ending in the middle of something ---

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_does_not_delay_the_end() {
    let machine = Machine::new();
    let server = machine.serve(&["a.duckdb", "--set", "server.shutdown_grace=1h"]);
    let mut upload = Upload::start(&server, "events", "create").await;
    upload.send(10).await;
    assert_eq!(upload.finish().await, 10);
    // Its client lives, and could send a call any time.
    let _idle = flight::connect(&server).await;
    server.stop();
}

/// A query whose client has stopped reading it; all buffers on the way are full, or are about to be.
fn stalled_query(server: &Server) -> (Child, BufReader<ChildStdout>) {
    let mut child = server.spawn(&["query", "SELECT range AS n FROM range(100_000_000_000)", "--format", "csv"]);
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut String::new()).expect("the query has rows");
    (child, stdout)
}

#[test]
fn a_stalled_query_is_interrupted_after_the_grace_time() {
    let machine = Machine::new();
    let server = machine.serve(&["a.duckdb", "--set", "server.shutdown_grace=10ms"]);
    store_events(&server);
    let (child, mut stdout) = stalled_query(&server);
    let log = server.log_path().to_owned();
    server.stop();
    assert!(fs::read_to_string(log).unwrap().contains("INFO merganser::server: stopped"));
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let output = Output::of_child(child, b"");
    assert_eq!((output.code, output.stderr.lines().count()), (Some(1), 1), "{output:?}");
    assert_eq!(machine.list("").iter().filter(|name| name.starts_with("a.duckdb")).count(), 1, "no log is left");
}

/// The query timeout covers the fetch: a client that does not read keeps nothing open.
#[test]
fn a_stalled_query_ends_at_its_timeout() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory", "--set", "engine.open_max=2", "--set", "engine.query_timeout=1s"]);
    let stalled = [stalled_query(&server), stalled_query(&server)];
    eventually("the place of a stalled query", || {
        let next = Output::of(&mut server.command(&["query", "SELECT 1", "--format", "csv"]), b"");
        (next.code == Some(0)).then_some(())
    });
    for (mut child, _) in stalled {
        child.kill().and_then(|()| child.wait()).unwrap();
    }
}

/// As many rows as pass every buffer on the way, so that some have reached the table's pages.
const ROWS_BEFORE_THE_KILL: u64 = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_mid_put_keeps_what_it_acknowledged_and_nothing_else() {
    let machine = Machine::new();
    let server = machine.serve(&["a.duckdb", "--set", "engine.checkpoint_threshold=1MiB"]);
    store_events(&server);
    server.ok(&["ingest", &sample("profiles.ndjson.gz"), "--table", "people"]);
    let mut added = Upload::start(&server, "added", "create").await;
    added.send(1000).await;
    assert_eq!(added.finish().await, 1000);

    let mut open = Vec::new();
    for (table, mode) in [("lost", "create"), ("added", "append"), ("events", "replace")] {
        let mut upload = Upload::start(&server, table, mode).await;
        upload.send(ROWS_BEFORE_THE_KILL).await;
        open.push(upload);
    }
    server.kill();
    for upload in open {
        let status = upload.refused().await;
        assert!(matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Internal), "{status}");
    }

    let server = machine.serve(&["a.duckdb"]);
    assert_eq!(server.tables(), ["added", "events", "people"]);
    assert_eq!([server.count("added"), server.count("events"), server.count("people")], [1000, EVENTS, PROFILES]);
    let metadata = server.rows("SELECT table_name, row_count FROM _metadata ORDER BY 1");
    assert_eq!(metadata, ["added,1000", "events,2000", "people,200"]);
    // The keys are known, and the lost table's name is free.
    let again = server.json(&["ingest", &sample("events.ndjson.gz"), "--table", "events"]);
    assert_eq!((again["rows_inserted"].as_u64(), again["rows_duplicate"].as_u64()), (Some(0), Some(EVENTS)));
    server.ok(&["ingest", &sample("events.ndjson.gz"), "--table", "lost", "--mode", "create"]);
}

// --- a full disk ---

/// A small file system in memory; `None`, with the reason printed, where one may not be mounted.
struct SmallDisk<'a> {
    machine: &'a Machine,
    path: PathBuf,
}

impl<'a> SmallDisk<'a> {
    fn mount(machine: &'a Machine) -> Result<Self, String> {
        let path = machine.path("small");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&path);
        let output = mount.output().map_err(|error| error.to_string())?;
        let reason = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(Self { machine, path }) } else { Err(reason()) }
    }

    /// Without the floor under the free space, which is more than this whole disk.
    fn serve(&self) -> Server<'a> {
        self.machine.serve(&["small/a.duckdb", "--set", "engine.disk_free_min=0B"])
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: whatever still holds a file of it is about to end.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}

/// Sends more than the disk holds; the answer is the refusal.
async fn overfill(server: &Server<'_>, table: &str, mode: &str) -> tonic::Status {
    let mut upload = Upload::start(server, table, mode).await;
    match upload.try_send(400_000).await {
        Err(FlightError::Tonic(status)) => *status,
        Err(error) => panic!("not a status: {error}"),
        Ok(()) => upload.refused().await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_an_ingest_and_nothing_else() {
    let machine = Machine::new();
    let disk = match SmallDisk::mount(&machine) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: no tmpfs can be mounted here: {reason}"),
    };
    let server = disk.serve();
    store_events(&server);
    server.ok(&["ingest", &sample("profiles.ndjson.gz"), "--table", "people"]);
    for (table, mode) in [("lost", "create"), ("events", "append"), ("events", "replace")] {
        let status = overfill(&server, table, mode).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(server.tables(), ["events", "people"]);
        assert_eq!((server.count("events"), server.count("people")), (EVENTS, PROFILES));
    }
    server.kill();

    let server = disk.serve();
    assert_eq!(server.tables(), ["events", "people"]);
    assert_eq!((server.count("events"), server.count("people")), (EVENTS, PROFILES));
    server.stop();
    assert_eq!(machine.list("small"), ["a.duckdb"]);
    let server = disk.serve();
    assert_eq!((server.count("events"), server.count("people")), (EVENTS, PROFILES));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_without_its_path() {
    let machine = Machine::new();
    let disk = match SmallDisk::mount(&machine) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: no tmpfs can be mounted here: {reason}"),
    };
    let server = disk.serve();
    let status = overfill(&server, "lost", "create").await;
    let message = status.message();
    assert!(message.contains("disk") || message.contains("space"), "{message}");
    assert!(!message.contains("a.duckdb") && !message.contains("small"), "a path of the server: {message}");
}

/// A statement that fails for lack of space gives the space back.
#[test]
fn a_statement_that_filled_the_disk_leaves_room_for_others() {
    let machine = Machine::new();
    let disk = match SmallDisk::mount(&machine) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: no tmpfs can be mounted here: {reason}"),
    };
    let server = disk.serve();
    store_events(&server);
    server.fails(&["query", "CREATE TABLE big AS SELECT range AS n, hash(range) AS h FROM range(5_000_000)"]);
    server.ok(&["ingest", &sample("profiles.ndjson.gz"), "--table", "people"]);
    assert_eq!((server.count("events"), server.count("people")), (EVENTS, PROFILES));
}
