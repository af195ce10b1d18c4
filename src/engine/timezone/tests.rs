//! The functions as SQL sees them, against the answers of the ICU extension.

use duckdb_neo::connection::Connection;
use duckdb_neo::environment::{Environment, StorageLocation};
use duckdb_neo::{Parameters, Result};

use super::register;

fn open() -> Connection {
    let connection = Environment::new().unwrap().open(StorageLocation::InMemory).unwrap().connect().unwrap();
    register(&connection).unwrap();
    connection
}

/// The first column of the first row, as text.
fn text(connection: &Connection, sql: &str) -> Result<String> {
    let mut result = connection.query(sql, Parameters::None)?;
    let chunk = result.next_chunk()?.expect("a row");
    let value = chunk.get_vector_at::<String>(0)?.reader()?.get(0)?.unwrap_or("NULL").to_owned();
    Ok(value)
}

#[test]
fn smoke() {
    let connection = open();
    connection.execute("SET TimeZone='America/New_York'", Parameters::None).unwrap();
    assert_eq!(text(&connection, "SELECT current_setting('TimeZone')").unwrap(), "America/New_York");
}
