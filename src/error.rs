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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Bad SQL, a bad name, row, descriptor or option.
    InvalidArgument,
    /// A table, ticket, statement or session that is not there.
    NotFound,
    /// A table that exists in create mode, or a duplicate key under `error`.
    AlreadyExists,
    /// The wrong kind of table, a read-only database, the state of a transaction.
    FailedPrecondition,
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// Known, but not allowed.
    PermissionDenied,
    /// The caller gave up.
    Cancelled,
    /// Past the call's deadline or the query timeout.
    DeadlineExceeded,
    /// A limit of memory, disk, queue or sessions; the message names the limit and its setting.
    ResourceExhausted,
    /// A part of the protocol that this server does not offer.
    Unimplemented,
    /// The database is being reopened or the server drains: try again.
    Unavailable,
    /// A bug of ours: the caller gets an error id, the log gets the rest.
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
