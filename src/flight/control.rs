//! Control of flights: cancelling, renewing, and polling a statement that takes its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult, Any};
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightEndpoint, FlightInfo,
    PollInfo, RenewFlightEndpointRequest,
};
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;
use tracing::Instrument;
use uuid::Uuid;

use super::actions::{packed, unpack};
use super::command::{self, Command};
use super::flights::FlightId;
use super::ticket::{self, Ticket};
use super::{State, info};
use crate::engine::{Action, Call, Owner};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::v1;

const POLL_URL: &str = "type.googleapis.com/merganser.v1.Poll";
const POLL_VERSION: u32 = 1;

/// How long a poll waits for the statement to end before it says that it still runs.
const POLL_WAIT: Duration = Duration::from_secs(1);

/// How long a statement runs on without being asked for, before it is cancelled by the next sweep.
const POLL_EXPIRE: Duration = Duration::from_mins(1);

/// A polled statement, and who it is for.
type Key = (FlightId, Owner);

/// Statements that run beside the calls that ask for them, bounded like the results that they leave.
#[derive(Debug, Default)]
pub(super) struct Polls(Mutex<HashMap<Key, Polled>>);

#[derive(Debug)]
struct Polled {
    outcome: watch::Receiver<Option<Outcome>>,
    last_asked: Instant,
    task: tokio::task::AbortHandle,
}

/// The FlightInfo of a statement that has ended, or what went wrong.
type Outcome = std::result::Result<FlightInfo, (ErrorKind, String)>;

impl Drop for Polled {
    fn drop(&mut self) {
        // One that has ended does not mind.
        self.task.abort();
    }
}

impl Polls {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Polled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels statements that nobody asks for any more.
    pub(super) fn drop_expired(&self) {
        self.lock().retain(|_, polled| polled.last_asked.elapsed() < POLL_EXPIRE);
    }

    fn cancel(&self, key: &Key) -> bool {
        self.lock().remove(key).is_some()
    }
}

/// PollFlightInfo: a query is ready when it is planned; what changes something runs, and is asked for until it has ended.
pub(super) async fn poll(state: &Arc<State>, descriptor: FlightDescriptor, call: Call) -> Result<PollInfo> {
    if let Some(id) = polled(&descriptor)? {
        return wait(state, (id, call.owner())).await;
    }
    let command = command::decode(Some(&descriptor))?;
    let (sql, call) = match &command {
        Command::Query(query) => (Some(query.sql.clone()), call.within(query.transaction)),
        Command::PreparedQuery(handle) => {
            let prepared = state.prepared.find(handle, call.owner())?;
            (Some(prepared.sql), call.within(prepared.transaction))
        }
        _ => (None, call),
    };
    let changes = match sql {
        Some(sql) => !matches!(state.engine.plan(sql, &call).await?.action, Action::Read(_)),
        None => false,
    };
    if !changes {
        return Ok(complete(info::flight_info(state, descriptor, &call).await?));
    }
    let key = start(state, descriptor, Call { deadline: None, ..call })?;
    wait(state, key).await
}

fn complete(info: FlightInfo) -> PollInfo {
    PollInfo { info: Some(info), flight_descriptor: None, progress: Some(1.0), expiration_time: None }
}

fn start(state: &Arc<State>, descriptor: FlightDescriptor, call: Call) -> Result<Key> {
    let mut polls = state.polls.lock();
    if polls.len() >= state.config.query.results_max {
        return Err(Error::exhausted(format!(
            "{} statements are polled, which is the limit (query.results_max); try again later",
            polls.len()
        )));
    }
    let key = (Uuid::new_v4(), call.owner());
    let (outcome_tx, outcome) = watch::channel(None);
    let shared = Arc::clone(state);
    let run = async move {
        let outcome = info::flight_info(&shared, descriptor, &call).await;
        // Nobody asks any more when it has expired.
        drop(outcome_tx.send(Some(outcome.map_err(|error| (error.kind(), error.message().to_owned())))));
    };
    let task = tokio::spawn(run.in_current_span());
    polls.insert(key.clone(), Polled { outcome, last_asked: Instant::now(), task: task.abort_handle() });
    Ok(key)
}

async fn wait(state: &State, key: Key) -> Result<PollInfo> {
    let unknown = || Error::not_found("the statement is not known: it was cancelled, or not polled for a minute");
    let mut outcome = {
        let mut polls = state.polls.lock();
        let polled = polls.get_mut(&key).ok_or_else(unknown)?;
        polled.last_asked = Instant::now();
        polled.outcome.clone()
    };
    let ended = tokio::time::timeout(POLL_WAIT, outcome.wait_for(Option::is_some)).await;
    match ended {
        Ok(Ok(outcome)) => match outcome.clone() {
            Some(Ok(info)) => Ok(complete(info)),
            Some(Err((kind, message))) => Err(Error::new(kind, message)),
            None => Err(unknown()),
        },
        Ok(Err(_)) => Err(unknown()),
        // How far it is DuckDB tells for few statements, and then wrongly: nothing is better than that.
        Err(_) => Ok(PollInfo {
            info: Some(FlightInfo::new().with_descriptor(descriptor(key.0))),
            flight_descriptor: Some(descriptor(key.0)),
            progress: None,
            expiration_time: None,
        }),
    }
}

fn descriptor(id: FlightId) -> FlightDescriptor {
    let poll = v1::Poll { version: POLL_VERSION, flight: Bytes::copy_from_slice(id.as_bytes()) };
    let any = Any { type_url: POLL_URL.to_owned(), value: poll.encode_to_vec().into() };
    FlightDescriptor::new_cmd(any.encode_to_vec())
}

/// The statement that a descriptor goes on polling, if it is one of ours.
fn polled(descriptor: &FlightDescriptor) -> Result<Option<FlightId>> {
    let Some(any) = ticket::decode_any(&descriptor.cmd).filter(|any| any.type_url == POLL_URL) else { return Ok(None) };
    let damaged = || Error::invalid("the descriptor is damaged");
    let poll = v1::Poll::decode(any.value).map_err(|error| damaged().with_source(error))?;
    let id = Uuid::from_slice(&poll.flight).ok().filter(|_| poll.version == POLL_VERSION);
    id.map(Some).ok_or_else(damaged)
}

/// CancelFlightInfo.
pub(super) fn cancel_flight_info(state: &State, body: &Bytes, call: &Call) -> Result<Bytes> {
    let request = CancelFlightInfoRequest::decode(body.clone())
        .map_err(|error| Error::invalid("the request cannot be read").with_source(error))?;
    let info = request.info.ok_or_else(|| Error::invalid("the request has no FlightInfo"))?;
    let status = if cancel(state, &info, call)? { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
    Ok(CancelFlightInfoResult::new(status).encode_to_vec().into())
}

/// CancelQuery, the deprecated form of it.
pub(super) fn cancel_query(state: &State, body: &Bytes, call: &Call) -> Result<Bytes> {
    let request: ActionCancelQueryRequest = unpack(body)?;
    let info = FlightInfo::decode(request.info)
        .map_err(|error| Error::invalid("the FlightInfo cannot be read").with_source(error))?;
    // Flight's statuses have the numbers of Flight SQL's results.
    let status = if cancel(state, &info, call)? { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
    Ok(packed(&ActionCancelQueryResult { result: status.into() }))
}

/// Cancels what a FlightInfo leads to; false when there is nothing to cancel any more.
fn cancel(state: &State, info: &FlightInfo, call: &Call) -> Result<bool> {
    let mut cancelled = false;
    if let Some(id) = info.flight_descriptor.as_ref().map(polled).transpose()?.flatten() {
        cancelled |= state.polls.cancel(&(id, call.owner()));
    }
    for endpoint in &info.endpoint {
        if let Some(id) = flight_of(endpoint)? {
            cancelled |= state.flights.cancel(id, call.owner());
        }
    }
    Ok(cancelled)
}

fn flight_of(endpoint: &FlightEndpoint) -> Result<Option<FlightId>> {
    let ticket = endpoint.ticket.as_ref().ok_or_else(|| Error::invalid("an endpoint without a ticket"))?;
    Ok(match ticket::decode(&ticket.ticket)? {
        Ticket::Query(query) => query.flight,
        Ticket::Result(id) => id,
        Ticket::Table(_) | Ticket::Metadata(_) => None,
    })
}

/// RenewFlightEndpoint: a result is kept for as long again. A query's ticket does not expire.
pub(super) fn renew(state: &State, body: &Bytes, call: &Call) -> Result<Bytes> {
    let request = RenewFlightEndpointRequest::decode(body.clone())
        .map_err(|error| Error::invalid("the request cannot be read").with_source(error))?;
    let mut endpoint = request.endpoint.ok_or_else(|| Error::invalid("the request has no endpoint"))?;
    let ticket = endpoint.ticket.as_ref().ok_or_else(|| Error::invalid("the endpoint has no ticket"))?;
    if let Ticket::Result(Some(id)) = ticket::decode(&ticket.ticket)? {
        endpoint.expiration_time = Some(state.flights.renew_result(id, call.owner())?.into());
    }
    Ok(endpoint.encode_to_vec().into())
}
