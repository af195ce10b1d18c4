//! DoPut's first message, and updates. Ingest streams are in [`super::ingest`].

use arrow_flight::sql::DoPutUpdateResult;
use arrow_flight::{FlightData, PutResult};
use prost::Message;
use tonic::Streaming;

use super::{State, statement};
use crate::engine::{Bound, Call};
use crate::error::{Error, Result};

/// The message that carries the descriptor.
pub(super) async fn first_message(state: &State, messages: &mut Streaming<FlightData>) -> Result<FlightData> {
    match messages.message().await {
        Ok(Some(first)) => Ok(first),
        Ok(None) => Err(Error::invalid("the stream is empty: its first message carries the descriptor")),
        Err(status) => Err(super::status::into_error(&status, state.config.server.message_bytes_max.as_u64())),
    }
}

/// Runs a statement for its effect. It is answered at once: C++ and Java wait for the answer before they close their side.
pub(super) async fn update(state: &State, sql: String, bound: Option<Bound>, call: &Call) -> Result<PutResult> {
    let executed = statement::execute(state, sql, bound, call).await?;
    Ok(update_result(executed.changed.unwrap_or(0)))
}

/// Flight SQL's answer to anything that changes rows; never -1, which makes JDBC run it again.
pub(super) fn update_result(changed: u64) -> PutResult {
    let result = DoPutUpdateResult { record_count: i64::try_from(changed).unwrap_or(i64::MAX) };
    PutResult { app_metadata: result.encode_to_vec().into() }
}
