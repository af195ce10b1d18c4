//! Rows of any Arrow type as JSON text.
//!
//! A null field of a struct is left out: every row of a struct has every field, so null is how a missing property
//! looks. A null in a list or a map was put there, and stays `null`. NaN and the infinities are not in JSON: a bad row,
//! never a silent null. Times are ISO 8601 text (with `Z` if the type has a zone), binary is base64, decimals are
//! numbers with all their digits, and text tagged `arrow.json` goes in as the JSON that it is. (The encoder of
//! arrow-json writes NaN as null, binary as hex, errors as text, and trips over null dictionary values.)

use std::fmt::Display;

use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, ListLikeArray, downcast_integer, downcast_run_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::instant;
use super::json::Validator;

/// The extension name of text that is JSON.
pub(super) const JSON_EXTENSION: &str = "arrow.json";

const FORMAT: FormatOptions<'static> = FormatOptions::new();

/// Writes one row, or says why JSON cannot hold it.
type WriteRow<'a> = Box<dyn FnMut(usize, &mut Vec<u8>) -> Result<(), String> + 'a>;

/// Writes the rows of one array.
pub(super) struct Encoder<'a> {
    nulls: Option<NullBuffer>,
    write: WriteRow<'a>,
}

/// What a `Field` of this type needs to be written as JSON, with `depth_max` levels left; says what cannot be.
pub(super) fn check_type(field: &Field, depth_max: usize) -> Result<(), String> {
    let inner = |field: &Field| match depth_max.checked_sub(1) {
        Some(depth_max) => check_type(field, depth_max),
        None => Err("it is nested too deeply".to_owned()),
    };
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().try_for_each(|field| inner(field)),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => inner(item),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key = super::flat::unpacked_type(fields[0].data_type());
                if !key.is_string() && !key.is_integer() {
                    return Err(format!("keys of a map must be strings or integers, not {key}"));
                }
                fields.iter().try_for_each(|field| inner(field))
            }
            other => Err(format!("the entries of a map cannot be {other}")),
        },
        DataType::Dictionary(_, values) => check_type(&Field::new("", values.as_ref().clone(), true), depth_max),
        DataType::RunEndEncoded(_, values) => check_type(values, depth_max),
        DataType::Union(_, _) => Err("a union has no form in JSON".to_owned()),
        _ => Ok(()),
    }
}

impl<'a> Encoder<'a> {
    /// An encoder of `array`, the values of `field`, whose type has passed [`check_type`].
    pub(super) fn new(field: &Field, array: &'a dyn Array, depth_max: usize) -> Result<Self, ArrowError> {
        Ok(Self { nulls: array.logical_nulls(), write: write_row(field, array, depth_max)? })
    }

    /// Whether `row` is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends `row` to `out`; on an error `out` holds a part of it.
    pub(super) fn write(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.is_null(row) {
            return null(out);
        }
        (self.write)(row, out)
    }
}

fn write_row<'a>(field: &Field, array: &'a dyn Array, depth_max: usize) -> Result<WriteRow<'a>, ArrowError> {
    macro_rules! integers {
        ($integer:ty) => {{
            let values = array.as_primitive::<$integer>().values();
            Box::new(move |row, out| json(&values[row], out))
        }};
    }
    Ok(downcast_integer! {
        array.data_type() => (integers),
        DataType::Null => Box::new(|_, out| null(out)),
        DataType::Boolean => {
            let values = array.as_boolean();
            Box::new(move |row, out| json(&values.value(row), out))
        }
        DataType::Float16 => {
            let values = array.as_primitive::<Float16Type>().values();
            Box::new(move |row, out| float(values[row].to_f32(), values[row].is_finite(), out))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            Box::new(move |row, out| float(values[row], values[row].is_finite(), out))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            Box::new(move |row, out| float(values[row], values[row].is_finite(), out))
        }
        DataType::Utf8 => text(field, array.as_string::<i32>(), depth_max),
        DataType::LargeUtf8 => text(field, array.as_string::<i64>(), depth_max),
        DataType::Utf8View => text(field, array.as_string_view(), depth_max),
        DataType::Binary => binary(array.as_binary::<i32>()),
        DataType::LargeBinary => binary(array.as_binary::<i64>()),
        DataType::BinaryView => binary(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => binary(array.as_fixed_size_binary()),
        DataType::Timestamp(_, _) => timestamp(array)?,
        DataType::Decimal32(_, _) | DataType::Decimal64(_, _) | DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => {
            formatted(array, "")?
        }
        DataType::Struct(_) => object(array, depth_max)?,
        DataType::Map(_, _) => map(array, depth_max)?,
        DataType::List(item) => list(item, array.as_list::<i32>(), depth_max)?,
        DataType::LargeList(item) => list(item, array.as_list::<i64>(), depth_max)?,
        DataType::ListView(item) => list(item, array.as_list_view::<i32>(), depth_max)?,
        DataType::LargeListView(item) => list(item, array.as_list_view::<i64>(), depth_max)?,
        DataType::FixedSizeList(item, _) => list(item, array.as_fixed_size_list(), depth_max)?,
        DataType::Dictionary(_, _) => dictionary(field, array, depth_max)?,
        DataType::RunEndEncoded(_, values) => runs(values, array, depth_max)?,
        temporal if temporal.is_temporal() => formatted(array, "\"")?,
        other => return Err(ArrowError::JsonError(format!("{other} has no form in JSON"))),
    })
}

/// Appends `value`; what is passed here always has a JSON form, so this does not fail.
fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, value).map_err(|error| error.to_string())
}

fn null(out: &mut Vec<u8>) -> Result<(), String> {
    json(&(), out)
}

fn float(value: impl Serialize + Display, is_finite: bool, out: &mut Vec<u8>) -> Result<(), String> {
    if !is_finite {
        return Err(format!("JSON has no {value}"));
    }
    json(&value, out)
}

fn text<'a>(field: &Field, values: impl ArrayAccessor<Item = &'a str> + 'a, depth_max: usize) -> WriteRow<'a> {
    if field.extension_type_name() != Some(JSON_EXTENSION) {
        return Box::new(move |row, out| json(values.value(row), out));
    }
    let mut validator = Validator::new(depth_max);
    Box::new(move |row, out| {
        let text = values.value(row);
        validator.check(text).map_err(|malformed| malformed.to_string())?;
        out.extend_from_slice(text.as_bytes());
        Ok(())
    })
}

fn binary<'a>(values: impl ArrayAccessor<Item = &'a [u8]> + 'a) -> WriteRow<'a> {
    let mut scratch = String::new();
    Box::new(move |row, out| {
        scratch.clear();
        STANDARD.encode_string(values.value(row), &mut scratch);
        json(&scratch, out)
    })
}

fn timestamp(array: &dyn Array) -> Result<WriteRow<'_>, ArrowError> {
    let (ticks, unit, zone) = instant::ticks(array)?;
    Ok(Box::new(move |row, out| match instant::civil(ticks[row], unit) {
        Some(time) => json(&format_args!("{time}{zone}"), out),
        None => Err(format!("{} as a time is out of range", ticks[row])),
    }))
}

/// Rows as arrow prints them, between `quote`s: numbers, or text without anything to escape.
fn formatted<'a>(array: &'a dyn Array, quote: &'static str) -> Result<WriteRow<'a>, ArrowError> {
    let formatter = ArrayFormatter::try_new(array, &FORMAT)?;
    let mut scratch = String::new();
    Ok(Box::new(move |row, out| {
        scratch.clear();
        formatter.value(row).write(&mut scratch).map_err(|error| error.to_string())?;
        for part in [quote, &scratch, quote] {
            out.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }))
}

fn object(array: &dyn Array, depth_max: usize) -> Result<WriteRow<'_>, ArrowError> {
    let array = array.as_struct();
    let mut fields = Vec::with_capacity(array.num_columns());
    for (field, column) in array.fields().iter().zip(array.columns()) {
        fields.push((key(field.name()), Encoder::new(field, column, depth_max.saturating_sub(1))?));
    }
    Ok(Box::new(move |row, out| {
        let mut opening = b'{';
        for (key, values) in &mut fields {
            if !values.is_null(row) {
                out.push(opening);
                opening = b',';
                out.extend_from_slice(key);
                values.write(row, out)?;
            }
        }
        out.extend_from_slice(if opening == b'{' { b"{}" } else { b"}" });
        Ok(())
    }))
}

/// `name` as the key of a JSON object, with its colon.
pub(super) fn key(name: &str) -> Vec<u8> {
    format!("{}:", serde_json::Value::from(name)).into_bytes()
}

fn map(array: &dyn Array, depth_max: usize) -> Result<WriteRow<'_>, ArrowError> {
    let array = array.as_map();
    let (key_field, value_field) = array.entries_fields();
    let depth_max = depth_max.saturating_sub(1);
    // Without the metadata: a key is a string, even if its text is JSON.
    let key_field = Field::new("key", key_field.data_type().clone(), false);
    let mut keys = Encoder::new(&key_field, array.keys(), depth_max)?;
    let mut values = Encoder::new(value_field, array.values(), depth_max)?;
    let quoted = !super::flat::unpacked_type(key_field.data_type()).is_string();
    let offsets = array.offsets();
    Ok(Box::new(move |row, out| {
        let mut opening = b'{';
        for entry in span(offsets[row])..span(offsets[row + 1]) {
            if keys.is_null(entry) {
                return Err("a key of a map must not be null".to_owned());
            }
            out.push(opening);
            opening = b',';
            let quote: &[u8] = if quoted { b"\"" } else { b"" };
            out.extend_from_slice(quote);
            keys.write(entry, out)?;
            out.extend_from_slice(quote);
            out.push(b':');
            values.write(entry, out)?;
        }
        out.extend_from_slice(if opening == b'{' { b"{}" } else { b"}" });
        Ok(())
    }))
}

/// An offset as an index; arrow guarantees that it is not negative.
fn span(offset: i32) -> usize {
    usize::try_from(offset).unwrap_or_default()
}

fn list<'a>(item: &Field, array: &'a impl ListLikeArray, depth_max: usize) -> Result<WriteRow<'a>, ArrowError> {
    let mut items = Encoder::new(item, array.values(), depth_max.saturating_sub(1))?;
    Ok(Box::new(move |row, out| {
        let mut opening = b'[';
        for index in array.element_range(row) {
            out.push(opening);
            opening = b',';
            items.write(index, out)?;
        }
        out.extend_from_slice(if opening == b'[' { b"[]" } else { b"]" });
        Ok(())
    }))
}

fn dictionary<'a>(field: &Field, array: &'a dyn Array, depth_max: usize) -> Result<WriteRow<'a>, ArrowError> {
    let dictionary = array.as_any_dictionary();
    let values: &'a ArrayRef = dictionary.values();
    if values.is_empty() {
        return Ok(Box::new(|_, out| null(out)));
    }
    let field = field.clone().with_data_type(values.data_type().clone());
    let mut values = Encoder::new(&field, values, depth_max)?;
    let keys = dictionary.normalized_keys();
    Ok(Box::new(move |row, out| values.write(keys[row], out)))
}

fn runs<'a>(field: &Field, array: &'a dyn Array, depth_max: usize) -> Result<WriteRow<'a>, ArrowError> {
    downcast_run_array! {
        array => {
            let mut values = Encoder::new(field, array.values(), depth_max)?;
            Ok(Box::new(move |row, out| values.write(array.get_physical_index(row), out)))
        },
        other => Err(ArrowError::JsonError(format!("{other} has no runs")))
    }
}
