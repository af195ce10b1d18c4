//! Coercion of the batches of a stream to the columns of a managed kind, with exact reports of bad rows.
//!
//! [`Coercer`] plans once for the schema of a stream and then works on whole columns; a column that fits already is
//! passed on without a copy. [`Plain`] does the little that streams into tables of kind `table` need. Arrow in, Arrow
//! out: nothing here knows the engine or Flight.
//!
//! What is taken for a column is told in its module: `text`, `time` and `iso`, `properties`, `encode` and `fold`.

mod columns;
mod encode;
mod flat;
mod fold;
mod iso;
mod json;
mod plain;
mod properties;
mod report;
mod tagged;
#[cfg(test)]
mod tests;
mod text;
mod time;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use self::columns::match_columns;
use self::fold::Extras;
pub use self::plain::Plain;
use self::report::{BadRows, shown};
pub(crate) use self::time::{epoch, epoch_of_float};
use crate::error::{Error, Result};
use crate::tables::{Kind, ManagedColumn};

/// Characters of an Arrow type that a message shows; nested types can be very long.
const TYPE_SHOWN_MAX: usize = 80;

/// What happens to a column that the kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// The stream is refused.
    Refuse,
    /// Its values join the JSON of `properties` under its name.
    FoldIntoProperties,
}

/// Levels of Arrow types that are made JSON: the code for them is recursive.
const TYPE_DEPTH_MAX: usize = 64;

/// What one batch may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Levels of arrays and objects in JSON: deeper nesting crashes engines.
    pub json_depth: usize,
    /// Bytes of JSON that the nested values of one batch may become; 2 GiB at most, whatever is set.
    pub json_bytes: usize,
    /// Rows of one batch. Encoded columns can claim any number of rows in a few bytes.
    pub rows: usize,
}

impl Limits {
    /// How deep an Arrow type may nest whose values become JSON.
    fn type_depth(&self) -> usize {
        self.json_depth.min(TYPE_DEPTH_MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { json_depth: 512, json_bytes: 1 << 30, rows: 1 << 24 }
    }
}

/// The plan by which the batches of one stream become rows of a managed kind.
#[derive(Debug)]
pub struct Coercer {
    columns: Vec<Planned>,
    extras: Extras,
    /// The types of the stream's columns.
    incoming: Vec<DataType>,
    schema: SchemaRef,
    limits: Limits,
}

/// A column of the kind, and the column of the stream that becomes it.
#[derive(Debug)]
struct Planned {
    column: &'static ManagedColumn,
    role: Role,
    /// Its index and field in the stream; none if every row is null.
    source: Option<(usize, FieldRef)>,
    output: DataType,
}

/// What the values of a column mean.
#[derive(Clone, Copy, Debug)]
enum Role {
    Name,
    Id,
    Time,
    Properties,
}

impl Role {
    fn of(column: &ManagedColumn) -> Result<Self> {
        match (column.sql_type, column.name) {
            ("VARCHAR", "distinct_id" | "insert_id") => Ok(Self::Id),
            ("VARCHAR", _) => Ok(Self::Name),
            ("TIMESTAMP", _) => Ok(Self::Time),
            ("JSON", _) => Ok(Self::Properties),
            (other, name) => Err(Error::internal(format!("no coercion for column {name} of type {other}"))),
        }
    }

    /// The type that a column of the stream becomes; refuses what cannot be coerced.
    fn output_type(self, field: &Field, limits: &Limits) -> Result<DataType> {
        let plain = flat::unpacked_type(field.data_type());
        let (output, accepted) = match self {
            Self::Name => (text::output_type(&plain, false), text::accepted(false)),
            Self::Id => (text::output_type(&plain, true), text::accepted(true)),
            Self::Time => (time::accepts(&plain).then_some(time::OUTPUT), time::ACCEPTED),
            Self::Properties => {
                let field = field.clone().with_data_type(plain);
                match properties::output_type(&field, limits) {
                    Ok(output) => (Some(output), properties::ACCEPTED),
                    Err(None) => (None, properties::ACCEPTED),
                    Err(Some(reason)) => {
                        let name = shown(field.name());
                        return Err(Error::invalid(format!("column {name} cannot be JSON: {reason}")));
                    }
                }
            }
        };
        output.ok_or_else(|| {
            let (name, data_type) = (shown(field.name()), type_shown(field.data_type()));
            Error::invalid(format!("column {name} cannot be {data_type}; accepted are {accepted}"))
        })
    }
}

impl Coercer {
    /// Plans how the columns of a stream become those of `kind`, which is a managed one.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::InvalidArgument`] for a missing column, an extra one that is refused, a column that
    /// comes twice, and a type that cannot be coerced.
    pub fn new(kind: Kind, schema: &Schema, extra: Extra, limits: Limits) -> Result<Self> {
        if !kind.is_managed() {
            return Err(Error::internal(format!("rows of kind {} are not coerced", kind.word())));
        }
        let matched = match_columns(kind, schema, extra)?;
        let extras = Extras::new(&matched.extras, schema.fields(), &limits)?;
        let mut columns = Vec::with_capacity(kind.columns().len());
        let mut fields = Vec::with_capacity(kind.columns().len());
        for (column, source) in kind.columns().iter().zip(matched.sources) {
            let role = Role::of(column)?;
            let source = source.and_then(|index| Some((index, Arc::clone(schema.fields().get(index)?))));
            let output = match (&source, role) {
                (Some((_, field)), _) => role.output_type(field, &limits)?,
                (None, Role::Time) => time::OUTPUT,
                (None, _) => DataType::Utf8,
            };
            let folded = matches!(role, Role::Properties) && !extras.is_empty();
            let stored = if folded { DataType::Utf8 } else { output.clone() };
            fields.push(Field::new(column.name, stored, column.nullable));
            columns.push(Planned { column, role, source, output });
        }
        Ok(Self { columns, extras, incoming: types(schema), schema: Arc::new(Schema::new(fields)), limits })
    }

    /// The schema of the batches that [`coerce`](Self::coerce) makes: the kind's columns, in the table's order.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Coerces one batch. `first_row` is the number of its first row in the stream, whose rows are counted from 1.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::InvalidArgument`] with the first bad rows and their number, or
    /// [`crate::error::ErrorKind::ResourceExhausted`] if the batch is past a limit.
    pub fn coerce(&self, batch: &RecordBatch, first_row: u64) -> Result<RecordBatch> {
        check_types(batch, &self.incoming)?;
        if batch.num_rows() > self.limits.rows {
            let (rows, limit) = (batch.num_rows(), self.limits.rows);
            return Err(Error::exhausted(format!("a batch of {rows} rows; at most {limit} are taken at once")));
        }
        let mut bad = BadRows::new(batch.num_rows());
        let mut arrays = Vec::with_capacity(self.columns.len());
        for planned in &self.columns {
            let mut array = self.coerce_column(planned, batch, &mut bad)?;
            if matches!(planned.role, Role::Properties) && !self.extras.is_empty() {
                array = self.extras.fold(&array, batch, &self.limits, &mut bad)?;
            }
            arrays.push(array);
        }
        bad.into_result(first_row)?;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(unexpected)
    }

    fn coerce_column(&self, planned: &Planned, batch: &RecordBatch, bad: &mut BadRows) -> Result<ArrayRef> {
        let source = planned.source.as_ref().and_then(|(index, field)| Some((batch.columns().get(*index)?, field)));
        let Some((array, field)) = source else {
            return Ok(new_null_array(&planned.output, batch.num_rows()));
        };
        let name = planned.column.name;
        // Nested values are written row by row, and need not be unpacked for it.
        let nested = flat::unpacked_type(array.data_type()).is_nested();
        let array = if nested { Arc::clone(array) } else { flat::unpack(array).map_err(unexpected)? };
        if !planned.column.nullable {
            refuse_nulls(&array, name, bad);
        }
        match planned.role {
            Role::Name | Role::Id => text::coerce(&array, &planned.output).map_err(unexpected),
            Role::Time => time::coerce(&array, name, bad).map_err(unexpected),
            Role::Properties => properties::coerce(&array, field, &self.limits, bad),
        }
    }
}

fn types(schema: &Schema) -> Vec<DataType> {
    schema.fields().iter().map(|field| field.data_type().clone()).collect()
}

/// A plan is for one schema; with another one its casts would panic.
fn check_types(batch: &RecordBatch, incoming: &[DataType]) -> Result<()> {
    if batch.columns().iter().map(Array::data_type).eq(incoming) {
        Ok(())
    } else {
        Err(Error::invalid("a batch has other columns than the schema of its stream"))
    }
}

fn refuse_nulls(array: &ArrayRef, column: &str, bad: &mut BadRows) {
    let Some(nulls) = array.logical_nulls().filter(|nulls| nulls.null_count() > 0) else { return };
    for row in (0..array.len()).filter(|&row| nulls.is_null(row)) {
        bad.add(row, column, || "must not be null".to_owned());
    }
}

fn unexpected(source: ArrowError) -> Error {
    Error::internal("a batch could not be coerced").with_source(source)
}

/// `data_type` as messages show it.
fn type_shown(data_type: &DataType) -> String {
    let mut shown = data_type.to_string();
    if let Some((cut, _)) = shown.char_indices().nth(TYPE_SHOWN_MAX) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}
