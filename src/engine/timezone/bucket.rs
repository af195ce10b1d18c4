//! `time_bucket` over TIMESTAMPTZ: in UTC, or in a zone where a day can have 23 hours.

use std::sync::{Arc, LazyLock};

use duckdb_neo::Result;
use duckdb_neo::types::{IntervalValue, TimestampTzValue};

use super::arithmetic::{add, elapsed, subtract, truncate};
use super::calendar::{Calendar, is_finite, split};
use super::civil::{MICROS_PER_DAY, MICROS_PER_MILLI};
use super::function::{Instant, Interval, Registry, ZoneName};
use super::part::Part;
use super::zone::Zone;
use super::{failure, local};

/// 2000-01-03, a Monday, where buckets of days and less begin: TimescaleDB's choice.
const ORIGIN_DAYS: i64 = 10_959 * MICROS_PER_DAY;
/// 2000-01-01, where buckets of months begin.
const ORIGIN_MONTHS: i64 = 10_957 * MICROS_PER_DAY;

static UTC: LazyLock<Arc<Zone>> = LazyLock::new(|| Arc::new(Zone::fixed("UTC", 0)));

/// Registers the overloads of `time_bucket`.
pub(super) fn register(registry: &Registry<'_>) -> Result<()> {
    let name = "time_bucket";
    let parameters = |last| ["bucket_width", "timestamp", last];
    registry.add::<(Interval, Instant), _, _>(name, &parameters(""), |_, (width, instant)| {
        let width = Width::parse(width)?;
        bucket(&UTC, width, instant, width.origin()).map(TimestampTzValue).map(Some)
    })?;
    registry.add::<(Interval, Instant, Interval), _, _>(
        name,
        &parameters("offset"),
        |_, (width, instant, offset)| {
            let width = Width::parse(width)?;
            if !is_finite(instant) {
                return Ok(Some(TimestampTzValue(instant)));
            }
            let bucket = bucket(&UTC, width, subtract(&UTC, instant, offset)?, width.origin())?;
            add(&UTC, bucket, offset).map(TimestampTzValue).map(Some)
        },
    )?;
    registry.add::<(Interval, Instant, Instant), _, _>(
        name,
        &parameters("origin"),
        |_, (width, instant, origin)| {
            if !is_finite(origin) {
                return Ok(None);
            }
            bucket(&UTC, Width::parse(width)?, instant, origin).map(TimestampTzValue).map(Some)
        },
    )?;
    registry.add::<(Interval, Instant, ZoneName), _, _>(name, &parameters("timezone"), |_, (width, instant, zone)| {
        let width = Width::parse(width)?;
        let origin = local::to_instant(&zone, width.origin())?;
        bucket(&zone, width, instant, origin).map(TimestampTzValue).map(Some)
    })
}

/// The width of a bucket: one unit, more than zero of it.
#[derive(Clone, Copy, Debug)]
enum Width {
    Micros(i64),
    Days(i32),
    Months(i32),
}

impl Width {
    fn parse(width: IntervalValue) -> Result<Self> {
        let parsed = match (width.months, width.days, width.micros) {
            (0, 0, micros) => (micros > 0).then_some(Self::Micros(micros)),
            (0, days, 0) => (days > 0).then_some(Self::Days(days)),
            (months, 0, 0) => (months > 0).then_some(Self::Months(months)),
            _ => {
                return Err(failure::unsupported(
                    "a bucket's width is in months, in days, or in hours and less, not in a mixture of them",
                ));
            }
        };
        parsed.ok_or_else(|| failure::unsupported("a bucket's width must be greater than zero"))
    }

    fn origin(self) -> i64 {
        if matches!(self, Self::Months(_)) { ORIGIN_MONTHS } else { ORIGIN_DAYS }
    }
}

/// The beginning of the bucket that `instant` is in, where one bucket begins at `origin`.
fn bucket(zone: &Arc<Zone>, width: Width, instant: i64, origin: i64) -> Result<i64> {
    if !is_finite(instant) {
        return Ok(instant);
    }
    match width {
        Width::Micros(width) => {
            let distance = instant.checked_sub(origin).ok_or_else(failure::out_of_range)?;
            let start = distance.checked_sub(distance.rem_euclid(width)).ok_or_else(failure::out_of_range)?;
            origin.checked_add(start).ok_or_else(failure::out_of_range)
        }
        Width::Days(width) => {
            let days = elapsed(zone, Part::Day, origin, instant)?;
            let width = i64::from(width);
            settle(zone, instant, origin, days / width * width, |days| interval(0, days), -width)
        }
        Width::Months(width) => {
            let origin = truncate(zone, Part::Month, origin)?;
            let months = elapsed(zone, Part::Month, origin, truncate(zone, Part::Month, instant)?)?;
            let width = i64::from(width);
            settle(zone, instant, origin, months.div_euclid(width) * width, |months| interval(months, 0), -width)
        }
    }
}

fn interval(months: i32, days: i32) -> IntervalValue {
    IntervalValue { months, days, micros: 0 }
}

/// The bucket `distance` units from `origin`, or the nearest one before it that is not after `instant`.
fn settle(
    zone: &Arc<Zone>,
    instant: i64,
    origin: i64,
    distance: i64,
    interval: impl Fn(i32) -> IntervalValue,
    back: i64,
) -> Result<i64> {
    let units = |count: i64| i32::try_from(count).map(&interval).map_err(|_| failure::out_of_range());
    let mut bucket = add(zone, origin, units(distance)?)?;
    if instant < bucket {
        bucket = former_occurrence(zone, bucket, instant);
    }
    while instant < bucket {
        bucket = add(zone, bucket, units(back)?)?;
    }
    Ok(bucket)
}

/// A local time that occurs twice is added up to its second occurrence. Between the two, the bucket began at the first.
fn former_occurrence(zone: &Arc<Zone>, bucket: i64, instant: i64) -> i64 {
    let offset = |instant: i64| Calendar::new(zone, split(instant).0).offset();
    let difference = offset(instant) - offset(bucket);
    if difference <= 0 {
        return bucket;
    }
    let former = bucket.saturating_sub(difference * MICROS_PER_MILLI);
    if instant < former || offset(former) != offset(instant) { bucket } else { former }
}
