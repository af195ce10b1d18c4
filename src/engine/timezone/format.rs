//! `strftime` of a TIMESTAMPTZ in the session's time zone.

use duckdb_neo::Result;

use super::calendar::{Calendar, is_finite, split};
use super::civil::{Date, MICROS_PER_MILLI, iso_week, iso_weekday, week_of_year};
use super::failure;
use super::function::{FormatText, Instant, InstantNs, Registry, Session};
use super::local::micros_of_nanos;
use super::part::clock;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Registers `strftime`. Only the argument order (timestamp, format) knows the session's zone, as with ICU.
pub(super) fn register(registry: &Registry<'_>) -> Result<()> {
    let parameters = ["data", "format"];
    registry.add::<(Instant, FormatText), String, _>("strftime", &parameters, |session, (instant, format)| {
        Ok(Some(format.write(session, instant, 0)))
    })?;
    registry.add::<(InstantNs, FormatText), String, _>("strftime", &parameters, |session, (instant, format)| {
        Ok(Some(format.write(session, micros_of_nanos(instant), instant.rem_euclid(1_000))))
    })
}

/// The name of `month` (1 to 12).
pub(super) fn month_name(month: i64) -> &'static str {
    usize::try_from(month - 1).ok().and_then(|index| MONTHS.get(index)).copied().unwrap_or_default()
}

/// The name of the day of the week, where Sunday is 0.
pub(super) fn weekday_name(weekday: i64) -> &'static str {
    usize::try_from(weekday).ok().and_then(|index| WEEKDAYS.get(index)).copied().unwrap_or_default()
}

/// `infinity` or `-infinity`.
pub(super) fn infinity(micros: i64) -> &'static str {
    if micros > 0 { "infinity" } else { "-infinity" }
}

/// Appends `value` with at least `width` digits.
pub(super) fn pad(text: &mut String, value: i64, width: usize) {
    if value < 0 {
        text.push('-');
    }
    let mut digits = [b'0'; 20];
    let mut rest = value.unsigned_abs();
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        if rest == 0 && length >= width.max(1) {
            break;
        }
        // A remainder of 10 is a digit.
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        length += 1;
    }
    let digits = digits.get(digits.len() - length..).unwrap_or_default();
    text.extend(digits.iter().map(|digit| char::from(*digit)));
}

/// A parsed format: each piece is copied, or replaced by a field.
#[derive(Debug)]
pub(super) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Literal(String),
    /// The letter of the field, and whether it is written with leading zeros.
    Field(char, bool),
}

impl Format {
    /// Parses the format of `strftime`.
    pub(super) fn parse(format: &str) -> Result<Self> {
        if format.is_empty() {
            return Err(failure::invalid("a format must not be empty"));
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = format.chars();
        while let Some(next) = rest.next() {
            if next != '%' {
                literal.push(next);
                continue;
            }
            let letter = rest.next().ok_or_else(|| failure::invalid("a format must not end with %"))?;
            if letter == '%' {
                literal.push('%');
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            let expanded = match letter {
                'c' => "Y-m-d H:M:S",
                'x' => "Y-m-d",
                'X' | 'T' => "H:M:S",
                _ => "",
            };
            if !expanded.is_empty() {
                pieces.extend(expanded.chars().map(|letter| {
                    if letter.is_ascii_alphabetic() {
                        Piece::Field(letter, true)
                    } else {
                        Piece::Literal(letter.into())
                    }
                }));
            } else if letter == '-' {
                match rest.next() {
                    Some(letter @ ('d' | 'm' | 'y' | 'H' | 'I' | 'M' | 'S' | 'j')) => {
                        pieces.push(Piece::Field(letter, false));
                    }
                    letter => {
                        let letter = letter.map(String::from).unwrap_or_default();
                        return Err(failure::invalid(format!("unknown field in a format: %-{letter}")));
                    }
                }
            } else if "aAwudhbBmyYGHIpMSnfgzZjUWV".contains(letter) {
                pieces.push(Piece::Field(letter, true));
            } else {
                return Err(failure::invalid(format!("unknown field in a format: %{letter}")));
            }
        }
        pieces.push(Piece::Literal(literal));
        Ok(Self { pieces })
    }

    /// Writes the instant, with `nanos` beyond its microseconds.
    fn write(&self, session: &Session, instant: i64, nanos: i64) -> String {
        if !is_finite(instant) {
            return infinity(instant).to_owned();
        }
        let (millis, micros) = split(instant);
        let calendar = Calendar::new(&session.zone, millis);
        let time = calendar.wall_time() * MICROS_PER_MILLI + micros;
        let fields = Fields {
            zone: session.zone.name(),
            offset: calendar.offset() / 1_000,
            days: calendar.day(),
            date: calendar.date(),
            time,
            nanos: time % 1_000_000 * 1_000 + nanos,
        };
        let mut text = String::with_capacity(32);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Field(letter, padded) => fields.write(&mut text, *letter, *padded),
            }
        }
        text
    }
}

/// What the fields of a format are taken from.
struct Fields<'a> {
    zone: &'a str,
    /// In seconds.
    offset: i64,
    days: i64,
    date: Date,
    /// In microseconds.
    time: i64,
    /// Within the second.
    nanos: i64,
}

impl Fields<'_> {
    fn write(&self, text: &mut String, letter: char, padded: bool) {
        let two = if padded { 2 } else { 1 };
        let (hour, minute, second, _) = clock(self.time);
        let weekday = iso_weekday(self.days);
        match letter {
            'a' => text.push_str(weekday_name(weekday % 7).get(..3).unwrap_or_default()),
            'A' => text.push_str(weekday_name(weekday % 7)),
            'w' => pad(text, weekday % 7, 1),
            'u' => pad(text, weekday, 1),
            'd' => pad(text, self.date.day, two),
            'b' | 'h' => text.push_str(month_name(self.date.month).get(..3).unwrap_or_default()),
            'B' => text.push_str(month_name(self.date.month)),
            'm' => pad(text, self.date.month, two),
            'y' => pad(text, self.date.year.abs() % 100, two),
            'Y' => pad(text, self.date.year, if self.date.year < 0 { 1 } else { 4 }),
            'G' => {
                let year = iso_week(self.days).0;
                pad(text, year, if year < 0 { 1 } else { 4 });
            }
            'H' => pad(text, hour, two),
            'I' => pad(text, (hour + 11) % 12 + 1, two),
            'p' => text.push_str(if hour < 12 { "AM" } else { "PM" }),
            'M' => pad(text, minute, two),
            'S' => pad(text, second, two),
            'n' => pad(text, self.nanos, 9),
            'f' => pad(text, self.nanos / 1_000, 6),
            'g' => pad(text, self.nanos / 1_000_000, 3),
            'z' => write_offset(text, self.offset),
            'Z' => text.push_str(self.zone),
            'j' => pad(text, self.date.day_of_year(), if padded { 3 } else { 1 }),
            'U' => pad(text, week_of_year(self.days, false), 2),
            'W' => pad(text, week_of_year(self.days, true), 2),
            'V' => pad(text, iso_week(self.days).1, 2),
            // Format::parse lets nothing else through.
            _ => {}
        }
    }
}

/// Appends `±hh`, `±hh:mm` or `±hh:mm:ss`.
fn write_offset(text: &mut String, offset: i64) {
    text.push(if offset < 0 { '-' } else { '+' });
    let offset = offset.abs();
    let (minute, second) = (offset / 60 % 60, offset % 60);
    pad(text, offset / 3_600, 2);
    if minute != 0 || second != 0 {
        text.push(':');
        pad(text, minute, 2);
    }
    if second != 0 {
        text.push(':');
        pad(text, second, 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded() {
        let padded = |value, width| {
            let mut text = String::new();
            pad(&mut text, value, width);
            text
        };
        assert_eq!(padded(7, 2), "07");
        assert_eq!(padded(0, 1), "0");
        assert_eq!(padded(12_345, 4), "12345");
        assert_eq!(padded(-43, 1), "-43");
        assert_eq!(padded(i64::MIN, 1), "-9223372036854775808");
    }

    #[test]
    fn bad_formats_are_refused() {
        for format in ["", "%", "%-", "%-Y", "%q", "%é"] {
            assert!(Format::parse(format).is_err(), "{format}");
        }
    }
}
