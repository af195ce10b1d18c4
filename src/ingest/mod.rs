//! Ingest, from a stream of Arrow batches to an outcome: the request, the coercion of columns, telling new keys from known
//! ones, and the chunks that the engine takes. Flight and the SQL INSERT both come through here.

pub mod coerce;
mod insert;
mod keys;
mod pipeline;
mod request;

pub use insert::insert;
pub use pipeline::{Budget, BudgetUsage, Ingest, Progress};
pub use request::{Mode, OnDuplicate, Request};
