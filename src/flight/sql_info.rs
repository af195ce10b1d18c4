//! Flight SQL's metadata that clients ask for when they connect and look around: SqlInfo, catalogs, schemas, tables, table
//! types. The keys and type tables are not offered yet.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{Command as SqlCommand, CommandGetTables, SqlInfo, SqlSupportedTransaction};

use super::State;
use super::encode::wire_schema;
use crate::engine::{CATALOG, Engine, SCHEMA, TableListing};
use crate::error::{Error, Result};
use crate::tables::Kind;

/// The columns of a metadata command's rows.
pub(super) fn schema(command: &SqlCommand) -> Result<SchemaRef> {
    match command {
        SqlCommand::CommandGetSqlInfo(_) => Ok(SchemaRef::new(SqlInfoDataBuilder::schema().clone())),
        SqlCommand::CommandGetCatalogs(command) => Ok(command.into_builder().schema()),
        SqlCommand::CommandGetDbSchemas(command) => Ok(command.clone().into_builder().schema()),
        SqlCommand::CommandGetTables(command) => Ok(command.clone().into_builder().schema()),
        SqlCommand::CommandGetTableTypes(command) => Ok(command.into_builder().schema()),
        other => Err(not_offered(other)),
    }
}

/// The rows of a metadata command.
pub(super) async fn rows(state: &State, command: SqlCommand) -> Result<RecordBatch> {
    let batch = match command {
        SqlCommand::CommandGetSqlInfo(command) => {
            let data = sql_info(state)?;
            command.into_builder(&data).build()
        }
        SqlCommand::CommandGetCatalogs(command) => {
            let mut builder = command.into_builder();
            builder.append(CATALOG);
            builder.build()
        }
        SqlCommand::CommandGetDbSchemas(command) => {
            let mut builder = command.into_builder();
            builder.append(CATALOG, SCHEMA);
            builder.build()
        }
        SqlCommand::CommandGetTables(command) => return tables(state, command).await,
        SqlCommand::CommandGetTableTypes(command) => {
            let mut builder = command.into_builder();
            builder.append("BASE TABLE");
            builder.append("VIEW");
            builder.build()
        }
        other => return Err(not_offered(&other)),
    };
    batch.map_err(cannot_build)
}

fn cannot_build(error: arrow_flight::error::FlightError) -> Error {
    Error::internal("cannot build the metadata").with_source(error)
}

fn not_offered(command: &SqlCommand) -> Error {
    let name = command.type_url().rsplit('.').next().unwrap_or_default();
    Error::unimplemented(format!("{name} is not offered yet"))
}

async fn tables(state: &State, command: CommandGetTables) -> Result<RecordBatch> {
    let include_schema = command.include_schema;
    let types: Vec<String> = command.table_types.iter().map(|word| word.to_uppercase()).collect();
    let mut builder = command.into_builder();
    for listing in state.engine.tables(None, None).await? {
        let table_type = table_type(&listing);
        let asked = types.is_empty()
            || types.iter().any(|word| word == table_type || (word == "TABLE" && table_type == "BASE TABLE"));
        if !asked {
            continue;
        }
        let schema = if include_schema {
            state.engine.describe(listing.name.clone()).await?.arrow_schema
        } else {
            SchemaRef::new(arrow::datatypes::Schema::empty())
        };
        builder.append(CATALOG, SCHEMA, &listing.name, table_type, &wire_schema(&schema)).map_err(cannot_build)?;
    }
    builder.build().map_err(cannot_build)
}

fn table_type(listing: &TableListing) -> &'static str {
    if listing.kind == Kind::View { "VIEW" } else { "BASE TABLE" }
}

fn sql_info(state: &State) -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Merganser");
    info.append(SqlInfo::FlightSqlServerVersion, format!("duckdb {}", Engine::duckdb_version()).as_str());
    info.append(SqlInfo::FlightSqlServerArrowVersion, "60.1.0");
    info.append(SqlInfo::FlightSqlServerReadOnly, state.engine.database().read_only);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::Transaction as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.build().map_err(cannot_build)
}
