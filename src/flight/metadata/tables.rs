//! GetCatalogs, GetDbSchemas, GetTables and GetTableTypes.

use std::sync::Arc;

use arrow::array::{BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Metadata, Schema, SchemaRef};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables};
use futures::{StreamExt, stream};

use super::super::State;
use super::super::columns::{CATALOG_NAME, IS_AUTO_INCREMENT, IS_READ_ONLY, REMARKS, SCHEMA_NAMES, TABLE_NAME, flag};
use super::super::encode::{Outgoing, describe, schema_bytes};
use super::{any_catalog, batch, column};
use crate::engine::{Call, Column, Filter, Relation, RelationType};
use crate::error::Result;

/// Tables in one batch: their schemas are made as the client reads.
const TABLES_AT_ONCE: usize = 256;

pub(super) async fn catalogs(state: &State, call: &Call, schema: SchemaRef) -> Result<RecordBatch> {
    let catalogs = state.engine.catalogs(call).await?;
    batch(schema, vec![column(StringArray::from(catalogs))])
}

pub(super) async fn schemas(
    state: &State,
    call: &Call,
    command: CommandGetDbSchemas,
    schema: SchemaRef,
) -> Result<RecordBatch> {
    let filter =
        Filter { catalog: any_catalog(command.catalog), schema: command.db_schema_filter_pattern, table: None };
    let schemas = state.engine.schemas(filter, call).await?;
    let catalogs = StringArray::from_iter_values(schemas.iter().map(|name| &name.catalog));
    let names = StringArray::from_iter_values(schemas.iter().map(|name| &name.schema));
    batch(schema, vec![column(catalogs), column(names)])
}

pub(super) fn table_types(schema: SchemaRef) -> Result<RecordBatch> {
    batch(schema, vec![column(StringArray::from_iter_values(RelationType::ALL.map(RelationType::word)))])
}

pub(super) async fn tables(
    state: &State,
    call: &Call,
    command: CommandGetTables,
    schema: SchemaRef,
) -> Result<Outgoing> {
    let types = requested_types(&command.table_types);
    let filter = Filter {
        catalog: any_catalog(command.catalog),
        schema: command.db_schema_filter_pattern,
        table: command.table_name_filter_pattern,
    };
    let relations = state.engine.relations(filter, types, command.include_schema, call).await?;
    let read_only = state.engine.database().read_only;
    let mut rest = relations.into_iter();
    let of_batch = Arc::clone(&schema);
    let batches = std::iter::from_fn(move || {
        let relations: Vec<Relation> = rest.by_ref().take(TABLES_AT_ONCE).collect();
        (!relations.is_empty()).then(|| build(&relations, &of_batch, read_only))
    });
    Ok(Outgoing { schema, batches: stream::iter(batches).boxed() })
}

/// The types that are asked for; none for all. A word that names none is a filter that nothing passes.
fn requested_types(words: &[String]) -> Option<Vec<RelationType>> {
    (!words.is_empty()).then(|| words.iter().filter_map(|word| RelationType::from_word(word)).collect())
}

fn build(relations: &[Relation], schema: &SchemaRef, read_only: bool) -> Result<RecordBatch> {
    let text = |of: fn(&Relation) -> &str| column(StringArray::from_iter_values(relations.iter().map(of)));
    let mut columns = vec![
        text(|relation| &relation.catalog),
        text(|relation| &relation.schema),
        text(|relation| &relation.name),
        text(|relation| relation.relation_type.word()),
    ];
    if schema.fields().len() > columns.len() {
        let schemas = relations.iter().map(|relation| schema_bytes(&table_schema(relation, read_only)));
        let schemas = schemas.collect::<Result<Vec<_>>>()?;
        columns.push(column(BinaryArray::from_iter_values(schemas)));
    }
    batch(Arc::clone(schema), columns)
}

/// The columns as a query's result has them, with what the catalog knows besides.
fn table_schema(relation: &Relation, read_only: bool) -> Schema {
    let read_only = read_only || relation.relation_type == RelationType::View;
    let fields: Vec<Field> = relation.columns.iter().map(|column| field(relation, column, read_only)).collect();
    // The protocol has no place for the comment of a table.
    let remarks = relation.comment.iter().map(|comment| (REMARKS.to_owned(), comment.clone()));
    Schema::new_with_metadata(fields, remarks.collect::<Metadata>())
}

fn field(relation: &Relation, column: &Column, read_only: bool) -> Field {
    let field = describe(&column.field);
    let mut metadata = field.metadata().clone();
    metadata.insert(CATALOG_NAME, relation.catalog.clone());
    for name in SCHEMA_NAMES {
        metadata.insert(name, relation.schema.clone());
    }
    metadata.insert(TABLE_NAME, relation.name.clone());
    metadata.insert(IS_AUTO_INCREMENT, flag(column.auto_increment));
    metadata.insert(IS_READ_ONLY, flag(read_only));
    if let Some(comment) = &column.comment {
        metadata.insert(REMARKS, comment.clone());
    }
    field.with_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_matched_in_any_case() {
        let requested =
            |words: &[&str]| requested_types(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(requested(&[]), None);
        assert_eq!(requested(&["table"]), Some(vec![RelationType::BaseTable]));
        assert_eq!(requested(&["Base Table", "view"]), Some(vec![RelationType::BaseTable, RelationType::View]));
        assert_eq!(requested(&["local temporary"]), Some(vec![RelationType::LocalTemporary]));
        assert_eq!(requested(&["SYSTEM TABLE"]), Some(vec![]));
    }

    #[test]
    fn every_field_of_a_table_is_described() {
        let column = |name: &str| Column {
            field: Field::new(name, arrow::datatypes::DataType::Int32, false)
                .with_metadata([(crate::engine::TYPE_KEY, "INTEGER")]),
            auto_increment: true,
            comment: Some("a number".to_owned()),
        };
        let relation = Relation {
            catalog: "c".to_owned(),
            schema: "s".to_owned(),
            name: "t".to_owned(),
            relation_type: RelationType::BaseTable,
            comment: Some("numbers".to_owned()),
            columns: vec![column("n")],
        };
        let schema = table_schema(&relation, false);
        assert_eq!(schema.metadata()[REMARKS], "numbers");
        let mut described: Vec<(&str, &str)> =
            schema.field(0).metadata().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        described.sort_unstable();
        let expected = [
            ("CATALOG_NAME", "c"),
            ("DB_SCHEMA_NAME", "s"),
            ("IS_AUTO_INCREMENT", "1"),
            ("IS_CASE_SENSITIVE", "0"),
            ("IS_READ_ONLY", "0"),
            ("IS_SEARCHABLE", "1"),
            ("PRECISION", "10"),
            ("REMARKS", "a number"),
            ("SCALE", "0"),
            ("SCHEMA_NAME", "s"),
            ("TABLE_NAME", "t"),
            ("TYPE_NAME", "INTEGER"),
        ];
        let short = described.iter().map(|(key, value)| (key.trim_start_matches("ARROW:FLIGHT:SQL:"), *value));
        assert_eq!(short.collect::<Vec<_>>(), expected);
    }
}
