//! Tests of the engine through its own interface: queries, errors, statements on managed tables, and ingest with its keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use futures::StreamExt;

use super::*;
use crate::config::{self, Config};
use crate::error::{Error, ErrorKind};
use crate::ingest::{Budget, Ingest, Mode, OnDuplicate, Request};
use crate::tables::Kind;

fn config() -> Config {
    let mut config = Config::default();
    config.engine.memory_limit = bytesize::ByteSize::mib(512);
    config
}

fn open(config: &Config) -> Engine {
    Engine::open(config, Database { path: None, temp_directory: None, read_only: false }).unwrap()
}

fn events(keys: &[&str], name: &str) -> RecordBatch {
    let repeated = |text: &str| Arc::new(StringArray::from(vec![text; keys.len()])) as ArrayRef;
    let times = TimestampMicrosecondArray::from(vec![1_700_000_000_000_000; keys.len()]);
    RecordBatch::try_from_iter([
        ("event_name", repeated(name)),
        ("event_time", Arc::new(times) as ArrayRef),
        ("distinct_id", repeated("user")),
        ("insert_id", Arc::new(StringArray::from(keys.to_vec())) as ArrayRef),
        ("properties", repeated("{\"a\":1}")),
    ])
    .unwrap()
}

async fn ingest(
    engine: &Engine,
    config: &config::Ingest,
    request: Request,
    batches: &[RecordBatch],
) -> crate::error::Result<Outcome> {
    let budget = Budget::new(config);
    let mut ingest = Ingest::open(engine, &budget, request, batches[0].schema_ref(), &Call::default()).await?;
    for batch in batches {
        ingest.write(batch.clone()).await?;
    }
    ingest.commit().await
}

fn request(mode: Mode, on_duplicate: OnDuplicate) -> Request {
    Request { mode, on_duplicate, ..Request::create(Some(Kind::Events), "events") }
}

async fn numbers(engine: &Engine, sql: &str) -> Vec<i64> {
    let Started::Rows(mut rows) = engine.query(sql.to_owned(), None, &Call::default()).await.unwrap() else {
        panic!("{sql} is a change")
    };
    let mut numbers = Vec::new();
    while let Some(batch) = rows.next().await {
        numbers.extend_from_slice(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
    }
    numbers
}

async fn texts(engine: &Engine, sql: &str) -> Vec<String> {
    let Started::Rows(mut rows) = engine.query(sql.to_owned(), None, &Call::default()).await.unwrap() else {
        panic!("{sql} is a change")
    };
    let mut texts = Vec::new();
    while let Some(batch) = rows.next().await {
        texts.extend(batch.unwrap().column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    texts
}

async fn execute(engine: &Engine, sql: &str) -> Executed {
    match engine.execute(sql.to_owned(), None, &Call::default()).await.unwrap() {
        Execution::Done(executed) => executed,
        Execution::Insert(_) => panic!("{sql} is an ingest"),
    }
}

async fn error_of(engine: &Engine, sql: &str) -> Error {
    match engine.query(sql.to_owned(), None, &Call::default()).await {
        Err(error) => error,
        Ok(Started::Change) => engine.execute(sql.to_owned(), None, &Call::default()).await.unwrap_err(),
        Ok(Started::Rows(mut rows)) => loop {
            match rows.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("{sql} succeeds"),
            }
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_duckdb_have_their_kinds() {
    let engine = open(&config());
    execute(&engine, "CREATE TABLE t (x INT PRIMARY KEY)").await;
    execute(&engine, "INSERT INTO t VALUES (1)").await;
    for (sql, kind) in [
        ("SELEC 1", ErrorKind::InvalidArgument),
        ("", ErrorKind::InvalidArgument),
        ("SELECT 1; SELECT 2", ErrorKind::InvalidArgument),
        ("SELECT 1; SELEC 2", ErrorKind::InvalidArgument),
        ("SELECT nothing", ErrorKind::InvalidArgument),
        ("SELECT 'x'::INT", ErrorKind::InvalidArgument),
        ("SELECT no_such_function(1)", ErrorKind::InvalidArgument),
        ("FROM nowhere", ErrorKind::NotFound),
        ("FROM nowhere.main.t", ErrorKind::NotFound),
        ("DROP TABLE nowhere", ErrorKind::NotFound),
        ("CREATE TABLE t (x INT)", ErrorKind::AlreadyExists),
        ("INSERT INTO t VALUES (1)", ErrorKind::AlreadyExists),
        ("ATTACH ':memory:' AS x", ErrorKind::PermissionDenied),
        ("FROM read_csv('/etc/passwd')", ErrorKind::PermissionDenied),
        ("BEGIN", ErrorKind::FailedPrecondition),
        ("SET threads = 1", ErrorKind::PermissionDenied),
        ("DROP TABLE _metadata", ErrorKind::FailedPrecondition),
    ] {
        let error = error_of(&engine, sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(!error.message().contains('\n') && !error.message().contains("LINE "), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_past_its_time_is_interrupted() {
    let mut config = config();
    config.engine.query_timeout = Duration::from_millis(100);
    let engine = open(&config);
    let error = error_of(&engine, "SELECT count(*) FROM range(1000000000) a, range(1000000) b").await;
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_rows_interrupt_their_query() {
    let engine = open(&config());
    let Ok(Started::Rows(rows)) = engine.query("FROM range(100000000000)".to_owned(), None, &Call::default()).await
    else {
        panic!()
    };
    assert!(!engine.0.watchdog.is_idle());
    drop(rows);
    let until = Instant::now() + Duration::from_secs(30);
    while !engine.0.watchdog.is_idle() {
        assert!(Instant::now() < until, "the query goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_stored_once_within_a_stream_and_across() {
    let config = config();
    let engine = open(&config);
    let batches = [events(&["a", "b", "a"], "first"), events(&["b", "c"], "second")];
    let outcome = ingest(&engine, &config.ingest, request(Mode::Create, OnDuplicate::Skip), &batches).await.unwrap();
    assert_eq!(outcome, Outcome { received: 5, inserted: 3, duplicate: 2, replaced: 0 });
    let more = [events(&["c", "d", "d"], "third")];
    let outcome = ingest(&engine, &config.ingest, request(Mode::Append, OnDuplicate::Skip), &more).await.unwrap();
    assert_eq!(outcome, Outcome { received: 3, inserted: 1, duplicate: 2, replaced: 0 });
    let names = texts(&engine, "SELECT insert_id || event_name FROM events ORDER BY 1").await;
    assert_eq!(names, ["afirst", "bfirst", "csecond", "dthird"]);
    assert_eq!(numbers(&engine, "SELECT row_count FROM _metadata").await, [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replace_keeps_the_last_and_error_keeps_all() {
    let config = config();
    let engine = open(&config);
    let run = async |mode, on_duplicate, keys: &[&str], name: &str| {
        ingest(&engine, &config.ingest, request(mode, on_duplicate), &[events(keys, name), events(&keys[..1], "last")])
            .await
    };
    let outcome = run(Mode::Create, OnDuplicate::Replace, &["a", "b"], "one").await.unwrap();
    assert_eq!(outcome, Outcome { received: 3, inserted: 2, duplicate: 1, replaced: 0 });
    let outcome = run(Mode::Append, OnDuplicate::Replace, &["b", "c"], "two").await.unwrap();
    assert_eq!(outcome, Outcome { received: 3, inserted: 1, duplicate: 1, replaced: 1 });
    let names = texts(&engine, "SELECT insert_id || event_name FROM events ORDER BY 1").await;
    assert_eq!(names, ["alast", "blast", "ctwo"]);
    let error = run(Mode::Append, OnDuplicate::Error, &["x", "c"], "three").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.message().contains("row 2: insert_id: \"c\""), "{error}");
    let error = run(Mode::Append, OnDuplicate::Error, &["x", "y"], "three").await.unwrap_err();
    assert!(error.message().contains("row 3: insert_id: \"x\""), "{error}");
    assert_eq!(numbers(&engine, "SELECT count(*) FROM events").await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_is_counted_alike_however_the_client_is_told() {
    let config = config();
    let engine = open(&config);
    for every_batch in [false, true] {
        let create = request(Mode::Replace, OnDuplicate::Skip);
        ingest(&engine, &config.ingest, create, &[events(&["old", "kept"], "old")]).await.unwrap();
        let append = Request { every_batch, ..request(Mode::Append, OnDuplicate::Replace) };
        // The table's `old` is replaced once, and what the stream has of it is replaced by the stream.
        let batches = [&["old", "new"], &["new", "old"], &["newer", "old"]].map(|keys| events(keys, "stream"));
        let outcome = ingest(&engine, &config.ingest, append, &batches).await.unwrap();
        assert_eq!(outcome, Outcome { received: 6, inserted: 2, duplicate: 3, replaced: 1 }, "{every_batch}");
        assert_eq!(numbers(&engine, "SELECT count(*) FROM events WHERE event_name = 'stream'").await, [3]);
        assert_eq!(numbers(&engine, "SELECT row_count FROM _metadata").await, [4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_store_a_key_once() {
    let config = config();
    let engine = open(&config);
    ingest(&engine, &config.ingest, request(Mode::Create, OnDuplicate::Skip), &[events(&[], "none")]).await.unwrap();
    let appends = (0..16).map(|worker| {
        let (engine, config) = (engine.clone(), config.clone());
        tokio::spawn(async move {
            let own = format!("own{worker}");
            let batches = [events(&["shared", &own], "append")];
            ingest(&engine, &config.ingest, request(Mode::Append, OnDuplicate::Skip), &batches).await.unwrap()
        })
    });
    let mut inserted = 0;
    for append in appends.collect::<Vec<_>>() {
        inserted += append.await.unwrap().inserted;
    }
    assert_eq!(inserted, 17);
    assert_eq!(numbers(&engine, "SELECT count(*) FROM events").await, [17]);
    assert_eq!(numbers(&engine, "SELECT row_count FROM _metadata").await, [17]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_append_goes_through_a_temporary_table() {
    let mut config = config();
    config.ingest.memory = bytesize::ByteSize::kib(64);
    let engine = open(&config);
    ingest(&engine, &config.ingest, request(Mode::Create, OnDuplicate::Skip), &[events(&["k0"], "first")])
        .await
        .unwrap();
    let keys: Vec<String> = (0..20_000).map(|key| format!("k{key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let batches = [events(&keys, "second"), events(&keys[..5000], "third")];
    let outcome = ingest(&engine, &config.ingest, request(Mode::Append, OnDuplicate::Skip), &batches).await.unwrap();
    assert_eq!(outcome, Outcome { received: 25_000, inserted: 19_999, duplicate: 5001, replaced: 0 });
    assert_eq!(numbers(&engine, "SELECT count(*) FROM events WHERE event_name = 'third'").await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_that_does_not_end_leaves_nothing() {
    let config = config();
    let engine = open(&config);
    let budget = Budget::new(&config.ingest);
    let batch = events(&["a"], "lost");
    let create = request(Mode::Create, OnDuplicate::Skip);
    let mut stream =
        Ingest::open(&engine, &budget, create.clone(), batch.schema_ref(), &Call::default()).await.unwrap();
    stream.write(batch.clone()).await.unwrap();
    let error = ingest(&engine, &config.ingest, create.clone(), std::slice::from_ref(&batch)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    drop(stream);
    let until = Instant::now() + Duration::from_secs(30);
    while ingest(&engine, &config.ingest, create.clone(), std::slice::from_ref(&batch)).await.is_err() {
        assert!(Instant::now() < until, "the name stays taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(numbers(&engine, "SELECT count(*) FROM events").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_keeps_the_promises_of_a_managed_table() {
    let config = config();
    let engine = open(&config);
    let keys = [events(&["a", "b", "c"], "x")];
    ingest(&engine, &config.ingest, request(Mode::Create, OnDuplicate::Skip), &keys).await.unwrap();
    for sql in [
        "UPDATE events SET event_name = 'y'",
        "MERGE INTO events USING (SELECT 1) ON false WHEN MATCHED THEN DELETE",
        "ALTER TABLE events ADD COLUMN z INT",
        "CREATE OR REPLACE TABLE events AS SELECT 1",
        "WITH i AS (INSERT INTO events FROM events RETURNING *) SELECT * FROM i",
    ] {
        assert_eq!(error_of(&engine, sql).await.kind(), ErrorKind::FailedPrecondition, "{sql}");
    }
    let analyzed = error_of(&engine, "EXPLAIN ANALYZE INSERT INTO events FROM events").await;
    assert_eq!(analyzed.kind(), ErrorKind::PermissionDenied);
    assert_eq!(execute(&engine, "DELETE FROM events WHERE insert_id = 'a'").await.changed, Some(1));
    assert_eq!(numbers(&engine, "SELECT row_count FROM _metadata").await, [2]);
    let Execution::Insert(insert) =
        engine.execute("INSERT INTO Events SELECT * FROM events".to_owned(), None, &Call::default()).await.unwrap()
    else {
        panic!("not an ingest");
    };
    assert_eq!((insert.table.as_str(), insert.kind), ("events", Kind::Events));
    execute(&engine, "DROP TABLE events").await;
    assert!(numbers(&engine, "SELECT count(*) FROM _metadata").await == [0]);
    assert!(!engine.table_exists("events".to_owned()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_hides_the_servers_tables_and_counts_live() {
    let config = config();
    let engine = open(&config);
    ingest(&engine, &config.ingest, request(Mode::Create, OnDuplicate::Skip), &[events(&["a"], "x")]).await.unwrap();
    execute(&engine, "CREATE TABLE plain AS FROM range(3)").await;
    execute(&engine, "CREATE VIEW looking AS FROM plain").await;
    let listed: Vec<_> = engine
        .tables(None, None, &Call::default())
        .await
        .unwrap()
        .into_iter()
        .map(|t| (t.name, t.kind, t.row_count))
        .collect();
    assert_eq!(
        listed,
        [
            ("events".to_owned(), Kind::Events, Some(1)),
            ("looking".to_owned(), Kind::View, None),
            ("plain".to_owned(), Kind::Table, Some(3)),
        ]
    );
    assert_eq!(engine.tables(Some(Kind::View), Some("LOOK%".to_owned()), &Call::default()).await.unwrap().len(), 1);
    let table = engine.describe("EVENTS".to_owned(), &Call::default()).await.unwrap();
    assert_eq!(
        table.columns.iter().filter(|column| column.primary_key).map(|column| column.name.as_str()).collect::<Vec<_>>(),
        ["insert_id"]
    );
    assert_eq!(
        engine.describe("event".to_owned(), &Call::default()).await.unwrap_err().message(),
        "table \"event\" not found; did you mean \"events\"?"
    );
    assert!(engine.drop_table("nowhere".to_owned(), true, &Call::default()).await.is_ok_and(|dropped| !dropped));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidated_database_is_attached_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let database = Database { path: Some(folder.path().join("a.duckdb")), temp_directory: None, read_only: false };
    let engine = Engine::open(&config, database).unwrap();
    ingest(&engine, &config.ingest, request(Mode::Create, OnDuplicate::Skip), &[events(&["a"], "x")]).await.unwrap();
    let inner = Arc::clone(&engine.0);
    tokio::task::spawn_blocking(move || inner.open_again()).await.unwrap().unwrap();
    assert_eq!(numbers(&engine, "SELECT count(*) FROM events").await, [1]);
    ingest(&engine, &config.ingest, request(Mode::Append, OnDuplicate::Skip), &[events(&["b"], "x")]).await.unwrap();
    assert_eq!(numbers(&engine, "SELECT count(*) FROM events").await, [2]);
}
