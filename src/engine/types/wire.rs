//! The Arrow type that a column of each DuckDB type has on the wire.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit, UnionFields, UnionMode};
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::types::DecimalSignature;

use super::{EXTENSION_METADATA, EXTENSION_NAME, is_json, members};
use crate::engine::session::Extensions;

/// The zone of times with a zone, as long as the session has no other.
pub(super) const UTC: &str = "UTC";

/// The digits of [`DataType::Decimal128`].
pub(super) const DIGITS_MAX: u8 = 38;

/// What decides the Arrow types of a session's results, besides their DuckDB types.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Wire {
    /// The session's time zone.
    pub(in crate::engine) zone: Arc<str>,
    /// The extension types that it asked for.
    pub(in crate::engine) extensions: Extensions,
}

impl Default for Wire {
    fn default() -> Self {
        Self { zone: UTC.into(), extensions: Extensions::default() }
    }
}

/// The Arrow type that a query's column of `logical` has on the wire, in a session whose time zone is UTC and that asked for
/// no extension types; none for a type that only a value decides (an untyped parameter).
pub(in crate::engine) fn arrow_type(logical: &LogicalType) -> Option<DataType> {
    Wire::default().field("", logical).map(|field| field.data_type().clone())
}

impl Wire {
    /// The field that a query's column of `logical` has on the wire; none for a type that only a value decides.
    pub(in crate::engine) fn field(&self, name: &str, logical: &LogicalType) -> Option<Field> {
        let id = logical.id().ok()?;
        let field = |data_type| Field::new(name, data_type, true);
        Some(match id {
            LogicalTypeID::Uuid if self.extensions.uuid => {
                tagged(field(DataType::FixedSizeBinary(16)), "arrow.uuid", "")
            }
            LogicalTypeID::Varchar if self.extensions.json && is_json(logical) => {
                tagged(field(DataType::Utf8), "arrow.json", "")
            }
            LogicalTypeID::Geometry => tagged(field(DataType::Binary), "geoarrow.wkb", "{}"),
            LogicalTypeID::TimestampTz => field(self.timestamp(TimeUnit::Microsecond)),
            LogicalTypeID::TimestampTzNs => field(self.timestamp(TimeUnit::Nanosecond)),
            _ => field(scalar(id).or_else(|| self.nested(id, logical))?),
        })
    }

    fn timestamp(&self, unit: TimeUnit) -> DataType {
        DataType::Timestamp(unit, Some(Arc::clone(&self.zone)))
    }

    fn nested(&self, id: LogicalTypeID, logical: &LogicalType) -> Option<DataType> {
        if id == LogicalTypeID::Decimal {
            let signature = DecimalSignature::from_logical_type(logical).ok()?;
            return Some(DataType::Decimal128(signature.width, i8::try_from(signature.scale).ok()?));
        }
        let members = members(logical).ok()?;
        match (id, members.as_slice()) {
            (LogicalTypeID::List, [(_, item)]) => Some(DataType::List(self.child("l", item)?)),
            (LogicalTypeID::Array, [(_, item)]) => {
                let size = logical.get_param(1).ok()?.1.get::<u64>().ok()??;
                Some(DataType::FixedSizeList(self.child("", item)?, i32::try_from(size).ok()?))
            }
            (LogicalTypeID::Map, [(_, key), (_, value)]) => {
                let key = self.field("key", key)?.with_nullable(false);
                let entries = DataType::Struct(Fields::from(vec![Arc::new(key), self.child("value", value)?]));
                Some(DataType::Map(Arc::new(Field::new("entries", entries, false)), false))
            }
            (LogicalTypeID::Struct, members) => Some(DataType::Struct(self.children(members)?)),
            // Its members have no names, and DuckDB exports them under these.
            (LogicalTypeID::Tuple, members) => {
                let fields = (1..).zip(members).map(|(at, (_, member))| self.child(&format!("element{at}"), member));
                Some(DataType::Struct(fields.collect::<Option<Fields>>()?))
            }
            (LogicalTypeID::Union, members) => {
                let ids = 0..i8::try_from(members.len()).ok()?;
                let fields = UnionFields::try_new(ids, self.children(members)?.iter().cloned());
                Some(DataType::Union(fields.ok()?, UnionMode::Sparse))
            }
            _ => None,
        }
    }

    fn child(&self, name: &str, logical: &LogicalType) -> Option<FieldRef> {
        Some(Arc::new(self.field(name, logical)?))
    }

    fn children(&self, members: &[(String, LogicalType)]) -> Option<Fields> {
        members.iter().map(|(name, logical)| self.child(name, logical)).collect()
    }
}

fn tagged(field: Field, extension: &str, text: &str) -> Field {
    field.with_metadata([
        (EXTENSION_NAME.to_owned(), extension.to_owned()),
        (EXTENSION_METADATA.to_owned(), text.to_owned()),
    ])
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
        LogicalTypeID::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        LogicalTypeID::Blob => DataType::Binary,
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
