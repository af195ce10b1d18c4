//! Types out: the arrays that DuckDB exports become what clients of any language read.
//!
//! DuckDB's default export shows some types by their storage (BIT), by another type's (UHUGEINT is a decimal whose highest bit
//! is a sign) or as types of its own that no client knows (BIGNUM, VARIANT). All of them become text, and an ENUM its words,
//! at any depth. A result with a TIMETZ comes without loss (`arrays.cpp`), which names each type in the schema; what that does to
//! the other types is undone here.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    UnionArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, UnionFields};
use duckdb_neo::arrow::ArrowArray;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};

use super::{EXTENSION_METADATA, EXTENSION_NAME, annotate, is_json, members, text};
use crate::engine::ffi;
use crate::engine::session::Extensions;
use crate::error::{Error, Result};

/// How the batches of one result become what clients get.
#[derive(Debug)]
pub(in crate::engine) struct Export {
    raw: SchemaRef,
    schema: SchemaRef,
    columns: Vec<Step>,
    /// Whether a column needs anything.
    converts: bool,
}

/// What is done to an array.
#[derive(Clone, Debug)]
enum Step {
    Keep,
    /// Arrow's own cast, to this type.
    Cast(DataType),
    /// A conversion of ours.
    With(fn(&ArrayRef) -> Result<ArrayRef>),
    /// The children of a nested type.
    Inside(DataType, Vec<Step>),
}

impl Export {
    /// The conversion for a result with columns of these types, and the schema that DuckDB exports them with.
    pub(in crate::engine) fn new(types: &[LogicalType], raw: SchemaRef, extensions: Extensions) -> Result<Self> {
        debug_assert_eq!(types.len(), raw.fields().len());
        let mut fields = Vec::with_capacity(raw.fields().len());
        let mut columns = Vec::with_capacity(raw.fields().len());
        for (index, field) in raw.fields().iter().enumerate() {
            let (field, step) = plan(types.get(index), field, extensions)?;
            fields.push(field);
            columns.push(step);
        }
        let converts = columns.iter().any(|step| !matches!(step, Step::Keep));
        let schema = annotate(&Schema::new(fields), types)?;
        Ok(Self { raw, schema, columns, converts })
    }

    /// The columns that clients get.
    pub(in crate::engine) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Converts one batch of the result; where nothing has to be done, it has the arrays that DuckDB made.
    pub(in crate::engine) fn batch(&self, array: ArrowArray) -> Result<RecordBatch> {
        let batch = ffi::batch_from(array, &self.raw)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let (_, mut arrays, _) = batch.into_parts();
        if self.converts {
            for (array, step) in arrays.iter_mut().zip(&self.columns) {
                *array = apply(step, array)?;
            }
        }
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| Error::internal("a batch differs from its schema").with_source(error))
    }
}

/// A DuckDB type that is not exported as clients get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    Boolean,
    HugeInt,
    UHugeInt,
    Bit,
    TimeTz,
    BigNum,
    Variant,
    Uuid,
    Json,
}

/// The special type of a field, as its extension type says, or the bound type where that fits the storage.
fn special(logical: Option<&LogicalType>, field: &Field) -> Option<Special> {
    match field.extension_type_name() {
        Some("arrow.bool8") => return Some(Special::Boolean),
        Some("arrow.uuid") => return Some(Special::Uuid),
        Some("arrow.json") => return Some(Special::Json),
        Some("arrow.parquet.variant") => return Some(Special::Variant),
        Some("arrow.opaque") => {
            let metadata: serde_json::Value = serde_json::from_str(field.extension_type_metadata()?).ok()?;
            return match metadata.get("type_name")?.as_str()? {
                "hugeint" => Some(Special::HugeInt),
                "uhugeint" => Some(Special::UHugeInt),
                "bit" => Some(Special::Bit),
                "time_tz" => Some(Special::TimeTz),
                "bignum" => Some(Special::BigNum),
                _ => None,
            };
        }
        _ => {}
    }
    match (logical?.id().ok()?, field.data_type()) {
        (LogicalTypeID::HugeInt, DataType::Decimal128(38, 0)) => Some(Special::HugeInt),
        (LogicalTypeID::UHugeInt, DataType::Decimal128(38, 0)) => Some(Special::UHugeInt),
        (LogicalTypeID::Bit, DataType::Binary) => Some(Special::Bit),
        (LogicalTypeID::Uuid, DataType::Utf8) => Some(Special::Uuid),
        (LogicalTypeID::Varchar, DataType::Utf8) => is_json(logical?).then_some(Special::Json),
        _ => None,
    }
}

/// The field that clients get for `raw`, and how its arrays are converted.
fn plan(logical: Option<&LogicalType>, raw: &FieldRef, extensions: Extensions) -> Result<(FieldRef, Step)> {
    let Some(special) = special(logical, raw) else {
        let step = by_storage(logical, raw.data_type(), extensions)?;
        let field = match &step {
            Step::Cast(to) | Step::Inside(to, _) => Arc::new(raw.as_ref().clone().with_data_type(to.clone())),
            Step::Keep | Step::With(_) => Arc::clone(raw),
        };
        return Ok((field, step));
    };
    let extension = |name: &str| Some((name.to_owned(), String::new()));
    let (data_type, step, extension) = match special {
        Special::Boolean => (DataType::Boolean, Step::Cast(DataType::Boolean), None),
        Special::HugeInt => (DataType::Decimal128(38, 0), Step::With(text::hugeints), None),
        Special::UHugeInt => (DataType::Utf8, Step::With(text::uhugeints), None),
        Special::Bit => (DataType::Utf8, Step::With(text::bits), None),
        Special::TimeTz => (DataType::Utf8, Step::With(text::times), None),
        Special::BigNum => (DataType::Utf8, Step::With(text::bignums), None),
        Special::Variant => (DataType::Utf8, Step::With(text::variants), None),
        Special::Uuid if extensions.uuid => {
            (DataType::FixedSizeBinary(16), Step::With(text::uuid_bytes), extension("arrow.uuid"))
        }
        Special::Uuid => (DataType::Utf8, Step::With(text::uuid_texts), None),
        Special::Json if extensions.json => (DataType::Utf8, Step::Keep, extension("arrow.json")),
        Special::Json => (DataType::Utf8, Step::Keep, None),
    };
    let step = if matches!(special, Special::Uuid) && data_type == *raw.data_type() { Step::Keep } else { step };
    let mut metadata = raw.metadata().clone();
    metadata.remove(EXTENSION_NAME);
    metadata.remove(EXTENSION_METADATA);
    if let Some((name, text)) = extension {
        metadata.insert(EXTENSION_NAME.to_owned(), name);
        metadata.insert(EXTENSION_METADATA.to_owned(), text);
    }
    Ok((Arc::new(raw.as_ref().clone().with_data_type(data_type).with_metadata(metadata)), step))
}

/// The conversion of arrays of a type that is not special itself.
fn by_storage(logical: Option<&LogicalType>, data_type: &DataType, extensions: Extensions) -> Result<Step> {
    let inside = logical.and_then(|logical| members(logical).ok()).unwrap_or_default();
    let child = |at: usize, field: &FieldRef| plan(inside.get(at).map(|(_, member)| member), field, extensions);
    let (to, steps) = match data_type {
        DataType::Dictionary(_, values) => return Ok(Step::Cast(values.as_ref().clone())),
        DataType::Timestamp(unit, Some(zone)) if zone.as_ref() != super::zone_name(zone) => {
            return Ok(Step::Cast(DataType::Timestamp(*unit, Some(super::zone_name(zone).into()))));
        }
        DataType::List(item) => {
            let (item, step) = child(0, item)?;
            (DataType::List(item), vec![step])
        }
        DataType::FixedSizeList(item, size) => {
            let (item, step) = child(0, item)?;
            (DataType::FixedSizeList(item, *size), vec![step])
        }
        DataType::Struct(fields) => {
            let (fields, steps) = all(fields.iter().enumerate().map(|(at, field)| child(at, field)))?;
            (DataType::Struct(Fields::from(fields)), steps)
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return Ok(Step::Keep) };
            let (pair, steps) = all(pair.iter().enumerate().map(|(at, field)| child(at, field)))?;
            let entries = entries.as_ref().clone().with_data_type(DataType::Struct(Fields::from(pair)));
            (DataType::Map(Arc::new(entries), *sorted), steps)
        }
        DataType::Union(fields, mode) => {
            let ids: Vec<i8> = fields.iter().map(|(id, _)| id).collect();
            let (fields, steps) = all(fields.iter().enumerate().map(|(at, (_, field))| child(at, field)))?;
            (DataType::Union(UnionFields::try_new(ids, fields)?, *mode), steps)
        }
        _ => return Ok(Step::Keep),
    };
    let is_kept = to == *data_type && steps.iter().all(|step| matches!(step, Step::Keep));
    Ok(if is_kept { Step::Keep } else { Step::Inside(to, steps) })
}

fn all(planned: impl Iterator<Item = Result<(FieldRef, Step)>>) -> Result<(Vec<FieldRef>, Vec<Step>)> {
    planned.collect::<Result<Vec<_>>>().map(|planned| planned.into_iter().unzip())
}

fn apply(step: &Step, array: &ArrayRef) -> Result<ArrayRef> {
    match step {
        Step::Keep => Ok(Arc::clone(array)),
        Step::Cast(to) => Ok(cast(array, to)?),
        Step::With(convert) => convert(array),
        Step::Inside(to, steps) => inside(to, steps, array),
    }
}

fn inside(to: &DataType, steps: &[Step], array: &ArrayRef) -> Result<ArrayRef> {
    let differs = || Error::internal(format!("DuckDB gave {} where its schema says {to}", array.data_type()));
    let first = |child: &ArrayRef| steps.first().ok_or_else(differs).and_then(|step| apply(step, child));
    let each = |children: &[ArrayRef]| {
        steps.iter().zip(children).map(|(step, child)| apply(step, child)).collect::<Result<Vec<_>>>()
    };
    Ok(match to {
        DataType::List(item) => {
            let lists = array.as_list_opt::<i32>().ok_or_else(differs)?;
            let values = first(lists.values())?;
            Arc::new(ListArray::try_new(Arc::clone(item), lists.offsets().clone(), values, lists.nulls().cloned())?)
        }
        DataType::FixedSizeList(item, size) => {
            let lists = array.as_fixed_size_list_opt().ok_or_else(differs)?;
            let values = first(lists.values())?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *size, values, lists.nulls().cloned())?)
        }
        DataType::Struct(fields) => {
            let structs = array.as_struct_opt().ok_or_else(differs)?;
            let columns = each(structs.columns())?;
            let (len, nulls) = (structs.len(), structs.nulls().cloned());
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, len)?)
        }
        DataType::Map(entries, sorted) => {
            let maps = array.as_map_opt().ok_or_else(differs)?;
            let DataType::Struct(pair) = entries.data_type() else { return Err(differs()) };
            let pairs = StructArray::try_new(pair.clone(), each(maps.entries().columns())?, None)?;
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?)
        }
        DataType::Union(fields, _) => {
            let unions = array.as_union_opt().ok_or_else(differs)?;
            let children: Vec<ArrayRef> = fields.iter().map(|(id, _)| Arc::clone(unions.child(id))).collect();
            let (ids, offsets) = (unions.type_ids().clone(), unions.offsets().cloned());
            Arc::new(UnionArray::try_new(fields.clone(), ids, offsets, each(&children)?)?)
        }
        _ => return Err(differs()),
    })
}
