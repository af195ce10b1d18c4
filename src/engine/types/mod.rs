//! Types out: the DuckDB types of a result's columns, and what clients get of them.
//!
//! A result's DuckDB types say what DuckDB's Arrow schema does not tell: JSON is text there, an ENUM a dictionary. [`Wire`]
//! says the Arrow types before a statement runs, [`Export`] makes them of what DuckDB gives; they agree.

#[cfg(test)]
pub(in crate::engine) mod arbitrary;
mod export;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
mod text;
mod wire;

use arrow::datatypes::{Field, Schema, SchemaRef};
use duckdb_neo::connection::Connection;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};

pub(in crate::engine) use export::Export;
pub(in crate::engine) use wire::{Wire, arrow_type};

use super::session::Extensions;
use crate::error::Result;

/// The key of a field's metadata that holds the column's DuckDB type.
pub const TYPE_KEY: &str = "duckdb.type";

/// A longer type (an ENUM of a thousand values) is told by its first word.
const TYPE_BYTES_MAX: usize = 256;

const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// DuckDB's name for UTC in a session that has chosen no time zone.
const ETC_UTC: &str = "Etc/UTC";

/// The name that clients know a session's time zone by.
fn zone_name(zone: &str) -> &str {
    if zone == ETC_UTC { wire::UTC } else { zone }
}

impl Wire {
    /// The types of results on this connection.
    pub(in crate::engine) fn of(connection: &Connection, extensions: Extensions) -> Result<Self> {
        let (zone, _) = connection.config()?.get_value("TimeZone")?;
        let zone = zone.get::<String>()?.unwrap_or_default();
        Ok(Self { zone: zone_name(&zone).into(), extensions })
    }
}

pub(in crate::engine) fn shorten(text: String) -> String {
    if text.len() <= TYPE_BYTES_MAX {
        return text;
    }
    text.split('(').next().unwrap_or_default().to_owned()
}

/// The schema with the types in its fields' metadata.
pub(in crate::engine) fn annotate(schema: &Schema, types: &[LogicalType]) -> Result<SchemaRef> {
    debug_assert_eq!(types.len(), schema.fields().len());
    let annotated = schema.fields().iter().zip(types).map(|(field, logical)| {
        let mut metadata = field.metadata().clone();
        metadata.insert(TYPE_KEY.to_owned(), shorten(logical.to_text()?));
        Ok(field.as_ref().clone().with_metadata(metadata))
    });
    Ok(SchemaRef::new(Schema::new(annotated.collect::<Result<Vec<Field>>>()?)))
}

/// Whether the type is JSON: text with a name.
pub(in crate::engine) fn is_json(logical: &LogicalType) -> bool {
    logical.name().is_ok_and(|name| name == "JSON")
}

/// The types inside of a nested type, with their names: a list's item, a map's key and value, a struct's fields. None for
/// other types.
fn members(logical: &LogicalType) -> duckdb_neo::Result<Vec<(String, LogicalType)>> {
    use LogicalTypeID::{Array, List, Map, Struct, Tuple, Union};
    if !matches!(logical.id()?, Array | List | Map | Struct | Tuple | Union) {
        return Ok(Vec::new());
    }
    let mut members = Vec::new();
    for (name, value) in logical.get_params()? {
        // Not so the size of an array.
        if value.logical_type()?.id()? == LogicalTypeID::Type
            && let Some(member) = value.get::<LogicalType>()?
        {
            members.push((name, member));
        }
    }
    Ok(members)
}
