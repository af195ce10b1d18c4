//! DoPut's first message, how long each one may take to come, and updates. Ingest streams are in [`super::ingest`].

use std::future::Future;
use std::time::Duration;

use arrow_flight::sql::DoPutUpdateResult;
use arrow_flight::{FlightData, PutResult};
use prost::Message;
use tonic::Streaming;

use super::{State, statement};
use crate::engine::{Bound, Call};
use crate::error::{Error, ErrorKind, Result};

/// The next message of a stream, as long as it is not silent for longer than `ingest.idle_timeout`.
pub(super) async fn heard<T>(idle_timeout: Duration, message: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(idle_timeout, message).await.map_err(|_| {
        Error::new(
            ErrorKind::DeadlineExceeded,
            format!("the stream was silent for {idle_timeout:?} (ingest.idle_timeout): nothing is stored"),
        )
    })
}

/// The message that carries the descriptor.
pub(super) async fn first_message(state: &State, messages: &mut Streaming<FlightData>) -> Result<FlightData> {
    match heard(state.budget.idle_timeout(), messages.message()).await? {
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
