//! The names of DuckDB's own functions, types, system views and schemas, and of the server's functions. The server's statements,
//! and everybody's, rely on them, so nobody may make something that hides one.

use std::collections::HashSet;

use duckdb_neo::connection::Connection;

use crate::engine::contents::rows;
use crate::engine::{CATALOG, SCHEMA};
use crate::error::{Error, Result};

/// DuckDB's own schemas, where the server's statements look things up.
const SCHEMAS: &[&str] = &["information_schema", "main", "pg_catalog", "system", "temp"];

/// The names, in lowercase.
#[derive(Debug)]
pub(in crate::engine) struct Builtins {
    functions_and_types: HashSet<String>,
    /// Tables and views that are found without the name of a schema: `duckdb_tables`, `sqlite_master`, `pg_class`.
    relations: HashSet<String>,
}

impl Builtins {
    /// The names that the instance has before a user's file adds any.
    pub(in crate::engine) fn load(connection: &Connection) -> Result<Self> {
        let functions_and_types = format!(
            "SELECT lower(function_name) FROM duckdb_functions() WHERE database_name <> '{CATALOG}' \
             UNION SELECT lower(type_name) FROM duckdb_types() WHERE database_name <> '{CATALOG}'"
        );
        let relations = "SELECT lower(view_name) FROM duckdb_views() WHERE internal AND schema_name <> 'information_schema' \
                         UNION SELECT lower(table_name) FROM duckdb_tables() WHERE internal";
        let set = |sql: &str| names(connection, sql).map(Iterator::collect);
        Ok(Self { functions_and_types: set(&functions_and_types)?, relations: set(relations)? })
    }

    /// Whether a macro or type of this name would hide one of DuckDB's.
    pub(in crate::engine) fn have(&self, name: &str) -> bool {
        self.functions_and_types.contains(&name.to_lowercase())
    }

    /// Whether a table or view of this name would hide one of DuckDB's.
    pub(in crate::engine) fn have_relation(&self, name: &str) -> bool {
        self.relations.contains(&name.to_lowercase())
    }

    /// Whether a schema of this name would hide one of DuckDB's.
    pub(in crate::engine) fn have_schema(name: &str) -> bool {
        SCHEMAS.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Refuses a data file in which somebody has hidden one: the server's own statements would run what they say.
    pub(in crate::engine) fn check_file(&self, connection: &Connection) -> Result<()> {
        let sql = format!(
            "SELECT function_name FROM duckdb_functions() WHERE database_name = '{CATALOG}' \
             UNION SELECT type_name FROM duckdb_types() WHERE database_name = '{CATALOG}' AND NOT internal"
        );
        let hidden = names(connection, &sql)?.find(|name| self.have(name));
        let schemas = format!(
            "SELECT schema_name FROM duckdb_schemas() WHERE database_name = '{CATALOG}' AND NOT internal \
             AND (schema_name <> '{SCHEMA}' OR parent_schema IS NOT NULL)"
        );
        let schema = names(connection, &schemas)?.find(|name| Self::have_schema(name));
        match hidden.or(schema) {
            None => Ok(()),
            Some(name) => Err(Error::precondition(format!(
                "the database file has a macro, type or schema named {name:?}, which hides DuckDB's own of that name: \
                 drop it with DuckDB first"
            ))),
        }
    }
}

fn names(connection: &Connection, sql: &str) -> Result<impl Iterator<Item = String>> {
    Ok(rows::<1>(connection, sql)?.into_iter().flatten())
}
