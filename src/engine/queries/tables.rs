//! The tables `merganser.queries` and `merganser.sessions`: names for the table functions, where no table of the user's has them.

use duckdb_neo::Result;
use duckdb_neo::connection::Context;
use duckdb_neo::instance::Instance;
use duckdb_neo::qualified_name::QualifiedName;
use duckdb_neo::replacement_scan::{
    ReplacementHandle, ReplacementScanBuilder, ReplacementScanCallbacks, ReplacementType,
};

use super::listing::{QUERIES, SESSIONS};
use crate::engine::{CATALOG, SCHEMA};

/// The tables, and the functions that they stand for.
const TABLES: &[(&str, &str)] = &[("queries", QUERIES), ("sessions", SESSIONS)];

/// Has the tables found by every connection of the instance.
pub(in crate::engine) fn register_tables(instance: &Instance) -> Result<()> {
    ReplacementScanBuilder::new(Names).register(instance)
}

/// Asked for each name that DuckDB does not find. What the function then tells is a matter for the guard.
struct Names;

impl ReplacementScanCallbacks for Names {
    fn scan(&self, _: &Context, name: &QualifiedName, replacement: ReplacementHandle<'_>) -> Result<()> {
        let name = name.get_view()?;
        let ours = match (name.catalog.as_deref(), name.schema.as_deref()) {
            (Some(catalog), Some(schema)) => {
                catalog.eq_ignore_ascii_case(CATALOG) && schema.eq_ignore_ascii_case(SCHEMA)
            }
            // One qualifier may stand for either.
            (Some(one), None) | (None, Some(one)) => one.eq_ignore_ascii_case(CATALOG),
            (None, None) => false,
        };
        match TABLES.iter().find(|(table, _)| ours && table.eq_ignore_ascii_case(&name.table)) {
            Some((_, function)) => replacement.set_reference(ReplacementType::Table((*function).try_into()?)),
            None => Ok(()),
        }
    }
}
