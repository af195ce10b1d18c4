//! Casts from and to TIMESTAMPTZ and TIMETZ that go by the session's time zone, in place of DuckDB's, which know UTC.
//!
//! The implicit ones keep DuckDB's own costs, or other calls would begin to resolve to other overloads.

use std::marker::PhantomData;
use std::sync::Arc;

use duckdb_neo::cast::{CastFunctionBuilder, CastFunctionCallbacks, CastMode};
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::types::{
    DateValue, TimeTzValue, TimeValue, TimestampMsValue, TimestampNsValue, TimestampSecValue, TimestampTzNsValue,
    TimestampTzValue, TimestampValue,
};
use duckdb_neo::vector::{OwnedVectorElement, StorageKind, Vector, VectorElement};
use duckdb_neo::{DuckDBType, Result};

use super::calendar::{Calendar, is_finite, split};
use super::civil::{MICROS_PER_DAY, MICROS_PER_MILLI, MICROS_PER_SECOND};
use super::format::infinity;
use super::function::Session;
use super::text::{self, Place};
use super::zone::Zone;
use super::{failure, local, names};

/// What DuckDB charges for reading a DATE or a TIMESTAMP as a TIMESTAMPTZ.
const TO_INSTANT_COST: i64 = 123;
/// Only casts that are written out.
const EXPLICIT: i64 = -1;

/// Registers the casts for the whole instance.
pub(super) fn register(connection: &Connection) -> Result<()> {
    add::<String, _, _>(connection, EXPLICIT, |session, text| {
        instant_of_text(&session.zone, text).map(some(TimestampTzValue))
    })?;
    add::<String, _, _>(connection, EXPLICIT, |session, text| {
        nanos_of_text(&session.zone, text).map(some(TimestampTzNsValue))
    })?;
    add::<String, _, _>(connection, EXPLICIT, |session, text| time_of_text(session, text).map(Some))?;
    from_local(connection)?;
    to_local(connection)?;
    add::<TimestampTzValue, _, _>(connection, EXPLICIT, |session, cell| Ok(Some(to_text(&session.zone, cell.0, 0))))?;
    add::<TimestampTzNsValue, _, _>(connection, EXPLICIT, |session, cell| {
        Ok(Some(to_text(&session.zone, local::micros_of_nanos(cell.0), cell.0.rem_euclid(1_000))))
    })
}

fn from_local(connection: &Connection) -> Result<()> {
    let instant = |session: &Session, micros| local::to_instant(&session.zone, micros).map(some(TimestampTzValue));
    add::<TimestampValue, _, _>(connection, TO_INSTANT_COST, move |session, cell| instant(session, cell.0))?;
    add::<TimestampSecValue, _, _>(connection, TO_INSTANT_COST, move |session, cell| {
        instant(session, scale(cell.0, MICROS_PER_SECOND)?)
    })?;
    add::<TimestampMsValue, _, _>(connection, TO_INSTANT_COST, move |session, cell| {
        instant(session, scale(cell.0, MICROS_PER_MILLI)?)
    })?;
    add::<DateValue, _, _>(connection, TO_INSTANT_COST, move |session, cell| {
        instant(session, micros_of_date(cell.0)?)
    })?;
    add::<TimestampNsValue, _, _>(connection, EXPLICIT, move |session, cell| instant(session, unscale(cell.0, 1_000)))?;
    add::<TimestampNsValue, _, _>(connection, EXPLICIT, |session, cell| {
        local::nanos(cell.0, |micros| local::to_instant(&session.zone, micros)).map(some(TimestampTzNsValue))
    })?;
    add::<TimeValue, _, _>(connection, EXPLICIT, |session, cell| {
        let now = Calendar::new(&session.zone, split(session.now).0);
        Ok(Some(TimeTzValue::new(cell.0, local::offset_seconds(&now)?)))
    })
}

fn to_local(connection: &Connection) -> Result<()> {
    let naive = |session: &Session, cell: &TimestampTzValue| local::to_naive(&session.zone, cell.0);
    add::<TimestampTzValue, _, _>(connection, EXPLICIT, move |session, cell| {
        naive(session, cell).map(some(TimestampValue))
    })?;
    add::<TimestampTzValue, _, _>(connection, EXPLICIT, move |session, cell| {
        Ok(Some(TimestampSecValue(unscale(naive(session, cell)?, MICROS_PER_SECOND))))
    })?;
    add::<TimestampTzValue, _, _>(connection, EXPLICIT, move |session, cell| {
        Ok(Some(TimestampMsValue(unscale(naive(session, cell)?, MICROS_PER_MILLI))))
    })?;
    add::<TimestampTzValue, _, _>(connection, EXPLICIT, move |session, cell| {
        local::join_nanos(naive(session, cell)?, 0).map(some(TimestampNsValue))
    })?;
    add::<TimestampTzNsValue, _, _>(connection, EXPLICIT, |session, cell| {
        local::nanos(cell.0, |micros| local::to_naive(&session.zone, micros)).map(some(TimestampNsValue))
    })?;
    add::<TimestampTzValue, _, _>(connection, EXPLICIT, |session, cell| to_date(&session.zone, cell.0).map(Some))?;
    add::<TimestampTzNsValue, _, _>(connection, EXPLICIT, |session, cell| {
        to_date(&session.zone, local::micros_of_nanos(cell.0)).map(Some)
    })?;
    add::<TimestampTzValue, _, _>(connection, EXPLICIT, |session, cell| local::to_offset_time(&session.zone, cell.0))
}

fn some<T>(wrap: impl FnOnce(i64) -> T) -> impl FnOnce(i64) -> Option<T> {
    |value| Some(wrap(value))
}

fn scale(value: i64, unit: i64) -> Result<i64> {
    if is_finite(value) { value.checked_mul(unit).ok_or_else(failure::out_of_range) } else { Ok(value) }
}

/// Rounds half away from zero, as the engine's casts between precisions do.
fn unscale(value: i64, unit: i64) -> i64 {
    if !is_finite(value) {
        return value;
    }
    let halves = value / (unit / 2);
    i64::midpoint(halves, if halves < 0 { -1 } else { 1 })
}

/// The day of an instant; infinities stay infinite.
pub(super) fn to_date(zone: &Arc<Zone>, instant: i64) -> Result<DateValue> {
    if !is_finite(instant) {
        return Ok(DateValue(if instant > 0 { i32::MAX } else { -i32::MAX }));
    }
    let day = Calendar::new(zone, split(instant).0).day();
    i32::try_from(day).map(DateValue).map_err(|_| failure::out_of_range())
}

fn micros_of_date(days: i32) -> Result<i64> {
    match days {
        i32::MAX => Ok(i64::MAX),
        days if days == -i32::MAX => Ok(-i64::MAX),
        days => i64::from(days).checked_mul(MICROS_PER_DAY).ok_or_else(failure::out_of_range),
    }
}

fn instant_of_text(zone: &Arc<Zone>, text: &str) -> Result<i64> {
    let stamp = text::parse(text)?;
    match stamp.place {
        Place::Utc => Ok(stamp.micros),
        Place::Session => local::to_instant(zone, stamp.micros),
        Place::Named(name) => {
            // Without candidates, which would be computed for each row that TRY_CAST drops.
            let zone = names::lookup(name);
            let zone = zone.ok_or_else(|| failure::conversion(format!("unknown time zone '{name}'")))?;
            local::to_instant(&zone, stamp.micros)
        }
    }
}

fn nanos_of_text(zone: &Arc<Zone>, text: &str) -> Result<i64> {
    let instant = instant_of_text(zone, text)?;
    local::join_nanos(instant, text::parse(text)?.nanos)
}

fn time_of_text(session: &Session, text: &str) -> Result<TimeTzValue> {
    let (time, offset) = text::parse_time(text)?;
    let now = || local::offset_seconds(&Calendar::new(&session.zone, split(session.now).0));
    Ok(TimeTzValue::new(time, offset.map_or_else(now, Ok)?))
}

fn to_text(zone: &Arc<Zone>, instant: i64, nanos: i64) -> String {
    if !is_finite(instant) {
        return infinity(instant).to_owned();
    }
    let (millis, micros) = split(instant);
    let calendar = Calendar::new(zone, millis);
    let time = calendar.wall_time() * MICROS_PER_MILLI + micros;
    text::write(calendar.date(), time, nanos, calendar.offset() / 1_000)
}

/// A SQL cast over a Rust function of one row.
struct Cast<I, O, F> {
    body: F,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O, F> CastFunctionCallbacks for Cast<I, O, F>
where
    I: VectorElement + 'static,
    O: OwnedVectorElement + 'static,
    F: for<'v> Fn(&Session, I::Ref<'v>) -> Result<Option<O>> + Send + Sync + 'static,
{
    type InputType = I;
    type OutputType = O;

    fn exec(&self, context: &Context, mode: CastMode, input: Vector<'_, I>, output: Vector<'_, O>) -> Result<()> {
        let (mut input, mut output) = (input, output);
        // A cast has no binding of its own, so the session is read for each chunk.
        let session = Session::of(context)?;
        if input.storage_kind() == StorageKind::Other {
            input.flatten()?;
        }
        output.set_size(input.len())?;
        let reader = input.reader()?;
        let mut writer = output.writer()?;
        let mut refused = None;
        for index in 0..reader.len() {
            let result = match reader.get(index)?.map_or(Ok(None), |cell| (self.body)(&session, cell)) {
                Ok(result) => result,
                Err(error) if mode == CastMode::Try => {
                    refused.get_or_insert(error);
                    None
                }
                Err(error) => return Err(error),
            };
            writer.set_ref(index, result.as_ref())?;
        }
        // TRY_CAST keeps the rows and drops the error; other callers of this mode need to know of it.
        refused.map_or(Ok(()), Err)
    }
}

/// Registers the cast from `I` to `O`.
fn add<I, O, F>(connection: &Connection, cost: i64, body: F) -> Result<()>
where
    I: VectorElement + DuckDBType + 'static,
    O: OwnedVectorElement + DuckDBType + 'static,
    F: for<'v> Fn(&Session, I::Ref<'v>) -> Result<Option<O>> + Send + Sync + 'static,
{
    let (source, target) = (I::logical_type(connection)?, O::logical_type(connection)?);
    let callbacks = Cast::<I, O, F> { body, types: PhantomData };
    CastFunctionBuilder::new(source, target, callbacks).implicit_cast_cost(cost).register(connection)
}
