//! Batches for tables of kind `table`: as they came, but for what DuckDB's Arrow importer cannot take.
//!
//! Float16 becomes Float32. Decimals that DuckDB cannot name (256 bits, a negative scale, a scale above the precision)
//! become Decimal128 of the same values, if that can hold them. Text tagged `arrow.json` becomes a JSON column without
//! a check by DuckDB, so it is validated here. All of it inside nested types too; what needs nothing is not copied.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListLikeArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, UnionFields, UnionMode};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;

use super::encode::JSON_EXTENSION;
use super::json::Validator;
use super::report::BadRows;
use super::{Limits, type_shown, unexpected};
use crate::error::{Error, Result};

/// The digits that DuckDB's DECIMAL holds.
const DIGITS_MAX: u8 = 38;

/// An error instead of a null for a value that does not fit.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// The plan by which the batches of one stream become what DuckDB can import.
#[derive(Debug)]
pub struct Plain {
    schema: SchemaRef,
    /// For each column, whether it has another type in the stream.
    casts: Vec<bool>,
    /// Columns that hold text tagged as JSON, at any depth.
    json: Vec<usize>,
    limits: Limits,
}

impl Plain {
    /// Plans for streams of `schema`.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::InvalidArgument`] for a type that DuckDB cannot take in any form.
    pub fn new(schema: &Schema, limits: Limits) -> Result<Self> {
        let mut fields = Vec::with_capacity(schema.fields().len());
        let mut casts = Vec::with_capacity(schema.fields().len());
        let mut json = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let importable = importable_field(field).and_then(|importable| {
                if holds_json(field)? {
                    json.push(index);
                }
                Ok(importable)
            });
            let importable = importable.map_err(|reason| {
                let (name, data_type) = (field.name(), type_shown(field.data_type()));
                Error::invalid(format!("column {name:?} cannot be {data_type}: {reason}"))
            })?;
            casts.push(importable.data_type() != field.data_type());
            fields.push(importable);
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Self { schema, casts, json, limits })
    }

    /// The schema of the batches that [`coerce`](Self::coerce) makes.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Makes one batch importable. `first_row` is the number of its first row in the stream, counted from 1.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::InvalidArgument`] for malformed JSON in a column that is tagged as JSON, and for a
    /// value that its new type cannot hold.
    pub fn coerce(&self, batch: &RecordBatch, first_row: u64) -> Result<RecordBatch> {
        self.check_json(batch, first_row)?;
        if !self.casts.contains(&true) {
            return Ok(batch.clone());
        }
        if batch.num_columns() != self.schema.fields().len() {
            return Err(Error::invalid("a batch has other columns than the schema of its stream"));
        }
        let mut arrays = Vec::with_capacity(batch.num_columns());
        for ((array, field), cast) in batch.columns().iter().zip(self.schema.fields()).zip(&self.casts) {
            arrays.push(if *cast { recast(array, field)? } else { Arc::clone(array) });
        }
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(unexpected)
    }

    fn check_json(&self, batch: &RecordBatch, first_row: u64) -> Result<()> {
        if self.json.is_empty() {
            return Ok(());
        }
        let mut check = Check {
            bad: BadRows::new(batch.num_rows()),
            column: "",
            validator: Validator::new(self.limits.json_depth),
        };
        for &index in &self.json {
            if let (Some(field), Some(array)) = (self.schema.fields().get(index), batch.columns().get(index)) {
                check.column = field.name();
                check.visit(field, array, (0..array.len()).map(Some).collect());
            }
        }
        check.bad.into_result(first_row)
    }
}

fn recast(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    cast_with_options(array, field.data_type(), &STRICT).map_err(|error| {
        let (name, data_type) = (field.name(), type_shown(array.data_type()));
        Error::invalid(format!("column {name:?}: a value of {data_type} cannot be stored: {error}"))
    })
}

fn importable_field(field: &FieldRef) -> Result<FieldRef, String> {
    let data_type = importable(field.data_type())?;
    Ok(if data_type == *field.data_type() {
        Arc::clone(field)
    } else {
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    })
}

/// The nearest type to `data_type` that DuckDB can import.
fn importable(data_type: &DataType) -> Result<DataType, String> {
    Ok(match data_type {
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => decimal(*precision, *scale)?.unwrap_or_else(|| data_type.clone()),
        DataType::Decimal256(precision, scale) => {
            decimal(*precision, *scale)?.unwrap_or(DataType::Decimal128(*precision, *scale))
        }
        DataType::List(item) => DataType::List(importable_field(item)?),
        DataType::LargeList(item) => DataType::LargeList(importable_field(item)?),
        DataType::ListView(item) => DataType::ListView(importable_field(item)?),
        DataType::LargeListView(item) => DataType::LargeListView(importable_field(item)?),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(importable_field(item)?, *size),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(importable_field).collect::<Result<Fields, _>>()?)
        }
        DataType::Map(entries, sorted) => DataType::Map(importable_field(entries)?, *sorted),
        DataType::Dictionary(keys, values) => DataType::Dictionary(keys.clone(), Box::new(importable(values)?)),
        DataType::RunEndEncoded(ends, values) => DataType::RunEndEncoded(Arc::clone(ends), importable_field(values)?),
        DataType::Union(fields, UnionMode::Sparse) => {
            unchanged(fields)?;
            data_type.clone()
        }
        DataType::Union(_, UnionMode::Dense) => return Err("DuckDB takes sparse unions only".to_owned()),
        other => other.clone(),
    })
}

/// A decimal that DuckDB can name, if it cannot name the given one.
fn decimal(precision: u8, scale: i8) -> Result<Option<DataType>, String> {
    let wider = match u8::try_from(scale) {
        Ok(places) if places <= precision => None,
        Ok(places) => Some((places, scale)),
        Err(_) => Some((precision.saturating_add(scale.unsigned_abs()), 0)),
    };
    let (digits, scale) = wider.unwrap_or((precision, scale));
    if digits > DIGITS_MAX {
        return Err(format!("DuckDB's decimals have {DIGITS_MAX} digits at most"));
    }
    Ok(wider.map(|_| DataType::Decimal128(digits, scale)))
}

/// Arrow casts no unions, so their members must fit as they are.
fn unchanged(fields: &UnionFields) -> Result<(), String> {
    for (_, field) in fields.iter() {
        if importable(field.data_type())? != *field.data_type() {
            return Err(format!("its member {:?} cannot be {}", field.name(), type_shown(field.data_type())));
        }
    }
    Ok(())
}

/// Whether `field`, or one inside it, is tagged as JSON; refuses tags where DuckDB would not look for them.
fn holds_json(field: &Field) -> Result<bool, String> {
    if field.extension_type_name() == Some(JSON_EXTENSION) {
        return match field.data_type().is_string() {
            true => Ok(true),
            false => Err(format!("{JSON_EXTENSION} is for strings")),
        };
    }
    let any = |fields: &Fields| -> Result<bool, String> {
        fields.iter().try_fold(false, |found, field| Ok(found | holds_json(field)?))
    };
    match field.data_type() {
        DataType::Struct(fields) => any(fields),
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => holds_json(inner),
        DataType::RunEndEncoded(_, inner) if holds_json(inner)? => Err(format!("{JSON_EXTENSION} inside of runs")),
        DataType::Union(fields, _) => {
            match fields.iter().map(|(_, field)| holds_json(field)).collect::<Result<Vec<_>, _>>()? {
                found if found.contains(&true) => Err(format!("{JSON_EXTENSION} inside of a union")),
                _ => Ok(false),
            }
        }
        DataType::Dictionary(_, values) => holds_json(&Field::new("", values.as_ref().clone(), true)),
        _ => Ok(false),
    }
}

/// Validates the JSON of one batch, column after column.
struct Check<'a> {
    bad: BadRows,
    column: &'a str,
    validator: Validator,
}

impl Check<'_> {
    /// Validates what is tagged in `array`. `owners` tells the row of the batch that each value belongs to: values
    /// without one (under a null, or outside of every list) are nobody's, and may be anything.
    fn visit(&mut self, field: &Field, array: &ArrayRef, owners: Vec<Option<usize>>) {
        let owners: Vec<Option<usize>> = match array.logical_nulls() {
            Some(nulls) => owners.into_iter().zip(&nulls).map(|(owner, valid)| owner.filter(|_| valid)).collect(),
            None => owners,
        };
        match field.data_type() {
            DataType::Struct(fields) => {
                for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                    self.visit(field, column, owners.clone());
                }
            }
            DataType::List(item) => self.visit_list(item, array.as_list::<i32>(), &owners),
            DataType::LargeList(item) => self.visit_list(item, array.as_list::<i64>(), &owners),
            DataType::ListView(item) => self.visit_list(item, array.as_list_view::<i32>(), &owners),
            DataType::LargeListView(item) => self.visit_list(item, array.as_list_view::<i64>(), &owners),
            DataType::FixedSizeList(item, _) => self.visit_list(item, array.as_fixed_size_list(), &owners),
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let all: ArrayRef = Arc::new(map.entries().clone());
                let ranges = map.offsets().windows(2).map(|pair| {
                    let index = |at: usize| pair.get(at).and_then(|&at| usize::try_from(at).ok()).unwrap_or_default();
                    index(0)..index(1)
                });
                let inner = spread(all.len(), ranges, &owners);
                self.visit(entries, &all, inner);
            }
            _ => self.check_texts(field, array, &owners),
        }
    }

    fn visit_list(&mut self, item: &Field, list: &impl ListLikeArray, owners: &[Option<usize>]) {
        let ranges = (0..list.len()).map(|row| list.element_range(row));
        let inner = spread(list.values().len(), ranges, owners);
        self.visit(item, list.values(), inner);
    }

    fn check_texts(&mut self, field: &Field, array: &ArrayRef, owners: &[Option<usize>]) {
        if field.extension_type_name() != Some(JSON_EXTENSION) {
            return;
        }
        let text = |row| match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value(row),
            DataType::LargeUtf8 => array.as_string::<i64>().value(row),
            _ => array.as_string_view().value(row),
        };
        for (row, owner) in owners.iter().enumerate() {
            if let Some(owner) = *owner
                && let Err(malformed) = self.validator.check(text(row))
            {
                self.bad.add(owner, self.column, || malformed.to_string());
            }
        }
    }
}

/// The owners of the `len` items of lists, of which each has a range of them.
fn spread(
    len: usize,
    ranges: impl Iterator<Item = std::ops::Range<usize>>,
    owners: &[Option<usize>],
) -> Vec<Option<usize>> {
    let mut inner = vec![None; len];
    for (range, owner) in ranges.zip(owners) {
        if let (Some(items), Some(_)) = (inner.get_mut(range), owner) {
            items.fill(*owner);
        }
    }
    inner
}
