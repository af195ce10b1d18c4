//! Merganser: one binary that turns DuckDB into an Arrow Flight server for product events.

pub mod cli;
pub mod error;
pub mod proto;
pub mod tables;
