//! Prepared statements. A handle is the statement itself, so there is nothing to keep, to expire or to lose; bound
//! parameters are not offered yet.

use std::time::Instant;

use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Any, DoPutPreparedStatementResult};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use prost::Message;
use tonic::Streaming;

use super::encode::{schema_bytes, wire_schema};
use super::ticket::{self, Ticket};
use super::{State, put};
use crate::engine::Plan;
use crate::error::{Error, Result};

/// `ActionCreatePreparedStatementResult` with `is_update`, which arrow-flight 60 does not have: ADBC goes by it.
#[derive(Clone, PartialEq, prost::Message)]
struct CreateResult {
    #[prost(bytes = "bytes", tag = "1")]
    prepared_statement_handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

/// Plans a statement; answers the packed result of CreatePreparedStatement.
pub(super) async fn create(state: &State, sql: String, deadline: Option<Instant>) -> Result<Bytes> {
    let plan = state.engine.plan(sql.clone(), deadline).await?;
    // JDBC tells an update from a query by an empty schema.
    let (dataset_schema, is_update) = match plan {
        Plan::Rows(schema) => (schema_bytes(&wire_schema(&schema))?, false),
        Plan::Change { returns_rows: false } | Plan::Insert(_) => (Bytes::new(), true),
        Plan::Change { returns_rows: true } => (Bytes::new(), false),
    };
    let result = CreateResult {
        prepared_statement_handle: ticket::encode(Ticket::Query(sql)),
        dataset_schema,
        parameter_schema: schema_bytes(&arrow::datatypes::Schema::empty())?,
        is_update: Some(is_update),
    };
    let any = Any {
        type_url: "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult".to_owned(),
        value: result.encode_to_vec().into(),
    };
    Ok(any.encode_to_vec().into())
}

/// The statement of a handle.
pub(super) fn sql_of(handle: &Bytes) -> Result<String> {
    match ticket::decode(handle) {
        Ok(Ticket::Query(sql)) => Ok(sql),
        _ => Err(Error::not_found("the prepared statement is not known")),
    }
}

/// Runs a prepared statement for its effect, once the client has sent its (empty) parameters.
pub(super) async fn put_update(
    state: &State,
    handle: &Bytes,
    first: FlightData,
    messages: Streaming<FlightData>,
    deadline: Option<Instant>,
) -> Result<impl Stream<Item = Result<PutResult>> + Send + use<>> {
    let sql = sql_of(handle)?;
    refuse_parameters(first, messages).await?;
    put::update(state, sql, deadline).await
}

/// Takes the (empty) parameters of a query; answers with the same handle, which Java needs to be there.
pub(super) async fn put_query(
    handle: &Bytes,
    first: FlightData,
    messages: Streaming<FlightData>,
) -> Result<impl Stream<Item = Result<PutResult>> + Send + use<>> {
    sql_of(handle)?;
    refuse_parameters(first, messages).await?;
    let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.clone()) };
    Ok(stream::iter([Ok(PutResult { app_metadata: result.encode_to_vec().into() })]))
}

/// Reads the parameter stream to its end: no columns, or no rows, mean no parameters.
async fn refuse_parameters(first: FlightData, messages: Streaming<FlightData>) -> Result<()> {
    if first.data_header.is_empty() {
        return Ok(());
    }
    let rest = messages.map(|message| message.map_err(|status| FlightError::Tonic(Box::new(status))));
    let mut decoder = FlightDataDecoder::new(stream::iter([Ok(first)]).chain(rest));
    while let Some(message) = decoder.next().await {
        let message = message.map_err(|error| Error::invalid("cannot read the parameters").with_source(error))?;
        if let DecodedPayload::RecordBatch(batch) = message.payload
            && batch.num_rows() > 0
            && batch.num_columns() > 0
        {
            return Err(Error::unimplemented(
                "bound parameters are not offered yet: write the values into the statement",
            ));
        }
    }
    Ok(())
}
