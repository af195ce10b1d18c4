//! The settings `TimeZone` and `Calendar`, under the names and rules of the ICU extension.
//!
//! The engine itself reads `TimeZone` when it exports Arrow, so a column of TIMESTAMPTZ leaves with the session's zone.

use std::sync::Arc;

use duckdb_neo::connection::{Connection, Context, SettingScope};
use duckdb_neo::custom_option::{CustomOptionBuilder, CustomOptionCallbacks};
use duckdb_neo::value::Value;
use duckdb_neo::{DuckDBType, Result, ToValue};

use super::zone::Zone;
use super::{failure, names};

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

/// Registers the settings for the whole instance.
pub(super) fn register(connection: &Connection) -> Result<()> {
    CustomOptionBuilder::new(TIME_ZONE, "The current time zone", String::logical_type(connection)?, TimeZone)
        .default_value(DEFAULT_ZONE.value(connection)?)
        .register(connection)?;
    CustomOptionBuilder::new("Calendar", "The current calendar", String::logical_type(connection)?, Calendar)
        .default_value(CALENDAR.value(connection)?)
        .register(connection)
}

struct TimeZone;

impl CustomOptionCallbacks for TimeZone {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, _is_reset: bool) -> Result<Value> {
        let name = value.get::<String>()?.ok_or_else(|| failure::invalid("TimeZone cannot be NULL"))?;
        names::find(&name)?.name().value(context)
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
