//! The engine's one file with `unsafe`: Arrow data crosses between DuckDB and arrow-rs here, without a copy, a result's arrays are
//! made by C++ of ours (`arrays.cpp`), and the guard's C++ (`guard/plan.cpp`) is called and calls back.
//!
//! For Arrow both sides speak the C Data Interface, whose structs have one layout that the specification fixes; what is
//! unsafe is to say so. Everything below takes and gives owned values, and no raw pointer leaves the file.
#![expect(unsafe_code, reason = "the Arrow C Data Interface and the guard's are C interfaces")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::panic::catch_unwind;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use duckdb_neo::arrow::{ArrowArray, ArrowImporter, ArrowSchema};
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::ffi;
use duckdb_neo::logical_type::LogicalType;
use duckdb_neo::statement::Statement;
use duckdb_neo::vector::Unknown;
use duckdb_neo::{AsRaw, FromRaw, Result as DuckDBResult, schema};

use super::buffer::BatchSize;
use super::guard::{self, Item, Kind};
use super::parameters::Values;

const _: () = assert!(size_of::<ffi::ArrowArray>() == size_of::<FFI_ArrowArray>());
const _: () = assert!(size_of::<ffi::ArrowSchema>() == size_of::<FFI_ArrowSchema>());

/// The arrow-rs schema of a result.
pub(in crate::engine) fn schema_from(schema: ArrowSchema) -> Result<SchemaRef, ArrowError> {
    // SAFETY: both are the C Data Interface's ArrowSchema; ownership moves with the value, and arrow-rs releases it.
    let schema = unsafe { std::mem::transmute::<ffi::ArrowSchema, FFI_ArrowSchema>(schema.into_raw()) };
    Ok(Arc::new(Schema::try_from(&schema)?))
}

/// One array of a result as a batch of `schema`, which must be the schema of that result.
pub(in crate::engine) fn batch_from(array: ArrowArray, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let ffi_schema = FFI_ArrowSchema::try_from(schema.as_ref())?;
    // SAFETY: both are the C Data Interface's ArrowArray; ownership moves with the value, and arrow-rs releases it.
    let array = unsafe { std::mem::transmute::<ffi::ArrowArray, FFI_ArrowArray>(array.into_raw()) };
    // SAFETY: DuckDB made the array for this schema.
    let data = unsafe { from_ffi(array, &ffi_schema) }?;
    let (_, columns, _) = StructArray::from(data.clone()).into_parts();
    let options = RecordBatchOptions::new().with_row_count(Some(data.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

unsafe extern "C" {
    fn merganser_execute_arrow(
        connection: ffi::duckdb_v2_connection_handle,
        statement: ffi::duckdb_v2_sql_statement_handle,
        names: *const ffi::duckdb_v2_identifier_t,
        values: *const ffi::duckdb_v2_value_handle,
        count: ffi::idx_t,
        batch_rows: ffi::idx_t,
        batch_bytes: ffi::idx_t,
        result: *mut ffi::duckdb_v2_arrow_result_handle,
        error: *mut ffi::duckdb_v2_error_info_handle,
    ) -> ffi::DUCKDB_V2_ERROR;
}

/// The rows of a running statement, in arrays that `arrays.cpp` makes. Dropping it waits until DuckDB's workers have left it.
pub(in crate::engine) struct ArrowResult<'a> {
    handle: ffi::duckdb_v2_arrow_result_handle,
    connection: PhantomData<&'a Connection>,
}

impl<'a> ArrowResult<'a> {
    /// Starts a statement with the values of its parameters.
    pub(in crate::engine) fn start(
        connection: &'a Connection,
        statement: &'a Statement<'static>,
        values: Values<'_>,
        batch: BatchSize,
    ) -> DuckDBResult<Self> {
        let text = |name: &String| ffi::duckdb_v2_str { ptr: name.as_ptr().cast(), len: name.len() as u64 };
        let names: Vec<_> = values.names.iter().map(text).collect();
        // SAFETY: the values live as long as the call, which reads them only.
        let handles: Vec<_> = values.values.iter().map(|value| unsafe { value.get_raw() }).collect();
        debug_assert_eq!(names.len(), handles.len());
        let (rows, bytes) = (batch.rows as u64, batch.bytes as u64);
        let mut handle = std::ptr::null_mut();
        // SAFETY: all handles are alive, names and values are `handles.len()` each, and the result gets a handle of its own.
        checked(|error| unsafe {
            merganser_execute_arrow(
                connection.get_raw(),
                statement.get_raw(),
                names.as_ptr(),
                handles.as_ptr(),
                handles.len() as u64,
                rows,
                bytes,
                &raw mut handle,
                error,
            )
        })?;
        Ok(Self { handle, connection: PhantomData })
    }

    /// The columns.
    pub(in crate::engine) fn schema(&self) -> DuckDBResult<ArrowSchema> {
        let mut schema = ffi::ArrowSchema::empty();
        // SAFETY: the handle is alive, and the schema is the caller's afterwards.
        checked(|error| unsafe { ffi::duckdb_v2_arrow_result_get_schema(self.handle, &raw mut schema, error) })?;
        // SAFETY: DuckDB has filled it.
        Ok(unsafe { ArrowSchema::from_raw(schema) })
    }

    /// The columns' types.
    pub(in crate::engine) fn types(&self) -> DuckDBResult<Vec<LogicalType>> {
        let mut columns = std::ptr::null_mut();
        // SAFETY: the handle is alive. An Arrow result is a result in another format, as DuckDB's own functions for it say
        // (capi_v2_arrow.cpp, `AsResult`).
        checked(|error| unsafe { ffi::duckdb_v2_result_get_schema(self.handle.cast(), &raw mut columns, error) })?;
        // SAFETY: DuckDB has made it, and it is the caller's.
        let columns = unsafe { schema::Schema::from_raw(columns) };
        (0..columns.len()?).map(|index| columns.field_type(index)).collect()
    }

    /// The next array; none after the last one.
    pub(in crate::engine) fn next_array(&mut self) -> DuckDBResult<Option<ArrowArray>> {
        let mut array = ffi::ArrowArray::empty();
        // SAFETY: the handle is alive, and the array is the caller's afterwards.
        checked(|error| unsafe { ffi::duckdb_v2_arrow_result_fetch_array(self.handle, &raw mut array, error) })?;
        // SAFETY: DuckDB has filled it; without a release there is none.
        Ok(array.release.is_some().then(|| unsafe { ArrowArray::from_raw(array) }))
    }
}

impl Drop for ArrowResult<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is the result's own.
        let _ = unsafe { ffi::duckdb_v2_arrow_result_destroy(&raw mut self.handle) };
    }
}

unsafe extern "C" {
    safe fn _exit(status: c_int) -> !;
}

/// Ends the process without what C++ has registered for its end, which would take down what DuckDB's threads, and whoever still closes
/// the instance, use at that moment. What was acknowledged is on the disk; what was printed has to be flushed.
pub fn end_process(is_good: bool) -> ! {
    _exit(c_int::from(!is_good))
}

/// Makes a call of the C API, and an error of what it says.
fn checked(call: impl FnOnce(*mut ffi::duckdb_v2_error_info_handle) -> ffi::DUCKDB_V2_ERROR) -> DuckDBResult<()> {
    let mut info: ffi::duckdb_v2_error_info_handle = std::ptr::null_mut();
    let code = call(&raw mut info);
    if code == ffi::DUCKDB_V2_ERROR::DUCKDB_V2_ERROR_NONE {
        return Ok(());
    }
    let mut message = String::new();
    if !info.is_null() {
        let mut text = ffi::duckdb_v2_str::default();
        // SAFETY: the call has given the handle; its text lives until it is destroyed.
        unsafe {
            let _ = ffi::duckdb_v2_error_info_get_text(info, &raw mut text);
            let size = usize::try_from(text.len).unwrap_or_default();
            message = Text { data: text.ptr.cast(), size }.get().into_owned();
            let _ = ffi::duckdb_v2_error_info_destroy(&raw mut info);
        }
    }
    Err(code.try_into().map_or_else(|error| error, |code| duckdb_neo::Error { code, message }))
}

/// Hands the batches of one stream to a table function's output, vector by vector, without copying values.
pub(in crate::engine) struct Importer {
    inner: ArrowImporter<'static>,
    schema: SchemaRef,
}

// SAFETY: DuckDB keeps the importer in the state of one worker of one query and calls it from one thread at a time.
unsafe impl Send for Importer {}

impl Importer {
    /// An importer for batches of `schema`, of chunks of at most `rows` rows.
    ///
    /// It must not outlive the query of `context`: keep it in the query's local state only.
    pub(in crate::engine) fn new(context: &Context, schema: &SchemaRef, rows: usize) -> DuckDBResult<Self> {
        let importer = ArrowImporter::new(context, to_duckdb_schema(schema)?, Some(rows))?;
        // SAFETY: the importer points to the client context behind `context`, which is one and the same through all
        // callbacks of a query (capi_v2_arrow.cpp says so), and DuckDB drops a query's states before its client context.
        let inner = unsafe { std::mem::transmute::<ArrowImporter<'_>, ArrowImporter<'static>>(importer) };
        Ok(Self { inner, schema: Arc::clone(schema) })
    }

    /// The columns that DuckDB makes of the schema.
    pub(in crate::engine) fn columns(&self) -> DuckDBResult<duckdb_neo::schema::Schema> {
        self.inner.schema()
    }

    /// Queues a batch; the previous one must be used up.
    pub(in crate::engine) fn append(&mut self, batch: &RecordBatch) -> DuckDBResult<()> {
        debug_assert_eq!(batch.schema_ref().fields(), self.schema.fields());
        let array = FFI_ArrowArray::new(&StructArray::from(batch.clone()).into_data());
        // SAFETY: both are the C Data Interface's ArrowArray; DuckDB takes it over and releases it.
        let array = unsafe { ArrowArray::from_raw(std::mem::transmute::<FFI_ArrowArray, ffi::ArrowArray>(array)) };
        self.inner.append_consumed(array, true)
    }

    /// Puts the next rows into `output`; answers how many, zero when the queued batch is used up.
    pub(in crate::engine) fn next_into(&mut self, output: &mut DataChunkRef<'_>) -> DuckDBResult<usize> {
        let Some(chunk) = self.inner.next_chunk()? else { return Ok(0) };
        for index in 0..chunk.col_count() {
            let target = output.get_vector_at_mut::<Unknown>(index)?;
            // SAFETY: the chunk's vectors own or share their buffers (they keep the Arrow array alive), and a reference
            // takes part in that ownership, so the chunk may go.
            unsafe { target.reference(chunk.get_vector_at::<Unknown>(index)?) }?;
        }
        chunk.row_count()
    }
}

/// The schema that DuckDB's importer reads columns by.
pub(in crate::engine) fn to_duckdb_schema(schema: &Schema) -> DuckDBResult<ArrowSchema> {
    let schema = FFI_ArrowSchema::try_from(schema)
        .map_err(|error| duckdb_neo::Error::invalid_input(format!("cannot export the Arrow schema: {error}")))?;
    // SAFETY: both are the C Data Interface's ArrowSchema; the wrapper takes it over and releases it.
    Ok(unsafe { ArrowSchema::from_raw(std::mem::transmute::<FFI_ArrowSchema, ffi::ArrowSchema>(schema)) })
}

/// A text of the guard's C++; it lives as long as the call that gives it.
#[repr(C)]
struct Text {
    data: *const u8,
    size: usize,
}

/// An item of a bound plan, as `guard/plan.cpp` has it.
#[repr(C)]
struct RawItem {
    kind: u32,
    what: Text,
    catalog: Text,
    schema: Text,
    name: Text,
}

type Decide = unsafe extern "C" fn(item: *const RawItem, message: *mut u8, message_size: *mut usize) -> bool;

unsafe extern "C" {
    fn merganser_guard_install(connection: *mut c_void, decide: Decide);
    fn merganser_guard_remove_function(connection: *mut c_void, name: *const c_char) -> bool;
}

/// Has the guard decide on every statement of the connection's instance.
pub(in crate::engine) fn install_guard(connection: &Connection) {
    // SAFETY: the handle of a duckdb-neo connection points to DuckDB's own (capi_v2_internal.hpp; the versions are pinned), it
    // lives as long as `connection`, and `decide` as long as the program.
    unsafe { merganser_guard_install(connection.get_raw().cast(), decide) }
}

/// Takes a function out of the connection's instance; false when there is none of the name.
pub(in crate::engine) fn remove_function(connection: &Connection, name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: as in `install_guard`; the name lives as long as the call.
    unsafe { merganser_guard_remove_function(connection.get_raw().cast(), name.as_ptr()) }
}

/// What the guard's C++ asks.
///
/// # Safety
/// `item` and its texts are valid for the call; `message` has room for `*message_size` bytes.
unsafe extern "C" fn decide(item: *const RawItem, message: *mut u8, message_size: *mut usize) -> bool {
    // SAFETY: the caller's promise.
    let (item, room) = unsafe { (&*item, *message_size) };
    // A panic must not unwind into C++; what cannot be decided is refused.
    let decided = catch_unwind(|| {
        // SAFETY: the caller's promise.
        let [what, catalog, schema, name] =
            [&item.what, &item.catalog, &item.schema, &item.name].map(|text| unsafe { text.get() });
        let kind = Kind::ALL.get(item.kind as usize).copied().unwrap_or(Kind::Other);
        guard::decide(&Item { kind, what: &what, catalog: &catalog, schema: &schema, name: &name })
    });
    let why = match &decided {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.message(),
        Err(_) => "the guard could not decide",
    };
    let size = why.floor_char_boundary(room);
    // SAFETY: there is room for `room` bytes, and `size` is at most that.
    unsafe {
        std::ptr::copy_nonoverlapping(why.as_ptr(), message, size);
        *message_size = size;
    }
    false
}

impl Text {
    /// # Safety
    /// `data` points to `size` bytes.
    unsafe fn get(&self) -> std::borrow::Cow<'_, str> {
        if self.size == 0 {
            return "".into();
        }
        // SAFETY: the caller's promise.
        String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(self.data, self.size) })
    }
}
