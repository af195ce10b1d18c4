//! Times of JSON lines as microseconds since 1970 in UTC. They are read here and not by the server: an id that is derived of a
//! line needs its time.
//!
//! A number is an epoch: below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds: the rule of
//! the server. Text is ISO 8601, or a number in quotes; an offset is honoured, and none means UTC.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::members;
use crate::ingest::coerce::{epoch, epoch_of_float};

/// The time that the JSON value of the member `name` says; `None` for null and empty text.
pub(super) fn parse(name: &str, value: &str) -> Result<Option<i64>, String> {
    let Some(text) = members::text(name, value)? else { return Ok(None) };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let micros = number(text).or_else(|| iso(text));
    micros.map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        format!("`{name}` is not a time: `{shown}`")
    })
}

/// A number is an epoch by the server's own rule.
fn number(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(number) => Some(epoch(number)),
        Err(_) => text.parse::<f64>().ok().and_then(epoch_of_float),
    }
}

fn iso(text: &str) -> Option<i64> {
    let time = text.parse::<Timestamp>().or_else(|_| {
        text.parse::<DateTime>().and_then(|time| time.to_zoned(TimeZone::UTC)).map(|time| time.timestamp())
    });
    time.ok().map(Timestamp::as_microsecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let second = 1_704_067_200_000_000;
        for (value, micros) in [
            ("1704067200", second),
            ("1704067200000", second),
            ("1704067200000000", second),
            ("1704067200000000000", second),
            ("-1704067200000000001", -second - 1),
            ("1704067200.5", second + 500_000),
            ("1704067200.123456", second + 123_456),
            ("1.7040672e9", second),
            ("-1", -1_000_000),
            ("0", 0),
            (r#""1704067200""#, second),
            (r#""2024-01-01""#, second),
            (r#""2024-01-01T00:00:00""#, second),
            (r#""2024-01-01 00:00:00""#, second),
            (r#""2024-01-01T00:00:00Z""#, second),
            (r#""2024-01-01T02:00:00+02:00""#, second),
            (r#""2024-01-01T00:00:00.000001""#, second + 1),
        ] {
            assert_eq!(parse("time", value), Ok(Some(micros)), "{value}");
        }
        for value in ["null", r#""""#, r#"" ""#] {
            assert_eq!(parse("time", value), Ok(None), "{value}");
        }
        for value in [r#""yesterday""#, r#""2024-13-01""#, "1e300", "true", r#""NaN""#, r#""inf""#] {
            let error = parse("time", value).unwrap_err();
            assert!(error.starts_with("`time` is not a time: `"), "{value}: {error}");
        }
        assert_eq!(parse("time", "[1]").unwrap_err(), "`time` is an array, not text");
    }
}
