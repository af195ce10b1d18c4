//! Batches for tables of kind `table`: as they came, but for what DuckDB's Arrow importer cannot take.
//!
//! Float16 becomes Float32. Decimals that DuckDB cannot name (256 bits, a negative scale, a scale above the precision)
//! become Decimal128 of the same values, if that can hold them. Runs and nested dictionaries, which DuckDB's importer reads
//! wrongly, are written out. Text tagged `arrow.json` becomes a JSON column without a check by DuckDB, so it is validated
//! here. All of it inside nested types too; what needs nothing is not copied.

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
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Self { incoming, schema, casts, json, limits })
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
        if !self.casts.contains(&true) {
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
        // DuckDB takes the keys for the values of a dictionary inside of some nested types, and runs of decimals are a fatal
        // error in it.
        DataType::Dictionary(_, values) => written_out(importable(values)?),
        DataType::RunEndEncoded(_, values) => written_out(importable(values.data_type())?),
        // DuckDB reads its days and milliseconds as one number.
        DataType::Interval(IntervalUnit::DayTime) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Union(fields, UnionMode::Sparse) => {
            unchanged(fields)?;
            data_type.clone()
        }
        DataType::Union(_, UnionMode::Dense) => return Err("DuckDB takes sparse unions only".to_owned()),
        other => other.clone(),
    })
}

/// The same for a whole column, which may be a dictionary of what DuckDB's importer reads with no type of its own.
fn importable_column(field: &FieldRef) -> Result<FieldRef, String> {
    let DataType::Dictionary(keys, values) = field.data_type() else { return importable_field(field) };
    let values = importable(values)?;
    if values.is_nested() || values.is_decimal() || values.is_temporal() || values == DataType::Null {
        return Ok(Arc::new(field.as_ref().clone().with_data_type(values)));
    }
    let dictionary = DataType::Dictionary(keys.clone(), Box::new(values));
    Ok(Arc::new(field.as_ref().clone().with_data_type(dictionary)))
}

/// The type of values without their encoding. As views, a small message cannot unfold into a huge buffer.
fn written_out(values: DataType) -> DataType {
    match values {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        other => other,
    }
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
        check(dictionary(&halves), &dictionary(&floats));
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
