//! `range` and `generate_series` over TIMESTAMPTZ, as lists.
//!
//! Not as table functions: DuckDB's own are of a kind that the C API cannot make, and one overload of the other kind
//! beside them turns every call with a column for an argument into an internal error, which ends the instance.

use std::sync::Arc;

use duckdb_neo::bind_arguments::BindArguments;
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::VectorCollection;
use duckdb_neo::scalar::{ScalarBindCallbacks, ScalarCallbacks, ScalarFunctionBuilder};
use duckdb_neo::signature::SignatureBuilder;
use duckdb_neo::types::{IntervalValue, List, TimestampTzValue};
use duckdb_neo::vector::{Unknown, Vector};
use duckdb_neo::{DuckDBType, Result};

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
    }
    Ok(())
}

/// The instants from a start to an end, a step apart.
#[derive(Debug)]
struct Series {
    zone: Arc<Zone>,
    next: Option<i64>,
    end: i64,
    step: IntervalValue,
    forward: bool,
    inclusive: bool,
}

impl Series {
    fn new(zone: &Arc<Zone>, start: i64, end: i64, step: IntervalValue, inclusive: bool) -> Result<Self> {
        let forward = step.months > 0 || step.days > 0 || step.micros > 0;
        let backward = step.months < 0 || step.days < 0 || step.micros < 0;
        if !is_finite(start) || !is_finite(end) {
            return Err(failure::invalid("a series must not begin or end at infinity"));
        }
        if forward && backward {
            return Err(failure::invalid("the step of a series must not mix positive and negative parts"));
        }
        Ok(Self { zone: Arc::clone(zone), next: Some(start), end, step, forward, inclusive })
    }

    fn step(&mut self) -> Result<Option<i64>> {
        let Some(current) = self.next else { return Ok(None) };
        let within = if current == self.end { self.inclusive } else { (current < self.end) == self.forward };
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
            let Some((start, end, step)) = values else {
                rows.push(None);
                return Ok(());
            };
            let nothing = step.months == 0 && step.days == 0 && step.micros == 0;
            let mut list = Vec::new();
            if !nothing {
                let mut series = Series::new(&session.zone, start, end, step, self.inclusive)?;
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
