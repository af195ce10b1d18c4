//! Columns of all tables at once, and the Arrow types that their values have on the wire.

use std::collections::{HashMap, HashSet};

use arrow::datatypes::{DataType, Field};

use super::{Filter, of_users, rows};
use crate::engine::live::Live;
use crate::engine::parameters::Values;
use crate::engine::statement;
use crate::engine::types::{TYPE_KEY, shorten};
use crate::engine::work::Work;
use crate::error::Result;

/// How many types one statement asks about.
const TYPES_AT_ONCE: usize = 128;

/// A column of a table or view.
#[derive(Clone, Debug)]
pub struct Column {
    /// The column as Arrow has it, its DuckDB type in the metadata ([`TYPE_KEY`](crate::engine::TYPE_KEY)).
    pub field: Field,
    /// Whether a sequence gives its values.
    pub auto_increment: bool,
    /// What COMMENT ON says of it.
    pub comment: Option<String>,
}

impl Work {
    /// The columns of the tables and views that the filter leaves, by the ids of database and table. DuckDB keeps the columns
    /// of a view, so one that can no longer be read has those that it had.
    pub(super) fn columns_of(&self, filter: &Filter) -> Result<HashMap<(i64, i64), Vec<Column>>> {
        let sql = format!(
            "SELECT database_oid, table_oid, column_name, data_type, is_nullable, \
             coalesce(column_default LIKE 'nextval(%', false), comment FROM duckdb_columns() WHERE {} \
             ORDER BY database_oid, table_oid, column_index",
            of_users()
        );
        let (catalog, schema, table) = filter.values();
        let batches = self.collect(&sql, &[catalog.as_deref(), schema.as_deref(), table.as_deref()])?;
        let types: HashSet<String> = rows(&batches).filter_map(|row| row.text(3)).collect();
        let fields = self.arrow_fields(&types.into_iter().collect::<Vec<_>>())?;
        let mut columns: HashMap<(i64, i64), Vec<Column>> = HashMap::new();
        for row in rows(&batches) {
            let sql_type = row.text(3).unwrap_or_default();
            let field = fields.get(&sql_type).cloned().unwrap_or_else(|| unknown(&sql_type));
            columns.entry((row.long(0), row.long(1))).or_default().push(Column {
                field: field.with_name(row.text(2).unwrap_or_default()).with_nullable(row.flag(4)),
                auto_increment: row.flag(5),
                comment: row.text(6),
            });
        }
        Ok(columns)
    }

    /// What Arrow makes of DuckDB types, by their text: the field that `SELECT column` has, whatever its name.
    ///
    /// DuckDB itself is asked, about many types in one query without rows, so that a listing cannot differ from a result.
    pub(super) fn arrow_fields(&self, types: &[String]) -> Result<HashMap<String, Field>> {
        let mut fields = HashMap::new();
        for chunk in types.chunks(TYPES_AT_ONCE) {
            if self.ask_types(chunk, &mut fields).is_ok() {
                continue;
            }
            // One of them cannot be written down, or not as Arrow; the others can.
            for sql_type in chunk {
                self.cancel.check()?;
                if let Err(error) = self.ask_types(std::slice::from_ref(sql_type), &mut fields) {
                    tracing::debug!(sql_type, %error, "a type is listed as text");
                }
            }
        }
        Ok(fields)
    }

    fn ask_types(&self, types: &[String], fields: &mut HashMap<String, Field>) -> Result<()> {
        let nulls: Vec<String> = types.iter().map(|sql_type| format!("NULL::{sql_type}")).collect();
        let statement = statement::single(self.connection(), &format!("SELECT {} LIMIT 0", nulls.join(", ")))?;
        let batch = self.engine.result_buffer.batch();
        let result = Live::start(self.connection(), &statement, Values::default(), batch)?;
        let export = self.export(&result)?;
        for (sql_type, field) in types.iter().zip(export.schema().fields()) {
            fields.insert(sql_type.clone(), told(field.as_ref().clone(), sql_type));
        }
        Ok(())
    }
}

/// A column whose type Arrow does not have: it can be read as text only.
fn unknown(sql_type: &str) -> Field {
    told(Field::new("", DataType::Utf8, true), sql_type)
}

fn told(field: Field, sql_type: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(TYPE_KEY.to_owned(), shorten(sql_type.to_owned()));
    field.with_metadata(metadata)
}
