//! Actions: what DoAction does and ListActions tells, from one list.

use arrow_flight::sql::{ActionClosePreparedStatementRequest, Any, ProstMessageExt};
use arrow_flight::{Action, ActionType};
use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::auth::Caller;
use super::encode::{schema_bytes, wire_schema};
use super::{State, control, prepared, queries, session};
use crate::access::Operation;
use crate::backup::{self, Backup};
use crate::engine::{Call, Engine, Metadata, TableListing};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::tables::Kind;

/// Every action: its type, and what ListActions says of it.
const ACTIONS: &[(&str, &str)] = &[
    ("list_tables", "Lists tables and views: ListTablesRequest -> one TableInfo each"),
    ("get_schema", "Describes the columns of a table or view: TableRequest -> TableSchema"),
    ("get_metadata", "Tells where the rows of a table came from: TableRequest -> TableMetadata"),
    ("table_exists", "Tells whether a table or view is there: TableRequest -> TableExists"),
    ("drop_table", "Drops a table and its metadata: DropTableRequest -> DropTableResult"),
    ("backup", "Backs up the database on the server's machine: BackupRequest -> BackupInfo"),
    ("list_backups", "Lists backups: empty -> one BackupInfo each"),
    ("server_info", "Tells versions, database and uptime: empty -> ServerInfo"),
    ("list_queries", "Lists statements that run, or have run: ListQueriesRequest -> one QueryInfo each"),
    ("cancel_query", "Cancels a statement by its id: CancelQueryRequest -> CancelQueryResult"),
    ("list_sessions", "Lists sessions: empty -> one SessionInfo each"),
    ("close_session", "Closes a session by its id: CloseSessionRequest -> CloseSessionResult"),
    ("CreatePreparedStatement", "Flight SQL: prepares a statement"),
    ("ClosePreparedStatement", "Flight SQL: closes a prepared statement"),
    ("BeginTransaction", "Flight SQL: begins a transaction"),
    ("EndTransaction", "Flight SQL: commits a transaction, or rolls it back"),
    ("CancelQuery", "Flight SQL: cancels a query (deprecated: CancelFlightInfo)"),
    ("CancelFlightInfo", "Flight: cancels what a FlightInfo leads to"),
    ("RenewFlightEndpoint", "Flight: keeps a result for longer"),
    (
        "SetSessionOptions",
        "Flight: sets options of the session: catalog, schema, TimeZone, query_timeout, extension_types",
    ),
    ("GetSessionOptions", "Flight: tells the options of the session"),
    ("CloseSession", "Flight: ends the session"),
];

/// What ListActions answers.
pub(super) fn list() -> Vec<ActionType> {
    let action =
        |(name, about): &(&str, &str)| ActionType { r#type: (*name).to_owned(), description: (*about).to_owned() };
    ACTIONS.iter().map(action).collect()
}

/// Runs an action; answers the bodies of its results.
pub(super) async fn run(state: &State, action: Action, caller: &Caller, call: &Call) -> Result<Vec<Bytes>> {
    let body = action.body;
    if let Some(results) = run_standard(state, &action.r#type, &body, caller, call).await? {
        return Ok(results);
    }
    match action.r#type.as_str() {
        "list_tables" => list_tables(state, &body, call).await,
        "get_schema" => get_schema(state, &body, call).await,
        "get_metadata" => {
            let table = table_name(&body)?;
            call.may(Operation::Read(&table))?;
            answer(&body, &metadata(state.engine.metadata(table, call).await?))
        }
        "table_exists" => {
            let table = table_name(&body)?;
            call.may(Operation::Read(&table))?;
            let exists = state.engine.table_exists(table.clone()).await?;
            answer(&body, &v1::TableExists { table, exists })
        }
        "drop_table" => {
            let request: v1::DropTableRequest = parse(&body)?;
            let table = named(request.table)?;
            call.may(Operation::Write(&table))?;
            let dropped = state.engine.drop_table(table.clone(), request.if_exists, call).await?;
            answer(&body, &v1::DropTableResult { table, dropped })
        }
        "backup" => {
            let request: v1::BackupRequest = parse(&body)?;
            let made = backup::create(&state.engine, &state.config, request.name, call).await?;
            answer(&body, &backup_info(made))
        }
        "list_backups" => {
            let backups = backup::list(&state.config, call).await?;
            backups.into_iter().map(|backup| write(&body, &backup_info(backup))).collect()
        }
        "server_info" => answer(&body, &server_info(state, call)),
        "list_queries" => queries::list(state, &body, &caller.principal),
        "cancel_query" => queries::cancel(state, &body, &caller.principal),
        "list_sessions" => queries::sessions(state, &body, &caller.principal),
        "close_session" => queries::close_session(state, &body, &caller.principal),
        other => {
            let known: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
            Err(Error::unimplemented(format!("action {other:?} is not offered; there are {}", known.join(", "))))
        }
    }
}

/// The actions of Flight and Flight SQL; none for another one.
async fn run_standard(
    state: &State,
    name: &str,
    body: &Bytes,
    caller: &Caller,
    call: &Call,
) -> Result<Option<Vec<Bytes>>> {
    let result = match name {
        "CreatePreparedStatement" => prepared::create(state, unpack(body)?, &caller.open_type(), call).await?,
        "ClosePreparedStatement" => {
            let request: ActionClosePreparedStatementRequest = unpack(body)?;
            state.prepared.close(&request.prepared_statement_handle, call.owner());
            return Ok(Some(Vec::new()));
        }
        "BeginTransaction" => session::begin(state, body, call)?,
        "EndTransaction" => {
            session::end(state, body, call).await?;
            return Ok(Some(Vec::new()));
        }
        "CancelQuery" => control::cancel_query(state, body, call)?,
        "CancelFlightInfo" => control::cancel_flight_info(state, body, call)?,
        "RenewFlightEndpoint" => control::renew(state, body, call)?,
        "SetSessionOptions" => session::set_options(state, body, caller, call).await?,
        "GetSessionOptions" => session::get_options(state, call)?,
        "CloseSession" => session::close(state, call),
        "BeginSavepoint" | "EndSavepoint" => return Err(Error::unimplemented("DuckDB has no savepoints")),
        "CreatePreparedSubstraitPlan" => return Err(Error::unimplemented("Substrait plans are not supported")),
        _ => return Ok(None),
    };
    Ok(Some(vec![result]))
}

/// A request: JSON if it begins with `{`, else protobuf.
pub(super) fn parse<T: Message + Default + DeserializeOwned>(body: &Bytes) -> Result<T> {
    if is_json(body) {
        return serde_json::from_slice(body)
            .map_err(|error| Error::invalid(format!("the request is not valid: {error}")));
    }
    T::decode(body.clone()).map_err(|error| Error::invalid("the request cannot be read").with_source(error))
}

fn is_json(body: &Bytes) -> bool {
    body.first() == Some(&b'{')
}

/// The answer in the request's form.
pub(super) fn answer(body: &Bytes, message: &(impl Message + Serialize)) -> Result<Vec<Bytes>> {
    Ok(vec![write(body, message)?])
}

pub(super) fn write(body: &Bytes, message: &(impl Message + Serialize)) -> Result<Bytes> {
    if !is_json(body) {
        return Ok(message.encode_to_vec().into());
    }
    let text = serde_json::to_vec(message).map_err(|error| Error::internal("cannot write JSON").with_source(error))?;
    Ok(text.into())
}

/// A Flight SQL request, which comes in an Any.
pub(super) fn unpack<T: Message + Default>(body: &Bytes) -> Result<T> {
    let damaged = |error| Error::invalid("the request cannot be read").with_source(error);
    let any = Any::decode(body.clone()).map_err(damaged)?;
    T::decode(any.value).map_err(damaged)
}

/// A Flight SQL result, in an Any.
pub(super) fn packed(message: &impl ProstMessageExt) -> Bytes {
    message.as_any().encode_to_vec().into()
}

fn table_name(body: &Bytes) -> Result<String> {
    named(parse::<v1::TableRequest>(body)?.table)
}

fn named(table: String) -> Result<String> {
    if table.is_empty() { Err(Error::invalid("the request names no table")) } else { Ok(table) }
}

async fn list_tables(state: &State, body: &Bytes, call: &Call) -> Result<Vec<Bytes>> {
    let request: v1::ListTablesRequest = parse(body)?;
    let kind = match request.kind() {
        v1::TableKind::Unspecified => None,
        v1::TableKind::Events => Some(Kind::Events),
        v1::TableKind::Profiles => Some(Kind::Profiles),
        v1::TableKind::Table => Some(Kind::Table),
        v1::TableKind::View => Some(Kind::View),
    };
    let name_like = (!request.name_like.is_empty()).then_some(request.name_like);
    let tables = state.engine.tables(kind, name_like, call).await?;
    tables.into_iter().map(|listing| write(body, &table_info(listing))).collect()
}

fn table_info(listing: TableListing) -> v1::TableInfo {
    v1::TableInfo {
        name: listing.name,
        kind: v1::TableKind::from(listing.kind).into(),
        row_count: listing.row_count,
        fetched_at: listing.fetched_at.map(timestamp),
        size_bytes: listing.size_bytes,
    }
}

async fn get_schema(state: &State, body: &Bytes, call: &Call) -> Result<Vec<Bytes>> {
    let table = table_name(body)?;
    call.may(Operation::Read(&table))?;
    let table = state.engine.describe(table, &call.alone()).await?;
    let columns = table.columns.into_iter().map(|column| v1::Column {
        name: column.name,
        r#type: column.sql_type,
        nullable: column.nullable,
        primary_key: column.primary_key,
    });
    let schema = v1::TableSchema {
        table: table.name,
        kind: v1::TableKind::from(table.kind).into(),
        columns: columns.collect(),
        arrow_schema: schema_bytes(&wire_schema(&table.arrow_schema))?,
    };
    answer(body, &schema)
}

fn metadata(row: Metadata) -> v1::TableMetadata {
    v1::TableMetadata {
        table_name: row.table,
        r#type: v1::TableKind::from(row.kind).into(),
        fetched_at: row.fetched_at.map(timestamp),
        from_date: row.from_date.map(date),
        to_date: row.to_date.map(date),
        row_count: row.row_count,
        filter_events: row.filter_events,
        filter_where: row.filter_where,
        created_at: row.created_at.map(timestamp),
        updated_at: row.updated_at.map(timestamp),
    }
}

fn backup_info(backup: Backup) -> v1::BackupInfo {
    let Backup { name, path, manifest } = backup;
    v1::BackupInfo {
        name,
        path: path.display().to_string(),
        created_at: manifest.created_at.parse().ok(),
        tables: manifest.tables.len() as u64,
        rows: manifest.rows(),
        version: manifest.merganser,
        duckdb_version: manifest.duckdb,
        bytes: manifest.bytes,
        sha256: manifest.sha256,
    }
}

fn server_info(state: &State, call: &Call) -> v1::ServerInfo {
    let path = state.engine.database().path.as_ref();
    // Where files are on the server is nothing for its users.
    let shown = path.filter(|_| call.may(Operation::Administer("see the path")).is_ok());
    let path = shown.map(|path| path.display().to_string());
    let activity = state.engine.activity();
    v1::ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        duckdb_version: Engine::duckdb_version().to_owned(),
        database_path: path.unwrap_or_default(),
        mode: state.mode.to_owned(),
        uptime_seconds: state.ready_at.elapsed().as_secs_f64(),
        sessions: activity.sessions as u64,
        transactions: activity.transactions as u64,
        statements: activity.statements as u64,
    }
}

/// Microseconds since 1970 as a protobuf time.
pub(super) fn timestamp(us: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(us.rem_euclid(1_000_000) * 1000).unwrap_or(0);
    prost_types::Timestamp { seconds: us.div_euclid(1_000_000), nanos }
}

/// Days since 1970 as `YYYY-MM-DD`.
fn date(days: i32) -> String {
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    epoch.checked_add(jiff::Span::new().days(days)).map(|date| date.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_dates_are_plain() {
        assert_eq!(date(19_723), "2024-01-01");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(timestamp(-1).to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn requests_are_json_or_protobuf() {
        let json: v1::TableRequest = parse(&Bytes::from_static(br#"{"table": "x"}"#)).unwrap();
        let protobuf: v1::TableRequest = parse(&v1::TableRequest { table: "x".into() }.encode_to_vec().into()).unwrap();
        assert_eq!(json, protobuf);
        assert!(
            parse::<v1::TableRequest>(&Bytes::from_static(br#"{"tabel": "x"}"#))
                .unwrap_err()
                .message()
                .contains("tabel")
        );
    }
}
