//! Admitting: which rows of some small appends enter their table. It is decided here, key by key, and DuckDB is asked only about
//! keys that the table's filter may have; so a group of appends becomes one INSERT of rows that are all new.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::known::Contents;
use super::merge::{Table, duplicate_key};
use super::stage::Source;
use super::{Outcome, ROW_COLUMN};
use crate::engine::metadata;
use crate::engine::work::Work;
use crate::error::{Error, Result};
use crate::ingest::OnDuplicate;
use crate::tables::{KeyFilter, KeyHasher, filter_bytes, key_texts};

/// One append: its rows in the order in which they are considered.
pub(super) struct Append<'a> {
    pub(super) batches: &'a [RecordBatch],
    pub(super) on_duplicate: OnDuplicate,
    pub(super) received: u64,
}

/// What enters, and what becomes of each append.
pub(super) struct Admitted {
    /// Rows whose keys are not in the table and differ from one another.
    pub(super) batches: Vec<RecordBatch>,
    /// One for each append.
    pub(super) outcomes: Vec<Result<Outcome>>,
}

/// Keys of appends that were looked at, and what is known of them.
struct Keys<'a> {
    /// Those that are in the table.
    stored: HashSet<String>,
    /// Those that enter.
    admitted: HashSet<&'a str>,
}

/// Decides on `appends` in their order; `filter` gets the keys of what enters. Under the table's lock, so that what is looked
/// up stays right until the rows are stored.
pub(super) fn admit(
    work: &Work,
    table: &Table,
    appends: &[Append<'_>],
    filter: Option<&mut KeyFilter>,
    hasher: KeyHasher,
) -> Result<Admitted> {
    let mut unsure: Vec<&str> = Vec::new();
    for append in appends {
        for batch in append.batches {
            unsure.extend(
                texts(batch, table)?
                    .filter(|key| filter.as_ref().is_none_or(|filter| filter.may_have(hasher.hash(key)))),
            );
        }
    }
    let mut keys = Keys { stored: stored(work, table, unsure)?, admitted: HashSet::new() };
    let mut admitted = Admitted { batches: Vec::new(), outcomes: Vec::with_capacity(appends.len()) };
    for append in appends {
        admitted.outcomes.push(admit_one(table, append, &mut keys, &mut admitted.batches));
    }
    if let Some(filter) = filter {
        for key in &keys.admitted {
            filter.insert(hasher.hash(key));
        }
    }
    Ok(admitted)
}

/// Decides on one append: all of it, or with `on_duplicate = error` none of it.
fn admit_one<'a>(
    table: &Table,
    append: &Append<'a>,
    keys: &mut Keys<'a>,
    enter: &mut Vec<RecordBatch>,
) -> Result<Outcome> {
    let mut mine: Vec<&'a str> = Vec::new();
    let mut rows = Vec::with_capacity(append.batches.len());
    for batch in append.batches {
        let mut is_new = Vec::with_capacity(batch.num_rows());
        for (at, key) in texts(batch, table)?.enumerate() {
            let new = !keys.stored.contains(key) && keys.admitted.insert(key);
            if new {
                mine.push(key);
            } else if append.on_duplicate == OnDuplicate::Error {
                for key in mine {
                    keys.admitted.remove(key);
                }
                return Err(duplicate_key(table, row_number(batch, at), key));
            }
            is_new.push(new);
        }
        rows.push((batch, is_new));
    }
    for (batch, is_new) in rows {
        if is_new.iter().all(|new| *new) {
            enter.push(batch.clone());
        } else if is_new.contains(&true) {
            enter.push(filter_record_batch(batch, &BooleanArray::from(is_new))?);
        }
    }
    let inserted = mine.len() as u64;
    let received = append.received;
    Ok(Outcome { received, inserted, duplicate: received.saturating_sub(inserted), replaced: 0 })
}

/// What the table has now, under its lock; without a filter of its keys when that would take more than `bytes_max`.
pub(super) fn contents_of(work: &Work, table: &Table, hasher: KeyHasher, bytes_max: usize) -> Result<Contents> {
    let row = metadata::row(work, &table.name, table.kind)?;
    // Room to grow by half, so that a filter is not given up soon after it was made.
    let rows = row.rows().saturating_mul(3) / 2;
    if filter_bytes(rows) > bytes_max {
        return Ok(Contents { filter: None, row });
    }
    let mut filter = KeyFilter::new(rows, bytes_max);
    work.each_batch(&format!("SELECT {} FROM {}", table.key(), table.sql()), |batch| {
        for key in texts(batch, table)? {
            filter.insert(hasher.hash(key));
        }
        Ok(())
    })?;
    Ok(Contents { filter: Some(filter), row })
}

/// Those of `keys` that the table has.
fn stored(work: &Work, table: &Table, keys: Vec<&str>) -> Result<HashSet<String>> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let key = table.key();
    let schema = Arc::new(Schema::new(vec![Field::new(key, DataType::Utf8, false)]));
    let column: ArrayRef = Arc::new(StringArray::from(keys));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
    let asked = Source::of(work, &schema, vec![batch]);
    let sql = format!("SELECT {key} FROM {} SEMI JOIN {} t USING ({key})", asked.from, table.sql());
    let mut stored = HashSet::new();
    for batch in work.collect(&sql, &[])? {
        stored.extend(texts(&batch, table)?.map(str::to_owned));
    }
    Ok(stored)
}

/// The keys of a batch.
fn texts<'a>(batch: &'a RecordBatch, table: &Table) -> Result<impl Iterator<Item = &'a str>> {
    let keys = batch.column_by_name(table.key()).and_then(|column| key_texts(column.as_ref()));
    keys.ok_or_else(|| Error::internal("a batch without keys"))
}

/// The number in its stream of a batch's row.
fn row_number(batch: &RecordBatch, at: usize) -> i64 {
    let rows = batch.column_by_name(ROW_COLUMN).and_then(|column| column.as_primitive_opt::<Int64Type>());
    rows.filter(|rows| at < rows.len()).map_or(0, |rows| rows.value(at))
}
