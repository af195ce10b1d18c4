//! Flight: the only folder that speaks the protocol.
//!
//! [`Service`] implements `FlightService` itself (the blanket `FlightSqlService` has no way to GetSchema, PollFlightInfo and
//! ListFlights, nor to a descriptor of plain SQL text). Every RPC is: decode the bytes into one enum of commands, do one
//! call, answer. Errors become a gRPC status in one place, `status`.

mod actions;
mod columns;
mod command;
mod encode;
mod info;
mod ingest;
mod metadata;
mod prepared;
mod put;
mod reflection;
mod results;
mod statement;
mod status;
mod ticket;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ingest::Budget;
use command::Command;

pub use reflection::descriptors;

/// What every RPC may use; cheap to clone.
#[derive(Clone, Debug)]
pub struct Service(Arc<State>);

#[derive(Debug)]
struct State {
    engine: Engine,
    budget: Budget,
    results: results::Results,
    config: Config,
    mode: &'static str,
    ready_at: Instant,
}

impl Service {
    /// A service over `engine`; `mode` is how the database is kept, for `server_info`.
    pub fn new(engine: Engine, config: &Config, mode: &'static str) -> Self {
        Self(Arc::new(State {
            engine,
            budget: Budget::new(&config.ingest),
            results: results::Results::new(config.query.results_max, config.query.results_expire),
            config: config.clone(),
            mode,
            ready_at: Instant::now(),
        }))
    }

    /// The gRPC server of the service, with the configured limits.
    pub fn into_server(self) -> FlightServiceServer<Self> {
        let message_bytes_max = usize::try_from(self.0.config.server.message_bytes_max.as_u64()).unwrap_or(usize::MAX);
        FlightServiceServer::new(self)
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream of answers whose errors become statuses.
fn answers<T: 'static>(stream: impl Stream<Item = Result<T>> + Send + 'static) -> Response<Answers<T>> {
    Response::new(Box::pin(stream.map(|item| item.map_err(status::from_error))))
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
    Instant::now().checked_add(std::time::Duration::from_nanos(amount.checked_mul(nanos)?))
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
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        // Clients that are given a user and a password want an answer and a token; an open server checks neither.
        let mut response =
            answers(stream::once(async { Ok(HandshakeResponse { protocol_version: 0, payload: OPEN_TOKEN.into() }) }));
        let bearer = tonic::metadata::MetadataValue::from_static("Bearer open");
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let criteria = request.into_inner();
        let flights = info::list(&self.0, &criteria.expression).await.map_err(status::from_error)?;
        Ok(answers(stream::iter(flights.into_iter().map(Ok))))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let deadline = deadline(&request);
        let info = info::flight_info(&self.0, request.into_inner(), deadline).await;
        info.map(Response::new).map_err(status::from_error)
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(status::from_error(Error::unimplemented("PollFlightInfo is not offered yet: use GetFlightInfo")))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let deadline = deadline(&request);
        let schema = info::schema(&self.0, request.into_inner(), deadline).await;
        schema.map(Response::new).map_err(status::from_error)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let deadline = deadline(&request);
        let ticket = ticket::decode(&request.get_ref().ticket).map_err(status::from_error)?;
        let rows = statement::get(&self.0, ticket, deadline).await.map_err(status::from_error)?;
        Ok(answers(encode::encode(rows, self.0.config.query.batch_bytes_max)))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let deadline = deadline(&request);
        let mut messages = request.into_inner();
        let first = put::first_message(&self.0, &mut messages).await.map_err(status::from_error)?;
        let command = command::decode(first.flight_descriptor.as_ref()).map_err(status::from_error)?;
        let state = Arc::clone(&self.0);
        match command {
            Command::Ingest(request, replies) => Ok(answers(ingest::put(state, request, replies, first, messages))),
            Command::Update(sql) => put::update(&state, sql, deadline).await.map(answers).map_err(status::from_error),
            Command::PreparedUpdate(handle) => prepared::put_update(&state, &handle, first, messages, deadline)
                .await
                .map(answers)
                .map_err(status::from_error),
            Command::PreparedQuery(handle) => {
                prepared::put_query(&handle, first, messages).await.map(answers).map_err(status::from_error)
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
        let deadline = deadline(&request);
        let results = actions::run(&self.0, request.into_inner(), deadline).await.map_err(status::from_error)?;
        Ok(answers(stream::iter(results.into_iter().map(|body| Ok(arrow_flight::Result { body })))))
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(answers(stream::iter(actions::list().into_iter().map(Ok))))
    }
}

/// What an open server answers to a handshake; it is not checked.
const OPEN_TOKEN: &str = "open";
