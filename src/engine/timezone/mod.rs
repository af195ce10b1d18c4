//! placeholder
pub(in crate::engine) fn register(_connection: &duckdb_neo::connection::Connection) -> duckdb_neo::Result<()> { Ok(()) }
