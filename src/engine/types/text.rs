//! The texts of values whose DuckDB type Arrow lacks, made of the bytes that DuckDB exports for them.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, FixedSizeBinaryBuilder, Int64Array, PrimitiveArray,
    StringBuilder, StructArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Decimal128Type};
use num_bigint::{BigInt, Sign};
use parquet_variant::Variant;
use parquet_variant_json::VariantToJson;
use uuid::Uuid;

use crate::error::{Error, Result};

/// The largest offset of a time zone that DuckDB has, in seconds; a TIMETZ counts down from it.
const OFFSET_MAX: i64 = 16 * 3600 - 1;
/// The bits of a TIMETZ that hold its offset.
const OFFSET_BITS: u32 = 24;

/// One value more than a decimal of 38 digits holds.
const HUGE_END: i128 = 10_i128.pow(38);

/// The texts of the values at all places that are not null.
fn texts(array: &dyn Array, mut write: impl FnMut(usize, &mut StringBuilder) -> Result<()>) -> Result<ArrayRef> {
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 16);
    for at in 0..array.len() {
        if array.is_null(at) {
            builder.append_null();
        } else {
            write(at, &mut builder)?;
            // What was written so far becomes the value.
            builder.append_value("");
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn put(builder: &mut StringBuilder, text: std::fmt::Arguments<'_>) -> Result<()> {
    builder.write_fmt(text).map_err(|error| Error::internal("a value cannot be written").with_source(error))
}

fn wrong(array: &dyn Array, wanted: &str) -> Error {
    Error::internal(format!("DuckDB gave {} for {wanted}", array.data_type()))
}

fn binary<'a>(array: &'a ArrayRef, wanted: &str) -> Result<&'a BinaryArray> {
    array.as_binary_opt::<i32>().ok_or_else(|| wrong(array, wanted))
}

/// The integers of an array that has 16 or 8 bytes for each, as DuckDB's lossless export does.
fn integers<T: ArrowPrimitiveType>(array: &ArrayRef, wanted: &str) -> Result<PrimitiveArray<T>> {
    let fixed = array.as_fixed_size_binary_opt().ok_or_else(|| wrong(array, wanted))?;
    if usize::try_from(fixed.value_length()) != Ok(size_of::<T::Native>()) {
        return Err(wrong(array, wanted));
    }
    let values = fixed.values();
    let aligned = values.as_ptr().align_offset(align_of::<T::Native>()) == 0;
    let values = if aligned { values.clone() } else { arrow::buffer::Buffer::from_slice_ref(values.as_slice()) };
    Ok(PrimitiveArray::new(ScalarBuffer::new(values, 0, fixed.len()), fixed.nulls().cloned()))
}

/// HUGEINT in either export as decimal: its values must have 38 digits at most.
pub(super) fn hugeints(array: &ArrayRef) -> Result<ArrayRef> {
    let decimals = match array.data_type() {
        DataType::FixedSizeBinary(_) => {
            let decimals = integers::<Decimal128Type>(array, "HUGEINT")?;
            Arc::new(decimals.with_data_type(DataType::Decimal128(38, 0))) as ArrayRef
        }
        _ => Arc::clone(array),
    };
    let values = decimals.as_primitive_opt::<Decimal128Type>().ok_or_else(|| wrong(array, "HUGEINT"))?;
    let fits = |value: &i128| -HUGE_END < *value && *value < HUGE_END;
    // All values first, as that is quick; what stands under a null may be anything.
    if !values.values().iter().all(fits)
        && let Some(value) = values.iter().flatten().find(|value| !fits(value))
    {
        return Err(Error::invalid(format!(
            "the HUGEINT {value} has more than the 38 digits of Arrow's decimals: cast the column to VARCHAR"
        )));
    }
    Ok(decimals)
}

/// UHUGEINT in either export: the bits are those of an unsigned number.
pub(super) fn uhugeints(array: &ArrayRef) -> Result<ArrayRef> {
    let values = match array.data_type() {
        DataType::FixedSizeBinary(_) => integers::<Decimal128Type>(array, "UHUGEINT")?,
        _ => array.as_primitive_opt::<Decimal128Type>().ok_or_else(|| wrong(array, "UHUGEINT"))?.clone(),
    };
    texts(array, |at, text| put(text, format_args!("{}", values.value(at).cast_unsigned())))
}

/// BIT: one byte that says how many bits of the next are padding, and the bits.
pub(super) fn bits(array: &ArrayRef) -> Result<ArrayRef> {
    let values = binary(array, "BIT")?;
    texts(array, |at, text| {
        let (padding, bytes) = values.value(at).split_first().unwrap_or((&0, &[]));
        for bit in usize::from(*padding)..bytes.len() * 8 {
            let is_set = bytes.get(bit / 8).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1);
            put(text, format_args!("{}", u8::from(is_set)))?;
        }
        Ok(())
    })
}

/// TIMETZ of the lossless export: microseconds of the day, and the offset counted down from the largest.
pub(super) fn times(array: &ArrayRef) -> Result<ArrayRef> {
    let bits: Int64Array = integers(array, "TIMETZ")?;
    texts(array, |at, text| {
        let bits = bits.value(at).cast_unsigned();
        let micros = bits >> OFFSET_BITS;
        let offset = OFFSET_MAX - i64::try_from(bits & ((1 << OFFSET_BITS) - 1)).unwrap_or_default();
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        put(text, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60))?;
        if micros > 0 {
            let fraction = format!("{micros:06}");
            put(text, format_args!(".{}", fraction.trim_end_matches('0')))?;
        }
        let (sign, offset) = (if offset < 0 { '-' } else { '+' }, offset.abs());
        put(text, format_args!("{sign}{:02}", offset / 3600))?;
        if offset % 3600 != 0 {
            put(text, format_args!(":{:02}", offset / 60 % 60))?;
        }
        if offset % 60 != 0 {
            put(text, format_args!(":{:02}", offset % 60))?;
        }
        Ok(())
    })
}

/// BIGNUM: three bytes of sign and length, then the bytes of the number, the highest first; all inverted if it is negative.
pub(super) fn bignums(array: &ArrayRef) -> Result<ArrayRef> {
    const HEADER: usize = 3;
    let values = binary(array, "BIGNUM")?;
    texts(array, |at, text| {
        let value = values.value(at);
        let is_negative = value.first().is_some_and(|first| first & 0x80 == 0);
        let digits = value.get(HEADER..).unwrap_or_default();
        let number = if is_negative {
            let inverted: Vec<u8> = digits.iter().map(|byte| !byte).collect();
            BigInt::from_bytes_be(Sign::Minus, &inverted)
        } else {
            BigInt::from_bytes_be(Sign::Plus, digits)
        };
        put(text, format_args!("{number}"))
    })
}

/// VARIANT, which is exported in Parquet's encoding, as JSON.
pub(super) fn variants(array: &ArrayRef) -> Result<ArrayRef> {
    let pairs: &StructArray = array.as_struct_opt().ok_or_else(|| wrong(array, "VARIANT"))?;
    let part = |name: &str| {
        let column = pairs.column_by_name(name).ok_or_else(|| wrong(array, "VARIANT"))?;
        binary(column, "VARIANT")
    };
    let (metadata, values) = (part("metadata")?, part("value")?);
    texts(array, |at, text| {
        let variant = Variant::try_new(metadata.value(at), values.value(at)).map_err(|error| {
            Error::invalid(format!("a VARIANT cannot be written as JSON, cast it to VARCHAR: {error}"))
        })?;
        let json = variant
            .to_json_string()
            .map_err(|error| Error::internal("a VARIANT cannot be written as JSON").with_source(error))?;
        put(text, format_args!("{json}"))
    })
}

/// UUIDs of the lossless export as text.
pub(super) fn uuid_texts(array: &ArrayRef) -> Result<ArrayRef> {
    let Some(bytes) = array.as_fixed_size_binary_opt() else { return Ok(Arc::clone(array)) };
    texts(array, |at, text| {
        let uuid = Uuid::from_slice(bytes.value(at)).map_err(|_| wrong(array, "UUID"))?;
        put(text, format_args!("{}", uuid.hyphenated()))
    })
}

/// UUIDs of the default export as bytes.
pub(super) fn uuid_bytes(array: &ArrayRef) -> Result<ArrayRef> {
    let Some(texts) = array.as_string_opt::<i32>() else { return Ok(Arc::clone(array)) };
    let mut builder = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
    for text in texts {
        match text {
            None => builder.append_null(),
            Some(text) => {
                let uuid = Uuid::try_parse(text).map_err(|_| wrong(array, "UUID"))?;
                builder.append_value(uuid.as_bytes())?;
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}
