//! A wall clock in a time zone: the arithmetic that every function on TIMESTAMPTZ is made of.
//!
//! It computes in milliseconds and carries the microseconds beside them, as the ICU extension does, because that
//! shows: a transition falls between milliseconds, and sums borrow from one to the other.

use std::sync::Arc;

use super::civil::{Date, MICROS_PER_MILLI, MILLIS_PER_DAY, MILLIS_PER_HOUR, iso_week, iso_weekday, iso_year_start};
use super::failure;
use super::part::Part;
use super::zone::Zone;

/// The instant that the engine writes as `infinity`; its negative is `-infinity`.
const INFINITY: i64 = i64::MAX;

/// Whether `micros` is an instant, neither `infinity` nor `-infinity`.
pub(super) fn is_finite(micros: i64) -> bool {
    micros != INFINITY && micros != -INFINITY
}

/// Milliseconds, and the microseconds beyond them from 0 to 999.
pub(super) fn split(micros: i64) -> (i64, i64) {
    (micros.div_euclid(MICROS_PER_MILLI), micros.rem_euclid(MICROS_PER_MILLI))
}

/// The inverse of [`split`].
pub(super) fn join(millis: i64, micros: i64) -> duckdb_neo::Result<i64> {
    millis.checked_mul(MICROS_PER_MILLI).and_then(|value| value.checked_add(micros)).ok_or_else(failure::out_of_range)
}

/// An instant seen in a zone.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    zone: Arc<Zone>,
    millis: i64,
}

/// A unit that [`Calendar::difference`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Hour,
    Day,
    Week,
    Month,
    Year,
    IsoYear,
}

impl Calendar {
    /// The instant `millis` since the epoch, in `zone`.
    pub(super) fn new(zone: &Arc<Zone>, millis: i64) -> Self {
        Self { zone: Arc::clone(zone), millis }
    }

    /// Milliseconds since the epoch.
    pub(super) fn millis(&self) -> i64 {
        self.millis
    }

    /// The offset from UTC in milliseconds.
    pub(super) fn offset(&self) -> i64 {
        self.zone.offset(self.millis)
    }

    /// Local time in milliseconds, as if it were UTC.
    pub(super) fn local(&self) -> i64 {
        self.millis.saturating_add(self.offset())
    }

    /// The local day number.
    pub(super) fn day(&self) -> i64 {
        self.local().div_euclid(MILLIS_PER_DAY)
    }

    /// The local date.
    pub(super) fn date(&self) -> Date {
        Date::from_days(self.day())
    }

    /// Milliseconds since local midnight, on a clock that knows no transition.
    pub(super) fn wall_time(&self) -> i64 {
        self.local().rem_euclid(MILLIS_PER_DAY)
    }

    /// Moves to a local time.
    pub(super) fn set_local(&mut self, local: i64) {
        self.millis = self.zone.instant(local);
    }

    fn map_date(&mut self, date: impl FnOnce(Date) -> Date) {
        let local = self.local();
        let date = date(Date::from_days(local.div_euclid(MILLIS_PER_DAY)));
        self.set_local(date.days() * MILLIS_PER_DAY + local.rem_euclid(MILLIS_PER_DAY));
    }

    /// Moves by a span of physical time.
    pub(super) fn add_millis(&mut self, millis: i64) {
        self.millis = self.millis.saturating_add(millis);
    }

    /// Moves by months, to the same day or the month's last, at the same time on the wall.
    pub(super) fn add_months(&mut self, months: i64) {
        if months != 0 {
            self.map_date(|date| date.plus_months(months));
        }
    }

    /// Moves by days, at the same time on the wall where that exists.
    pub(super) fn add_days(&mut self, days: i64) {
        let offset = self.offset();
        let start = self.millis;
        let unadjusted = start.saturating_add(days.saturating_mul(MILLIS_PER_DAY));
        self.millis = unadjusted;
        let reached = self.offset();
        if reached == offset {
            return;
        }
        // Zones that crossed the date line shifted by a whole day, which is no reason to move the date.
        let adjustment = (offset - reached) % MILLIS_PER_DAY;
        self.millis = unadjusted.saturating_add(adjustment);
        let is_on_time = (self.local() - start.saturating_add(offset)) % MILLIS_PER_DAY == 0;
        if !is_on_time && adjustment < 0 {
            self.millis = unadjusted;
        }
    }

    fn add(&mut self, unit: Unit, count: i64) {
        match unit {
            Unit::Hour => self.add_millis(count.saturating_mul(MILLIS_PER_HOUR)),
            Unit::Day => self.add_days(count),
            Unit::Week => self.add_days(count.saturating_mul(7)),
            Unit::Month => self.add_months(count),
            Unit::Year => self.add_months(count.saturating_mul(12)),
            Unit::IsoYear => self.add_iso_years(count),
        }
    }

    fn add_iso_years(&mut self, years: i64) {
        let day = self.day();
        let (year, week) = iso_week(day);
        let target = iso_year_start(year + years) + (week - 1) * 7 + iso_weekday(day) - 1;
        self.set_local(target * MILLIS_PER_DAY + self.wall_time());
    }

    /// How many whole `unit`s lie between here and `target`, negative if it is earlier; moves past them.
    pub(super) fn difference(&mut self, target: i64, unit: Unit) -> duckdb_neo::Result<i64> {
        let start = self.clone();
        let step = if target < start.millis { -1 } else { 1 };
        let reached = |count: i64| {
            let mut reached = start.clone();
            reached.add(unit, count);
            (reached.millis, if step > 0 { reached.millis <= target } else { reached.millis >= target })
        };
        let mut count = target.saturating_sub(start.millis) / unit.mean_length();
        // The guess is off by one or two; the bound only keeps a surprise from becoming an endless loop.
        for _ in 0..64 {
            if reached(count).1 {
                break;
            }
            count -= step;
        }
        for _ in 0..64 {
            if !reached(count + step).1 {
                break;
            }
            count += step;
        }
        if i32::try_from(count).is_err() {
            return Err(failure::conversion("the difference is too large to count"));
        }
        self.millis = reached(count).0;
        Ok(count)
    }

    /// Moves back to the beginning of the `part`.
    pub(super) fn truncate(&mut self, part: Part) -> duckdb_neo::Result<()> {
        match part {
            // The calendar itself is in milliseconds.
            Part::Microseconds | Part::Milliseconds => {}
            Part::Second | Part::Epoch => self.floor(1_000),
            Part::Minute => self.floor(60_000),
            Part::Hour => self.set_local(floor(self.local(), MILLIS_PER_HOUR)),
            Part::Day | Part::DayOfWeek | Part::IsoDayOfWeek | Part::DayOfYear | Part::JulianDay => {
                self.set_local(self.day() * MILLIS_PER_DAY);
            }
            Part::Week | Part::YearWeek => {
                let day = self.day();
                self.set_local((day + 1 - iso_weekday(day)) * MILLIS_PER_DAY);
            }
            Part::IsoYear => self.set_local(iso_year_start(iso_week(self.day()).0) * MILLIS_PER_DAY),
            Part::Month => self.truncate_to(|date| Date { day: 1, ..date }),
            Part::Quarter => {
                self.truncate_to(|date| Date { day: 1, ..date });
                self.map_date(|date| Date { month: (date.month - 1) / 3 * 3 + 1, ..date });
            }
            Part::Year => self.truncate_to(first_of_year),
            Part::Decade => self.truncate_years(10),
            Part::Century => self.truncate_years(100),
            Part::Millennium => self.truncate_years(1_000),
            Part::Era => {
                self.truncate_to(first_of_year);
                self.map_date(|date| Date { year: i64::from(date.year <= 0), ..date });
            }
            Part::Timezone | Part::TimezoneHour | Part::TimezoneMinute => {
                return Err(failure::unsupported("a timestamp cannot be truncated to a part of its time zone"));
            }
        }
        Ok(())
    }

    /// Truncates below the hour, where the offset stays: an hour that occurs twice keeps its occurrence.
    fn floor(&mut self, millis: i64) {
        let offset = self.offset();
        self.millis = floor(self.millis.saturating_add(offset), millis).saturating_sub(offset);
    }

    fn truncate_to(&mut self, date: impl FnOnce(Date) -> Date) {
        let date = date(self.date());
        self.set_local(date.days() * MILLIS_PER_DAY);
    }

    /// Decades and above count the years of an era, so those of BC run backwards.
    fn truncate_years(&mut self, years: i64) {
        self.truncate_to(first_of_year);
        self.map_date(|date| {
            let year = if date.year > 0 { date.year / years * years } else { 1 - (1 - date.year) / years * years };
            Date { year, ..date }
        });
    }
}

impl Unit {
    /// In milliseconds, for a first guess.
    fn mean_length(self) -> i64 {
        match self {
            Self::Hour => MILLIS_PER_HOUR,
            Self::Day => MILLIS_PER_DAY,
            Self::Week => 7 * MILLIS_PER_DAY,
            Self::Month => 2_629_746_000,
            Self::Year | Self::IsoYear => 31_556_952_000,
        }
    }
}

fn floor(value: i64, unit: i64) -> i64 {
    value.div_euclid(unit) * unit
}

fn first_of_year(date: Date) -> Date {
    Date { month: 1, day: 1, ..date }
}
