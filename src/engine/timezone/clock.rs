//! The current date and time in the session's time zone, and `make_timestamptz`.
//!
//! The C API gives a callback no way to read the transaction's start. So the clock is the session's, which
//! [`super::set_clock`] stops at the beginning of a transaction, or else the wall's at the time a call is bound.

use std::sync::Arc;

use duckdb_neo::Result;
use duckdb_neo::types::{TimeTzValue, TimeValue, TimestampTzValue, TimestampValue};

use super::calendar::{is_finite, join};
use super::cast::to_date;
use super::civil::{Date, MICROS_PER_DAY, MICROS_PER_MILLI, MILLIS_PER_DAY};
use super::function::{Double, Integer, Registry, ZoneName};
use super::zone::Zone;
use super::{failure, local};

/// Registers the functions of this file. `current_time`, `localtime` and `localtimestamp` are keywords that DuckDB
/// turns into calls of `get_current_time`, `current_localtime` and `current_localtimestamp`.
pub(super) fn register(registry: &Registry<'_>) -> Result<()> {
    for name in ["current_date", "today"] {
        registry.add_clock::<(), _, _>(name, &[], |session, ()| to_date(&session.zone, session.now).map(Some))?;
    }
    registry.add_clock::<(), TimeTzValue, _>("get_current_time", &[], |session, ()| {
        local::to_offset_time(&session.zone, session.now)
    })?;
    registry.add_clock::<(), _, _>("current_localtimestamp", &[], |session, ()| {
        local::to_naive(&session.zone, session.now).map(TimestampValue).map(Some)
    })?;
    registry.add_clock::<(), _, _>("current_localtime", &[], |session, ()| {
        let naive = local::to_naive(&session.zone, session.now)?;
        Ok(Some(TimeValue(naive.rem_euclid(MICROS_PER_DAY))))
    })?;
    make_timestamptz(registry)
}

fn make_timestamptz(registry: &Registry<'_>) -> Result<()> {
    let name = "make_timestamptz";
    let parameters = ["year", "month", "day", "hour", "minute", "seconds", "timezone"];
    registry.add::<(Integer,), _, _>(name, &["micros"], |_, (micros,)| {
        if is_finite(micros) { Ok(Some(TimestampTzValue(micros))) } else { Err(failure::out_of_range()) }
    })?;
    registry.add::<(Integer, Integer, Integer, Integer, Integer, Double), _, _>(
        name,
        &parameters,
        |session, (year, month, day, hour, minute, seconds)| {
            make(&session.zone, [year, month, day, hour, minute], seconds).map(TimestampTzValue).map(Some)
        },
    )?;
    registry.add::<(Integer, Integer, Integer, Integer, Integer, Double, ZoneName), _, _>(
        name,
        &parameters,
        |_, (year, month, day, hour, minute, seconds, zone)| {
            make(&zone, [year, month, day, hour, minute], seconds).map(TimestampTzValue).map(Some)
        },
    )
}

/// Parts beyond their range carry over into the next: the 13th month is January of the next year.
#[expect(clippy::cast_possible_truncation, reason = "seconds are checked to fit, and milliseconds are below 1,000")]
fn make(zone: &Arc<Zone>, parts: [i64; 5], seconds: f64) -> Result<i64> {
    let [year, month, day, hour, minute] = parts;
    let seconds_fit = seconds.abs() < f64::from(i32::MAX);
    if !seconds_fit || parts.iter().any(|part| i32::try_from(*part).is_err()) {
        return Err(failure::out_of_range());
    }
    // There is no year 0, so that of 1 BC is -1.
    let year = year + i64::from(year < 0);
    let whole = seconds.round_ties_even();
    let fraction = (seconds - whole) * 1_000.0;
    let millis = fraction.trunc();
    let micros = ((fraction - millis) * 1_000.0).round() as i64;
    let time = ((hour * 60 + minute) * 60 + whole as i64) * 1_000 + millis as i64;
    let local = Date { year, month, day }.days().checked_mul(MILLIS_PER_DAY).and_then(|days| days.checked_add(time));
    let carried = local.and_then(|local| local.checked_add(micros.div_euclid(MICROS_PER_MILLI)));
    let carried = carried.ok_or_else(failure::out_of_range)?;
    join(zone.instant(carried), micros.rem_euclid(MICROS_PER_MILLI))
}
