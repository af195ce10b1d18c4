//! The tables that the server keeps in the data file: `_metadata`, one row a managed table, and `_ingests`, the results of
//! ingests that had an id. Both are written in the transaction that they tell about. [`format`](super::format) makes them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};
use duckdb_neo::connection::Connection;
use duckdb_neo::types::{DateValue, TimestampValue};
use duckdb_neo::value::Value;
use duckdb_neo::{Parameters, ToValue};

use super::contents::rows;
use super::work::{Work, quote};
use super::{CATALOG, Call, Engine, format::FORMAT_TABLE, ingest::Outcome, ingest::Provenance};
use crate::error::{Error, Result};
use crate::tables::{Kind, METADATA_TABLE};

/// The table of results of ingests that had an id.
pub(in crate::engine) const INGESTS_TABLE: &str = "_ingests";

/// The current time as a TIMESTAMP in UTC. `now()` is the start of the transaction.
const NOW: &str = "(epoch_us(now())).make_timestamp()";

/// A row of `_metadata`. Times are microseconds since 1970 (UTC), dates are days since then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The name as it was created.
    pub table: String,
    /// The kind.
    pub kind: Kind,
    /// When the data was fetched.
    pub fetched_at: Option<i64>,
    /// First day of the data.
    pub from_date: Option<i32>,
    /// Last day of the data.
    pub to_date: Option<i32>,
    /// Rows stored, as of the last change.
    pub row_count: i64,
    /// Event names that the fetch was limited to.
    pub filter_events: Vec<String>,
    /// Expression that the fetch was filtered by.
    pub filter_where: Option<String>,
    /// When the table was created.
    pub created_at: Option<i64>,
    /// When it was last written by an ingest.
    pub updated_at: Option<i64>,
}

/// Whether a table is one of the server's own.
pub(in crate::engine) fn is_server_table(name: &str) -> bool {
    [METADATA_TABLE, INGESTS_TABLE, FORMAT_TABLE].iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Refuses to write to one of the server's own tables on behalf of a client.
pub(in crate::engine) fn refuse_server_table(name: &str) -> Result<()> {
    if is_server_table(name) {
        return Err(Error::precondition(format!("`{name}` is written by the server only")));
    }
    Ok(())
}

impl Engine {
    /// The `_metadata` row of a managed table.
    ///
    /// # Errors
    /// `NotFound` when there is no such table, `FailedPrecondition` when it is not managed.
    pub async fn metadata(&self, table: String, call: &Call) -> Result<Metadata> {
        self.run(&call.alone(), move |work| {
            if let Some(metadata) = find(work, &table)? {
                return Ok(metadata);
            }
            let listing = work.find_relation(&table)?;
            Err(Error::precondition(format!(
                "{} is a plain {}: only tables of events and profiles have metadata",
                listing.name,
                listing.kind.word()
            )))
        })
        .await
    }
}

/// Whether the data file has the server's tables: a read-only file may lack them.
fn exists(work: &Work) -> Result<bool> {
    if !work.engine.database.read_only {
        return Ok(true);
    }
    let sql = "SELECT 1 FROM duckdb_tables() WHERE database_name = $1 AND schema_name = 'main' AND table_name = $2";
    let batches = work.collect(sql, &[Some(CATALOG), Some(METADATA_TABLE)])?;
    Ok(!batches.is_empty())
}

/// All rows of `_metadata`.
pub(in crate::engine) fn all(work: &Work) -> Result<Vec<Metadata>> {
    if !exists(work)? {
        return Ok(Vec::new());
    }
    let batches = work.collect(&format!("{SELECT} ORDER BY table_name"), &[])?;
    batches.iter().map(read).collect::<Result<Vec<_>>>().map(|rows| rows.concat())
}

/// The row of one table, if it is managed.
pub(in crate::engine) fn find(work: &Work, table: &str) -> Result<Option<Metadata>> {
    if !exists(work)? {
        return Ok(None);
    }
    let sql = format!("{SELECT} WHERE lower(table_name) = lower($1)");
    let batches = work.collect(&sql, &[Some(table)])?;
    Ok(batches.first().map(read).transpose()?.and_then(|rows| rows.into_iter().next()))
}

/// The name and kind of a managed table.
pub(in crate::engine) fn kind_of(work: &Work, table: &str) -> Result<Option<(String, Kind)>> {
    if !work.engine.managed.may_have(table) {
        return Ok(None);
    }
    Ok(find(work, table)?.map(|metadata| (metadata.table, metadata.kind)))
}

/// Names that a managed table has or had: for any other, nobody need look. It is never wrong about one that is there, committed
/// or not, because a name is noted before its row is written.
#[derive(Debug, Default)]
pub(in crate::engine) struct ManagedNames(Mutex<Option<HashSet<String>>>);

/// Names that are remembered; with more, every name is looked up.
const NAMES_MAX: usize = 65_536;

impl ManagedNames {
    /// The names that a data file has now.
    pub(in crate::engine) fn load(connection: &Connection) -> Result<Self> {
        let sql = format!("SELECT lower(table_name) FROM {CATALOG}.main.{METADATA_TABLE} LIMIT {}", NAMES_MAX + 1);
        let names: HashSet<String> = rows::<1>(connection, &sql)?.into_iter().flatten().collect();
        Ok(Self(Mutex::new((names.len() <= NAMES_MAX).then_some(names))))
    }

    pub(in crate::engine) fn may_have(&self, table: &str) -> bool {
        self.lock().as_ref().is_none_or(|names| names.contains(&table.to_lowercase()))
    }

    fn note(&self, table: &str) {
        let mut names = self.lock();
        if let Some(known) = names.as_mut() {
            known.insert(table.to_lowercase());
            if known.len() > NAMES_MAX {
                *names = None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SELECT: &str = "SELECT table_name, type, fetched_at, from_date, to_date, row_count, \
                      coalesce(filter_events, []) AS filter_events, filter_where, created_at, updated_at \
                      FROM merganser.main._metadata";

fn read(batch: &RecordBatch) -> Result<Vec<Metadata>> {
    let text = |column: usize, row: usize| {
        let values = batch.column(column).as_string_opt::<i32>()?;
        values.is_valid(row).then(|| values.value(row).to_owned())
    };
    let time = |column: usize, row: usize| {
        let values = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>()?;
        values.is_valid(row).then(|| values.value(row))
    };
    let date = |column: usize, row: usize| {
        let values = batch.column(column).as_primitive_opt::<Date32Type>()?;
        values.is_valid(row).then(|| values.value(row))
    };
    let words = |column: usize, row: usize| {
        let list = batch.column(column).as_list_opt::<i32>()?.value(row);
        let strings = list.as_string_opt::<i32>()?;
        Some(strings.iter().flatten().map(str::to_owned).collect::<Vec<_>>())
    };
    (0..batch.num_rows())
        .map(|row| {
            let kind = text(1, row).and_then(|word| Kind::from_word(&word));
            let counts = batch.column(5).as_primitive_opt::<Int64Type>();
            Ok(Metadata {
                table: text(0, row).unwrap_or_default(),
                kind: kind.ok_or_else(|| Error::internal("a row of _metadata has an unknown type"))?,
                fetched_at: time(2, row),
                from_date: date(3, row),
                to_date: date(4, row),
                row_count: counts.map(|counts| counts.value(row)).unwrap_or_default(),
                filter_events: words(6, row).unwrap_or_default(),
                filter_where: text(7, row),
                created_at: time(8, row),
                updated_at: time(9, row),
            })
        })
        .collect()
}

/// After a change by SQL: rows of tables that are gone go, and the counts of tables that rows were deleted from are taken.
pub(in crate::engine) fn follow_catalog<'a>(work: &Work, deleted_from: impl Iterator<Item = &'a str>) -> Result<()> {
    let gone = format!(
        "lower(table_name) NOT IN (SELECT lower(table_name) FROM duckdb_tables() \
         WHERE database_name = '{CATALOG}' AND schema_name = 'main')"
    );
    let stale = work.collect(&format!("SELECT 1 FROM {CATALOG}.main.{METADATA_TABLE} WHERE {gone} LIMIT 1"), &[])?;
    if !stale.is_empty() {
        // Only now: a transaction may write to one database, and the change may have been to another.
        work.execute(&format!("DELETE FROM {CATALOG}.main.{METADATA_TABLE} WHERE {gone}"))?;
    }
    for table in deleted_from {
        if kind_of(work, table)?.is_some() {
            let sql = format!(
                "UPDATE {CATALOG}.main.{METADATA_TABLE} SET row_count = (SELECT count(*) FROM {CATALOG}.main.{}) \
                 WHERE lower(table_name) = lower($1)",
                quote(table)
            );
            work.execute_with(&sql, Parameters::positional(&[&table]))?;
        }
    }
    Ok(())
}

/// Writes the row of a table after an ingest into it, in the ingest's transaction: a new row, or for an append the wider
/// dates, the new fetched_at and the count; the first filters stay.
pub(in crate::engine) fn record(work: &Work, table: &str, kind: Kind, from: &Provenance, is_new: bool) -> Result<()> {
    let count = format!("(SELECT count(*) FROM {CATALOG}.main.{})", quote(table));
    let fetched_at = from.fetched_at.map_or_else(|| NOW.to_owned(), |us| format!("make_timestamp({us}::BIGINT)"));
    let date = |day: Option<i32>| {
        day.map_or_else(|| "NULL::DATE".to_owned(), |day| format!("(DATE '1970-01-01' + {day}::INTEGER)"))
    };
    let (from_date, to_date) = (date(from.from_date), date(from.to_date));
    if !is_new {
        let sql = format!(
            "UPDATE {CATALOG}.main.{METADATA_TABLE} SET fetched_at = {fetched_at}, from_date = least(from_date, {from_date}), \
             to_date = greatest(to_date, {to_date}), row_count = {count}, updated_at = {NOW} \
             WHERE lower(table_name) = lower($1)"
        );
        work.execute_with(&sql, Parameters::positional(&[&table]))?;
        return Ok(());
    }
    work.engine.managed.note(table);
    let events = if from.filter_events.is_empty() {
        "NULL::VARCHAR[]".to_owned()
    } else {
        let quoted: Vec<String> = from.filter_events.iter().map(|name| literal(name)).collect();
        format!("[{}]", quoted.join(", "))
    };
    let filter_where = from.filter_where.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    let sql = format!(
        "INSERT INTO {CATALOG}.main.{METADATA_TABLE} VALUES ($1, '{}', {fetched_at}, {from_date}, {to_date}, {count}, {events}, \
         {filter_where}, {NOW}, {NOW})",
        kind.word()
    );
    work.execute_with(&sql, Parameters::positional(&[&table]))?;
    Ok(())
}

/// What appends change of a table's row.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Row {
    /// The table's name as it was created.
    table: String,
    rows: i64,
    from_date: Option<i32>,
    to_date: Option<i32>,
    /// None: now.
    fetched_at: Option<i64>,
}

impl Row {
    /// Rows of the table.
    pub(in crate::engine) fn rows(&self) -> usize {
        usize::try_from(self.rows).unwrap_or(0)
    }

    /// Takes in appends from `provenances` that stored `inserted` rows together, as if each came after the other.
    pub(in crate::engine) fn add(&mut self, provenances: &[&Provenance], inserted: u64) {
        self.rows += i64::try_from(inserted).unwrap_or(i64::MAX);
        for from in provenances {
            self.from_date = self.from_date.into_iter().chain(from.from_date).min();
            self.to_date = self.to_date.into_iter().chain(from.to_date).max();
            self.fetched_at = from.fetched_at;
        }
    }
}

/// The row of a managed table, as appends find it.
pub(in crate::engine) fn row(work: &Work, table: &str, kind: Kind) -> Result<Row> {
    let found = find(work, table)?
        .filter(|found| found.kind == kind)
        .ok_or_else(|| Error::not_found(format!("table {table:?} not found")))?;
    Ok(Row {
        table: found.table,
        rows: found.row_count,
        from_date: found.from_date,
        to_date: found.to_date,
        fetched_at: None,
    })
}

/// The statement that writes a table's row after appends, and its parameters: its text is the same from one append to the next,
/// and plain, because binding it is a good part of what an append costs.
pub(in crate::engine) fn update_row(connection: &Connection, row: &Row) -> Result<(String, Vec<Value>)> {
    let now = jiff::Timestamp::now().as_microsecond();
    let time = |microseconds: i64| TimestampValue(microseconds).value(connection);
    let mut parameters = vec![time(row.fetched_at.unwrap_or(now))?, time(now)?, row.rows.value(connection)?];
    let mut dates = String::new();
    for (column, day) in [("from_date", row.from_date), ("to_date", row.to_date)] {
        if let Some(day) = day {
            parameters.push(DateValue(day).value(connection)?);
            write!(dates, ", {column} = ${}", parameters.len()).expect("a String takes all that is written");
        }
    }
    let sql = format!(
        "UPDATE {CATALOG}.main.{METADATA_TABLE} SET fetched_at = $1, updated_at = $2, row_count = $3{dates} \
         WHERE table_name = {}",
        literal(&row.table)
    );
    Ok((sql, parameters))
}

/// Removes the row of a table, in the transaction that drops it.
pub(in crate::engine) fn forget(work: &Work, table: &str) -> Result<()> {
    let sql = format!("DELETE FROM {CATALOG}.main.{METADATA_TABLE} WHERE lower(table_name) = lower($1)");
    work.execute_with(&sql, Parameters::positional(&[&table]))?;
    Ok(())
}

/// `text` as an SQL string.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The result of the ingest with this id, if it is remembered.
///
/// # Errors
/// `FailedPrecondition` when it went into another table than `table`.
pub(in crate::engine) fn ingest_result(work: &Work, id: &str, table: &str) -> Result<Option<Outcome>> {
    let sql = format!(
        "SELECT rows_received, rows_inserted, rows_duplicate, rows_replaced, table_name FROM {CATALOG}.main.{INGESTS_TABLE} \
         WHERE ingest_id = $1"
    );
    let batches = work.collect(&sql, &[Some(id)])?;
    let Some(batch) = batches.first() else { return Ok(None) };
    let stored_in = batch.column(4).as_string_opt::<i32>().map_or("", |names| names.value(0));
    if !stored_in.eq_ignore_ascii_case(table) {
        return Err(Error::precondition(format!(
            "ingest {id} has been stored in table {stored_in:?}, not in {table:?}"
        )));
    }
    let number = |column: usize| {
        let values = batch.column(column).as_primitive_opt::<Int64Type>();
        values.and_then(|values| u64::try_from(values.value(0)).ok()).unwrap_or_default()
    };
    Ok(Some(Outcome { received: number(0), inserted: number(1), duplicate: number(2), replaced: number(3) }))
}

/// Remembers the result of an ingest with an id, in its transaction.
pub(in crate::engine) fn remember_ingest(work: &Work, id: &str, table: &str, outcome: &Outcome) -> Result<()> {
    let Outcome { received, inserted, duplicate, replaced } = outcome;
    let sql = format!(
        "INSERT INTO {CATALOG}.main.{INGESTS_TABLE} VALUES ($1, $2, {received}, {inserted}, {duplicate}, {replaced}, {NOW})"
    );
    work.execute_with(&sql, Parameters::positional(&[&id, &table])).map(drop)
}

/// Forgets the oldest results beyond `ingest.ids_max`, after an ingest and outside of its transaction: two that forgot the same rows
/// would be in conflict, and one of them be lost with all of its rows. Inside a transaction of the caller's nothing is forgotten.
pub(in crate::engine) fn forget_ingests(work: &Work) {
    if work.in_transaction() {
        return;
    }
    if let Err(error) = try_forget_ingests(work, work.engine.ids_max) {
        // The next ingest does it.
        tracing::debug!(%error, "cannot forget the results of ingests");
    }
}

fn try_forget_ingests(work: &Work, ids_max: usize) -> Result<()> {
    let count = work.collect(&format!("SELECT count(*) FROM {CATALOG}.main.{INGESTS_TABLE}"), &[])?;
    let count =
        count.first().and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>()).map_or(0, |c| c.value(0));
    // A tenth more than the limit may gather, so that not every ingest pays for forgetting.
    if usize::try_from(count).is_ok_and(|count| count > ids_max + ids_max / 10) {
        work.execute(&format!(
            "DELETE FROM {CATALOG}.main.{INGESTS_TABLE} WHERE finished_at < (SELECT min(finished_at) FROM (SELECT finished_at \
             FROM {CATALOG}.main.{INGESTS_TABLE} ORDER BY finished_at DESC LIMIT {ids_max}))"
        ))?;
    }
    Ok(())
}
