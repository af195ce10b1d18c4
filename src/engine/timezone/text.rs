//! The text of a TIMESTAMPTZ: reading it and writing it as DuckDB's casts do.

use duckdb_neo::{Error, Result};

use super::calendar::is_finite;
use super::civil::{Date, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, month_length};
use super::failure;
use super::format::pad;
use super::part::clock;

/// Years beyond this are out of the range of every type, and would overflow on the way to it.
const YEAR_MAX: i64 = 100_000_000;

/// A timestamp read from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp<'a> {
    /// In microseconds; UTC if the text had an offset, local time otherwise.
    pub(super) micros: i64,
    /// Beyond the microseconds.
    pub(super) nanos: i64,
    /// How the local time is to be understood.
    pub(super) place: Place<'a>,
}

/// Where the clock hung that a text was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The text says nothing.
    Session,
    /// The text had an offset, already applied.
    Utc,
    /// The text names a zone.
    Named(&'a str),
}

/// Reads `YYYY-MM-DD[ HH:MM[:SS[.fraction]][±HH[:MM[:SS]] | Z | ZONE]]`, `epoch`, `infinity` and so on.
pub(super) fn parse(text: &str) -> Result<Stamp<'_>> {
    read_stamp(&mut Cursor::new(text)).map_err(|problem| problem.error(text))
}

/// Reads a time with an optional offset in seconds. A timestamp will do, of which the time in UTC is taken.
pub(super) fn parse_time(text: &str) -> Result<(i64, Option<i32>)> {
    read_time_with_offset(text).ok_or_else(|| {
        failure::conversion(format!("cannot read \"{text}\" as a time: expected HH:MM:SS[.US][±HH[:MM]]"))
    })
}

/// Writes a local timestamp with the offset in seconds that holds there.
pub(super) fn write(date: Date, time: i64, nanos: i64, offset: i64) -> String {
    let mut text = String::with_capacity(32);
    let before_christ = date.year <= 0;
    pad(&mut text, if before_christ { 1 - date.year } else { date.year }, 4);
    text.push('-');
    pad(&mut text, date.month, 2);
    text.push('-');
    pad(&mut text, date.day, 2);
    text.push_str(if before_christ { " (BC) " } else { " " });
    let (hour, minute, second, micros) = clock(time);
    pad(&mut text, hour, 2);
    text.push(':');
    pad(&mut text, minute, 2);
    text.push(':');
    pad(&mut text, second, 2);
    if micros != 0 || nanos != 0 {
        text.push('.');
        pad(&mut text, micros, 6);
        if nanos != 0 {
            pad(&mut text, nanos, 3);
        }
        text.truncate(text.trim_end_matches('0').len());
    }
    // Seconds of an offset, which only old local mean times have, are not shown.
    text.push(if offset <= -60 { '-' } else { '+' });
    let minutes = offset.abs() / 60;
    pad(&mut text, minutes / 60, 2);
    if minutes % 60 != 0 {
        text.push(':');
        pad(&mut text, minutes % 60, 2);
    }
    text
}

/// Why a text could not be read.
#[derive(Clone, Copy, Debug)]
enum Problem {
    Format,
    Range,
}

impl Problem {
    fn error(self, text: &str) -> Error {
        let shown: String = text.chars().take(100).collect();
        failure::conversion(match self {
            Self::Format => format!(
                "cannot read \"{shown}\" as a timestamp: expected YYYY-MM-DD HH:MM[:SS[.US]][±HH[:MM[:SS]] | ZONE]"
            ),
            Self::Range => format!("the timestamp \"{shown}\" is out of range"),
        })
    }
}

/// A position in a text, read byte by byte.
struct Cursor<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn is_done(&self) -> bool {
        self.position >= self.text.len()
    }

    fn eat(&mut self, expected: u8) -> bool {
        let eaten = self.peek() == Some(expected);
        self.position += usize::from(eaten);
        eaten
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.position += 1;
        }
    }

    fn digit(&mut self) -> Option<i64> {
        let digit = self.peek().filter(u8::is_ascii_digit)?;
        self.position += 1;
        Some(i64::from(digit - b'0'))
    }

    /// A number of exactly two digits.
    fn pair(&mut self) -> Option<i64> {
        let first = self.digit()?;
        self.digit().map(|second| first * 10 + second)
    }

    /// A number of one or two digits.
    fn two_digits(&mut self) -> Option<i64> {
        let first = self.digit()?;
        Some(self.digit().map_or(first, |second| first * 10 + second))
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn read_stamp<'a>(cursor: &mut Cursor<'a>) -> std::result::Result<Stamp<'a>, Problem> {
    cursor.skip_spaces();
    let negative = cursor.eat(b'-');
    if !cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        return read_special(cursor.rest(), negative).ok_or(Problem::Format);
    }
    let days = read_date(cursor, negative)?;
    let midnight = days.checked_mul(MICROS_PER_DAY).ok_or(Problem::Range)?;
    let mut stamp = Stamp { micros: midnight, nanos: 0, place: Place::Session };
    if cursor.is_done() {
        return Ok(stamp);
    }
    if !cursor.eat(b' ') {
        cursor.eat(b'T');
    }
    // The time ends where a zone can begin.
    let mut time = Cursor { text: cursor.text, position: cursor.position };
    time.skip_spaces();
    while time.peek().is_some_and(|byte| !matches!(byte, b'Z' | b'+' | b'-') && !is_space(byte)) {
        time.position += 1;
    }
    let end = time.position;
    time = Cursor { text: cursor.text.get(..end).unwrap_or_default(), position: cursor.position };
    let (micros, nanos) = read_time(&mut time).filter(|_| time.is_done()).ok_or(Problem::Format)?;
    if micros > MICROS_PER_DAY {
        return Err(Problem::Range);
    }
    cursor.position = end;
    stamp.micros = midnight.checked_add(micros).filter(|micros| is_finite(*micros)).ok_or(Problem::Range)?;
    stamp.nanos = nanos;
    read_place(cursor, &mut stamp)?;
    cursor.skip_spaces();
    if cursor.is_done() { Ok(stamp) } else { Err(Problem::Format) }
}

fn read_special(text: &str, negative: bool) -> Option<Stamp<'static>> {
    let micros = match text.trim_end_matches(|character: char| character.is_ascii() && is_space(character as u8)) {
        text if text.eq_ignore_ascii_case("infinity") => i64::MAX,
        _ if text.eq_ignore_ascii_case("inf") => i64::MAX,
        text if text.eq_ignore_ascii_case("epoch") => 0,
        _ => return None,
    };
    Some(Stamp { micros: if negative { -micros } else { micros }, nanos: 0, place: Place::Utc })
}

fn read_date(cursor: &mut Cursor<'_>, negative: bool) -> std::result::Result<i64, Problem> {
    let mut year = 0;
    while let Some(digit) = cursor.digit() {
        if year >= YEAR_MAX {
            return Err(Problem::Range);
        }
        year = year * 10 + digit;
    }
    let separator = cursor.peek().filter(|byte| b" -/\\".contains(byte)).ok_or(Problem::Format)?;
    cursor.position += 1;
    let month = cursor.two_digits().ok_or(Problem::Format)?;
    if !cursor.eat(separator) {
        return Err(Problem::Format);
    }
    let day = cursor.two_digits().ok_or(Problem::Format)?;
    let rest = cursor.rest().as_bytes();
    let before_christ = rest.first().copied().is_some_and(is_space)
        && rest.get(1..5).is_some_and(|text| text.eq_ignore_ascii_case(b"(bc)"));
    if before_christ {
        if negative || year == 0 {
            return Err(Problem::Format);
        }
        cursor.position += 5;
        year = 1 - year;
    } else if negative {
        year = -year;
    }
    if cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        return Err(Problem::Format);
    }
    let valid = (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
    if valid { Ok(Date { year, month, day }.days()) } else { Err(Problem::Range) }
}

/// Microseconds and the nanoseconds beyond them. Hours are not limited, minutes and seconds are.
fn read_time(cursor: &mut Cursor<'_>) -> Option<(i64, i64)> {
    cursor.skip_spaces();
    let mut hour = cursor.digit()?;
    for digits in 1.. {
        let Some(digit) = cursor.digit() else { break };
        if digits == 10 {
            return None;
        }
        hour = hour * 10 + digit;
    }
    if !cursor.eat(b':') {
        return None;
    }
    // A time may end after either colon.
    let field = |cursor: &mut Cursor<'_>| {
        if cursor.is_done() { Some(0) } else { cursor.two_digits().filter(|value| *value < 60) }
    };
    let minute = field(cursor)?;
    let second = if cursor.is_done() {
        0
    } else if cursor.eat(b':') {
        field(cursor)?
    } else {
        return None;
    };
    let mut nanos = 0;
    if cursor.eat(b'.') {
        let mut unit = 100_000_000;
        while let Some(digit) = cursor.digit() {
            nanos += digit * unit;
            unit /= 10;
        }
    }
    let time = minute * MICROS_PER_MINUTE + second * MICROS_PER_SECOND + nanos / 1_000;
    Some((hour.checked_mul(MICROS_PER_HOUR)?.checked_add(time)?, nanos % 1_000))
}

/// Reads `Z`, an offset or a zone's name after a timestamp.
fn read_place<'a>(cursor: &mut Cursor<'a>, stamp: &mut Stamp<'a>) -> std::result::Result<(), Problem> {
    if cursor.is_done() {
        return Ok(());
    }
    if cursor.eat(b'Z') {
        stamp.place = Place::Utc;
        return Ok(());
    }
    if let Some(offset) = read_offset(cursor) {
        stamp.micros = stamp.micros.checked_sub(offset * MICROS_PER_SECOND).ok_or(Problem::Range)?;
        stamp.place = Place::Utc;
        return Ok(());
    }
    if !cursor.eat(b' ') {
        return Err(Problem::Format);
    }
    let rest = cursor.rest();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_/+-:".contains(&byte);
    let length = rest.bytes().position(|byte| !is_name(byte)).unwrap_or(rest.len());
    cursor.position += length;
    if let Some(name) = rest.get(..length).filter(|name| !name.is_empty()) {
        stamp.place = Place::Named(name);
    }
    Ok(())
}

/// Reads `±HH[MM]` or `±HH[:MM[:SS]]`, in seconds; leaves the cursor alone if there is none.
fn read_offset(cursor: &mut Cursor<'_>) -> Option<i64> {
    let mut ahead = Cursor { text: cursor.text, position: cursor.position };
    let sign = if ahead.eat(b'+') {
        1
    } else if ahead.eat(b'-') {
        -1
    } else {
        return None;
    };
    let mut offset = ahead.pair()? * 3_600;
    let colon = ahead.eat(b':');
    let has_minutes = ahead.rest().len() >= 2 && ahead.peek().is_some_and(|byte| byte.is_ascii_digit());
    if colon || has_minutes {
        offset += ahead.pair()? * 60;
    }
    if colon && ahead.eat(b':') {
        offset += ahead.pair()?;
    }
    cursor.position = ahead.position;
    Some(sign * offset)
}

fn read_time_with_offset(text: &str) -> Option<(i64, Option<i32>)> {
    let mut cursor = Cursor::new(text);
    let Some((time, _)) = read_time(&mut cursor) else {
        let stamp = read_stamp(&mut Cursor::new(text)).ok().filter(|stamp| is_finite(stamp.micros))?;
        let known = match stamp.place {
            Place::Session | Place::Utc => true,
            Place::Named(name) => name.eq_ignore_ascii_case("utc"),
        };
        return known.then(|| (stamp.micros.rem_euclid(MICROS_PER_DAY), None));
    };
    if time > MICROS_PER_DAY {
        return None;
    }
    cursor.skip_spaces();
    if cursor.is_done() {
        return Some((time, None));
    }
    let offset = read_offset(&mut cursor)?;
    let offset = i32::try_from(offset).ok().filter(|offset| offset.abs() <= 57_599)?;
    Some((time, Some(offset)))
}
