//! `merganser ingest` of many files: which files are meant, bad ones among them, and loads that are broken off and go on.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Machine, Output, Server, eventually};

/// Where loads are noted.
const JOURNALS: &str = "home/.local/state/merganser/ingest";

/// Writes CSV of a plain table, whose numbers go from `first` on.
fn write_numbers(machine: &Machine, name: &str, first: usize, rows: usize) {
    let path = machine.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lines: Vec<String> = (first..first + rows).map(|n| format!("{n},text {n}")).collect();
    fs::write(path, format!("n,s\n{}\n", lines.join("\n"))).unwrap();
}

/// `count` files of `rows` rows in the directory `d`; all numbers are different.
fn write_files(machine: &Machine, count: usize, rows: usize) {
    for index in 0..count {
        write_numbers(machine, &format!("d/{index:03}.csv"), index * rows, rows);
    }
}

/// Rows of the table, and different ones among them.
fn rows(server: &Server) -> String {
    server.rows("SELECT count(*), count(DISTINCT n) FROM t").remove(0)
}

fn files(summary: &Value) -> [u64; 3] {
    ["files_stored", "files_stored_before", "files_failed"].map(|name| summary[name].as_u64().unwrap())
}

/// Files that the only journal there is tells of.
fn noted(machine: &Machine) -> usize {
    let Ok(mut entries) = fs::read_dir(machine.path(JOURNALS)) else { return 0 };
    let journal = entries.next().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default());
    journal.map_or(0, |text| text.lines().filter(|line| line.contains("stored")).count())
}

fn interrupt(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the command runs");
}

#[test]
fn directories_and_patterns_are_read() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    for (index, name) in ["d/b.csv", "d/a/1.csv", "d/a/2.csv", "d/c/x.csv", "d/.hidden.csv"].iter().enumerate() {
        write_numbers(&machine, name, index * 10, 10);
    }
    machine.write("d/notes.txt", "not for us");
    let output = Output::of(&mut server.command(&["ingest", "d", "--table", "t"]), b"");
    assert_eq!(output.stderr, "merganser: passed over by their names: d/notes.txt\n");
    let summary = output.success();
    assert!(
        summary.starts_with("t: 4 of 4 files stored; 40 rows received, 40 inserted, 0 duplicates in "),
        "{summary}"
    );
    assert_eq!(rows(&server), "40,40");
    for (pattern, count) in [("d/**/*.csv", 4), ("d/a/*", 2), ("d/[ab]*", 3), ("d/?.csv", 1)] {
        let summary = server.json(&["ingest", pattern, "--table", "other", "--jobs", "3"]);
        assert_eq!(files(&summary), [count, 0, 0], "{pattern}");
    }
    assert_eq!(server.fails(&["ingest", "d/*.parquet", "--table", "t"]), "d/*.parquet: no file matches");
    let line = server.fails(&["ingest", "d/b.csv", "none.csv", "--table", "t"]);
    assert_eq!(line, "cannot read none.csv: no such file or directory");
    let line = server.fails(&["ingest", "d", "-", "--table", "t"]);
    assert!(line.contains("--atomic"), "{line}");
    assert!(
        !machine.path(JOURNALS).exists() || machine.list(JOURNALS).is_empty(),
        "nothing is left of loads that are done"
    );
}

#[test]
fn one_stream_is_all_or_nothing() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 3, 10);
    let summary = server.json(&["ingest", "d", "--table", "t", "--mode", "replace"]);
    assert_eq!(summary["rows_inserted"], 30);
    machine.write("d/001.csv", "n,s\n1,a,b\n");
    assert!(server.fails(&["ingest", "d", "--table", "t", "--atomic"]).starts_with("d/001.csv:2: "));
    assert_eq!(rows(&server), "30,30");
}

#[test]
fn a_bad_file_is_told_and_the_others_are_stored() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 6, 10);
    machine.write("d/000.csv", "n,s\n1,a,b\n");
    machine.write("d/003.csv", "n,s\n30,a\nmany,b\n");
    let ingest = ["ingest", "d", "--table", "t"];
    let output = Output::of(&mut server.command(&ingest), b"");
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!(lines[0].starts_with("merganser: d/000.csv:2: "), "{output:?}");
    assert!(lines[1].contains("d/003.csv"), "{output:?}");
    assert_eq!(lines[2], "merganser: 4 of 6 files are stored; the same command again goes on with the others");
    assert_eq!((output.code, lines.len()), (Some(1), 3));
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.starts_with("t: 4 of 6 files stored, 2 failed; 40 rows received"), "{summary}");
    assert_eq!(rows(&server), "40,40");

    // One is mended: it alone is stored now.
    write_numbers(&machine, "d/000.csv", 0, 10);
    let output = Output::of(server.command(&ingest).arg("--json"), b"");
    assert_eq!(output.code, Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(files(&summary), [1, 4, 1]);
    assert_eq!(summary["failed"][0]["file"], json!("d/003.csv"));
    write_numbers(&machine, "d/003.csv", 30, 10);
    assert_eq!(files(&server.json(&ingest)), [1, 5, 0]);
    assert_eq!(rows(&server), "60,60");
    assert_eq!(machine.list(JOURNALS), [""; 0]);
}

#[test]
fn when_nothing_can_be_stored_it_ends() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 30, 1);
    let output = Output::of(&mut server.command(&["ingest", "d", "--table", "t", "--kind", "events", "--quiet"]), b"");
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.lines().count() == 21 && output.stderr.contains("the first 20 files failed"), "{output:?}");
    let line = server.fails(&["ingest", "d", "--table", "none", "--mode", "append", "--quiet"]);
    assert!(line.contains("none") && line.contains("0 of 30 files are stored"), "{line}");
}

#[test]
fn bad_lines_of_all_files_are_set_aside() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 3, 10);
    machine.write("d/001.csv", "n,s\n10,a\nmany,b\n");
    machine.write("d/002.csv", "n,s\n20,a\n21,b,c\n");
    let summary = server.json(&["ingest", "d", "--table", "t", "--skip-bad", "aside"]);
    assert_eq!((files(&summary), &summary["bad_lines"]), ([3, 0, 0], &json!(2)));
    let mut aside: Vec<String> = machine.read("aside").lines().map(str::to_owned).collect();
    aside.sort();
    assert_eq!(aside, ["21,b,c", "many,b"]);
    assert_eq!(rows(&server), "12,12");
}

#[test]
fn a_load_that_is_killed_goes_on_where_it_was() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 60, 2000);
    let ingest = ["ingest", "d", "--table", "t", "--quiet"];
    for (signal, wanted) in [(Signal::KILL, 3), (Signal::INT, 8), (Signal::KILL, 13)] {
        let child = server.spawn(&ingest);
        eventually("files that are noted", || (noted(&machine) >= wanted).then_some(()));
        interrupt(&child, signal);
        let output = Output::of_child(child, b"");
        if signal == Signal::INT {
            assert_eq!(output.code, Some(1));
            assert!(
                output.stderr.contains("interrupted: ") && output.stderr.contains(" of 60 files are stored"),
                "{output:?}"
            );
        }
    }
    let before = noted(&machine) as u64;
    let summary = server.json(&["ingest", "d", "--table", "t"]);
    assert_eq!(files(&summary), [60 - before, before, 0]);
    assert_eq!(rows(&server), "120000,120000");
}

/// What the server has stored and the client has not heard of is not stored again.
#[test]
fn a_file_that_is_stored_and_not_noted_is_stored_once() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 5, 10);
    machine.write("d/004.csv", "n,s\nbad\n");
    let ingest = ["ingest", "d", "--table", "t", "--jobs", "1", "--quiet"];
    assert_eq!(Output::of(&mut server.command(&ingest), b"").code, Some(1));
    let journal = machine.path(JOURNALS).join(&machine.list(JOURNALS)[0]);
    let text = fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    // The last two are not noted, one of them not wholly.
    fs::write(&journal, format!("{}\n{}", lines[..3].join("\n"), &lines[3][..20])).unwrap();
    write_numbers(&machine, "d/004.csv", 40, 10);
    assert_eq!(files(&server.json(&["ingest", "d", "--table", "t"])), [3, 2, 0]);
    assert_eq!(rows(&server), "50,50");
}

#[test]
fn a_load_outlives_its_server() {
    let machine = Machine::new();
    let server = machine.serve(&["rows.duckdb"]);
    let (uri, address) = (server.uri.clone(), server.address().to_owned());
    write_files(&machine, 60, 2000);
    let child = server.spawn(&["ingest", "d", "--table", "t", "--json"]);
    eventually("files that are noted", || (noted(&machine) >= 5).then_some(()));
    server.kill();
    thread::sleep(Duration::from_millis(300));
    let server = machine.serve_at(&address, &["rows.duckdb"]);
    assert_eq!(server.uri, uri);
    let output = Output::of_child(child, b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(files(&serde_json::from_slice(&output.stdout).unwrap()), [60, 0, 0]);
    assert_eq!(rows(&server), "120000,120000");
}

#[test]
fn a_load_whose_table_is_gone_begins_anew() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 4, 10);
    let ingest = ["ingest", "d", "--table", "t"];
    let break_off = || {
        machine.write("d/003.csv", "n,s\nbad\n");
        assert_eq!(Output::of(&mut server.command(&ingest), b"").code, Some(1));
        write_numbers(&machine, "d/003.csv", 30, 10);
    };
    break_off();
    server.ok(&["drop", "t", "--yes"]);
    let output = Output::of(&mut server.command(&ingest), b"");
    assert_eq!(output.stderr, "merganser: t is gone since this load was broken off: it begins anew\n");
    assert!(output.success().starts_with("t: 4 of 4 files stored; "));

    server.ok(&["drop", "t", "--yes"]);
    break_off();
    server.ok(&["query", "TRUNCATE t"]);
    let line = server.fails(&ingest);
    assert!(line.contains("t has 0 rows, and this load has stored 30") && line.contains(JOURNALS), "{line}");
    fs::remove_dir_all(machine.path(JOURNALS)).unwrap();
    assert_eq!(files(&server.json(&ingest)), [4, 0, 0]);
    assert_eq!(rows(&server), "40,40");
}

#[test]
fn a_managed_table_that_is_made_anew_gets_all_files() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    fs::create_dir(machine.path("d")).unwrap();
    let event =
        |id: usize| format!(r#"{{"event":"e","properties":{{"time":{id},"distinct_id":"u","$insert_id":"{id}"}}}}"#);
    for index in 0..3 {
        machine.write(&format!("d/{index}.ndjson"), format!("{}\n{}\n", event(index * 2), event(index * 2 + 1)));
    }
    machine.write("d/3.ndjson", "{}\n");
    let ingest = ["ingest", "d", "--table", "t"];
    assert_eq!(Output::of(&mut server.command(&ingest), b"").code, Some(1));
    server.ok(&["ingest", "d/0.ndjson", "--table", "t", "--mode", "replace"]);
    machine.write("d/3.ndjson", event(6));
    let output = Output::of(&mut server.command(&ingest), b"");
    assert_eq!(output.stderr, "merganser: t was made anew since this load was broken off: it begins anew\n");
    let summary = output.success();
    assert!(summary.starts_with("t: 4 of 4 files stored; 7 rows received, 5 inserted, 2 duplicates"), "{summary}");
}

#[test]
fn the_same_load_runs_once_at_a_time() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    write_files(&machine, 60, 2000);
    let child = server.spawn(&["ingest", "d", "--table", "t", "--quiet"]);
    eventually("files that are noted", || (noted(&machine) >= 1).then_some(()));
    let line = server.fails(&["ingest", "d", "--table", "t"]);
    assert_eq!(line, "the same load is running in another process");
    interrupt(&child, Signal::KILL);
    drop(Output::of_child(child, b""));
}
