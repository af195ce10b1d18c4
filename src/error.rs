//! The one error type: a closed list of kinds that a caller can act on, and a message for a person.
//!
//! The kind decides the gRPC code (`flight::status`) and the exit code of the command line; the message says what
//! and which value, in lowercase, without a trailing period. Details that must not leave the server (paths, the
//! engine's internals) go into `source`, which is logged and never sent.

use std::fmt;

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, in terms that a caller can act on. A closed list: think before adding one.
///
/// Of each, the first paragraph says when it comes and the second what to do; `docs/errors.md` is made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Bad SQL, a bad name, row, descriptor or option.
    ///
    /// Correct the request: the message says which value is wrong. Sent again as it is, it fails again.
    InvalidArgument,
    /// A table, ticket, prepared statement, session, transaction or result that is not there.
    ///
    /// Look at the name; the message offers one that is near. What the server keeps for a client only for a time (a result, a session) has
    /// to be made again.
    NotFound,
    /// A table that exists in mode `create`, or a known key under `on_duplicate = "error"`.
    ///
    /// Take another mode, or another name; the message names the row and its key. Nothing is stored.
    AlreadyExists,
    /// The wrong kind of table, a refused statement, a read-only database, the state of a transaction, or no session where one is needed.
    ///
    /// The message says what to do instead. After an error in a transaction, roll it back.
    FailedPrecondition,
    /// No credentials, or wrong ones, on a server that knows users.
    ///
    /// Sign in: with a user and a password, an API token or a JWT. A session's token that has expired is got again in the same way.
    Unauthenticated,
    /// Known, but not allowed: by the role or the grants, or to anybody, like files, the network, other databases and extensions in SQL.
    ///
    /// Ask an admin for a grant. What nobody may do in SQL has another way: `merganser ingest` and `merganser query --output` for files.
    PermissionDenied,
    /// The caller gave up, somebody has cancelled the statement, or a stream ended without its `IngestCommit`.
    ///
    /// Nothing, if it was meant; nothing of an ingest is stored.
    Cancelled,
    /// Past the deadline of the call, `engine.query_timeout` or `ingest.idle_timeout`.
    ///
    /// Ask for less, or for more time. Nothing of an ingest is stored.
    DeadlineExceeded,
    /// A limit of memory, disk, queue, rate or number; the message names its setting.
    ///
    /// Ask for less, or try again later if others have taken it; or have the setting raised.
    ResourceExhausted,
    /// A part of the protocol that this server does not offer.
    ///
    /// The message names what there is.
    Unimplemented,
    /// The server cannot be reached or is stopping, the database is being reopened, or an ingest of the same id runs.
    ///
    /// Try again, after a wait that grows. An ingest with an `ingest_id` can be sent again as it is.
    Unavailable,
    /// A bug of ours: the message has an id and nothing else, and the log has the rest under this id.
    ///
    /// Tell the operator the id.
    Internal,
}

/// An error of Merganser: its kind, the message for the caller, and the cause for the log.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    position: Option<usize>,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind` that tells the caller `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None, source: None }
    }

    /// [`ErrorKind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::AlreadyExists`].
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::AlreadyExists, message)
    }

    /// [`ErrorKind::FailedPrecondition`].
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, message)
    }

    /// [`ErrorKind::ResourceExhausted`].
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceExhausted, message)
    }

    /// [`ErrorKind::Cancelled`].
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Cancelled, message)
    }

    /// [`ErrorKind::Unimplemented`].
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Says where in the caller's SQL it is: how many characters come before.
    #[must_use]
    pub fn at(mut self, position: Option<usize>) -> Self {
        self.position = position;
        self
    }

    /// Keeps `source` as the cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with `part` of its message replaced: what a caller is not to see.
    #[must_use]
    pub fn replacing(mut self, part: &str, with: &str) -> Self {
        self.message = self.message.replace(part, with);
        self
    }

    /// The same error with another message, made of this one: what a caller is not to see.
    #[must_use]
    pub fn retold(mut self, tell: impl FnOnce(&str) -> String) -> Self {
        self.message = tell(&self.message);
        self
    }

    /// What went wrong, in terms that a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where in the caller's SQL it is, if that is known: how many characters come before.
    pub fn position(&self) -> Option<usize> {
        self.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
