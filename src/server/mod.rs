//! The server: where its data is, and how it starts, serves and stops.

pub mod location;
