//! The memory of one result that is being read, `query.result_buffer`, and how its parts share it.
//!
//! Of a result whose client does not read, there are at one time: a batch that each of DuckDB's threads fills, batches that
//! DuckDB has made ahead, one that waits for a place in the queue to the client, the queue, and one that is being sent. So a
//! batch is a sixteenth of the buffer, and both queues are an eighth of it. And a batch fits into one message: to cut it
//! costs more than what larger batches win.

use crate::batch;
use crate::config::Query as QueryConfig;

/// What the parts may hold.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct ResultBuffer {
    bytes: usize,
    batch: BatchSize,
}

/// Where a batch ends: at so many rows, or before the chunk of DuckDB's (up to 2,048 rows) that would bring it over so many bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct BatchSize {
    pub(in crate::engine) rows: usize,
    pub(in crate::engine) bytes: usize,
}

impl ResultBuffer {
    pub(in crate::engine) fn new(config: &QueryConfig) -> Self {
        let [bytes, message] = [config.result_buffer, config.batch_bytes_max]
            .map(|bytes| usize::try_from(bytes.as_u64()).unwrap_or(usize::MAX));
        let batch_bytes = (bytes / 16).min(message - message / batch::ENVELOPE_PART);
        Self { bytes, batch: BatchSize { rows: config.batch_rows, bytes: batch_bytes } }
    }

    /// Bytes that wait for the client.
    pub(in crate::engine) fn queue_bytes(self) -> usize {
        self.bytes / 8
    }

    /// Bytes that DuckDB makes ahead.
    pub(in crate::engine) fn ahead_bytes(self) -> usize {
        self.bytes / 8
    }

    /// One batch.
    pub(in crate::engine) fn batch(self) -> BatchSize {
        self.batch
    }
}
