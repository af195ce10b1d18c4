//! The one place that picks a gRPC code, and the one that logs a failed call.

use tonic::{Code, Status};
use uuid::Uuid;

use crate::error::{Error, ErrorKind};

/// The status for an error: a caller's error tells its message; a bug of ours tells an id, and the log tells the rest.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn from_error(error: Error) -> Status {
    let code = code(error.kind());
    if error.kind() == ErrorKind::Internal {
        let id = Uuid::new_v4();
        tracing::error!(%id, error = %error, source = ?std::error::Error::source(&error), "internal error");
        return Status::new(code, format!("internal error {id}: the server's log has the details"));
    }
    tracing::info!(kind = ?error.kind(), error = %error, "call refused");
    Status::new(code, error.message())
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
        Code::InvalidArgument | Code::Internal => {
            Error::invalid(format!("cannot read the stream: {}", status.message()))
        }
        _ => Error::cancelled(format!("the client's stream broke off: {}", status.message())),
    }
}
