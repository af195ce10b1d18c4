//! GetPrimaryKeys, GetExportedKeys, GetImportedKeys and GetCrossReference.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::UpdateDeleteRules;

use super::super::State;
use super::{batch, column};
use crate::engine::{Call, KeyColumn, Named, Reference};
use crate::error::Result;

/// The columns of GetPrimaryKeys.
pub(super) fn primary_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("key_name", DataType::Utf8, true),
    ]))
}

/// The columns of the three commands about foreign keys.
pub(super) fn reference_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

/// The primary key of a table.
pub(super) async fn primary(state: &State, call: &Call, table: Named, schema: SchemaRef) -> Result<RecordBatch> {
    let mut keys = state.engine.primary_key(table, call).await?;
    keys.retain(|key| call.may_read(&key.schema, &key.table));
    let text = |of: fn(&KeyColumn) -> &str| column(StringArray::from_iter_values(keys.iter().map(of)));
    let columns = vec![
        text(|key| &key.catalog),
        text(|key| &key.schema),
        text(|key| &key.table),
        text(|key| &key.column),
        column(Int32Array::from_iter_values(keys.iter().map(|key| key.sequence))),
        text(|key| &key.key),
    ];
    batch(schema, columns)
}

/// The foreign keys between two tables, or of one with all others.
pub(super) async fn references(
    state: &State,
    call: &Call,
    primary: Option<Named>,
    foreign: Option<Named>,
    schema: SchemaRef,
) -> Result<RecordBatch> {
    // What refers to a table is ordered by who refers to it; all else by what is referred to.
    let by_foreign = foreign.is_none();
    let mut references = state.engine.references(primary, foreign, call).await?;
    references.retain(|reference| {
        [&reference.primary_table, &reference.foreign_table].iter().all(|table| call.may_read(&reference.schema, table))
    });
    references.sort_by(|a, b| order(a, by_foreign).cmp(&order(b, by_foreign)));
    let text = |of: fn(&Reference) -> &str| column(StringArray::from_iter_values(references.iter().map(of)));
    let names =
        |of: fn(&Reference) -> Option<&str>| column(StringArray::from(references.iter().map(of).collect::<Vec<_>>()));
    // DuckDB has no other rule.
    let rule = column(UInt8Array::from(vec![UpdateDeleteRules::NoAction as u8; references.len()]));
    let columns = vec![
        text(|reference| &reference.catalog),
        text(|reference| &reference.schema),
        text(|reference| &reference.primary_table),
        text(|reference| &reference.primary_column),
        text(|reference| &reference.catalog),
        text(|reference| &reference.schema),
        text(|reference| &reference.foreign_table),
        text(|reference| &reference.foreign_column),
        column(Int32Array::from_iter_values(references.iter().map(|reference| reference.sequence))),
        names(|reference| reference.foreign_key.as_deref()),
        names(|reference| reference.primary_key.as_deref()),
        Arc::clone(&rule),
        rule,
    ];
    batch(schema, columns)
}

fn order(reference: &Reference, by_foreign: bool) -> (&str, &str, &str, Option<&str>, i32) {
    let (table, key) = if by_foreign {
        (&reference.foreign_table, &reference.foreign_key)
    } else {
        (&reference.primary_table, &reference.primary_key)
    };
    (&reference.catalog, &reference.schema, table, key.as_deref(), reference.sequence)
}
