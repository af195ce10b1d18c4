//! Time zones: what DuckDB's ICU extension adds to TIMESTAMPTZ, for an engine that is built without it.
//!
//! It is the setting `TimeZone` and everything that goes by it: `AT TIME ZONE`, the operators and functions on
//! TIMESTAMPTZ, the casts from and to it, and the current date and time. The results are those of the ICU extension
//! of the same DuckDB, which is the oracle of the tests; the time zone data is jiff's.
//!
//! What differs, and why:
//!
//! * The current date and time (`current_date`, `today()`, `current_time`, `localtime`, `localtimestamp`, and `age`
//!   of one argument) go by the clock of [`set_clock`], because the C API gives callbacks no access to the start of the
//!   transaction. It is microseconds away from `now()`, which is DuckDB's own.
//! * `range` and `generate_series` over TIMESTAMPTZ are lists only, for the reason given in `series.rs`:
//!   `FROM unnest(generate_series(…))` in place of `FROM generate_series(…)`.
//! * `strptime` ignores `%Z`, as DuckDB does without ICU, because a function that picks its result type from its
//!   argument can only be replaced whole. A cast reads the same text: `'2024-05-01 12:00 Europe/Paris'::TIMESTAMPTZ`.
//!   For the same reason a list of formats, of which only some have `%z`, reads the others as UTC.
//! * `strftime` writes nine digits for `%n`, where ICU's writes six and three bytes of memory it never set.
//! * The calendar is always the Gregorian one. `COLLATE` and `disable_timestamptz_casts` are not here.
//! * `TimeZone` is UTC unless set, not the host's zone. Messages of errors have words of their own.
//! * `pg_timezone_names()` shows the abbreviations of the database (`EDT`), not an alias without a slash.
//! * The `SystemV/…` zones, which only ICU has, follow their rule in 1974 and 1975 too. jiff's data is a release newer.

mod arithmetic;
mod bucket;
mod calendar;
mod cast;
mod civil;
mod clock;
mod failure;
mod format;
mod function;
mod listing;
mod local;
mod names;
mod part;
mod parts;
mod series;
mod setting;
#[cfg(test)]
mod tests;
mod text;
mod zone;

use duckdb_neo::Result;
use duckdb_neo::connection::Connection;

use function::Registry;

/// The setting behind [`set_clock`], for the list of those that a locked configuration leaves open.
pub(in crate::engine) const CLOCK: &str = "transaction_clock";

/// Registers all of it for the instance that `connection` belongs to, where every connection finds it: the functions
/// live in the system catalog, not in a user's file. Call it once for each instance.
pub(in crate::engine) fn register(connection: &Connection) -> Result<()> {
    setting::register(connection)?;
    cast::register(connection)?;
    let registry = Registry::new(connection);
    local::register(&registry)?;
    arithmetic::register(&registry)?;
    parts::register(&registry)?;
    bucket::register(&registry)?;
    format::register(&registry)?;
    clock::register(&registry)?;
    series::register(connection)?;
    listing::register(connection)
}

/// Stops the clock that `current_date` and its like go by at the current time. Call it at the beginning of each
/// transaction, and of each statement outside of one; a session for which it is never called reads the wall's clock.
pub(in crate::engine) fn set_clock(connection: &Connection) -> Result<()> {
    setting::set_clock(connection)
}
