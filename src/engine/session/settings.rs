//! A session's settings. They are kept here and applied to each connection that works for the session, so that a setting does
//! not tie the session to one connection.

use std::time::Duration;

use arrow::array::AsArray;
use duckdb_neo::Parameters;
use duckdb_neo::connection::{Connection, SettingScope};

use super::InUse;
use crate::engine::work::{Work, quote};
use crate::engine::{CATALOG, SCHEMA};
use crate::error::{Error, Result};

/// What a session has set; none: the server's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The schema that names without one are looked up in first.
    pub schema: Option<String>,
    /// The time zone.
    pub time_zone: Option<String>,
    /// Time that one statement may run; the server's own limit holds too.
    pub query_timeout: Option<Duration>,
    /// Extension types that results may have.
    pub extensions: Extensions,
}

/// Extension types of Arrow that a client understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// JSON comes as `arrow.json`.
    pub json: bool,
    /// UUIDs come as `arrow.uuid`.
    pub uuid: bool,
}

impl Settings {
    /// Applies them to a connection that has the settings `applied`.
    pub(in crate::engine) fn apply(&self, connection: &Connection, applied: &Self) -> Result<()> {
        if self.time_zone != applied.time_zone {
            match &self.time_zone {
                Some(zone) => connection.config()?.set_text("TimeZone", zone, SettingScope::Session)?,
                None => drop(connection.execute("RESET TimeZone", Parameters::None)?),
            }
        }
        if self.schema != applied.schema {
            let schema = self.schema.as_deref().unwrap_or(SCHEMA);
            connection.execute(format!("USE {CATALOG}.{}", quote(schema)), Parameters::None)?;
        }
        Ok(())
    }
}

impl Work {
    /// Back to the session's schema, after a USE of what no session may use.
    pub(in crate::engine) fn go_back(&self) {
        let schema = self.session.as_ref().and_then(InUse::schema);
        let schema = schema.as_deref().unwrap_or(SCHEMA);
        if let Err(error) = self.execute(&format!("USE {CATALOG}.{}", quote(schema))) {
            tracing::warn!(%error, "a session stays outside its catalog");
        }
    }

    /// What a SET, RESET or USE that ran here has left, for the session's other connections.
    pub(in crate::engine) fn settings_now(&self) -> Result<(Option<String>, Option<String>)> {
        let sql = "SELECT current_database(), current_schema(), current_setting('TimeZone')";
        let batches = self.collect(sql, &[])?;
        let text = |column: usize| {
            let batch = batches.first()?;
            Some(batch.column(column).as_string_opt::<i32>()?.value(0).to_owned())
        };
        if !text(0).is_some_and(|catalog| catalog.eq_ignore_ascii_case(CATALOG)) {
            return Err(Error::precondition(format!("the catalog of a session is {CATALOG}")));
        }
        Ok((text(1).filter(|schema| schema != SCHEMA), text(2)))
    }
}
