//! What a table is: its kind, the columns of the managed kinds, the rule for names. Pure values; the engine keeps the rows.

mod kind;
mod name;

pub use kind::{Kind, ManagedColumn};
pub use name::{METADATA_TABLE, TableName};
