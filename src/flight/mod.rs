//! Flight: the only folder that speaks the protocol.
//!
//! [`Service`] implements `FlightService` itself (the blanket `FlightSqlService` has no way to GetSchema, PollFlightInfo and
//! ListFlights, nor to a descriptor of plain SQL text). Every RPC is: decode the bytes into one enum of commands, do one
//! call, answer. Errors become a gRPC status in one place, `status`.

mod actions;
mod arriving;
mod auth;
mod body;
mod columns;
mod command;
mod control;
mod decode;
mod drain;
mod encode;
mod flights;
mod info;
mod ingest;
mod metadata;
mod observe;
mod prepared;
mod put;
mod queries;
mod reflection;
mod room;
mod session;
mod statement;
mod status;
mod ticket;

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::access::Authority;
use crate::config::Config;
use crate::engine::{Call, Engine};
use crate::error::{Error, Result};
use crate::ingest::{Budget, BudgetUsage};
use auth::Caller;
use command::Command;
use room::Room;

pub use auth::Authenticated;
pub use drain::Drain;
pub use observe::Observed;
pub use reflection::descriptors;

/// What every RPC may use; cheap to clone.
#[derive(Clone, Debug)]
pub struct Service(Arc<State>);

#[derive(Debug)]
struct State {
    engine: Engine,
    budget: Budget,
    /// What compressed messages unfold to.
    unfolding: Room,
    flights: Arc<flights::Flights>,
    polls: control::Polls,
    prepared: prepared::PreparedStatements,
    config: Config,
    mode: &'static str,
    ready_at: Instant,
    drain: Drain,
}

impl Service {
    /// A service over `engine`; `mode` is how the database is kept, for `server_info`. To be called on the async runtime.
    pub fn new(engine: Engine, config: &Config, mode: &'static str) -> Self {
        let state = Arc::new(State {
            engine,
            budget: Budget::of(config),
            unfolding: Room::new(&config.server),
            flights: flights::Flights::new(&config.query),
            polls: control::Polls::default(),
            prepared: prepared::PreparedStatements::new(&config.query),
            config: config.clone(),
            mode,
            ready_at: Instant::now(),
            drain: Drain::default(),
        });
        tokio::spawn(sweep(Arc::downgrade(&state)));
        Self(state)
    }

    /// What ends its calls.
    pub fn drain(&self) -> Drain {
        self.0.drain.clone()
    }

    /// What its ingest streams take.
    pub fn ingest_usage(&self) -> BudgetUsage {
        self.0.budget.usage()
    }

    /// The gRPC server of the service, for those whom `authority` lets in, with the configured limits.
    pub fn into_server(self, authority: Authority) -> Observed<Authenticated<FlightServiceServer<Self>>> {
        let message_bytes_max = usize::try_from(self.0.config.server.message_bytes_max.as_u64()).unwrap_or(usize::MAX);
        let (drain, log) = (self.drain(), observe::AccessLog::new(self.0.config.log.access_per_second));
        let arrivals = arriving::Arrivals::new(&self.0.config);
        let server = FlightServiceServer::new(self)
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(usize::MAX);
        Observed::new(Authenticated::new(server, authority, arrivals), drain, Arc::new(log))
    }
}

/// How often the service looks for what nobody has asked for in time.
const SWEEP: Duration = Duration::from_secs(5);

/// Drops results that are not fetched and statements that are not polled any more, for as long as the service is there.
async fn sweep(state: Weak<State>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(state) = state.upgrade() else { return };
        state.flights.drop_expired();
        state.polls.drop_expired();
    }
}

/// How long a client has to send the message of its handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream of answers whose errors become statuses.
fn answers<T: 'static>(stream: impl Stream<Item = Result<T>> + Send + 'static) -> Response<Answers<T>> {
    Response::new(Box::pin(stream.map(|item| item.map_err(status::from_error))))
}

/// The one answer of a call, or its error.
fn one_answer<T: Send + 'static>(answer: Result<T>) -> Result<Response<Answers<T>>, Status> {
    answer.map(|answer| answers(stream::iter([Ok(answer)]))).map_err(status::from_error)
}

/// Who calls.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| status::from_error(Error::internal("a call that was not authenticated")))
}

/// On whose behalf the call's work runs, and until when.
fn call<T>(request: &Request<T>) -> Result<Call, Status> {
    let Caller { principal, session, .. } = caller(request)?;
    Ok(Call { principal: Some(principal), session, deadline: deadline(request), ..Call::default() })
}

/// The time by which the call has to end, from its `grpc-timeout` header.
fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    let timeout = Duration::from_nanos(amount.checked_mul(nanos)?);
    // A little earlier than it says: tonic ends the call then as CANCELLED, and not for its reason.
    Instant::now().checked_add(timeout.saturating_sub((timeout / 5).min(Duration::from_millis(100))))
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        // The credentials were checked with the call; one client reads the token here, another in the headers.
        let caller = caller(&request)?;
        let token = &caller.token;
        let payload = bytes::Bytes::copy_from_slice(token.as_bytes());
        let bearer = format!("Bearer {token}").parse();
        let bearer = bearer.map_err(|_| status::from_error(Error::internal("a token that is no header")))?;
        // Some clients send a message, and C++ aborts its process when the call has ended before that; Go sends none.
        let mut messages = request.into_inner();
        drop(tokio::time::timeout(HANDSHAKE_WAIT, messages.message()).await);
        // JavaScript waits for a message. C++ reads it when it has sent Basic credentials, and never ends otherwise.
        let message = caller.has_basic.then_some(Ok(HandshakeResponse { protocol_version: 0, payload }));
        let mut response = answers(stream::iter(message));
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let call = call(&request)?;
        let criteria = request.into_inner();
        let flights = info::list(&self.0, &criteria.expression, &call).await.map_err(status::from_error)?;
        Ok(answers(stream::iter(flights.into_iter().map(Ok))))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let call = call(&request)?;
        let info = info::flight_info(&self.0, request.into_inner(), &call).await;
        info.map(Response::new).map_err(status::from_error)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let call = call(&request)?;
        let info = control::poll(&self.0, request.into_inner(), call).await;
        info.map(Response::new).map_err(status::from_error)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let call = call(&request)?;
        let schema = info::schema(&self.0, request.into_inner(), &call).await;
        schema.map(Response::new).map_err(status::from_error)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let call = call(&request)?;
        let ticket = ticket::decode(&request.get_ref().ticket).map_err(status::from_error)?;
        let compression = encode::compression(request.metadata()).map_err(status::from_error)?;
        let rows = statement::get(&self.0, ticket, call).await.map_err(status::from_error)?;
        let messages = encode::encode(rows, self.0.config.query.batch_bytes_max, compression);
        let nothing: Answers<FlightData> = Box::pin(stream::empty());
        Ok(body::answer(nothing, messages.map_err(status::from_error)?))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let call = call(&request)?;
        let mut messages = request.into_inner();
        let first = put::first_message(&self.0, &mut messages).await.map_err(status::from_error)?;
        let command = command::decode(first.flight_descriptor.as_ref()).map_err(status::from_error)?;
        let state = Arc::clone(&self.0);
        match command {
            Command::Ingest(request, replies, transaction) => {
                let call = call.within(transaction);
                Ok(answers(ingest::put(state, request, replies, call, first, messages)))
            }
            Command::Update(statement) => {
                let call = call.within(statement.transaction);
                one_answer(put::update(&state, statement.sql, None, &call).await)
            }
            Command::PreparedUpdate(handle) => {
                one_answer(prepared::put_update(&state, &handle, first, messages, call).await)
            }
            Command::PreparedQuery(handle) => {
                one_answer(prepared::put_query(&state, &handle, first, messages, &call).await)
            }
            other => Err(status::from_error(other.refuse("DoPut"))),
        }
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(status::from_error(Error::unimplemented("DoExchange is not offered: use DoPut and DoGet")))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let (caller, call) = (caller(&request)?, call(&request)?);
        let results = actions::run(&self.0, request.into_inner(), &caller, &call).await.map_err(status::from_error)?;
        Ok(answers(stream::iter(results.into_iter().map(|body| Ok(arrow_flight::Result { body })))))
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(answers(stream::iter(actions::list().into_iter().map(Ok))))
    }
}
