//! Time columns: timestamps, dates, epochs and ISO 8601 text, to microseconds in UTC.
//!
//! An epoch's unit is told by its magnitude: below 1e11 seconds (until the year 5138), below 1e14 milliseconds, below
//! 1e17 microseconds (both from 1973 to 5138), otherwise nanoseconds. A Float64 is read alike, with its fraction.
//! What is finer than a microsecond is cut off, towards the past. Float32 is refused: it cannot tell two minutes apart.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow::error::ArrowError;

use super::iso;
use super::report::{BadRows, shown};

/// What [`accepts`] takes, for messages.
pub(super) const ACCEPTED: &str = "timestamps, dates, ISO 8601 strings, and epochs as integers or Float64";

/// The type of a coerced time column.
pub(super) const OUTPUT: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The times that DuckDB's TIMESTAMP holds; i64::MAX and its negative are its infinities.
const RANGE: RangeInclusive<i64> = -9_223_372_022_400_000_000..=i64::MAX - 1;
/// Stands for a time that could not be made; outside of [`RANGE`].
const NONE: i64 = i64::MIN;

const SECOND_MICROS: i64 = 1_000_000;
const MILLI_MICROS: i64 = 1_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// Whether [`coerce`] can make times of a plain `data_type`.
pub(super) fn accepts(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_string()
        || matches!(
            data_type,
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 | DataType::Float64 | DataType::Null
        )
}

/// The times of `array`, a plain array of a type that is accepted; unreadable ones are counted as bad rows of `column`.
pub(super) fn coerce(array: &ArrayRef, column: &str, bad: &mut BadRows) -> Result<ArrayRef, ArrowError> {
    let mut times = Times { column, bad };
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => times.microseconds(array.as_primitive()),
        DataType::Timestamp(TimeUnit::Second, _) => {
            times
                .numbers::<TimestampSecondType>(array.as_primitive(), " s since 1970", |v| v.checked_mul(SECOND_MICROS))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            times.numbers::<TimestampMillisecondType>(array.as_primitive(), " ms since 1970", |v| {
                v.checked_mul(MILLI_MICROS)
            })
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            times.numbers::<TimestampNanosecondType>(array.as_primitive(), " ns since 1970", |v| {
                Some(v.div_euclid(1000))
            })
        }
        DataType::Date32 => times
            .numbers::<Date32Type>(array.as_primitive(), " days since 1970", |v| i64::from(v).checked_mul(DAY_MICROS)),
        DataType::Date64 => {
            times.numbers::<Date64Type>(array.as_primitive(), " ms since 1970", |v| v.checked_mul(MILLI_MICROS))
        }
        DataType::Float64 => times.numbers::<Float64Type>(array.as_primitive(), "", epoch_of_float),
        DataType::Int64 => times.numbers::<Int64Type>(array.as_primitive(), "", |v| Some(epoch(v))),
        DataType::UInt64 => times.numbers::<UInt64Type>(array.as_primitive(), "", |v| i64::try_from(v).ok().map(epoch)),
        DataType::Utf8 => times.texts(array.as_string::<i32>()),
        DataType::LargeUtf8 => times.texts(array.as_string::<i64>()),
        DataType::Utf8View => times.texts(array.as_string_view()),
        integer if integer.is_integer() => {
            let wide = cast(array, &DataType::Int64)?;
            times.numbers::<Int64Type>(wide.as_primitive(), "", |v| Some(epoch(v)))
        }
        _ => cast(array, &OUTPUT)?,
    })
}

struct Times<'a> {
    column: &'a str,
    bad: &'a mut BadRows,
}

impl Times<'_> {
    /// Microseconds are in place already; a zone says how to show an instant, not which one it is.
    fn microseconds(&mut self, array: &PrimitiveArray<TimestampMicrosecondType>) -> ArrayRef {
        let outside = array.values().iter().fold(false, |outside, time| outside | !RANGE.contains(time));
        if outside {
            self.numbers::<TimestampMicrosecondType>(array, " us since 1970", Some)
        } else {
            Arc::new(array.clone().with_timezone_opt(None::<Arc<str>>))
        }
    }

    fn numbers<T>(
        &mut self,
        array: &PrimitiveArray<T>,
        unit: &str,
        micros: impl Fn(T::Native) -> Option<i64>,
    ) -> ArrayRef
    where
        T: ArrowPrimitiveType<Native: Display>,
    {
        let times: Vec<i64> = array.values().iter().map(|value| micros(*value).unwrap_or(NONE)).collect();
        self.finish(times, array.nulls(), |row| format!("{}{unit} is out of the range of times", array.value(row)))
    }

    fn texts<'a>(&mut self, array: impl ArrayAccessor<Item = &'a str> + Copy) -> ArrayRef {
        let time = |row| if array.is_null(row) { NONE } else { iso::micros(array.value(row)).unwrap_or(NONE) };
        let times: Vec<i64> = (0..array.len()).map(time).collect();
        self.finish(times, array.nulls(), |row| format!("cannot read {} as a time", shown(array.value(row))))
    }

    /// Counts the times that are out of range; a null row is not bad, whatever its slot holds.
    fn finish(&mut self, times: Vec<i64>, nulls: Option<&NullBuffer>, reason: impl Fn(usize) -> String) -> ArrayRef {
        let outside = times.iter().fold(false, |outside, time| outside | !RANGE.contains(time));
        if outside {
            for (row, time) in times.iter().enumerate() {
                if !RANGE.contains(time) && nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                    self.bad.add(row, self.column, || reason(row));
                }
            }
        }
        Arc::new(TimestampMicrosecondArray::new(times.into(), nulls.cloned()))
    }
}

/// The microseconds of an epoch of any unit, told by its magnitude; never out of range.
#[inline]
pub(crate) fn epoch(value: i64) -> i64 {
    match value.unsigned_abs() {
        0..100_000_000_000 => value * SECOND_MICROS,
        100_000_000_000..100_000_000_000_000 => value * MILLI_MICROS,
        100_000_000_000_000..100_000_000_000_000_000 => value,
        _ => value.div_euclid(1000),
    }
}

/// As [`epoch`]. Rounds to the microsecond, which is about what a Float64 of seconds can tell.
#[inline]
pub(crate) fn epoch_of_float(value: f64) -> Option<i64> {
    let micros = match value.abs() {
        size if size < 1e11 => value * 1e6,
        size if size < 1e14 => value * 1e3,
        size if size < 1e17 => value,
        size if size < 9e18 => value / 1e3,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "below 1e17 by the cases above")]
    let micros = micros.round() as i64;
    Some(micros)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Date64Array, Float64Array, Int32Array, Int64Array, LargeStringArray, StringArray, StringViewArray,
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt64Array,
    };

    use super::*;

    fn run(array: &ArrayRef) -> Result<Vec<Option<i64>>, String> {
        assert!(accepts(array.data_type()));
        let mut bad = BadRows::new(array.len());
        let times = coerce(array, "t", &mut bad).unwrap();
        assert_eq!(times.data_type(), &OUTPUT);
        bad.into_result(1).map_err(|error| error.message().to_owned())?;
        Ok(times.as_primitive::<TimestampMicrosecondType>().iter().collect())
    }

    /// The array, and slices of it, become `expected`.
    fn check(array: impl Array + 'static, expected: &[Option<i64>]) {
        let array: ArrayRef = Arc::new(array);
        assert_eq!(run(&array).as_deref(), Ok(expected));
        assert_eq!(run(&array.slice(1, array.len() - 1)).as_deref(), Ok(&expected[1..]));
        assert_eq!(run(&array.slice(0, 0)).as_deref(), Ok(&[][..]));
    }

    fn check_bad(array: impl Array + 'static, faults: &str) {
        assert_eq!(run(&(Arc::new(array) as ArrayRef)), Err(faults.to_owned()));
    }

    const NOON: i64 = 1_709_294_400; // 2024-03-01T12:00:00Z

    #[test]
    fn timestamps_of_every_unit() {
        let expected = [Some(NOON * SECOND_MICROS), None, Some(-SECOND_MICROS)];
        for zone in [None, Some("UTC"), Some("+05:00"), Some("America/New_York")] {
            check(TimestampSecondArray::from(vec![Some(NOON), None, Some(-1)]).with_timezone_opt(zone), &expected);
            check(
                TimestampMillisecondArray::from(vec![Some(NOON * 1000), None, Some(-1000)]).with_timezone_opt(zone),
                &expected,
            );
            check(TimestampMicrosecondArray::from(expected.to_vec()).with_timezone_opt(zone), &expected);
            check(
                TimestampNanosecondArray::from(vec![Some(NOON * 1_000_000_000), None, Some(-1_000_000_000)])
                    .with_timezone_opt(zone),
                &expected,
            );
        }
        check(TimestampNanosecondArray::from(vec![-1, 1999]), &[Some(-1), Some(1)]);
    }

    #[test]
    fn microseconds_are_not_copied() {
        let array = TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC");
        let mut bad = BadRows::new(2);
        let times = coerce(&(Arc::new(array.clone()) as ArrayRef), "t", &mut bad).unwrap();
        assert_eq!(times.as_primitive::<TimestampMicrosecondType>().values().as_ptr(), array.values().as_ptr());
    }

    #[test]
    fn dates() {
        check(
            Date32Array::from(vec![Some(19_783), None, Some(-1)]),
            &[Some(19_783 * DAY_MICROS), None, Some(-DAY_MICROS)],
        );
        check(Date64Array::from(vec![Some(86_400_000), None]), &[Some(DAY_MICROS), None]);
    }

    #[test]
    fn epochs_are_told_apart_by_magnitude() {
        for (value, expected) in [
            (0, 0),
            (NOON, NOON * SECOND_MICROS),
            (-NOON, -NOON * SECOND_MICROS),
            (99_999_999_999, 99_999_999_999_000_000),
            (100_000_000_000, 100_000_000_000_000),
            (NOON * 1000 + 7, NOON * SECOND_MICROS + 7000),
            (99_999_999_999_999, 99_999_999_999_999_000),
            (100_000_000_000_000, 100_000_000_000_000),
            (NOON * SECOND_MICROS + 7, NOON * SECOND_MICROS + 7),
            (99_999_999_999_999_999, 99_999_999_999_999_999),
            (100_000_000_000_000_000, 100_000_000_000_000),
            (NOON * 1_000_000_000 + 7999, NOON * SECOND_MICROS + 7),
            (i64::MAX, i64::MAX / 1000),
            (i64::MIN, i64::MIN / 1000 - 1),
        ] {
            check(Int64Array::from(vec![None, Some(value)]), &[None, Some(expected)]);
        }
        check(Int32Array::from(vec![None, Some(1)]), &[None, Some(SECOND_MICROS)]);
        check(UInt8Array::from(vec![0, 1]), &[Some(0), Some(SECOND_MICROS)]);
        check(UInt64Array::from(vec![0, 1]), &[Some(0), Some(SECOND_MICROS)]);
        let fractions = vec![
            Some(1_700_000_000.25),
            Some(0.1),
            Some(-1.5),
            None,
            Some(1_700_000_000_123.0),
            Some(1.7e15),
            Some(1.7e18),
        ];
        let expected = [
            1_700_000_000_250_000,
            100_000,
            -1_500_000,
            0,
            1_700_000_000_123_000,
            1_700_000_000_000_000,
            1_700_000_000_000_000,
        ];
        let expected: Vec<_> = expected.into_iter().enumerate().map(|(row, time)| (row != 3).then_some(time)).collect();
        check(Float64Array::from(fractions), &expected);
    }

    #[test]
    fn texts_of_every_string_type() {
        let texts = vec![Some("2024-03-01T12:00:00Z"), None, Some("1970-01-02"), Some("1970-01-01 00:00:01.5-01:00")];
        let expected = [Some(NOON * SECOND_MICROS), None, Some(DAY_MICROS), Some(3_601_500_000)];
        check(StringArray::from(texts.clone()), &expected);
        check(LargeStringArray::from(texts.clone()), &expected);
        check(StringViewArray::from(texts), &expected);
    }

    #[test]
    fn bad_times_are_named() {
        check_bad(
            StringArray::from(vec![Some("yesterday"), None, Some("2024-01-01"), Some("")]),
            "2 bad rows, nothing is stored: row 1: t: cannot read \"yesterday\" as a time; \
             row 4: t: cannot read \"\" as a time",
        );
        let out = "is out of the range of times";
        for (value, shown) in
            [(i64::MAX, "9223372036854775807"), (i64::MIN, "-9223372036854775808"), (-i64::MAX, "-9223372036854775807")]
        {
            check_bad(
                TimestampMicrosecondArray::from(vec![Some(0), None, Some(value)]),
                &format!("1 bad row, nothing is stored: row 3: t: {shown} us since 1970 {out}"),
            );
            check_bad(
                TimestampSecondArray::from(vec![value]),
                &format!("1 bad row, nothing is stored: row 1: t: {shown} s since 1970 {out}"),
            );
        }
        check_bad(
            Date32Array::from(vec![i32::MAX]),
            &format!("1 bad row, nothing is stored: row 1: t: 2147483647 days since 1970 {out}"),
        );
        check_bad(
            UInt64Array::from(vec![u64::MAX]),
            &format!("1 bad row, nothing is stored: row 1: t: 18446744073709551615 {out}"),
        );
        check_bad(
            Float64Array::from(vec![f64::NAN, f64::INFINITY, -1e19, 0.0]),
            &format!(
                "3 bad rows, nothing is stored: row 1: t: NaN {out}; row 2: t: inf {out}; \
                 row 3: t: -10000000000000000000 {out}"
            ),
        );
    }

    #[test]
    fn the_slots_of_null_rows_are_not_looked_at() {
        let nulls = NullBuffer::from(vec![true, false]);
        check(TimestampMicrosecondArray::new(vec![1, i64::MAX].into(), Some(nulls.clone())), &[Some(1), None]);
        check(TimestampSecondArray::new(vec![0, i64::MAX].into(), Some(nulls)), &[Some(0), None]);
    }
}
