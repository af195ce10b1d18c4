//! The functions that take a TIMESTAMPTZ apart: `year` and its like, `date_part`, `last_day`, `monthname`, `dayname`.

use duckdb_neo::bind_arguments::BindArguments;
use duckdb_neo::connection::Context;
use duckdb_neo::data_chunk::VectorCollection;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::scalar::{ScalarBindCallbacks, ScalarCallbacks, ScalarFunctionBuilder, ScalarResolveTypesCallbacks};
use duckdb_neo::signature::{FunctionParameter, SignatureBuilder};
use duckdb_neo::types::{Any, DateValue, List, Struct, TimestampTzValue};
use duckdb_neo::vector::{Unknown, Vector};
use duckdb_neo::{DuckDBType, Parameters, QueryParameter, Result};

use super::calendar::{Calendar, is_finite, split};
use super::civil::{Date, MILLIS_PER_DAY, iso_weekday, month_length};
use super::failure;
use super::format::{month_name, weekday_name};
use super::function::{Inputs, Instant, PartName, Registry, Session, flatten};
use super::part::{ACCESSORS, Part};

/// Registers the functions of this file.
pub(super) fn register(registry: &Registry<'_>) -> Result<()> {
    for (name, part) in ACCESSORS {
        if part.is_fraction() {
            registry.add::<(Instant,), f64, _>(name, &["ts"], move |session, (instant,)| {
                Ok(calendar(session, instant).map(|(calendar, micros)| part.fraction(&calendar, micros)))
            })?;
        } else {
            registry.add::<(Instant,), i64, _>(name, &["ts"], move |session, (instant,)| {
                Ok(calendar(session, instant).map(|(calendar, micros)| part.integer(&calendar, micros)))
            })?;
        }
    }
    for name in ["date_part", "datepart"] {
        date_part(registry, name)?;
    }
    registry.add::<(Instant,), DateValue, _>("last_day", &["ts"], |session, (instant,)| {
        calendar(session, instant).map(|(calendar, _)| last_day(calendar)).transpose()
    })?;
    registry.add::<(Instant,), String, _>("monthname", &["ts"], |session, (instant,)| {
        Ok(calendar(session, instant).map(|(calendar, _)| month_name(calendar.date().month).to_owned()))
    })?;
    registry.add::<(Instant,), String, _>("dayname", &["ts"], |session, (instant,)| {
        Ok(calendar(session, instant).map(|(calendar, _)| weekday_name(iso_weekday(calendar.day()) % 7).to_owned()))
    })
}

/// An instant in the session's zone with its microseconds, or `None` if it is infinite.
fn calendar(session: &Session, instant: i64) -> Option<(Calendar, i64)> {
    let (millis, micros) = split(instant);
    is_finite(instant).then(|| (Calendar::new(&session.zone, millis), micros))
}

fn last_day(mut calendar: Calendar) -> Result<DateValue> {
    let date = calendar.date();
    let last = Date { day: month_length(date.year, date.month), ..date };
    calendar.set_local(last.days() * MILLIS_PER_DAY);
    i32::try_from(calendar.local() / MILLIS_PER_DAY).map(DateValue).map_err(|_| failure::out_of_range())
}

fn date_part(registry: &Registry<'_>, name: &str) -> Result<()> {
    let connection = registry.connection();
    let signature = SignatureBuilder::new()
        .param(FunctionParameter::new::<String>("part"))
        .param(FunctionParameter::new::<TimestampTzValue>("ts"))
        .return_type(f64::logical_type(connection)?);
    ScalarFunctionBuilder::new(name, signature, DatePart).with_bind().with_resolve_types().register(connection)?;
    let signature = SignatureBuilder::new()
        .param(FunctionParameter::new::<List<String>>("part_list"))
        .param(FunctionParameter::new::<TimestampTzValue>("ts"))
        .return_type(Any::logical_type(connection)?);
    ScalarFunctionBuilder::new(name, signature, DateParts).with_bind().with_resolve_types().register(connection)
}

/// `date_part(part, instant)`: BIGINT for a constant part that is a whole number, DOUBLE for everything else.
struct DatePart;

impl DatePart {
    /// The part, if it is known before the rows are.
    fn constant(arguments: &BindArguments<'_>) -> Result<Option<Part>> {
        let name = arguments.value(0)?.map(|value| value.get::<String>()).transpose()?.flatten();
        name.map(|name| Part::parse(&name)).transpose()
    }
}

impl ScalarCallbacks for DatePart {
    type BindData = (Session, bool);
    type InitData = ();

    fn exec(
        &self,
        bind_data: Option<&Self::BindData>,
        _init_data: Option<&mut ()>,
        _context: &Context,
        vectors: &mut VectorCollection,
        output: Vector<'_, Unknown>,
    ) -> Result<()> {
        let (session, is_whole) = bind_data.ok_or_else(|| failure::invalid("date_part was not bound"))?;
        let rows = vectors.row_count()?;
        let read =
            |values: Option<(Part, i64)>| values.and_then(|(part, instant)| Some((part, calendar(session, instant)?)));
        if *is_whole {
            let mut output = output.cast::<i64>()?;
            output.set_size(rows)?;
            let mut writer = output.writer()?;
            <(PartName, Instant)>::each(vectors, |index, values| {
                writer.set(index, read(values).map(|(part, (calendar, micros))| part.integer(&calendar, micros)))
            })
        } else {
            let mut output = output.cast::<f64>()?;
            output.set_size(rows)?;
            let mut writer = output.writer()?;
            <(PartName, Instant)>::each(vectors, |index, values| {
                writer.set(index, read(values).map(|(part, (calendar, micros))| part.fraction(&calendar, micros)))
            })
        }
    }
}

impl ScalarBindCallbacks for DatePart {
    fn bind(&self, context: &Context, arguments: BindArguments<'_>) -> Result<Self::BindData> {
        let is_whole = Self::constant(&arguments)?.is_some_and(|part| !part.is_fraction());
        Ok((Session::of(context)?, is_whole))
    }
}

impl ScalarResolveTypesCallbacks for DatePart {
    fn resolve_types(&self, context: &Context, arguments: BindArguments<'_>) -> Result<LogicalType> {
        match Self::constant(&arguments)? {
            Some(part) if !part.is_fraction() => i64::logical_type(context),
            _ => f64::logical_type(context),
        }
    }
}

/// `date_part([part, …], instant)`: a STRUCT of the parts.
struct DateParts;

impl DateParts {
    /// The names as given, and the parts they mean.
    fn constant(arguments: &BindArguments<'_>) -> Result<Vec<(String, Part)>> {
        let list = arguments.value(0)?.map(|value| value.get::<List<String>>()).transpose()?.flatten();
        let list = list.filter(|list| !list.0.is_empty());
        let list = list.ok_or_else(|| failure::invalid("date_part takes a constant list of part names"))?;
        let mut parts: Vec<(String, Part)> = Vec::with_capacity(list.0.len());
        for name in list.0 {
            let name = name.ok_or_else(|| failure::invalid("a part name of date_part is NULL"))?;
            if parts.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                return Err(failure::invalid(format!("date_part has the part \"{name}\" twice")));
            }
            let part = Part::parse(&name)?;
            parts.push((name, part));
        }
        Ok(parts)
    }
}

impl ScalarCallbacks for DateParts {
    type BindData = (Session, Vec<Part>);
    type InitData = ();

    fn exec(
        &self,
        bind_data: Option<&Self::BindData>,
        _init_data: Option<&mut ()>,
        _context: &Context,
        vectors: &mut VectorCollection,
        output: Vector<'_, Unknown>,
    ) -> Result<()> {
        let (session, parts) = bind_data.ok_or_else(|| failure::invalid("date_part was not bound"))?;
        let rows = vectors.row_count()?;
        flatten::<TimestampTzValue>(vectors, 1)?;
        let instants = vectors.get_vector_at::<TimestampTzValue>(1)?.reader()?;
        let read = |row| Ok(instants.get(row)?.and_then(|instant| calendar(session, instant.0)));
        let mut output = output.cast::<Struct>()?;
        output.set_size(rows)?;
        let mut fields = output.children_mut().ok_or_else(|| failure::invalid("date_part has no fields"))?;
        for (index, part) in parts.iter().enumerate() {
            if part.is_fraction() {
                let mut field = fields.get_vector_at_mut::<f64>(index)?;
                field.set_size(rows)?;
                let mut writer = field.writer()?;
                for row in 0..rows {
                    writer.set(row, read(row)?.map(|(calendar, micros)| part.fraction(&calendar, micros)))?;
                }
            } else {
                let mut field = fields.get_vector_at_mut::<i64>(index)?;
                field.set_size(rows)?;
                let mut writer = field.writer()?;
                for row in 0..rows {
                    writer.set(row, read(row)?.map(|(calendar, micros)| part.integer(&calendar, micros)))?;
                }
            }
        }
        for row in 0..rows {
            if instants.get(row)?.is_none() {
                output.set_null_slow(row)?;
            }
        }
        Ok(())
    }
}

impl ScalarBindCallbacks for DateParts {
    fn bind(&self, context: &Context, arguments: BindArguments<'_>) -> Result<Self::BindData> {
        let parts = Self::constant(&arguments)?.into_iter().map(|(_, part)| part).collect();
        Ok((Session::of(context)?, parts))
    }
}

impl ScalarResolveTypesCallbacks for DateParts {
    fn resolve_types(&self, context: &Context, arguments: BindArguments<'_>) -> Result<LogicalType> {
        let parts = Self::constant(&arguments)?;
        let (whole, fraction) = (i64::logical_type(context)?, f64::logical_type(context)?);
        let field = |(name, part): &'_ (String, Part)| -> (String, &LogicalType) {
            (name.clone(), if part.is_fraction() { &fraction } else { &whole })
        };
        let fields: Vec<(String, &LogicalType)> = parts.iter().map(field).collect();
        let fields: Vec<(&str, &dyn QueryParameter)> =
            fields.iter().map(|(name, field)| (name.as_str(), field as &dyn QueryParameter)).collect();
        LogicalType::create_from_id(context, LogicalTypeID::Struct, Parameters::named(&fields))
    }
}
