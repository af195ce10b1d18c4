//! `range` and `generate_series` over TIMESTAMPTZ: as lists, and as table functions of constant arguments.

use std::sync::{Arc, Mutex, PoisonError};

use duckdb_neo::bind_arguments::{BindArgument, BindArguments};
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::{DataChunkRef, VectorCollection};
use duckdb_neo::scalar::{ScalarBindCallbacks, ScalarCallbacks, ScalarFunctionBuilder};
use duckdb_neo::signature::{FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, TableFunctionBuilder, TableFunctionCallbacks,
};
use duckdb_neo::types::{IntervalValue, List, TimestampTzValue};
use duckdb_neo::value::Value;
use duckdb_neo::vector::{Unknown, Vector};
use duckdb_neo::{DuckDBType, FromValue, Result};

use super::arithmetic::add;
use super::calendar::is_finite;
use super::failure;
use super::function::{Inputs, Instant, Interval, Session};
use super::zone::Zone;

/// The most timestamps in the lists of one chunk, a year of seconds: memory that the engine's limit does not see.
const LIST_MAX: usize = 1 << 25;

const NAMES: [(&str, bool); 2] = [("range", false), ("generate_series", true)];

/// Registers the functions for the whole instance.
pub(super) fn register(connection: &Connection) -> Result<()> {
    for (name, inclusive) in NAMES {
        let signature = <(Instant, Instant, Interval)>::declare(SignatureBuilder::new(), &["start", "stop", "step"])
            .return_type(List::<TimestampTzValue>::logical_type(connection)?);
        ScalarFunctionBuilder::new(name, signature, Lists { inclusive }).with_bind().register(connection)?;

        let parameter = |parameter: FunctionParameter| parameter.kind(FunctionParameterKind::PositionalOnly);
        let signature = SignatureBuilder::new()
            .param(parameter(FunctionParameter::new::<TimestampTzValue>("start")))
            .param(parameter(FunctionParameter::new::<TimestampTzValue>("stop")))
            .param(parameter(FunctionParameter::new::<IntervalValue>("step")));
        TableFunctionBuilder::new(name, signature, Table { name, inclusive }).register(connection)?;
    }
    Ok(())
}

/// The instants from a start to a stop, a step apart.
#[derive(Clone, Debug)]
struct Series {
    zone: Arc<Zone>,
    next: Option<i64>,
    stop: i64,
    step: IntervalValue,
    forward: bool,
    inclusive: bool,
}

impl Series {
    fn new(zone: &Arc<Zone>, start: i64, stop: i64, step: IntervalValue, inclusive: bool) -> Result<Self> {
        let forward = step.months > 0 || step.days > 0 || step.micros > 0;
        let backward = step.months < 0 || step.days < 0 || step.micros < 0;
        if !is_finite(start) || !is_finite(stop) {
            return Err(failure::invalid("a series must not begin or end at infinity"));
        }
        if forward && backward {
            return Err(failure::invalid("the step of a series must not mix positive and negative parts"));
        }
        let next = (forward || backward).then_some(start);
        Ok(Self { zone: Arc::clone(zone), next, stop, step, forward, inclusive })
    }

    fn step(&mut self) -> Result<Option<i64>> {
        let Some(current) = self.next else { return Ok(None) };
        let within = if current == self.stop { self.inclusive } else { (current < self.stop) == self.forward };
        if !within {
            self.next = None;
            return Ok(None);
        }
        self.next = Some(add(&self.zone, current, self.step)?);
        Ok(Some(current))
    }
}

struct Lists {
    inclusive: bool,
}

impl ScalarCallbacks for Lists {
    type BindData = Session;
    type InitData = ();

    fn exec(
        &self,
        bind_data: Option<&Session>,
        _init_data: Option<&mut ()>,
        _context: &Context,
        vectors: &mut VectorCollection,
        output: Vector<'_, Unknown>,
    ) -> Result<()> {
        let session = bind_data.ok_or_else(|| failure::invalid("the series was not bound"))?;
        let mut rows: Vec<Option<List<TimestampTzValue>>> = Vec::with_capacity(vectors.row_count()?);
        let mut total = 0_usize;
        <(Instant, Instant, Interval)>::each(vectors, |_, values| {
            let Some((start, stop, step)) = values else {
                rows.push(None);
                return Ok(());
            };
            let nothing = step.months == 0 && step.days == 0 && step.micros == 0;
            let mut list = Vec::new();
            if !nothing {
                let mut series = Series::new(&session.zone, start, stop, step, self.inclusive)?;
                while let Some(instant) = series.step()? {
                    if total >= LIST_MAX {
                        return Err(failure::invalid(format!("a list of more than {LIST_MAX} timestamps is too long")));
                    }
                    total += 1;
                    list.push(Some(TimestampTzValue(instant)));
                }
            }
            rows.push(Some(List(list)));
            Ok(())
        })?;
        let mut output = output.cast::<List<TimestampTzValue>>()?;
        output.set_size(rows.len())?;
        let mut children = output.children_mut().ok_or_else(|| failure::invalid("the series has no elements"))?;
        children.get_untyped_vector_at_mut(0)?.set_size(total)?;
        let mut writer = output.writer()?;
        rows.iter().enumerate().try_for_each(|(index, list)| writer.set_ref(index, list.as_ref()))
    }
}

impl ScalarBindCallbacks for Lists {
    fn bind(&self, context: &Context, _arguments: BindArguments<'_>) -> Result<Session> {
        Session::of(context)
    }
}

struct Table {
    name: &'static str,
    inclusive: bool,
}

impl TableFunctionCallbacks for Table {
    /// `None` if an argument is NULL.
    type BindData = Option<Series>;
    type LocalState = ();
    type GlobalState = Mutex<Option<Series>>;

    fn bind(
        &self,
        context: &Context,
        arguments: Vec<BindArgument>,
        bind_handle: BindFunctionHandle<'_>,
    ) -> Result<Self::BindData> {
        bind_handle.add_result_column(self.name, &TimestampTzValue::logical_type(context)?)?;
        let values: Vec<Option<Value>> = arguments.into_iter().map(|argument| argument.value).collect();
        let [Some(start), Some(stop), Some(step)] = values.as_slice() else {
            return Err(failure::unsupported(format!("the arguments of {} must be constant here", self.name)));
        };
        let values = (get::<TimestampTzValue>(start)?, get::<TimestampTzValue>(stop)?, get::<IntervalValue>(step)?);
        let (Some(start), Some(stop), Some(step)) = values else { return Ok(None) };
        let series = Series::new(&Session::of(context)?.zone, start.0, stop.0, step, self.inclusive)?;
        if series.next.is_none() {
            return Err(failure::invalid("the step of a series must not be zero"));
        }
        Ok(Some(series))
    }

    fn init_global_state(
        &self,
        bind_data: &Self::BindData,
        _context: &Context,
        _column_data: InitColumnData<'_>,
    ) -> Result<(Option<Self::GlobalState>, Option<usize>)> {
        // One thread: each element is computed from the one before.
        Ok((Some(Mutex::new(bind_data.clone())), Some(1)))
    }

    fn exec(
        &self,
        _bind_data: &Self::BindData,
        global_state: Option<&Self::GlobalState>,
        _local_state: Option<&mut ()>,
        _context: &Context,
        mut output: DataChunkRef<'_>,
        _column_info: ExecColumnInfo<'_>,
    ) -> Result<()> {
        let capacity = output.capacity()?;
        let mut rows = Vec::with_capacity(capacity);
        if let Some(state) = global_state {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(instant) = state.as_mut().map(Series::step).transpose()?.flatten() {
                rows.push(TimestampTzValue(instant));
                if rows.len() == capacity {
                    break;
                }
            }
        }
        let mut column = output.get_vector_at_mut::<TimestampTzValue>(0)?;
        column.set_size(rows.len())?;
        let mut writer = column.writer()?;
        rows.iter().enumerate().try_for_each(|(index, instant)| writer.set(index, Some(*instant)))
    }
}

fn get<T: FromValue>(value: &Value) -> Result<Option<T>> {
    if value.is_null()? { Ok(None) } else { value.get::<T>() }
}
