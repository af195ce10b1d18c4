//! One time zone: which offset from UTC holds at an instant, and which instant a local time means.
//!
//! The transitions come from jiff's bundled database and are laid out as a sorted table, for two reasons: the engine's
//! timestamps reach far beyond jiff's years -9999 to 9999, and a lookup for each row should be a binary search.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::civil::{DAYS_PER_CYCLE, MILLIS_PER_DAY};

/// From here on (2100-01-01) only yearly rules are in force in every zone of the database.
const RULES_ONLY_FROM: i64 = 4_102_444_800_000;
/// Yearly rules repeat with the calendar, so instants beyond this one are looked up in the cycle before it.
const TABLE_END: i64 = RULES_ONLY_FROM + CYCLE;
const CYCLE: i64 = DAYS_PER_CYCLE * MILLIS_PER_DAY;

/// Where the index of the table begins (1900-01-01), and how many milliseconds an entry of it covers, as a power of 2:
/// 50 days, in which a zone seldom changes twice.
const INDEX_START: i64 = -2_208_988_800_000;
const INDEX_SHIFT: u32 = 32;

/// A time zone with the name it is known by to the session.
#[derive(Debug)]
pub(super) struct Zone {
    name: Arc<str>,
    /// Sorted, never empty; the first holds from the beginning of time.
    spans: Vec<Span>,
    /// For each stretch of time from [`INDEX_START`] on, the position of the span that it begins in.
    index: Vec<usize>,
}

/// A stretch of time with one offset, up to the next span's start. All in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// First instant, in UTC.
    start: i64,
    /// The local time of that instant under the new offset.
    local: i64,
    offset: i64,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Zone {
    /// Lays out the transitions of `zone` after `first`, to be called `name`.
    pub(super) fn new(name: &str, zone: &TimeZone, first: Timestamp) -> Self {
        let millis = |seconds: i32| i64::from(seconds) * 1_000;
        let transitions = zone.following(first);
        let first = millis(zone.to_offset(first).seconds());
        let mut spans = vec![Span { start: i64::MIN, local: i64::MIN, offset: first }];
        let mut offset = first;
        for transition in transitions {
            let start = transition.timestamp().as_millisecond();
            // A margin, for local times near the end of the table.
            if start >= TABLE_END + MILLIS_PER_DAY {
                break;
            }
            let next = millis(transition.offset().seconds());
            if next != offset {
                offset = next;
                spans.push(Span { start, local: start + offset, offset });
            }
        }
        let index = (INDEX_START..TABLE_END)
            .step_by(1 << INDEX_SHIFT)
            .map(|start| spans.partition_point(|span| span.start <= start).saturating_sub(1))
            .collect();
        Self { name: name.into(), spans, index }
    }

    /// A zone that never changes.
    pub(super) fn fixed(name: &str, offset_seconds: i64) -> Self {
        let offset = offset_seconds * 1_000;
        let spans = vec![Span { start: i64::MIN, local: i64::MIN, offset }];
        Self { name: name.into(), spans, index: Vec::new() }
    }

    /// The name, as `current_setting('TimeZone')` shows it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The offset in milliseconds, positive east, at `millis` since the epoch.
    pub(super) fn offset(&self, millis: i64) -> i64 {
        self.span(self.position(into_table(millis))).offset
    }

    /// The instant of a local time, both in milliseconds. A local time that occurs twice is its second occurrence, and
    /// one that the clocks skipped is read with the offset from before the gap.
    pub(super) fn instant(&self, local: i64) -> i64 {
        local.saturating_sub(self.offset_of_local(local))
    }

    fn offset_of_local(&self, local: i64) -> i64 {
        let local = into_table(local);
        // Offsets are less than a day, so later spans cannot have begun yet.
        let mut position = self.position(local.saturating_add(MILLIS_PER_DAY));
        while position > 0 && self.span(position).local > local {
            position -= 1;
        }
        self.span(position).offset
    }

    /// The position of the last span that has begun at `millis`.
    fn position(&self, millis: i64) -> usize {
        let entry = usize::try_from((millis.saturating_sub(INDEX_START)) >> INDEX_SHIFT).ok();
        let Some(first) = entry.and_then(|entry| self.index.get(entry)) else {
            return self.spans.partition_point(|span| span.start <= millis).saturating_sub(1);
        };
        let later = self.spans.get(first + 1..).unwrap_or_default();
        first + later.iter().take_while(|span| span.start <= millis).count()
    }

    fn span(&self, position: usize) -> Span {
        self.spans.get(position).copied().unwrap_or(Span { start: i64::MIN, local: i64::MIN, offset: 0 })
    }
}

/// Moves times beyond the table into its last cycle.
fn into_table(millis: i64) -> i64 {
    if millis < TABLE_END { millis } else { RULES_ONLY_FROM + (millis - RULES_ONLY_FROM) % CYCLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::timezone::names;

    fn check(zone: &str, local: &str, instant: &str) {
        let millis = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let zone = names::find(zone).unwrap();
        assert_eq!(zone.instant(millis(local)), millis(instant), "{local} in {}", zone.name());
    }

    #[test]
    fn gaps_and_overlaps_resolve_as_icu_does() {
        check("America/New_York", "2024-03-10T01:59:59Z", "2024-03-10T06:59:59Z");
        check("America/New_York", "2024-03-10T02:30:00Z", "2024-03-10T07:30:00Z");
        check("America/New_York", "2024-03-10T03:00:00Z", "2024-03-10T07:00:00Z");
        check("America/New_York", "2024-11-03T00:59:59Z", "2024-11-03T04:59:59Z");
        check("America/New_York", "2024-11-03T01:30:00Z", "2024-11-03T06:30:00Z");
        check("Australia/Lord_Howe", "2024-10-06T02:15:00Z", "2024-10-05T15:45:00Z");
        check("Pacific/Apia", "2011-12-30T12:00:00Z", "2011-12-30T22:00:00Z");
        check("Europe/London", "2024-03-31T01:30:00Z", "2024-03-31T01:30:00Z");
    }

    #[test]
    fn rules_go_on_for_ever() {
        let zone = names::find("Europe/Berlin").unwrap();
        let july = |year: i64| crate::engine::timezone::civil::Date { year, month: 7, day: 1 }.days() * MILLIS_PER_DAY;
        for year in [1990, 2099, 2100, 2499, 2500, 2501, 9_999, 10_000, 290_000] {
            assert_eq!(zone.offset(july(year)), 7_200_000, "{year}");
            assert_eq!(zone.instant(july(year)), july(year) - 7_200_000, "{year}");
        }
        assert_eq!(zone.offset(july(-290_000)), 3_208_000);
    }
}
