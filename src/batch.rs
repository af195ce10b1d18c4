//! Record batches: their size.

use arrow::array::{Array as _, RecordBatch};

/// One in so many of a message's bytes is left for what [`bytes()`] does not count: its header, padding and validity.
pub const ENVELOPE_PART: usize = 32;

/// Bytes of the rows of a batch. `RecordBatch::get_array_memory_size` counts the whole of a shared buffer for each column that
/// has a part of it, as all columns do that came in one message.
pub fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}
