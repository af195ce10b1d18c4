//! Rows of the managed kinds, collected into columns. Every reader of JSON lines ends here.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::tables::Kind;

const UTC: &str = "UTC";

/// One row of events. `properties` is JSON text.
#[derive(Debug)]
pub(in crate::cli) struct EventRow<'a> {
    pub(in crate::cli) event_name: &'a str,
    /// Microseconds since 1970.
    pub(in crate::cli) event_time: i64,
    pub(in crate::cli) distinct_id: &'a str,
    pub(in crate::cli) insert_id: &'a str,
    pub(in crate::cli) properties: Option<&'a str>,
}

/// One row of profiles. `properties` is JSON text.
#[derive(Debug)]
pub(in crate::cli) struct ProfileRow<'a> {
    pub(in crate::cli) distinct_id: &'a str,
    pub(in crate::cli) properties: Option<&'a str>,
    /// Microseconds since 1970.
    pub(in crate::cli) last_seen: Option<i64>,
}

/// The schema that readers of JSON lines give a managed kind: the table's columns, in its order.
pub(in crate::cli) fn schema(kind: Kind) -> SchemaRef {
    let fields = kind.columns().iter().map(|column| {
        let data_type = match column.sql_type {
            "TIMESTAMP" => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            _ => DataType::Utf8,
        };
        Field::new(column.name, data_type, column.nullable)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows of events, as columns.
#[derive(Debug)]
pub(in crate::cli) struct EventRows {
    schema: SchemaRef,
    event_name: StringBuilder,
    event_time: TimestampMicrosecondBuilder,
    distinct_id: StringBuilder,
    insert_id: StringBuilder,
    properties: StringBuilder,
}

impl EventRows {
    pub(in crate::cli) fn new() -> Self {
        Self {
            schema: schema(Kind::Events),
            event_name: StringBuilder::new(),
            event_time: TimestampMicrosecondBuilder::new().with_timezone(UTC),
            distinct_id: StringBuilder::new(),
            insert_id: StringBuilder::new(),
            properties: StringBuilder::new(),
        }
    }

    pub(in crate::cli) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(in crate::cli) fn push(&mut self, row: &EventRow<'_>) {
        self.event_name.append_value(row.event_name);
        self.event_time.append_value(row.event_time);
        self.distinct_id.append_value(row.distinct_id);
        self.insert_id.append_value(row.insert_id);
        self.properties.append_option(row.properties);
    }

    /// The rows since the last flush.
    pub(in crate::cli) fn flush(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.event_name.finish()),
            Arc::new(self.event_time.finish()),
            Arc::new(self.distinct_id.finish()),
            Arc::new(self.insert_id.finish()),
            Arc::new(self.properties.finish()),
        ];
        RecordBatch::try_new(self.schema(), columns)
    }
}

/// Rows of profiles, as columns.
#[derive(Debug)]
pub(in crate::cli) struct ProfileRows {
    schema: SchemaRef,
    distinct_id: StringBuilder,
    properties: StringBuilder,
    last_seen: TimestampMicrosecondBuilder,
}

impl ProfileRows {
    pub(in crate::cli) fn new() -> Self {
        Self {
            schema: schema(Kind::Profiles),
            distinct_id: StringBuilder::new(),
            properties: StringBuilder::new(),
            last_seen: TimestampMicrosecondBuilder::new().with_timezone(UTC),
        }
    }

    pub(in crate::cli) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(in crate::cli) fn push(&mut self, row: &ProfileRow<'_>) {
        self.distinct_id.append_value(row.distinct_id);
        self.properties.append_option(row.properties);
        self.last_seen.append_option(row.last_seen);
    }

    /// The rows since the last flush.
    pub(in crate::cli) fn flush(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.distinct_id.finish()),
            Arc::new(self.properties.finish()),
            Arc::new(self.last_seen.finish()),
        ];
        RecordBatch::try_new(self.schema(), columns)
    }
}
