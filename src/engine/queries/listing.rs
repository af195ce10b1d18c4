//! The table functions `merganser_queries()` and `merganser_sessions()`: what the log has when the query runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::error::ArrowError;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::signature::SignatureBuilder;
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, TableFunctionBuilder, TableFunctionCallbacks,
};
use duckdb_neo::vector::Unknown;
use duckdb_neo::{Error, Result};

use super::info::milliseconds;
use super::{Queries, QueryFilter, QueryInfo, QueryOutcome, SessionInfo};
use crate::engine::ffi::Importer;
use crate::engine::import::CHUNK_ROWS;
use crate::engine::session::Sessions;

/// The function that lists statements, and the one that lists sessions.
pub(super) const QUERIES: &str = "merganser_queries";
pub(super) const SESSIONS: &str = "merganser_sessions";

/// Registers the functions for the whole instance.
pub(in crate::engine) fn register(
    connection: &Connection,
    queries: &Arc<Queries>,
    sessions: &Arc<Sessions>,
) -> Result<()> {
    let function = |what| Function { what, queries: Arc::downgrade(queries), sessions: Arc::downgrade(sessions) };
    TableFunctionBuilder::new(QUERIES, SignatureBuilder::new(), function(What::Queries)).register(connection)?;
    TableFunctionBuilder::new(SESSIONS, SignatureBuilder::new(), function(What::Sessions)).register(connection)
}

#[derive(Clone, Copy)]
enum What {
    Queries,
    Sessions,
}

/// Weak, because what is asked may in the end hold the instance that holds the function.
struct Function {
    what: What,
    queries: Weak<Queries>,
    sessions: Weak<Sessions>,
}

/// The rows, on their way into DuckDB.
struct Rows {
    importer: Importer,
    batch: Option<RecordBatch>,
}

impl Function {
    fn rows(&self) -> Result<RecordBatch> {
        let ended = || Error::api_error("the server has stopped");
        let queries = self.queries.upgrade().ok_or_else(ended)?;
        let batch = match self.what {
            What::Queries => query_batch(&queries.list(QueryFilter { ended: true, ..QueryFilter::default() })),
            What::Sessions => {
                let sessions = self.sessions.upgrade().ok_or_else(ended)?;
                session_batch(&sessions.list(&queries.running_by_session()))
            }
        };
        batch.map_err(unwritten)
    }

    fn empty(&self) -> Result<RecordBatch> {
        match self.what {
            What::Queries => query_batch(&[]),
            What::Sessions => session_batch(&[]),
        }
        .map_err(unwritten)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritten(error: ArrowError) -> Error {
    Error::api_error(format!("cannot make the rows: {error}"))
}

impl TableFunctionCallbacks for Function {
    type BindData = ();
    type GlobalState = AtomicBool;
    type LocalState = Rows;

    fn bind(&self, context: &Context, _arguments: Vec<BindArgument>, output: BindFunctionHandle<'_>) -> Result<()> {
        let importer = Importer::new(context, self.empty()?.schema_ref(), CHUNK_ROWS)?;
        for (name, logical_type) in importer.columns()?.get_all()? {
            output.add_result_column(&name, &logical_type)?;
        }
        Ok(())
    }

    fn init_global_state(
        &self,
        _nothing: &(),
        _context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<(Option<AtomicBool>, Option<usize>)> {
        // One worker gets all rows.
        Ok((Some(AtomicBool::new(false)), Some(1)))
    }

    fn init_local_state(
        &self,
        _nothing: &(),
        taken: Option<&AtomicBool>,
        context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<Option<Rows>> {
        let is_first = taken.is_some_and(|taken| !taken.swap(true, Ordering::AcqRel));
        let batch = if is_first { self.rows()? } else { self.empty()? };
        let importer = Importer::new(context, batch.schema_ref(), CHUNK_ROWS)?;
        Ok(Some(Rows { importer, batch: (batch.num_rows() > 0).then_some(batch) }))
    }

    fn exec(
        &self,
        _nothing: &(),
        _taken: Option<&AtomicBool>,
        rows: Option<&mut Rows>,
        _context: &Context,
        mut output: DataChunkRef<'_>,
        _columns: ExecColumnInfo<'_>,
    ) -> Result<()> {
        let Some(rows) = rows else { return Err(Error::api_error("the listing has no state")) };
        loop {
            if rows.importer.next_into(&mut output)? > 0 {
                return Ok(());
            }
            match rows.batch.take() {
                Some(batch) => rows.importer.append(&batch)?,
                None => return output.get_vector_at_mut::<Unknown>(0)?.set_size(0),
            }
        }
    }
}

/// Times are UTC, without a zone.
fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values))
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn query_batch(infos: &[Arc<QueryInfo>]) -> std::result::Result<RecordBatch, ArrowError> {
    let all = || infos.iter();
    RecordBatch::try_from_iter_with_nullable([
        ("id", texts(all().map(|info| Some(info.id.to_string()))), true),
        ("user_name", texts(all().map(|info| Some(&info.user))), true),
        ("session_id", texts(all().map(|info| info.session.as_ref())), true),
        ("kind", texts(all().map(|info| Some(info.kind.word()))), true),
        ("state", texts(all().map(|info| Some(info.state.word()))), true),
        ("fingerprint", texts(all().map(|info| info.fingerprint_text())), true),
        ("text", texts(all().map(|info| info.text.as_ref())), true),
        ("table_name", texts(all().map(|info| info.table.as_ref())), true),
        ("started_at", times(all().map(|info| info.started_at)), true),
        ("queued_ms", counts(all().map(|info| milliseconds(info.queued))), true),
        ("run_ms", counts(all().map(|info| milliseconds(info.running))), true),
        ("total_ms", counts(all().map(|info| milliseconds(info.total))), true),
        ("rows", counts(all().map(|info| info.rows)), true),
        ("bytes", counts(all().map(|info| info.bytes)), true),
        ("outcome", texts(all().map(|info| info.outcome.map(QueryOutcome::word))), true),
        ("error_code", texts(all().map(|info| info.error_word())), true),
        ("error", texts(all().map(|info| info.error.as_ref())), true),
    ])
}

fn session_batch(infos: &[SessionInfo]) -> std::result::Result<RecordBatch, ArrowError> {
    let all = || infos.iter();
    let settings = |info: &SessionInfo| {
        let pairs: Vec<String> = info.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join(", "))
    };
    let statements = all().map(|info| i64::try_from(info.statements).unwrap_or(i64::MAX));
    RecordBatch::try_from_iter_with_nullable([
        ("id", texts(all().map(|info| Some(&info.id))), true),
        ("user_name", texts(all().map(|info| info.user.as_ref())), true),
        ("created_at", times(all().map(|info| info.created_at)), true),
        ("last_used_at", times(all().map(|info| info.last_used_at)), true),
        (
            "in_transaction",
            Arc::new(all().map(|info| Some(info.in_transaction)).collect::<BooleanArray>()) as ArrayRef,
            true,
        ),
        ("statements", Arc::new(Int64Array::from_iter_values(statements)) as ArrayRef, true),
        ("settings", texts(all().map(settings)), true),
    ])
}
