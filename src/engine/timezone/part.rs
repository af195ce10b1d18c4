//! The parts of a timestamp: their names in SQL, and what each is at an instant.

use super::calendar::Calendar;
use super::civil::{
    Date, JULIAN_EPOCH, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MILLI, MICROS_PER_MINUTE, MICROS_PER_SECOND,
    MILLIS_PER_DAY, MILLIS_PER_SECOND, iso_week, iso_weekday,
};
use super::failure;

/// A part of a timestamp, as `date_part`, `date_trunc`, `date_diff` and `date_sub` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Century,
    Day,
    DayOfWeek,
    DayOfYear,
    Decade,
    Epoch,
    Era,
    Hour,
    IsoDayOfWeek,
    IsoYear,
    JulianDay,
    Microseconds,
    Millennium,
    Milliseconds,
    Minute,
    Month,
    Quarter,
    Second,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
    Week,
    Year,
    YearWeek,
}

/// The accessor functions: `year(t)` and so on.
pub(super) const ACCESSORS: [(&str, Part); 27] = [
    ("century", Part::Century),
    ("day", Part::Day),
    ("dayofmonth", Part::Day),
    ("dayofweek", Part::DayOfWeek),
    ("dayofyear", Part::DayOfYear),
    ("decade", Part::Decade),
    ("epoch", Part::Epoch),
    ("era", Part::Era),
    ("hour", Part::Hour),
    ("isodow", Part::IsoDayOfWeek),
    ("isoyear", Part::IsoYear),
    ("julian", Part::JulianDay),
    ("microsecond", Part::Microseconds),
    ("millennium", Part::Millennium),
    ("millisecond", Part::Milliseconds),
    ("minute", Part::Minute),
    ("month", Part::Month),
    ("quarter", Part::Quarter),
    ("second", Part::Second),
    ("timezone", Part::Timezone),
    ("timezone_hour", Part::TimezoneHour),
    ("timezone_minute", Part::TimezoneMinute),
    ("week", Part::Week),
    ("weekday", Part::DayOfWeek),
    ("weekofyear", Part::Week),
    ("year", Part::Year),
    ("yearweek", Part::YearWeek),
];

impl Part {
    /// The part called `name`, in any of DuckDB's spellings.
    pub(super) fn parse(name: &str) -> duckdb_neo::Result<Self> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "year" | "yr" | "y" | "years" | "yrs" => Self::Year,
            "month" | "mon" | "months" | "mons" => Self::Month,
            "day" | "days" | "d" | "dayofmonth" => Self::Day,
            "decade" | "dec" | "decades" | "decs" => Self::Decade,
            "century" | "cent" | "centuries" | "c" => Self::Century,
            "millennium" | "mil" | "millenniums" | "millennia" | "mils" | "millenium" => Self::Millennium,
            "microseconds" | "microsecond" | "us" | "usec" | "usecs" | "usecond" | "useconds" => Self::Microseconds,
            "milliseconds" | "millisecond" | "ms" | "msec" | "msecs" | "msecond" | "mseconds" => Self::Milliseconds,
            "second" | "sec" | "seconds" | "secs" | "s" => Self::Second,
            "minute" | "min" | "minutes" | "mins" | "m" => Self::Minute,
            "hour" | "hr" | "hours" | "hrs" | "h" => Self::Hour,
            "epoch" => Self::Epoch,
            "dow" | "dayofweek" | "weekday" => Self::DayOfWeek,
            "isodow" => Self::IsoDayOfWeek,
            "week" | "weeks" | "w" | "weekofyear" => Self::Week,
            "doy" | "dayofyear" => Self::DayOfYear,
            "quarter" | "quarters" => Self::Quarter,
            "yearweek" => Self::YearWeek,
            "isoyear" => Self::IsoYear,
            "era" => Self::Era,
            "timezone" => Self::Timezone,
            "timezone_hour" => Self::TimezoneHour,
            "timezone_minute" => Self::TimezoneMinute,
            "julian" | "jd" => Self::JulianDay,
            _ => return Err(failure::conversion(format!("unknown part of a timestamp: \"{name}\""))),
        })
    }

    /// Whether the part is a fraction, and so read by [`Part::fraction`].
    pub(super) fn is_fraction(self) -> bool {
        matches!(self, Self::Epoch | Self::JulianDay)
    }

    /// The part of an instant: `micros` are those beyond the calendar's millisecond.
    pub(super) fn integer(self, calendar: &Calendar, micros: i64) -> i64 {
        let local = calendar.local();
        let (days, time) = (local.div_euclid(MILLIS_PER_DAY), local.rem_euclid(MILLIS_PER_DAY));
        let seconds = time / MILLIS_PER_SECOND;
        let date = || Date::from_days(days);
        // Years are counted within their era, and so never negative, while centuries and millennia are.
        let year = || {
            let year = date().year;
            if year > 0 { (year, 1) } else { (1 - year, -1) }
        };
        let micros_of_minute = || time % 60_000 * MICROS_PER_MILLI + micros;
        match self {
            Self::Era => i64::from(date().year > 0),
            Self::Year => year().0,
            Self::Decade => year().0 / 10,
            Self::Century => ((year().0 - 1) / 100 + 1) * year().1,
            Self::Millennium => ((year().0 - 1) / 1_000 + 1) * year().1,
            Self::Month => date().month,
            Self::Quarter => (date().month - 1) / 3 + 1,
            Self::Day => date().day,
            Self::DayOfWeek => iso_weekday(days) % 7,
            Self::IsoDayOfWeek => iso_weekday(days),
            Self::DayOfYear => date().day_of_year(),
            Self::Week => iso_week(days).1,
            Self::IsoYear => iso_week(days).0,
            Self::YearWeek => {
                let (year, week) = iso_week(days);
                year * 100 + if year > 0 { week } else { -week }
            }
            Self::Hour => seconds / 3_600,
            Self::Minute => seconds / 60 % 60,
            Self::Second => seconds % 60,
            Self::Milliseconds => micros_of_minute() / MICROS_PER_MILLI,
            Self::Microseconds => micros_of_minute(),
            Self::Timezone => calendar.offset() / MILLIS_PER_SECOND,
            Self::TimezoneHour => calendar.offset() / MILLIS_PER_SECOND / 3_600,
            Self::TimezoneMinute => calendar.offset() / MILLIS_PER_SECOND % 3_600 / 60,
            Self::Epoch => calendar.millis() / MILLIS_PER_SECOND,
            Self::JulianDay => days + JULIAN_EPOCH,
        }
    }

    /// The same as a number with a fraction.
    #[expect(clippy::cast_precision_loss, reason = "the engine's own functions return these parts as DOUBLE")]
    pub(super) fn fraction(self, calendar: &Calendar, micros: i64) -> f64 {
        if self == Self::Epoch {
            return calendar.millis() as f64 / MILLIS_PER_SECOND as f64 + micros as f64 / MICROS_PER_SECOND as f64;
        }
        let whole = self.integer(calendar, micros) as f64;
        if self != Self::JulianDay {
            return whole;
        }
        let time = calendar.wall_time() * MICROS_PER_MILLI + micros;
        time as f64 / MICROS_PER_DAY as f64 + whole
    }
}

/// Hours, minutes, seconds and microseconds of a time of day.
pub(super) fn clock(micros: i64) -> (i64, i64, i64, i64) {
    let minute = micros % MICROS_PER_HOUR / MICROS_PER_MINUTE;
    let second = micros % MICROS_PER_MINUTE / MICROS_PER_SECOND;
    (micros / MICROS_PER_HOUR, minute, second, micros % MICROS_PER_SECOND)
}
