//! Names of time zones: the ones that exist, and which zone a text means.
//!
//! The rules are ICU's, so that a session set up for DuckDB's own client means the same zone here: the IANA names, the
//! aliases that only ICU knows, offsets written `GMT+05:30`, and `UTC+5`, which stands for `Etc/GMT-5`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::failure;
use super::zone::Zone;

/// The names that ICU has beside the IANA database, and what they stand for: another name, or a rule in POSIX's notation.
const ICU_ALIASES: [(&str, &str); 41] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Maputo"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("Canada/East-Saskatchewan", "America/Regina"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("Etc/Unknown", "Etc/GMT"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("SystemV/AST4", "Etc/GMT+4"),
    ("SystemV/AST4ADT", "AST4ADT,M4.5.0,M10.5.0"),
    ("SystemV/CST6", "Etc/GMT+6"),
    ("SystemV/CST6CDT", "CST6CDT,M4.5.0,M10.5.0"),
    ("SystemV/EST5", "Etc/GMT+5"),
    ("SystemV/EST5EDT", "EST5EDT,M4.5.0,M10.5.0"),
    ("SystemV/HST10", "Etc/GMT+10"),
    ("SystemV/MST7", "Etc/GMT+7"),
    ("SystemV/MST7MDT", "MST7MDT,M4.5.0,M10.5.0"),
    ("SystemV/PST8", "Etc/GMT+8"),
    ("SystemV/PST8PDT", "PST8PDT,M4.5.0,M10.5.0"),
    ("SystemV/YST9", "Etc/GMT+9"),
    ("SystemV/YST9YDT", "YST9YDT,M4.5.0,M10.5.0"),
    ("US/Pacific-New", "America/Los_Angeles"),
    ("VST", "Asia/Ho_Chi_Minh"),
];

/// A placeholder that can be looked up, but is not offered.
const UNLISTED: &str = "Etc/Unknown";

const CANDIDATES_MAX: usize = 5;
/// How much of an unknown name is compared and shown.
const TYPED_MAX: usize = 64;

struct Names {
    database: TimeZoneDatabase,
    /// Every known name, with what it stands for.
    known: BTreeMap<String, String>,
    /// The same by lower case.
    folded: BTreeMap<String, String>,
    /// Zones already laid out. Bounded by `known`: offsets given as numbers are not kept.
    zones: RwLock<BTreeMap<String, Arc<Zone>>>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    // Not the global database, which prefers the host's files to the bundled data.
    let database = TimeZoneDatabase::bundled();
    let mut known: BTreeMap<String, String> = ICU_ALIASES.map(|(name, target)| (name.into(), target.into())).into();
    known.extend(database.available().map(|name| (name.as_str().to_owned(), name.as_str().to_owned())));
    let folded = known.keys().map(|name| (name.to_ascii_lowercase(), name.clone())).collect();
    Names { database, known, folded, zones: RwLock::default() }
});

/// The names to list, in order.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    NAMES.known.keys().map(String::as_str).filter(|name| *name != UNLISTED)
}

/// jiff's view of the zone called `name`, exactly as listed.
pub(super) fn database_zone(name: &str) -> Option<TimeZone> {
    let target = NAMES.known.get(name)?;
    if is_rule(target) { TimeZone::posix(target).ok() } else { NAMES.database.get(target).ok() }
}

fn is_rule(target: &str) -> bool {
    target.contains(',')
}

/// The zone that `text` means, under its canonical name, or an error that suggests others.
pub(super) fn find(text: &str) -> duckdb_neo::Result<Arc<Zone>> {
    lookup(text).ok_or_else(|| {
        let typed: String = text.chars().take(TYPED_MAX).collect();
        let candidates = candidates(&typed).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        failure::unsupported(format!("unknown time zone '{typed}': did you mean {candidates}?"))
    })
}

/// The zone that `text` means, under its canonical name.
pub(super) fn lookup(text: &str) -> Option<Arc<Zone>> {
    if let Some(zone) = exact(text) {
        return Some(zone);
    }
    if let Some(seconds) = gmt_offset(text) {
        return Some(Arc::new(Zone::fixed(text, seconds)));
    }
    if let Some(zone) = utc_offset(text).and_then(|name| exact(&name)) {
        return Some(zone);
    }
    let folded = NAMES.folded.get(&text.to_ascii_lowercase());
    folded.and_then(|name| exact(name))
}

fn exact(name: &str) -> Option<Arc<Zone>> {
    let target = NAMES.known.get(name)?;
    // Nothing panics while holding the lock, and a map of finished zones has no half-written state.
    if let Some(zone) = NAMES.zones.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Some(Arc::clone(zone));
    }
    // A rule alone has no beginning, so it gets that of ICU's table.
    let first = if is_rule(target) { Timestamp::from_second(i64::from(i32::MIN)).ok()? } else { Timestamp::MIN };
    let zone = Arc::new(Zone::new(name, &database_zone(name)?, first));
    NAMES.zones.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::clone(&zone));
    Some(zone)
}

/// Seconds of `GMT±h`, `GMT±hh`, `GMT±hmm`, …, `GMT±hhmmss`, `GMT±h:mm` or `GMT±hh:mm:ss`.
fn gmt_offset(text: &str) -> Option<i64> {
    let (prefix, rest) = text.split_at_checked(3)?;
    if !prefix.eq_ignore_ascii_case("GMT") {
        return None;
    }
    let (sign, digits) = signed(rest)?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (hour, minute, second) = if digits.contains(':') {
        let mut parts = digits.split(':');
        let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next());
        let width_wrong = hour.len() > 2 || minute.len() != 2 || second.is_some_and(|second| second.len() != 2);
        if width_wrong || parts.next().is_some() {
            return None;
        }
        (number(hour)?, number(minute)?, second.map_or(Some(0), number)?)
    } else {
        let value = number(digits)?;
        match digits.len() {
            1 | 2 => (value, 0, 0),
            3 | 4 => (value / 100, value % 100, 0),
            5 | 6 => (value / 10_000, value / 100 % 100, value % 100),
            _ => return None,
        }
    };
    let valid = hour <= 23 && minute <= 59 && second <= 59;
    valid.then_some(sign * ((hour * 60 + minute) * 60 + second))
}

/// `Etc/GMT∓h` for `UTC±h`, whose signs are opposite. The minutes are dropped, as ICU does.
fn utc_offset(text: &str) -> Option<String> {
    let rest = text.strip_prefix("UTC").filter(|rest| rest.len() > 1)?;
    let (sign, digits) = signed(rest)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let hours = match digits.split_once(':') {
        Some((hours, _)) => hours,
        None if digits.len() <= 2 => digits,
        None => digits.get(..digits.len() - 2)?,
    };
    if hours.is_empty() {
        return Some("Etc/GMT+0".to_owned());
    }
    Some(format!("Etc/GMT{}{hours}", if sign > 0 { '-' } else { '+' }))
}

fn signed(text: &str) -> Option<(i64, &str)> {
    match text.split_at_checked(1)? {
        ("+", rest) => Some((1, rest)),
        ("-", rest) => Some((-1, rest)),
        _ => None,
    }
}

/// The names that look most like `text`, best first.
fn candidates(text: &str) -> impl Iterator<Item = &'static str> {
    let typed: Vec<char> = text.to_lowercase().chars().collect();
    let mut scored: Vec<(usize, &str)> = all()
        .map(|name| {
            let folded = name.to_lowercase();
            // People often leave out the continent.
            let city = folded.rsplit('/').next().unwrap_or_default();
            (distance(&typed, &folded).min(distance(&typed, city) + 1), name)
        })
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(CANDIDATES_MAX).map(|(_, name)| name)
}

/// The least number of characters to insert, delete or replace to get from one text to the other.
fn distance(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (index, target) in to.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (cell, source) in row.iter_mut().skip(1).zip(from) {
            let replaced = diagonal + usize::from(*source != target);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, offset_seconds: i64) {
        let zone = find(text).unwrap();
        assert_eq!(zone.name(), name);
        assert_eq!(zone.offset(1_700_000_000_000), offset_seconds * 1_000, "{text}");
    }

    #[test]
    fn names_resolve_as_icu_does() {
        check("America/New_York", "America/New_York", -18_000);
        check("america/new_york", "America/New_York", -18_000);
        check("utc", "UTC", 0);
        check("EST", "EST", -18_000);
        check("BST", "BST", 21_600);
        check("UTC+5", "Etc/GMT-5", 18_000);
        check("UTC-0330", "Etc/GMT+3", -10_800);
        check("UTC+00:00", "Etc/GMT+0", 0);
        check("GMT+05:30", "GMT+05:30", 19_800);
        check("gmt-0130", "gmt-0130", -5_400);
        check("Etc/GMT+12", "Etc/GMT+12", -43_200);
    }

    #[test]
    fn unknown_names_are_refused_with_candidates() {
        for (text, candidate) in [("Amerca/New_York", "America/New_York"), ("berlin", "Europe/Berlin")] {
            let message = find(text).unwrap_err().message;
            assert!(message.contains(&format!("did you mean \"{candidate}\"")), "{message}");
        }
        for text in ["", "+02:00", "GMT+24", "GMT+1:5", "UTC+99", "UTC+", "GMT+é1"] {
            assert!(find(text).is_err(), "{text}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        let chars: Vec<char> = "kitten".chars().collect();
        assert_eq!(distance(&chars, "sitting"), 3);
        assert_eq!(distance(&chars, "kitten"), 0);
        assert_eq!(distance(&[], "abc"), 3);
    }

    #[test]
    fn all_zones_can_be_laid_out() {
        assert_eq!(all().count(), 638);
        for name in all() {
            assert!(find(name).is_ok(), "{name}");
        }
    }
}
