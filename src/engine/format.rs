//! The format of the server's tables in a data file, and its version, which `_format` has. A file of an earlier version is brought up
//! to date when it is opened, in one transaction; one of a later version is refused.

use duckdb_neo::Parameters;
use duckdb_neo::connection::Connection;

use super::contents::rows;
use super::{CATALOG, Database};
use crate::error::{Error, Result};

/// The table of one row that has the version.
pub(in crate::engine) const FORMAT_TABLE: &str = "_format";

/// What brings a file from each version to the next; their number is the version that this program writes.
const STEPS: &[&[&str]] = &[
    // 0 is a file of DuckDB's, or of this server before it kept a version: it may have the tables.
    &[
        "CREATE TABLE IF NOT EXISTS merganser.main._metadata (table_name VARCHAR NOT NULL, type VARCHAR NOT NULL, \
         fetched_at TIMESTAMP, from_date DATE, to_date DATE, row_count BIGINT NOT NULL, filter_events VARCHAR[], \
         filter_where VARCHAR, created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP NOT NULL)",
        "CREATE TABLE IF NOT EXISTS merganser.main._ingests (ingest_id VARCHAR NOT NULL, table_name VARCHAR NOT NULL, \
         rows_received BIGINT NOT NULL, rows_inserted BIGINT NOT NULL, rows_duplicate BIGINT NOT NULL, \
         rows_replaced BIGINT NOT NULL, finished_at TIMESTAMP NOT NULL)",
        "CREATE TABLE merganser.main._format (version INTEGER NOT NULL)",
        "INSERT INTO merganser.main._format VALUES (0)",
    ],
];

/// Brings a data file up to date, or only checks it when it is opened for reading.
///
/// # Errors
/// `FailedPrecondition` when a later version of this program has written it.
pub(in crate::engine) fn upgrade(connection: &Connection, database: &Database) -> Result<()> {
    let version = version(connection)?;
    let shown = database.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    if version > STEPS.len() {
        return Err(Error::precondition(format!(
            "database file {shown} has format {version}, and this version of Merganser knows formats up to {}: use the version that \
             wrote it, or a later one",
            STEPS.len()
        )));
    }
    if version == STEPS.len() || database.read_only {
        return Ok(());
    }
    let execute = |sql: &str| connection.execute(sql, Parameters::None).map(drop).map_err(Error::from);
    execute("BEGIN TRANSACTION")?;
    STEPS[version..].iter().copied().flatten().try_for_each(|sql| execute(sql))?;
    execute(&format!("UPDATE {CATALOG}.main.{FORMAT_TABLE} SET version = {}", STEPS.len()))?;
    execute("COMMIT")?;
    tracing::debug!(from = version, to = STEPS.len(), "the database's format is up to date");
    Ok(())
}

/// The version of a data file; 0 when it has none.
fn version(connection: &Connection) -> Result<usize> {
    let sql = format!(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}' AND schema_name = 'main' AND \
         table_name = '{FORMAT_TABLE}'"
    );
    if rows::<1>(connection, &sql)?.is_empty() {
        return Ok(0);
    }
    let found = rows(connection, &format!("SELECT max(version) FROM {CATALOG}.main.{FORMAT_TABLE}"))?.pop();
    let version = found.and_then(|[version]| version.parse().ok());
    version.ok_or_else(|| Error::precondition(format!("table `{FORMAT_TABLE}` of the database has no version")))
}
