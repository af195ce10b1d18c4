//! Arrays of any Arrow type go in by ingest and come out by a query, and are the same.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use futures::StreamExt;
use proptest::prelude::*;

use super::{EXTENSION_NAME, Schema, TYPE_KEY, arbitrary};
use crate::config::Config;
use crate::engine::{Call, Database, Engine, Started};
use crate::ingest::{Budget, Ingest, Mode, Request};
use crate::tables::Kind;

struct Server {
    engine: Engine,
    budget: Budget,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start() -> Self {
        let mut config = Config::default();
        config.engine.memory_limit = bytesize::ByteSize::mib(512);
        let engine = Engine::open(&config, Database { path: None, temp_directory: None, read_only: false }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { engine, budget: Budget::new(&config.ingest), runtime }
    }

    /// What a column reads as, once it is stored.
    fn stored(&self, field: Field, array: &ArrayRef) -> crate::error::Result<(Field, ArrayRef)> {
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(array)])?;
        self.runtime.block_on(async {
            let call = Call::default();
            let request = Request { mode: Mode::Replace, ..Request::create(Some(Kind::Table), "t") };
            let mut ingest = Ingest::open(&self.engine, &self.budget, request, &batch.schema(), &call).await?;
            ingest.write(batch).await?;
            ingest.commit().await?;
            let Started::Rows(mut rows) = self.engine.query("FROM t".to_owned(), None, &call).await? else { panic!() };
            let field = rows.schema().field(0).clone();
            let batch = rows.next().await.unwrap()?;
            Ok((field, Arc::clone(batch.column(0))))
        })
    }
}

fn plain(data_type: &DataType) -> Field {
    Field::new("c", data_type.clone(), true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_comes_back(seeds in prop::collection::vec((arbitrary::data_type(), any::<u64>()), 8)) {
        thread_local!(static SERVER: Server = Server::start());
        for (data_type, seed) in seeds {
            let array = arbitrary::array(&data_type, 6, &mut arbitrary::Random::new(seed));
            let (_, stored) = SERVER.with(|server| server.stored(plain(&data_type), &array))
                .map_err(|error| TestCaseError::fail(format!("{data_type}: {error:?}")))?;
            let expected = cast(&array, stored.data_type()).unwrap();
            prop_assert_eq!(&stored, &expected, "{} as {}", data_type, stored.data_type());
        }
    }
}

#[test]
fn every_arrow_type_has_its_duckdb_type() {
    use arrow::datatypes::IntervalUnit::{DayTime, MonthDayNano, YearMonth};
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let server = Server::start();
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let zone = Some(Arc::from("UTC"));
    for (data_type, sql_type) in [
        (DataType::Float16, "FLOAT"),
        (DataType::Decimal32(5, 2), "DECIMAL(5,2)"),
        (DataType::Decimal64(12, 2), "DECIMAL(12,2)"),
        (DataType::Decimal128(30, 2), "DECIMAL(30,2)"),
        (DataType::Decimal256(38, 2), "DECIMAL(38,2)"),
        (DataType::Decimal128(10, -3), "DECIMAL(13,0)"),
        (DataType::Utf8View, "VARCHAR"),
        (DataType::LargeUtf8, "VARCHAR"),
        (DataType::BinaryView, "BLOB"),
        (DataType::FixedSizeBinary(3), "BLOB"),
        (DataType::Date64, "DATE"),
        (DataType::Time32(Second), "TIME"),
        (DataType::Time32(Millisecond), "TIME"),
        (DataType::Time64(Microsecond), "TIME"),
        (DataType::Time64(Nanosecond), "TIME_NS"),
        (DataType::Timestamp(Second, None), "TIMESTAMP_S"),
        (DataType::Timestamp(Millisecond, None), "TIMESTAMP_MS"),
        (DataType::Timestamp(Microsecond, None), "TIMESTAMP"),
        (DataType::Timestamp(Nanosecond, None), "TIMESTAMP_NS"),
        (DataType::Timestamp(Second, zone.clone()), "TIMESTAMP WITH TIME ZONE"),
        (DataType::Timestamp(Microsecond, zone.clone()), "TIMESTAMP WITH TIME ZONE"),
        (DataType::Timestamp(Nanosecond, zone), "TIMESTAMPTZ_NS"),
        (DataType::Duration(Second), "INTERVAL"),
        (DataType::Duration(Nanosecond), "INTERVAL"),
        (DataType::Interval(YearMonth), "INTERVAL"),
        (DataType::Interval(DayTime), "INTERVAL"),
        (DataType::Interval(MonthDayNano), "INTERVAL"),
        (DataType::Null, "\"NULL\""),
        (DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8)), "VARCHAR"),
        (DataType::ListView(item(DataType::Float16)), "FLOAT[]"),
        (DataType::FixedSizeList(item(DataType::Decimal256(10, 2)), 2), "DECIMAL(10,2)[2]"),
    ] {
        let array = arbitrary::array(&data_type, 3, &mut arbitrary::Random::new(7));
        let (field, _) = server.stored(plain(&data_type), &array).unwrap();
        assert_eq!(field.metadata().get(TYPE_KEY).map(String::as_str), Some(sql_type), "{data_type}");
    }
}

#[test]
fn extension_types_are_stored_as_duckdbs_own() {
    let server = Server::start();
    let tagged = |data_type: &DataType, name: &str| {
        plain(data_type).with_metadata([(EXTENSION_NAME.to_owned(), name.to_owned())])
    };
    let json: ArrayRef = Arc::new(StringArray::from(vec![Some("{\"a\":1}"), None]));
    let (field, stored) = server.stored(tagged(&DataType::Utf8, "arrow.json"), &json).unwrap();
    assert_eq!((field.metadata()[TYPE_KEY].as_str(), &stored), ("JSON", &json));
    let uuid: ArrayRef =
        Arc::new(FixedSizeBinaryArray::try_from_iter([(0..16).collect::<Vec<u8>>()].into_iter()).unwrap());
    let (field, stored) = server.stored(tagged(&DataType::FixedSizeBinary(16), "arrow.uuid"), &uuid).unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["00010203-0405-0607-0809-0a0b0c0d0e0f"]));
    assert_eq!((field.metadata()[TYPE_KEY].as_str(), &stored), ("UUID", &text));
}

#[test]
fn too_many_digits_are_refused() {
    let server = Server::start();
    let data_type = DataType::Decimal256(40, 2);
    let array = arbitrary::array(&data_type, 1, &mut arbitrary::Random::new(1));
    let error = server.stored(plain(&data_type), &array).unwrap_err();
    assert!(error.message().contains("38 digits at most"), "{error}");
}
