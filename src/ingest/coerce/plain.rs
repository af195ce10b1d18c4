//! Batches for tables of kind `table`: as they came, but for what DuckDB's Arrow importer cannot take.
//!
//! Float16 becomes Float32. Decimals that DuckDB cannot name (256 bits, a negative scale, a scale above the precision)
//! become Decimal128 of the same values, if that can hold them; a type of more than 38 digits is refused, not made text.
//! DuckDB 2.0 reads intervals of days and milliseconds as another number, and dictionaries and runs inside of other types
//! as other values, or not at all, which ends its instance: they are unpacked, but for a column that is a dictionary of
//! text. Text tagged `arrow.json` becomes a JSON column without a check by DuckDB, so it is validated here. All of it
//! inside nested types too; what needs nothing is not copied.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, PrimitiveArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Field, FieldRef, Fields,
    IntervalUnit, Schema, SchemaRef, UnionFields, UnionMode,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;

use super::report::{BadRows, shown};
use super::tagged::{check_json, holds_json};
use super::{Limits, check_types, type_shown, types, unexpected};
use crate::error::{Error, Result};

/// The digits that DuckDB's DECIMAL holds.
const DIGITS_MAX: u8 = 38;

/// An error instead of a null for a value that does not fit.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// The plan by which the batches of one stream become what DuckDB can import.
#[derive(Debug)]
pub struct Plain {
    /// The types of the stream's columns.
    incoming: Vec<DataType>,
    schema: SchemaRef,
    /// For each column, whether it has another type in the stream.
    casts: Vec<bool>,
    /// No column has another type or tag.
    unchanged: bool,
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
            let importable = importable_column(field).and_then(|importable| {
                if holds_json(field)? {
                    json.push(index);
                }
                Ok(importable)
            });
            let importable = importable.map_err(|reason| {
                let (name, data_type) = (shown(field.name()), type_shown(field.data_type()));
                Error::invalid(format!("column {name} cannot be {data_type}: {reason}"))
            })?;
            casts.push(importable.data_type() != field.data_type());
            fields.push(importable);
        }
        let incoming = types(schema);
        let fields = Fields::from(fields);
        let unchanged = fields == *schema.fields();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Self { incoming, schema, casts, unchanged, json, limits })
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
        check_types(batch, &self.incoming)?;
        let mut bad = BadRows::new(batch.num_rows());
        for &index in &self.json {
            if let (Some(field), Some(array)) = (self.schema.fields().get(index), batch.columns().get(index)) {
                check_json(field, array, &self.limits, &mut bad);
            }
        }
        bad.into_result(first_row)?;
        if self.unchanged {
            return Ok(batch.clone());
        }
        let mut arrays = Vec::with_capacity(batch.num_columns());
        for ((array, field), cast) in batch.columns().iter().zip(self.schema.fields()).zip(&self.casts) {
            arrays.push(if *cast { recast(array, field)? } else { Arc::clone(array) });
        }
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(unexpected)
    }
}

fn recast(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    check_decimals(&array.to_data()).and_then(|()| cast_with_options(array, field.data_type(), &STRICT)).map_err(
        |error| {
            let (name, data_type) = (shown(field.name()), type_shown(array.data_type()));
            Error::invalid(format!("column {name}: a value of {data_type} cannot be stored: {error}"))
        },
    )
}

/// Nothing has compared the values of decimals with their precision yet, and the cast trusts it, to the point of panic.
fn check_decimals(data: &ArrayData) -> Result<(), ArrowError> {
    fn check<T: DecimalType>(data: &ArrayData, digits: u8, scale: i8) -> Result<(), ArrowError> {
        let values = PrimitiveArray::<T>::from(data.clone());
        values.iter().flatten().try_for_each(|value| T::validate_decimal_precision(value, digits, scale))
    }
    match data.data_type() {
        DataType::Decimal32(digits, scale) => check::<Decimal32Type>(data, *digits, *scale),
        DataType::Decimal64(digits, scale) => check::<Decimal64Type>(data, *digits, *scale),
        DataType::Decimal128(digits, scale) => check::<Decimal128Type>(data, *digits, *scale),
        DataType::Decimal256(digits, scale) => check::<Decimal256Type>(data, *digits, *scale),
        _ => data.child_data().iter().try_for_each(check_decimals),
    }
}

/// The nearest field to a whole column. DuckDB reads a dictionary of text well there, and text once instead of many times.
fn importable_column(field: &FieldRef) -> Result<FieldRef, String> {
    match field.data_type() {
        DataType::Dictionary(_, values) if values.is_string() => Ok(trusted(field)),
        _ => importable_field(field),
    }
}

/// The field without a tag by which DuckDB would take any bytes for values of its own types: some that are none end its
/// instance, or are read beyond their end. The bytes are stored as bytes. Of integers of 128 bits none is wrong.
fn trusted(field: &FieldRef) -> FieldRef {
    const OPAQUE: &str = "arrow.opaque";
    const TAGS: [&str; 2] = ["ARROW:extension:name", "ARROW:extension:metadata"];
    if field.extension_type_name() != Some(OPAQUE) {
        return Arc::clone(field);
    }
    let opaque = field.extension_type_metadata().map(serde_json::from_str::<serde_json::Value>).and_then(Result::ok);
    let name = opaque.as_ref().and_then(|opaque| opaque.get("type_name")).and_then(serde_json::Value::as_str);
    if matches!(name, Some("hugeint" | "uhugeint")) && *field.data_type() == DataType::FixedSizeBinary(16) {
        return Arc::clone(field);
    }
    let mut metadata = field.metadata().clone();
    metadata.retain(|key, _| !TAGS.contains(&key.as_str()));
    Arc::new(field.as_ref().clone().with_metadata(metadata))
}

fn importable_field(field: &FieldRef) -> Result<FieldRef, String> {
    let field = &trusted(field);
    check_storage(field)?;
    let data_type = importable(field.data_type())?;
    if data_type == *field.data_type() {
        return Ok(Arc::clone(field));
    }
    // The nulls of these are in their values, so that a column of them may say that it has none.
    let hides_nulls = matches!(field.data_type(), DataType::Dictionary(..) | DataType::RunEndEncoded(..));
    let nullable = field.is_nullable() || hides_nulls;
    Ok(Arc::new(field.as_ref().clone().with_data_type(data_type).with_nullable(nullable)))
}

/// DuckDB believes the name of an extension type, whatever is stored under it.
fn check_storage(field: &Field) -> Result<(), String> {
    let (name, fits) = match (field.extension_type_name(), field.data_type()) {
        (Some(name @ "arrow.uuid"), storage) => (name, *storage == DataType::FixedSizeBinary(16)),
        (Some(name @ "arrow.bool8"), storage) => (name, *storage == DataType::Int8),
        _ => return Ok(()),
    };
    if fits { Ok(()) } else { Err(format!("{name} is stored otherwise")) }
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
        DataType::Map(entries, sorted) => {
            let mut fields: Vec<FieldRef> = match importable(entries.data_type())? {
                DataType::Struct(fields) => fields.iter().cloned().collect(),
                _ => Vec::new(),
            };
            // A key is never null, wherever its nulls would be.
            if let (Some(key), DataType::Struct(before)) = (fields.first_mut(), entries.data_type())
                && let Some(before) = before.first()
            {
                *key = Arc::new(key.as_ref().clone().with_nullable(before.is_nullable()));
            }
            let entries = entries.as_ref().clone().with_data_type(DataType::Struct(fields.into()));
            DataType::Map(Arc::new(entries), *sorted)
        }
        DataType::Dictionary(_, values) => importable(values)?,
        DataType::RunEndEncoded(_, values) => importable_field(values)?.data_type().clone(),
        DataType::Interval(IntervalUnit::DayTime) => DataType::Interval(IntervalUnit::MonthDayNano),
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
        if importable_field(field)? != *field {
            return Err(format!("its member {} cannot be {}", shown(field.name()), type_shown(field.data_type())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        AsArray, Decimal128Array, Decimal256Array, DictionaryArray, FixedSizeListArray, Float32Array, Int8Array,
        Int32Array, ListArray, MapArray, StringArray, StructArray,
    };
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::compute::cast;
    use arrow::datatypes::{Float16Type, i256};

    use super::*;

    fn one(field: Field, array: ArrayRef) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
    }

    fn coerce(batch: &RecordBatch) -> Result<RecordBatch> {
        let plan = Plain::new(&batch.schema(), Limits::default())?;
        let coerced = plan.coerce(batch, 11)?;
        assert_eq!(coerced.schema(), *plan.schema());
        Ok(coerced)
    }

    /// The array becomes `expected`; its slices do too.
    fn check(array: ArrayRef, expected: &ArrayRef) {
        let field = Field::new("c", array.data_type().clone(), true);
        let batch = one(field, array);
        assert_eq!(coerce(&batch).unwrap().column(0), expected);
        let rows = batch.num_rows() - 1;
        assert_eq!(coerce(&batch.slice(1, rows)).unwrap().column(0), &expected.slice(1, rows));
        assert_eq!(coerce(&batch.slice(0, 0)).unwrap().column(0), &expected.slice(0, 0));
    }

    fn check_refused(data_type: &DataType, reason: &str) {
        let schema = Schema::new(vec![Field::new("c", data_type.clone(), true)]);
        let error = Plain::new(&schema, Limits::default()).unwrap_err();
        assert_eq!(error.message(), format!("column \"c\" cannot be {data_type}: {reason}"));
    }

    #[test]
    fn what_duckdb_takes_is_not_touched() {
        let array: ArrayRef = Arc::new(StringArray::from(vec!["{", "not JSON"]));
        let batch = one(Field::new("c", DataType::Utf8, true), Arc::clone(&array));
        assert!(Arc::ptr_eq(coerce(&batch).unwrap().column(0), &array));
        assert_eq!(coerce(&batch).unwrap().schema(), batch.schema());
    }

    fn halves() -> (ArrayRef, ArrayRef) {
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![Some(0.5), None, Some(-2.0), Some(65_504.0)]));
        let halves = cast(&floats, &DataType::Float16).unwrap();
        assert!(halves.as_primitive_opt::<Float16Type>().is_some());
        (halves, floats)
    }

    #[test]
    fn halves_become_floats_at_any_depth() {
        let (halves, floats) = halves();
        check(Arc::clone(&halves), &floats);
        let structs = |inner: &ArrayRef| -> ArrayRef {
            let fields = Fields::from(vec![
                Field::new("n", DataType::Int32, true),
                Field::new("f", inner.data_type().clone(), true),
            ]);
            let numbers = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
            let nulls = NullBuffer::from(vec![true, true, false, true]);
            Arc::new(StructArray::new(fields, vec![numbers, Arc::clone(inner)], Some(nulls)))
        };
        check(structs(&halves), &structs(&floats));
        let lists = |inner: &ArrayRef| -> ArrayRef {
            let item = Arc::new(Field::new("item", inner.data_type().clone(), true));
            Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 0, 3]), Arc::clone(inner), None))
        };
        check(lists(&structs(&halves)), &lists(&structs(&floats)));
        let pairs = |inner: &ArrayRef| -> ArrayRef {
            let item = Arc::new(Field::new("item", inner.data_type().clone(), true));
            Arc::new(FixedSizeListArray::new(item, 2, Arc::clone(inner), None))
        };
        check(pairs(&halves), &pairs(&floats));
        let maps = |inner: &ArrayRef| -> ArrayRef {
            let keys = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
            let fields = Fields::from(vec![
                Field::new("keys", DataType::Utf8, false),
                Field::new("values", inner.data_type().clone(), true),
            ]);
            let entries = StructArray::new(fields, vec![keys, Arc::clone(inner)], None);
            let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
            Arc::new(MapArray::new(field, OffsetBuffer::from_lengths([3, 1]), entries, None, false))
        };
        check(maps(&halves), &maps(&floats));
        let dictionary = |inner: &ArrayRef| -> ArrayRef {
            Arc::new(DictionaryArray::new(Int8Array::from(vec![Some(3), None, Some(0)]), Arc::clone(inner)))
        };
        check(dictionary(&halves), &cast(&dictionary(&floats), &DataType::Float32).unwrap());
        for views in [DataType::ListView, DataType::LargeListView, DataType::LargeList] {
            let view = |lists: ArrayRef| {
                let DataType::List(item) = lists.data_type().clone() else { panic!("a list") };
                cast(&lists, &views(item)).unwrap()
            };
            check(view(lists(&halves)), &view(lists(&floats)));
        }
    }

    #[test]
    fn decimals_become_what_duckdb_can_name() {
        let wide = Decimal256Array::from(vec![Some(i256::from_i128(-12_345)), None, Some(i256::from_i128(7))]);
        let narrow = Decimal128Array::from(vec![Some(-12_345), None, Some(7)]);
        check(
            Arc::new(wide.with_precision_and_scale(38, 10).unwrap()),
            &(Arc::new(narrow.clone().with_precision_and_scale(38, 10).unwrap()) as ArrayRef),
        );
        let thousands = narrow.with_precision_and_scale(10, -3).unwrap();
        let ones = Decimal128Array::from(vec![Some(-12_345_000), None, Some(7000)]);
        check(Arc::new(thousands), &(Arc::new(ones.with_precision_and_scale(13, 0).unwrap()) as ArrayRef));
        let digits = "DuckDB's decimals have 38 digits at most";
        check_refused(&DataType::Decimal256(39, 2), digits);
        check_refused(&DataType::Decimal128(38, -1), digits);
        assert_eq!(importable(&DataType::Decimal32(3, 5)), Ok(DataType::Decimal128(5, 5)));
        assert_eq!(importable(&DataType::Decimal64(10, 2)), Ok(DataType::Decimal64(10, 2)));
    }

    #[test]
    fn a_value_outside_of_its_decimal_is_refused() {
        let array = Decimal256Array::from(vec![i256::MAX]).with_precision_and_scale(38, 0).unwrap();
        let batch = one(Field::new("c", array.data_type().clone(), true), Arc::new(array));
        let error = coerce(&batch).unwrap_err();
        assert!(error.message().starts_with("column \"c\": a value of Decimal256(38, 0) cannot be stored"), "{error}");
    }

    #[test]
    fn unions_fit_or_are_refused() {
        let union = |data_type, mode| {
            DataType::Union(UnionFields::try_new([0], [Field::new("m", data_type, true)]).unwrap(), mode)
        };
        let sparse = union(DataType::Int8, UnionMode::Sparse);
        assert_eq!(importable(&sparse), Ok(sparse));
        check_refused(&union(DataType::Int8, UnionMode::Dense), "DuckDB takes sparse unions only");
        check_refused(&union(DataType::Float16, UnionMode::Sparse), "its member \"m\" cannot be Float16");
    }
}
