//! Sessions and transactions on the wire: the actions of Flight and Flight SQL that open, set and end them.
//!
//! arrow-flight 60 has none of the session messages.

use std::collections::HashMap;
use std::time::Duration;

use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionEndTransactionRequest, EndTransaction,
};
use bytes::Bytes;
use humantime_serde::re::humantime;
use prost::Message;
use uuid::Uuid;

use super::State;
use super::actions::{packed, unpack};
use super::auth::Caller;
use crate::engine::{CATALOG, Call, End, Extensions, SCHEMA, Settings, TransactionId};
use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, PartialEq, Message)]
struct SetOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SetOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct GetOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

/// No such option.
const INVALID_NAME: i32 = 1;
/// Not a value that it can have.
const INVALID_VALUE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The session has ended.
const CLOSED: i32 = 1;

/// The transaction of an id, which is none when it is empty.
pub(super) fn transaction_id(id: Option<&Bytes>) -> Result<Option<TransactionId>> {
    id.filter(|id| !id.is_empty())
        .map(|id| Uuid::from_slice(id).map_err(|_| Error::not_found("the transaction is not known")))
        .transpose()
}

/// BeginTransaction.
pub(super) fn begin(state: &State, body: &Bytes, call: &Call) -> Result<Bytes> {
    unpack::<ActionBeginTransactionRequest>(body)?;
    let id = state.engine.begin_transaction(call)?;
    Ok(packed(&ActionBeginTransactionResult { transaction_id: Bytes::copy_from_slice(id.as_bytes()) }))
}

/// EndTransaction.
pub(super) async fn end(state: &State, body: &Bytes, call: &Call) -> Result<()> {
    let request: ActionEndTransactionRequest = unpack(body)?;
    let id = transaction_id(Some(&request.transaction_id))?;
    let id = id.ok_or_else(|| Error::invalid("the request names no transaction"))?;
    let end = match request.action() {
        EndTransaction::Commit => End::Commit,
        EndTransaction::Rollback => End::Rollback,
        EndTransaction::Unspecified => return Err(Error::invalid("the request says neither commit nor rollback")),
    };
    state.engine.end_transaction(call, id, end).await
}

/// SetSessionOptions: options that are wrong are told one by one, and the others are set.
pub(super) async fn set_options(state: &State, body: &Bytes, caller: &Caller, call: &Call) -> Result<Bytes> {
    let request = SetOptionsRequest::decode(body.clone())
        .map_err(|error| Error::invalid("the request cannot be read").with_source(error))?;
    // A client that sets options will be back with the session that it is offered now.
    let session = call.session.clone().or_else(|| caller.offered.clone());
    let call = Call { session, ..call.clone() };
    let mut errors = HashMap::new();
    for (name, value) in request.options {
        if let Some(error) = set_option(state, &call, &name, value.value).await? {
            errors.insert(name, OptionError { value: error });
        }
    }
    Ok(SetOptionsResult { errors }.encode_to_vec().into())
}

async fn set_option(state: &State, call: &Call, name: &str, value: Option<Value>) -> Result<Option<i32>> {
    let mut settings = state.engine.settings(call)?;
    let known = match name.to_ascii_lowercase().as_str() {
        "catalog" => return Ok((!is_our_catalog(value.as_ref())).then_some(INVALID_VALUE)),
        "schema" => text(value).map(|name| settings.schema = name.filter(|name| !name.eq_ignore_ascii_case(SCHEMA))),
        "timezone" => text(value).map(|zone| settings.time_zone = zone),
        "query_timeout" => timeout(value).map(|timeout| settings.query_timeout = timeout),
        "extension_types" => extensions(value).map(|extensions| settings.extensions = extensions),
        _ => return Ok(Some(INVALID_NAME)),
    };
    if known.is_err() {
        return Ok(Some(INVALID_VALUE));
    }
    match state.engine.change_settings(call, settings).await {
        Ok(()) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::NotFound) => {
            tracing::debug!(%error, option = name, "not set");
            Ok(Some(INVALID_VALUE))
        }
        Err(error) => Err(error),
    }
}

/// A value that an option cannot have.
struct InvalidValue;

/// There is one catalog, so that setting it changes nothing.
fn is_our_catalog(value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(Value::Text(name)) => name.is_empty() || name.eq_ignore_ascii_case(CATALOG),
        Some(_) => false,
    }
}

/// A text; none unsets the option.
fn text(value: Option<Value>) -> Result<Option<String>, InvalidValue> {
    match value {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(InvalidValue),
    }
}

/// `30s`, or a number of seconds; none unsets the option.
fn timeout(value: Option<Value>) -> Result<Option<Duration>, InvalidValue> {
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    let timeout = match value {
        None => return Ok(None),
        Some(Value::Text(text)) => {
            text.parse::<f64>().ok().map_or_else(|| humantime::parse_duration(&text).ok(), seconds)
        }
        Some(Value::Int64(number)) => u64::try_from(number).ok().map(Duration::from_secs),
        Some(Value::Double(number)) => seconds(number),
        Some(Value::Bool(_) | Value::Texts(_)) => None,
    };
    timeout.map(|timeout| Some(timeout).filter(|timeout| !timeout.is_zero())).ok_or(InvalidValue)
}

/// A list of names, or one text with commas.
fn extensions(value: Option<Value>) -> Result<Extensions, InvalidValue> {
    let names = match value {
        None => Vec::new(),
        Some(Value::Texts(texts)) => texts.values,
        Some(Value::Text(text)) => text.split(',').map(str::to_owned).collect(),
        Some(_) => return Err(InvalidValue),
    };
    let mut extensions = Extensions::default();
    for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        match name {
            "arrow.json" => extensions.json = true,
            "arrow.uuid" => extensions.uuid = true,
            _ => return Err(InvalidValue),
        }
    }
    Ok(extensions)
}

/// GetSessionOptions; it makes no session.
pub(super) fn get_options(state: &State, call: &Call) -> Result<Bytes> {
    let Settings { schema, time_zone, query_timeout, extensions } = state.engine.settings(call)?;
    let mut names = Vec::new();
    names.extend(extensions.json.then(|| "arrow.json".to_owned()));
    names.extend(extensions.uuid.then(|| "arrow.uuid".to_owned()));
    let timeout = query_timeout.unwrap_or(state.config.engine.query_timeout);
    let options = [
        ("catalog", Value::Text(CATALOG.to_owned())),
        ("schema", Value::Text(schema.unwrap_or_else(|| SCHEMA.to_owned()))),
        ("TimeZone", Value::Text(time_zone.unwrap_or_else(|| "UTC".to_owned()))),
        ("query_timeout", Value::Text(humantime::format_duration(timeout).to_string())),
        ("extension_types", Value::Texts(Texts { values: names })),
    ];
    let options =
        options.into_iter().map(|(name, value)| (name.to_owned(), OptionValue { value: Some(value) })).collect();
    Ok(GetOptionsResult { options }.encode_to_vec().into())
}

/// CloseSession.
pub(super) fn close(state: &State, call: &Call) -> Bytes {
    if let Some(key) = &call.session {
        state.engine.close_session(key);
    }
    CloseResult { status: CLOSED }.encode_to_vec().into()
}
