//! The errors that callbacks return to the engine, by the class that DuckDB's own functions use.
//!
//! Never `Error::internal`: that class makes DuckDB give up the whole instance.

use duckdb_neo::Error;
use duckdb_neo::error::DuckDBError;

/// A value that does not fit its type: out of range, or text that cannot be read.
pub(super) fn conversion(message: impl Into<String>) -> Error {
    Error { code: DuckDBError::TypeConversion, message: message.into() }
}

/// A name or part that has no meaning here.
pub(super) fn unsupported(message: impl Into<String>) -> Error {
    Error { code: DuckDBError::QueryNotImplemented, message: message.into() }
}

/// Arguments that make no sense together.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::invalid_input(message)
}

/// An instant that the engine's timestamps cannot hold.
pub(super) fn out_of_range() -> Error {
    conversion("the result is out of the range of timestamps")
}
