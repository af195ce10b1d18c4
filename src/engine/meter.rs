//! How much one result may be: rows and bytes, counted as its batches go by.

use arrow::array::RecordBatch;
use bytesize::ByteSize;

use crate::batch;
use crate::config::Query as QueryConfig;
use crate::error::{Error, Result};

/// Counts one result.
#[derive(Debug)]
pub(in crate::engine) struct Meter {
    rows: u64,
    bytes: u64,
    rows_max: u64,
    size_max: ByteSize,
}

impl Meter {
    pub(in crate::engine) fn new(config: &QueryConfig) -> Self {
        Self { rows: 0, bytes: 0, rows_max: config.result_rows_max, size_max: config.result_size_max }
    }

    /// Counts a batch.
    ///
    /// # Errors
    /// `ResourceExhausted` when the result is more than the settings allow.
    pub(in crate::engine) fn count(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        if self.rows_max > 0 && self.rows > self.rows_max {
            return Err(Error::exhausted(format!(
                "the result has more than {} rows (query.result_rows_max)",
                self.rows_max
            )));
        }
        if self.size_max.as_u64() == 0 {
            return Ok(());
        }
        self.bytes += batch::bytes(batch) as u64;
        if self.bytes > self.size_max.as_u64() {
            return Err(Error::exhausted(format!(
                "the result has more than {} (query.result_size_max)",
                self.size_max
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn rows_and_bytes_are_bounded() {
        let column = Arc::new(Int64Array::from(vec![1; 10])) as _;
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let meter = |result_rows_max, size| {
            let result_size_max = ByteSize(size);
            Meter::new(&QueryConfig { result_rows_max, result_size_max, ..QueryConfig::default() })
        };
        let mut free = meter(0, 0);
        let (mut rows, mut size) = (meter(20, 0), meter(0, 160));
        for _ in 0..2 {
            free.count(&batch).unwrap();
            rows.count(&batch).unwrap();
            size.count(&batch).unwrap();
        }
        free.count(&batch).unwrap();
        assert!(rows.count(&batch).unwrap_err().message().contains("query.result_rows_max"));
        assert!(size.count(&batch).unwrap_err().message().contains("query.result_size_max"));
    }
}
