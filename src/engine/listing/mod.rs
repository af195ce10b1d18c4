//! Listings: the catalogs, schemas, tables, columns and keys that a client finds when it looks around. Everything is read from
//! DuckDB's own catalog functions, a fixed number of statements whatever the number of tables.

mod columns;
mod keys;
#[cfg(test)]
mod tests;
mod vocabulary;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};

pub use columns::Column;
pub use keys::{KeyColumn, Named, Reference};
pub use vocabulary::Vocabulary;

use super::format::FORMAT_TABLE;
use super::metadata::INGESTS_TABLE;
use super::work::Work;
use super::{CATALOG, Call, Engine, SCHEMA};
use crate::error::Result;
use crate::tables::METADATA_TABLE;

/// The database that DuckDB is opened with. It is the engine's, and nobody's tables are in it.
const INSTANCE_CATALOG: &str = "memory";

/// Which objects a listing is about.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The catalog's name; none: all catalogs.
    pub catalog: Option<String>,
    /// A LIKE pattern of the schema's name (`\` escapes); none: all schemas.
    pub schema: Option<String>,
    /// A LIKE pattern of the table's name; none: all tables.
    pub table: Option<String>,
}

/// A schema of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName {
    /// The catalog.
    pub catalog: String,
    /// The schema.
    pub schema: String,
}

/// What kind of relation a table is, in the words of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationType {
    /// A table.
    BaseTable,
    /// A table of one session.
    LocalTemporary,
    /// A view.
    View,
}

/// A table or view.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its catalog.
    pub catalog: String,
    /// Its schema.
    pub schema: String,
    /// The name as it was created.
    pub name: String,
    /// What it is.
    pub relation_type: RelationType,
    /// What COMMENT ON says of it.
    pub comment: Option<String>,
    /// Its columns in their order, if they were asked for.
    pub columns: Vec<Column>,
}

impl RelationType {
    /// All of them, by their words.
    pub const ALL: [Self; 3] = [Self::BaseTable, Self::LocalTemporary, Self::View];

    /// The word for it in `information_schema`.
    pub fn word(self) -> &'static str {
        match self {
            Self::BaseTable => "BASE TABLE",
            Self::LocalTemporary => "LOCAL TEMPORARY",
            Self::View => "VIEW",
        }
    }

    /// The one that `word` means, in any case; `TABLE` is what most clients call a base table.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = if word.eq_ignore_ascii_case("TABLE") { Self::BaseTable.word() } else { word };
        Self::ALL.into_iter().find(|relation_type| relation_type.word().eq_ignore_ascii_case(word))
    }
}

impl Engine {
    /// The catalogs that hold, or may hold, tables of users, by name.
    pub async fn catalogs(&self, call: &Call) -> Result<Vec<String>> {
        self.run(call, |work| work.catalogs()).await
    }

    /// The schemas of these catalogs, by catalog and name; the filter's table does not matter. Besides the main schema, who may read
    /// some tables only is told of theirs.
    pub async fn schemas(&self, filter: Filter, call: &Call) -> Result<Vec<SchemaName>> {
        self.run(call, move |work| {
            let mut schemas = work.schemas(&filter)?;
            if work.call.is_restricted() {
                let readable = work.shown_relations(&Filter { table: None, ..filter }, None, false)?;
                schemas.retain(|SchemaName { catalog, schema }| {
                    schema == SCHEMA
                        || readable.iter().any(|relation| (&relation.catalog, &relation.schema) == (catalog, schema))
                });
            }
            Ok(schemas)
        })
        .await
    }

    /// The tables and views of these catalogs that the caller may read, but the server's own, by catalog, schema and name; of all types if
    /// `types` is none.
    pub async fn relations(
        &self,
        filter: Filter,
        types: Option<Vec<RelationType>>,
        with_columns: bool,
        call: &Call,
    ) -> Result<Vec<Relation>> {
        self.run(call, move |work| work.shown_relations(&filter, types.as_deref(), with_columns)).await
    }
}

impl Work {
    fn shown_relations(
        &self,
        filter: &Filter,
        types: Option<&[RelationType]>,
        with_columns: bool,
    ) -> Result<Vec<Relation>> {
        // Columns belong to the tables beside them: one state of the catalog.
        let mut relations = self.snapshot(|| self.list_relations(filter, types, with_columns))?;
        relations.retain(|relation| {
            let is_view = relation.relation_type == RelationType::View;
            // A temporary one is its session's own.
            relation.catalog != CATALOG || self.shows(&relation.schema, &relation.name, is_view)
        });
        Ok(relations)
    }

    fn catalogs(&self) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> '{INSTANCE_CATALOG}' \
             {TEMPORARY_CATALOG} ORDER BY ALL"
        );
        let batches = self.collect(&sql, &[])?;
        Ok(rows(&batches).filter_map(|row| row.text(0)).collect())
    }

    fn schemas(&self, filter: &Filter) -> Result<Vec<SchemaName>> {
        // Of the schemas of one name in different schemas, one is listed: the protocol knows two levels only.
        let sql = format!(
            "SELECT DISTINCT database_name, schema_name FROM duckdb_schemas() WHERE database_name IN (SELECT database_name \
             FROM duckdb_databases() WHERE NOT internal AND database_name <> '{INSTANCE_CATALOG}' {TEMPORARY_CATALOG}) \
             AND ($1 IS NULL OR database_name = $1) AND ($2 IS NULL OR schema_name LIKE $2 ESCAPE '\\') ORDER BY ALL"
        );
        let (catalog, schema) = (&filter.catalog, filter.schema.as_deref().map(whole_pattern));
        let batches = self.collect(&sql, &[catalog.as_deref(), schema.as_deref()])?;
        let schemas = rows(&batches)
            .filter_map(|row| row.text(0).zip(row.text(1)))
            .map(|(catalog, schema)| SchemaName { catalog, schema });
        Ok(schemas.collect())
    }

    fn list_relations(
        &self,
        filter: &Filter,
        types: Option<&[RelationType]>,
        with_columns: bool,
    ) -> Result<Vec<Relation>> {
        let sql = format!(
            "SELECT database_name, schema_name, table_name, table_type, comment, database_oid, table_oid FROM \
             (SELECT database_name, database_oid, schema_name, table_name, table_oid, internal, comment, \
             if(temporary, 'LOCAL TEMPORARY', 'BASE TABLE') AS table_type FROM duckdb_tables() UNION ALL \
             SELECT database_name, database_oid, schema_name, view_name, view_oid, internal, comment, 'VIEW' \
             FROM duckdb_views()) WHERE {} ORDER BY database_name, schema_name, table_name, table_oid",
            of_users()
        );
        let (catalog, schema, table) = filter.values();
        let batches = self.collect(&sql, &[catalog.as_deref(), schema.as_deref(), table.as_deref()])?;
        let mut relations = Vec::new();
        let mut ids = Vec::new();
        for row in rows(&batches) {
            let Some(relation_type) = row.text(3).and_then(|word| RelationType::from_word(&word)) else { continue };
            if types.is_some_and(|types| !types.contains(&relation_type)) {
                continue;
            }
            ids.push((row.long(5), row.long(6)));
            relations.push(Relation {
                catalog: row.text(0).unwrap_or_default(),
                schema: row.text(1).unwrap_or_default(),
                name: row.text(2).unwrap_or_default(),
                relation_type,
                comment: row.text(4),
                columns: Vec::new(),
            });
        }
        if with_columns && !relations.is_empty() {
            let mut columns = self.columns_of(filter)?;
            for (relation, id) in relations.iter_mut().zip(ids) {
                relation.columns = columns.remove(&id).unwrap_or_default();
            }
        }
        Ok(relations)
    }
}

/// The catalog of temporary tables, for a session that has some.
const TEMPORARY_CATALOG: &str = "UNION SELECT database_name FROM duckdb_tables() WHERE temporary AND NOT internal \
                                 UNION SELECT database_name FROM duckdb_views() WHERE temporary AND NOT internal";

/// The condition that leaves tables, views and columns of users; the parameters are those of a [`Filter`].
fn of_users() -> String {
    format!(
        "NOT internal AND database_name <> '{INSTANCE_CATALOG}' AND NOT (database_name = '{CATALOG}' AND schema_name = \
         '{SCHEMA}' AND lower(table_name) IN ('{METADATA_TABLE}', '{INGESTS_TABLE}', '{FORMAT_TABLE}')) AND ($1 IS NULL OR database_name = $1) \
         AND ($2 IS NULL OR schema_name LIKE $2 ESCAPE '\\') AND ($3 IS NULL OR table_name LIKE $3 ESCAPE '\\')"
    )
}

impl Filter {
    fn values(&self) -> (&Option<String>, Option<String>, Option<String>) {
        let pattern = |text: &Option<String>| text.as_deref().map(whole_pattern);
        (&self.catalog, pattern(&self.schema), pattern(&self.table))
    }
}

/// The pattern with a lone `\` at its end taken as itself: DuckDB would refuse it, and half a name as typed may end so.
fn whole_pattern(pattern: &str) -> String {
    let slashes = pattern.chars().rev().take_while(|c| *c == '\\').count();
    format!("{pattern}{}", if slashes % 2 == 1 { "\\" } else { "" })
}

/// One row of a catalog's answer.
#[derive(Clone, Copy)]
struct Row<'a>(&'a RecordBatch, usize);

fn rows(batches: &[RecordBatch]) -> impl Iterator<Item = Row<'_>> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| Row(batch, row)))
}

impl Row<'_> {
    fn text(self, column: usize) -> Option<String> {
        let values = self.0.column(column).as_string_opt::<i32>()?;
        values.is_valid(self.1).then(|| values.value(self.1).to_owned())
    }

    fn flag(self, column: usize) -> bool {
        self.0.column(column).as_boolean_opt().is_some_and(|values| values.is_valid(self.1) && values.value(self.1))
    }

    fn number(self, column: usize) -> i32 {
        self.0.column(column).as_primitive_opt::<Int32Type>().map_or(0, |values| values.value(self.1))
    }

    fn long(self, column: usize) -> i64 {
        self.0.column(column).as_primitive_opt::<Int64Type>().map_or(0, |values| values.value(self.1))
    }
}
