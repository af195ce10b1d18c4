//! Storing a group of small appends: one statement for its rows and their table's row of `_metadata`. Parsing and optimizing it
//! would be half of what a group costs, so a leader parses it once, and it is planned as it is written.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use duckdb_neo::Parameters;
use duckdb_neo::statement::Statement;
use duckdb_neo::value::Value;

use super::merge::Table;
use crate::engine::import::Import;
use crate::engine::work::Work;
use crate::engine::{metadata, statement};
use crate::error::{Error, Result};

/// The statement of one leader, and the place that it reads rows from.
pub(super) struct Store {
    import: Import,
    /// The last text, and what it was parsed to.
    parsed: Option<(String, Statement<'static>)>,
}

impl Store {
    pub(super) fn new(work: &Work) -> Self {
        Self { import: work.engine.imports.reserve(), parsed: None }
    }

    /// Stores `rows` and `row`; a transaction of its own where none is open.
    pub(super) fn run(
        &mut self,
        work: &Work,
        table: &Table,
        schema: &SchemaRef,
        rows: &[RecordBatch],
        row: &metadata::Row,
    ) -> Result<()> {
        let (update, parameters) = metadata::update_row(work.connection(), row)?;
        let sql = if rows.is_empty() {
            update
        } else {
            self.import.put(schema, vec![concat_batches(schema, rows)?]);
            let (into, columns, from) = (table.sql(), table.columns(), self.import.serial_sql());
            format!("WITH added AS (INSERT INTO {into} SELECT {columns} FROM {from}) {update}")
        };
        let changed = self.execute(work, sql, &parameters);
        self.import.clear();
        // Not there: somebody has made another table of this name.
        if changed? == 1 { Ok(()) } else { Err(Error::internal("the table is not what it was")) }
    }

    fn execute(&mut self, work: &Work, sql: String, parameters: &[Value]) -> Result<usize> {
        let statement = match &mut self.parsed {
            Some((text, statement)) if *text == sql => statement,
            parsed => {
                let statement = statement::single(work.connection(), &sql)?;
                &mut parsed.insert((sql, statement)).1
            }
        };
        // The crate does not export the trait that the cast is to.
        let parameters: Vec<_> = parameters.iter().map(|value| value as _).collect();
        work.cancel.check()?;
        // There is nothing to choose between in its plan.
        work.optimize(false)?;
        Ok(statement.query(work.connection(), Parameters::positional(&parameters))?.drain()?)
    }
}
