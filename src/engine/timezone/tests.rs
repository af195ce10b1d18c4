//! The functions as SQL sees them, against the answers of the ICU extension.

use duckdb_neo::connection::Connection;
use duckdb_neo::environment::{Environment, StorageLocation};
use duckdb_neo::{Parameters, Result};

use super::{CLOCK, register, set_clock};

fn open() -> Connection {
    let connection = Environment::new().unwrap().open(StorageLocation::InMemory).unwrap().connect().unwrap();
    for setting in ["autoinstall_known_extensions", "autoload_known_extensions"] {
        run(&connection, &format!("SET {setting}=false"));
    }
    register(&connection).unwrap();
    connection
}

fn run(connection: &Connection, sql: &str) {
    connection.execute(sql, Parameters::None).unwrap();
}

/// The columns of the first row, as text.
fn row(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut result = connection.query(sql, Parameters::None)?;
    let chunk = result.next_chunk()?.expect("a row");
    let column = |index| Ok(chunk.get_vector_at::<String>(index)?.reader()?.get(0)?.unwrap_or("NULL").to_owned());
    (0..chunk.col_count()).map(column).collect()
}

fn evaluate(connection: &Connection, expression: &str) -> Result<Vec<String>> {
    row(connection, &format!("SELECT typeof(e), e::VARCHAR FROM (SELECT {expression} AS e)"))
}

#[test]
fn answers_are_those_of_icu() {
    let path = std::env::var("TIMEZONE_GOLDEN")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/timezone_oracle/golden.tsv").to_owned());
    let golden = std::fs::read_to_string(path).unwrap();
    let connection = open();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in golden.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [zone, expression, kind, value] = columns.as_slice() else { panic!("{line}") };
        if *kind == "setup" {
            run(&connection, expression);
            continue;
        }
        run(&connection, &format!("SET TimeZone='{zone}'"));
        count += 1;
        let expected = vec![(*kind).to_owned(), (*value).to_owned()];
        let found = match evaluate(&connection, expression) {
            Ok(found) => found,
            Err(_) if *kind == "error" => continue,
            Err(error) => vec!["error".to_owned(), error.message],
        };
        let found: Vec<String> = found.iter().map(|text| text.replace('\n', "\\n").replace('\t', "\\t")).collect();
        if found != expected {
            wrong.push(format!("{zone}: {expression}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_connection_finds_the_functions() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Environment::new().unwrap().open(StorageLocation::InMemory).unwrap();
    let admin = instance.connect().unwrap();
    register(&admin).unwrap();
    let path = directory.path().join("data.db");
    run(&admin, &format!("ATTACH '{}' AS data", path.display()));
    let user = instance.connect().unwrap();
    run(&user, "USE data");
    run(&user, "SET TimeZone='Asia/Tokyo'");
    run(&user, "CREATE TABLE events (seen TIMESTAMPTZ DEFAULT now(), day DATE DEFAULT current_date)");
    run(&user, "CREATE VIEW days AS SELECT date_trunc('day', seen) AS day, seen AT TIME ZONE 'UTC' AS utc FROM events");
    run(&user, "INSERT INTO events (seen) VALUES ('2024-05-01 08:00:00')");
    let found = row(&user, "SELECT day::VARCHAR, utc::VARCHAR FROM days").unwrap();
    assert_eq!(found, ["2024-05-01 00:00:00+09", "2024-04-30 23:00:00"]);
    // The setting is one session's own.
    let found = row(&admin, "SELECT day::VARCHAR, current_setting('TimeZone') FROM data.days").unwrap();
    assert_eq!(found, ["2024-04-30 00:00:00+00", "UTC"]);
    // Nothing of it is in the user's file.
    let found = row(&user, "SELECT count(*)::VARCHAR FROM duckdb_functions() WHERE database_name = 'data'").unwrap();
    assert_eq!(found, ["0"]);
}

#[test]
fn settings_take_and_refuse_values() {
    let connection = open();
    let setting = |name: &str| row(&connection, &format!("SELECT current_setting('{name}')")).unwrap().remove(0);
    assert_eq!(setting("TimeZone"), "UTC");
    run(&connection, "SET TIME ZONE 'europe/paris'");
    assert_eq!(setting("timezone"), "Europe/Paris");
    run(&connection, "RESET TimeZone");
    assert_eq!(setting("TimeZone"), "UTC");
    run(&connection, "SET Calendar='Gregorian'");
    assert_eq!(setting("Calendar"), "gregorian");
    for (sql, expected) in [
        ("SET TimeZone='Amerca/New_York'", "did you mean \"America/New_York\""),
        ("SET TimeZone=NULL", "cannot be NULL"),
        ("SET Calendar='hebrew'", "only gregorian is supported"),
    ] {
        let message = connection.execute(sql, Parameters::None).unwrap_err().message;
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(setting("TimeZone"), "UTC");
    run(&connection, &format!("SET allowed_configs=['TimeZone', '{CLOCK}']"));
    run(&connection, "SET lock_configuration=true");
    run(&connection, "SET TimeZone='Asia/Tokyo'");
    assert_eq!(setting("TimeZone"), "Asia/Tokyo");
    set_clock(&connection).unwrap();
    assert!(connection.execute("SET Calendar='gregorian'", Parameters::None).is_err());
}

#[test]
fn the_clock_stands_still_within_a_transaction() {
    let connection = open();
    set_clock(&connection).unwrap();
    let sql = "SELECT localtimestamp::VARCHAR, (localtimestamp = localtimestamp)::VARCHAR, current_date::VARCHAR, \
               (abs(epoch(localtimestamp) - epoch(now()::TIMESTAMP)) < 60)::VARCHAR";
    let before = row(&connection, sql).unwrap();
    assert_eq!((before[1].as_str(), before[3].as_str()), ("true", "true"));
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(row(&connection, sql).unwrap(), before);
    set_clock(&connection).unwrap();
    assert_ne!(row(&connection, sql).unwrap()[0], before[0]);
}

#[test]
fn errors_leave_the_instance_usable() {
    let connection = open();
    for expression in [
        "now() AT TIME ZONE 'Nowhere/City'",
        "date_trunc('fortnight', now())",
        "TIMESTAMPTZ '294247-01-01 00:00:00+00' + INTERVAL 1 YEAR",
        "make_timestamptz(9223372036854775807)",
        "range(now(), 'infinity', INTERVAL 1 DAY)",
        "strftime(now(), '%')",
        "'x'::TIMESTAMPTZ",
    ] {
        assert!(evaluate(&connection, expression).is_err(), "{expression}");
    }
    assert_eq!(evaluate(&connection, "1 + 1").unwrap(), ["INTEGER", "2"]);
}

#[test]
fn a_prepared_statement_follows_the_session() {
    let connection = open();
    run(&connection, "PREPARE hour AS SELECT hour(TIMESTAMPTZ '2024-01-01 12:00:00+00')::VARCHAR, $1::VARCHAR");
    assert_eq!(row(&connection, "EXECUTE hour('a')").unwrap(), ["12", "a"]);
    run(&connection, "PREPARE later AS SELECT ($1::TIMESTAMPTZ + INTERVAL 1 DAY)::VARCHAR");
    run(&connection, "SET TimeZone='America/New_York'");
    assert_eq!(row(&connection, "EXECUTE later('2024-03-09 12:00')").unwrap(), ["2024-03-10 12:00:00-04"]);
}

#[test]
fn many_threads_and_forms_of_columns_agree() {
    let connection = open();
    run(&connection, "SET TimeZone='America/New_York'");
    run(&connection, "SET threads=4");
    run(&connection, "CREATE TABLE times AS SELECT to_timestamp(i * 60) AS t, 'UTC' AS z FROM range(500000) r(i)");
    let sql = "SELECT count(*)::VARCHAR, count(DISTINCT t::DATE)::VARCHAR, sum(hour(t))::VARCHAR, \
               count(DISTINCT t AT TIME ZONE z)::VARCHAR FROM times";
    assert_eq!(row(&connection, sql).unwrap(), ["500000", "349", "5752560", "500000"]);
    let sql =
        "SELECT sum(date_diff('minute', date_trunc('day', t), t))::VARCHAR FROM times WHERE t::DATE > '1970-01-01'";
    assert!(row(&connection, sql).is_ok());
}
