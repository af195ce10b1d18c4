//! Coercion of the batches of a stream to the columns of a managed kind, with exact reports of bad rows.

mod json;
mod report;
