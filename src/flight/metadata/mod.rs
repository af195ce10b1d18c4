//! Flight SQL's metadata commands: what clients ask for when they connect and look around. Each has the columns that the
//! specification gives it, whatever there is to list.

mod keys;
mod sql_info;
mod tables;
mod union;
mod words;
mod xdbc;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::Command as SqlCommand;

use super::State;
use super::encode::Outgoing;
use crate::engine::{Call, Named};
use crate::error::{Error, Result};

/// The columns of a metadata command's rows.
pub(super) fn schema(command: &SqlCommand) -> Result<SchemaRef> {
    Ok(match command {
        SqlCommand::CommandGetSqlInfo(_) => Arc::clone(&union::SCHEMA),
        SqlCommand::CommandGetCatalogs(command) => command.into_builder().schema(),
        SqlCommand::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
        SqlCommand::CommandGetTables(command) => command.clone().into_builder().schema(),
        SqlCommand::CommandGetTableTypes(command) => command.into_builder().schema(),
        SqlCommand::CommandGetPrimaryKeys(_) => keys::primary_schema(),
        SqlCommand::CommandGetExportedKeys(_)
        | SqlCommand::CommandGetImportedKeys(_)
        | SqlCommand::CommandGetCrossReference(_) => keys::reference_schema(),
        SqlCommand::CommandGetXdbcTypeInfo(_) => xdbc::schema(),
        other => return Err(not_offered(other)),
    })
}

/// The rows of a metadata command.
pub(super) async fn rows(state: &State, call: &Call, command: SqlCommand) -> Result<Outgoing> {
    let schema = schema(&command)?;
    let batch = match command {
        SqlCommand::CommandGetSqlInfo(command) => sql_info::rows(state, call, &command.info).await?,
        SqlCommand::CommandGetCatalogs(_) => tables::catalogs(state, call, schema).await?,
        SqlCommand::CommandGetDbSchemas(command) => tables::schemas(state, call, command, schema).await?,
        SqlCommand::CommandGetTables(command) => return tables::tables(state, call, command, schema).await,
        SqlCommand::CommandGetTableTypes(_) => tables::table_types(schema)?,
        SqlCommand::CommandGetPrimaryKeys(command) => {
            keys::primary(state, call, named(command.catalog, command.db_schema, command.table), schema).await?
        }
        SqlCommand::CommandGetExportedKeys(command) => {
            let primary = named(command.catalog, command.db_schema, command.table);
            keys::references(state, call, Some(primary), None, schema).await?
        }
        SqlCommand::CommandGetImportedKeys(command) => {
            let foreign = named(command.catalog, command.db_schema, command.table);
            keys::references(state, call, None, Some(foreign), schema).await?
        }
        SqlCommand::CommandGetCrossReference(command) => {
            let primary = named(command.pk_catalog, command.pk_db_schema, command.pk_table);
            let foreign = named(command.fk_catalog, command.fk_db_schema, command.fk_table);
            keys::references(state, call, Some(primary), Some(foreign), schema).await?
        }
        SqlCommand::CommandGetXdbcTypeInfo(command) => xdbc::rows(command.data_type)?,
        other => return Err(not_offered(&other)),
    };
    Ok(batch.into())
}

/// A catalog is named exactly; ODBC sends `%` for any.
fn any_catalog(catalog: Option<String>) -> Option<String> {
    catalog.filter(|catalog| catalog != "%")
}

fn named(catalog: Option<String>, schema: Option<String>, table: String) -> Named {
    Named { catalog: any_catalog(catalog), schema, table }
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::internal("the rows of the metadata differ from their schema").with_source(error))
}

/// A column of values, its type told by its schema.
fn column<A: arrow::array::Array + 'static>(values: A) -> ArrayRef {
    Arc::new(values)
}

fn cannot_build(error: arrow_flight::error::FlightError) -> Error {
    Error::internal("cannot build the metadata").with_source(error)
}

fn not_offered(command: &SqlCommand) -> Error {
    let name = command.type_url().rsplit('.').next().unwrap_or_default();
    Error::unimplemented(format!("{name} is not offered"))
}
