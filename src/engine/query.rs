//! Queries: a statement's rows stream out of DuckDB as its workers make them, a few batches ahead of the client.
//!
//! A query is planned when it is asked for, and runs when its rows are first wanted. Until then its thread waits with the plan; on a
//! session's connection it gives way to another statement, and is planned again when it is wanted after all.
//!
//! DuckDB works from the start of a statement on, whether or not somebody reads: so who has started one has a slot, until the client
//! is what it waits for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::live::Live;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use duckdb_neo::connection::SettingScope;
use duckdb_neo::statement::Statement;
use futures::future::{self, BoxFuture, Either};
use futures::{FutureExt, Stream};

use super::cancel::Cancel;
use super::error::located;
use super::meter::Meter;
use super::output::{Batches, Input, Output, Sent, Start, Starter};
use super::parameters::Values;
use super::queries::QueryState;
use super::session::Wants;
use super::slots::Slot;
use super::types::Export;
use super::work::{CancelOnDrop, Work};
use super::{Bound, Call, Engine, bound, output, statement};
use crate::batch;
use crate::error::{Error, Result};

/// The rows of a query: a stream of batches that ends with the last row or with an error. It runs from the first poll on;
/// dropping it interrupts it.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    batches: Batches,
    starter: Option<Starter>,
    meter: Meter,
    overdue: Overdue,
    /// Nothing comes any more: more than a result may have had, or its time is over.
    ended: bool,
    cancel: CancelOnDrop,
}

/// Ready when the query does not end though its time is over.
struct Overdue(BoxFuture<'static, Error>);

impl std::fmt::Debug for Overdue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overdue")
    }
}

/// Cancels a query from elsewhere.
#[derive(Clone, Debug)]
pub struct Canceller(Arc<Cancel>);

impl Canceller {
    /// Cancels it.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// What starting a query came to.
#[derive(Debug)]
pub enum Started {
    /// It is planned.
    Rows(Rows),
    /// The statement changes something, and has not been started: execute it.
    Change,
}

/// What a statement that is not a plain query left: rows changed, or rows to read.
#[derive(Clone, Debug)]
pub struct Executed {
    /// Rows inserted, updated or deleted; none where the statement does not change rows.
    pub changed: Option<u64>,
    /// The columns of its rows; no columns when it has none.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
}

impl Default for Executed {
    fn default() -> Self {
        Self { changed: None, schema: SchemaRef::new(Schema::empty()), batches: Vec::new() }
    }
}

impl Rows {
    /// The same rows under a schema that says more about the same columns.
    pub(in crate::engine) fn with_schema(mut self, schema: SchemaRef) -> Self {
        self.schema = schema;
        self
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Lets the query run, for a caller who gives up at `deadline`; false when its plan is gone, and it has to be asked for
    /// again.
    pub fn start(&mut self, deadline: Option<Instant>) -> bool {
        self.starter.take().is_none_or(|starter| starter.start(Some(deadline)))
    }

    /// What cancels it.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.cancel.0))
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(starter) = self.starter.take()
            && !starter.start(None)
        {
            return Poll::Ready(Some(Err(Error::not_found("the plan of this query is gone: ask for it again"))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let end = match self.batches.poll(context) {
            Poll::Ready(Some(Ok(batch))) => match self.meter.count(&batch) {
                Ok(()) => return Poll::Ready(Some(Ok(batch))),
                Err(error) => error,
            },
            Poll::Ready(end) => return Poll::Ready(end),
            Poll::Pending => ready!(self.overdue.0.as_mut().poll(context)),
        };
        self.ended = true;
        self.cancel.0.cancel();
        Poll::Ready(Some(Err(end)))
    }
}

impl Engine {
    /// Plans a query; answers once its columns are known, so that an error in the statement is a clean answer. It runs once for
    /// each row of `bound`, when its rows are wanted; until then it may give way to another statement of its session.
    pub async fn query(&self, sql: String, bound: Option<Bound>, call: &Call) -> Result<Started> {
        self.begin_query(sql, bound, call, false).await
    }

    /// The same for a caller who wants the rows now: it never gives way before the first of them.
    pub async fn query_now(&self, sql: String, bound: Option<Bound>, call: &Call) -> Result<Started> {
        self.begin_query(sql, bound, call, true).await
    }

    async fn begin_query(&self, sql: String, bound: Option<Bound>, call: &Call, now: bool) -> Result<Started> {
        let (mut output, Input { schema, batches, starter }) = output::channel(self.0.result_buffer.queue_bytes());
        let mut starter = Some(starter);
        if now && let Some(starter) = starter.take() {
            starter.start(None);
        }
        let (call, tracked) = self.track_query(&sql, call);
        let own = tracked.clone();
        let produce = move |work: Result<Work>| {
            let end = match work {
                Ok(work) => produce(work, &sql, bound.as_ref(), now, &mut output),
                Err(error) => Err(error),
            };
            // The log has it before the client sees the end, or that there is another statement to run.
            if let Some(tracked) = own {
                match &end {
                    Ok(Produced::NoQuery | Produced::Nothing) => tracked.discard(),
                    Ok(Produced::Some) => tracked.leave(),
                    Ok(Produced::All) | Err(_) => tracked.end(&end),
                }
            }
            let end = match end {
                Ok(Produced::NoQuery) => output.begin(None).map(drop),
                end => end.map(drop),
            };
            output.finish(end);
        };
        let spawned = statement::span().in_scope(|| self.spawn(&call, Wants::Statement, produce));
        if let Some(tracked) = tracked.filter(|_| spawned.is_err()) {
            tracked.end(&spawned);
        }
        drop(call);
        let cancel = spawned?;
        let overdue = Arc::clone(&cancel.0).overdue().boxed();
        let (schema, overdue) = match future::select(schema, overdue).await {
            Either::Left((schema, overdue)) => {
                (schema.map_err(|_| Error::internal("the engine ended without an answer"))??, Overdue(overdue))
            }
            Either::Right((error, _)) => return Err(error),
        };
        let meter = Meter::new(&self.0.query);
        Ok(match schema {
            Some(schema) => Started::Rows(Rows { schema, batches, starter, meter, overdue, ended: false, cancel }),
            None => Started::Change,
        })
    }
}

/// How far a query came.
enum Produced {
    /// It has not run: it changes something.
    NoQuery,
    /// It has not run: nobody wanted its rows.
    Nothing,
    /// The client left before the last row.
    Some,
    /// All rows are on their way.
    All,
}

/// How DuckDB's part of a query ended.
enum Streamed {
    Ended(Produced),
    /// All is taken from DuckDB, and these are not sent yet.
    Rest(Vec<RecordBatch>),
}

/// Runs the query of `sql` and sends its rows, until the last one or until the client is gone.
fn produce(mut work: Work, sql: &str, bound: Option<&Bound>, now: bool, output: &mut Output) -> Result<Produced> {
    let streamed = stream(&mut work, sql, bound, now, output).map_err(|error| located(work.explain(error), sql))?;
    let rest = match streamed {
        Streamed::Ended(produced) => return Ok(produced),
        Streamed::Rest(rest) => rest,
    };
    work.enter(QueryState::Reading);
    // Others may have the session's connection while the client reads what is left.
    let cancel = Arc::clone(&work.cancel);
    drop(work);
    for batch in rest {
        if !output.send(batch, &cancel)? {
            return Ok(Produced::Some);
        }
    }
    Ok(Produced::All)
}

/// Streams the rows, or takes them all from DuckDB to give way to another statement.
fn stream(work: &mut Work, sql: &str, bound: Option<&Bound>, now: bool, output: &mut Output) -> Result<Streamed> {
    let nothing = Streamed::Ended(Produced::Nothing);
    if work.in_transaction() {
        work.cancel.be_patient();
    }
    let mut slot = Some(work.slot()?);
    let Some(statement) = work.read_query(sql)? else {
        return Ok(Streamed::Ended(Produced::NoQuery));
    };
    bound::check(&statement, bound)?;
    // DuckDB has this limit per connection only.
    let buffer = format!("{}B", work.engine.result_buffer.ahead_bytes());
    work.connection().config()?.set_text("streaming_buffer_size", &buffer, SettingScope::Session)?;
    let planned = if now || bound.is_some() { None } else { planned_columns(work, &statement) };
    if let Some(columns) = &planned {
        drop(slot.take());
        if !output.begin(Some(SchemaRef::clone(columns)))? || !is_wanted(work, output)? {
            return Ok(nothing);
        }
        slot = Some(work.slot()?);
    }
    let mut runs = Runs::new(work, &statement, bound);
    let Some(mut result) = runs.next().transpose()? else {
        // No row of parameters: no run, but columns all the same.
        let schema = work.planned_schema(&statement)?;
        return output.begin(Some(schema)).map(|_| Streamed::Ended(Produced::All));
    };
    let mut export = work.export(&result)?;
    match &planned {
        Some(columns) if columns == export.schema() => {}
        Some(_) => {
            return Err(Error::precondition("the columns have changed since the query was planned: ask for it again"));
        }
        // It runs already, so the slot stays.
        None if !output.begin(Some(SchemaRef::clone(export.schema())))? || !is_wanted(work, output)? => {
            return Ok(nothing);
        }
        None => work.enter(QueryState::Running),
    }
    loop {
        match send_all(work, &mut slot, output, &mut result, &export)? {
            Sending::Done => {}
            Sending::Gone => return Ok(Streamed::Ended(Produced::Some)),
            Sending::Yield(rest) => return Ok(Streamed::Rest(rest)),
        }
        drop(result);
        match runs.next().transpose()? {
            Some(next) => result = next,
            None => return Ok(Streamed::Ended(Produced::All)),
        }
        let next = work.export(&result)?;
        if next.schema() != export.schema() {
            return Err(Error::invalid("the columns' types differ between rows of parameters"));
        }
        export = next;
    }
}

/// The columns that a query will have; none where only running it tells.
fn planned_columns(work: &Work, statement: &Statement<'static>) -> Option<SchemaRef> {
    // If it cannot be bound, running it says the same, or more.
    let columns = work.planned_schema(statement).ok()?;
    let all_known = !columns.fields().iter().any(|field| field.data_type() == &DataType::Null);
    all_known.then_some(columns)
}

/// Waits until the rows are wanted; false when they never are.
fn is_wanted(work: &Work, output: &mut Output) -> Result<bool> {
    work.enter(QueryState::Planned);
    match output.wait_for_start(&work.cancel, work.lane(), work.engine.query.plans_expire)? {
        Start::Gone => Ok(false),
        Start::Now(None) => Ok(true),
        Start::Now(Some(deadline)) => {
            let session = work.session.as_ref().and_then(super::session::InUse::query_timeout);
            work.cancel.set_deadline(Engine(Arc::clone(&work.engine)).deadline(deadline, session));
            Ok(true)
        }
    }
}

/// The runs of a statement: one, or one for each row of parameters.
struct Runs<'a> {
    work: &'a Work,
    statement: &'a Statement<'static>,
    rows: Option<Box<dyn Iterator<Item = Result<bound::Row>> + 'a>>,
    once: bool,
}

impl<'a> Runs<'a> {
    fn new(work: &'a Work, statement: &'a Statement<'static>, bound: Option<&'a Bound>) -> Self {
        let rows = bound.map(|bound| Box::new(bound.values(work, statement)) as _);
        Self { work, statement, once: rows.is_none(), rows }
    }

    fn run(&self, values: Values<'_>) -> Result<Live<'a>> {
        let batch = self.work.engine.result_buffer.batch();
        Live::start(self.work.connection(), self.statement, values, batch)
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Result<Live<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.once) {
            return Some(self.run(Values::default()));
        }
        let row = self.rows.as_mut()?.next()?;
        Some(row.and_then(|row| self.run(row.values())))
    }
}

/// What became of a run's rows.
enum Sending {
    /// All are sent.
    Done,
    /// The client is gone.
    Gone,
    /// Another statement wants the connection: all are taken from DuckDB, and these are not sent yet.
    Yield(Vec<RecordBatch>),
}

fn send_all(
    work: &Work,
    slot: &mut Option<Slot>,
    output: &Output,
    result: &mut Live<'_>,
    export: &Export,
) -> Result<Sending> {
    while let Some(batch) = next_batch(work, result, export)? {
        match output.try_send(batch) {
            Sent::Yes => {}
            Sent::Gone => return Ok(Sending::Gone),
            // The slot is another statement's while the client is not ready.
            Sent::NotYet(batch) => {
                drop(slot.take());
                work.enter(QueryState::Reading);
                match output.send_unless(batch, &work.cancel, work.lane())? {
                    Sent::Yes => *slot = Some(work.slot()?),
                    Sent::Gone => return Ok(Sending::Gone),
                    Sent::NotYet(batch) => {
                        *slot = Some(work.slot()?);
                        let (rest, all) = take_rest(work, result, export, batch)?;
                        if all {
                            return Ok(Sending::Yield(rest));
                        }
                        drop(slot.take());
                        work.enter(QueryState::Reading);
                        for batch in rest {
                            if !output.send(batch, &work.cancel)? {
                                return Ok(Sending::Gone);
                            }
                        }
                        *slot = Some(work.slot()?);
                    }
                }
            }
        }
    }
    Ok(Sending::Done)
}

/// The next batch that is not empty.
fn next_batch(work: &Work, result: &mut Live<'_>, export: &Export) -> Result<Option<RecordBatch>> {
    loop {
        work.cancel.check()?;
        let Some(array) = result.next_array()? else { return Ok(None) };
        if !array.is_empty() {
            let batch = export.batch(array)?;
            if let Some(tracked) = &work.call.tracked {
                tracked.count(batch.num_rows(), batch::bytes(&batch));
            }
            return Ok(Some(batch));
        }
    }
}

/// Takes what is left of a result into memory, after `first`; false when it is more than may be held.
fn take_rest(
    work: &Work,
    result: &mut Live<'_>,
    export: &Export,
    first: RecordBatch,
) -> Result<(Vec<RecordBatch>, bool)> {
    let bytes_max = usize::try_from(work.engine.query.result_bytes_max.as_u64()).unwrap_or(usize::MAX);
    let mut bytes = first.get_array_memory_size();
    let mut rest = vec![first];
    while bytes <= bytes_max {
        let Some(batch) = next_batch(work, result, export)? else { return Ok((rest, true)) };
        bytes += batch.get_array_memory_size();
        rest.push(batch);
    }
    Ok((rest, false))
}
