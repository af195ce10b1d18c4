//! The table that a stream goes into: what is there against what the mode says, making it, and what is written when the
//! stream ends well.

use super::merge::{self, Table};
use super::stage::Source;
use super::{Outcome, TablePlace, Target};
use crate::engine::work::Work;
use crate::engine::{guard, metadata};
use crate::error::{Error, Result};
use crate::ingest::Mode;
use crate::tables::Kind;

impl Target {
    /// The table of this name, which is there.
    pub(super) fn existing(&self, name: String) -> Table {
        Table { name, kind: self.kind, place: self.place.clone(), is_new: false, own_from: None }
    }

    /// The name of its lock: managed tables by their name alone, others with their schema before it.
    pub(super) fn lock_name(&self) -> String {
        let table = self.table.to_lowercase();
        match &self.place {
            TablePlace::Unsaid | TablePlace::Main => table,
            TablePlace::Schema(schema) => format!("{}.{table}", schema.to_lowercase()),
            // Nobody else sees it.
            TablePlace::Temporary => format!("temp.{}.{table}", uuid::Uuid::new_v4()),
        }
    }

    /// The table, which is made.
    pub(super) fn created(&self) -> Table {
        Table { name: self.table.clone(), kind: self.kind, place: self.place.clone(), is_new: true, own_from: None }
    }
}

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
    match existing {
        Some(name) if target.mode != Mode::Replace => return Ok(target.existing(name)),
        Some(old) => {
            work.execute(&format!("DROP TABLE {}", target.existing(old.clone()).sql()))?;
            if target.place == TablePlace::Main {
                metadata::forget(work, &old)?;
            }
        }
        None => {}
    }
    let table = target.created();
    create_table(work, target, &table)?;
    Ok(table)
}

/// Checks what is there against the mode; answers the name of the table that is there.
pub(super) fn check_mode(work: &Work, target: &Target) -> Result<Option<String>> {
    metadata::refuse_server_table(&target.table)?;
    let existing = match (&target.place, target.mode) {
        (TablePlace::Main, Mode::Append) => Some(work.find_relation(&target.table)?),
        (TablePlace::Main, _) => work.relation(&target.table)?,
        (place, mode) => {
            let (catalog, schema) = place.names();
            let found = work.relation_at(catalog, schema, &target.table)?;
            if found.is_none() && mode == Mode::Append {
                return Err(Error::not_found(format!("table {:?} not found in {catalog}.{schema}", target.table)));
            }
            found
        }
    };
    let Some(existing) = existing else {
        return guard::refuse_builtin(&work.engine.builtins, &target.table).map(|()| None);
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
    if !table.kind.is_managed() {
        let columns = Source::of(work, &target.schema, Vec::new());
        let temporary = if table.place == TablePlace::Temporary { "TEMP " } else { "" };
        let sql = format!("CREATE {temporary}TABLE {} AS FROM {} LIMIT 0", table.sql(), columns.from);
        return work.execute(&sql).map(drop);
    }
    let columns = table.kind.columns().iter().map(|column| {
        let null = if column.nullable { "" } else { " NOT NULL" };
        format!("{} {}{null}", column.name, column.sql_type)
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    work.execute(&format!("CREATE TABLE {} ({columns})", table.sql())).map(drop)
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
        metadata::remember_ingest(work, id, &table.name, outcome)?;
    }
    Ok(())
}
