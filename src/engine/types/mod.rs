//! The DuckDB types of a result's columns, which Arrow's schema does not tell: JSON is text there, an ENUM a dictionary.

#[cfg(test)]
pub(in crate::engine) mod arbitrary;
mod wire;

use arrow::datatypes::{Field, Schema, SchemaRef};
use duckdb_neo::connection::Connection;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::statement::Statement;

pub(in crate::engine) use wire::arrow_type;

use crate::error::Result;

/// The key of a field's metadata that holds the column's DuckDB type.
pub const TYPE_KEY: &str = "duckdb.type";

/// A longer type (an ENUM of a thousand values) is told by its first word.
const TYPE_BYTES_MAX: usize = 256;

/// The types of a statement's columns; none where they are known only when it runs.
pub(in crate::engine) fn of(connection: &Connection, statement: &Statement<'static>) -> Result<Vec<String>> {
    // If it cannot be bound, executing it says the same, or more.
    let Ok(bound) = statement.bind(connection) else { return Ok(Vec::new()) };
    let columns = bound.schema.get_all()?;
    columns.iter().map(|(_, logical_type)| Ok(shorten(logical_type.to_text()?))).collect()
}

pub(in crate::engine) fn shorten(text: String) -> String {
    if text.len() <= TYPE_BYTES_MAX {
        return text;
    }
    text.split('(').next().unwrap_or_default().to_owned()
}

/// The schema with the types in its fields' metadata.
pub(in crate::engine) fn annotate(schema: &Schema, types: &[String]) -> SchemaRef {
    if types.len() != schema.fields().len() {
        return SchemaRef::new(schema.clone());
    }
    let annotated = schema.fields().iter().zip(types).map(|(field, sql_type)| {
        let mut metadata = field.metadata().clone();
        metadata.insert(TYPE_KEY.to_owned(), sql_type.clone());
        field.as_ref().clone().with_metadata(metadata)
    });
    SchemaRef::new(Schema::new(annotated.collect::<Vec<Field>>()))
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
