//! Ingest: from Arrow batches of a stream to rows of a table.

pub mod coerce;
