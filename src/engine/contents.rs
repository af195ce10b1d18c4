//! What a database holds: for each table the number of its rows and a checksum of them, and what else is in its catalog. It is how
//! a copy is compared with its source, and a backup with its manifest.

use std::path::Path;

use bytesize::ByteSize;
use duckdb_neo::connection::Connection;
use duckdb_neo::environment::Environment;
use duckdb_neo::{Parameters, instance::Instance};
use serde::{Deserialize, Serialize};

use super::threads::Use;
use super::work::quote;
use super::{CATALOG, Database, open, timezone};
use crate::config::Engine as EngineConfig;
use crate::error::{Error, Result};

/// The share of `engine.memory_limit` that looking at a file may take, beside a server that has its own; and the least of it.
const MEMORY_SHARE: u64 = 4;
const MEMORY_MIN: ByteSize = ByteSize::mib(64);

/// A table's contents, in short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TableContents {
    /// The schema; one in another is `outer.inner`.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The sum of the hashes of its rows, which does not depend on their order. DuckDB's hash may differ between its versions.
    pub checksum: String,
}

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its tables, those of the server too, in order.
    pub tables: Vec<TableContents>,
    /// Everything in its catalog, a line each, in order: columns, views, indexes, sequences, macros, types, triggers, comments.
    pub objects: Vec<String>,
}

impl Contents {
    /// What the database of `connection` holds, in its transaction if it has one; `check` ends it early.
    pub(in crate::engine) fn of(connection: &Connection, check: &dyn Fn() -> Result<()>) -> Result<Self> {
        let mut tables = Vec::new();
        for [schema, name, path, columns] in rows(connection, TABLES)? {
            check()?;
            let sql =
                format!("SELECT count(*), coalesce(sum(hash({columns})), 0) FROM {CATALOG}.{path}.{}", quote(&name));
            let counted = rows(connection, &sql)?.pop();
            let [count, checksum] = counted.ok_or_else(|| Error::internal("a table's rows were not counted"))?;
            let rows = count.parse().map_err(|error| Error::internal("a count is no number").with_source(error))?;
            tables.push(TableContents { schema, name, rows, checksum });
        }
        tables.sort();
        let mut objects: Vec<String> = rows::<1>(connection, OBJECTS)?.into_iter().flatten().collect();
        objects.sort();
        Ok(Self { tables, objects })
    }

    /// What a database file holds, which nobody has open; `check` ends it early.
    ///
    /// # Errors
    /// `FailedPrecondition` when it cannot be opened or read: the message says why.
    pub fn of_file(file: &Path, config: &EngineConfig, check: &(dyn Fn() -> Result<()> + Sync)) -> Result<Self> {
        let memory = ByteSize(config.memory_limit.as_u64() / MEMORY_SHARE).max(MEMORY_MIN);
        let config = EngineConfig { memory_limit: memory, ..config.clone() };
        let stack_bytes = usize::try_from(config.stack_bytes.as_u64()).unwrap_or(usize::MAX);
        let database = Database { path: Some(file.to_owned()), temp_directory: None, read_only: true };
        let look = || {
            let instance = instance(&config, &database)?;
            open::attach(&instance, &database)?;
            let connection = instance.connect()?;
            // Columns and checks may use them.
            timezone::register(&connection)?;
            Self::of(&connection, check)
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(stack_bytes).spawn_scoped(scope, look);
            let thread = thread.map_err(|error| Error::internal("cannot start a thread").with_source(error))?;
            thread.join().unwrap_or_else(|_| Err(Error::internal("a thread panicked")))
        })
    }

    /// The first difference of `other` from it, in words; none when they hold the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let tables = difference_of_tables(&self.tables, &other.tables);
        tables.or_else(|| {
            let lost = self.objects.iter().find(|object| other.objects.binary_search(object).is_err());
            let added = other.objects.iter().find(|object| self.objects.binary_search(object).is_err());
            match (lost, added) {
                (Some(lost), _) => Some(format!("it lacks: {lost}")),
                (None, Some(added)) => Some(format!("it has besides: {added}")),
                (None, None) => None,
            }
        })
    }
}

/// The first difference of the tables `found` from those `wanted`, in words; none when they hold the same.
pub fn difference_of_tables(wanted: &[TableContents], found: &[TableContents]) -> Option<String> {
    let shown = |table: &TableContents| format!("{}.{}", table.schema, table.name);
    for (wanted, found) in wanted.iter().zip(found) {
        if (&wanted.schema, &wanted.name) != (&found.schema, &found.name) {
            return Some(format!("table {} is where {} should be", shown(found), shown(wanted)));
        }
        if wanted.rows != found.rows {
            return Some(format!("table {} has {} rows and should have {}", shown(found), found.rows, wanted.rows));
        }
        if wanted.checksum != found.checksum {
            return Some(format!("the rows of table {} are not those that it should have", shown(found)));
        }
    }
    if wanted.len() == found.len() {
        return None;
    }
    Some(format!("it has {} tables and should have {}", found.len(), wanted.len()))
}

/// Writes what a file's log has into the file, if nobody has it open: then it is all in the file.
///
/// # Errors
/// `FailedPrecondition` when somebody has it open, or it cannot be opened.
pub fn settle(file: &Path, config: &EngineConfig) -> Result<()> {
    let database = Database { path: Some(file.to_owned()), temp_directory: None, read_only: false };
    let instance = instance(config, &database)?;
    open::attach(&instance, &database)?;
    instance.connect()?.execute(format!("CHECKPOINT {CATALOG}"), Parameters::None)?;
    Ok(instance.detach(CATALOG).map(drop)?)
}

/// An instance for one look at a file.
fn instance(config: &EngineConfig, database: &Database) -> Result<Instance> {
    Use::Statements.run(|| Ok(open::options(config, database).build(&Environment::new()?)?))
}

/// The rows of a query of ours that has so many columns, as text; NULL is the empty text.
pub(in crate::engine) fn rows<const COLUMNS: usize>(
    connection: &Connection,
    sql: &str,
) -> Result<Vec<[String; COLUMNS]>> {
    let mut result = connection.query(format!("SELECT COLUMNS(*)::VARCHAR FROM ({sql})"), Parameters::None)?;
    let mut rows = Vec::new();
    while let Some(chunk) = result.next_chunk()? {
        let first = rows.len();
        rows.resize_with(first + chunk.row_count()?, || [const { String::new() }; COLUMNS]);
        for column in 0..COLUMNS {
            let values = chunk.get_vector_at::<String>(column)?.reader()?;
            for (at, row) in rows[first..].iter_mut().enumerate() {
                values.get(at)?.unwrap_or_default().clone_into(&mut row[column]);
            }
        }
    }
    Ok(rows)
}

/// The tables: schema, name, the quoted path of the schema, and the quoted columns that are stored. Those that are computed are not
/// looked at: they may be random, or fail.
const TABLES: &str = r#"
    WITH RECURSIVE schemas(oid, path) AS (
        SELECT oid, [schema_name] FROM duckdb_schemas() WHERE database_name = 'merganser' AND parent_schema_oid IS NULL
        UNION ALL
        SELECT s.oid, list_append(path, s.schema_name) FROM duckdb_schemas() s JOIN schemas p ON s.parent_schema_oid = p.oid
        WHERE s.database_name = 'merganser')
    SELECT array_to_string(path, '.') AS s, t.table_name AS n,
           array_to_string(list_transform(path, lambda part: '"' || replace(part, '"', '""') || '"'), '.') AS p,
           string_agg('"' || replace(c.column_name, '"', '""') || '"', ', ' ORDER BY c.column_index) AS k
    FROM duckdb_tables() t JOIN schemas ON schemas.oid = t.schema_oid JOIN duckdb_columns() c USING (table_oid)
    WHERE t.database_name = 'merganser' AND c.database_name = 'merganser' AND NOT t.temporary AND NOT EXISTS (
        FROM information_schema.columns g WHERE g.table_catalog = 'merganser' AND g.table_schema = t.schema_name
        AND g.table_name = t.table_name AND g.column_name = c.column_name AND g.is_generated = 'ALWAYS')
    GROUP BY ALL"#;

/// What the catalog has, a line each.
const OBJECTS: &str = "
    SELECT concat_ws(' ', 'table', schema_name, sql, comment) AS line FROM duckdb_tables()
        WHERE database_name = 'merganser' AND NOT temporary
    UNION ALL SELECT concat_ws(' ', 'column', schema_name, table_name, column_name, data_type, comment) FROM duckdb_columns()
        WHERE database_name = 'merganser' AND NOT internal
    UNION ALL SELECT concat_ws(' ', 'schema', schema_name) FROM duckdb_schemas() WHERE database_name = 'merganser'
    UNION ALL SELECT concat_ws(' ', 'view', schema_name, sql, comment) FROM duckdb_views()
        WHERE database_name = 'merganser' AND NOT internal
    UNION ALL SELECT concat_ws(' ', 'index', schema_name, table_name, sql, comment) FROM duckdb_indexes()
        WHERE database_name = 'merganser'
    UNION ALL SELECT concat_ws(' ', 'sequence', schema_name, sequence_name, min_value, max_value, increment_by, cycle, comment)
        FROM duckdb_sequences() WHERE database_name = 'merganser'
    UNION ALL SELECT concat_ws(' ', 'function', schema_name, function_name, parameters, macro_definition, comment)
        FROM duckdb_functions() WHERE database_name = 'merganser' AND NOT internal
    UNION ALL SELECT concat_ws(' ', 'type', schema_name, type_name, logical_type, labels, comment) FROM duckdb_types()
        WHERE database_name = 'merganser' AND NOT internal
    UNION ALL SELECT concat_ws(' ', 'trigger', schema_name, sql) FROM duckdb_triggers() WHERE database_name = 'merganser'";
