//! A result that is being read, and ends well however it is left.
//!
//! DuckDB's workers run a statement from the moment that it is started, before anybody asks for its rows, and look for an
//! interrupt only. Destroying its result waits until they have ended, so a result that is left early is interrupted first.

use duckdb_neo::arrow::{ArrowArray, ArrowSchema};
use duckdb_neo::connection::Connection;
use duckdb_neo::logical_type::LogicalType;
use duckdb_neo::statement::Statement;

use super::buffer::BatchSize;
use super::ffi::ArrowResult;
use super::parameters::Values;
use crate::error::Result;

/// A result on its connection.
pub(in crate::engine) struct Live<'a> {
    result: ArrowResult<'a>,
    connection: &'a Connection,
    /// Whether it has ended: with its last array, or with an error.
    ended: bool,
}

impl<'a> Live<'a> {
    /// Starts a statement.
    pub(in crate::engine) fn start(
        connection: &'a Connection,
        statement: &'a Statement<'static>,
        values: Values<'_>,
        batch: BatchSize,
    ) -> Result<Self> {
        let result = ArrowResult::start(connection, statement, values, batch)?;
        Ok(Self { result, connection, ended: false })
    }

    /// The columns.
    pub(in crate::engine) fn schema(&self) -> Result<ArrowSchema> {
        Ok(self.result.schema()?)
    }

    /// The columns' types.
    pub(in crate::engine) fn types(&self) -> Result<Vec<LogicalType>> {
        Ok(self.result.types()?)
    }

    /// The next array; none after the last one.
    pub(in crate::engine) fn next_array(&mut self) -> Result<Option<ArrowArray>> {
        let array = self.result.next_array();
        self.ended = !matches!(array, Ok(Some(_)));
        Ok(array?)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        // The next statement of the connection begins without it.
        if !self.ended
            && let Err(error) = self.connection.interrupt_query()
        {
            tracing::debug!(%error, "cannot interrupt");
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::compute::concat_batches;
    use arrow::datatypes::SchemaRef;
    use duckdb_neo::Parameters;
    use duckdb_neo::environment::{Environment, StorageLocation};

    use super::*;
    use crate::engine::{ffi, statement};

    fn connect(location: StorageLocation) -> Connection {
        let connection = Environment::new().unwrap().open(location).unwrap().connect().unwrap();
        connection.execute("SET threads = 1", Parameters::None).unwrap();
        connection
    }

    fn batches(connection: &Connection, sql: &str, batch: BatchSize) -> (SchemaRef, Vec<RecordBatch>) {
        let statement = statement::single(connection, sql).unwrap();
        let mut result = Live::start(connection, &statement, Values::default(), batch).unwrap();
        let schema = ffi::schema_from(result.schema().unwrap()).unwrap();
        let mut batches = Vec::new();
        while let Some(array) = result.next_array().unwrap() {
            batches.push(ffi::batch_from(array, &schema).unwrap());
        }
        (schema, batches)
    }

    /// The rows as DuckDB's own format has them.
    fn plain(connection: &Connection, sql: &str) -> RecordBatch {
        let statement = statement::single(connection, sql).unwrap();
        let mut result = statement.arrow_query(connection, Parameters::None, Some(1 << 20)).unwrap();
        let schema = ffi::schema_from(result.schema().unwrap()).unwrap();
        let mut batches = Vec::new();
        while let Some(array) = result.next_array().unwrap() {
            batches.push(ffi::batch_from(array, &schema).unwrap());
        }
        concat_batches(&schema, &batches).unwrap()
    }

    #[test]
    fn arrays_are_those_of_duckdb() {
        // Only what is in a file is compressed.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.duckdb").to_str().unwrap().to_owned();
        let connection = connect(StorageLocation::OnDisk(file));
        let some = "CASE WHEN i % 7 <> 3 THEN";
        let types = [
            "TINYINT",
            "UTINYINT",
            "SMALLINT",
            "USMALLINT",
            "INTEGER",
            "UINTEGER",
            "BIGINT",
            "UBIGINT",
            "HUGEINT",
            "UHUGEINT",
            "FLOAT",
            "DOUBLE",
            "DECIMAL(4, 1)",
            "DECIMAL(9, 2)",
            "DECIMAL(18, 3)",
            "DECIMAL(38, 4)",
        ];
        let numbers = types.map(|name| format!("{some} (i % 100)::{name} END, (i % 3 * -1)::INTEGER::DECIMAL(9, 2)"));
        let lengths =
            format!("repeat('ä', i % 40), {some} repeat('x', (i % 14)::INTEGER) END, {some} i::VARCHAR::BLOB END");
        let times = format!(
            "{some} DATE '1969-12-31' + i::INTEGER END, {some} make_timestamp(i * 1000003) END, \
             {some} make_timestamp(i)::TIMESTAMP_S END, make_timestamp(i)::TIMESTAMP_NS, make_timestamp(i)::TIMESTAMPTZ, \
             TIME '00:00:01' + to_microseconds(i), {some} to_seconds(i) END"
        );
        let others = format!(
            "{some} i % 2 = 0 END, {some} [i, NULL] END, {some} {{'a': i, 'b': i::VARCHAR}} END, \
             {some} (['a', 'b'][i % 2 + 1])::ENUM ('a', 'b') END, md5(i::VARCHAR)::UUID, MAP {{i: repeat('y', 20)}}"
        );
        connection
            .execute(
                "CREATE TABLE t AS SELECT CASE WHEN i % 5 <> 0 THEN 'some text of ' || i % 11 END AS dictionary, \
                 'a long text with a number in it: ' || i AS fsst, 42 AS constant, i FROM range(300000) r(i)",
                Parameters::None,
            )
            .unwrap();
        connection.execute("CHECKPOINT", Parameters::None).unwrap();
        for (what, sql) in [
            ("numbers", format!("SELECT {} FROM range(10000) r(i)", numbers.join(", "))),
            ("texts", format!("SELECT {lengths} FROM range(10000) r(i)")),
            ("times", format!("SELECT {times} FROM range(10000) r(i)")),
            ("others", format!("SELECT {others} FROM range(10000) r(i)")),
            (
                "constants",
                "SELECT NULL::VARCHAR, NULL::INTEGER, 'a text that is long', 1.5, DATE '2024-01-01' FROM range(5000)"
                    .to_owned(),
            ),
            ("a table", "SELECT * FROM t".to_owned()),
            ("selected", "SELECT * FROM t WHERE i % 3 = 1 ORDER BY i DESC".to_owned()),
            ("no rows", "SELECT * FROM t WHERE i < 0".to_owned()),
            ("no text", "SELECT '', NULL::BLOB FROM range(3000)".to_owned()),
        ] {
            let want = plain(&connection, &sql);
            for rows in [1000, 65_536] {
                let (schema, got) = batches(&connection, &sql, BatchSize { rows, bytes: 1 << 20 });
                assert_eq!(concat_batches(&schema, &got).unwrap(), want, "{what}");
                assert!(got.iter().all(|batch| (1..=rows).contains(&batch.num_rows())), "{what}");
            }
        }
    }

    #[test]
    fn a_batch_ends_before_it_has_too_many_bytes() {
        let connection = connect(StorageLocation::InMemory);
        let sql = "SELECT repeat('x', 1000) FROM range(20000)";
        let rows = |bytes| {
            let (_, batches) = batches(&connection, sql, BatchSize { rows: 65_536, bytes });
            batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>()
        };
        assert_eq!(rows(5_000_000), [4096, 4096, 4096, 4096, 3616]);
        // A chunk of DuckDB's is not cut for its bytes.
        let chunks = rows(1_000_000);
        assert_eq!((chunks.len(), chunks[0]), (10, 2048));
    }
}
