//! `+`, `-`, `age`, `date_sub`, `date_diff` and `date_trunc`.

use std::sync::Arc;

use duckdb_neo::Result;
use duckdb_neo::types::{IntervalValue, TimestampTzValue};

use super::calendar::{Calendar, Unit, is_finite, join, split};
use super::civil::{Date, MICROS_PER_HOUR, MICROS_PER_MILLI, MICROS_PER_MINUTE, MICROS_PER_SECOND, month_length};
use super::function::{Instant, InstantNs, Interval, PartName, Registry};
use super::part::{Part, clock};
use super::zone::Zone;
use super::{failure, local};

/// Registers the functions of this file.
pub(super) fn register(registry: &Registry<'_>) -> Result<()> {
    let operands = ["left", "right"];
    registry.add::<(Instant, Interval), _, _>("+", &operands, |session, (instant, interval)| {
        add(&session.zone, instant, interval).map(TimestampTzValue).map(Some)
    })?;
    registry.add::<(Interval, Instant), _, _>("+", &operands, |session, (interval, instant)| {
        add(&session.zone, instant, interval).map(TimestampTzValue).map(Some)
    })?;
    registry.add::<(Instant, Interval), _, _>("-", &operands, |session, (instant, interval)| {
        subtract(&session.zone, instant, interval).map(TimestampTzValue).map(Some)
    })?;
    registry.add::<(Instant, Instant), _, _>("-", &operands, |session, (end, start)| {
        between(&session.zone, end, start).map(Some)
    })?;
    registry.add::<(Instant, Instant), _, _>("age", &["timestamp1", "timestamp2"], |session, (end, start)| {
        Ok(Some(age(&session.zone, end, start)))
    })?;
    registry.add_clock::<(Instant,), _, _>("age", &["timestamp"], |session, (start,)| {
        let mut midnight = Calendar::new(&session.zone, split(session.now).0);
        midnight.truncate(Part::Day)?;
        Ok(Some(age(&session.zone, join(midnight.millis(), 0)?, start)))
    })?;
    for name in ["date_trunc", "datetrunc"] {
        registry.add::<(PartName, Instant), _, _>(name, &["part", "timestamp"], |session, (part, instant)| {
            truncate(&session.zone, part, instant).map(TimestampTzValue).map(Some)
        })?;
    }
    let range = ["part", "startdate", "enddate"];
    for name in ["date_sub", "datesub"] {
        registry.add::<(PartName, Instant, Instant), i64, _>(name, &range, |session, (part, start, end)| {
            finite(start, end).map(|(start, end)| elapsed(&session.zone, part, start, end)).transpose()
        })?;
    }
    for name in ["date_diff", "datediff"] {
        registry.add::<(PartName, Instant, Instant), i64, _>(name, &range, |session, (part, start, end)| {
            finite(start, end).map(|(start, end)| crossed(&session.zone, part, start, end)).transpose()
        })?;
        registry.add::<(PartName, InstantNs, InstantNs), i64, _>(name, &range, |session, (part, start, end)| {
            let micros = |(start, end)| (local::micros_of_nanos(start), local::micros_of_nanos(end));
            let range = finite(start, end).map(micros);
            range.map(|(start, end)| crossed(&session.zone, part, start, end)).transpose()
        })?;
    }
    Ok(())
}

fn finite(start: i64, end: i64) -> Option<(i64, i64)> {
    (is_finite(start) && is_finite(end)).then_some((start, end))
}

/// `instant + interval`: months and days on the wall's calendar, the rest in physical time.
pub(super) fn add(zone: &Arc<Zone>, instant: i64, interval: IntervalValue) -> Result<i64> {
    if !is_finite(instant) {
        return Ok(instant);
    }
    let mut millis = instant / MICROS_PER_MILLI;
    let mut micros = instant % MICROS_PER_MILLI + interval.micros % MICROS_PER_MILLI;
    if micros >= MICROS_PER_MILLI {
        micros -= MICROS_PER_MILLI;
        millis += 1;
    } else if micros < 0 {
        micros += MICROS_PER_MILLI;
        millis -= 1;
    }
    let mut calendar = Calendar::new(zone, millis);
    let (months, days) = (i64::from(interval.months), i64::from(interval.days));
    // Going back, the time of day goes first, so that a sum and its reverse meet.
    if months < 0 || days < 0 || interval.micros < 0 {
        calendar.add_millis(interval.micros / MICROS_PER_MILLI);
        calendar.add_months(months);
        calendar.add_days(days);
    } else {
        calendar.add_months(months);
        calendar.add_days(days);
        calendar.add_millis(interval.micros / MICROS_PER_MILLI);
    }
    join(calendar.millis(), micros)
}

/// `instant - interval`.
pub(super) fn subtract(zone: &Arc<Zone>, instant: i64, interval: IntervalValue) -> Result<i64> {
    let too_large = || failure::conversion("the interval is too large to be negated");
    let negated = IntervalValue {
        months: interval.months.checked_neg().ok_or_else(too_large)?,
        days: interval.days.checked_neg().ok_or_else(too_large)?,
        micros: interval.micros.checked_neg().ok_or_else(too_large)?,
    };
    add(zone, instant, negated)
}

/// `end - start`, in days of the wall's calendar and physical time.
fn between(zone: &Arc<Zone>, end: i64, start: i64) -> Result<IntervalValue> {
    if finite(start, end).is_none() {
        return Err(failure::invalid("cannot subtract infinite timestamps"));
    }
    if start > end {
        let reversed = between(zone, start, end)?;
        return Ok(IntervalValue { months: 0, days: -reversed.days, micros: -reversed.micros });
    }
    let (start_millis, start_micros) = split(start);
    let (mut end_millis, mut end_micros) = (end / MICROS_PER_MILLI, end % MICROS_PER_MILLI);
    if end_micros >= 0 && start_micros > end_micros {
        end_millis -= 1;
        end_micros += MICROS_PER_MILLI;
    }
    let mut calendar = Calendar::new(zone, start_millis);
    let days = calendar.difference(end_millis, Unit::Day)?;
    let rest = end_millis.saturating_sub(calendar.millis());
    let days = i32::try_from(days).map_err(|_| failure::out_of_range())?;
    Ok(IntervalValue { months: 0, days, micros: rest * MICROS_PER_MILLI + end_micros - start_micros })
}

/// `age(end, start)`: the years, months, days and time between two readings of the wall clock.
#[expect(clippy::cast_possible_truncation, reason = "the months and days of any two timestamps fit")]
fn age(zone: &Arc<Zone>, end: i64, start: i64) -> IntervalValue {
    let sign = if start > end { -1 } else { 1 };
    let (end_date, end_time) = reading(zone, end);
    let (start_date, start_time) = reading(zone, start);
    let (end_clock, start_clock) = (clock(end_time), clock(start_time));
    let mut micros = sign * (end_clock.3 - start_clock.3);
    let mut seconds = sign * (end_clock.2 - start_clock.2);
    let mut minutes = sign * (end_clock.1 - start_clock.1);
    let mut hours = sign * (end_clock.0 - start_clock.0);
    let mut days = sign * (end_date.day - start_date.day);
    let mut months = sign * (end_date.year * 12 + end_date.month - start_date.year * 12 - start_date.month);
    let borrow = |lower: &mut i64, higher: &mut i64, size: i64| {
        if *lower < 0 {
            *lower += size;
            *higher -= 1;
        }
    };
    borrow(&mut micros, &mut seconds, MICROS_PER_SECOND);
    borrow(&mut seconds, &mut minutes, 60);
    borrow(&mut minutes, &mut hours, 60);
    borrow(&mut hours, &mut days, 24);
    // Days are borrowed from the month of the earlier timestamp.
    let earlier = if sign < 0 { end_date } else { start_date };
    while days < 0 {
        borrow(&mut days, &mut months, month_length(earlier.year, earlier.month));
    }
    let time = hours * MICROS_PER_HOUR + minutes * MICROS_PER_MINUTE + seconds * MICROS_PER_SECOND + micros;
    IntervalValue { months: (sign * months) as i32, days: (sign * days) as i32, micros: sign * time }
}

/// The date and the microseconds of the day that the wall shows.
fn reading(zone: &Arc<Zone>, instant: i64) -> (Date, i64) {
    let (millis, micros) = split(instant);
    let calendar = Calendar::new(zone, millis);
    (calendar.date(), calendar.wall_time() * MICROS_PER_MILLI + micros)
}

/// `date_trunc(part, instant)`.
pub(super) fn truncate(zone: &Arc<Zone>, part: Part, instant: i64) -> Result<i64> {
    if !is_finite(instant) {
        return Ok(instant);
    }
    let (millis, micros) = split(instant);
    let mut calendar = Calendar::new(zone, millis);
    calendar.truncate(part)?;
    join(calendar.millis(), if part == Part::Microseconds { micros } else { 0 })
}

/// `date_sub(part, start, end)`: how many whole parts fit between two instants.
pub(super) fn elapsed(zone: &Arc<Zone>, part: Part, start: i64, end: i64) -> Result<i64> {
    let micros = || end.checked_sub(start).ok_or_else(failure::out_of_range);
    let count = |unit| Calendar::new(zone, split(start).0).difference(end / MICROS_PER_MILLI, unit);
    match part {
        Part::Microseconds => micros(),
        Part::Milliseconds => Ok(micros()? / MICROS_PER_MILLI),
        Part::Second | Part::Epoch => Ok(micros()? / MICROS_PER_SECOND),
        Part::Minute => Ok(micros()? / MICROS_PER_MINUTE),
        Part::Hour => count(Unit::Hour),
        Part::Day | Part::DayOfWeek | Part::IsoDayOfWeek | Part::DayOfYear | Part::JulianDay => count(Unit::Day),
        Part::Week | Part::YearWeek => count(Unit::Week),
        Part::Month => count(Unit::Month),
        Part::Quarter => Ok(count(Unit::Month)? / 3),
        Part::Year => count(Unit::Year),
        Part::Decade => Ok(count(Unit::Year)? / 10),
        Part::Century => Ok(count(Unit::Year)? / 100),
        Part::Millennium => Ok(count(Unit::Year)? / 1_000),
        Part::IsoYear => count(Unit::IsoYear),
        Part::Era => Ok(eras(zone, start, end)),
        Part::Timezone | Part::TimezoneHour | Part::TimezoneMinute => {
            Err(failure::unsupported("parts of a time zone cannot be subtracted"))
        }
    }
}

/// `date_diff(part, start, end)`: how many beginnings of a part lie between two instants.
fn crossed(zone: &Arc<Zone>, part: Part, start: i64, end: i64) -> Result<i64> {
    if part == Part::Era {
        return Ok(era(zone, end) - era(zone, start));
    }
    // Weeks are counted from the start's weekday, not from Monday.
    let unit = if part == Part::Week { Part::Day } else { part };
    elapsed(zone, part, truncate(zone, unit, start)?, truncate(zone, unit, end)?)
}

fn era(zone: &Arc<Zone>, instant: i64) -> i64 {
    i64::from(reading(zone, instant).0.year > 0)
}

/// Whole eras: from a date of one era to the same date and year of the other.
fn eras(zone: &Arc<Zone>, start: i64, end: i64) -> i64 {
    let difference = era(zone, end) - era(zone, start);
    if difference == 0 {
        return 0;
    }
    let mut calendar = Calendar::new(zone, split(start).0);
    let date = calendar.date();
    calendar.add_months((1 - 2 * date.year) * 12);
    let (reached, target) = (calendar.millis(), end / MICROS_PER_MILLI);
    if (difference > 0 && reached <= target) || (difference < 0 && reached >= target) { difference } else { 0 }
}
