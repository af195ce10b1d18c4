//! Parameters that a client has bound to a statement: rows of values, for each of which the statement runs once.

use arrow::array::RecordBatch;
use duckdb_neo::Parameters;
use duckdb_neo::statement::Statement;
use duckdb_neo::value::Value;

use super::parameters::{self, Values};
use super::work::Work;
use crate::error::{Error, Result};

/// Rows of parameters, one column a parameter: in the statement's order, or under the parameters' names.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    batches: Vec<RecordBatch>,
}

/// The values of one row, under the names that the statement has for them.
pub(in crate::engine) struct Row {
    names: Vec<String>,
    values: Vec<Value>,
}

impl Bound {
    /// The rows of some batches, all of one schema.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        Self { batches }
    }

    /// Bytes of memory that they take.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows of values for `statement`.
    pub(in crate::engine) fn values<'a>(
        &'a self,
        work: &'a Work,
        statement: &'a Statement<'static>,
    ) -> impl Iterator<Item = Result<Row>> + 'a {
        self.batches.iter().flat_map(move |batch| (0..batch.num_rows()).map(move |row| (batch, row))).map(
            move |(batch, row)| {
                let names = parameters::names(statement)?;
                let columns = columns(&names, batch)?;
                let mut values: Vec<Option<Value>> =
                    parameters::row(work.connection(), batch, row)?.into_iter().map(Some).collect();
                let values = columns.into_iter().map(|column| values.get_mut(column).and_then(Option::take));
                let values: Option<Vec<Value>> = values.collect();
                let values = values.ok_or_else(|| Error::internal("a parameter without its column"))?;
                Ok(Row { names, values })
            },
        )
    }
}

impl Row {
    /// The values.
    pub(in crate::engine) fn values(&self) -> Values<'_> {
        Values { names: &self.names, values: &self.values }
    }

    /// Runs `work` with the values.
    pub(in crate::engine) fn with<T>(&self, work: impl FnOnce(Parameters<'_>) -> T) -> T {
        parameters::with(&self.names, &self.values, work)
    }
}

/// The column of each parameter: by number for `?` and `$1`, by name for `$name` if all names are there, else in order.
fn columns(names: &[String], batch: &RecordBatch) -> Result<Vec<usize>> {
    let schema = batch.schema_ref();
    let by_name: Option<Vec<usize>> = names
        .iter()
        .map(|name| schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name)))
        .collect();
    let numbers: Option<Vec<usize>> =
        names.iter().map(|name| name.parse::<usize>().ok().and_then(|number| number.checked_sub(1))).collect();
    let wanted = match &numbers {
        Some(numbers) => numbers.iter().max().map_or(0, |last| last + 1),
        None => names.len(),
    };
    if batch.num_columns() != wanted {
        return Err(Error::invalid(format!(
            "the statement has {wanted} parameters, {} were given",
            batch.num_columns()
        )));
    }
    Ok(match (numbers, by_name) {
        (Some(numbers), _) => numbers,
        (None, Some(by_name)) => by_name,
        (None, None) => (0..names.len()).collect(),
    })
}

/// Refuses to run a statement whose parameters are missing.
pub(in crate::engine) fn check(statement: &Statement<'static>, bound: Option<&Bound>) -> Result<()> {
    let count = statement.parameter_count()?;
    if count > 0 && bound.is_none() {
        return Err(Error::invalid(format!("the statement has {count} parameters, and none is bound")));
    }
    Ok(())
}
