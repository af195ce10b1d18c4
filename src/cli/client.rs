//! The Flight client that every client command uses: connect, query, act, put; errors of the wire become the crate's.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementUpdate, DoPutUpdateResult, ProstMessageExt};
use arrow_flight::{Action, FlightData, FlightDescriptor, PutResult, Ticket};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{Stream, StreamExt, TryStreamExt};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tokio_rustls::rustls::Error as TlsError;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

use super::tls::TlsArgs;
use super::{output, reach};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::v1::ServerInfo;

const DEFAULT_PORT: u16 = 8815;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message that is read: results of any server, whatever its batches are.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// HTTP/2's own default of 64 KiB would make the server wait for us after every 64 KiB of a result.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How a connection that is dead is noticed while an answer is waited for.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The metadata of an error that says where in the SQL it is.
const ERROR_POSITION: &str = "merganser-error-position";

/// Which server to talk to: the option that all client commands share.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Talk to the server at this address: grpc://HOST:PORT, or grpc+tls://HOST:PORT
    #[arg(long, env = "MERGANSER_SERVER", value_name = "URI", default_value = "grpc://127.0.0.1:8815")]
    pub(crate) server: String,

    /// Sign in as this user, with the password in MERGANSER_PASSWORD; an API token goes into MERGANSER_TOKEN
    #[arg(long, env = "MERGANSER_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// The user's password. Not an option to type: every process of the machine could read it there.
    #[arg(long, env = "MERGANSER_PASSWORD", hide = true, hide_env_values = true, default_value = "")]
    pub(crate) password: String,

    /// Sign in with the API token in this file, or in MERGANSER_TOKEN, instead of as a user
    #[arg(long, env = "MERGANSER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The API token. Not an option to type, either.
    #[arg(long, env = "MERGANSER_TOKEN", hide = true, hide_env_values = true, default_value = "")]
    token: String,

    #[command(flatten)]
    tls: TlsArgs,
}

impl ServerArgs {
    /// The server at `uri`, which knows nobody.
    pub(crate) fn at(uri: &str) -> Self {
        Self {
            server: uri.to_owned(),
            user: None,
            password: String::new(),
            token_file: None,
            token: String::new(),
            tls: TlsArgs::default(),
        }
    }

    /// The value of the `authorization` header, if there is somebody to sign in. A token is more than a user.
    fn authorization(&self) -> Result<Option<String>> {
        let basic = |user| format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", self.password)));
        let token = match (&self.token_file, &self.user) {
            (Some(path), _) => fs::read_to_string(path).map_err(|error| {
                let reason = output::reason(&error);
                Error::invalid(format!("--token-file {}: {reason}", path.display())).with_source(error)
            })?,
            // A user is said on the command line, perhaps, and is meant then.
            (None, Some(user)) => return Ok(Some(basic(user))),
            (None, None) => self.token.clone(),
        };
        let token = token.trim();
        Ok((!token.is_empty()).then(|| format!("Bearer {token}")))
    }

    /// What to tell those whom the server does not know.
    fn how_to_sign_in(&self) -> &'static str {
        match (&self.token_file, &self.user, self.token.is_empty(), self.password.is_empty()) {
            (None, None, true, _) => {
                "; say --user NAME with the password in MERGANSER_PASSWORD, or have an API token in MERGANSER_TOKEN"
            }
            (None, Some(_), _, true) => "; the password is read from MERGANSER_PASSWORD, which is not set",
            _ => "",
        }
    }
}

/// A session of the server's: the cookie that names it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session(AsciiMetadataValue);

impl Session {
    /// The session that an answer offers; it does to a call that is in none.
    fn offered(headers: &MetadataMap) -> Option<Self> {
        let cookie = headers.get("set-cookie")?.to_str().ok()?;
        let mut cookie: AsciiMetadataValue = cookie.split(';').next()?.parse().ok()?;
        cookie.set_sensitive(true);
        Some(Self(cookie))
    }
}

/// Puts the user's credentials, and the session, into every call.
#[derive(Clone, Debug)]
struct SignIn {
    credentials: Option<AsciiMetadataValue>,
    session: Option<Session>,
}

impl SignIn {
    fn new(args: &ServerArgs) -> Result<Self> {
        let Some(header) = args.authorization()? else { return Ok(Self { credentials: None, session: None }) };
        let mut header: AsciiMetadataValue =
            header.parse().map_err(|_| Error::invalid("the credentials cannot be sent: they are no printable text"))?;
        header.set_sensitive(true);
        Ok(Self { credentials: Some(header), session: None })
    }
}

impl Interceptor for SignIn {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(credentials) = &self.credentials {
            request.metadata_mut().insert("authorization", credentials.clone());
        }
        if let Some(Session(cookie)) = &self.session {
            request.metadata_mut().insert("cookie", cookie.clone());
        }
        Ok(request)
    }
}

/// A connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    inner: FlightServiceClient<InterceptedService<Channel, SignIn>>,
    channel: Channel,
    sign_in: SignIn,
    /// The address as the user gave it, for messages.
    server: String,
    /// What to tell when it does not let us in.
    how_to_sign_in: &'static str,
}

impl Client {
    /// Connects to the server; a connection that breaks is made again for the next call.
    pub(crate) async fn connect(args: &ServerArgs) -> Result<Self> {
        let endpoint = Self::endpoint(args)?;
        Self::over(endpoint.connect().await, args)
    }

    /// Connects to the server for a session. A connection that breaks stays broken: behind a new one the server may be another, and
    /// what the session had, like a transaction, is gone without a word.
    pub(crate) async fn connect_once(args: &ServerArgs) -> Result<Self> {
        let endpoint =
            Self::endpoint(args)?.http2_keep_alive_interval(KEEPALIVE_INTERVAL).keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let is_used = AtomicBool::new(false);
        let connector = tower::service_fn(move |uri: Uri| {
            let again = is_used.swap(true, Ordering::Relaxed);
            async move {
                if again {
                    return Err(io::Error::new(io::ErrorKind::NotConnected, "the connection is closed"));
                }
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(DEFAULT_PORT))).await?;
                stream.set_nodelay(true)?;
                Ok(TokioIo::new(stream))
            }
        });
        Self::over(endpoint.connect_with_connector(connector).await, args)
    }

    fn over(channel: Result<Channel, tonic::transport::Error>, args: &ServerArgs) -> Result<Self> {
        let channel = channel.map_err(|error| unreachable(&args.server, error))?;
        let sign_in = SignIn::new(args)?;
        let inner = service(channel.clone(), sign_in.clone());
        Ok(Self { inner, channel, sign_in, server: args.server.clone(), how_to_sign_in: args.how_to_sign_in() })
    }

    fn endpoint(args: &ServerArgs) -> Result<Endpoint> {
        let (endpoint, has_tls) = endpoint(&args.server)?;
        let endpoint = if has_tls {
            args.tls.apply(endpoint)?
        } else if args.tls.is_given() {
            return Err(Error::invalid(format!(
                "{} is without TLS, and options of it are given: use grpc+tls://",
                args.server
            )));
        } else {
            endpoint
        };
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
    }

    /// Makes all further calls in `session`, as far as the server still has it, else in the one that it offers. Says which that is, and
    /// what the server is.
    pub(crate) async fn enter(&mut self, session: Option<Session>) -> Result<(Option<Session>, ServerInfo)> {
        self.use_session(session);
        let action = Action { r#type: "server_info".to_owned(), body: bytes::Bytes::new() };
        let response = match self.inner.do_action(action).await {
            Ok(response) => response,
            Err(status) => return Err(self.failed(&status).await),
        };
        if let Some(offered) = Session::offered(response.metadata()) {
            self.use_session(Some(offered));
        }
        let answer = response.into_inner().message().await.map_err(|status| self.error(&status))?;
        let answer = answer.ok_or_else(|| Error::internal("the server did not answer server_info"))?;
        let info = ServerInfo::decode(answer.body).map_err(|error| unreadable("answer of server_info", error))?;
        Ok((self.sign_in.session.clone(), info))
    }

    /// Ends the session.
    pub(crate) async fn close_session(&mut self) -> Result<()> {
        let action = Action { r#type: "CloseSession".to_owned(), body: bytes::Bytes::new() };
        let response = self.inner.do_action(action).await.map_err(|status| self.error(&status))?;
        response.into_inner().try_for_each(|_| async { Ok(()) }).await.map_err(|status| self.error(&status))
    }

    /// The same connection without a session.
    pub(crate) fn without_session(&self) -> Self {
        let mut client = self.clone();
        client.use_session(None);
        client
    }

    fn use_session(&mut self, session: Option<Session>) {
        self.sign_in.session = session;
        self.inner = service(self.channel.clone(), self.sign_in.clone());
    }

    /// Runs `sql` and streams its rows; returns when their schema is known.
    pub(crate) async fn query(&mut self, sql: String) -> Result<Rows> {
        self.get(Ticket { ticket: sql.into() }).await
    }

    /// What streams the rows of a table, and how many there are, if the server knows.
    pub(crate) async fn table(&mut self, name: &str) -> Result<(Ticket, Option<u64>)> {
        let descriptor = FlightDescriptor::new_path(vec![name.to_owned()]);
        let info = match self.inner.get_flight_info(descriptor).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Err(self.failed(&status).await),
        };
        let rows = u64::try_from(info.total_records).ok();
        let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket);
        let ticket = ticket.ok_or_else(|| Error::internal("the server gave no ticket for the table"))?;
        Ok((ticket, rows))
    }

    /// Streams the rows of a ticket; returns when their schema is known.
    pub(crate) async fn get(&mut self, ticket: Ticket) -> Result<Rows> {
        let response = match self.inner.do_get(ticket).await {
            Ok(response) => response,
            Err(status) => return Err(self.failed(&status).await),
        };
        // Messages without a header carry metadata or keep the connection alive: no rows, and nothing to decode.
        let data = response
            .into_inner()
            .try_filter(|data| futures::future::ready(!data.data_header.is_empty()))
            .map_err(FlightError::from);
        Rows::open(FlightDataDecoder::new(data), self.server.clone()).await
    }

    /// Runs `sql` for what it changes; answers the number of rows.
    pub(crate) async fn update(&mut self, sql: String) -> Result<i64> {
        let command = CommandStatementUpdate { query: sql, transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let message = FlightData::new().with_descriptor(descriptor);
        let mut answers = Box::pin(self.put(futures::stream::iter([message])));
        let answer =
            answers.try_next().await?.ok_or_else(|| Error::internal("the server did not answer the update"))?;
        let result =
            DoPutUpdateResult::decode(answer.app_metadata).map_err(|error| unreadable("count of rows", error))?;
        Ok(result.record_count)
    }

    /// Runs the action `name` and decodes all its results.
    pub(crate) async fn action<A: Message + Default>(&mut self, name: &str, request: &impl Message) -> Result<Vec<A>> {
        let action = Action { r#type: name.to_owned(), body: request.encode_to_vec().into() };
        let response = match self.inner.do_action(action).await {
            Ok(response) => response,
            Err(status) => return Err(self.failed(&status).await),
        };
        let results: Vec<_> = response.into_inner().try_collect().await.map_err(|status| self.error(&status))?;
        results
            .into_iter()
            .map(|result| A::decode(result.body).map_err(|error| unreadable(&format!("answer of {name}"), error)))
            .collect()
    }

    /// Runs an action that has one result.
    pub(crate) async fn action_once<A: Message + Default>(&mut self, name: &str, request: &impl Message) -> Result<A> {
        let mut answers = self.action(name, request).await?;
        match (answers.pop(), answers.is_empty()) {
            (Some(answer), true) => Ok(answer),
            _ => Err(Error::internal(format!("the server did not answer {name} with one result"))),
        }
    }

    /// Puts a stream of messages; what comes out are the server's answers, which arrive while messages are sent.
    pub(crate) fn put<M: Stream<Item = FlightData> + Send + 'static>(
        &self,
        messages: M,
    ) -> impl Stream<Item = Result<PutResult>> + Send + use<M> {
        let (mut client, this) = (self.inner.clone(), self.clone());
        let call = async move {
            match client.do_put(messages).await {
                Ok(answers) => Ok(answers.into_inner().map_err(move |status| this.error(&status))),
                Err(status) => Err(this.failed(&status).await),
            }
        };
        futures::stream::once(call).try_flatten()
    }

    fn error(&self, status: &Status) -> Error {
        let error = error_of(&self.server, status);
        match error.kind() {
            ErrorKind::Unauthenticated => error.retold(|message| format!("{message}{}", self.how_to_sign_in)),
            _ => error,
        }
    }

    /// The error of a call that the server has not begun to answer; where nothing answers as it should, what does.
    async fn failed(&self, status: &Status) -> Error {
        let error = self.error(status);
        let uri = match endpoint(&self.server) {
            Ok((endpoint, false)) if status.source().is_some() => endpoint.uri().clone(),
            _ => return error,
        };
        let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
        match reach::look(uri.host().unwrap_or_default(), port).await.advice(&self.server) {
            Some(advice) => Error::new(error.kind(), advice).with_source(status.clone()),
            None => error,
        }
    }
}

fn service(channel: Channel, sign_in: SignIn) -> FlightServiceClient<InterceptedService<Channel, SignIn>> {
    FlightServiceClient::with_interceptor(channel, sign_in)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// The rows of a query, as they arrive.
pub(crate) struct Rows {
    batches: Pin<Box<dyn Stream<Item = Result<DecodedPayload>> + Send>>,
    schema: SchemaRef,
}

impl Rows {
    async fn open(decoder: FlightDataDecoder, server: String) -> Result<Self> {
        let mut batches = decoder
            .map_ok(|data| data.payload)
            .map_err(move |error| match error {
                FlightError::Tonic(status) => error_of(&server, &status),
                FlightError::Arrow(_)
                | FlightError::NotYetImplemented(_)
                | FlightError::ProtocolError(_)
                | FlightError::DecodeError(_)
                | FlightError::ExternalError(_) => unreadable("result", error),
            })
            .boxed();
        while let Some(payload) = batches.try_next().await? {
            if let DecodedPayload::Schema(schema) = payload {
                return Ok(Self { batches, schema });
            }
        }
        Err(Error::internal("the server ended the result before its schema"))
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(payload) = self.batches.try_next().await? {
            if let DecodedPayload::RecordBatch(batch) = payload {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// The endpoint that `server` names, `grpc://`, `grpc+tcp://`, `http://` or nothing before HOST, and maybe a port; and whether it has
/// TLS: `grpc+tls://`, `https://`.
fn endpoint(server: &str) -> Result<(Endpoint, bool)> {
    let (scheme, address) = server.split_once("://").unwrap_or(("grpc", server));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "grpc" | "grpc+tcp" | "http" => "http",
        "grpc+tls" | "https" => "https",
        _ => {
            return Err(Error::invalid(format!(
                "{server}: the scheme is none of grpc, grpc+tls, grpc+tcp, http and https"
            )));
        }
    };
    let bad = |error| Error::invalid(format!("{server}: not an address like grpc://HOST:PORT")).with_source(error);
    let uri: Uri = format!("http://{}", address.trim_end_matches('/')).parse().map_err(bad)?;
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
    let endpoint = Endpoint::from_shared(format!("{scheme}://{host}:{port}")).map_err(|error| {
        Error::invalid(format!("{server}: not an address like grpc://HOST:PORT")).with_source(error)
    })?;
    Ok((endpoint, scheme == "https"))
}

fn unreachable(server: &str, error: tonic::transport::Error) -> Error {
    let message = if let Some(cause) = tls_cause(&error) {
        format!("cannot trust {server}: {cause}{}", advice(cause))
    } else if let Some(cause) = io_cause(&error).filter(|cause| server.starts_with("grpc+tls") && ends_early(cause)) {
        // Such a server may have gone before it has said why.
        format!("cannot speak TLS with {server} ({cause}): is it a server without TLS, for grpc://?")
    } else {
        let cause = match io_cause(&error) {
            Some(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => String::new(),
            Some(cause) => format!(" ({cause})"),
            None => String::new(),
        };
        format!("cannot reach {server}{cause}: is the server running? start one with `merganser serve`")
    };
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

/// Whether the other end has gone in the middle of a greeting.
fn ends_early(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
}

/// What to do about a server that is not trusted.
fn advice(cause: &TlsError) -> &'static str {
    match cause {
        TlsError::InvalidCertificate(_) => {
            "; name the file of its CA with --tls-ca, or its certificate's fingerprint with --tls-fingerprint"
        }
        TlsError::InvalidMessage(_) => "; is it a server without TLS, for grpc://?",
        _ => "",
    }
}

/// What TLS says, if it is what made an error.
fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a TlsError> {
    io_cause(error)?.get_ref()?.downcast_ref()
}

fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

fn unreadable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal(format!("cannot read the server's {what}: {error}")).with_source(error)
}

/// A status as an error. The server's own message is for people, and is kept as it is; a status with a source was made on
/// this side, because the connection broke.
fn error_of(server: &str, status: &Status) -> Error {
    let kind = kind_of(status.code());
    if status.source().is_some() {
        // What TLS says comes as text from HTTP/2: a server tells only now that it wants another certificate.
        let cause = io_cause(status).filter(|cause| cause.kind() == io::ErrorKind::InvalidData);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        return Error::new(ErrorKind::Unavailable, format!("lost the connection to {server}{cause}"))
            .with_source(status.clone());
    }
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    let position = status.metadata().get(ERROR_POSITION).and_then(|value| value.to_str().ok()?.parse().ok());
    Error::new(kind, message).at(position)
}

fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition | Code::Aborted => ErrorKind::FailedPrecondition,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use crate::cli::fake::{self, Script};
    use crate::proto::v1::{DropTableRequest, DropTableResult, ListTablesRequest, TableInfo};

    #[test]
    fn addresses() {
        for (server, uri) in [
            ("grpc://127.0.0.1:9000", "http://127.0.0.1:9000/"),
            ("grpc+tcp://localhost", "http://localhost:8815/"),
            ("http://[::1]:1/", "http://[::1]:1/"),
            ("GRPC://db.example", "http://db.example:8815/"),
            ("localhost:1234", "http://localhost:1234/"),
            ("grpc+tls://a:1", "https://a:1/"),
            ("https://[::1]", "https://[::1]:8815/"),
        ] {
            let (endpoint, has_tls) = endpoint(server).unwrap();
            assert_eq!(endpoint.uri().to_string(), uri, "{server}");
            assert_eq!(has_tls, uri.starts_with("https"), "{server}");
        }
        for (server, message) in [
            ("ftp://a:1", "ftp://a:1: the scheme is none of"),
            ("grpc://", "not an address"),
            ("grpc://a b", "not an address"),
        ] {
            let error = endpoint(server).unwrap_err();
            assert!(error.message().contains(message), "{server}: {error}");
        }
    }

    #[test]
    fn a_user_is_more_than_a_token_and_a_file_more_than_both() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = ServerArgs::at("grpc://x");
        assert_eq!(args.authorization().unwrap(), None);
        assert!(args.how_to_sign_in().contains("--user NAME"));
        args.token = "one".to_owned();
        assert_eq!(args.authorization().unwrap().unwrap(), "Bearer one");
        assert_eq!(args.how_to_sign_in(), "");
        args.user = Some("ada".to_owned());
        assert!(args.how_to_sign_in().contains("which is not set"));
        args.password = "pw".to_owned();
        assert_eq!(args.authorization().unwrap().unwrap(), "Basic YWRhOnB3");
        args.token_file = Some(folder.path().join("token"));
        assert!(args.authorization().unwrap_err().message().ends_with("token: no such file or directory"));
        fs::write(folder.path().join("token"), "two\n").unwrap();
        assert_eq!(args.authorization().unwrap().unwrap(), "Bearer two");
    }

    #[tokio::test]
    async fn options_of_tls_are_not_ignored() {
        let mut args = ServerArgs::at("grpc://127.0.0.1:1");
        args.tls.tls_skip_verify = true;
        let error = Client::connect(&args).await.unwrap_err();
        assert!(error.message().contains("is without TLS"), "{error}");
    }

    #[test]
    fn a_status_keeps_its_message_and_kind() {
        let error = error_of("grpc://x", &Status::not_found("table `x` is not there"));
        assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "table `x` is not there"));
        let error = error_of("grpc://x", &Status::new(Code::Unavailable, ""));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!error.message().is_empty());
    }

    #[tokio::test]
    async fn queries_stream_and_fail() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let mut script = Script { batches: vec![batch.clone(), batch.clone()], ..Script::default() };
        let (server, _) = fake::start(script.clone()).await;
        let mut client = Client::connect(&server).await.unwrap();
        let mut rows = client.query("SELECT".to_owned()).await.unwrap();
        assert_eq!(rows.schema(), &batch.schema());
        assert_eq!(rows.next().await.unwrap().unwrap(), batch);
        assert_eq!(rows.next().await.unwrap().unwrap(), batch);
        assert_eq!(rows.next().await.unwrap(), None);

        let Err(error) = client.query("SELEC".to_owned()).await else { panic!("ran") };
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, "syntax error at `SELEC`"));

        script.query_error = Some("half-way".to_owned());
        let (server, _) = fake::start(script).await;
        let mut rows = Client::connect(&server).await.unwrap().query("SELECT".to_owned()).await.unwrap();
        let error = loop {
            match rows.next().await {
                Ok(batch) => assert!(batch.is_some(), "it ended well"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.message(), "half-way");
    }

    #[tokio::test]
    async fn actions_answer_in_protobuf() {
        let (server, _) = fake::start(Script::default()).await;
        let mut client = Client::connect(&server).await.unwrap();
        let tables: Vec<TableInfo> = client.action("list_tables", &ListTablesRequest::default()).await.unwrap();
        assert_eq!(tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

        let request = |if_exists| DropTableRequest { table: "missing".to_owned(), if_exists };
        let error = client.action_once::<DropTableResult>("drop_table", &request(false)).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "table `missing` is not there"));
        let result: DropTableResult = client.action_once("drop_table", &request(true)).await.unwrap();
        assert!(!result.dropped);
    }

    #[tokio::test]
    async fn an_unreachable_server_is_one_clear_line() {
        // Bound and dropped: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = format!("grpc://127.0.0.1:{port}");
        let error = Client::connect(&ServerArgs::at(&server)).await.unwrap_err();
        let wanted = format!("cannot reach {server}: is the server running? start one with `merganser serve`");
        assert_eq!(error.message(), wanted);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
