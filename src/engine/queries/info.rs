//! What the query log tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::config::QueryText;
use crate::error::{Error, ErrorKind};

/// Bytes of an error's message.
const ERROR_BYTES_MAX: usize = 200;

/// A statement that runs or has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryInfo {
    /// Its id; later ones are greater.
    pub id: Uuid,
    /// Whose it is.
    pub user: Arc<str>,
    /// The name of the session that it is in.
    pub session: Option<Arc<str>>,
    /// What it is.
    pub kind: QueryKind,
    /// Where it is.
    pub state: QueryState,
    /// The same for all texts that differ in literals, case and white space only; none while DuckDB has not read it, and for what cannot be
    /// read.
    pub fingerprint: Option<u64>,
    /// Its text, as far as `queries.text` allows.
    pub text: Option<Arc<str>>,
    /// The table that a stream goes into.
    pub table: Option<Arc<str>>,
    /// When it was asked for, in microseconds since 1970 (UTC).
    pub started_at: i64,
    /// Time that it waited for its turn.
    pub queued: Duration,
    /// Time that the server worked for it.
    pub running: Duration,
    /// Time since it was asked for, until its end.
    pub total: Duration,
    /// Rows that it has answered, changed or brought.
    pub rows: u64,
    /// Bytes of the rows that went out or came in.
    pub bytes: u64,
    /// How it ended; none while it runs.
    pub outcome: Option<QueryOutcome>,
    /// Which error it ended with.
    pub error_kind: Option<ErrorKind>,
    /// The error's message, without what may be data unless `queries.text` is `full`.
    pub error: Option<Arc<str>>,
}

impl QueryInfo {
    /// The fingerprint as it is written.
    pub fn fingerprint_text(&self) -> Option<String> {
        self.fingerprint.map(|fingerprint| format!("{fingerprint:016x}"))
    }

    /// The word for its error: that of the gRPC code.
    pub fn error_word(&self) -> Option<String> {
        let camel = format!("{:?}", self.error_kind?);
        let mut word = String::new();
        for letter in camel.chars() {
            if letter.is_uppercase() && !word.is_empty() {
                word.push('_');
            }
            word.push(letter.to_ascii_uppercase());
        }
        Some(word)
    }
}

/// What a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// Its rows are read.
    Query,
    /// It is run for its effect.
    Update,
    /// A stream of rows into a table.
    Ingest,
}

impl QueryKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Update => "update",
            Self::Ingest => "ingest",
        }
    }
}

/// Where a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryState {
    /// It waits for its turn.
    Queued,
    /// It is planned, and waits for its client to ask for the rows.
    Planned,
    /// It runs.
    Running,
    /// It waits for its client to read.
    Reading,
    /// It has ended.
    Done,
}

impl QueryState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Reading => "reading",
            Self::Done => "done",
        }
    }
}

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    /// Well.
    Ok,
    /// Its caller gave up, or somebody else cancelled it.
    Cancelled,
    /// It ran out of time.
    Timeout,
    /// With another error.
    Error,
}

impl QueryOutcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

/// A session that something is kept for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its name, which is not its key.
    pub id: Arc<str>,
    /// Who made it.
    pub user: Option<Arc<str>>,
    /// When it was made, in microseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it was used last; now, while it is in use.
    pub last_used_at: i64,
    /// Whether a transaction is open in it.
    pub in_transaction: bool,
    /// Statements that it runs.
    pub statements: usize,
    /// Settings that are not the server's, by name.
    pub settings: BTreeMap<String, String>,
}

/// How a statement ended, in the words of the log.
pub(super) struct End {
    pub(super) outcome: QueryOutcome,
    pub(super) kind: Option<ErrorKind>,
    pub(super) message: Option<Arc<str>>,
}

impl End {
    pub(super) fn of(error: Option<&Error>, text: QueryText) -> Self {
        let Some(error) = error else { return Self { outcome: QueryOutcome::Ok, kind: None, message: None } };
        let outcome = match error.kind() {
            ErrorKind::Cancelled => QueryOutcome::Cancelled,
            ErrorKind::DeadlineExceeded => QueryOutcome::Timeout,
            _ => QueryOutcome::Error,
        };
        // What says who cancelled a statement has nothing of its data.
        let is_ours = outcome != QueryOutcome::Error;
        let shown = if is_ours || text == QueryText::Full { error.message() } else { without_data(error.message()) };
        let shown = &shown[..shown.floor_char_boundary(ERROR_BYTES_MAX)];
        Self { outcome, kind: Some(error.kind()), message: (!shown.is_empty()).then(|| shown.into()) }
    }
}

/// A message up to where a value may begin: DuckDB quotes values, or puts them behind a colon, and so do we.
fn without_data(message: &str) -> &str {
    let may_begin_data = |c: char| matches!(c, '\'' | '"' | '`' | '(' | ':' | ';') || c.is_ascii_digit();
    message.find(may_begin_data).map_or(message, |at| &message[..at]).trim_end()
}

/// Whole milliseconds.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_tell_no_data() {
        for (message, shown) in [
            ("Conversion Error: Could not convert string 'secret' to INT32", "Conversion Error"),
            ("Invalid Input Error: secret", "Invalid Input Error"),
            ("row 17 has \"secret\"", "row"),
            ("one statement is expected", "one statement is expected"),
        ] {
            let end = End::of(Some(&Error::invalid(message)), QueryText::Normalized);
            assert_eq!(end.message.as_deref(), Some(shown));
            let end = End::of(Some(&Error::invalid(message)), QueryText::Full);
            assert_eq!(end.message.as_deref(), Some(message));
        }
        let end = End::of(Some(&Error::cancelled("cancelled by user \"ann\"")), QueryText::None);
        assert_eq!((end.outcome, end.message.as_deref()), (QueryOutcome::Cancelled, Some("cancelled by user \"ann\"")));
    }
}
