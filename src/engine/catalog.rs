//! The catalog: which tables and views there are, their columns, their rows and sizes; dropping.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};

use super::session::Wants;
use super::work::{Work, quote};
use super::{CATALOG, Call, Engine, Rows, SCHEMA, Started, metadata, statement};
use crate::error::{Error, Result};
use crate::tables::Kind;

/// How many tables one statement counts the rows of.
const COUNTED_AT_ONCE: usize = 200;

/// A table or view, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableListing {
    /// The name as it was created.
    pub name: String,
    /// The kind.
    pub kind: Kind,
    /// Rows now; none for views.
    pub row_count: Option<i64>,
    /// When its data was last fetched, in microseconds since 1970 (UTC); managed tables only.
    pub fetched_at: Option<i64>,
    /// Bytes of its blocks in the data file; none for views.
    pub size_bytes: Option<i64>,
}

/// The columns of a table or view.
#[derive(Clone, Debug)]
pub struct TableDescription {
    /// The name as it was created.
    pub name: String,
    /// The kind.
    pub kind: Kind,
    /// The columns, in their order.
    pub columns: Vec<ColumnDescription>,
    /// The columns as Arrow has them in a query's result.
    pub arrow_schema: SchemaRef,
}

/// One column of a table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDescription {
    /// The name.
    pub name: String,
    /// The DuckDB type.
    pub sql_type: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// Whether it is (part of) the key.
    pub primary_key: bool,
}

impl Engine {
    /// All tables and views of the data file's main schema that the caller may read, but the server's own, by name; filtered by kind
    /// and by a LIKE pattern of the name (`\` escapes), without regard to case.
    pub async fn tables(
        &self,
        kind: Option<Kind>,
        name_like: Option<String>,
        call: &Call,
    ) -> Result<Vec<TableListing>> {
        self.run(&call.alone(), move |work| {
            let mut listings = work.relations(name_like.as_deref())?;
            listings.retain(|listing| {
                !metadata::is_server_table(&listing.name)
                    && kind.is_none_or(|kind| listing.kind == kind)
                    && work.shows(SCHEMA, &listing.name, listing.kind == Kind::View)
            });
            work.count_rows(&mut listings)?;
            for listing in listings.iter_mut().filter(|listing| listing.kind != Kind::View) {
                listing.size_bytes = work.size_bytes(&listing.name)?;
            }
            Ok(listings)
        })
        .await
    }

    /// The columns of a table or view, `_metadata` too.
    pub async fn describe(&self, table: String, call: &Call) -> Result<TableDescription> {
        self.run(call, move |work| work.describe(&table)).await
    }

    /// Whether there is a table or view of this name.
    pub async fn table_exists(&self, table: String) -> Result<bool> {
        self.run(&Call::default(), move |work| Ok(work.relation(&table)?.is_some())).await
    }

    /// The kind of a table or view, if it is there, for an ingest into it.
    pub async fn table_kind(&self, table: String, call: &Call) -> Result<Option<Kind>> {
        let kind = move |work: &mut Work| Ok(work.relation(&table)?.map(|listing| listing.kind));
        self.run_for_ingest(call, Wants::Transaction, kind).await
    }

    /// The rows of a table now.
    pub async fn row_count(&self, table: String, call: &Call) -> Result<i64> {
        self.run(call, move |work| {
            let mut listings = vec![work.find_relation(&table)?];
            work.count_rows(&mut listings)?;
            Ok(listings.first().and_then(|listing| listing.row_count).unwrap_or(-1))
        })
        .await
    }

    /// Streams a table or view, whose rows are wanted now.
    pub async fn scan(&self, table: String, call: &Call) -> Result<Rows> {
        let TableDescription { name, arrow_schema, .. } = self.run(call, move |work| work.describe(&table)).await?;
        match self.query_now(format!("FROM {CATALOG}.{SCHEMA}.{}", quote(&name)), None, call).await? {
            Started::Rows(rows) => Ok(rows.with_schema(arrow_schema)),
            Started::Change => Err(Error::internal("a scan was taken for a change")),
        }
    }

    /// Drops a table and its metadata, in one transaction; false when `if_exists` and it is not there.
    pub async fn drop_table(&self, table: String, if_exists: bool, call: &Call) -> Result<bool> {
        self.run(&call.alone(), move |work| work.drop_table(&table, if_exists)).await
    }
}

impl Work {
    /// Whether the caller may know of a table or view of the data file: it may read it, and all that a view reads.
    pub(in crate::engine) fn shows(&self, schema: &str, name: &str, is_view: bool) -> bool {
        if !self.call.is_restricted() {
            return true;
        }
        // The guard tells when the view is bound.
        let sql = format!("FROM {CATALOG}.{}.{}", quote(schema), quote(name));
        let may_look = || self.planned_schema(&statement::single(self.connection(), &sql)?);
        self.call.may_read(schema, name) && (!is_view || may_look().is_ok())
    }

    /// The tables and views of the main schema, by name; with kinds and fetched_at, without counts.
    fn relations(&self, name_like: Option<&str>) -> Result<Vec<TableListing>> {
        let managed: HashMap<String, metadata::Metadata> =
            metadata::all(self)?.into_iter().map(|row| (row.table.to_lowercase(), row)).collect();
        let sql = "SELECT table_name, table_type FROM information_schema.tables WHERE table_catalog = $1 AND table_schema = $2 \
                   AND table_name ILIKE $3 ESCAPE '\\' ORDER BY lower(table_name)";
        let pattern = name_like.unwrap_or("%");
        let batches = self.collect(sql, &[Some(CATALOG), Some(SCHEMA), Some(pattern)])?;
        let mut listings = Vec::new();
        for batch in &batches {
            let (names, types) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            for (name, table_type) in names.iter().flatten().zip(types.iter().flatten()) {
                let row = managed.get(&name.to_lowercase());
                let plain = if table_type == "VIEW" { Kind::View } else { Kind::Table };
                listings.push(TableListing {
                    name: name.to_owned(),
                    kind: row.map_or(plain, |row| row.kind),
                    row_count: None,
                    fetched_at: row.and_then(|row| row.fetched_at),
                    size_bytes: None,
                });
            }
        }
        Ok(listings)
    }

    /// One table or view, if it is there.
    pub(in crate::engine) fn relation(&self, table: &str) -> Result<Option<TableListing>> {
        let pattern = table.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        Ok(self.relations(Some(&pattern))?.into_iter().next())
    }

    /// One plain table or view of another schema, or of the session's temporary ones.
    pub(in crate::engine) fn relation_at(
        &self,
        catalog: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<TableListing>> {
        let sql = "SELECT table_name, table_type FROM information_schema.tables WHERE table_catalog = $1 AND table_schema = $2 \
                   AND lower(table_name) = lower($3)";
        let batches = self.collect(sql, &[Some(catalog), Some(schema), Some(table)])?;
        let Some(batch) = batches.first().filter(|batch| batch.num_rows() > 0) else { return Ok(None) };
        let is_view = batch.column(1).as_string::<i32>().value(0) == "VIEW";
        Ok(Some(TableListing {
            name: batch.column(0).as_string::<i32>().value(0).to_owned(),
            kind: if is_view { Kind::View } else { Kind::Table },
            row_count: None,
            fetched_at: None,
            size_bytes: None,
        }))
    }

    /// One table or view.
    ///
    /// # Errors
    /// `NotFound`, with the likeliest name that was meant.
    pub(in crate::engine) fn find_relation(&self, table: &str) -> Result<TableListing> {
        if let Some(listing) = self.relation(table)? {
            return Ok(listing);
        }
        let others = self.relations(None)?;
        let may_know = |name: &&str| !metadata::is_server_table(name) && self.call.may_read(SCHEMA, name);
        let near = others.iter().map(|listing| listing.name.as_str()).filter(may_know);
        let hint = nearest(table, near).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
        let shown: String = table.chars().take(64).collect();
        Err(Error::not_found(format!("table {shown:?} not found{hint}")))
    }

    fn count_rows(&self, listings: &mut [TableListing]) -> Result<()> {
        let mut tables: Vec<&mut TableListing> =
            listings.iter_mut().filter(|listing| listing.kind != Kind::View).collect();
        for group in tables.chunks_mut(COUNTED_AT_ONCE) {
            let selects: Vec<String> = group
                .iter()
                .enumerate()
                .map(|(index, table)| {
                    format!("SELECT {index} AS i, count(*) AS n FROM {CATALOG}.{SCHEMA}.{}", quote(&table.name))
                })
                .collect();
            let sql = format!("SELECT n FROM ({}) ORDER BY i", selects.join(" UNION ALL "));
            let batches = self.collect(&sql, &[])?;
            let counts = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            for (table, count) in group.iter_mut().zip(counts) {
                table.row_count = Some(count);
            }
        }
        Ok(())
    }

    fn size_bytes(&self, table: &str) -> Result<Option<i64>> {
        let sql = "SELECT (count(DISTINCT block_id) * (SELECT block_size FROM pragma_database_size() \
                   WHERE database_name = $1))::BIGINT FROM pragma_storage_info($2) WHERE persistent AND block_id >= 0";
        let name = format!("{CATALOG}.{SCHEMA}.{}", quote(table));
        let batches = self.collect(sql, &[Some(CATALOG), Some(&name)])?;
        let sizes = batches.first().and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>());
        Ok(sizes.filter(|sizes| sizes.is_valid(0)).map(|sizes| sizes.value(0)))
    }

    fn describe(&self, table: &str) -> Result<TableDescription> {
        let listing = self.find_relation(table)?;
        let sql = "SELECT column_name, data_type, is_nullable, coalesce((SELECT bool_or(list_contains(constraint_column_names, \
                   column_name)) FROM duckdb_constraints() k WHERE k.database_name = c.database_name AND k.schema_name = \
                   c.schema_name AND k.table_name = c.table_name AND constraint_type = 'PRIMARY KEY'), false) \
                   FROM duckdb_columns() c WHERE database_name = $1 AND schema_name = $2 AND table_name = $3 ORDER BY column_index";
        let batches = self.collect(sql, &[Some(CATALOG), Some(SCHEMA), Some(&listing.name)])?;
        let mut columns = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let name = batch.column(0).as_string::<i32>().value(row).to_owned();
                columns.push(ColumnDescription {
                    primary_key: batch.column(3).as_boolean().value(row) || listing.kind.key() == Some(name.as_str()),
                    name,
                    sql_type: batch.column(1).as_string::<i32>().value(row).to_owned(),
                    nullable: batch.column(2).as_boolean().value(row),
                });
            }
        }
        let statement =
            statement::single(self.connection(), &format!("FROM {CATALOG}.{SCHEMA}.{}", quote(&listing.name)))?;
        let arrow_schema = with_nullability(&self.planned_schema(&statement)?, &columns);
        Ok(TableDescription { name: listing.name, kind: listing.kind, columns, arrow_schema })
    }

    fn drop_table(&self, table: &str, if_exists: bool) -> Result<bool> {
        metadata::refuse_server_table(table)?;
        let lock = self.lock_table(&table.to_lowercase())?;
        let _lock = self.keep_lock(lock);
        let listing = match self.find_relation(table) {
            Err(error) if if_exists && error.kind() == crate::error::ErrorKind::NotFound => return Ok(false),
            found => found?,
        };
        let what = if listing.kind == Kind::View { "VIEW" } else { "TABLE" };
        self.transaction(|| {
            self.execute(&format!("DROP {what} {CATALOG}.{SCHEMA}.{}", quote(&listing.name)))?;
            metadata::forget(self, &listing.name)
        })?;
        Ok(true)
    }
}

/// The schema with what the catalog knows about nulls; in a query's result every column may be null.
fn with_nullability(schema: &SchemaRef, columns: &[ColumnDescription]) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .zip(columns)
        .map(|(field, column)| field.as_ref().clone().with_nullable(column.nullable));
    SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The name that was likely meant: at most a third of its letters differ.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
