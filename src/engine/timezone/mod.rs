//! Time zones: what DuckDB's ICU extension adds to TIMESTAMPTZ, for an engine that is built without it.
//!
//! It is the setting `TimeZone` and everything that goes by it: `AT TIME ZONE`, the operators and functions on
//! TIMESTAMPTZ, the casts from and to it, and the current date and time. The results are those of the ICU extension
//! of the same DuckDB, which is the oracle of the tests; the time zone data is jiff's.
//!
//! What differs, and why:
//!
//! * The current date and time (`current_date`, `today()`, `current_time`, `localtime`, `localtimestamp`, and `age`
//!   of one argument) are those of the statement, not of the transaction: the C API has no access to the latter.
//!   `now()` is DuckDB's own.
//! * `strptime` does not go by `%Z`, because a function of DuckDB's that picks its result type from its argument cannot
//!   be extended, only replaced. A cast reads the same text: `'2024-05-01 12:00 Europe/Paris'::TIMESTAMPTZ`.
//! * `range` and `generate_series` over TIMESTAMPTZ are lists only, for the reason given in `series.rs`:
//!   `FROM unnest(generate_series(…))` in place of `FROM generate_series(…)`.
//! * The calendar is always the Gregorian one. `COLLATE` is not here.
//! * `TimeZone` is UTC unless set, not the host's zone. Messages of errors have words of their own.
//! * `pg_timezone_names()` shows the abbreviations of the database (`EDT`), not an alias without a slash.

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
