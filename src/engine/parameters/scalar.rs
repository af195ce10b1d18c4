//! One value of an Arrow array that is not nested, as a DuckDB value.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use duckdb_neo::ToValue;
use duckdb_neo::connection::{Connection, FFILink};
use duckdb_neo::types::{
    DateValue, DecimalValue, IntervalValue, TimeNsValue, TimeValue, TimestampMsValue, TimestampNsValue,
    TimestampSecValue, TimestampTzNsValue, TimestampTzValue, TimestampValue, UuidValueRaw,
};
use duckdb_neo::value::{Value, ValueInput};

use super::types::{Extension, decimal};
use crate::error::{Error, Result};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_MILLI: i64 = 1000;
const NANOS_PER_MICRO: i64 = 1000;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// The value at `at`, which is not null.
pub(super) fn value(link: &Connection, array: &ArrayRef, at: usize) -> Result<Value> {
    let value = match array.data_type() {
        DataType::Boolean => array.as_boolean().value(at).value(link),
        DataType::Int8 => primitive::<Int8Type>(array, at).value(link),
        DataType::Int16 => primitive::<Int16Type>(array, at).value(link),
        DataType::Int32 => primitive::<Int32Type>(array, at).value(link),
        DataType::Int64 => primitive::<Int64Type>(array, at).value(link),
        DataType::UInt8 => primitive::<UInt8Type>(array, at).value(link),
        DataType::UInt16 => primitive::<UInt16Type>(array, at).value(link),
        DataType::UInt32 => primitive::<UInt32Type>(array, at).value(link),
        DataType::UInt64 => primitive::<UInt64Type>(array, at).value(link),
        DataType::Float16 => primitive::<Float16Type>(array, at).to_f32().value(link),
        DataType::Float32 => primitive::<Float32Type>(array, at).value(link),
        DataType::Float64 => primitive::<Float64Type>(array, at).value(link),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text(array, at).value(link),
        DataType::Binary => blob(link, array.as_binary::<i32>().value(at)),
        DataType::LargeBinary => blob(link, array.as_binary::<i64>().value(at)),
        DataType::BinaryView => blob(link, array.as_binary_view().value(at)),
        DataType::FixedSizeBinary(_) => blob(link, array.as_fixed_size_binary().value(at)),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            return decimal_value(link, array, at);
        }
        DataType::Timestamp(unit, zone) => return timestamp(link, array, at, *unit, zone.is_some()),
        _ => return calendar(link, array, at),
    };
    Ok(value?)
}

/// A value of an extension type.
pub(super) fn tagged(link: &Connection, extension: Extension, array: &ArrayRef, at: usize) -> Result<Value> {
    Ok(match extension {
        // The cast validates the text.
        Extension::Json => text(array, at).value(link)?.cast(link, &extension.logical_type(link)?)?,
        Extension::Uuid => {
            let bytes = array.as_fixed_size_binary().value(at);
            let bytes = bytes.try_into().map_err(|_| Error::invalid("a UUID has 16 bytes"))?;
            UuidValueRaw::from_bytes(bytes).value(link)?
        }
        Extension::Bool8 => (primitive::<Int8Type>(array, at) != 0).value(link)?,
    })
}

/// The array of the runs' values, and which of them holds at `at`.
pub(super) fn run(ends: &DataType, array: &ArrayRef, at: usize) -> Result<(ArrayRef, usize)> {
    fn physical<R: arrow::datatypes::RunEndIndexType>(array: &ArrayRef, at: usize) -> Result<(ArrayRef, usize)> {
        let runs = array.as_run_opt::<R>().ok_or_else(|| Error::internal("runs of another type"))?;
        Ok((ArrayRef::clone(runs.values()), runs.get_physical_index(at)))
    }
    match ends {
        DataType::Int16 => physical::<Int16Type>(array, at),
        DataType::Int32 => physical::<Int32Type>(array, at),
        _ => physical::<Int64Type>(array, at),
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef, at: usize) -> T::Native {
    array.as_primitive::<T>().value(at)
}

fn text(array: &ArrayRef, at: usize) -> &str {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(at),
        DataType::LargeUtf8 => array.as_string::<i64>().value(at),
        _ => array.as_string_view().value(at),
    }
}

fn blob(link: &Connection, bytes: &[u8]) -> duckdb_neo::Result<Value> {
    link.create_value(ValueInput::Blob(bytes))
}

fn decimal_value(link: &Connection, array: &ArrayRef, at: usize) -> Result<Value> {
    let (value, precision, scale) = match *array.data_type() {
        DataType::Decimal32(precision, scale) => (primitive::<Decimal32Type>(array, at).into(), precision, scale),
        DataType::Decimal64(precision, scale) => (primitive::<Decimal64Type>(array, at).into(), precision, scale),
        DataType::Decimal128(precision, scale) => (primitive::<Decimal128Type>(array, at), precision, scale),
        DataType::Decimal256(precision, scale) => {
            let value = primitive::<Decimal256Type>(array, at);
            (value.to_i128().ok_or_else(|| out_of_range(value))?, precision, scale)
        }
        _ => return Err(Error::internal("a decimal of another type")),
    };
    let signature = decimal(precision, scale)?;
    let zeros = u32::from(if scale < 0 { scale.unsigned_abs() } else { 0 });
    let scaled = 10_i128.checked_pow(zeros).and_then(|factor| value.checked_mul(factor));
    let scaled = scaled.ok_or_else(|| out_of_range(value))?;
    let decimal = DecimalValue { value: scaled, width: signature.width, scale: signature.scale };
    decimal.check().map_err(|_| out_of_range(value))?;
    Ok(decimal.value(link)?)
}

fn timestamp(link: &Connection, array: &ArrayRef, at: usize, unit: TimeUnit, zoned: bool) -> Result<Value> {
    let value = match unit {
        TimeUnit::Second => primitive::<TimestampSecondType>(array, at),
        TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(array, at),
        TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(array, at),
        TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(array, at),
    };
    Ok(match (unit, zoned) {
        (TimeUnit::Second, false) => TimestampSecValue(value).value(link)?,
        (TimeUnit::Millisecond, false) => TimestampMsValue(value).value(link)?,
        (TimeUnit::Microsecond, false) => TimestampValue(value).value(link)?,
        (TimeUnit::Nanosecond, false) => TimestampNsValue(value).value(link)?,
        // DuckDB has a zone for microseconds and nanoseconds only.
        (TimeUnit::Second, true) => TimestampTzValue(times(value, MICROS_PER_SECOND)?).value(link)?,
        (TimeUnit::Millisecond, true) => TimestampTzValue(times(value, MICROS_PER_MILLI)?).value(link)?,
        (TimeUnit::Microsecond, true) => TimestampTzValue(value).value(link)?,
        (TimeUnit::Nanosecond, true) => TimestampTzNsValue(value).value(link)?,
    })
}

/// Days, times of day, and spans of time.
fn calendar(link: &Connection, array: &ArrayRef, at: usize) -> Result<Value> {
    let span = |months, days, micros| IntervalValue { months, days, micros }.value(link);
    Ok(match array.data_type() {
        DataType::Date32 => DateValue(primitive::<Date32Type>(array, at)).value(link)?,
        DataType::Date64 => {
            let millis = primitive::<Date64Type>(array, at);
            let days = i32::try_from(millis.div_euclid(MILLIS_PER_DAY)).map_err(|_| out_of_range(millis))?;
            DateValue(days).value(link)?
        }
        DataType::Time32(TimeUnit::Second) => {
            time(link, i64::from(primitive::<Time32SecondType>(array, at)) * MICROS_PER_SECOND)?
        }
        DataType::Time32(_) => time(link, i64::from(primitive::<Time32MillisecondType>(array, at)) * MICROS_PER_MILLI)?,
        DataType::Time64(TimeUnit::Microsecond) => time(link, primitive::<Time64MicrosecondType>(array, at))?,
        DataType::Time64(_) => {
            let nanos = primitive::<Time64NanosecondType>(array, at);
            check_day(nanos.div_euclid(NANOS_PER_MICRO))?;
            TimeNsValue(nanos).value(link)?
        }
        DataType::Duration(TimeUnit::Second) => {
            span(0, 0, times(primitive::<DurationSecondType>(array, at), MICROS_PER_SECOND)?)?
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            span(0, 0, times(primitive::<DurationMillisecondType>(array, at), MICROS_PER_MILLI)?)?
        }
        DataType::Duration(TimeUnit::Microsecond) => span(0, 0, primitive::<DurationMicrosecondType>(array, at))?,
        DataType::Duration(TimeUnit::Nanosecond) => {
            span(0, 0, whole_micros(primitive::<DurationNanosecondType>(array, at))?)?
        }
        DataType::Interval(IntervalUnit::YearMonth) => span(primitive::<IntervalYearMonthType>(array, at), 0, 0)?,
        DataType::Interval(IntervalUnit::DayTime) => {
            let interval = primitive::<IntervalDayTimeType>(array, at);
            span(0, interval.days, i64::from(interval.milliseconds) * MICROS_PER_MILLI)?
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let interval = primitive::<IntervalMonthDayNanoType>(array, at);
            span(interval.months, interval.days, whole_micros(interval.nanoseconds)?)?
        }
        other => return Err(Error::invalid(format!("a value cannot be {other}"))),
    })
}

fn time(link: &Connection, micros: i64) -> Result<Value> {
    check_day(micros)?;
    Ok(TimeValue(micros).value(link)?)
}

/// A day ends at 24:00:00 in DuckDB.
fn check_day(micros: i64) -> Result<()> {
    if (0..=MILLIS_PER_DAY * MICROS_PER_MILLI).contains(&micros) {
        return Ok(());
    }
    Err(Error::invalid(format!("{micros} microseconds are no time of day")))
}

fn times(value: i64, factor: i64) -> Result<i64> {
    value.checked_mul(factor).ok_or_else(|| out_of_range(value))
}

fn whole_micros(nanos: i64) -> Result<i64> {
    if nanos % NANOS_PER_MICRO == 0 {
        return Ok(nanos / NANOS_PER_MICRO);
    }
    Err(Error::invalid(format!("an INTERVAL has whole microseconds, and {nanos} nanoseconds are none")))
}

fn out_of_range(value: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{value} is out of range"))
}
