//! Backups: copies of the database that are known to be good, and their way back.
//!
//! A backup is a directory of three files: the copy, a plain DuckDB file; `manifest.json`, which says what is in it; and
//! `SHA256SUMS` of the two, as `sha256sum -c` reads it. It appears under its name when it is complete and was read back: what the file
//! holds is what the snapshot held that it was copied from. [`create`] and [`list`] are a server's; [`verify`] and [`restore`] need
//! none.

mod create;
mod directory;
mod manifest;
mod restore;
#[cfg(test)]
mod tests;

pub use create::{Backup, create, list};
pub use directory::clean;
pub use manifest::{Manifest, verify};
pub use restore::restore;
