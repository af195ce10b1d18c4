//! Merging: rows enter a table, each key once. All of it runs inside the caller's transaction, under the table's lock.
//!
//! The rows of a stream come in two parts: fresh ones, whose keys differ from one another, and suspects, whose key may have
//! come before in the stream (or may not: the filter that told them apart errs on that side only). So the fresh rows need a
//! look at the table only, and the few suspects are put in the stream's order.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;

use super::stage::Source;
use super::{Outcome, ROW_COLUMN, TablePlace};
use crate::engine::work::{Work, quote};
use crate::error::{Error, Result};
use crate::ingest::OnDuplicate;
use crate::tables::Kind;

/// A table that rows are merged into.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The name as it was created.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) place: TablePlace,
    /// Whether this transaction made it: then no row of it is older than the stream.
    pub(super) is_new: bool,
    /// Where the stream's rows enter the table before its end: the row id from which on they are its own.
    pub(super) own_from: Option<i64>,
}

impl Table {
    /// The qualified name, for SQL.
    pub(super) fn sql(&self) -> String {
        let (catalog, schema) = self.place.names();
        format!("{}.{}.{}", quote(catalog), quote(schema), quote(&self.name))
    }

    pub(super) fn key(&self) -> &'static str {
        self.kind.key().unwrap_or_default()
    }

    pub(super) fn columns(&self) -> String {
        self.kind.columns().iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }
}

/// Merges `fresh` and `suspects` into `table`; answers what became of them but `received`.
pub(super) fn merge(
    work: &Work,
    table: &Table,
    on_duplicate: OnDuplicate,
    fresh: Option<&Source>,
    suspects: Option<&Source>,
) -> Result<Outcome> {
    match on_duplicate {
        OnDuplicate::Skip => skip(work, table, fresh, suspects),
        OnDuplicate::Replace => replace(work, table, fresh, suspects),
        OnDuplicate::Error => {
            refuse_duplicates(work, table, fresh, suspects)?;
            skip(work, table, fresh, suspects)
        }
    }
}

/// The first row of a key stays.
fn skip(work: &Work, table: &Table, fresh: Option<&Source>, suspects: Option<&Source>) -> Result<Outcome> {
    let (into, key, columns) = (table.sql(), table.key(), table.columns());
    let mut inserted = 0;
    if let Some(fresh) = fresh {
        inserted += insert_fresh(work, table, fresh)?;
    }
    if let Some(suspects) = suspects {
        inserted += work.execute(&format!(
            "INSERT INTO {into} SELECT {columns} FROM (SELECT DISTINCT ON ({key}) * FROM {} ORDER BY {key}, {ROW_COLUMN}) s \
             WHERE NOT EXISTS (SELECT 1 FROM {into} t WHERE t.{key} = s.{key})",
            suspects.from
        ))?;
    }
    Ok(Outcome { inserted, ..Outcome::default() })
}

/// Inserts rows whose keys differ from one another; those that an older row of the table has are left out.
pub(super) fn insert_fresh(work: &Work, table: &Table, fresh: &Source) -> Result<u64> {
    let (into, key, columns) = (table.sql(), table.key(), table.columns());
    let anti_join = if table.is_new {
        String::new()
    } else {
        format!(" WHERE NOT EXISTS (SELECT 1 FROM {into} t WHERE t.{key} = s.{key})")
    };
    work.execute(&format!("INSERT INTO {into} SELECT {columns} FROM {} s{anti_join}", fresh.from))
}

/// The last row of a key stays.
fn replace(work: &Work, table: &Table, fresh: Option<&Source>, suspects: Option<&Source>) -> Result<Outcome> {
    let (into, key, columns) = (table.sql(), table.key(), table.columns());
    let keys: Vec<String> =
        fresh.iter().chain(&suspects).map(|source| format!("SELECT {key} FROM {}", source.from)).collect();
    if keys.is_empty() {
        return Ok(Outcome::default());
    }
    let own = own_rows(work, table, suspects)?;
    let gone = work.execute(&format!("DELETE FROM {into} WHERE {key} IN ({})", keys.join(" UNION ALL ")))?;
    let mut stored = 0;
    if let Some(fresh) = fresh {
        let superseded = suspects.map_or_else(String::new, |suspects| {
            format!(" WHERE NOT EXISTS (SELECT 1 FROM {} l WHERE l.{key} = s.{key})", suspects.from)
        });
        stored += work.execute(&format!("INSERT INTO {into} SELECT {columns} FROM {} s{superseded}", fresh.from))?;
    }
    if let Some(suspects) = suspects {
        stored += work.execute(&format!(
            "INSERT INTO {into} SELECT {columns} FROM (SELECT DISTINCT ON ({key}) * FROM {} ORDER BY {key}, {ROW_COLUMN} DESC)",
            suspects.from
        ))?;
    }
    // Rows of this very stream, which its later rows replace, are duplicates, and not replaced ones.
    let replaced = if table.is_new { 0 } else { gone.saturating_sub(own) };
    Ok(Outcome { inserted: stored.saturating_sub(gone), replaced, ..Outcome::default() })
}

/// Rows of the table that came with this stream, and have the keys of later ones.
fn own_rows(work: &Work, table: &Table, suspects: Option<&Source>) -> Result<u64> {
    let (Some(first), Some(suspects)) = (table.own_from, suspects) else { return Ok(0) };
    let (into, key) = (table.sql(), table.key());
    let sql = format!(
        "SELECT count(*) FROM {into} WHERE rowid >= {first} AND {key} IN (SELECT {key} FROM {})",
        suspects.from
    );
    number(work, &sql).map(|count| u64::try_from(count).unwrap_or_default())
}

/// The row id from which on new rows are those of the stream that begins: they grow, and those of an open transaction come last.
pub(super) fn next_row_id(work: &Work, table: &Table) -> Result<i64> {
    number(work, &format!("SELECT coalesce(max(rowid), -1) + 1 FROM {}", table.sql()))
}

fn number(work: &Work, sql: &str) -> Result<i64> {
    let batches = work.collect(sql, &[])?;
    let column = batches.first().and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>());
    column.and_then(|column| column.values().first().copied()).ok_or_else(|| Error::internal("a count has no value"))
}

/// Fails on the first row of the stream whose key is in the table or came before in the stream.
fn refuse_duplicates(work: &Work, table: &Table, fresh: Option<&Source>, suspects: Option<&Source>) -> Result<()> {
    let (into, key) = (table.sql(), table.key());
    let mut found: Vec<String> = Vec::new();
    if let Some(fresh) = fresh.filter(|_| !table.is_new) {
        found.push(format!(
            "SELECT {ROW_COLUMN} AS r, {key} AS k FROM {} f SEMI JOIN {into} t USING ({key})",
            fresh.from
        ));
    }
    if let Some(suspects) = suspects {
        let from = &suspects.from;
        found.push(format!("SELECT {ROW_COLUMN} AS r, {key} AS k FROM {from} s SEMI JOIN {into} t USING ({key})"));
        if let Some(fresh) = fresh {
            found.push(format!(
                "SELECT {ROW_COLUMN} AS r, {key} AS k FROM {from} s SEMI JOIN {} f USING ({key})",
                fresh.from
            ));
        }
        found.push(format!(
            "SELECT {ROW_COLUMN} AS r, {key} AS k FROM {from} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {ROW_COLUMN}) > 1"
        ));
    }
    if found.is_empty() {
        return Ok(());
    }
    let sql = format!("SELECT r, k FROM ({}) ORDER BY r LIMIT 1", found.join(" UNION ALL "));
    let batches = work.collect(&sql, &[])?;
    let Some(batch) = batches.first().filter(|batch| batch.num_rows() > 0) else { return Ok(()) };
    let row = batch.column(0).as_primitive_opt::<Int64Type>().map_or(0, |rows| rows.value(0));
    let key_value =
        batch.column(1).as_string_opt::<i32>().filter(|keys| keys.is_valid(0)).map_or("", |keys| keys.value(0));
    Err(duplicate_key(table, row, key_value))
}

/// The error for a row whose key is known, under `error`.
pub(super) fn duplicate_key(table: &Table, row: i64, value: &str) -> Error {
    let (key, name) = (table.key(), &table.name);
    let shown: String = value.chars().take(64).collect();
    Error::already_exists(format!(
        "duplicate key, nothing is stored: row {row}: {key}: {shown:?} is already in table {name} or came before in the stream"
    ))
}
