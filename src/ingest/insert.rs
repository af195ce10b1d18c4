//! SQL's INSERT into a managed table: the rows of its query are an ingest like any other.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use futures::StreamExt;

use super::{Budget, Ingest, Mode, OnDuplicate, Request};
use crate::engine::{Bound, Call, Engine, Insert, Outcome, Started, TablePlace};
use crate::error::{Error, Result};

/// Runs the query of `insert` and stores its rows, all or none.
pub async fn insert(
    engine: &Engine,
    budget: &Budget,
    insert: Insert,
    bound: Option<Bound>,
    call: &Call,
) -> Result<Outcome> {
    // In a transaction both use one connection: the query has to have begun, or the ingest takes it away.
    let Started::Rows(mut rows) = engine.query_now(insert.source, bound, call).await? else {
        return Err(Error::precondition(format!(
            "the query of an INSERT into {} must not change anything itself",
            insert.table
        )));
    };
    if let Some(names) = insert.columns.as_ref().filter(|names| names.len() != rows.schema().fields().len()) {
        return Err(Error::invalid(format!(
            "table {} gets {} columns but {} values were given",
            insert.table,
            names.len(),
            rows.schema().fields().len()
        )));
    }
    let schema = Arc::new(named(rows.schema(), insert.columns.as_deref()));
    let request = Request {
        // Wherever the session looks for other tables.
        place: TablePlace::Main,
        mode: Mode::Append,
        on_duplicate: if insert.replace { OnDuplicate::Replace } else { OnDuplicate::Skip },
        ..Request::create(Some(insert.kind), &insert.table)
    };
    let mut ingest = Ingest::open(engine, budget, request, &schema, call).await?;
    while let Some(batch) = rows.next().await {
        let batch = RecordBatch::try_new(Arc::clone(&schema), batch?.columns().to_vec())?;
        ingest.write(batch).await?;
    }
    ingest.commit().await
}

/// The query's columns under the names of the columns that they are for.
fn named(schema: &Schema, names: Option<&[String]>) -> Schema {
    let Some(names) = names else { return schema.clone() };
    let fields: Vec<Field> =
        schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name)).collect();
    Schema::new(fields)
}
