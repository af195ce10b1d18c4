//! Merganser: one binary that turns DuckDB into an Arrow Flight server for product events.

pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod flight;
pub mod ingest;
pub mod proto;
pub mod server;
pub mod tables;
pub mod telemetry;
