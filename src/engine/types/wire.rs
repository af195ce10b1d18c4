//! The Arrow type that a column of each DuckDB type has on the wire.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit, UnionFields, UnionMode};
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::types::DecimalSignature;

use super::members;

/// The zone of times with a zone, as long as the session has no other.
pub(super) const UTC: &str = "UTC";

/// The digits of [`DataType::Decimal128`].
pub(super) const DIGITS_MAX: u8 = 38;

/// The Arrow type that a query's column of `logical` has on the wire, in a session whose time zone is UTC and that asked for
/// no extension types; none for a type that only a value decides (an untyped parameter).
pub(in crate::engine) fn arrow_type(logical: &LogicalType) -> Option<DataType> {
    let id = logical.id().ok()?;
    if let Some(scalar) = scalar(id) {
        return Some(scalar);
    }
    if id == LogicalTypeID::Decimal {
        let signature = DecimalSignature::from_logical_type(logical).ok()?;
        return Some(DataType::Decimal128(signature.width, i8::try_from(signature.scale).ok()?));
    }
    let members = members(logical).ok()?;
    match (id, members.as_slice()) {
        (LogicalTypeID::List, [(_, item)]) => Some(DataType::List(child("l", item)?)),
        (LogicalTypeID::Array, [(_, item)]) => {
            let size = logical.get_param(1).ok()?.1.get::<u64>().ok()??;
            Some(DataType::FixedSizeList(child("", item)?, i32::try_from(size).ok()?))
        }
        (LogicalTypeID::Map, [(_, key), (_, value)]) => {
            let key = Field::new("key", arrow_type(key)?, false);
            let entries = DataType::Struct(Fields::from(vec![Arc::new(key), child("value", value)?]));
            Some(DataType::Map(Arc::new(Field::new("entries", entries, false)), false))
        }
        (LogicalTypeID::Struct | LogicalTypeID::Tuple, members) => Some(DataType::Struct(children(members)?)),
        (LogicalTypeID::Union, members) => {
            let fields = UnionFields::try_new(0..i8::try_from(members.len()).ok()?, children(members)?.iter().cloned());
            Some(DataType::Union(fields.ok()?, UnionMode::Sparse))
        }
        _ => None,
    }
}

fn child(name: &str, logical: &LogicalType) -> Option<FieldRef> {
    Some(Arc::new(Field::new(name, arrow_type(logical)?, true)))
}

fn children(members: &[(String, LogicalType)]) -> Option<Fields> {
    members.iter().map(|(name, logical)| child(name, logical)).collect()
}

fn scalar(id: LogicalTypeID) -> Option<DataType> {
    Some(match id {
        LogicalTypeID::SqlNull => DataType::Null,
        LogicalTypeID::Boolean => DataType::Boolean,
        LogicalTypeID::TinyInt => DataType::Int8,
        LogicalTypeID::SmallInt => DataType::Int16,
        LogicalTypeID::Integer => DataType::Int32,
        LogicalTypeID::BigInt => DataType::Int64,
        LogicalTypeID::UTinyInt => DataType::UInt8,
        LogicalTypeID::USmallInt => DataType::UInt16,
        LogicalTypeID::UInteger => DataType::UInt32,
        LogicalTypeID::UBigInt => DataType::UInt64,
        LogicalTypeID::HugeInt => DataType::Decimal128(DIGITS_MAX, 0),
        LogicalTypeID::Float => DataType::Float32,
        LogicalTypeID::Double => DataType::Float64,
        LogicalTypeID::Date => DataType::Date32,
        LogicalTypeID::Time => DataType::Time64(TimeUnit::Microsecond),
        LogicalTypeID::TimeNs => DataType::Time64(TimeUnit::Nanosecond),
        LogicalTypeID::TimestampSec => DataType::Timestamp(TimeUnit::Second, None),
        LogicalTypeID::TimestampMs => DataType::Timestamp(TimeUnit::Millisecond, None),
        LogicalTypeID::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        LogicalTypeID::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        LogicalTypeID::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        LogicalTypeID::TimestampTzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        LogicalTypeID::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        LogicalTypeID::Blob | LogicalTypeID::Geometry => DataType::Binary,
        LogicalTypeID::Varchar
        | LogicalTypeID::Enum
        | LogicalTypeID::Uuid
        | LogicalTypeID::UHugeInt
        | LogicalTypeID::TimeTz
        | LogicalTypeID::Bit
        | LogicalTypeID::BigNum
        | LogicalTypeID::Variant => DataType::Utf8,
        _ => return None,
    })
}
