//! Days and the proleptic Gregorian calendar: what a day number means, without any time zone.
//!
//! Years are astronomical (1 BC is 0), months run from 1 to 12 and day 0 is 1970-01-01. Everything is `i64` and total:
//! a timestamp of the engine spans 584,000 years, which the calendars of the usual libraries do not.

/// Microseconds in a millisecond, a second and so on, and milliseconds in a day.
pub(super) const MICROS_PER_MILLI: i64 = 1_000;
pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub(super) const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
pub(super) const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;
pub(super) const MILLIS_PER_SECOND: i64 = 1_000;
pub(super) const MILLIS_PER_HOUR: i64 = 3_600 * MILLIS_PER_SECOND;
pub(super) const MILLIS_PER_DAY: i64 = 24 * MILLIS_PER_HOUR;

/// The days of 400 years, after which the calendar repeats, weekdays included.
pub(super) const DAYS_PER_CYCLE: i64 = 146_097;

/// Julian day number of 1970-01-01.
pub(super) const JULIAN_EPOCH: i64 = 2_440_588;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// Astronomical: 0 is 1 BC.
    pub(super) year: i64,
    /// From 1 to 12.
    pub(super) month: i64,
    /// From 1.
    pub(super) day: i64,
}

impl Date {
    /// The date of day number `days`.
    pub(super) fn from_days(days: i64) -> Self {
        // Counted from 0000-03-01, so that the leap day is the last of a year.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(DAYS_PER_CYCLE);
        let day_of_era = shifted.rem_euclid(DAYS_PER_CYCLE);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day }
    }

    /// The day number. A month outside of 1..=12 moves the year along, and any day is counted from the month's first.
    pub(super) fn days(self) -> i64 {
        let months = self.year * 12 + self.month - 1;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let year = year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * DAYS_PER_CYCLE + day_of_era - 719_468 + self.day - 1
    }

    /// `months` later, on the same day of the month or its last.
    pub(super) fn plus_months(self, months: i64) -> Self {
        let total = self.year * 12 + self.month - 1 + months;
        let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
        Self { year, month, day: self.day.min(month_length(year, month)) }
    }

    /// The day of the year, from 1.
    pub(super) fn day_of_year(self) -> i64 {
        self.days() - Self { year: self.year, month: 1, day: 1 }.days() + 1
    }
}

/// Whether `year` has 366 days.
pub(super) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The days of `month` (1 to 12) in `year`.
pub(super) fn month_length(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// ISO day of the week of day number `days`: Monday is 1, Sunday is 7.
pub(super) fn iso_weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// ISO year and week of day number `days`.
pub(super) fn iso_week(days: i64) -> (i64, i64) {
    // A week belongs to the year of its Thursday.
    let thursday = days + 4 - iso_weekday(days);
    let date = Date::from_days(thursday);
    (date.year, (date.day_of_year() - 1) / 7 + 1)
}

/// Day number of the Monday that begins the first ISO week of `year`.
pub(super) fn iso_year_start(year: i64) -> i64 {
    let fourth = Date { year, month: 1, day: 4 }.days();
    fourth + 1 - iso_weekday(fourth)
}

/// The week of the year, counted from its first `Monday` or Sunday as C's `%W` and `%U` do.
pub(super) fn week_of_year(days: i64, monday_first: bool) -> i64 {
    let day_of_year = Date::from_days(days).day_of_year() - 1;
    let weekday = if monday_first { iso_weekday(days) - 1 } else { iso_weekday(days) % 7 };
    (day_of_year + 7 - weekday) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_invert_each_other() {
        for days in (-110_000_000..110_000_000).step_by(9_973) {
            assert_eq!(Date::from_days(days).days(), days);
        }
        assert_eq!(Date::from_days(0), Date { year: 1970, month: 1, day: 1 });
        assert_eq!(Date::from_days(-1), Date { year: 1969, month: 12, day: 31 });
        assert_eq!(Date { year: 2023, month: 14, day: 0 }.days(), Date { year: 2024, month: 1, day: 31 }.days());
    }

    #[test]
    fn weeks_follow_iso_8601() {
        let week = |year, month, day| iso_week(Date { year, month, day }.days());
        assert_eq!(week(2021, 1, 3), (2020, 53));
        assert_eq!(week(2021, 1, 4), (2021, 1));
        assert_eq!(week(2024, 12, 30), (2025, 1));
        assert_eq!(iso_weekday(Date { year: 2024, month: 3, day: 10 }.days()), 7);
        assert_eq!(iso_year_start(2021), Date { year: 2021, month: 1, day: 4 }.days());
    }
}
