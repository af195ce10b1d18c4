//! From instants to local timestamps and back: `AT TIME ZONE`, which SQL also spells `timezone(zone, value)`.

use std::sync::Arc;

use duckdb_neo::Result;
use duckdb_neo::types::{TimeTzValue, TimestampNsValue, TimestampTzNsValue, TimestampTzValue, TimestampValue};

use super::calendar::{Calendar, is_finite, join, split};
use super::civil::{MICROS_PER_DAY, MICROS_PER_MILLI, MICROS_PER_SECOND};
use super::failure;
use super::function::{Instant, InstantNs, Naive, NaiveNs, OffsetTime, Registry, ZoneName};
use super::zone::Zone;

const NANOS_PER_MICRO: i64 = 1_000;

/// Registers the overloads of `timezone`.
pub(super) fn register(registry: &Registry<'_>) -> Result<()> {
    let parameters = ["timezone", "timestamp"];
    registry.add::<(ZoneName, Naive), _, _>("timezone", &parameters, |_, (zone, naive)| {
        to_instant(&zone, naive).map(TimestampTzValue).map(Some)
    })?;
    registry.add::<(ZoneName, Instant), _, _>("timezone", &parameters, |_, (zone, instant)| {
        to_naive(&zone, instant).map(TimestampValue).map(Some)
    })?;
    registry.add::<(ZoneName, NaiveNs), _, _>("timezone", &parameters, |_, (zone, naive)| {
        nanos(naive, |micros| to_instant(&zone, micros)).map(TimestampTzNsValue).map(Some)
    })?;
    registry.add::<(ZoneName, InstantNs), _, _>("timezone", &parameters, |_, (zone, instant)| {
        nanos(instant, |micros| to_naive(&zone, micros)).map(TimestampNsValue).map(Some)
    })?;
    registry.add_clock::<(ZoneName, OffsetTime), _, _>("timezone", &parameters, |session, (zone, time)| {
        let utc = time.micros() - i64::from(time.offset_seconds()) * MICROS_PER_SECOND;
        let offset = offset_seconds(&Calendar::new(&zone, split(session.now).0))?;
        let local = utc + i64::from(offset) * MICROS_PER_SECOND;
        Ok(Some(TimeTzValue::new(local.rem_euclid(MICROS_PER_DAY), offset)))
    })
}

/// The instant of a local timestamp.
pub(super) fn to_instant(zone: &Arc<Zone>, naive: i64) -> Result<i64> {
    if !is_finite(naive) {
        return Ok(naive);
    }
    let (millis, micros) = split(naive);
    join(zone.instant(millis), micros)
}

/// The local timestamp of an instant.
pub(super) fn to_naive(zone: &Arc<Zone>, instant: i64) -> Result<i64> {
    if !is_finite(instant) {
        return Ok(instant);
    }
    let (millis, micros) = split(instant);
    let naive = join(Calendar::new(zone, millis).local(), micros)?;
    if is_finite(naive) { Ok(naive) } else { Err(failure::out_of_range()) }
}

/// The same for nanoseconds, by a function of microseconds.
pub(super) fn nanos(value: i64, shift: impl FnOnce(i64) -> Result<i64>) -> Result<i64> {
    if !is_finite(value) {
        return Ok(value);
    }
    join_nanos(shift(value.div_euclid(NANOS_PER_MICRO))?, value.rem_euclid(NANOS_PER_MICRO))
}

/// Nanoseconds from microseconds and the nanoseconds beyond them.
pub(super) fn join_nanos(micros: i64, nanos: i64) -> Result<i64> {
    if !is_finite(micros) {
        return Ok(micros);
    }
    micros
        .checked_mul(NANOS_PER_MICRO)
        .and_then(|value| value.checked_add(nanos))
        .filter(|value| is_finite(*value))
        .ok_or_else(failure::out_of_range)
}

/// The microsecond that a nanosecond is in.
pub(super) fn micros_of_nanos(nanos: i64) -> i64 {
    if is_finite(nanos) { nanos.div_euclid(NANOS_PER_MICRO) } else { nanos }
}

/// The local time of an instant with its offset, or `None` if it is infinite.
pub(super) fn to_offset_time(zone: &Arc<Zone>, instant: i64) -> Result<Option<TimeTzValue>> {
    if !is_finite(instant) {
        return Ok(None);
    }
    let (millis, micros) = split(instant);
    let calendar = Calendar::new(zone, millis);
    let offset = offset_seconds(&calendar)?;
    Ok(Some(TimeTzValue::new(calendar.wall_time() * MICROS_PER_MILLI + micros, offset)))
}

/// The offset in seconds, if TIMETZ can hold it.
pub(super) fn offset_seconds(calendar: &Calendar) -> Result<i32> {
    i32::try_from(calendar.offset() / 1_000)
        .ok()
        .filter(|offset| offset.abs() <= TimeTzValue::MAX_OFFSET)
        .ok_or_else(|| failure::conversion("the time zone's offset is out of the range -15:59:59 to +15:59:59"))
}
