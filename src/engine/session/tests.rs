//! Tests of sessions and transactions through the engine's own interface.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use futures::StreamExt;

use crate::config::{self, Config};
use crate::engine::{Call, Database, End, Engine, Execution, Settings, Started};
use crate::error::{ErrorKind, Result};
use crate::ingest::{self, Budget, Ingest, Mode, Request};
use crate::tables::Kind;

fn engine_with(change: impl FnOnce(&mut Config)) -> Engine {
    let mut config = Config::default();
    config.engine.memory_limit = bytesize::ByteSize::mib(512);
    change(&mut config);
    Engine::open(&config, Database { path: None, temp_directory: None, read_only: false }).unwrap()
}

fn engine() -> Engine {
    engine_with(|_| ())
}

fn session(name: &str) -> Call {
    Call { session: Some(name.into()), ..Call::default() }
}

async fn run(engine: &Engine, call: &Call, sql: &str) -> Result<i64> {
    let mut rows = match engine.query(sql.to_owned(), None, call).await? {
        Started::Rows(rows) => rows,
        Started::Change => {
            let budget = Budget::new(&config::Ingest::default());
            return match engine.execute(sql.to_owned(), None, call).await? {
                Execution::Done(executed) => Ok(executed.changed.unwrap_or(0).cast_signed()),
                Execution::Insert(insert) => {
                    let outcome = ingest::insert(engine, &budget, insert, None, call).await?;
                    Ok(outcome.inserted.cast_signed())
                }
            };
        }
    };
    let mut first = 0;
    while let Some(batch) = rows.next().await {
        first = batch?.column(0).as_primitive_opt::<Int64Type>().map_or(0, |numbers| numbers.value(0));
    }
    Ok(first)
}

async fn good(engine: &Engine, call: &Call, sql: &str) -> i64 {
    run(engine, call, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn kind(engine: &Engine, call: &Call, sql: &str) -> ErrorKind {
    run(engine, call, sql).await.expect_err(sql).kind()
}

async fn append(engine: &Engine, call: &Call, mode: Mode, keys: &[&str]) -> Result<u64> {
    let texts = |text: &str| Arc::new(StringArray::from(vec![text; keys.len()])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("event_name", texts("e")),
        ("event_time", Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_000_000; keys.len()])) as ArrayRef),
        ("distinct_id", texts("u")),
        ("insert_id", Arc::new(StringArray::from(keys.to_vec())) as ArrayRef),
        ("properties", texts("{}")),
    ])
    .unwrap();
    let request = Request { mode, ..Request::create(Some(Kind::Events), "events") };
    let budget = Budget::new(&config::Ingest::default());
    let mut ingest = Ingest::open(engine, &budget, request, batch.schema_ref(), call).await?;
    ingest.write(batch).await?;
    Ok(ingest.commit().await?.inserted)
}

const COUNT: &str = "SELECT count(*) FROM events";

#[tokio::test(flavor = "multi_thread")]
async fn temporary_objects_belong_to_their_session() {
    let (engine, one, other) = (engine(), session("one"), session("other"));
    good(&engine, &one, "CREATE TEMP TABLE t AS SELECT 1::BIGINT AS n").await;
    good(&engine, &one, "SET VARIABLE v = 5::BIGINT").await;
    assert_eq!(good(&engine, &one, "SELECT n + getvariable('v') FROM t").await, 6);
    assert_eq!(kind(&engine, &other, "FROM t").await, ErrorKind::NotFound);
    let nobody = Call::default();
    for sql in ["CREATE TEMP TABLE t (x INT)", "CREATE TABLE temp.main.t (x INT)", "SET VARIABLE v = 1", "BEGIN"] {
        assert_eq!(kind(&engine, &nobody, sql).await, ErrorKind::FailedPrecondition, "{sql}");
    }
    assert_eq!(engine.activity().sessions, 1);
    assert!(engine.close_session(&"one".into()));
    assert_eq!(kind(&engine, &one, "SELECT 1").await, ErrorKind::NotFound);
    assert_eq!(engine.activity().sessions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_table_hides_a_managed_one() {
    let (engine, one) = (engine(), session("one"));
    append(&engine, &one, Mode::Create, &["a"]).await.unwrap();
    good(&engine, &one, "CREATE TEMP TABLE events (x INT)").await;
    good(&engine, &one, "INSERT INTO events VALUES (1), (2)").await;
    good(&engine, &one, "UPDATE events SET x = 3").await;
    assert_eq!(good(&engine, &one, COUNT).await, 2);
    assert_eq!(
        kind(&engine, &one, "UPDATE merganser.main.events SET event_name = 'x'").await,
        ErrorKind::FailedPrecondition
    );
    assert_eq!(good(&engine, &Call::default(), COUNT).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_hold_on_every_connection_of_the_session() {
    let (engine, one) = (engine(), session("one"));
    good(&engine, &one, "CREATE SCHEMA s").await;
    good(&engine, &one, "USE s").await;
    good(&engine, &one, "SET TimeZone = 'Asia/Kolkata'").await;
    good(&engine, &one, "CREATE TABLE here AS SELECT 7::BIGINT AS n").await;
    let hour = "SELECT extract('hour' FROM TIMESTAMPTZ '2024-01-01 00:00:00+00')";
    assert_eq!(good(&engine, &one, hour).await, 5);
    good(&engine, &one, "BEGIN").await;
    assert_eq!((good(&engine, &one, hour).await, good(&engine, &one, "SELECT n FROM here").await), (5, 7));
    good(&engine, &one, "COMMIT").await;
    assert_eq!(good(&engine, &Call::default(), "SELECT n FROM s.here").await, 7);
    for outside in ["USE system.main", "USE temp.main", "USE memory.main"] {
        assert!(run(&engine, &one, outside).await.is_err(), "{outside}");
        assert_eq!(good(&engine, &one, "SELECT n FROM here").await, 7);
    }
    assert_eq!(kind(&engine, &one, "SET threads = 1").await, ErrorKind::PermissionDenied);
    let wrong = Settings { schema: Some("nowhere".to_owned()), ..Settings::default() };
    assert!(engine.change_settings(&one, wrong).await.is_err());
    engine.change_settings(&one, Settings::default()).await.unwrap();
    assert_eq!(good(&engine, &one, hour).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_commit_and_roll_back() {
    let engine = engine();
    good(&engine, &Call::default(), "CREATE TABLE t (x BIGINT)").await;
    for (end, rows) in [(End::Rollback, 0), (End::Commit, 1)] {
        let id = engine.begin_transaction(&Call::default()).unwrap();
        let inside = Call::default().within(Some(id));
        good(&engine, &inside, "INSERT INTO t VALUES (1)").await;
        assert_eq!(good(&engine, &inside, "SELECT count(*) FROM t").await, 1);
        assert_eq!(good(&engine, &Call::default(), "SELECT count(*) FROM t").await, 0);
        engine.end_transaction(&Call::default(), id, end).await.unwrap();
        assert_eq!(good(&engine, &Call::default(), "SELECT count(*) FROM t").await, rows);
        assert_eq!(kind(&engine, &inside, "SELECT 1").await, ErrorKind::NotFound);
        assert!(engine.end_transaction(&Call::default(), id, end).await.is_err());
    }
    assert_eq!(engine.activity().transactions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_is_part_of_the_open_transaction() {
    let (engine, one) = (engine(), session("one"));
    good(&engine, &one, "BEGIN").await;
    assert_eq!(append(&engine, &one, Mode::Create, &["a", "b"]).await.unwrap(), 2);
    assert_eq!(append(&engine, &one, Mode::Append, &["b", "c"]).await.unwrap(), 1);
    assert_eq!(
        good(
            &engine,
            &one,
            "INSERT INTO events SELECT event_name, event_time, distinct_id, 'd', NULL FROM events LIMIT 1"
        )
        .await,
        1
    );
    assert_eq!(good(&engine, &one, COUNT).await, 4);
    assert_eq!(kind(&engine, &Call::default(), COUNT).await, ErrorKind::NotFound);
    good(&engine, &one, "ROLLBACK").await;
    assert_eq!(kind(&engine, &one, COUNT).await, ErrorKind::NotFound);
    assert_eq!(append(&engine, &one, Mode::Create, &["a"]).await.unwrap(), 1, "its locks are free");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_stores_no_key_twice() {
    let (engine, one, other) = (engine(), session("one"), session("other"));
    append(&engine, &other, Mode::Create, &["a"]).await.unwrap();
    good(&engine, &one, "BEGIN").await;
    assert_eq!(good(&engine, &one, COUNT).await, 1);
    append(&engine, &other, Mode::Append, &["b"]).await.unwrap();
    // The transaction does not see b, and so must not store it.
    let stored = append(&engine, &one, Mode::Append, &["b"]).await;
    let committed = run(&engine, &one, "COMMIT").await;
    assert!(stored.is_err() || committed.is_err(), "{stored:?} {committed:?}");
    run(&engine, &one, "ROLLBACK").await.ok();
    assert_eq!(good(&engine, &other, "SELECT count(*) FROM events WHERE insert_id = 'b'").await, 1);
    let metadata = "SELECT row_count FROM _metadata WHERE table_name = 'events'";
    assert_eq!(good(&engine, &other, metadata).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_half_way_fails_its_transaction() {
    let (engine, one) = (engine(), session("one"));
    good(&engine, &one, "BEGIN").await;
    let request = Request { mode: Mode::Create, ..Request::create(Some(Kind::Table), "t") };
    let batch = RecordBatch::try_from_iter([("x", Arc::new(StringArray::from(vec!["1"])) as ArrayRef)]).unwrap();
    let budget = Budget::new(&config::Ingest::default());
    let mut broken = Ingest::open(&engine, &budget, request, batch.schema_ref(), &one).await.unwrap();
    broken.write(batch).await.unwrap();
    drop(broken);
    assert_eq!(kind(&engine, &one, "SELECT 1").await, ErrorKind::FailedPrecondition);
    assert_eq!(kind(&engine, &one, "COMMIT").await, ErrorKind::FailedPrecondition);
    assert_eq!(kind(&engine, &one, "FROM t").await, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_gives_way_and_a_slow_result_too() {
    let (engine, one) = (engine(), session("one"));
    good(&engine, &one, "CREATE TEMP TABLE t AS SELECT range AS n FROM range(1000000)").await;
    let Started::Rows(mut planned) = engine.query("FROM t".to_owned(), None, &one).await.unwrap() else { panic!() };
    assert_eq!(good(&engine, &one, "SELECT count(*) FROM t").await, 1_000_000);
    assert!(!planned.start(None), "another statement took its connection");
    let Started::Rows(mut slow) = engine.query("FROM t".to_owned(), None, &one).await.unwrap() else { panic!() };
    assert!(slow.start(None));
    let mut rows = slow.next().await.unwrap().unwrap().num_rows();
    assert_eq!(good(&engine, &one, "SELECT count(*) FROM t").await, 1_000_000);
    while let Some(batch) = slow.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_a_plain_session_run_side_by_side() {
    let (engine, one) = (engine(), session("one"));
    good(&engine, &one, "SET TimeZone = 'UTC'").await;
    let endless = "FROM range(100000000000)".to_owned();
    let Started::Rows(mut endless) = engine.query(endless, None, &one).await.unwrap() else { panic!() };
    endless.next().await.unwrap().unwrap();
    assert_eq!(good(&engine, &one, "SELECT 1::BIGINT").await, 1);
    endless.canceller().cancel();
    while let Some(batch) = endless.next().await {
        if let Err(error) = batch {
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            break;
        }
    }
    assert_eq!(good(&engine, &one, "SELECT 2::BIGINT").await, 2, "the session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_idle_ends() {
    let engine = engine_with(|config| {
        config.session.transaction_idle_timeout = Duration::from_millis(1);
        config.session.idle_timeout = Duration::from_secs(3);
    });
    let (reader, writer) = (session("reader"), session("writer"));
    good(&engine, &writer, "CREATE TABLE t (x BIGINT)").await;
    good(&engine, &reader, "BEGIN").await;
    assert_eq!(good(&engine, &reader, "SELECT count(*) FROM t").await, 0);
    good(&engine, &writer, "BEGIN").await;
    good(&engine, &writer, "INSERT INTO t VALUES (1)").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    good(&engine, &Call::default(), "INSERT INTO t VALUES (2)").await;
    assert_eq!(good(&engine, &reader, "SELECT count(*) FROM t").await, 1, "it has only read: a new snapshot");
    assert_eq!(kind(&engine, &writer, "SELECT 1").await, ErrorKind::FailedPrecondition);
    good(&engine, &writer, "ROLLBACK").await;
    good(&engine, &writer, "SELECT 1").await;
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert_eq!(engine.activity().sessions, 0);
    assert_eq!(kind(&engine, &writer, "SELECT 1").await, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_transactions_are_bounded() {
    let engine = engine_with(|config| {
        config.session.sessions_max = 1;
        config.session.transactions_max = 1;
    });
    good(&engine, &session("one"), "CREATE TEMP TABLE t (x INT)").await;
    assert_eq!(kind(&engine, &session("other"), "BEGIN").await, ErrorKind::ResourceExhausted);
    good(&engine, &session("other"), "SELECT 1").await;
    engine.begin_transaction(&session("one")).unwrap();
    assert_eq!(engine.begin_transaction(&Call::default()).unwrap_err().kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_plan_that_gives_way_harms_no_transaction() {
    let (engine, one) = (engine(), session("one"));
    good(&engine, &one, "BEGIN").await;
    good(&engine, &one, "CREATE TABLE t AS SELECT 1::BIGINT AS n").await;
    let endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b";
    for _ in 0..3 {
        let Started::Rows(planned) = engine.query(endless.to_owned(), None, &one).await.unwrap() else { panic!() };
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(good(&engine, &one, "SELECT n FROM t").await, 1);
        drop(planned);
    }
    good(&engine, &one, "COMMIT").await;
    assert_eq!(good(&engine, &Call::default(), "SELECT n FROM t").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_left_harms_no_transaction() {
    let (engine, one) = (engine_with(|config| config.query.batch_rows = 2048), session("one"));
    good(&engine, &one, "BEGIN").await;
    good(&engine, &one, "CREATE TABLE t AS SELECT 1::BIGINT AS n").await;
    for rows in (0..200).map(|turn| 2000 + 500 * turn) {
        let sql = format!("FROM range({rows})");
        let Started::Rows(mut left) = engine.query(sql, None, &one).await.unwrap() else { panic!() };
        left.next().await.unwrap().unwrap();
        drop(left);
        assert_eq!(good(&engine, &one, "INSERT INTO t VALUES (1)").await, 1);
    }
    good(&engine, &one, "COMMIT").await;
    assert_eq!(good(&engine, &Call::default(), "SELECT count(*) FROM t").await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_query_that_is_left_ends() {
    let (engine, one) = (engine(), session("one"));
    good(&engine, &one, "BEGIN").await;
    let endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b";
    let Started::Rows(mut left) = engine.query(endless.to_owned(), None, &one).await.unwrap() else { panic!() };
    tokio::time::timeout(Duration::from_millis(50), left.next()).await.unwrap_err();
    drop(left);
    // Its connection is free again.
    good(&engine, &one, "ROLLBACK").await;
    assert_eq!(good(&engine, &one, "SELECT 1::BIGINT").await, 1);
}
