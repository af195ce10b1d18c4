//! Keys: what identifies the rows of a table, and which tables refer to which.

use super::{INSTANCE_CATALOG, Row, rows};
use crate::engine::work::Work;
use crate::engine::{CATALOG, Call, Engine, SCHEMA, metadata};
use crate::error::Result;

/// A table by its name, without regard to case, and perhaps by where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its catalog; none: any.
    pub catalog: Option<String>,
    /// Its schema; none: any.
    pub schema: Option<String>,
    /// Its name.
    pub table: String,
}

/// A column of a table's primary key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyColumn {
    /// The table's catalog.
    pub catalog: String,
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The key's name.
    pub key: String,
    /// The column's place in the key, from 1.
    pub sequence: i32,
    /// The column.
    pub column: String,
}

/// A column of a foreign key. DuckDB's foreign keys do not leave their schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The catalog of both tables.
    pub catalog: String,
    /// The schema of both tables.
    pub schema: String,
    /// The table that is referred to.
    pub primary_table: String,
    /// Its column.
    pub primary_column: String,
    /// The name of its key, if it can be told.
    pub primary_key: Option<String>,
    /// The table that refers to it.
    pub foreign_table: String,
    /// Its column.
    pub foreign_column: String,
    /// The name of its foreign key.
    pub foreign_key: Option<String>,
    /// The column's place in the key, from 1.
    pub sequence: i32,
}

impl Named {
    fn is_in_main(&self) -> bool {
        self.catalog.as_ref().is_none_or(|catalog| catalog == CATALOG)
            && self.schema.as_ref().is_none_or(|schema| schema == SCHEMA)
    }

    fn values(&self) -> (Option<&str>, Option<&str>, &str) {
        (self.catalog.as_deref(), self.schema.as_deref(), &self.table)
    }
}

impl Engine {
    /// The columns of a table's primary key: the constraint's, or for a managed table those of its kind; none without one.
    pub async fn primary_key(&self, table: Named, call: &Call) -> Result<Vec<KeyColumn>> {
        self.run(call, move |work| {
            let mut columns = work.primary_key(&table)?;
            columns.sort();
            Ok(columns)
        })
        .await
    }

    /// The columns of the foreign keys that refer to `primary` and belong to `foreign`; of any table where one is none.
    pub async fn references(
        &self,
        primary: Option<Named>,
        foreign: Option<Named>,
        call: &Call,
    ) -> Result<Vec<Reference>> {
        self.run(call, move |work| work.references(primary.as_ref(), foreign.as_ref())).await
    }
}

impl Work {
    fn primary_key(&self, table: &Named) -> Result<Vec<KeyColumn>> {
        let sql = format!(
            "SELECT database_name, schema_name, table_name, constraint_name, \
             unnest(range(1, len(constraint_column_names) + 1))::INTEGER, unnest(constraint_column_names) \
             FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' AND database_name <> '{INSTANCE_CATALOG}' \
             AND ($1 IS NULL OR database_name = $1) AND ($2 IS NULL OR schema_name = $2) AND lower(table_name) = lower($3)"
        );
        let (catalog, schema, name) = table.values();
        let batches = self.collect(&sql, &[catalog, schema, Some(name)])?;
        let mut columns: Vec<KeyColumn> = rows(&batches)
            .map(|row| KeyColumn {
                catalog: row.text(0).unwrap_or_default(),
                schema: row.text(1).unwrap_or_default(),
                table: row.text(2).unwrap_or_default(),
                key: row.text(3).unwrap_or_default(),
                sequence: row.number(4),
                column: row.text(5).unwrap_or_default(),
            })
            .collect();
        // A managed table has no constraint: the ingest keeps its key.
        let is_listed = columns.iter().any(|column| column.catalog == CATALOG && column.schema == SCHEMA);
        if !is_listed
            && table.is_in_main()
            && let Some((table, kind)) = metadata::kind_of(self, name)?
            && let Some(column) = kind.key()
        {
            columns.push(KeyColumn {
                catalog: CATALOG.to_owned(),
                schema: SCHEMA.to_owned(),
                // As DuckDB would name it.
                key: format!("{table}_{column}_pkey"),
                table,
                sequence: 1,
                column: column.to_owned(),
            });
        }
        Ok(columns)
    }

    fn references(&self, primary: Option<&Named>, foreign: Option<&Named>) -> Result<Vec<Reference>> {
        // DuckDB keeps the names of what is referred to as they were typed: the table and its key tell how they are spelled.
        let sql = format!(
            "WITH keys AS (SELECT * FROM duckdb_constraints() WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE')), \
             refs AS (SELECT f.database_name, f.schema_name, f.table_name, f.constraint_name, f.constraint_column_names, \
             k.table_name AS primary_table, k.constraint_name AS primary_key, f.referenced_table, f.referenced_column_names \
             FROM duckdb_constraints() f LEFT JOIN keys k ON k.database_name = f.database_name \
             AND k.schema_name = f.schema_name AND lower(k.table_name) = lower(f.referenced_table) \
             AND list_sort(list_transform(k.constraint_column_names, lambda c: lower(c))) = \
             list_sort(list_transform(f.referenced_column_names, lambda c: lower(c))) \
             WHERE f.constraint_type = 'FOREIGN KEY' AND f.database_name <> '{INSTANCE_CATALOG}' \
             QUALIFY row_number() OVER (PARTITION BY f.database_oid, f.table_oid, f.constraint_index \
             ORDER BY k.constraint_type) = 1) \
             SELECT database_name, schema_name, coalesce(primary_table, referenced_table), \
             unnest(referenced_column_names), primary_key, table_name, unnest(constraint_column_names), constraint_name, \
             unnest(range(1, len(constraint_column_names) + 1))::INTEGER FROM refs \
             WHERE ($1 IS NULL OR lower(referenced_table) = lower($1)) AND ($2 IS NULL OR database_name = $2) \
             AND ($3 IS NULL OR schema_name = $3) AND ($4 IS NULL OR lower(table_name) = lower($4)) \
             AND ($5 IS NULL OR database_name = $5) AND ($6 IS NULL OR schema_name = $6)"
        );
        let batches = self.collect(&sql, &[side(primary), side(foreign)].concat())?;
        Ok(rows(&batches).map(reference).collect())
    }
}

/// The table of one end of a reference, with its catalog and schema; what is not given is NULL.
fn side(named: Option<&Named>) -> [Option<&str>; 3] {
    named.map_or([None; 3], |named| {
        let (catalog, schema, table) = named.values();
        [Some(table), catalog, schema]
    })
}

fn reference(row: Row<'_>) -> Reference {
    Reference {
        catalog: row.text(0).unwrap_or_default(),
        schema: row.text(1).unwrap_or_default(),
        primary_table: row.text(2).unwrap_or_default(),
        primary_column: row.text(3).unwrap_or_default(),
        primary_key: row.text(4),
        foreign_table: row.text(5).unwrap_or_default(),
        foreign_column: row.text(6).unwrap_or_default(),
        foreign_key: row.text(7),
        sequence: row.number(8),
    }
}
