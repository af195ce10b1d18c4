//! The DuckDB type that a parameter has by the type of its Arrow column: the one that an ingest of the column would store.

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use duckdb_neo::Parameters;
use duckdb_neo::connection::{Connection, FFILink};
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::types::{DecimalSignature, MAX_DECIMAL_WIDTH};

use crate::error::{Error, Result};

/// Arrow's extension types that mean a DuckDB type; the storage of any other is taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    Json,
    Uuid,
    Bool8,
}

impl Extension {
    /// The extension type of `field`, if DuckDB has it.
    pub(super) fn of(field: &Field) -> Result<Option<Self>> {
        let (name, extension, fits) = match (field.extension_type_name(), field.data_type()) {
            (Some(name @ "arrow.json"), storage) => (name, Self::Json, storage.is_string()),
            (Some(name @ "arrow.uuid"), storage) => (name, Self::Uuid, *storage == DataType::FixedSizeBinary(16)),
            (Some(name @ "arrow.bool8"), storage) => (name, Self::Bool8, *storage == DataType::Int8),
            _ => return Ok(None),
        };
        if fits { Ok(Some(extension)) } else { Err(Error::invalid(format!("{name} cannot be {}", field.data_type()))) }
    }

    pub(super) fn logical_type(self, link: &Connection) -> Result<LogicalType> {
        Ok(match self {
            Self::Json => LogicalType::from_text(link, "JSON")?,
            Self::Uuid => simple(link, LogicalTypeID::Uuid)?,
            Self::Bool8 => simple(link, LogicalTypeID::Boolean)?,
        })
    }
}

fn simple(link: &Connection, id: LogicalTypeID) -> Result<LogicalType> {
    Ok(link.logical_type_create_from_id(id, Parameters::None)?)
}

/// The DuckDB type of values of `field`.
pub(super) fn logical_type(link: &Connection, field: &Field) -> Result<LogicalType> {
    if let Some(extension) = Extension::of(field)? {
        return extension.logical_type(link);
    }
    match field.data_type() {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Ok(decimal(*precision, *scale)?.logical_type(link)?),
        DataType::Dictionary(_, values) => logical_type(link, &Field::new("", values.as_ref().clone(), true)),
        DataType::RunEndEncoded(_, values) => logical_type(link, values),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            Ok(link.logical_type_create("LIST", Parameters::positional(&[&logical_type(link, item)?]))?)
        }
        DataType::FixedSizeList(item, size) => {
            let size = u64::try_from(*size).unwrap_or_default();
            Ok(link.logical_type_create("ARRAY", Parameters::positional(&[&logical_type(link, item)?, &size]))?)
        }
        DataType::Struct(fields) => {
            let types = fields.iter().map(|field| logical_type(link, field)).collect::<Result<Vec<_>>>()?;
            // The crate does not export the trait that the cast is to.
            let named: Vec<_> =
                fields.iter().zip(&types).map(|(field, member)| (field.name().as_str(), member as _)).collect();
            Ok(link.logical_type_create("STRUCT", Parameters::named(&named))?)
        }
        DataType::Map(entries, _) => {
            let (key, item) = map_fields(entries)?;
            let (key, item) = (logical_type(link, key)?, logical_type(link, item)?);
            Ok(link.logical_type_create("MAP", Parameters::positional(&[&key, &item]))?)
        }
        // It has no id that the crate would take.
        DataType::Null => Ok(LogicalType::from_text(link, "\"NULL\"")?),
        other => simple(link, scalar_id(other)?),
    }
}

fn scalar_id(data_type: &DataType) -> Result<LogicalTypeID> {
    Ok(match data_type {
        DataType::Boolean => LogicalTypeID::Boolean,
        DataType::Int8 => LogicalTypeID::TinyInt,
        DataType::Int16 => LogicalTypeID::SmallInt,
        DataType::Int32 => LogicalTypeID::Integer,
        DataType::Int64 => LogicalTypeID::BigInt,
        DataType::UInt8 => LogicalTypeID::UTinyInt,
        DataType::UInt16 => LogicalTypeID::USmallInt,
        DataType::UInt32 => LogicalTypeID::UInteger,
        DataType::UInt64 => LogicalTypeID::UBigInt,
        DataType::Float16 | DataType::Float32 => LogicalTypeID::Float,
        DataType::Float64 => LogicalTypeID::Double,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => LogicalTypeID::Varchar,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            LogicalTypeID::Blob
        }
        DataType::Date32 | DataType::Date64 => LogicalTypeID::Date,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => LogicalTypeID::Time,
        DataType::Time64(_) => LogicalTypeID::TimeNs,
        DataType::Timestamp(TimeUnit::Second, None) => LogicalTypeID::TimestampSec,
        DataType::Timestamp(TimeUnit::Millisecond, None) => LogicalTypeID::TimestampMs,
        DataType::Timestamp(TimeUnit::Microsecond, None) => LogicalTypeID::Timestamp,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => LogicalTypeID::TimestampNs,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => LogicalTypeID::TimestampTzNs,
        DataType::Timestamp(_, Some(_)) => LogicalTypeID::TimestampTz,
        DataType::Duration(_)
        | DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => {
            LogicalTypeID::Interval
        }
        other => return Err(Error::invalid(format!("a value cannot be {other}"))),
    })
}

/// DuckDB's decimal for an Arrow one. Neither a negative scale nor one above the precision has a name in DuckDB; the same
/// values fit a wider decimal. 256 bits may hold 38 digits: each value is checked.
pub(super) fn decimal(precision: u8, scale: i8) -> Result<DecimalSignature> {
    let (width, scale) = match u8::try_from(scale) {
        Ok(places) => (precision.max(places), places),
        Err(_) => (precision.saturating_add(scale.unsigned_abs()), 0),
    };
    if scale > MAX_DECIMAL_WIDTH {
        return Err(Error::invalid(format!("DuckDB's decimals have {MAX_DECIMAL_WIDTH} digits at most")));
    }
    Ok(DecimalSignature { width: width.min(MAX_DECIMAL_WIDTH), scale })
}

/// The fields of a map's keys and values.
pub(super) fn map_fields(entries: &Field) -> Result<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.iter().as_slice() {
            [key, item] => Ok((key, item)),
            _ => Err(Error::invalid("a map has keys and values")),
        },
        _ => Err(Error::invalid("a map has keys and values")),
    }
}
