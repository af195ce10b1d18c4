//! Tests of the listings against a database in memory.

use std::collections::HashMap;

use super::*;
use crate::config::Config;
use crate::engine::{Call, Database, Execution, Started, TYPE_KEY};

async fn engine(statements: &[&str]) -> Engine {
    let mut config = Config::default();
    config.engine.memory_limit = bytesize::ByteSize::mib(512);
    let engine = Engine::open(&config, Database { path: None, temp_directory: None, read_only: false }).unwrap();
    for sql in statements {
        let executed = engine.execute((*sql).to_owned(), None, &Call::default()).await.unwrap();
        assert!(matches!(executed, Execution::Done(_)), "{sql}");
    }
    engine
}

async fn names(engine: &Engine, filter: Filter) -> Vec<String> {
    let relations = engine.relations(filter, None, false, &Call::default()).await.unwrap();
    relations.into_iter().map(|relation| format!("{}.{}", relation.schema, relation.name)).collect()
}

fn table(pattern: &str) -> Filter {
    Filter { table: Some(pattern.to_owned()), ..Filter::default() }
}

#[test]
fn a_slash_at_the_end_is_itself() {
    assert_eq!(whole_pattern("a\\"), "a\\\\");
    assert_eq!(whole_pattern("a\\\\"), "a\\\\");
    assert_eq!(whole_pattern("a\\_%"), "a\\_%");
}

#[tokio::test]
async fn patterns_escape_and_tell_case() {
    let engine = engine(&[
        "CREATE TABLE a_b (x INTEGER)",
        "CREATE TABLE axb (x INTEGER)",
        "CREATE TABLE \"A%B\" (x INTEGER)",
        "CREATE SCHEMA other",
        "CREATE VIEW other.v AS SELECT 1 AS x",
    ])
    .await;
    assert_eq!(names(&engine, Filter::default()).await, ["main.A%B", "main.a_b", "main.axb", "other.v"]);
    assert_eq!(names(&engine, table("a_b")).await, ["main.a_b", "main.axb"]);
    assert_eq!(names(&engine, table("a\\_b")).await, ["main.a_b"]);
    assert_eq!(names(&engine, table("A\\%B")).await, ["main.A%B"]);
    assert_eq!(names(&engine, table("A\\_B")).await, [""; 0]);
    assert_eq!(names(&engine, table("a\\")).await, [""; 0]);
    let other = Filter { schema: Some("o%".to_owned()), ..Filter::default() };
    assert_eq!(names(&engine, other.clone()).await, ["other.v"]);
    let schemas = engine.schemas(other, &Call::default()).await.unwrap();
    assert_eq!(schemas, [SchemaName { catalog: CATALOG.to_owned(), schema: "other".to_owned() }]);
    assert_eq!(engine.catalogs(&Call::default()).await.unwrap(), [CATALOG]);
    let nowhere = Filter { catalog: Some(String::new()), ..Filter::default() };
    assert_eq!(names(&engine, nowhere).await, [""; 0]);
    let views =
        engine.relations(Filter::default(), Some(vec![RelationType::View]), false, &Call::default()).await.unwrap();
    assert_eq!(views.len(), 1);
}

#[tokio::test]
async fn columns_are_those_of_a_query() {
    let types = [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL(9,2)",
        "VARCHAR",
        "BLOB",
        "BIT",
        "BIGNUM",
        "UUID",
        "JSON",
        "DATE",
        "TIME",
        "TIME_NS",
        "TIMETZ",
        "TIMESTAMP",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP_NS",
        "TIMESTAMPTZ",
        "INTERVAL",
        "ENUM('a', 'b''c')",
        "INTEGER[]",
        "INTEGER[3]",
        "STRUCT(a INTEGER, \"b c\" VARCHAR[])",
        "MAP(VARCHAR, DECIMAL(5,1))",
        "UNION(n INTEGER, s VARCHAR)",
        "VARIANT",
        "GEOMETRY",
    ];
    let columns: Vec<String> = types.iter().enumerate().map(|(n, sql_type)| format!("\"c {n}\" {sql_type}")).collect();
    let engine = engine(&[&format!("CREATE TABLE types ({})", columns.join(", "))]).await;
    let relations = engine.relations(table("types"), None, true, &Call::default()).await.unwrap();
    let Started::Rows(rows) = engine.query("FROM types".to_owned(), None, &Call::default()).await.unwrap() else {
        panic!("a change")
    };
    assert_eq!(relations[0].columns.len(), types.len());
    for (column, field) in relations[0].columns.iter().zip(rows.schema().fields()) {
        assert_eq!(&column.field, field.as_ref());
    }
}

#[tokio::test]
async fn columns_tell_what_the_catalog_knows() {
    let engine = engine(&[
        "CREATE SEQUENCE ids",
        "CREATE TABLE t (id BIGINT NOT NULL DEFAULT nextval('ids'), name VARCHAR DEFAULT 'nextval')",
        "COMMENT ON TABLE t IS 'numbers'",
        "COMMENT ON COLUMN t.name IS 'a name'",
    ])
    .await;
    let relations = engine.relations(table("t"), None, true, &Call::default()).await.unwrap();
    assert_eq!(relations[0].comment.as_deref(), Some("numbers"));
    let [id, name] = relations[0].columns.as_slice() else { panic!("{relations:?}") };
    assert_eq!((id.auto_increment, id.field.is_nullable(), &id.comment), (true, false, &None));
    assert_eq!((name.auto_increment, name.field.is_nullable()), (false, true));
    assert_eq!(name.comment.as_deref(), Some("a name"));
    assert_eq!(name.field.metadata()[TYPE_KEY], "VARCHAR");
}

#[tokio::test]
async fn a_broken_view_has_the_columns_that_it_had() {
    let engine = engine(&[
        "CREATE TABLE gone (a INTEGER)",
        "CREATE VIEW broken AS SELECT a, a + 1.5 AS b FROM gone",
        "DROP TABLE gone",
    ])
    .await;
    let relations = engine.relations(Filter::default(), None, true, &Call::default()).await.unwrap();
    let columns: Vec<_> = relations[0].columns.iter().map(|column| column.field.name().as_str()).collect();
    assert_eq!((relations[0].name.as_str(), columns), ("broken", vec!["a", "b"]));
}

#[tokio::test]
async fn keys_are_found_without_regard_to_case() {
    let engine = engine(&[
        "CREATE TABLE parent (a INTEGER, b INTEGER, c INTEGER UNIQUE, PRIMARY KEY (a, b))",
        "CREATE TABLE child (y INTEGER, x INTEGER, z INTEGER REFERENCES PARENT(C), FOREIGN KEY (x, y) REFERENCES parent(a, b))",
    ])
    .await;
    let named = |table: &str| Named { table: table.to_owned(), ..Named::default() };
    let key = engine.primary_key(named("Parent"), &Call::default()).await.unwrap();
    let columns: Vec<_> = key.iter().map(|key| (key.table.as_str(), key.sequence, key.column.as_str())).collect();
    assert_eq!(columns, [("parent", 1, "a"), ("parent", 2, "b")]);
    assert_eq!(engine.primary_key(named("nowhere"), &Call::default()).await.unwrap(), []);

    let references = engine.references(Some(named("parent")), None, &Call::default()).await.unwrap();
    let mut pairs: HashMap<&str, (&str, &str, i32)> = HashMap::new();
    for reference in &references {
        assert_eq!((reference.primary_table.as_str(), reference.foreign_table.as_str()), ("parent", "child"));
        let primary = reference.primary_key.as_deref().unwrap();
        pairs.insert(&reference.foreign_column, (&reference.primary_column, primary, reference.sequence));
    }
    assert_eq!(pairs["x"], ("a", "parent_a_b_pkey", 1));
    assert_eq!(pairs["y"], ("b", "parent_a_b_pkey", 2));
    assert_eq!(pairs["z"].1, "parent_c_key");
    assert_eq!(engine.references(None, Some(named("child")), &Call::default()).await.unwrap().len(), 3);
    assert_eq!(engine.references(Some(named("child")), None, &Call::default()).await.unwrap(), []);
    // In any order: who lists them sorts them.
    let between = engine.references(Some(named("parent")), Some(named("child")), &Call::default()).await.unwrap();
    assert!(between.len() == references.len() && between.iter().all(|reference| references.contains(reference)));
}

#[tokio::test]
async fn the_vocabulary_is_duckdbs() {
    let vocabulary = engine(&[]).await.vocabulary(&Call::default()).await.unwrap();
    assert!(vocabulary.keywords.contains("select"));
    for function in ["abs", "upper", "date_trunc", "version"] {
        assert!(vocabulary.functions.contains(function), "{function}");
    }
}
