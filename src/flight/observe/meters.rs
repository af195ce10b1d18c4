//! The metrics of calls and of ingest streams. What is counted often is looked up once.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::super::status;
use crate::engine::Outcome;
use crate::error::Error;
use crate::telemetry::instruments;

/// The methods of the service; the last one stands for any other path.
const METHODS: [&str; 11] = [
    "DoGet",
    "DoPut",
    "DoAction",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "ListFlights",
    "ListActions",
    "Handshake",
    "DoExchange",
    "other",
];

/// A method, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method(usize);

impl Method {
    pub(super) fn of_path(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        Self(METHODS.iter().position(|method| *method == name).unwrap_or(METHODS.len() - 1))
    }

    pub(super) fn name(self) -> &'static str {
        METHODS[self.0]
    }
}

/// The metrics of one method.
struct Meters {
    calls: [OnceLock<Counter>; status::WORDS.len()],
    seconds: Histogram,
    in_flight: Gauge,
    sent: Counter,
}

static METERS: LazyLock<[Meters; METHODS.len()]> = LazyLock::new(|| {
    METHODS.map(|method| Meters {
        calls: Default::default(),
        seconds: histogram!(instruments::CALL_SECONDS, "method" => method),
        in_flight: gauge!(instruments::CALLS_IN_FLIGHT, "method" => method),
        sent: counter!(instruments::SENT_BYTES, "method" => method),
    })
});

static ROWS_SENT: LazyLock<Counter> = LazyLock::new(|| counter!(instruments::SENT_ROWS));
static ROWS_RECEIVED: LazyLock<Counter> = LazyLock::new(|| counter!(instruments::RECEIVED_ROWS));
static BYTES_RECEIVED: LazyLock<Counter> = LazyLock::new(|| counter!(instruments::RECEIVED_BYTES));
static ROWS_STORED: LazyLock<[Counter; 3]> = LazyLock::new(|| {
    ["inserted", "duplicate", "replaced"].map(|result| counter!(instruments::INGEST_ROWS, "result" => result))
});
static STORED: LazyLock<Counter> = LazyLock::new(|| counter!(instruments::INGESTS, "outcome" => "stored"));

pub(super) fn begin(method: Method) {
    METERS[method.0].in_flight.increment(1.0);
}

pub(super) fn sent(method: Method, bytes: usize) {
    METERS[method.0].sent.increment(bytes as u64);
}

pub(super) fn end(method: Method, code: usize, took: Duration) {
    let meters = &METERS[method.0];
    meters.in_flight.decrement(1.0);
    meters.seconds.record(took.as_secs_f64());
    if let Some(calls) = meters.calls.get(code) {
        let new = || counter!(instruments::CALLS, "method" => method.name(), "code" => status::word(code));
        calls.get_or_init(new).increment(1);
    }
}

/// Counts rows of a DoGet stream.
pub(in crate::flight) fn count_rows_sent(rows: usize) {
    ROWS_SENT.increment(rows as u64);
}

/// Counts what an ingest stream brings, and its end; one that is dropped before was left by its client.
#[derive(Debug, Default)]
pub(in crate::flight) struct IngestTally {
    ended: bool,
}

impl IngestTally {
    pub(in crate::flight) fn received(bytes: u64) {
        BYTES_RECEIVED.increment(bytes);
    }

    pub(in crate::flight) fn received_rows(rows: usize) {
        ROWS_RECEIVED.increment(rows as u64);
    }

    pub(in crate::flight) fn stored(outcome: &Outcome) {
        for (counter, rows) in ROWS_STORED.iter().zip([outcome.inserted, outcome.duplicate, outcome.replaced]) {
            counter.increment(rows);
        }
    }

    pub(in crate::flight) fn end<T>(mut self, outcome: &Result<T, Error>) {
        self.ended = true;
        match outcome {
            Ok(_) => STORED.increment(1),
            Err(error) => counter!(instruments::INGESTS, "outcome" => status::word_of(error.kind())).increment(1),
        }
    }
}

impl Drop for IngestTally {
    fn drop(&mut self) {
        if !self.ended {
            counter!(instruments::INGESTS, "outcome" => "abandoned").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_make_up_methods() {
        assert_eq!(Method::of_path("/arrow.flight.protocol.FlightService/DoGet").name(), "DoGet");
        for path in ["", "/", "/arrow.flight.protocol.FlightService/doget", "/a/b"] {
            assert_eq!(Method::of_path(path).name(), "other");
        }
    }
}
