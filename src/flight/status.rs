//! The one place that picks a gRPC code, and the one that logs a failed call.

use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};
use uuid::Uuid;

use super::observe;
use crate::error::{Error, ErrorKind};

/// The codes, by their numbers, as they are written.
pub(super) const WORDS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The metadata of an error that says where in the caller's SQL it is: how many characters come before.
const POSITION: &str = "merganser-error-position";

/// The number of the code of a call that its client has left.
pub(super) const CANCELLED: usize = 1;
/// The number of the code of an answer that ended without one.
pub(super) const UNKNOWN: usize = 2;

/// The word for the code with a number.
pub(super) fn word(number: usize) -> &'static str {
    WORDS.get(number).copied().unwrap_or(WORDS[UNKNOWN])
}

/// The word for the code of an error.
pub(super) fn word_of(kind: ErrorKind) -> &'static str {
    word(code(kind) as usize)
}

/// The number of a status's code.
pub(super) fn number(status: &Status) -> usize {
    status.code() as usize
}

/// The number of the code that headers or trailers have, if they have one.
pub(super) fn of_headers(headers: &HeaderMap) -> Option<usize> {
    let value = headers.get("grpc-status")?;
    Some(value.to_str().ok().and_then(|number| number.parse().ok()).unwrap_or(UNKNOWN))
}

/// The status for an error: a caller's error tells its message; a bug of ours tells the call's id, and the log tells the rest.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn from_error(error: Error) -> Status {
    let code = code(error.kind());
    if error.kind() == ErrorKind::Internal {
        let id = observe::request_id().unwrap_or_else(|| Uuid::now_v7().to_string());
        tracing::error!(%id, error = %error, source = ?std::error::Error::source(&error), "internal error");
        return Status::new(code, format!("internal error {id}: the server's log has the details"));
    }
    tracing::info!(kind = ?error.kind(), error = %error, "call refused");
    let mut status = Status::new(code, error.message());
    if let Some(position) = error.position() {
        status.metadata_mut().insert(POSITION, position.into());
    }
    status
}

/// The status of a call that ended well.
pub(super) fn success() -> Status {
    Status::ok("")
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The error for a status that a client's stream ended with.
pub(super) fn into_error(status: &Status, message_bytes_max: u64) -> Error {
    match status.code() {
        // tonic says so of a message over the limit.
        Code::OutOfRange => Error::exhausted(format!(
            "a message is larger than {message_bytes_max} bytes (server.message_bytes_max): send smaller batches"
        )),
        // Ours, of a message that found no room or did not come in time.
        Code::ResourceExhausted => Error::exhausted(status.message()),
        Code::DeadlineExceeded => Error::new(ErrorKind::DeadlineExceeded, status.message()),
        Code::InvalidArgument | Code::Internal => {
            Error::invalid(format!("cannot read the stream: {}", status.message()))
        }
        _ => Error::cancelled(format!("the client's stream broke off: {}", status.message())),
    }
}
