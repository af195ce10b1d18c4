//! The memory of one result that is being read, `query.result_buffer`, and how its parts share it.
//!
//! Of a result whose client does not read, there are at one time: a batch that each of DuckDB's threads fills, batches that
//! DuckDB has made ahead, one that waits for a place in the queue to the client, the queue, and one that is being sent. So a
//! batch is a sixteenth of the buffer, and both queues are an eighth of it. DuckDB makes batches by rows, which are counted from the
//! columns' types; text that is longer than it usually is makes larger ones.

use bytesize::ByteSize;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};

use super::types;

/// What the parts may hold.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct ResultBuffer {
    bytes: usize,
    batch_rows_max: usize,
}

/// Bytes of a value of text; of one that holds others, or JSON.
const TEXT_BYTES: usize = 32;
const NESTED_BYTES: usize = 256;

/// DuckDB's own unit: nothing is gained by smaller batches.
const BATCH_ROWS_MIN: usize = 2048;

impl ResultBuffer {
    pub(in crate::engine) fn new(bytes: ByteSize, batch_rows_max: usize) -> Self {
        Self { bytes: usize::try_from(bytes.as_u64()).unwrap_or(usize::MAX), batch_rows_max }
    }

    /// Bytes that wait for the client.
    pub(in crate::engine) fn queue_bytes(self) -> usize {
        self.bytes / 8
    }

    /// Bytes that DuckDB makes ahead.
    pub(in crate::engine) fn ahead_bytes(self) -> usize {
        self.bytes / 8
    }

    /// Rows of a batch with columns of these types.
    pub(in crate::engine) fn batch_rows(self, columns: &[LogicalType]) -> usize {
        let row_bytes: usize = columns.iter().map(value_bytes).sum();
        let rows = self.bytes / 16 / row_bytes.max(1);
        rows.max(BATCH_ROWS_MIN).min(self.batch_rows_max)
    }
}

/// Bytes of a value in Arrow, about.
fn value_bytes(column: &LogicalType) -> usize {
    use LogicalTypeID as Id;
    match column.id() {
        Ok(Id::Boolean | Id::TinyInt | Id::UTinyInt) => 1,
        Ok(Id::SmallInt | Id::USmallInt) => 2,
        Ok(Id::Integer | Id::UInteger | Id::Float | Id::Date | Id::Enum) => 4,
        Ok(Id::HugeInt | Id::UHugeInt | Id::Decimal | Id::Uuid | Id::Interval) => 16,
        Ok(Id::Varchar) if !types::is_json(column) => TEXT_BYTES,
        Ok(Id::BigInt | Id::UBigInt | Id::Double | Id::Timestamp | Id::TimestampTz | Id::Time) => 8,
        _ => NESTED_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::{Call, Database, Engine, statement};

    #[tokio::test(flavor = "multi_thread")]
    async fn wide_rows_make_smaller_batches() {
        let database = Database { path: None, temp_directory: None, read_only: false };
        let engine = Engine::open(&Config::default(), database).unwrap();
        let nested = vec!["[1]"; 100].join(", ");
        let buffer = ResultBuffer::new(ByteSize::mib(32), 65_536);
        let call = Call::default();
        for (columns, rows) in [
            ("1", 65_536),
            ("1::BIGINT, '', '', ''", (2 << 20) / 104),
            ("1::BIGINT, '{}'::JSON", (2 << 20) / 264),
            (nested.as_str(), BATCH_ROWS_MIN),
        ] {
            let sql = format!("SELECT {columns}");
            let counted = engine.run(&call, move |work| {
                let statement = statement::single(work.connection(), &sql)?;
                let types: Vec<_> =
                    types::bound(work.connection(), &statement)?.into_iter().map(|(_, logical)| logical).collect();
                Ok(buffer.batch_rows(&types))
            });
            assert_eq!(counted.await.unwrap(), rows, "{columns}");
        }
    }
}
