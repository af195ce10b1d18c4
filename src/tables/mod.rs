//! What a table is: its kind, the columns of the managed kinds, the rule for names, and what tells keys apart. Pure values; the engine keeps
//! the rows.

mod keys;
mod kind;
mod name;

pub use keys::{KeyFilter, KeyHasher, filter_bytes, key_texts};
pub use kind::{Kind, ManagedColumn};
pub use name::{METADATA_TABLE, TableName};
