//! Arrow timestamps as civil times, to be printed.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use jiff::SignedDuration;
use jiff::civil::DateTime;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// The ticks of timestamps since 1970, their unit, and the zone to print behind a time: `Z` or nothing.
pub(super) fn ticks(array: &dyn Array) -> Result<(&[i64], TimeUnit, &'static str), ArrowError> {
    let DataType::Timestamp(unit, zone) = array.data_type() else {
        return Err(ArrowError::SchemaError(format!("{} is not a timestamp", array.data_type())));
    };
    let ticks = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    };
    Ok((ticks, *unit, if zone.is_some() { "Z" } else { "" }))
}

/// The civil time in UTC of `ticks` since 1970, in the years -9999 to 9999.
pub(super) fn civil(ticks: i64, unit: TimeUnit) -> Option<DateTime> {
    let since_1970 = match unit {
        TimeUnit::Second => SignedDuration::from_secs(ticks),
        TimeUnit::Millisecond => SignedDuration::from_millis(ticks),
        TimeUnit::Microsecond => SignedDuration::from_micros(ticks),
        TimeUnit::Nanosecond => SignedDuration::from_nanos(ticks),
    };
    EPOCH.checked_add(since_1970).ok()
}
