//! Arrow batches as a table: `FROM merganser_import('token')` reads the batches that were put under the token.
//!
//! The batches are all there before the statement begins, so the function never waits and never holds one of DuckDB's
//! workers for a slow client. Workers take batches in turn, and the batch's number keeps the rows in the stream's order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::signature::{FunctionParameter, SignatureBuilder};
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, OrderPreservation, PartitionData, TableFunctionBuilder,
    TableFunctionCallbacks, TablePartitioningCallbacks,
};
use duckdb_neo::vector::Unknown;
use duckdb_neo::{Error, Result};
use uuid::Uuid;

use super::ffi::Importer;

const FUNCTION: &str = "merganser_import";

/// The same for few rows: DuckDB inserts what has no partitions with one thread, straight into the table.
const SERIAL_FUNCTION: &str = "merganser_import_serial";

/// Rows of one of DuckDB's vectors.
pub(in crate::engine) const CHUNK_ROWS: usize = 2048;

/// Rows that a worker takes at once: DuckDB's row group, so that a parallel insert writes whole ones.
const SHARE_ROWS: usize = 122_880;

/// The batches that statements under way may read, by token.
#[derive(Debug, Default)]
pub(in crate::engine) struct Imports(Mutex<HashMap<String, Arc<Batches>>>);

/// Batches of one schema, cut into shares for the workers.
#[derive(Debug)]
struct Batches {
    schema: SchemaRef,
    shares: Vec<Vec<RecordBatch>>,
    rows: usize,
}

/// Batches that a statement may read as long as this is alive.
#[derive(Debug)]
pub(in crate::engine) struct Import {
    imports: Arc<Imports>,
    token: String,
}

impl Import {
    /// The function call to read from.
    pub(in crate::engine) fn sql(&self) -> String {
        format!("{FUNCTION}('{}')", self.token)
    }

    /// The same, to be read by one thread: it costs less for few rows.
    pub(in crate::engine) fn serial_sql(&self) -> String {
        format!("{SERIAL_FUNCTION}('{}')", self.token)
    }

    /// Puts other batches, all of `schema`, in the place of those that were there.
    pub(in crate::engine) fn put(&self, schema: &SchemaRef, batches: Vec<RecordBatch>) {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let batches = Batches { schema: Arc::clone(schema), shares: into_shares(batches), rows };
        self.imports.lock().insert(self.token.clone(), Arc::new(batches));
    }

    /// Lets go of the batches; a statement under way keeps those that it reads.
    pub(in crate::engine) fn clear(&self) {
        self.imports.lock().remove(&self.token);
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Imports {
    /// Makes `batches`, all of `schema`, readable. The number of entries is bounded by that of engine threads.
    pub(in crate::engine) fn add(self: &Arc<Self>, schema: &SchemaRef, batches: Vec<RecordBatch>) -> Import {
        let import = self.reserve();
        import.put(schema, batches);
        import
    }

    /// A token that batches can be put under later.
    pub(in crate::engine) fn reserve(self: &Arc<Self>) -> Import {
        Import { imports: Arc::clone(self), token: Uuid::new_v4().simple().to_string() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Batches>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shares of [`SHARE_ROWS`] rows: a worker makes one whole row group of each, which goes straight to the file.
fn into_shares(batches: Vec<RecordBatch>) -> Vec<Vec<RecordBatch>> {
    let mut shares: Vec<Vec<RecordBatch>> = Vec::new();
    let mut room = 0;
    for mut batch in batches {
        while batch.num_rows() > 0 {
            if room == 0 {
                shares.push(Vec::new());
                room = SHARE_ROWS;
            }
            let rows = batch.num_rows().min(room);
            room -= rows;
            let part = batch.slice(0, rows);
            batch = batch.slice(rows, batch.num_rows() - rows);
            if let Some(share) = shares.last_mut() {
                share.push(part);
            }
        }
    }
    shares
}

/// Registers the table functions with an instance.
pub(in crate::engine) fn register(connection: &Connection, imports: &Arc<Imports>) -> Result<()> {
    let signature = || SignatureBuilder::new().param(FunctionParameter::new::<String>("token"));
    let function = || ImportFunction(Arc::clone(imports));
    TableFunctionBuilder::new(SERIAL_FUNCTION, signature(), function()).register(connection)?;
    TableFunctionBuilder::new(FUNCTION, signature(), function()).with_partitioning().register(connection)
}

struct ImportFunction(Arc<Imports>);

/// What one worker reads now.
struct Worker {
    importer: Importer,
    share: std::vec::IntoIter<RecordBatch>,
    number: usize,
}

impl TableFunctionCallbacks for ImportFunction {
    type BindData = Arc<Batches>;
    type GlobalState = AtomicUsize;
    type LocalState = Worker;

    fn bind(
        &self,
        context: &Context,
        arguments: Vec<BindArgument>,
        output: BindFunctionHandle<'_>,
    ) -> Result<Arc<Batches>> {
        let token = arguments.first().and_then(|argument| argument.value.as_ref());
        let token = token.map(duckdb_neo::value::Value::get::<String>).transpose()?.flatten().unwrap_or_default();
        let batches = self.0.lock().get(&token).cloned();
        let batches = batches.ok_or_else(|| Error::invalid_input("there is nothing to import under this token"))?;
        let importer = Importer::new(context, &batches.schema, CHUNK_ROWS)?;
        for (name, logical_type) in importer.columns()?.get_all()? {
            output.add_result_column(&name, &logical_type)?;
        }
        output.set_cardinality(batches.rows, true)?;
        output.set_order(OrderPreservation::Insertion)?;
        Ok(batches)
    }

    fn init_global_state(
        &self,
        batches: &Arc<Batches>,
        _context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<(Option<AtomicUsize>, Option<usize>)> {
        Ok((Some(AtomicUsize::new(0)), Some(batches.shares.len().max(1))))
    }

    fn init_local_state(
        &self,
        batches: &Arc<Batches>,
        _next: Option<&AtomicUsize>,
        context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<Option<Worker>> {
        let importer = Importer::new(context, &batches.schema, CHUNK_ROWS)?;
        Ok(Some(Worker { importer, share: Vec::new().into_iter(), number: 0 }))
    }

    fn exec(
        &self,
        batches: &Arc<Batches>,
        next: Option<&AtomicUsize>,
        worker: Option<&mut Worker>,
        _context: &Context,
        mut output: DataChunkRef<'_>,
        _columns: ExecColumnInfo<'_>,
    ) -> Result<()> {
        let (Some(next), Some(worker)) = (next, worker) else {
            return Err(Error::api_error("the import has no state"));
        };
        loop {
            if worker.importer.next_into(&mut output)? > 0 {
                return Ok(());
            }
            if let Some(batch) = worker.share.next() {
                worker.importer.append(&batch)?;
                continue;
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(share) = batches.shares.get(number) else {
                return output.get_vector_at_mut::<Unknown>(0)?.set_size(0);
            };
            worker.share = share.clone().into_iter();
            worker.number = number;
        }
    }
}

impl TablePartitioningCallbacks for ImportFunction {
    fn partition_data(
        &self,
        _batches: &Arc<Batches>,
        _next: Option<&AtomicUsize>,
        worker: Option<&mut Worker>,
        _context: &Context,
        _data: PartitionData<'_>,
    ) -> Result<usize> {
        Ok(worker.map_or(0, |worker| worker.number))
    }
}
