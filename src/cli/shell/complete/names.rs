//! The names that a server knows: asked for when they are needed first, and kept for a while. A question never takes long, and an
//! answer that fails or comes late completes nothing, for nobody should wait for a tab.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use tokio::runtime::Handle;

use crate::cli::client::Client;
use crate::error::Result;
use crate::proto::v1::{ListTablesRequest, TableInfo, TableRequest, TableSchema};

/// Time that an answer may take.
const WAIT_MAX: Duration = Duration::from_millis(1500);
/// Time after which others may have made new tables.
const FRESH_FOR: Duration = Duration::from_mins(1);
/// Names in one list.
const NAMES_MAX: usize = 5000;
/// Lists that are kept; with more, all are asked for again.
const LISTS_MAX: usize = 500;
/// Rows whose JSON is looked at for its members.
const ROWS_MAX: usize = 20_000;

/// What can be completed.
pub(in crate::cli::shell) trait Names {
    /// Tables and views.
    fn tables(&self) -> Vec<String>;
    /// Columns of a table.
    fn columns(&self, table: &str) -> Vec<String>;
    /// Functions.
    fn functions(&self) -> Vec<String>;
    /// Members of the JSON in a table's column, below the members `above`.
    fn properties(&self, table: &str, column: &str, above: &[String]) -> Vec<String>;
}

/// A list of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum List {
    Tables,
    Columns(String),
    Functions,
    Properties(String, String, Vec<String>),
}

/// The names of a server.
pub(in crate::cli::shell) struct ServerNames {
    handle: Handle,
    /// Without the shell's session: a question that fails must not end its transaction. None: there is no connection.
    client: RefCell<Option<Client>>,
    kept: RefCell<HashMap<List, (Instant, Vec<String>)>>,
}

impl ServerNames {
    pub(in crate::cli::shell) fn new(handle: Handle) -> Self {
        Self { handle, client: RefCell::default(), kept: RefCell::default() }
    }

    /// Asks this server from now on.
    pub(in crate::cli::shell) fn ask(&self, client: Option<Client>) {
        *self.client.borrow_mut() = client;
        self.forget();
    }

    /// Forgets all: something has changed them.
    pub(in crate::cli::shell) fn forget(&self) {
        self.kept.borrow_mut().clear();
    }

    fn get(&self, list: List) -> Vec<String> {
        if let Some((since, names)) = self.kept.borrow().get(&list)
            && since.elapsed() < FRESH_FOR
        {
            return names.clone();
        }
        let Some(mut client) = self.client.borrow().clone() else { return Vec::new() };
        let asked = async { tokio::time::timeout(WAIT_MAX, names(&mut client, &list)).await };
        let Ok(answer) = self.handle.block_on(asked) else { return Vec::new() };
        // What is refused will be refused again.
        let mut names = answer.unwrap_or_default();
        names.truncate(NAMES_MAX);
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= LISTS_MAX {
            kept.clear();
        }
        kept.insert(list, (Instant::now(), names.clone()));
        names
    }
}

impl Names for ServerNames {
    fn tables(&self) -> Vec<String> {
        self.get(List::Tables)
    }

    fn columns(&self, table: &str) -> Vec<String> {
        self.get(List::Columns(table.to_owned()))
    }

    fn functions(&self) -> Vec<String> {
        self.get(List::Functions)
    }

    fn properties(&self, table: &str, column: &str, above: &[String]) -> Vec<String> {
        self.get(List::Properties(table.to_owned(), column.to_owned(), above.to_vec()))
    }
}

/// Asks the server for a list.
async fn names(client: &mut Client, list: &List) -> Result<Vec<String>> {
    match list {
        List::Tables => {
            let tables: Vec<TableInfo> = client.action("list_tables", &ListTablesRequest::default()).await?;
            Ok(tables.into_iter().map(|table| table.name).collect())
        }
        List::Columns(table) => {
            let request = TableRequest { table: table.clone() };
            let schema: TableSchema = client.action_once("get_schema", &request).await?;
            Ok(schema.columns.into_iter().map(|column| column.name).collect())
        }
        List::Functions => first_column(client, functions()).await,
        List::Properties(table, column, above) => first_column(client, properties(table, column, above)).await,
    }
}

/// Functions that are called by a name; operators are functions, too.
fn functions() -> String {
    format!(
        "SELECT DISTINCT function_name FROM duckdb_functions() \
         WHERE function_type <> 'pragma' AND regexp_full_match(function_name, '[a-z][a-z0-9_]*') LIMIT {NAMES_MAX}"
    )
}

fn properties(table: &str, column: &str, above: &[String]) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (table, column) = (quoted(table), quoted(column));
    let path = above.iter().fold(String::new(), |path, member| path + ".\"" + member + "\"").replace('\'', "''");
    format!(
        "SELECT DISTINCT unnest(json_keys({column}, '${path}')) AS key \
         FROM (SELECT {column} FROM {table} LIMIT {ROWS_MAX}) LIMIT {NAMES_MAX}"
    )
}

/// The texts in the first column of a query's rows.
async fn first_column(client: &mut Client, sql: String) -> Result<Vec<String>> {
    let mut rows = client.query(sql).await?;
    let mut names = Vec::new();
    while let Some(batch) = rows.next().await? {
        let Some(column) = batch.columns().first() else { break };
        if let Some(texts) = column.as_string_opt::<i32>() {
            names.extend(texts.iter().flatten().map(str::to_owned));
        } else if let Some(texts) = column.as_string_view_opt() {
            names.extend(texts.iter().flatten().map(str::to_owned));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};

    use super::*;
    use crate::cli::fake::{self, Script};

    #[test]
    fn lists_are_asked_for_once_and_again_after_a_change() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a")]));
        let batches = vec![RecordBatch::try_from_iter([("key", keys)]).unwrap()];
        let (server, _) = runtime.block_on(fake::start(Script { batches, ..Script::default() }));
        let names = ServerNames::new(runtime.handle().clone());
        assert_eq!(names.tables(), Vec::<String>::new());
        names.ask(Some(runtime.block_on(Client::connect(&server)).unwrap()));
        assert_eq!(names.tables(), ["a", "b"]);
        assert_eq!(names.properties("t", "p", &[]), ["b", "a"]);
        // It has no such action.
        assert_eq!(names.columns("t"), Vec::<String>::new());

        *names.client.borrow_mut() = None;
        assert_eq!(names.tables(), ["a", "b"]);
        names.forget();
        assert_eq!(names.tables(), Vec::<String>::new());
    }

    #[test]
    fn names_are_quoted_in_what_is_asked() {
        let sql = properties("a\"b", "p", &["it's".to_owned(), "c".to_owned()]);
        assert!(sql.contains("json_keys(\"p\", '$.\"it''s\".\"c\"')"), "{sql}");
        assert!(sql.contains("FROM \"a\"\"b\" LIMIT"), "{sql}");
    }
}
