//! Coercion of the batches of a stream to the columns of a managed kind, with exact reports of bad rows.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has some forty types, of which each place knows the few that it means"
)]

mod flat;
mod iso;
mod json;
mod report;
mod text;
mod time;
