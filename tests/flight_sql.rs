//! arrow-flight's own `FlightSqlServiceClient` against the real binary: a handshake, queries, updates, prepared statements,
//! transactions, ingest and every metadata command, as a program in Rust uses them.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};

use arrow_flight::FlightInfo;
use arrow_flight::error::Result;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, CommandStatementIngest, EndTransaction, SqlInfo,
    TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use futures::{TryStreamExt, stream};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::support::{Machine, Server, flight};

/// A client with a session of its own.
struct Client(FlightSqlServiceClient<Channel>);

impl Client {
    async fn connect(server: &Server<'_>) -> Self {
        let mut client = FlightSqlServiceClient::new(flight::connect(server).await);
        let payload = client.handshake("user", "password").await.expect("any user will do");
        // Without the header the client would stay without a token, and say nothing.
        assert_eq!(client.token().map(String::as_bytes), Some(&payload[..]), "header and payload tell the same token");
        Self(client)
    }

    async fn rows(&mut self, sql: &str) -> Vec<RecordBatch> {
        let info = self.0.execute(sql.to_owned(), None).await;
        self.read(info).await
    }

    /// Reads the one endpoint of a result.
    async fn read(&mut self, info: Result<FlightInfo>) -> Vec<RecordBatch> {
        let info = info.expect("the command runs");
        let [endpoint] = info.endpoint.as_slice() else { panic!("not one endpoint: {info:?}") };
        assert!(endpoint.location.is_empty(), "the endpoint is where the client is");
        let ticket = endpoint.ticket.clone().expect("an endpoint has a ticket");
        let stream = self.0.do_get(ticket).await.expect("the ticket is good");
        stream.try_collect().await.expect("the stream ends well")
    }

    async fn update(&mut self, sql: &str) -> i64 {
        self.0.execute_update(sql.to_owned(), None).await.expect("the update runs")
    }

    async fn count(&mut self, table: &str) -> i64 {
        numbers(&self.rows(&format!("SELECT count(*) FROM {table}")).await)[0]
    }
}

/// The numbers of the first column.
fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(column).collect()
}

/// The texts of one column.
fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let of = |batch: &RecordBatch| -> Vec<String> {
        let texts = batch.column_by_name(column).expect("the column is there").as_string::<i32>().iter();
        texts.flatten().map(ToOwned::to_owned).collect()
    };
    batches.iter().flat_map(of).collect()
}

fn parameters(columns: Vec<Arc<dyn Array>>) -> RecordBatch {
    let field = |(index, column): (usize, &Arc<dyn Array>)| {
        Field::new((index + 1).to_string(), column.data_type().clone(), true)
    };
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns).expect("the columns fit")
}

/// Runs `test` with a client of a new server.
fn with_client<F: Future<Output = ()>>(test: impl FnOnce(Client, Client) -> F) {
    let machine = Machine::new();
    let server = machine.serve(&["--memory"]);
    Runtime::new().expect("threads can be started").block_on(async {
        let clients = (Client::connect(&server).await, Client::connect(&server).await);
        test(clients.0, clients.1).await;
    });
}

#[test]
fn queries_and_updates() {
    with_client(|mut client, mut other| async move {
        assert_eq!(numbers(&client.rows("SELECT range FROM range(3)").await), [0, 1, 2]);
        assert_eq!(numbers(&client.rows("SELECT 1::BIGINT WHERE false").await), [0i64; 0]);
        assert_eq!(client.update("CREATE TABLE t (n BIGINT, s VARCHAR)").await, 0);
        assert_eq!(client.update("INSERT INTO t VALUES (1, 'a'), (2, NULL)").await, 2);
        assert_eq!(other.count("t").await, 2);
        let error = client.0.execute("SELECT * FROM nowhere".to_owned(), None).await.expect_err("there is none");
        assert!(error.to_string().contains("nowhere"), "{error}");
        // A session is one's own, and ends with close.
        client.update("CREATE TEMP TABLE own AS SELECT 1 AS n").await;
        assert_eq!(client.count("own").await, 1);
        other.0.execute("SELECT * FROM own".to_owned(), None).await.expect_err("it is another session's");
    });
}

#[test]
fn prepared_statements() {
    with_client(|mut client, _| async move {
        client.update("CREATE TABLE t (n BIGINT, s VARCHAR)").await;
        let mut insert =
            client.0.prepare("INSERT INTO t VALUES (?, ?)".to_owned(), None).await.expect("it is prepared");
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let declared = insert.parameter_schema().expect("the schema is readable");
        assert_eq!(types(declared), [DataType::Int64, DataType::Utf8]);
        assert!(insert.dataset_schema().expect("the schema is readable").fields().is_empty());
        let rows = parameters(vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
            Arc::new(StringArray::from(vec![Some("a"), Some("b"), None])),
        ]);
        insert.set_parameters(rows).expect("they fit");
        assert_eq!(insert.execute_update().await.expect("the update runs"), 3);
        insert.close().await.expect("it is closed");

        // Nothing to bind: the client sends nothing but the descriptor.
        let mut delete =
            client.0.prepare("DELETE FROM t WHERE n IS NULL".to_owned(), None).await.expect("it is prepared");
        assert_eq!(delete.execute_update().await.expect("the update runs"), 1);

        let mut select =
            client.0.prepare("SELECT n FROM t WHERE n > ?".to_owned(), None).await.expect("it is prepared");
        for (above, wanted) in [(0, vec![1, 3]), (1, vec![3]), (3, vec![])] {
            select.set_parameters(parameters(vec![Arc::new(Int64Array::from(vec![above]))])).expect("they fit");
            let info = select.execute().await;
            let mut found = numbers(&client.read(info).await);
            found.sort_unstable();
            assert_eq!(found, wanted);
        }
    });
}

#[test]
fn transactions() {
    with_client(|mut client, mut other| async move {
        client.update("CREATE TABLE t (n BIGINT)").await;
        for (end, kept) in [(EndTransaction::Rollback, 0), (EndTransaction::Commit, 1)] {
            let transaction = client.0.begin_transaction().await.expect("transactions are offered");
            let insert = "INSERT INTO t VALUES (1)".to_owned();
            let inserted = client.0.execute_update(insert, Some(transaction.clone())).await;
            assert_eq!(inserted.expect("the update runs"), 1);
            let sql = "SELECT count(*) FROM t".to_owned();
            let info = client.0.execute(sql.clone(), Some(transaction.clone())).await;
            assert_eq!(numbers(&client.read(info).await), [1]);
            let mut prepared = client.0.prepare(sql, Some(transaction.clone())).await.expect("it is prepared");
            let info = prepared.execute().await;
            assert_eq!(numbers(&client.read(info).await), [1]);
            assert_eq!(other.count("t").await, 0);
            client.0.end_transaction(transaction.clone(), end).await.expect("it ends");
            assert_eq!(other.count("t").await, kept);
            client.0.end_transaction(transaction, end).await.expect_err("it has ended");
        }
    });
}

#[test]
fn ingest() {
    with_client(|mut client, mut other| async move {
        let command = |exists: TableExistsOption, transaction_id| CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: TableNotExistOption::Create.into(),
                if_exists: exists.into(),
            }),
            table: "t".to_owned(),
            transaction_id,
            ..Default::default()
        };
        let batches = || {
            let batch = parameters(vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]);
            stream::iter([Ok(batch.clone()), Ok(batch)])
        };
        let stored = client.0.execute_ingest(command(TableExistsOption::Fail, None), batches()).await;
        assert_eq!(stored.expect("the ingest ends well"), 6);
        let again = client.0.execute_ingest(command(TableExistsOption::Fail, None), batches()).await;
        assert!(again.expect_err("the table is there").to_string().contains('t'));
        let transaction = client.0.begin_transaction().await.expect("transactions are offered");
        let inside = command(TableExistsOption::Append, Some(transaction.clone()));
        assert_eq!(client.0.execute_ingest(inside, batches()).await.expect("the ingest ends well"), 6);
        assert_eq!(other.count("t").await, 6);
        client.0.end_transaction(transaction, EndTransaction::Commit).await.expect("it ends");
        assert_eq!(other.count("t").await, 12);
    });
}

#[test]
fn metadata() {
    with_client(|mut client, _| async move {
        client.update("CREATE TABLE a (x INTEGER PRIMARY KEY, y VARCHAR)").await;
        client.update("CREATE TABLE b (x INTEGER REFERENCES a (x))").await;
        let info = client.0.get_catalogs().await;
        assert!(texts(&client.read(info).await, "catalog_name").contains(&"merganser".to_owned()));
        let schemas = CommandGetDbSchemas { db_schema_filter_pattern: Some("ma%".to_owned()), ..Default::default() };
        let info = client.0.get_db_schemas(schemas).await;
        assert_eq!(texts(&client.read(info).await, "db_schema_name"), ["main"]);
        let tables = CommandGetTables { include_schema: true, table_types: vec!["TABLE".into()], ..Default::default() };
        let info = client.0.get_tables(tables).await;
        assert_eq!(texts(&client.read(info).await, "table_name"), ["a", "b"]);
        let info = client.0.get_table_types().await;
        assert!(texts(&client.read(info).await, "table_type").contains(&"VIEW".to_owned()));
        let info = client.0.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerTransaction]).await;
        assert_eq!(client.read(info).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
        let info = client.0.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(4) }).await;
        let types = client.read(info).await;
        assert!(
            types.iter().all(|batch| batch.column(1).as_primitive::<Int32Type>().values().iter().all(|id| *id == 4))
        );

        let (pk_table, fk_table) = ("a".to_owned(), "b".to_owned());
        let keys = CommandGetPrimaryKeys { table: pk_table.clone(), ..Default::default() };
        let info = client.0.get_primary_keys(keys).await;
        assert_eq!(texts(&client.read(info).await, "column_name"), ["x"]);
        let keys = CommandGetExportedKeys { table: pk_table.clone(), ..Default::default() };
        let info = client.0.get_exported_keys(keys).await;
        assert_eq!(texts(&client.read(info).await, "fk_table_name"), ["b"]);
        let keys = CommandGetImportedKeys { table: fk_table.clone(), ..Default::default() };
        let info = client.0.get_imported_keys(keys).await;
        assert_eq!(texts(&client.read(info).await, "pk_table_name"), ["a"]);
        let keys = CommandGetCrossReference { pk_table, fk_table, ..Default::default() };
        let info = client.0.get_cross_reference(keys).await;
        assert_eq!(texts(&client.read(info).await, "pk_column_name"), ["x"]);
    });
}
