//! Tests of types out: every DuckDB type, alone and inside of every nested one, by every way to rows and schemas.

use arrow::array::{Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;

use super::*;
use crate::config::Config;
use crate::engine::{Action, Call, Database, Engine, Execution, SessionKey, Settings, Started};
use crate::error::ErrorKind;

fn open() -> Engine {
    let mut config = Config::default();
    config.engine.memory_limit = bytesize::ByteSize::mib(512);
    Engine::open(&config, Database { path: None, temp_directory: None, read_only: false }).unwrap()
}

async fn rows(engine: &Engine, sql: &str, call: &Call) -> Result<RecordBatch> {
    let Started::Rows(mut rows) = engine.query(sql.to_owned(), None, call).await? else { panic!("{sql} is a change") };
    let schema = SchemaRef::clone(rows.schema());
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await {
        batches.push(batch?);
    }
    Ok(concat_batches(&schema, &batches)?)
}

async fn planned(engine: &Engine, sql: &str, call: &Call) -> SchemaRef {
    match engine.plan(sql.to_owned(), call).await.unwrap().action {
        Action::Read(schema) | Action::ChangeWithRows(Some(schema)) => schema,
        other => panic!("{sql} is {other:?}"),
    }
}

fn shown(batch: &RecordBatch, column: usize, row: usize) -> String {
    let options = FormatOptions::new().with_null("NULL");
    ArrayFormatter::try_new(batch.column(column), &options).unwrap().value(row).to_string()
}

/// Expressions of all types whose Arrow text is not DuckDB's, or that need a conversion: the wire type and the text.
const VALUES: &[(&str, &str, &str)] = &[
    ("true", "Boolean", "true"),
    (
        "(-99999999999999999999999999999999999999)::HUGEINT",
        "Decimal128(38, 0)",
        "-99999999999999999999999999999999999999",
    ),
    ("170141183460469231731687303715884105728::UHUGEINT", "Utf8", "170141183460469231731687303715884105728"),
    ("340282366920938463463374607431768211455::UHUGEINT", "Utf8", "340282366920938463463374607431768211455"),
    ("'0'::BIT", "Utf8", "0"),
    ("'010101'::BIT", "Utf8", "010101"),
    ("'1111000011110000101'::BIT", "Utf8", "1111000011110000101"),
    ("'12:34:56.12+05:30'::TIMETZ", "Utf8", "12:34:56.12+05:30"),
    ("'00:00:00-15:59:59'::TIMETZ", "Utf8", "00:00:00-15:59:59"),
    ("'24:00:00+15:59:59'::TIMETZ", "Utf8", "24:00:00+15:59:59"),
    ("'12:00:00+00'::TIMETZ", "Utf8", "12:00:00+00"),
    ("0::BIGNUM", "Utf8", "0"),
    ("(-256)::BIGNUM", "Utf8", "-256"),
    (
        "'123456789012345678901234567890123456789012345678901234567890'::BIGNUM",
        "Utf8",
        "123456789012345678901234567890123456789012345678901234567890",
    ),
    ("{'a': [1, NULL, 'x'::VARIANT]}::VARIANT", "Utf8", "{\"a\":[1,null,\"x\"]}"),
    ("'sad'::ENUM ('happy', 'sad')", "Utf8", "sad"),
    ("'00010203-0405-0607-0809-0a0b0c0d0e0f'::UUID", "Utf8", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    ("'[1]'::JSON", "Utf8", "[1]"),
    ("'2024-02-03 04:05:06+00'::TIMESTAMPTZ", "Timestamp(µs, \"UTC\")", "2024-02-03T04:05:06Z"),
    ("'12:34:56.123456789'::TIME_NS", "Time64(ns)", "12:34:56.123456789"),
    ("INTERVAL '1 month 2 days 3 seconds'", "Interval(MonthDayNano)", "1 mons 2 days 3.000000000 secs"),
    ("1.25::DECIMAL(4, 2)", "Decimal128(4, 2)", "1.25"),
    ("'a\\x00'::BLOB", "Binary", "6100"),
    ("NULL", "Null", "NULL"),
];

#[tokio::test]
async fn every_type_reads_the_same_inside_of_every_other() {
    let engine = open();
    let call = Call::default();
    for (value, data_type, text) in VALUES {
        // Beside a TIMETZ the lossless export is at work.
        for beside in ["1", "'10:00:00+01'::TIMETZ"] {
            let sql = format!(
                "SELECT {value} AS v, [{value}, NULL] AS l, array_value({value}, NULL) AS a, {{'m': {value}}} AS s, \
                 MAP {{1: {value}}} AS m, [{{'m': [{value}]}}] AS d, {beside} AS b FROM range(2)"
            );
            let batch = rows(&engine, &sql, &call).await.unwrap();
            let schema = batch.schema();
            assert_eq!(schema.field(0).data_type().to_string(), *data_type, "{value}");
            assert_eq!(planned(&engine, &sql, &call).await, schema, "{value}");
            let expected = [
                (*text).to_owned(),
                format!("[{text}, NULL]"),
                format!("[{text}, NULL]"),
                format!("{{m: {text}}}"),
                format!("{{1: {text}}}"),
                format!("[{{m: [{text}]}}]"),
            ];
            for (column, expected) in expected.iter().enumerate() {
                assert_eq!(&shown(&batch, column, 1), expected, "{value} in column {column} beside {beside}");
            }
        }
        if *data_type != "Null" {
            let sql = format!("SELECT union_value(m := {value}) AS u");
            let batch = rows(&engine, &sql, &call).await.unwrap();
            assert_eq!(planned(&engine, &sql, &call).await, batch.schema(), "{value}");
            assert_eq!(shown(&batch, 0, 0), format!("{{m={text}}}"), "{value}");
        }
    }
}

#[tokio::test]
async fn every_type_has_one_schema_and_duckdbs_values() {
    let engine = open();
    let call = Call::default();
    let sql = "FROM test_all_types()";
    let batch = rows(&engine, sql, &call).await;
    // Its HUGEINT is the largest.
    let error = batch.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("cast the column to VARCHAR"), "{error}");
    let sql = "SELECT * EXCLUDE (hugeint) FROM test_all_types()";
    let batch = rows(&engine, sql, &call).await.unwrap();
    assert_eq!(batch.num_rows(), 3);
    assert_eq!(planned(&engine, sql, &call).await, batch.schema());
    // The rest differ in how DuckDB and Arrow write them, not in what they are.
    let texts = "SELECT COLUMNS(* EXCLUDE (hugeint))::VARCHAR FROM test_all_types()";
    let texts = rows(&engine, texts, &call).await.unwrap();
    for name in ["uhugeint", "bit", "time_tz", "bignum", "small_enum", "medium_enum", "large_enum", "uuid", "varchar"] {
        assert_eq!(batch.column_by_name(name), texts.column_by_name(name), "{name}");
        assert!(batch.column_by_name(name).is_some(), "{name}");
    }
    let create = "CREATE TABLE everything AS FROM test_all_types()";
    assert!(matches!(engine.execute(create.to_owned(), None, &call).await.unwrap(), Execution::Done(_)));
    let sql = "SELECT * EXCLUDE (hugeint) FROM everything";
    assert_eq!(rows(&engine, sql, &call).await.unwrap(), batch);
    let described = engine.describe("everything".to_owned(), &call).await.unwrap().arrow_schema;
    assert_eq!(planned(&engine, "FROM everything", &call).await, described);
    assert_eq!(*engine.scan("everything".to_owned(), &call).await.unwrap().schema(), described);
    let relations = engine.relations(crate::engine::Filter::default(), None, true, &call).await.unwrap();
    let relation = relations.into_iter().find(|relation| relation.name == "everything").unwrap();
    let fields: Vec<Field> = relation.columns.into_iter().map(|column| column.field).collect();
    assert_eq!(Schema::new(fields), *described);
}

#[tokio::test]
async fn statements_that_change_something_have_the_same_types() {
    let engine = open();
    let call = Call::default();
    let create = "CREATE TABLE t (e ENUM ('a', 'b'), u UHUGEINT, z TIMETZ, o BOOLEAN)";
    engine.execute(create.to_owned(), None, &call).await.unwrap();
    let insert = "INSERT INTO t VALUES ('b', 340282366920938463463374607431768211455, '01:00:00+02', true) RETURNING *";
    let schema = planned(&engine, insert, &call).await;
    let Execution::Done(executed) = engine.execute(insert.to_owned(), None, &call).await.unwrap() else { panic!() };
    assert_eq!(executed.schema, schema);
    let shown: Vec<String> = (0..4).map(|column| shown(&executed.batches[0], column, 0)).collect();
    assert_eq!(shown, ["b", "340282366920938463463374607431768211455", "01:00:00+02", "true"]);
    // Its columns are known only when it runs.
    let pivot = "PIVOT t ON e USING first(z), first(u), bool_and(o)";
    let Execution::Done(executed) = engine.execute(pivot.to_owned(), None, &call).await.unwrap() else { panic!() };
    let texts: Vec<String> = executed.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert!(texts.iter().all(|data_type| data_type == "Utf8" || data_type == "Boolean"), "{texts:?}");
    // The setting did not stay.
    assert_eq!(
        rows(&engine, "SELECT o FROM t", &call).await.unwrap().schema().field(0).data_type().to_string(),
        "Boolean"
    );
}

#[tokio::test]
async fn a_session_chooses_its_zone_and_extension_types() {
    let engine = open();
    let call = Call { session: Some(SessionKey::from("types")), ..Call::default() };
    let settings = Settings {
        time_zone: Some("Asia/Tokyo".to_owned()),
        extensions: Extensions { json: true, uuid: true },
        ..Settings::default()
    };
    engine.change_settings(&call, settings).await.unwrap();
    for beside in ["1", "'10:00:00+01'::TIMETZ"] {
        let sql = format!(
            "SELECT '[1]'::JSON AS j, ['00010203-0405-0607-0809-0a0b0c0d0e0f'::UUID, NULL] AS u, \
             '2024-02-03 04:05:06+00'::TIMESTAMPTZ AS t, ['x'] AS x, {beside} AS b"
        );
        let batch = rows(&engine, &sql, &call).await.unwrap();
        let schema = batch.schema();
        assert_eq!(planned(&engine, &sql, &call).await, schema);
        assert_eq!(schema.field(0).extension_type_name(), Some("arrow.json"));
        let DataType::List(item) = schema.field(1).data_type() else { panic!("{schema}") };
        assert_eq!(item.extension_type_name(), Some("arrow.uuid"));
        assert_eq!(shown(&batch, 1, 0), "[000102030405060708090a0b0c0d0e0f, NULL]");
        assert_eq!(schema.field(2).data_type().to_string(), "Timestamp(µs, \"Asia/Tokyo\")");
    }
}

#[tokio::test]
async fn infinite_times_and_special_numbers_are_no_trouble() {
    let engine = open();
    let sql = "SELECT unnest(['infinity'::DATE, '-infinity', NULL]) AS d, unnest(['infinity'::TIMESTAMP, '-infinity']) AS t, \
               unnest(['infinity'::TIMESTAMPTZ, '-infinity']) AS z, unnest(['nan'::DOUBLE, 'inf'])::VARIANT AS v";
    let batch = rows(&engine, sql, &Call::default()).await.unwrap();
    assert_eq!(batch.num_rows(), 3);
    let days = cast(batch.column(0), &DataType::Int32).unwrap();
    assert_eq!(days.to_data().buffers()[0].typed_data::<i32>()[..2], [i32::MAX, -i32::MAX]);
    for sql in ["SELECT 'infinity'::DATE::VARIANT", "SELECT 'infinity'::TIMESTAMP::VARIANT"] {
        if let Err(error) = rows(&engine, sql, &Call::default()).await {
            assert!(error.message().contains("cast it to VARCHAR"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_union_keeps_its_members() {
    let engine = open();
    let sql = "SELECT u FROM (VALUES (union_value(n := 1::UHUGEINT)::UNION (n UHUGEINT, s ENUM ('a'))), \
               (union_value(s := 'a')), (NULL)) t(u)";
    let batch = rows(&engine, sql, &Call::default()).await.unwrap();
    assert_eq!(planned(&engine, sql, &Call::default()).await, batch.schema());
    assert_eq!(shown(&batch, 0, 0), "{n=1}");
    assert_eq!(shown(&batch, 0, 1), "{s=a}");
}
