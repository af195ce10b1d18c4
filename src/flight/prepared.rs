//! Prepared statements: their text, and the parameters that were bound last. The server keeps them by handle, and closes the
//! one not used for longest when there are too many.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::decode::DecodedPayload;
use arrow_flight::sql::{ActionCreatePreparedStatementRequest, Any, DoPutPreparedStatementResult};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use lru::LruCache;
use prost::Message;
use tonic::Streaming;
use uuid::Uuid;

use super::decode::Incoming;
use super::encode::{schema_bytes, wire_schema};
use super::session::transaction_id;
use super::{State, put};
use crate::config;
use crate::engine::{Action, Bound, Call, Owner, TransactionId};
use crate::error::{Error, Result};

/// The prepared statements of all clients.
#[derive(Debug)]
pub(super) struct PreparedStatements {
    statements: Mutex<LruCache<Key, Prepared>>,
    parameters_memory: usize,
}

/// A statement's handle, and who it is for.
type Key = (Uuid, Owner);

/// A prepared statement.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// Its text.
    pub(super) sql: String,
    /// The transaction that it belongs to.
    pub(super) transaction: Option<TransactionId>,
    /// The parameters that were bound last.
    pub(super) bound: Option<Bound>,
}

impl Prepared {
    fn bound_bytes(&self) -> usize {
        self.bound.as_ref().map_or(0, Bound::bytes)
    }
}

impl PreparedStatements {
    pub(super) fn new(config: &config::Query) -> Self {
        let statements = LruCache::new(NonZeroUsize::new(config.prepared_max).unwrap_or(NonZeroUsize::MIN));
        let parameters_memory = usize::try_from(config.parameters_memory.as_u64()).unwrap_or(usize::MAX);
        Self { statements: Mutex::new(statements), parameters_memory }
    }

    fn add(&self, prepared: Prepared, owner: Owner) -> Bytes {
        let handle = Uuid::new_v4();
        let evicted = self.lock().push((handle, owner), prepared);
        drop(evicted);
        Bytes::copy_from_slice(handle.as_bytes())
    }

    /// The statement of a handle.
    pub(super) fn find(&self, handle: &Bytes, owner: Owner) -> Result<Prepared> {
        parse(handle, owner).and_then(|key| self.lock().get(&key).cloned()).ok_or_else(unknown)
    }

    fn bind(&self, handle: &Bytes, owner: Owner, bound: Option<Bound>) -> Result<()> {
        let key = parse(handle, owner).ok_or_else(unknown)?;
        let mut statements = self.lock();
        statements.get_mut(&key).ok_or_else(unknown)?.bound = bound;
        let mut bytes: usize = statements.iter().map(|(_, prepared)| prepared.bound_bytes()).sum();
        // Those used last come first, this one before all.
        let others = statements.iter().skip(1).filter(|(_, prepared)| prepared.bound.is_some());
        let mut oldest: Vec<Key> = others.map(|(key, _)| key.clone()).collect();
        let mut closed = Vec::new();
        while bytes > self.parameters_memory
            && let Some(key) = oldest.pop()
            && let Some(prepared) = statements.pop(&key)
        {
            bytes -= prepared.bound_bytes();
            closed.push(prepared);
        }
        drop(statements);
        // Freeing them may take a while: not under the lock.
        drop(closed);
        Ok(())
    }

    /// Closes a statement. One that is not known is closed already.
    pub(super) fn close(&self, handle: &Bytes, owner: Owner) {
        let closed = parse(handle, owner).and_then(|key| self.lock().pop(&key));
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, Prepared>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(handle: &Bytes, owner: Owner) -> Option<Key> {
    Uuid::from_slice(handle).ok().map(|handle| (handle, owner))
}

fn unknown() -> Error {
    Error::not_found(
        "the prepared statement is not known: it was closed, or many others were prepared or bound since (query.prepared_max, query.parameters_memory)",
    )
}

/// `ActionCreatePreparedStatementResult` with `is_update`, which arrow-flight 60 does not have: ADBC goes by it.
#[derive(Clone, PartialEq, prost::Message)]
struct CreateResult {
    #[prost(bytes = "bytes", tag = "1")]
    prepared_statement_handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

/// CreatePreparedStatement: answers the packed result. `types_open` is the type of a parameter that may have any.
pub(super) async fn create(
    state: &State,
    request: ActionCreatePreparedStatementRequest,
    types_open: &DataType,
    call: &Call,
) -> Result<Bytes> {
    let sql = request.query;
    let transaction = transaction_id(request.transaction_id.as_ref())?;
    let plan = state.engine.plan(sql.clone(), &call.clone().within(transaction)).await?;
    // JDBC tells an update from a query by an empty schema.
    let (dataset_schema, is_update) = match plan.action {
        Action::Read(schema) | Action::ChangeWithRows(Some(schema)) => (schema_bytes(&wire_schema(&schema))?, false),
        Action::Change => (Bytes::new(), true),
        Action::ChangeWithRows(None) => (Bytes::new(), false),
    };
    let result = CreateResult {
        prepared_statement_handle: state.prepared.add(Prepared { sql, transaction, bound: None }, call.owner()),
        dataset_schema,
        parameter_schema: schema_bytes(&parameter_schema(&plan.parameters, types_open))?,
        is_update: Some(is_update),
    };
    let any = Any {
        type_url: "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult".to_owned(),
        value: result.encode_to_vec().into(),
    };
    Ok(any.encode_to_vec().into())
}

fn parameter_schema(parameters: &Schema, types_open: &DataType) -> SchemaRef {
    let fields = parameters.fields().iter().map(|field| {
        let is_open = field.data_type() == &DataType::Null;
        if is_open { field.as_ref().clone().with_data_type(types_open.clone()) } else { field.as_ref().clone() }
    });
    SchemaRef::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// Runs a prepared statement for its effect: once for each row of parameters that the stream has, all or none.
pub(super) async fn put_update(
    state: &State,
    handle: &Bytes,
    first: FlightData,
    messages: Streaming<FlightData>,
    call: Call,
) -> Result<PutResult> {
    let Prepared { sql, transaction, bound } = state.prepared.find(handle, call.owner())?;
    // arrow-rs binds in a call of its own, before.
    let bound = read_parameters(state, first, messages).await?.or(bound);
    put::update(state, sql, bound, &call.within(transaction)).await
}

/// Binds the parameters of a query; answers with the same handle, which Java needs to be there.
pub(super) async fn put_query(
    state: &State,
    handle: &Bytes,
    first: FlightData,
    messages: Streaming<FlightData>,
    call: &Call,
) -> Result<PutResult> {
    let bound = read_parameters(state, first, messages).await?;
    state.prepared.bind(handle, call.owner(), bound)?;
    let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.clone()) };
    Ok(PutResult { app_metadata: result.encode_to_vec().into() })
}

/// Reads the parameter stream to its end; none when it has no columns, or nothing but the descriptor.
async fn read_parameters(state: &State, first: FlightData, messages: Streaming<FlightData>) -> Result<Option<Bound>> {
    let bytes_max = state.config.query.parameters_bytes_max;
    let mut incoming = Incoming::new(state, first, messages, (bytes_max, "query.parameters_bytes_max"));
    let (mut batches, mut bytes, mut columns): (Vec<RecordBatch>, u64, usize) = (Vec::new(), 0, 0);
    while let Some(message) = incoming.next().await? {
        match message.payload {
            DecodedPayload::Schema(schema) => columns = schema.fields().len(),
            DecodedPayload::RecordBatch(batch) => {
                bytes += batch.get_array_memory_size() as u64;
                batches.push(batch);
            }
            DecodedPayload::None => {}
        }
        if bytes > bytes_max.as_u64() {
            return Err(Error::exhausted(format!(
                "the parameters have more than {bytes_max} (query.parameters_bytes_max): bind fewer rows, or use an ingest"
            )));
        }
    }
    Ok((columns > 0).then(|| Bound::new(batches)))
}
