//! What callers may do through SQL, statement by statement. The long list of hostile statements runs over the wire, in
//! `tests/hostile`.

use std::sync::Arc;

use futures::StreamExt;

use crate::access::{Grant, Principal, Role};
use crate::config::Config;
use crate::engine::{Call, Database, Engine, Execution, Filter, Started};
use crate::error::{ErrorKind, Result};

/// Reader, writer, admin, a reader of `pub_*`, a writer of `pub_*`.
type Verdicts = [bool; 5];

const NOBODY: Verdicts = [false; 5];
const ALL: Verdicts = [true; 5];
const ADMIN: Verdicts = [false, false, true, false, false];
const WRITERS: Verdicts = [false, true, true, false, true];
/// Who may see all tables.
const UNRESTRICTED: Verdicts = [true, true, true, false, false];
const UNRESTRICTED_WRITERS: Verdicts = [false, true, true, false, false];

const STATEMENTS: &[(&str, Verdicts)] = &[
    ("SELECT * FROM pub_a", ALL),
    ("SELECT * FROM merganser.main.\"PUB_A\"", ALL),
    ("EXPLAIN ANALYZE SELECT * FROM pub_a", ALL),
    ("SUMMARIZE pub_a", ALL),
    ("PIVOT pub_a ON i USING count(*)", ALL),
    ("SELECT count(*) FROM range(10) r JOIN pub_a ON r.range = pub_a.i", ALL),
    ("SELECT current_setting('TimeZone')", ALL),
    // However it is wrapped, a table is read.
    ("SELECT * FROM secret", UNRESTRICTED),
    ("SELECT * FROM pub_view_of_secret", UNRESTRICTED),
    ("FROM pub_macro()", UNRESTRICTED),
    ("SELECT pub_scalar()", UNRESTRICTED),
    ("FROM query('FROM secret')", UNRESTRICTED),
    ("FROM query_table('secret')", UNRESTRICTED),
    ("SELECT (SELECT max(i) FROM secret WHERE secret.i > pub_a.i) FROM pub_a", UNRESTRICTED),
    ("SELECT * FROM pub_a WHERE EXISTS (FROM secret)", UNRESTRICTED),
    ("SELECT * FROM pub_a, LATERAL (SELECT i + pub_a.i FROM secret)", UNRESTRICTED),
    ("WITH RECURSIVE r AS (SELECT 1 AS i UNION SELECT s.i FROM secret s, r) FROM r", UNRESTRICTED),
    ("EXPLAIN SELECT * FROM secret", UNRESTRICTED),
    ("SUMMARIZE secret", UNRESTRICTED),
    ("SELECT * FROM other.t", UNRESTRICTED),
    ("SELECT list_transform([1], lambda x: (SELECT max(i) FROM secret))", NOBODY),
    // The catalog names what is not granted.
    ("FROM duckdb_tables()", UNRESTRICTED),
    ("SELECT macro_definition FROM duckdb_functions()", UNRESTRICTED),
    ("SELECT * FROM information_schema.columns", UNRESTRICTED),
    ("SELECT * FROM sqlite_master", UNRESTRICTED),
    ("SHOW TABLES", UNRESTRICTED),
    ("DESCRIBE secret", UNRESTRICTED),
    ("DESCRIBE (SELECT * FROM secret)", UNRESTRICTED),
    ("FROM _metadata", UNRESTRICTED),
    ("CALL pragma_table_info('secret')", UNRESTRICTED),
    // Paths are nobody's business but an admin's.
    ("FROM duckdb_databases()", ADMIN),
    ("PRAGMA database_list", ADMIN),
    ("FROM duckdb_settings()", ADMIN),
    ("FROM merganser.queries", ADMIN),
    ("FROM merganser.main.sessions s", ADMIN),
    ("SELECT current_setting('temp_directory')", ADMIN),
    ("SELECT current_setting('temp_' || 'directory')", ADMIN),
    ("SHOW temp_directory", ADMIN),
    // Changes.
    ("INSERT INTO pub_a VALUES (1)", WRITERS),
    ("UPDATE pub_a SET i = i", WRITERS),
    ("DELETE FROM pub_a WHERE false", WRITERS),
    ("WITH d AS (DELETE FROM pub_a WHERE false RETURNING *) FROM d", WRITERS),
    ("EXPLAIN DELETE FROM pub_a", WRITERS),
    ("MERGE INTO pub_a USING (SELECT 1 AS i) s ON pub_a.i = s.i WHEN MATCHED THEN DELETE", WRITERS),
    ("CREATE OR REPLACE TABLE pub_c AS FROM pub_a", WRITERS),
    ("CREATE OR REPLACE VIEW pub_d AS FROM pub_a", WRITERS),
    ("CREATE OR REPLACE TABLE pub_c AS FROM secret", UNRESTRICTED_WRITERS),
    ("INSERT INTO pub_a FROM secret", UNRESTRICTED_WRITERS),
    ("INSERT INTO secret FROM pub_a", UNRESTRICTED_WRITERS),
    ("DELETE FROM secret WHERE false", UNRESTRICTED_WRITERS),
    ("COMMENT ON TABLE pub_a IS 'x'", WRITERS),
    ("ALTER TABLE secret ADD COLUMN IF NOT EXISTS j INTEGER", UNRESTRICTED_WRITERS),
    ("CREATE SCHEMA IF NOT EXISTS other", UNRESTRICTED_WRITERS),
    ("DROP SCHEMA IF EXISTS nothing CASCADE", UNRESTRICTED_WRITERS),
    ("DROP TABLE IF EXISTS pub_nothing", WRITERS),
    ("CREATE INDEX IF NOT EXISTS x ON pub_a (i)", WRITERS),
    ("SELECT nextval('pub_s')", WRITERS),
    ("SELECT list_transform([1], lambda x: nextval('pub_s'))", WRITERS),
    ("SELECT list_filter([1], lambda x: list_transform([x], lambda y: nextval('pub_s')) IS NOT NULL)", WRITERS),
    ("SELECT [sleep_ms(1) FOR x IN [1]]", ADMIN),
    // What a table keeps is decided when it is made.
    ("CREATE OR REPLACE TABLE pub_kept (i BIGINT DEFAULT sleep_ms(1))", ADMIN),
    ("CREATE OR REPLACE TABLE pub_kept (i BIGINT CHECK (sleep_ms(1) IS NULL))", ADMIN),
    ("CREATE OR REPLACE TABLE pub_kept (i BIGINT DEFAULT 1 CHECK (i > 0), j BIGINT AS (i + 1))", WRITERS),
    ("ALTER TABLE pub_kept ALTER i SET DEFAULT 2", WRITERS),
    ("ALTER TABLE pub_d2 ALTER i SET DEFAULT sleep_ms(1)", ADMIN),
    ("ALTER TABLE pub_d2 ALTER i TYPE BIGINT USING coalesce(sleep_ms(1), i)", ADMIN),
    (
        "ALTER TABLE pub_d2 ALTER i TYPE BIGINT USING list_transform([i], lambda x: x + coalesce(sleep_ms(1), 0))[1]",
        ADMIN,
    ),
    ("ALTER TABLE pub_d2 ALTER i DROP DEFAULT", WRITERS),
    ("ALTER TABLE pub_d2 ALTER i TYPE BIGINT USING i + 1", WRITERS),
    ("VACUUM", ADMIN),
    ("FROM checkpoint()", ADMIN),
    ("SELECT sleep_ms(1)", ADMIN),
    ("SET GLOBAL TimeZone = 'UTC'", ADMIN),
    // Nobody's.
    ("CREATE TRIGGER t AFTER DELETE ON pub_a FOR EACH STATEMENT INSERT INTO pub_c VALUES (1)", NOBODY),
    ("CREATE SECRET s (TYPE s3)", NOBODY),
    ("CREATE MACRO lower(x) AS 'x'", NOBODY),
    ("CREATE OR REPLACE MACRO duckdb_columns() AS TABLE SELECT 1", NOBODY),
    ("CREATE TYPE timestamp AS INTEGER", NOBODY),
    ("CREATE SCHEMA merganser.information_schema", NOBODY),
    ("CREATE SCHEMA merganser.merganser", NOBODY),
    ("CREATE SCHEMA other.main", NOBODY),
    ("CREATE SCHEMA other.inner", NOBODY),
    ("CREATE SCHEMA memory.x", NOBODY),
    ("CREATE SCHEMA IF NOT EXISTS pub_schema", WRITERS),
    ("CREATE VIEW duckdb_tables AS SELECT 1", NOBODY),
    ("CREATE TEMP TABLE sqlite_master (a INTEGER)", NOBODY),
    ("ALTER TABLE pub_c RENAME TO Duckdb_Views", NOBODY),
    ("ALTER VIEW pub_view_of_secret RENAME TO pg_class", NOBODY),
    ("CREATE MACRO merganser_sessions() AS TABLE SELECT 1", NOBODY),
    ("ALTER TABLE pub_c ALTER i TYPE VARIANT USING '[]'::JSON", NOBODY),
    ("CREATE TABLE pub_variant (v VARIANT DEFAULT '[]'::JSON)", NOBODY),
    ("CREATE UNIQUE INDEX x ON _metadata (type)", NOBODY),
    ("DELETE FROM _metadata", NOBODY),
    ("EXPLAIN ANALYZE DELETE FROM pub_a", NOBODY),
    ("EXPLAIN (ANALYZE) COPY pub_a TO 'x.csv'", NOBODY),
    ("COPY pub_a TO '/tmp/x.csv'", NOBODY),
    ("COPY pub_a FROM '/etc/passwd'", NOBODY),
    ("EXPLAIN COPY pub_a FROM '/etc/passwd'", NOBODY),
    ("EXPLAIN (FORMAT json, ANALYZE) DELETE FROM pub_a", NOBODY),
    ("EXPLAIN (FORMAT json) DELETE FROM pub_a", WRITERS),
    ("EXPLAIN (SELECT i FROM pub_a)", ALL),
    ("FROM read_blob('/etc/passwd')", NOBODY),
    ("FROM \"read_csv\"('/etc/passwd')", NOBODY),
    ("FROM main.glob('/*')", NOBODY),
    ("FROM '/etc/passwd'", NOBODY),
    ("FROM json_execute_serialized_sql(json_serialize_sql('FROM secret'))", NOBODY),
    ("SELECT json_serialize_plan('FROM secret')", NOBODY),
    ("SELECT '[]'::JSON::VARIANT", NOBODY),
    ("CALL enable_logging()", NOBODY),
    ("SELECT write_log('x')", NOBODY),
    ("SET threads = 1", NOBODY),
    ("ATTACH ':memory:' AS x", NOBODY),
    ("PREPARE p AS SELECT 1", NOBODY),
];

fn callers() -> [Call; 5] {
    let granted = |role| {
        let grants: Vec<Grant> = ["read:pub_*", "write:pub_*"].iter().map(|text| text.parse().unwrap()).collect();
        Principal::new("granted", role).with_grants(grants)
    };
    let principals = [
        Principal::new("reader", Role::Reader),
        Principal::new("writer", Role::Writer),
        Principal::new("admin", Role::Admin),
        granted(Role::Reader),
        granted(Role::Writer),
    ];
    principals.map(|principal| Call { principal: Some(Arc::new(principal)), ..Call::default() })
}

/// Runs a statement as a DoGet does.
async fn run(engine: &Engine, sql: &str, call: &Call) -> Result<()> {
    match engine.query(sql.to_owned(), None, call).await? {
        Started::Rows(mut rows) => {
            rows.start(None);
            while let Some(batch) = rows.next().await {
                batch?;
            }
        }
        Started::Change => match engine.execute(sql.to_owned(), None, call).await? {
            Execution::Done(_) => {}
            Execution::Insert(insert) => panic!("{insert:?}"),
        },
    }
    Ok(())
}

async fn engine() -> Engine {
    let database = Database { path: None, temp_directory: None, read_only: false };
    let engine = Engine::open(&Config::default(), database).unwrap();
    for sql in [
        "CREATE TABLE pub_a AS FROM range(3) t(i)",
        "CREATE TABLE pub_c AS FROM pub_a",
        "CREATE TABLE pub_d2 AS FROM pub_a",
        "CREATE TABLE secret AS FROM range(3) t(i)",
        "CREATE VIEW pub_view_of_secret AS FROM secret",
        "CREATE MACRO pub_macro() AS TABLE FROM secret",
        "CREATE MACRO pub_scalar() AS (SELECT max(i) FROM secret)",
        "CREATE SEQUENCE pub_s",
        "CREATE SCHEMA other",
        "CREATE TABLE other.t AS FROM range(3) t(i)",
    ] {
        run(&engine, sql, &Call::default()).await.unwrap();
    }
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_has_its_verdict() {
    let engine = engine().await;
    let mut wrong = Vec::new();
    for (sql, verdicts) in STATEMENTS {
        for (call, may) in callers().iter().zip(verdicts) {
            let outcome = run(&engine, sql, call).await;
            if outcome.is_ok() != *may {
                let Principal { name, role, .. } = &**call.principal.as_ref().unwrap();
                wrong.push(format!("{sql} as {name} ({role:?}): {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The server goes on.
    run(&engine, "SELECT * FROM secret", &Call::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_reaches_further_than_the_grants() {
    let engine = engine().await;
    let [_, writer, .., granted] = callers();
    for sql in [
        "CREATE TABLE keys (i INTEGER PRIMARY KEY)",
        "CREATE TABLE uses_s (i INTEGER DEFAULT nextval('pub_s'))",
        "CREATE SCHEMA pub_other",
        "CREATE TABLE pub_other.pub_t (i INTEGER)",
        "CREATE INDEX pub_index ON keys (i)",
        "CREATE INDEX index_of_c ON pub_c (i)",
    ] {
        run(&engine, sql, &writer).await.unwrap();
    }
    for sql in [
        "ALTER TABLE pub_a RENAME TO secret_2",
        "ALTER VIEW pub_view_of_secret RENAME TO secret_2",
        "CREATE TABLE pub_keys (i INTEGER REFERENCES keys (i))",
        "CREATE TABLE pub_keys (i INTEGER, FOREIGN KEY (i) REFERENCES keys)",
        "DROP SEQUENCE pub_s CASCADE",
        "DROP SCHEMA pub_other CASCADE",
        "DROP SCHEMA other",
        "ALTER SEQUENCE pub_s OWNED BY uses_s",
        "ALTER TABLE other.t RENAME TO pub_t",
        "DROP INDEX pub_index",
        "CREATE INDEX pub_index_2 ON secret (i)",
        "ALTER TABLE secret ADD PRIMARY KEY (i)",
        "COMMENT ON COLUMN secret.i IS 'x'",
        "CREATE TYPE pub_values AS ENUM (SELECT i::VARCHAR FROM secret)",
    ] {
        let error = run(&engine, sql, &granted).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{sql}: {error}");
    }
    for sql in [
        "ALTER TABLE pub_a RENAME TO pub_z",
        "DROP INDEX index_of_c",
        "DROP INDEX IF EXISTS pub_nothing",
        "CREATE TABLE pub_keys (i INTEGER PRIMARY KEY, j INTEGER REFERENCES pub_keys (i))",
        "CREATE TABLE pub_more_keys (i INTEGER REFERENCES pub_keys)",
        "DROP TABLE pub_other.pub_t",
        "DROP SCHEMA pub_other",
    ] {
        run(&engine, sql, &granted).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    run(&engine, "DROP SEQUENCE pub_s CASCADE", &writer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_nothing_that_is_not_granted() {
    let engine = engine().await;
    let [reader, .., granted, granted_writer] = callers();
    run(&engine, "CREATE VIEW pub_view AS SELECT i AS hidden FROM secret", &Call::default()).await.unwrap();
    for sql in [
        "FROM secre",
        "SELECT hidde FROM pub_view",
        "FROM (SELECT 1 AS z) NATURAL JOIN pub_view",
        "SELECT upper(pub_view) FROM pub_view",
        "SELECT secre()",
    ] {
        for call in [&granted, &granted_writer] {
            let error = run(&engine, sql, call).await.unwrap_err();
            assert!(!["secret", "hidden"].iter().any(|name| error.message().contains(name)), "{sql}: {error}");
        }
    }
    let helpful = run(&engine, "FROM secre", &reader).await.unwrap_err();
    assert!(helpful.message().contains("Did you mean \"secret\"?"), "{helpful}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_show_what_may_be_read() {
    let engine = engine().await;
    let [reader, .., granted, _] = callers();
    run(&engine, "CREATE VIEW pub_view_of_a AS FROM pub_a", &Call::default()).await.unwrap();
    let readable = ["pub_a", "pub_c", "pub_d2", "pub_view_of_a"];
    let tables = async |call| {
        let listed = engine.tables(None, None, call).await.unwrap();
        let relations = engine.relations(Filter::default(), None, true, call).await.unwrap();
        assert!(relations.iter().all(|relation| !relation.columns.is_empty()));
        let main: Vec<String> = relations.into_iter().filter(|one| one.schema == "main").map(|one| one.name).collect();
        assert_eq!(listed.into_iter().map(|listing| listing.name).collect::<Vec<_>>(), main);
        main
    };
    assert_eq!(tables(&granted).await, readable);
    assert_eq!(tables(&reader).await.len(), readable.len() + 2);
    for (call, schemas) in [(&granted, &["main"][..]), (&reader, &["main", "other"])] {
        let listed = engine.schemas(Filter::default(), call).await.unwrap();
        assert_eq!(listed.into_iter().map(|name| name.schema).collect::<Vec<_>>(), schemas);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_a_matter_of_permission() {
    let engine = engine().await;
    let [reader, .., granted, _] = callers();
    for (sql, call, words) in [
        ("DELETE FROM pub_a", &reader, "user \"reader\" may not write table \"pub_a\" (its role is reader"),
        ("SELECT * FROM secret", &granted, "may not read table \"secret\" (no grant"),
        ("SELECT * FROM other.t", &granted, "may not read table \"other.t\""),
        ("FROM read_blob('x')", &reader, "function read_blob is not offered"),
    ] {
        let error = run(&engine, sql, call).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{sql}: {error}");
        assert!(error.message().contains(words), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_exports_below_the_export_directory_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let exports = directory.path().join("it's exports");
    std::fs::create_dir(&exports).unwrap();
    let mut config = Config::default();
    config.engine.export_directory.clone_from(&exports);
    let path = directory.path().join("x.duckdb");
    let database = Database { path: Some(path.clone()), temp_directory: None, read_only: false };
    let engine = Engine::open(&config, database).unwrap();
    let [_, writer, admin, ..] = callers();
    let copy = |path: &std::path::Path| {
        format!("COPY (SELECT 42 AS i) TO '{}'", path.display().to_string().replace('\'', "''"))
    };
    run(&engine, &copy(&exports.join("a.csv")), &admin).await.unwrap();
    assert_eq!(std::fs::read_to_string(exports.join("a.csv")).unwrap(), "i\n42\n");
    for (path, call) in [
        (exports.join("b.csv"), &writer),
        (path, &admin),
        (exports.join("../b.csv"), &admin),
        (directory.path().join("b.csv"), &admin),
    ] {
        let error = run(&engine, &copy(&path), call).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}: {error}", path.display());
    }
    assert!(!exports.join("b.csv").exists() && !directory.path().join("b.csv").exists());
}
