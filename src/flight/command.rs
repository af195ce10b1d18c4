//! Descriptors: the bytes or path of a FlightDescriptor become one enum of checked commands. Everything after this matches
//! on values, never on bytes or type URLs.

use std::collections::HashMap;

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{Any, Command as SqlCommand, CommandStatementIngest, TableExistsOption, TableNotExistOption};
use bytes::Bytes;
use prost::Message;

use super::session::transaction_id;
use super::ticket::decode_any;
use crate::engine::{CATALOG, SCHEMA, TablePlace, TransactionId};
use crate::error::{Error, Result};
use crate::ingest::{Mode, Request};
use crate::proto::v1;
use crate::tables::{Kind, TableName};

const INGEST_URL: &str = "type.googleapis.com/merganser.v1.Ingest";

/// What a descriptor asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// A table's own descriptor.
    Table(String),
    /// A stream of rows into a table.
    Ingest(Box<Request>, Replies, Option<TransactionId>),
    /// A statement whose rows are wanted.
    Query(Statement),
    /// A statement that is run for its effect.
    Update(Statement),
    /// A prepared statement whose rows are wanted, by its handle.
    PreparedQuery(Bytes),
    /// A prepared statement that is run for its effect, by its handle.
    PreparedUpdate(Bytes),
    /// A Flight SQL metadata command.
    Metadata(SqlCommand),
}

/// A statement, and the transaction that it names.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) transaction: Option<TransactionId>,
}

/// How an ingest is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    /// IngestProgress and IngestResult as JSON text.
    Json,
    /// The same, in an Any.
    Protobuf,
    /// DoPutUpdateResult only, at the end.
    FlightSql,
}

impl Command {
    /// The error for an RPC that does not take this command.
    pub(super) fn refuse(&self, rpc: &str) -> Error {
        let what = match self {
            Self::Table(_) => "a table's descriptor",
            Self::Ingest(..) => "an ingest command",
            Self::Query(_) => "a query",
            Self::Update(_) => "an update",
            Self::PreparedQuery(_) | Self::PreparedUpdate(_) => "a prepared statement",
            Self::Metadata(command) => command.type_url(),
        };
        Error::invalid(format!("{rpc} does not take {what}"))
    }
}

/// The command of a descriptor.
pub(super) fn decode(descriptor: Option<&FlightDescriptor>) -> Result<Command> {
    let descriptor = descriptor.ok_or_else(|| Error::invalid("the first message carries no descriptor"))?;
    match descriptor.r#type() {
        DescriptorType::Path => from_path(&descriptor.path),
        DescriptorType::Cmd => from_bytes(&descriptor.cmd),
        DescriptorType::Unknown => Err(Error::invalid("the descriptor is neither a path nor a command")),
    }
}

/// `["purchases"]` is a table, also with its catalog and schema before it; `["events", "purchases"]` is an ingest.
fn from_path(path: &[String]) -> Result<Command> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let is_catalog = |part: &str| part.eq_ignore_ascii_case(CATALOG);
    let is_schema = |part: &str| part.eq_ignore_ascii_case(SCHEMA);
    match parts.as_slice() {
        [table] if !table.is_empty() => Ok(Command::Table((*table).to_owned())),
        [kind, table] if matches!(Kind::from_word(kind), Some(Kind::Events | Kind::Profiles | Kind::Table)) => {
            let kind = Kind::from_word(kind);
            if kind.is_some_and(Kind::is_managed) {
                TableName::parse(table)?;
            }
            Ok(Command::Ingest(Box::new(Request::create(kind, table)), Replies::Json, None))
        }
        [schema, table] if is_schema(schema) => Ok(Command::Table((*table).to_owned())),
        [catalog, schema, table] if is_catalog(catalog) && is_schema(schema) => Ok(Command::Table((*table).to_owned())),
        _ => Err(Error::invalid(
            "the path is not known: a table is [name]; an ingest is [\"events\", name], [\"profiles\", name] or [\"table\", name]",
        )),
    }
}

fn from_bytes(bytes: &Bytes) -> Result<Command> {
    if let Some(any) = decode_any(bytes) {
        return from_any(any);
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| Error::invalid("the command is neither a known message nor text"))?;
    if !text.trim_start().starts_with('{') {
        return Ok(Command::Query(Statement { sql: text.to_owned(), transaction: None }));
    }
    let ingest: v1::Ingest = serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("the ingest command is not valid: {error}")))?;
    Ok(Command::Ingest(Box::new(Request::try_from(ingest)?), Replies::Json, None))
}

fn from_any(any: Any) -> Result<Command> {
    if any.type_url == INGEST_URL {
        let ingest = v1::Ingest::decode(any.value).map_err(damaged)?;
        return Ok(Command::Ingest(Box::new(Request::try_from(ingest)?), Replies::Protobuf, None));
    }
    let type_url = any.type_url.clone();
    match SqlCommand::try_from(any).map_err(damaged)? {
        SqlCommand::CommandStatementQuery(query) => {
            let transaction = transaction_id(query.transaction_id.as_ref())?;
            Ok(Command::Query(Statement { sql: query.query, transaction }))
        }
        SqlCommand::CommandStatementUpdate(update) => {
            let transaction = transaction_id(update.transaction_id.as_ref())?;
            Ok(Command::Update(Statement { sql: update.query, transaction }))
        }
        SqlCommand::CommandPreparedStatementQuery(query) => Ok(Command::PreparedQuery(query.prepared_statement_handle)),
        SqlCommand::CommandPreparedStatementUpdate(update) => {
            Ok(Command::PreparedUpdate(update.prepared_statement_handle))
        }
        SqlCommand::CommandStatementIngest(ingest) => from_statement_ingest(ingest),
        SqlCommand::Unknown(_) => Err(Error::invalid(format!("a command of type {type_url} is not known"))),
        command => Ok(Command::Metadata(command)),
    }
}

fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::invalid("the command cannot be read").with_source(error)
}

/// Flight SQL's ingest: the same request, said in its words; `options` may say the rest.
fn from_statement_ingest(ingest: CommandStatementIngest) -> Result<Command> {
    let transaction = transaction_id(ingest.transaction_id.as_ref())?;
    let place = place(&ingest)?;
    let options = ingest.table_definition_options.unwrap_or_default();
    let mode = match (options.if_not_exist(), options.if_exists()) {
        (TableNotExistOption::Create, TableExistsOption::Fail) => Mode::Create,
        (TableNotExistOption::Fail, TableExistsOption::Append) => Mode::Append,
        (TableNotExistOption::Create, TableExistsOption::Append) => Mode::CreateAppend,
        (TableNotExistOption::Create, TableExistsOption::Replace) => Mode::Replace,
        (if_not_exist, if_exists) => {
            return Err(Error::invalid(format!(
                "the ingest says {} and {}, which is no mode of it",
                if_not_exist.as_str_name(),
                if_exists.as_str_name()
            )));
        }
    };
    let mut request = from_options(ingest.options, ingest.table)?;
    request.mode = mode;
    request.place = place;
    Ok(Command::Ingest(Box::new(request), Replies::FlightSql, transaction))
}

fn place(ingest: &CommandStatementIngest) -> Result<TablePlace> {
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let (catalog, schema) = (given(&ingest.catalog), given(&ingest.schema));
    let is = |name: &Option<String>, known: &str| name.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(known));
    if ingest.temporary || catalog.as_deref().is_some_and(|catalog| catalog.eq_ignore_ascii_case("temp")) {
        return Ok(TablePlace::Temporary);
    }
    if !is(&catalog, CATALOG) {
        return Err(Error::not_found(format!(
            "catalog {:?} is not there: tables are in {CATALOG}",
            catalog.unwrap_or_default()
        )));
    }
    Ok(match schema {
        None => TablePlace::Unsaid,
        Some(schema) if schema.eq_ignore_ascii_case(SCHEMA) => TablePlace::Main,
        Some(schema) => TablePlace::Schema(schema),
    })
}

/// `kind`, `on_duplicate`, `extra`, `ingest_id` and the metadata, as in the JSON form; other options are not ours.
fn from_options(options: HashMap<String, String>, table: String) -> Result<Request> {
    let mut json = serde_json::Map::new();
    let mut metadata = serde_json::Map::new();
    for (name, value) in options {
        match name.as_str() {
            "kind" | "on_duplicate" | "extra" | "ingest_id" => {
                json.insert(name, value.into());
            }
            "fetched_at" | "from_date" | "to_date" | "filter_where" => {
                metadata.insert(name, value.into());
            }
            _ => {}
        }
    }
    json.insert("table".to_owned(), table.into());
    if !metadata.is_empty() {
        json.insert("metadata".to_owned(), metadata.into());
    }
    let ingest: v1::Ingest = serde_json::from_value(json.into())
        .map_err(|error| Error::invalid(format!("the options of the ingest are not valid: {error}")))?;
    Request::try_from(ingest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(parts: &[&str]) -> Result<Command> {
        let descriptor = FlightDescriptor::new_path(parts.iter().map(|part| (*part).to_owned()).collect());
        decode(Some(&descriptor))
    }

    fn command(bytes: &[u8]) -> Result<Command> {
        decode(Some(&FlightDescriptor::new_cmd(bytes.to_vec())))
    }

    #[test]
    fn paths_are_tables_and_ingests() {
        assert!(matches!(path(&["purchases"]), Ok(Command::Table(name)) if name == "purchases"));
        assert!(matches!(path(&["merganser", "main", "x"]), Ok(Command::Table(name)) if name == "x"));
        assert!(
            matches!(path(&["events", "x"]), Ok(Command::Ingest(request, Replies::Json, None)) if request.kind == Some(Kind::Events))
        );
        assert!(path(&["events", "_x"]).unwrap_err().message().contains("reserved"));
        assert!(path(&["views", "x"]).is_err());
        assert!(path(&[]).is_err());
    }

    #[test]
    fn text_is_sql_and_json_is_an_ingest() {
        assert!(matches!(command(b"SELECT 1"), Ok(Command::Query(statement)) if statement.sql == "SELECT 1"));
        assert!(matches!(command(br#" {"kind": "profiles", "table": "x"}"#), Ok(Command::Ingest(..))));
        assert!(command(br#"{"kind": "profiles", "tabel": "x"}"#).unwrap_err().message().contains("tabel"));
        assert!(command(&[0xff, 0x00]).is_err());
    }

    #[test]
    fn flight_sql_modes_are_ours() {
        let ingest = |if_not_exist: i32, if_exists: i32| CommandStatementIngest {
            table_definition_options: Some(arrow_flight::sql::TableDefinitionOptions { if_not_exist, if_exists }),
            table: "x".to_owned(),
            options: [("on_duplicate".to_owned(), "replace".to_owned()), ("other".to_owned(), "1".to_owned())].into(),
            ..CommandStatementIngest::default()
        };
        for (options, mode) in
            [((1, 1), Mode::Create), ((2, 2), Mode::Append), ((1, 2), Mode::CreateAppend), ((1, 3), Mode::Replace)]
        {
            let Ok(Command::Ingest(request, Replies::FlightSql, None)) =
                from_statement_ingest(ingest(options.0, options.1))
            else {
                panic!("{options:?}");
            };
            assert_eq!((request.mode, request.on_duplicate), (mode, crate::ingest::OnDuplicate::Replace));
        }
        assert!(from_statement_ingest(ingest(0, 0)).is_err());
    }
}
