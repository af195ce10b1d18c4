//! Whole batches: every type of the contract in its column, nulls, slices, folding, and the reports.

use arrow::array::{
    AsArray, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, ListArray,
    NullArray, RunArray, StringArray, StructArray, TimestampMicrosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{Fields, Int64Type, TimeUnit, TimestampMicrosecondType};

use super::*;
use crate::error::ErrorKind;

type Columns = Vec<(&'static str, ArrayRef)>;

fn text(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn batch(columns: Columns) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// Two events, with `columns` in place of the plain ones, or beside them.
fn events(columns: Columns) -> RecordBatch {
    let mut all: Columns = vec![
        ("insert_id", text(&[Some("i1"), Some("i2")])),
        ("event_time", Arc::new(TimestampMicrosecondArray::from(vec![1, 2]))),
        ("event_name", text(&[Some("a"), Some("b")])),
        ("distinct_id", text(&[Some("d1"), Some("d2")])),
    ];
    for (name, array) in columns {
        match all.iter_mut().find(|(other, _)| *other == name) {
            Some(column) => column.1 = array,
            None => all.push((name, array)),
        }
    }
    batch(all)
}

fn run(kind: Kind, batch: &RecordBatch, extra: Extra) -> Result<RecordBatch> {
    let plan = Coercer::new(kind, &batch.schema(), extra, Limits::default())?;
    let coerced = plan.coerce(batch, 101)?;
    assert_eq!(&coerced.schema(), plan.schema());
    Ok(coerced)
}

fn strings(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let array = cast(batch.column_by_name(column).unwrap(), &DataType::Utf8).unwrap();
    array.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
}

/// `array` as `column` of two events becomes `expected`, as text; so does its second row alone.
fn check(column: &'static str, array: ArrayRef, expected: [Option<&str>; 2]) {
    let batch = events(vec![(column, array)]);
    let coerced = run(Kind::Events, &batch, Extra::Refuse).unwrap();
    assert_eq!(coerced.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), NAMES);
    let expected = expected.map(|value| value.map(str::to_owned));
    assert_eq!(strings(&coerced, column), expected);
    assert_eq!(strings(&run(Kind::Events, &batch.slice(1, 1), Extra::Refuse).unwrap(), column), expected[1..]);
    assert_eq!(run(Kind::Events, &batch.slice(1, 0), Extra::Refuse).unwrap().num_rows(), 0);
}

const NAMES: [&str; 5] = ["event_name", "event_time", "distinct_id", "insert_id", "properties"];

fn check_error(batch: &RecordBatch, extra: Extra, message: &str) {
    let error = run(Kind::Events, batch, extra).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, message));
}

#[test]
fn what_fits_is_passed_on_without_a_copy() {
    let batch = events(vec![("properties", text(&[Some(" {\"b\":1.0,\"a\":\"\\u00e9\"} "), None]))]);
    let coerced = run(Kind::Events, &batch, Extra::Refuse).unwrap();
    for name in ["event_name", "distinct_id", "insert_id", "properties"] {
        assert!(Arc::ptr_eq(coerced.column_by_name(name).unwrap(), batch.column_by_name(name).unwrap()), "{name}");
    }
    let fields = coerced
        .schema()
        .fields()
        .iter()
        .map(|field| (field.data_type().clone(), field.is_nullable()))
        .collect::<Vec<_>>();
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let utf8 = DataType::Utf8;
    assert_eq!(
        fields,
        [(utf8.clone(), false), (time, false), (utf8.clone(), false), (utf8.clone(), false), (utf8, true)]
    );
}

#[test]
fn strings_of_every_type() {
    let values = text(&[Some("x"), Some("a string longer than a view holds")]);
    let expected = [Some("x"), Some("a string longer than a view holds")];
    for column in ["event_name", "distinct_id", "insert_id"] {
        for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
            let values = cast(&values, &data_type).unwrap();
            check(column, Arc::clone(&values), expected);
            let keys = Int8Array::from(vec![0, 1]);
            check(column, Arc::new(DictionaryArray::new(keys, Arc::clone(&values))), expected);
            let ends = arrow::array::PrimitiveArray::<Int64Type>::from(vec![1, 2]);
            check(column, Arc::new(RunArray::<Int64Type>::try_new(&ends, &values).unwrap()), expected);
        }
    }
}

#[test]
fn ids_may_be_integers() {
    for column in ["distinct_id", "insert_id"] {
        check(column, Arc::new(Int64Array::from(vec![i64::MIN, 5])), [Some("-9223372036854775808"), Some("5")]);
        check(column, Arc::new(UInt64Array::from(vec![u64::MAX, 5])), [Some("18446744073709551615"), Some("5")]);
        let values = Arc::new(Int32Array::from(vec![5, 6]));
        check(column, Arc::new(DictionaryArray::new(Int8Array::from(vec![1, 1]), values)), [Some("6"), Some("6")]);
    }
    check_error(
        &events(vec![("event_name", Arc::new(Int64Array::from(vec![1, 2])))]),
        Extra::Refuse,
        "column \"event_name\" cannot be Int64; accepted are strings",
    );
}

#[test]
fn times_of_every_type() {
    let expected = [Some("2024-03-01T12:00:00"), Some("1970-01-01T00:00:00.250")];
    let micros = vec![1_709_294_400_000_000, 250_000];
    check("event_time", Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("Asia/Tokyo")), expected);
    check("event_time", Arc::new(Float64Array::from(vec![1_709_294_400.0, 0.25])), expected);
    let texts = text(&[Some("2024-03-01 14:00:00+02:00"), Some("1970-01-01T00:00:00.25")]);
    check("event_time", Arc::clone(&texts), expected);
    check("event_time", cast(&texts, &DataType::Utf8View).unwrap(), expected);
    check("event_time", Arc::new(DictionaryArray::new(Int8Array::from(vec![0, 1]), texts)), expected);
    check(
        "event_time",
        Arc::new(TimestampSecondArray::from(vec![1_709_294_400, 0])),
        [expected[0], Some("1970-01-01T00:00:00")],
    );
    for (array, shown) in [
        (Arc::new(BooleanArray::from(vec![true, true])) as ArrayRef, "Boolean"),
        (Arc::new(Float32Array::from(vec![1.0, 1.0])), "Float32"),
    ] {
        let message = format!(
            "column \"event_time\" cannot be {shown}; accepted are timestamps, dates, ISO 8601 strings, and epochs as \
             integers or Float64"
        );
        check_error(&events(vec![("event_time", array)]), Extra::Refuse, &message);
    }
}

fn country(values: [Option<&str>; 2], nulls: Option<Vec<bool>>) -> StructArray {
    let fields = Fields::from(vec![Field::new("country", DataType::Utf8, true)]);
    StructArray::new(fields, vec![text(&values)], nulls.map(Into::into))
}

#[test]
fn properties_of_every_type() {
    let raw = [Some("{\"b\" : 1.50, \"a\":\"\\u00e9\\u0000\"}"), Some("[1e999]")];
    for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        let values = cast(&text(&raw), &data_type).unwrap();
        check("properties", Arc::clone(&values), raw);
        check("properties", Arc::new(DictionaryArray::new(Int8Array::from(vec![0, 1]), values)), raw);
    }
    let structs: ArrayRef = Arc::new(country([Some("é"), None], None));
    check("properties", Arc::clone(&structs), [Some("{\"country\":\"é\"}"), Some("{}")]);
    let keys = Int8Array::from(vec![None, Some(0)]);
    check("properties", Arc::new(DictionaryArray::new(keys, structs)), [None, Some("{\"country\":\"é\"}")]);
    check(
        "properties",
        Arc::new(country([Some("x"), Some("y")], Some(vec![false, true]))),
        [None, Some("{\"country\":\"y\"}")],
    );
    check("properties", Arc::new(NullArray::new(2)), [None, None]);
    check_error(
        &events(vec![("properties", Arc::new(Int64Array::from(vec![1, 2])))]),
        Extra::Refuse,
        "column \"properties\" cannot be Int64; accepted are JSON text, structs, maps and lists",
    );
}

#[test]
fn nullable_columns_may_be_absent() {
    let coerced =
        run(Kind::Profiles, &batch(vec![("Distinct_ID", text(&[Some("a"), Some("b")]))]), Extra::Refuse).unwrap();
    assert_eq!(coerced.num_columns(), 3);
    assert_eq!(strings(&coerced, "properties"), [None, None]);
    assert_eq!(coerced.column_by_name("last_seen").unwrap().null_count(), 2);
    let times = text(&[None, Some("2024-01-01")]);
    let profiles = batch(vec![("last_seen", times), ("distinct_id", text(&[Some("a"), Some("b")]))]);
    let coerced = run(Kind::Profiles, &profiles, Extra::Refuse).unwrap();
    let times = coerced.column(2).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.iter().collect::<Vec<_>>(), [None, Some(1_704_067_200_000_000)]);
}

#[test]
fn bad_rows_are_named_with_all_their_columns() {
    check_error(
        &events(vec![
            ("event_time", text(&[Some("yesterday"), None])),
            ("insert_id", text(&[None, Some("i")])),
            ("properties", text(&[None, Some("{\"a\": nope}")])),
        ]),
        Extra::Refuse,
        "2 bad rows, nothing is stored: row 101: event_time: cannot read \"yesterday\" as a time, \
         insert_id: must not be null; row 102: event_time: must not be null, \
         properties: malformed JSON at byte 7 (expected a value)",
    );
    let empty = Arc::new(DictionaryArray::new(Int8Array::from(vec![Some(0), None]), text(&[None])));
    let message =
        "2 bad rows, nothing is stored: row 101: distinct_id: must not be null; row 102: distinct_id: must not be null";
    check_error(&events(vec![("distinct_id", empty)]), Extra::Refuse, message);
    check_error(&events(vec![("distinct_id", Arc::new(NullArray::new(2)))]), Extra::Refuse, message);
}

#[test]
fn many_bad_rows_are_counted() {
    let rows = 1000;
    let names = text(&vec![Some("x"); rows]);
    let batch = batch(vec![
        ("event_name", Arc::clone(&names)),
        ("event_time", Arc::clone(&names)),
        ("distinct_id", Arc::clone(&names)),
        ("insert_id", names),
    ]);
    let error = run(Kind::Events, &batch, Extra::Refuse).unwrap_err();
    assert!(error.message().starts_with("1000 bad rows, nothing is stored: row 101: event_time: cannot"), "{error}");
    assert!(
        error.message().ends_with("row 110: event_time: cannot read \"x\" as a time; and 990 more in this batch"),
        "{error}"
    );
}

/// `properties` of two events with a column `country` beside them become `expected`.
fn check_fold(properties: [Option<&str>; 2], countries: [Option<&str>; 2], expected: [Option<&str>; 2]) {
    let batch = events(vec![("properties", text(&properties)), ("country", text(&countries))]);
    let expected = expected.map(|value| value.map(str::to_owned));
    let coerced = run(Kind::Events, &batch, Extra::FoldIntoProperties).unwrap();
    assert_eq!(strings(&coerced, "properties"), expected);
    let coerced = run(Kind::Events, &batch.slice(1, 1), Extra::FoldIntoProperties).unwrap();
    assert_eq!(strings(&coerced, "properties"), expected[1..]);
}

#[test]
fn extra_columns_join_the_properties() {
    check_fold(
        [Some("{}"), Some(" { } ")],
        [Some("é\""), Some("x")],
        [Some(r#"{"country":"é\""}"#), Some(r#" { "country":"x"} "#)],
    );
    check_fold(
        [Some(r#"{"a" : 1.0}"#), None],
        [Some("x"), Some("y")],
        [Some(r#"{"a" : 1.0,"country":"x"}"#), Some(r#"{"country":"y"}"#)],
    );
    check_fold([Some("null"), Some(" null")], [Some("x"), None], [Some(r#"{"country":"x"}"#), Some(" null")]);
    check_fold([None, Some("[1]")], [None, None], [None, Some("[1]")]);
    let twice = [Some(r#"{"country":"mine","a":{"country":1}}"#), Some(r#"{"c\u006funtry":"mine"}"#)];
    check_fold(twice, [Some("x"), Some("x")], twice);
    check_fold(
        [Some(r#"{"a":{"country":1}}"#), Some(r#"{"a":"country"}"#)],
        [Some("x"), Some("y")],
        [Some(r#"{"a":{"country":1},"country":"x"}"#), Some(r#"{"a":"country","country":"y"}"#)],
    );
}

#[test]
fn extra_columns_of_several_types() {
    let batch = events(vec![
        ("properties", Arc::new(country([Some("fr"), None], None))),
        ("n", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("when", Arc::new(TimestampSecondArray::from(vec![0, 1]).with_timezone("UTC"))),
        ("Country", Arc::new(DictionaryArray::new(Int8Array::from(vec![0, 0]), text(&[Some("de")])))),
    ]);
    let coerced = run(Kind::Events, &batch, Extra::FoldIntoProperties).unwrap();
    let expected = [
        r#"{"country":"fr","n":1,"when":"1970-01-01T00:00:00Z","Country":"de"}"#,
        r#"{"when":"1970-01-01T00:00:01Z","Country":"de"}"#,
    ];
    assert_eq!(strings(&coerced, "properties"), expected.map(|text| Some(text.to_owned())));
    let absent = events(vec![("n", Arc::new(Int64Array::from(vec![Some(1), None])))]);
    let coerced = run(Kind::Events, &absent, Extra::FoldIntoProperties).unwrap();
    assert_eq!(strings(&coerced, "properties"), [Some(r#"{"n":1}"#.to_owned()), None]);
}

#[test]
fn what_cannot_be_folded_is_named() {
    check_error(
        &events(vec![
            ("properties", text(&[Some("[1]"), Some("{\"a\":")])),
            ("n", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
        ]),
        Extra::FoldIntoProperties,
        "2 bad rows, nothing is stored: row 101: properties: must be an object, to take other columns in; \
         row 102: properties: malformed JSON at byte 6 (the text ends too early)",
    );
    check_error(
        &events(vec![("n", Arc::new(Float64Array::from(vec![1.0, f64::NAN])))]),
        Extra::FoldIntoProperties,
        "1 bad row, nothing is stored: row 102: n: JSON has no NaN",
    );
    check_error(
        &events(vec![("n", Arc::new(Float64Array::from(vec![1.0, 2.0])))]),
        Extra::Refuse,
        "events have no column \"n\"; extra = \"properties\" folds other columns into properties",
    );
}

#[test]
fn limits_are_kept() {
    let batch = events(vec![("properties", Arc::new(country([Some("fr"), Some("de")], None)))]);
    for (limits, message) in [
        (Limits { rows: 1, ..Limits::default() }, "a batch of 2 rows; at most 1 are taken at once"),
        (
            Limits { json_bytes: 20, ..Limits::default() },
            "the properties of one batch are more than 20 bytes of JSON: send smaller batches",
        ),
    ] {
        let plan = Coercer::new(Kind::Events, &batch.schema(), Extra::Refuse, limits).unwrap();
        let error = plan.coerce(&batch, 1).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::ResourceExhausted, message));
    }
    let shallow = Limits { json_depth: 0, ..Limits::default() };
    let error = Coercer::new(Kind::Events, &batch.schema(), Extra::Refuse, shallow).unwrap_err();
    assert_eq!(error.message(), "column \"properties\" cannot be JSON: it is nested too deeply");
}

#[test]
fn types_nest_as_deep_as_a_stack_can_bear() {
    let nest = |levels: usize| {
        (0..levels).fold(text(&[Some("x"), Some("y")]), |inner, _| {
            let item = Arc::new(Field::new("item", inner.data_type().clone(), true));
            Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 1]), inner, None)) as ArrayRef
        })
    };
    let deepest = format!("{}\"x\"{}", "[".repeat(TYPE_DEPTH_MAX), "]".repeat(TYPE_DEPTH_MAX));
    let coerced = run(Kind::Events, &events(vec![("properties", nest(TYPE_DEPTH_MAX))]), Extra::Refuse).unwrap();
    assert_eq!(strings(&coerced, "properties").first(), Some(&Some(deepest)));
    let message = "column \"properties\" cannot be JSON: it is nested too deeply";
    check_error(&events(vec![("properties", nest(TYPE_DEPTH_MAX + 1))]), Extra::Refuse, message);
}

#[test]
fn other_kinds_and_other_batches_are_refused() {
    let batch = events(vec![]);
    let error = Coercer::new(Kind::Table, &batch.schema(), Extra::Refuse, Limits::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let plan = Coercer::new(Kind::Events, &batch.schema(), Extra::Refuse, Limits::default()).unwrap();
    for other in [batch.project(&[0, 1, 2]).unwrap(), events(vec![("event_name", Arc::new(NullArray::new(2)))])] {
        let error = plan.coerce(&other, 1).unwrap_err();
        assert_eq!(error.message(), "a batch has other columns than the schema of its stream");
    }
}
