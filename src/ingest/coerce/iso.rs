//! ISO 8601 text to microseconds since 1970 in UTC.
//!
//! Accepted: a date, or a date and a time of day behind `T` or a space; a fraction of up to nine digits, cut to
//! microseconds; an offset (`Z`, `+05:00`, `+0500`, `+05`), none means UTC. The common forms are read by hand, the
//! others by jiff. A leap second (`:60`) is read as the second before it, as jiff does, since DuckDB has none. A time
//! zone in brackets is taken only beside an offset, which counts: a name alone is not ISO 8601.

use jiff::civil;
use jiff::fmt::temporal::DateTimeParser;

const PARSER: DateTimeParser = DateTimeParser::new();

const MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// The instant that `text` means. Years have four digits, so DuckDB's TIMESTAMP holds every one of them.
pub(super) fn micros(text: &str) -> Option<i64> {
    common(text.as_bytes()).or_else(|| rare(text))
}

/// `YYYY-MM-DD`, or `YYYY-MM-DD HH:MM:SS` with `T` or a space, a fraction, and `Z` or `+HH:MM`.
fn common(text: &[u8]) -> Option<i64> {
    let (&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2], rest) = text.split_first_chunk::<10>()? else { return None };
    let day = day(two(y1, y2)? * 100 + two(y3, y4)?, two(m1, m2)?, two(d1, d2)?)?;
    if rest.is_empty() {
        return Some(day * DAY_SECONDS * MICROS);
    }
    let (&[b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2], rest) = rest.split_first_chunk::<9>()? else {
        return None;
    };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    let (fraction, rest) = fraction(rest)?;
    let offset = match *rest {
        [] | [b'Z' | b'z'] => 0,
        [b'+', h1, h2, b':', m1, m2] => offset(two(h1, h2)?, two(m1, m2)?)?,
        [b'-', h1, h2, b':', m1, m2] => -offset(two(h1, h2)?, two(m1, m2)?)?,
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = day * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * MICROS + fraction)
}

/// Every other form of ISO 8601 that jiff reads.
fn rare(text: &str) -> Option<i64> {
    let pieces = PARSER.parse_pieces(text).ok()?;
    let offset = match pieces.to_numeric_offset() {
        Some(offset) => offset.seconds(),
        None if pieces.time_zone_annotation().is_some() => return None,
        None => 0,
    };
    let date = pieces.date();
    let day = days_since_1970(date.year().into(), date.month().into(), date.day().into());
    let time = pieces.time().unwrap_or(civil::Time::midnight());
    let second = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    let seconds = day * DAY_SECONDS + second - i64::from(offset);
    Some(seconds * MICROS + i64::from(time.subsec_nanosecond() / 1000))
}

/// The number that two digits spell.
#[inline]
fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// The microseconds of a fraction, if there is one, and what comes behind it.
#[inline]
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = rest else { return Some((0, rest)) };
    let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    if !(1..=9).contains(&length) {
        return None;
    }
    let (digits, rest) = rest.split_at(length);
    let digit = |index: usize| digits.get(index).map_or(0, |digit| i64::from(digit - b'0'));
    Some(((0..6).fold(0, |micros, index| micros * 10 + digit(index)), rest))
}

#[inline]
fn offset(hours: i64, minutes: i64) -> Option<i64> {
    (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
}

/// The days from 1970 to a date, if the calendar has it.
#[inline]
fn day(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    (1..=length).contains(&day).then(|| days_since_1970(year, month, day))
}

/// Counts days in years that begin in March, so that the leap day is the last, and in cycles of 400 years.
#[inline]
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    cycle * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::Offset;
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let expected = expected.map(|text| text.parse::<Timestamp>().unwrap().as_microsecond());
        assert_eq!(micros(text), expected, "{text}");
    }

    #[test]
    fn texts_are_read() {
        for (text, expected) in [
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("2024-03-01T12:34:56", "2024-03-01T12:34:56Z"),
            ("2024-03-01 12:34:56", "2024-03-01T12:34:56Z"),
            ("2024-03-01t12:34:56z", "2024-03-01T12:34:56Z"),
            ("2024-03-01T12:34:56.1", "2024-03-01T12:34:56.1Z"),
            ("2024-03-01T12:34:56.123456Z", "2024-03-01T12:34:56.123456Z"),
            ("2024-03-01T12:34:56.123456999Z", "2024-03-01T12:34:56.123456Z"),
            ("1969-12-31T23:59:59.9999999", "1969-12-31T23:59:59.999999Z"),
            ("2024-03-01T12:00:00,5Z", "2024-03-01T12:00:00.5Z"),
            ("2024-03-01T12:00:00+05:00", "2024-03-01T07:00:00Z"),
            ("2024-03-01T12:00:00.25+0500", "2024-03-01T07:00:00.25Z"),
            ("2024-03-01 12:00:00+05", "2024-03-01T07:00:00Z"),
            ("2024-03-01T00:00:00-03:30", "2024-03-01T03:30:00Z"),
            ("2024-03-01T00:00:00-00:00", "2024-03-01T00:00:00Z"),
            ("2024-03-01T12:34", "2024-03-01T12:34:00Z"),
            ("2024-03-01T12:34Z", "2024-03-01T12:34:00Z"),
            ("20240301T123456Z", "2024-03-01T12:34:56Z"),
            ("20240301", "2024-03-01T00:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("2024-06-15T07:04:00-04:00[America/New_York]", "2024-06-15T11:04:00Z"),
            ("0001-01-01", "0001-01-01T00:00:00Z"),
            ("1900-02-28", "1900-02-28T00:00:00Z"),
            ("2000-02-29", "2000-02-29T00:00:00Z"),
        ] {
            check(text, Some(expected));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "yesterday",
            "2024",
            "2024-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "2024-1-1",
            "2024-01-01T",
            "2024-01-01T24:00:00",
            "2024-01-01T12:60:00",
            "2024-01-01T12:00:61",
            "2024-01-01T12:00:00.",
            "2024-01-01T12:00:00.1234567890",
            "2024-01-01T12:00:00+26:00",
            "2024-01-01T12:00:00+05:0",
            "2024-01-01T12:00:00 UTC",
            " 2024-01-01",
            "2024-01-01 ",
            "2024-06-15T07:04:00[America/New_York]",
            "1700000000",
            "١٢٣٤-01-01",
            "2024-01-01T12:00:00é",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn the_last_day_of_year_9999_is_read() {
        // A common stand-in for "never", and more than jiff's Timestamp holds.
        assert_eq!(micros("9999-12-31T23:59:59.999999Z"), Some(253_402_300_799_999_999));
        assert_eq!(micros("9999-12-31 23:59"), Some(253_402_300_740_000_000));
    }

    proptest! {
        #[test]
        fn instants_are_read_as_jiff_prints_them(
            micros_of_instant in -377_000_000_000_000_000_i64..253_000_000_000_000_000,
            offset_minutes in -1439..1440_i32,
        ) {
            let instant = Timestamp::from_microsecond(micros_of_instant).unwrap();
            let offset = Offset::from_seconds(offset_minutes * 60).unwrap();
            prop_assert_eq!(micros(&instant.to_string()), Some(micros_of_instant));
            prop_assert_eq!(micros(&instant.display_with_offset(offset).to_string()), Some(micros_of_instant));
            prop_assert_eq!(micros(&Offset::UTC.to_datetime(instant).to_string()), Some(micros_of_instant));
        }

        #[test]
        fn what_jiff_reads_is_read_alike(
            text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:?[0-6][0-9])",
        ) {
            let expected = text.parse::<Timestamp>().ok().map(|instant| instant.as_nanosecond().div_euclid(1000));
            prop_assert_eq!(micros(&text).map(i128::from), expected);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = micros(&text);
        }
    }
}
