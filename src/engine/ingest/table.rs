//! The table that a stream goes into: what is there against what the mode says, making it, and what is written when the
//! stream ends well.

use super::merge::{self, Table};
use super::stage::Source;
use super::{Outcome, Target};
use crate::engine::work::{Work, quote};
use crate::engine::{CATALOG, SCHEMA, metadata};
use crate::error::{Error, Result};
use crate::ingest::Mode;
use crate::tables::Kind;

/// Merges staged rows into the target, which is made or replaced as the mode says; inside a transaction, under the lock.
pub(super) fn merge_staged(
    work: &Work,
    target: &Target,
    fresh: Option<&Source>,
    suspects: Option<&Source>,
    received: u64,
) -> Result<Outcome> {
    if let Some(id) = &target.ingest_id
        && let Some(outcome) = metadata::ingest_result(work, id, &target.table)?
    {
        return Ok(outcome);
    }
    let table = prepare_table(work, target)?;
    let outcome = if table.kind.is_managed() {
        merge::merge(work, &table, target.on_duplicate, fresh, suspects)?
    } else {
        let inserted = fresh.map_or(Ok(0), |fresh| insert(work, &table, fresh))?;
        Outcome { inserted, ..Outcome::default() }
    };
    let outcome =
        Outcome { received, duplicate: received.saturating_sub(outcome.inserted + outcome.replaced), ..outcome };
    finish(work, target, &table, &outcome)?;
    Ok(outcome)
}

/// The table to merge into, made if the mode says so.
fn prepare_table(work: &Work, target: &Target) -> Result<Table> {
    let existing = check_mode(work, target)?;
    let is_new = target.mode == Mode::Replace || existing.is_none();
    let name = existing.clone().unwrap_or_else(|| target.table.clone());
    if let (Mode::Replace, Some(old)) = (target.mode, &existing) {
        work.execute(&format!("DROP TABLE {CATALOG}.{SCHEMA}.{}", quote(old)))?;
        metadata::forget(work, old)?;
    }
    let name = if is_new { target.table.clone() } else { name };
    let table = Table { name, kind: target.kind, is_new };
    if is_new {
        create_table(work, target, &table)?;
    }
    Ok(table)
}

/// Checks what is there against the mode; answers the name of the table that is there.
pub(super) fn check_mode(work: &Work, target: &Target) -> Result<Option<String>> {
    metadata::refuse_server_table(&target.table)?;
    let Some(existing) = work.relation(&target.table)? else {
        if target.mode == Mode::Append {
            return Err(work.find_relation(&target.table).err().unwrap_or_else(|| Error::not_found("table not found")));
        }
        return Ok(None);
    };
    let name = existing.name;
    match target.mode {
        Mode::Create => Err(Error::already_exists(format!("table {name:?} already exists"))),
        _ if existing.kind == Kind::View => {
            Err(Error::precondition(format!("{name:?} is a view: rows cannot be stored in it")))
        }
        Mode::Append | Mode::CreateAppend if existing.kind != target.kind => Err(Error::precondition(format!(
            "table {name:?} is a table of kind {}, the stream is of kind {}",
            existing.kind.word(),
            target.kind.word()
        ))),
        Mode::Append | Mode::CreateAppend | Mode::Replace => Ok(Some(name)),
    }
}

pub(super) fn create_table(work: &Work, target: &Target, table: &Table) -> Result<()> {
    let sql = if table.kind.is_managed() {
        let columns: Vec<String> = table
            .kind
            .columns()
            .iter()
            .map(|column| {
                format!("{} {}{}", column.name, column.sql_type, if column.nullable { "" } else { " NOT NULL" })
            })
            .collect();
        format!("CREATE TABLE {} ({})", table.sql(), columns.join(", "))
    } else {
        let columns = Source::of(work, &target.schema, Vec::new());
        work.execute(&format!("CREATE TABLE {} AS FROM {} LIMIT 0", table.sql(), columns.from))?;
        return Ok(());
    };
    work.execute(&sql)?;
    Ok(())
}

/// Inserts rows that need no look at the table.
pub(super) fn insert(work: &Work, table: &Table, source: &Source) -> Result<u64> {
    if table.kind.is_managed() {
        return merge::insert_fresh(work, table, source);
    }
    work.execute(&format!("INSERT INTO {} BY NAME FROM {}", table.sql(), source.from))
}

/// Writes what is kept about the ingest, in its transaction.
pub(super) fn finish(work: &Work, target: &Target, table: &Table, outcome: &Outcome) -> Result<()> {
    if table.kind.is_managed() {
        metadata::record(work, &table.name, table.kind, &target.provenance, table.is_new)?;
    }
    if let Some(id) = &target.ingest_id {
        metadata::remember_ingest(work, id, &table.name, outcome, work.engine.ids_max)?;
    }
    Ok(())
}
