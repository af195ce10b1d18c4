//! A Flight server for tests, in the test's own process: it does what its script says and writes down what it saw.

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use prost_types::Any;
use tonic::{Request, Response, Status, Streaming};

use super::client::ServerArgs;
use crate::proto::v1::{
    DropTableRequest, DropTableResult, Ingest, IngestCommit, IngestProgress, IngestResult, ServerInfo, TableInfo,
};

/// What the server does.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// Rows of every query.
    pub(super) batches: Vec<RecordBatch>,
    /// A query fails with it after its rows.
    pub(super) query_error: Option<String>,
    /// A put fails with this message after so many batches.
    pub(super) put_error: Option<(usize, String)>,
    /// An action that is in no session of this name is offered it.
    pub(super) session: Option<String>,
}

/// What the server saw of a put.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Each message, by what it carries.
    pub(super) messages: Vec<&'static str>,
    pub(super) command: Option<Ingest>,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) commit: Option<IngestCommit>,
}

impl Seen {
    pub(super) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    script: Script,
    seen: Arc<Mutex<Seen>>,
}

/// Starts a server that does what `script` says; it ends with the test's runtime.
pub(super) async fn start(script: Script) -> (ServerArgs, Arc<Mutex<Seen>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = ServerArgs::at(&format!("grpc://{}", listener.local_addr().unwrap()));
    let fake = Fake { script, ..Fake::default() };
    let seen = Arc::clone(&fake.seen);
    let service = FlightServiceServer::new(fake).max_decoding_message_size(usize::MAX);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (server, seen)
}

fn pack(name: &str, message: &impl Message) -> PutResult {
    let any = Any { type_url: format!("type.googleapis.com/merganser.v1.{name}"), value: message.encode_to_vec() };
    PutResult { app_metadata: any.encode_to_vec().into() }
}

fn unpack<M: Message + Default>(name: &str, bytes: &[u8]) -> M {
    let any = Any::decode(bytes).unwrap();
    assert_eq!(any.type_url, format!("type.googleapis.com/merganser.v1.{name}"));
    M::decode(&*any.value).unwrap()
}

impl Fake {
    fn see(&self, look: impl FnOnce(&mut Seen)) {
        look(&mut self.seen.lock().unwrap());
    }

    /// Reads one put, as the protocol has it: descriptor with schema, batches, the commit.
    async fn read_put(
        self,
        mut messages: Streaming<FlightData>,
        answers: tokio::sync::mpsc::Sender<Result<PutResult, Status>>,
    ) -> Result<(), Status> {
        let first = messages.message().await?.ok_or_else(|| Status::invalid_argument("nothing came"))?;
        let descriptor = first.flight_descriptor.clone().ok_or_else(|| Status::invalid_argument("no descriptor"))?;
        self.see(|seen| seen.command = Some(unpack("Ingest", &descriptor.cmd)));
        let commit = Arc::new(Mutex::new(None));
        let found = Arc::clone(&commit);
        let flight_data = futures::stream::once(async { Ok(first) }).chain(messages).try_filter(move |message| {
            let is_data = !message.data_header.is_empty();
            if !is_data {
                assert!(message.data_body.is_empty());
                *found.lock().unwrap() = Some(unpack::<IngestCommit>("IngestCommit", &message.app_metadata));
            }
            futures::future::ready(is_data)
        });
        let mut decoder = FlightDataDecoder::new(flight_data.map_err(FlightError::from));
        let mut batches = 0;
        loop {
            if let Some((after, message)) = &self.script.put_error
                && batches == *after
            {
                return Err(Status::invalid_argument(message.clone()));
            }
            let Some(data) = decoder.try_next().await.map_err(Status::from)? else { break };
            match data.payload {
                DecodedPayload::Schema(_) => {
                    self.see(|seen| seen.messages.push("schema"));
                    answers.send(Ok(pack("IngestProgress", &IngestProgress::default()))).await.unwrap();
                }
                DecodedPayload::RecordBatch(batch) => {
                    batches += 1;
                    self.see(|seen| {
                        seen.messages.push("batch");
                        seen.batches.push(batch);
                    });
                }
                DecodedPayload::None => panic!("a message without a payload"),
            }
        }
        let commit = commit.lock().unwrap().take();
        let commit: IngestCommit = commit.ok_or_else(|| Status::failed_precondition("no commit came"))?;
        self.see(|seen| {
            seen.messages.push("commit");
            seen.commit = Some(commit);
        });
        let rows = self.seen.lock().unwrap().rows() as u64;
        let result = IngestResult { rows_received: rows, rows_inserted: rows, ..IngestResult::default() };
        answers.send(Ok(pack("IngestResult", &result))).await.unwrap();
        Ok(())
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Fake {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let sql = String::from_utf8(request.into_inner().ticket.to_vec()).unwrap();
        if !sql.starts_with("SELECT") {
            return Err(Status::invalid_argument(format!("syntax error at `{sql}`")));
        }
        let schema = self.script.batches[0].schema();
        let batches = futures::stream::iter(self.script.batches.clone()).map(Ok);
        let rows = FlightDataEncoderBuilder::new().with_schema(schema).build(batches).map_err(Status::from);
        // A message without data, as a server sends to keep the connection alive.
        let idle = futures::stream::iter([Ok(FlightData::new())]);
        let error = self.script.query_error.clone().map(|message| Err(Status::internal(message)));
        Ok(Response::new(rows.chain(idle).chain(futures::stream::iter(error)).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let (sender, answers) = tokio::sync::mpsc::channel(16);
        let fake = self.clone();
        tokio::spawn(async move {
            if let Err(status) = fake.read_put(request.into_inner(), sender.clone()).await {
                drop(sender.send(Err(status)).await);
            }
        });
        Ok(Response::new(tokio_stream::wrappers::ReceiverStream::new(answers).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let cookie = self.script.session.as_ref().map(|name| format!("merganser_session={name}"));
        let known = request.metadata().get("cookie").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let offered = cookie.filter(|cookie| known.as_ref() != Some(cookie));
        let action = request.into_inner();
        let bodies = match action.r#type.as_str() {
            "list_tables" => ["a", "b"]
                .map(|name| TableInfo { name: name.to_owned(), ..TableInfo::default() }.encode_to_vec())
                .to_vec(),
            "drop_table" => {
                let request = DropTableRequest::decode(action.body).unwrap();
                if request.table == "missing" && !request.if_exists {
                    return Err(Status::not_found("table `missing` is not there"));
                }
                vec![DropTableResult { dropped: request.table != "missing", table: request.table }.encode_to_vec()]
            }
            "server_info" => vec![ServerInfo { version: "1.2.3".to_owned(), ..ServerInfo::default() }.encode_to_vec()],
            other => return Err(Status::unimplemented(other.to_owned())),
        };
        let results = bodies.into_iter().map(|body| Ok(arrow_flight::Result { body: body.into() }));
        let mut response: Response<Self::DoActionStream> = Response::new(futures::stream::iter(results).boxed());
        if let Some(cookie) = offered {
            response.metadata_mut().insert("set-cookie", format!("{cookie}; Path=/").parse().unwrap());
        }
        Ok(response)
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        Err(Status::unimplemented("handshake"))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(Status::unimplemented("list_flights"))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(Status::unimplemented("get_flight_info"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(Status::unimplemented("poll_flight_info"))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(Status::unimplemented("get_schema"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(Status::unimplemented("list_actions"))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented("do_exchange"))
    }
}
