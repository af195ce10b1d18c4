//! `merganser tables`, `schema`, `metadata` and `drop`, as text and as JSON.

use serde_json::json;

use super::with_events;
use crate::support::{EVENTS, Machine, PROFILES, sample};

#[test]
fn tables_are_listed() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    assert_eq!(server.ok(&["tables"]), "no tables\n");
    assert_eq!(server.json(&["tables"]), json!([]));

    server.ok(&["ingest", &sample("events.ndjson.gz"), "--table", "events", "--fetched-at", "2024-01-31T12:00:00Z"]);
    server.ok(&["ingest", &sample("profiles.ndjson.gz"), "--table", "people"]);
    server.ok(&["query", "CREATE VIEW seen AS SELECT * FROM events"]);
    let text = server.ok(&["tables"]);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["name", "kind", "rows", "fetched", "at", "(UTC)", "size"]);
    assert_eq!(lines[1][..5], ["events", "events", "2,000", "2024-01-31", "12:00:00"]);
    assert_eq!(lines[2][..3], ["people", "profiles", "200"]);
    assert_eq!(lines[3][..2], ["seen", "view"]);
    assert_eq!(lines.len(), 4, "_metadata is not shown");

    let tables = server.json(&["tables", "--kind", "events"]);
    assert_eq!(tables.as_array().map(Vec::len), Some(1));
    assert_eq!((&tables[0]["name"], &tables[0]["kind"]), (&json!("events"), &json!("events")));
    assert_eq!((&tables[0]["row_count"], &tables[0]["fetched_at"]), (&json!(EVENTS), &json!("2024-01-31T12:00:00Z")));
    assert_eq!(server.json(&["tables", "--like", "pe%"])[0]["name"], "people");

    // Rows are counted as they are now.
    server.ok(&["query", "DELETE FROM people WHERE distinct_id < 'a'"]);
    let left = server.count("people");
    assert!(left < PROFILES);
    assert_eq!(server.json(&["tables", "--like", "people"])[0]["row_count"], left);
}

#[test]
fn schemas_are_shown() {
    let machine = Machine::new();
    let server = with_events(&machine);
    let text = "\
column       type       null  key
event_name   VARCHAR    no
event_time   TIMESTAMP  no
distinct_id  VARCHAR    no
insert_id    VARCHAR    no    key
properties   JSON       yes
";
    assert_eq!(server.ok(&["schema", "events"]), text);
    assert_eq!(server.ok(&["schema", "EVENTS"]), text, "names have no case");
    let schema = server.json(&["schema", "events"]);
    assert_eq!((&schema["table"], &schema["kind"]), (&json!("events"), &json!("events")));
    let key = json!({"name": "insert_id", "type": "VARCHAR", "nullable": false, "primary_key": true});
    assert_eq!(schema["columns"][3], key);
    assert!(server.ok(&["schema", "_metadata"]).contains("filter_events  VARCHAR[]"));
    for command in ["schema", "metadata"] {
        assert_eq!(server.fails(&[command, "event"]), "table \"event\" not found; did you mean \"events\"?");
    }
}

#[test]
fn metadata_is_what_the_imports_said() {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    let file = sample("events.ndjson.gz");
    let ingest = |arguments: &[&str]| {
        let all: Vec<&str> = ["ingest", &file, "--table", "events"].iter().chain(arguments).copied().collect();
        server.ok(&all);
        server.json(&["metadata", "events"])
    };
    let first = ingest(&[
        "--fetched-at=2024-01-31T14:00:00+02:00",
        "--from-date=2024-01-10",
        "--to-date=2024-01-20",
        "--filter-event=a",
        "--filter-event=b",
        "--filter-where=x > 1",
    ]);
    let expected = json!({
        "table_name": "events", "type": "events", "row_count": EVENTS, "fetched_at": "2024-01-31T12:00:00Z",
        "from_date": "2024-01-10", "to_date": "2024-01-20", "filter_events": ["a", "b"], "filter_where": "x > 1",
        "created_at": first["created_at"], "updated_at": first["updated_at"],
    });
    assert_eq!(first, expected);
    let text = server.ok(&["metadata", "events"]);
    assert!(text.contains("\nrow_count      2,000\nfetched_at     2024-01-31 12:00:00\n"), "{text}");
    assert!(text.contains("\nfilter_events  a, b\nfilter_where   x > 1\n"), "{text}");

    // Dates widen, filters stay.
    let second = ingest(&["--from-date=2024-01-15", "--to-date=2024-01-25", "--filter-event=c"]);
    assert_eq!((&second["from_date"], &second["to_date"]), (&json!("2024-01-10"), &json!("2024-01-25")));
    assert_eq!((&second["filter_events"], &second["created_at"]), (&json!(["a", "b"]), &first["created_at"]));
    assert_ne!(second["fetched_at"], first["fetched_at"]);
}

#[test]
fn a_dropped_table_is_gone_with_its_metadata() {
    let machine = Machine::new();
    let server = with_events(&machine);
    let line = server.fails(&["drop", "events"]);
    assert!(line.contains("not a terminal, say --yes"), "{line}");
    assert_eq!(server.tables(), ["events"]);
    assert_eq!(server.ok(&["drop", "events", "--yes"]), "dropped events\n");
    assert_eq!(server.tables(), [""; 0]);
    assert_eq!(server.rows("SELECT count(*) FROM _metadata"), ["0"]);

    assert_eq!(server.fails(&["drop", "events", "--yes"]), "table \"events\" not found");
    assert_eq!(server.ok(&["drop", "events", "--yes", "--if-exists"]), "events is not there\n");
    let result = server.json(&["drop", "events", "--yes", "--if-exists"]);
    assert_eq!(result, json!({"table": "events", "dropped": false}));
    server.ok(&["query", "CREATE TABLE plain (n INTEGER)"]);
    assert_eq!(server.json(&["drop", "plain", "-y"]), json!({"table": "plain", "dropped": true}));
}
