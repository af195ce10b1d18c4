//! The settings `TimeZone` and `Calendar`, under the names and rules of the ICU extension.
//!
//! The engine itself reads `TimeZone` when it exports Arrow, so a column of TIMESTAMPTZ leaves with the session's zone.
//!
//! A third setting, `transaction_clock`, is ours: the time at which the session's transaction began.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use duckdb_neo::connection::{Connection, Context, SettingScope};
use duckdb_neo::custom_option::{CustomOptionBuilder, CustomOptionCallbacks};
use duckdb_neo::value::Value;
use duckdb_neo::{DuckDBType, Result, ToValue};

use super::zone::Zone;
use super::{CLOCK, failure, names};

const TIME_ZONE: &str = "TimeZone";
/// Not the host's zone: a server answers the same wherever it runs.
const DEFAULT_ZONE: &str = "UTC";
/// The one calendar.
pub(super) const CALENDAR: &str = "gregorian";

/// The time zone of the session that `context` belongs to.
pub(super) fn zone(context: &Context) -> Result<Arc<Zone>> {
    let value = context.config()?.try_get_value(TIME_ZONE)?;
    let name = value.map(|(value, _)| value.get::<String>()).transpose()?.flatten();
    names::find(name.as_deref().unwrap_or(DEFAULT_ZONE))
}

/// The clock of the session that `context` belongs to, in microseconds since the epoch.
pub(super) fn now(context: &Context) -> Result<i64> {
    let value = context.config()?.try_get_value(CLOCK)?;
    let set = value.map(|(value, _)| if value.is_null()? { Ok(None) } else { value.get::<i64>() }).transpose()?;
    Ok(set.flatten().unwrap_or_else(wall_clock))
}

/// Stops the session's clock at the current time.
pub(super) fn set_clock(connection: &Connection) -> Result<()> {
    connection.config()?.set_value(CLOCK, &wall_clock().value(connection)?, SettingScope::Session)
}

fn wall_clock() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX - 1)
}

/// Registers the settings for the whole instance.
pub(super) fn register(connection: &Connection) -> Result<()> {
    CustomOptionBuilder::new(TIME_ZONE, "The current time zone", String::logical_type(connection)?, TimeZone)
        .default_value(DEFAULT_ZONE.value(connection)?)
        .register(connection)?;
    CustomOptionBuilder::new("Calendar", "The current calendar", String::logical_type(connection)?, Calendar)
        .default_value(CALENDAR.value(connection)?)
        .register(connection)?;
    CustomOptionBuilder::new(
        CLOCK,
        "When the transaction began, in microseconds",
        i64::logical_type(connection)?,
        Clock,
    )
    .no_global()
    .register(connection)
}

struct TimeZone;

impl CustomOptionCallbacks for TimeZone {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, _is_reset: bool) -> Result<Value> {
        let name = value.get::<String>()?.ok_or_else(|| failure::invalid("TimeZone cannot be NULL"))?;
        names::find(&name)?.name().value(context)
    }
}

struct Clock;

impl CustomOptionCallbacks for Clock {
    fn update(&self, _context: &Context, value: Value, _scope: SettingScope, _is_reset: bool) -> Result<Value> {
        Ok(value)
    }
}

struct Calendar;

impl CustomOptionCallbacks for Calendar {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, _is_reset: bool) -> Result<Value> {
        let name = value.get::<String>()?.ok_or_else(|| failure::invalid("Calendar cannot be NULL"))?;
        if !name.eq_ignore_ascii_case(CALENDAR) {
            return Err(failure::unsupported(format!("unknown calendar '{name}': only {CALENDAR} is supported")));
        }
        CALENDAR.value(context)
    }
}
