//! Runs `merganser demo`: the output is whole and readable without a terminal, ctrl-c ends it well at any time, and no file is
//! left behind.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The demo with its temporary files in `directory`.
fn demo(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser"));
    command.arg("demo").args(arguments).env("TMPDIR", directory).env("HOME", directory).stdin(Stdio::null());
    for variable in ["RUST_LOG", "MERGANSER_LOG", "XDG_CONFIG_HOME"] {
        command.env_remove(variable);
    }
    command
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().expect("it is there").next().is_none()
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn it_shows_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output =
        demo(directory.path(), &["--once", "--events", "2000", "--listen", "127.0.0.1:0"]).output().expect("it runs");
    let (text, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{text}{log}");
    assert_eq!(log, "", "a newcomer sees no log");
    assert!(text.starts_with("listening on grpc://127.0.0.1:"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "no bar without a terminal: {text}");
    for shown in [
        "  events       2,000 rows in ",
        "  profiles        80 rows in ",
        "\nSELECT event_name, count(*) AS events",
        "| page view ",
        "| US ",
        "| plan ",
        "| iOS ",
        "| events     | events   |      2000 | 2025-06-01 | 2025-06-30 |",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in: {text}");
    }
    assert!(text.ends_with("\nstopped: the server and its database are gone\n"), "{text}");
    assert!(is_empty(directory.path()));
}

#[test]
fn it_serves_on_until_it_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = demo(directory.path(), &["--events", "500", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let command = lines.find(|line| line.starts_with("  merganser query --server ")).expect("it says how to connect");
    let uri = command.split_whitespace().nth(3).unwrap();
    let query = Command::new(env!("CARGO_BIN_EXE_merganser"))
        .args(["query", "--server", uri, "SELECT count(*) AS n FROM events", "--format", "csv"])
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8(query.stdout).unwrap(), "n\n500\n");
    interrupt(&child);
    assert_eq!(lines.last().as_deref(), Some("stopped: the server and its database are gone"));
    assert!(child.wait().unwrap().success());
    assert!(is_empty(directory.path()));
}

#[test]
fn an_interrupted_upload_ends_well() {
    let started = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let mut child = demo(directory.path(), &["--events", "50000000", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    // Some of the rows are on their way.
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert!(!rest.contains("rows in"), "it was not interrupted: {rest}");
    assert!(started.elapsed() < Duration::from_secs(30), "it made all of its events first");
    assert!(is_empty(directory.path()));
}
