//! Tests of parameter values: what DuckDB says of parameters, and what it makes of values.

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Decimal128Array, Decimal256Array, DurationNanosecondArray, FixedSizeBinaryArray, Int32Array,
    NullArray, StringArray, Time64MicrosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{Schema, i256};
use duckdb_neo::environment::{Environment, StorageLocation};
use proptest::prelude::*;

use super::*;
use crate::engine::buffer::BatchSize;
use crate::engine::live::Live;
use crate::engine::types::arbitrary;
use crate::engine::{ffi, statement};
use crate::error::ErrorKind;

fn connect() -> Connection {
    Environment::new().unwrap().open(StorageLocation::InMemory).unwrap().connect().unwrap()
}

fn one(field: Field, array: ArrayRef) -> RecordBatch {
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
}

/// Runs `sql` with the values of a row.
fn run(connection: &Connection, sql: &str, batch: &RecordBatch, at: usize) -> Result<Option<RecordBatch>> {
    let statement = statement::single(connection, sql)?;
    let values = row(connection, batch, at)?;
    let values = Values { names: &names(&statement)?, values: &values };
    let mut result = Live::start(connection, &statement, values, BatchSize { rows: 2048, bytes: 1 << 20 })?;
    let schema = ffi::schema_from(result.schema()?)?;
    Ok(result.next_array()?.map(|array| ffi::batch_from(array, &schema)).transpose()?)
}

fn text(connection: &Connection, sql: &str, batch: &RecordBatch) -> String {
    let answer = run(connection, sql, batch, 0).unwrap().unwrap();
    let column = cast(answer.column(0), &DataType::Utf8).unwrap();
    if column.is_valid(0) { column.as_string::<i32>().value(0).to_owned() } else { String::new() }
}

#[test]
fn the_statement_decides_types_that_it_can() {
    let connection = connect();
    connection.execute("CREATE TABLE t (i INT, d DATE, n DECIMAL(10, 2))", Parameters::None).unwrap();
    let declared = |sql: &str| {
        let statement = statement::single(&connection, sql).unwrap();
        declared(&connection, &statement).unwrap()
    };
    let named = |name: &str, data_type| (name.to_owned(), data_type);
    assert_eq!(declared("SELECT ?"), [named("1", None)]);
    assert_eq!(declared("SELECT [?]"), [named("1", None)]);
    assert_eq!(declared("SELECT $1::DATE"), [named("1", Some(DataType::Date32))]);
    assert_eq!(declared("FROM t WHERE i = ?"), [named("1", Some(DataType::Int32))]);
    assert_eq!(
        declared("FROM t WHERE d > $from AND n < $most"),
        [named("from", Some(DataType::Date32)), named("most", Some(DataType::Decimal128(10, 2)))]
    );
    assert_eq!(
        declared("INSERT INTO t VALUES ($2, $1, $3)"),
        [
            named("1", Some(DataType::Date32)),
            named("2", Some(DataType::Int32)),
            named("3", Some(DataType::Decimal128(10, 2)))
        ]
    );
    assert_eq!(declared("FROM t LIMIT ?"), [named("1", Some(DataType::Int64))]);
}

#[test]
fn text_is_as_good_as_a_literal() {
    let connection = connect();
    connection.execute("CREATE TABLE t (i INT, d DATE, n DECIMAL(10, 2))", Parameters::None).unwrap();
    connection.execute("INSERT INTO t VALUES (42, '2024-02-03', 1.50)", Parameters::None).unwrap();
    let given = |text: &str| one(Field::new("p", DataType::Utf8, true), Arc::new(StringArray::from(vec![text])));
    for (sql, value) in [
        ("SELECT count(*) FROM t WHERE i = ?", "42"),
        ("SELECT count(*) FROM t WHERE i > ?", "5"),
        ("SELECT count(*) FROM t WHERE d = $day", "2024-02-03"),
        ("SELECT count(*) FROM t WHERE n = ?", "1.5"),
        ("SELECT count(*) FROM t WHERE i IN (?)", "42"),
        ("SELECT count(*) FROM (FROM t LIMIT ?)", "1"),
    ] {
        assert_eq!(text(&connection, sql, &given(value)), "1", "{sql}");
    }
    for (sql, value, reason) in [
        ("FROM t WHERE i = ?", "4x", "Could not convert string '4x'"),
        ("FROM t WHERE d = ?", "soon", "invalid date field format: \"soon\""),
        ("INSERT INTO t (n) VALUES (?)", "much", "Could not convert string \"much\" to DECIMAL(10,2)"),
        ("SELECT ? + 1", "5", "please add explicit type casts"),
    ] {
        let error = run(&connection, sql, &given(value), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(reason), "{sql}: {error}");
    }
}

#[test]
fn a_value_is_not_cast_to_the_declared_type() {
    let connection = connect();
    let given: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![42.5]));
    let batch = one(Field::new("p", DataType::Float64, true), given);
    // Declared INTEGER, the value would be 42 or 43.
    assert_eq!(text(&connection, "SELECT (42 < ?) AND (43 > $1)", &batch), "true");
}

#[test]
fn values_have_their_own_types() {
    let connection = connect();
    let tagged = |data_type, name: &str| {
        Field::new("p", data_type, true).with_metadata([("ARROW:extension:name".to_owned(), name.to_owned())])
    };
    let plain = |array: &ArrayRef| Field::new("p", array.data_type().clone(), true);
    let uuid = FixedSizeBinaryArray::try_from_iter([(0..16).collect::<Vec<u8>>()].into_iter()).unwrap();
    let decimal = |digits, scale| {
        Arc::new(Decimal128Array::from(vec![-123]).with_precision_and_scale(digits, scale).unwrap()) as ArrayRef
    };
    let json: ArrayRef = Arc::new(StringArray::from(vec!["[1]"]));
    let wide = Decimal256Array::from(vec![i256::from_i128(10_i128.pow(38) - 1)]);
    let wide: ArrayRef = Arc::new(wide.with_precision_and_scale(76, 2).unwrap());
    let flag: ArrayRef = Arc::new(arrow::array::Int8Array::from(vec![2]));
    let (thousands, hundredths) = (decimal(3, -3), decimal(3, 2));
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let nothing: ArrayRef = Arc::new(NullArray::new(1));
    for (field, array, expected) in [
        (
            tagged(DataType::FixedSizeBinary(16), "arrow.uuid"),
            Arc::new(uuid) as ArrayRef,
            "UUID 00010203-0405-0607-0809-0a0b0c0d0e0f",
        ),
        (tagged(DataType::Utf8, "arrow.json"), json, "JSON [1]"),
        (tagged(DataType::Int8, "arrow.bool8"), flag, "BOOLEAN true"),
        (plain(&thousands), thousands, "DECIMAL(6,0) -123000"),
        (plain(&hundredths), hundredths, "DECIMAL(3,2) -1.23"),
        (plain(&wide), wide, "DECIMAL(38,2) 999999999999999999999999999999999999.99"),
        (plain(&unsigned), unsigned, "UBIGINT 18446744073709551615"),
        (plain(&nothing), nothing, "\"NULL\" -"),
    ] {
        let batch = one(field, array);
        assert_eq!(text(&connection, "SELECT typeof($1) || ' ' || coalesce($1::VARCHAR, '-')", &batch), expected);
    }
}

#[test]
fn nulls_are_typed() {
    let connection = connect();
    let batch = one(Field::new("p", DataType::Int32, true), Arc::new(Int32Array::from(vec![None])));
    assert_eq!(text(&connection, "SELECT typeof(?)", &batch), "INTEGER");
}

#[test]
fn what_cannot_be_a_value_is_named() {
    let connection = connect();
    let wide = Decimal256Array::from(vec![i256::MAX]);
    let arrays: [(ArrayRef, &str); 4] = [
        (Arc::new(wide), "is out of range"),
        (Arc::new(DurationNanosecondArray::from(vec![1500])), "whole microseconds, and 1500 nanoseconds are none"),
        (Arc::new(Time64MicrosecondArray::from(vec![-1])), "-1 microseconds are no time of day"),
        (Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(38, -38).unwrap()), "is out of range"),
    ];
    for (array, reason) in arrays {
        let good: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("0", good), ("limit", array)]).unwrap();
        let error = row(&connection, &batch, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().starts_with("parameter 2 (limit): ") && error.message().contains(reason), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_value_comes_back(data_type in arbitrary::data_type(), seed in any::<u64>()) {
        let connection = connect();
        let array = arbitrary::array(&data_type, 4, &mut arbitrary::Random::new(seed));
        let batch = one(Field::new("p", data_type, true), Arc::clone(&array));
        for at in 0..batch.num_rows() {
            let answer = run(&connection, "SELECT ?", &batch, at).unwrap().unwrap();
            let expected = cast(&array.slice(at, 1), answer.column(0).data_type()).unwrap();
            prop_assert_eq!(answer.column(0), &expected);
        }
    }
}
