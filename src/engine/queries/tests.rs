//! Tests of the query log through the engine's interface.

use std::sync::Arc;

use futures::StreamExt;

use super::*;
use crate::access::{Principal, Role};
use crate::config::{Config, QueryText};
use crate::engine::{Call, Database, Engine, Rows, Started};
use crate::error::{ErrorKind, Result};

/// Work without an end.
const ENDLESS: &str = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b WHERE a.range <> 4711";

fn open(set: impl FnOnce(&mut Config)) -> Engine {
    let mut config = Config::default();
    config.engine.memory_limit = bytesize::ByteSize::mib(512);
    set(&mut config);
    Engine::open(&config, Database { path: None, temp_directory: None, read_only: false }).unwrap()
}

fn call(user: &str) -> Call {
    Call { principal: Some(Arc::new(Principal::new(user, Role::Writer))), ..Call::default() }
}

async fn start(engine: &Engine, sql: &str, call: &Call) -> Rows {
    match engine.query(sql.to_owned(), None, call).await.unwrap() {
        Started::Rows(rows) => rows,
        Started::Change => panic!("{sql} changes something"),
    }
}

async fn run(engine: &Engine, sql: &str, call: &Call) -> Result<()> {
    match engine.query(sql.to_owned(), None, call).await? {
        Started::Rows(mut rows) => {
            while let Some(batch) = rows.next().await {
                batch?;
            }
            Ok(())
        }
        Started::Change => {
            let (call, tracked) = engine.track_update(sql, call);
            let outcome = engine.execute(sql.to_owned(), None, &call).await;
            if let Some(tracked) = tracked {
                tracked.end(&outcome);
            }
            outcome.map(drop)
        }
    }
}

fn all(engine: &Engine) -> Vec<Arc<QueryInfo>> {
    engine.queries(QueryFilter { ended: true, ..QueryFilter::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_in_the_log_once() {
    let engine = open(|_| ());
    let ann = call("ann");
    run(&engine, "CREATE TABLE t (x INTEGER)", &ann).await.unwrap();
    run(&engine, "INSERT INTO t VALUES (1), (2)", &ann).await.unwrap();
    run(&engine, "SELECT x FROM t", &ann).await.unwrap();
    run(&engine, "SELECT x FROM t", &Call::default()).await.unwrap();
    let kinds: Vec<_> = all(&engine).iter().map(|info| (info.kind, info.outcome, info.state)).collect();
    let ok = Some(QueryOutcome::Ok);
    let update = (QueryKind::Update, ok, QueryState::Done);
    assert_eq!(kinds, [(QueryKind::Query, ok, QueryState::Done), update, update]);
    assert_eq!(all(&engine)[0].rows, 2);
    assert!(all(&engine)[0].bytes >= 8);
    assert_eq!(engine.queries(QueryFilter::default()), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_query_is_seen_and_cancelled() {
    let engine = open(|_| ());
    let mut rows = start(&engine, ENDLESS, &call("ann")).await;
    assert!(rows.start(None));
    let id = loop {
        let infos = engine.queries(QueryFilter::default());
        if infos[0].state == QueryState::Running {
            break infos[0].id;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(engine.query_user(id).as_deref(), Some("ann"));
    assert!(engine.queries(QueryFilter { user: Some("bob"), ..QueryFilter::default() }).is_empty());
    assert!(engine.cancel_query(id, "root"));
    let error = rows.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Cancelled, "cancelled by user root"));
    assert!(!engine.cancel_query(id, "root"));
    let [info] = &all(&engine)[..] else { panic!("one statement") };
    assert_eq!((info.outcome, info.error.as_deref()), (Some(QueryOutcome::Cancelled), Some("cancelled by user root")));
    assert_eq!(info.error_word().as_deref(), Some("CANCELLED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_that_nobody_fetches_are_not_in_the_log_and_clients_that_leave_are() {
    let engine = open(|config| config.query.plans_expire = std::time::Duration::from_millis(1));
    drop(start(&engine, "SELECT 1", &call("ann")).await);
    let mut rows = start(&engine, "SELECT range FROM range(100000000)", &call("bob")).await;
    while !rows.start(None) {
        rows = start(&engine, "SELECT range FROM range(100000000)", &call("bob")).await;
    }
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !engine.queries(QueryFilter::default()).is_empty() {
        assert!(std::time::Instant::now() < until);
        tokio::task::yield_now().await;
    }
    let ended = engine.queries(QueryFilter { ended: true, user: Some("bob"), limit: None });
    assert_eq!(ended.iter().map(|info| info.outcome).collect::<Vec<_>>(), [Some(QueryOutcome::Cancelled)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_bounded_and_tells_errors_without_data() {
    let engine = open(|config| config.queries.history_max = 2);
    let ann = call("ann");
    for sql in ["SELECT 1", "SELECT 'x'::INTEGER FROM range(2)", "SELECT 'secret"] {
        drop(run(&engine, sql, &ann).await);
    }
    let [unread, bad] = &all(&engine)[..] else { panic!("two statements") };
    assert_eq!((unread.outcome, &unread.text, unread.fingerprint), (Some(QueryOutcome::Error), &None, None));
    assert_eq!((bad.outcome, bad.error_word().as_deref()), (Some(QueryOutcome::Error), Some("INVALID_ARGUMENT")));
    assert_eq!(bad.error.as_deref(), Some("Conversion Error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_told_as_configured() {
    let sql = "select  X, 'a secret'  from T where Y=1.5 -- a remark\n and (z) in (1,2);";
    for (text, shown) in [
        (QueryText::None, None),
        (QueryText::Normalized, Some("select x, ? from t where y = ? and (z) in (?, ?)")),
        (QueryText::Full, Some(sql)),
    ] {
        let engine = open(|config| config.queries.text = text);
        drop(run(&engine, sql, &call("ann")).await);
        assert_eq!(all(&engine)[0].text.as_deref(), shown);
        assert!(all(&engine)[0].fingerprint.is_some());
    }
    let engine = open(|config| config.queries.text_bytes_max = bytesize::ByteSize(16));
    run(&engine, "SELECT 1 AS eeeeee_é", &call("ann")).await.unwrap();
    assert_eq!(all(&engine)[0].text.as_deref(), Some("select ? as eeee"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fingerprints_differ_in_what_a_statement_does_only() {
    let engine = open(|_| ());
    let of = |sql: &str| {
        let sql = sql.to_owned();
        let engine = engine.clone();
        async move {
            let call = Call::default();
            let made = engine.run(&call, move |work| Ok(fingerprint::Fingerprint::of(work.connection(), &sql)));
            made.await.unwrap().unwrap()
        }
    };
    let first = of("SELECT a FROM t WHERE b = 'x' AND f(c) > 1").await;
    let same = of("select A\n from T  where b='it''s' /* or so */ and F( c )>0x1F;").await;
    assert_eq!(first.normalized, same.normalized);
    assert_eq!(first.hash, same.hash);
    assert_ne!(first.hash, of("SELECT a FROM t WHERE b = 'x' AND f(c) >= 1").await.hash);
    // No literal of any form is left.
    for literal in [
        "'secret'",
        "E'se\\'cret'",
        "$$secret$$",
        "$tag$secret$tag$",
        "X'5EC4E7'",
        "'a''secret'",
        "4711",
        "47.11e5",
        "4_711",
        "0x4711",
    ] {
        let text = of(&format!("SELECT f({literal}), x")).await.normalized;
        assert!(!text.contains("secret") && !text.contains("47") && !text.contains("5EC4E7"), "{literal}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_closed_by_a_name_that_is_no_key() {
    let engine = open(|_| ());
    let ann = Call { session: Some("a secret key".into()), ..call("ann") };
    run(&engine, "SET TimeZone = 'Europe/Oslo'", &ann).await.unwrap();
    run(&engine, "BEGIN", &ann).await.unwrap();
    let [info] = &engine.session_list()[..] else { panic!("one session") };
    assert_eq!((info.user.as_deref(), info.in_transaction, info.statements), (Some("ann"), true, 0));
    assert_eq!(info.settings.get("TimeZone").map(String::as_str), Some("Europe/Oslo"));
    assert!(info.created_at <= info.last_used_at);
    assert!(!info.id.contains("secret"));
    assert_eq!(all(&engine)[0].session, Some(Arc::clone(&info.id)));

    let mut rows = start(&engine, ENDLESS, &ann).await;
    assert!(rows.start(None));
    assert_eq!(engine.session_list()[0].statements, 1);
    assert!(!engine.close_session_named("a secret key", "root"));
    assert!(engine.close_session_named(&info.id, "root"));
    let error = rows.next().await.unwrap().unwrap_err();
    assert_eq!(error.message(), "the session was closed by user root");
    assert_eq!(engine.session_list(), []);
    assert_eq!(run(&engine, "SELECT 1", &ann).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_reads_the_log() {
    let engine = open(|_| ());
    let ann = Call { session: Some("key".into()), ..call("ann") };
    run(&engine, "SET TimeZone = 'Europe/Oslo'", &ann).await.unwrap();
    let admin = Call { principal: Some(Arc::new(Principal::new("root", Role::Admin))), ..Call::default() };
    for table in ["merganser_queries()", "merganser_sessions()", "merganser.queries", "merganser.main.\"Sessions\""] {
        let error = run(&engine, &format!("FROM {table}"), &ann).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    for table in ["queries", "main.queries", "other.merganser.queries"] {
        let error = run(&engine, &format!("FROM {table}"), &admin).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{table}: {error}");
    }
    let sql = "SELECT count(*) FROM merganser_queries() WHERE user_name = 'ann' AND kind = 'update' AND outcome = 'ok' AND \
               started_at > (now() AT TIME ZONE 'UTC') - INTERVAL 1 HOUR AND text LIKE 'set timezone%'";
    for (sql, wanted) in [
        (sql, 1),
        ("SELECT count(*) FROM merganser_queries() WHERE state <> 'done' AND kind = 'query'", 1),
        ("SELECT count(*) FROM merganser_sessions() WHERE settings = 'TimeZone=Europe/Oslo'", 1),
        ("SELECT count(*) FROM merganser.sessions WHERE settings = 'TimeZone=Europe/Oslo'", 1),
        ("SELECT count(queries.id) FROM merganser.queries WHERE state <> 'done' AND kind = 'query'", 1),
        ("SELECT typeof(started_at) = 'TIMESTAMP' AND typeof(rows) = 'UBIGINT' FROM merganser_queries() LIMIT 1", 1),
    ] {
        let mut rows = start(&engine, &format!("SELECT ({sql})::INTEGER"), &admin).await;
        let batch = rows.next().await.unwrap().unwrap();
        assert!(rows.next().await.is_none());
        let value = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(batch.column(0)).value(0);
        assert_eq!(value, wanted, "{sql}");
    }
    // A table of the user's goes before ours.
    run(&engine, "CREATE TABLE queries AS SELECT 7 AS id", &ann).await.unwrap();
    run(&engine, "SELECT id + 1 FROM merganser.queries", &ann).await.unwrap();
}
