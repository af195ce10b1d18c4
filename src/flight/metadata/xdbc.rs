//! GetXdbcTypeInfo: DuckDB's types as ODBC describes them. A type stands where the values of its columns arrive: UUID and
//! ENUM are text. Of BLOB and VARCHAR the names stand that belong to each of ODBC's types for them.

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

use super::cannot_build;
use crate::error::Result;

/// The columns of the answer.
pub(super) fn schema() -> SchemaRef {
    XdbcTypeInfoDataBuilder::new().schema()
}

/// The types, by number and name; of one number only if it is given.
pub(super) fn rows(data_type: Option<i32>) -> Result<RecordBatch> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for info in TYPES.iter() {
        builder.append(info.clone());
    }
    builder.build().and_then(|data| data.record_batch(data_type)).map_err(cannot_build)
}

/// Every type with the fields that say something about it.
static TYPES: LazyLock<Vec<XdbcTypeInfo>> = LazyLock::new(|| {
    let mut types = texts();
    types.extend(numbers());
    types.extend(times());
    // Lists and the like have no number in ODBC.
    types.extend(
        ["STRUCT", "MAP", "UNION", "LIST", "ARRAY", "NULL"]
            .map(|name| XdbcTypeInfo { searchable: Searchable::Basic, ..named(name, XdbcDataType::XdbcUnknownType) }),
    );
    types
});

fn named(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        local_type_name: Some(name.to_owned()),
        data_type,
        sql_data_type: data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        ..XdbcTypeInfo::default()
    }
}

/// A type whose literals stand in quotes.
fn quoted(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: Some(size),
        literal_prefix: Some("'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..named(name, data_type)
    }
}

fn texts() -> Vec<XdbcTypeInfo> {
    use XdbcDataType::{
        XdbcBinary, XdbcChar, XdbcLongvarbinary, XdbcLongvarchar, XdbcVarbinary, XdbcVarchar, XdbcWvarchar,
    };
    let text = |name, data_type| XdbcTypeInfo { case_sensitive: true, ..quoted(name, data_type, i32::MAX) };
    let with_length = |info| XdbcTypeInfo { create_params: Some(vec!["length".to_owned()]), ..info };
    vec![
        with_length(text("CHAR", XdbcChar)),
        with_length(text("VARCHAR", XdbcVarchar)),
        text("TEXT", XdbcLongvarchar),
        text("NVARCHAR", XdbcWvarchar),
        text("JSON", XdbcVarchar),
        text("ENUM", XdbcVarchar),
        quoted("UUID", XdbcVarchar, 36),
        // A string of bits, which is not what ODBC calls a bit.
        quoted("BIT", XdbcVarchar, i32::MAX),
        named("VARIANT", XdbcVarchar),
        quoted("BINARY", XdbcBinary, i32::MAX),
        quoted("VARBINARY", XdbcVarbinary, i32::MAX),
        quoted("BLOB", XdbcLongvarbinary, i32::MAX),
        quoted("GEOMETRY", XdbcLongvarbinary, i32::MAX),
    ]
}

fn numbers() -> Vec<XdbcTypeInfo> {
    use XdbcDataType::{
        XdbcBigint, XdbcBit, XdbcDecimal, XdbcDouble, XdbcInteger, XdbcNumeric, XdbcReal, XdbcSmallint, XdbcTinyint,
        XdbcVarchar,
    };
    let number = |name, data_type, digits, unsigned| XdbcTypeInfo {
        column_size: Some(digits),
        unsigned_attribute: Some(unsigned),
        auto_increment: Some(false),
        minimum_scale: Some(0),
        maximum_scale: Some(0),
        num_prec_radix: Some(10),
        ..named(name, data_type)
    };
    let float = |name, data_type, bits| XdbcTypeInfo {
        minimum_scale: None,
        maximum_scale: None,
        num_prec_radix: Some(2),
        ..number(name, data_type, bits, false)
    };
    let decimal = |name, data_type| XdbcTypeInfo {
        create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
        maximum_scale: Some(38),
        ..number(name, data_type, 38, false)
    };
    vec![
        XdbcTypeInfo { column_size: Some(1), ..named("BOOLEAN", XdbcBit) },
        number("TINYINT", XdbcTinyint, 3, false),
        number("UTINYINT", XdbcTinyint, 3, true),
        number("SMALLINT", XdbcSmallint, 5, false),
        number("USMALLINT", XdbcSmallint, 5, true),
        number("INTEGER", XdbcInteger, 10, false),
        number("UINTEGER", XdbcInteger, 10, true),
        number("BIGINT", XdbcBigint, 19, false),
        number("UBIGINT", XdbcBigint, 20, true),
        number("HUGEINT", XdbcNumeric, 38, false),
        number("UHUGEINT", XdbcNumeric, 38, true),
        XdbcTypeInfo { column_size: None, ..number("BIGNUM", XdbcVarchar, 0, false) },
        decimal("DECIMAL", XdbcDecimal),
        decimal("NUMERIC", XdbcNumeric),
        float("FLOAT", XdbcReal, 24),
        float("DOUBLE", XdbcDouble, 53),
    ]
}

fn times() -> Vec<XdbcTypeInfo> {
    use XdbcDataType::{XdbcDate, XdbcDatetime, XdbcInterval, XdbcTime, XdbcTimestamp};
    use XdbcDatetimeSubcode::{
        XdbcSubcodeTime, XdbcSubcodeTimeWithTimezone, XdbcSubcodeTimestamp, XdbcSubcodeTimestampWithTimezone,
    };
    // The enum has this name for the number that is also a date's.
    let date_code = XdbcDatetimeSubcode::XdbcSubcodeYear;
    let time = |name, data_type, subcode, size, scale| XdbcTypeInfo {
        sql_data_type: XdbcDatetime,
        datetime_subcode: Some(subcode),
        minimum_scale: Some(scale),
        maximum_scale: Some(scale),
        ..quoted(name, data_type, size)
    };
    vec![
        XdbcTypeInfo { minimum_scale: None, maximum_scale: None, ..time("DATE", XdbcDate, date_code, 10, 0) },
        time("TIME", XdbcTime, XdbcSubcodeTime, 15, 6),
        time("TIME_NS", XdbcTime, XdbcSubcodeTime, 18, 9),
        time("TIME WITH TIME ZONE", XdbcTime, XdbcSubcodeTimeWithTimezone, 21, 6),
        time("TIMESTAMP", XdbcTimestamp, XdbcSubcodeTimestamp, 26, 6),
        time("TIMESTAMP_S", XdbcTimestamp, XdbcSubcodeTimestamp, 19, 0),
        time("TIMESTAMP_MS", XdbcTimestamp, XdbcSubcodeTimestamp, 23, 3),
        time("TIMESTAMP_NS", XdbcTimestamp, XdbcSubcodeTimestamp, 29, 9),
        time("TIMESTAMP WITH TIME ZONE", XdbcTimestamp, XdbcSubcodeTimestampWithTimezone, 32, 6),
        // Months, days and microseconds, each with its own sign: none of ODBC's intervals.
        quoted("INTERVAL", XdbcInterval, 64),
    ]
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn types_are_sorted_and_filtered() {
        let all = rows(None).unwrap();
        assert_eq!(all.schema(), schema());
        assert_eq!(all.num_columns(), 19);
        let numbers = all.column(1).as_primitive::<Int32Type>().values();
        assert!(numbers.is_sorted());
        // What ODBC's tools look for.
        for number in [12, 4, -5, 8, 3, 91, 92, 93, -7, -2] {
            assert!(rows(Some(number)).unwrap().num_rows() > 0, "{number}");
        }
        let integers = rows(Some(4)).unwrap();
        let names: Vec<_> = integers.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["INTEGER", "UINTEGER"]);
        assert_eq!(rows(Some(77)).unwrap().num_rows(), 0);
    }
}
