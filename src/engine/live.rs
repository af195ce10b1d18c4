//! A result that is being read, and ends well however it is left.
//!
//! DuckDB's workers run a statement from the moment that it is started, before anybody asks for its rows, and look for an
//! interrupt only. Destroying its result waits until they have ended, so a result that is left early is interrupted first.

use duckdb_neo::arrow::{ArrowArray, ArrowSchema};
use duckdb_neo::connection::Connection;
use duckdb_neo::query_result::ArrowQueryResult;

use crate::error::Result;

/// A result on its connection.
pub(in crate::engine) struct Live<'a> {
    result: ArrowQueryResult<'a>,
    connection: &'a Connection,
    /// Whether it has ended: with its last array, or with an error.
    ended: bool,
}

impl<'a> Live<'a> {
    pub(in crate::engine) fn new(result: ArrowQueryResult<'a>, connection: &'a Connection) -> Self {
        Self { result, connection, ended: false }
    }

    /// The columns.
    pub(in crate::engine) fn schema(&self) -> Result<ArrowSchema> {
        Ok(self.result.schema()?)
    }

    /// The next array; none after the last one.
    pub(in crate::engine) fn next_array(&mut self) -> Result<Option<ArrowArray>> {
        let array = self.result.next_array();
        self.ended = !matches!(array, Ok(Some(_)));
        Ok(array?)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        // The next statement of the connection begins without it.
        if !self.ended
            && let Err(error) = self.connection.interrupt_query()
        {
            tracing::debug!(%error, "cannot interrupt");
        }
    }
}
