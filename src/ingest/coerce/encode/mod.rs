//! Rows of any Arrow type as JSON text.
//!
//! A null field of a struct is left out: every row of a struct has every field, so null is how a missing property
//! looks. A null in a list or a map was put there, and stays `null`. NaN and the infinities are not in JSON: a bad row,
//! never a silent null. Times are ISO 8601 text (with `Z` if the type has a zone), binary is base64, decimals are
//! numbers with all their digits, and text tagged `arrow.json` goes in as the JSON that it is. (The encoder of
//! arrow-json writes NaN as null, binary as hex, errors as text, and trips over null dictionary values.)

mod instant;
mod nested;

use std::fmt::Display;

use arrow::array::{Array, ArrayAccessor, AsArray, downcast_integer};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::flat::unpacked_type;
use super::json::Validator;
use super::type_shown;

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

/// Checks that values of `field` can be written as JSON in `depth_max` levels of arrays and objects; says why not.
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
                let key = unpacked_type(fields[0].data_type());
                if !key.is_string() && !key.is_integer() {
                    return Err(format!("keys of a map must be strings or integers, not {}", type_shown(&key)));
                }
                fields.iter().try_for_each(|field| inner(field))
            }
            other => Err(format!("the entries of a map cannot be {}", type_shown(other))),
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
        DataType::Struct(_) => nested::object(array, depth_max)?,
        DataType::Map(_, _) => nested::map(array, depth_max)?,
        DataType::List(item) => nested::list(item, array.as_list::<i32>(), depth_max)?,
        DataType::LargeList(item) => nested::list(item, array.as_list::<i64>(), depth_max)?,
        DataType::ListView(item) => nested::list(item, array.as_list_view::<i32>(), depth_max)?,
        DataType::LargeListView(item) => nested::list(item, array.as_list_view::<i64>(), depth_max)?,
        DataType::FixedSizeList(item, _) => nested::list(item, array.as_fixed_size_list(), depth_max)?,
        DataType::Dictionary(_, _) => nested::dictionary(field, array, depth_max)?,
        DataType::RunEndEncoded(_, values) => nested::runs(values, array, depth_max)?,
        decimal if decimal.is_decimal() => formatted(array, "")?,
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

/// `name` as the key of a JSON object, with its colon.
pub(super) fn key(name: &str) -> Vec<u8> {
    format!("{}:", serde_json::Value::from(name)).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
        DurationMillisecondArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int64Array,
        LargeStringArray, NullArray, StringArray, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
        TimestampNanosecondArray, TimestampSecondArray, UInt64Array, new_empty_array,
    };
    use arrow::compute::cast;
    use arrow::datatypes::{Fields, UnionFields, UnionMode, i256};

    use super::*;

    fn encode(field: &Field, array: &dyn Array) -> Vec<Result<String, String>> {
        check_type(field, 10).unwrap();
        let mut rows = Encoder::new(field, array, 10).unwrap();
        let mut out = Vec::new();
        (0..array.len())
            .map(|row| {
                out.clear();
                rows.write(row, &mut out).map(|()| String::from_utf8(out.clone()).unwrap())
            })
            .collect()
    }

    fn plain(array: &dyn Array) -> Field {
        Field::new("c", array.data_type().clone(), true)
    }

    /// The rows of the array, and of slices of it, become `expected`, which is JSON.
    pub(super) fn check(array: impl Array + 'static, expected: &[&str]) {
        let array: ArrayRef = Arc::new(array);
        let field = plain(&array);
        for text in expected {
            assert_eq!(Validator::new(10).check(text), Ok(()));
        }
        let expected: Vec<_> = expected.iter().map(|text| Ok((*text).to_owned())).collect();
        assert_eq!(encode(&field, &array), expected);
        assert_eq!(encode(&field, &array.slice(1, array.len() - 1)), expected[1..]);
        assert_eq!(encode(&field, &new_empty_array(array.data_type())), []);
    }

    pub(super) fn check_bad(array: &dyn Array, expected: &[Result<&str, &str>]) {
        let expected: Vec<_> = expected.iter().map(|text| text.map(str::to_owned).map_err(str::to_owned)).collect();
        assert_eq!(encode(&plain(array), array), expected);
    }

    #[test]
    fn scalars() {
        check(NullArray::new(2), &["null", "null"]);
        check(BooleanArray::from(vec![Some(true), None, Some(false)]), &["true", "null", "false"]);
        check(Int8Array::from(vec![Some(-128), None]), &["-128", "null"]);
        check(Int64Array::from(vec![i64::MIN, i64::MAX]), &["-9223372036854775808", "9223372036854775807"]);
        check(UInt64Array::from(vec![0, u64::MAX]), &["0", "18446744073709551615"]);
        check(Float64Array::from(vec![0.1, -0.0, 1e300, 5.0]), &["0.1", "-0.0", "1e+300", "5.0"]);
        check(Float32Array::from(vec![0.1, 16_777_216.0]), &["0.1", "16777216.0"]);
        let halves = cast(&Float32Array::from(vec![0.5, 2.0]), &DataType::Float16).unwrap();
        check(halves.as_primitive::<Float16Type>().clone(), &["0.5", "2.0"]);
        check(Date32Array::from(vec![19_783, -1]), &[r#""2024-03-01""#, r#""1969-12-31""#]);
        check(Time64MicrosecondArray::from(vec![1, 0]), &[r#""00:00:00.000001""#, r#""00:00:00""#]);
        check(DurationMillisecondArray::from(vec![1500, 0]), &[r#""PT1.5S""#, r#""P0D""#]);
    }

    #[test]
    fn strings_are_escaped() {
        let texts = vec![Some("é\"\\\n\u{0}"), None, Some("")];
        let expected = [r#""é\"\\\n\u0000""#, "null", r#""""#];
        check(StringArray::from(texts.clone()), &expected);
        check(LargeStringArray::from(texts.clone()), &expected);
        check(StringViewArray::from(texts), &expected);
    }

    #[test]
    fn binary_is_base64() {
        let values: Vec<Option<&[u8]>> = vec![Some(b"\xff\x00"), None, Some(b"")];
        let expected = [r#""/wA=""#, "null", r#""""#];
        check(BinaryArray::from(values.clone()), &expected);
        check(BinaryViewArray::from(values), &expected);
        check(FixedSizeBinaryArray::try_from_iter([b"abc", b"def"].into_iter()).unwrap(), &[r#""YWJj""#, r#""ZGVm""#]);
    }

    #[test]
    fn decimals_keep_their_digits() {
        let cents = Decimal128Array::from(vec![Some(-5), None, Some(12_345)]).with_precision_and_scale(38, 2).unwrap();
        check(cents, &["-0.05", "null", "123.45"]);
        let thousands = Decimal128Array::from(vec![0, 7]).with_precision_and_scale(5, -3).unwrap();
        check(thousands, &["0", "7000"]);
        let huge = Decimal256Array::from(vec![i256::from_i128(i128::MAX), i256::from_i128(1)])
            .with_precision_and_scale(76, 0)
            .unwrap();
        check(huge, &["170141183460469231731687303715884105727", "1"]);
    }

    #[test]
    fn timestamps_are_iso_text() {
        let times = vec![Some(1_709_294_400_250_000), None, Some(-1)];
        let civil = [r#""2024-03-01T12:00:00.25""#, "null", r#""1969-12-31T23:59:59.999999""#];
        check(TimestampMicrosecondArray::from(times.clone()), &civil);
        let instants = [r#""2024-03-01T12:00:00.25Z""#, "null", r#""1969-12-31T23:59:59.999999Z""#];
        check(TimestampMicrosecondArray::from(times).with_timezone("America/New_York"), &instants);
        check(
            TimestampNanosecondArray::from(vec![1, 0]),
            &[r#""1970-01-01T00:00:00.000000001""#, r#""1970-01-01T00:00:00""#],
        );
        check_bad(
            &TimestampSecondArray::from(vec![253_402_300_799, i64::MAX]),
            &[Ok(r#""9999-12-31T23:59:59""#), Err("9223372036854775807 as a time is out of range")],
        );
    }

    #[test]
    fn json_has_no_nan() {
        let floats = Float64Array::from(vec![Some(1.5), Some(f64::NAN), Some(f64::NEG_INFINITY), None]);
        check_bad(&floats, &[Ok("1.5"), Err("JSON has no NaN"), Err("JSON has no -inf"), Ok("null")]);
        let halves = cast(&Float32Array::from(vec![f32::INFINITY]), &DataType::Float16).unwrap();
        check_bad(&halves, &[Err("JSON has no inf")]);
    }

    #[test]
    fn text_that_is_json_stays_json() {
        let array = StringArray::from(vec![Some(r#"{"a": [1.0]}"#), None, Some("nope")]);
        let field = plain(&array).with_metadata([("ARROW:extension:name".to_owned(), JSON_EXTENSION.to_owned())]);
        let bad = "malformed JSON at byte 1 (expected a value)".to_owned();
        assert_eq!(encode(&field, &array), [Ok(r#"{"a": [1.0]}"#.to_owned()), Ok("null".to_owned()), Err(bad)]);
    }

    #[test]
    fn types_without_a_form_in_json_are_refused() {
        let union = UnionFields::try_new([0], [Field::new("u", DataType::Int32, true)]).unwrap();
        let union = DataType::Union(union, UnionMode::Sparse);
        let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
        let floats =
            Fields::from(vec![Field::new("k", DataType::Float64, false), Field::new("v", DataType::Int8, true)]);
        let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(floats), false)), false);
        for (data_type, reason) in [
            (list(union), "a union has no form in JSON"),
            (list(map), "keys of a map must be strings or integers, not Float64"),
            (
                DataType::Map(Arc::new(Field::new("e", DataType::Int8, false)), false),
                "the entries of a map cannot be Int8",
            ),
            (list(list(list(DataType::Int8))), "it is nested too deeply"),
        ] {
            assert_eq!(check_type(&Field::new("c", data_type, true), 2), Err(reason.to_owned()));
        }
    }
}
