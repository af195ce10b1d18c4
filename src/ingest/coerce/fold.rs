//! Columns that a kind does not have, folded into the JSON of `properties` under their names.
//!
//! The text of properties stays byte for byte; what is added goes before its closing brace. So a key that is there
//! already stays too, and the column does not show in that row. A null adds nothing. Properties that are null, or the
//! JSON `null`, become an object as soon as there is something to add; any other value is no place for a column: a bad
//! row.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use arrow::record_batch::RecordBatch;

use super::Limits;
use super::encode::{Encoder, check_type, key};
use super::json::visit_keys;
use super::properties::Texts;
use super::report::BadRows;
use crate::error::{Error, Result};

/// The columns to fold.
#[derive(Debug, Default)]
pub(super) struct Extras {
    columns: Vec<ExtraColumn>,
}

#[derive(Debug)]
struct ExtraColumn {
    /// Where the column is in the stream.
    index: usize,
    field: FieldRef,
    /// The name as a JSON key, with its colon.
    key: Vec<u8>,
}

impl Extras {
    /// The columns of the stream at `indices`, if their types have a form in JSON.
    pub(super) fn new(indices: &[usize], fields: &[FieldRef], limits: &Limits) -> Result<Self> {
        let mut columns = Vec::with_capacity(indices.len());
        for &index in indices {
            let Some(field) = fields.get(index) else { continue };
            let name = field.name();
            // The object around the value is a level too.
            check_type(field, limits.json_depth.saturating_sub(1))
                .map_err(|reason| Error::invalid(format!("column {name:?} cannot join the properties: {reason}")))?;
            columns.push(ExtraColumn { index, field: Arc::clone(field), key: key(name) });
        }
        Ok(Self { columns })
    }

    /// Whether there is nothing to fold.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// `properties`, which are JSON text or null, with the columns of `batch` in them.
    pub(super) fn fold(
        &self,
        properties: &ArrayRef,
        batch: &RecordBatch,
        limits: &Limits,
        bad: &mut BadRows,
    ) -> Result<ArrayRef> {
        let views = cast(properties, &DataType::Utf8View).map_err(unreadable)?;
        let properties: &StringViewArray = views.as_string_view();
        let mut values = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let array = batch.columns().get(column.index).ok_or_else(|| unreadable("a column is gone"))?;
            let encoder =
                Encoder::new(&column.field, array, limits.json_depth.saturating_sub(1)).map_err(unreadable)?;
            values.push(Value { column, encoder });
        }
        let mut texts = Texts::new(batch.num_rows(), limits);
        let mut valid = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let old = properties.is_valid(row).then(|| properties.value(row));
            let added = values.iter().any(|value| !value.encoder.is_null(row));
            if !added || bad.contains(row) {
                texts.row().extend_from_slice(old.unwrap_or_default().as_bytes());
            } else if let Err((column, reason)) = splice(old, &mut values, row, texts.row()) {
                bad.add(row, column, || reason);
            }
            texts.end_row()?;
            valid.push(added || old.is_some());
        }
        texts.finish(Some(NullBuffer::from(valid)))
    }
}

fn unreadable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("columns could not be folded into properties").with_source(source)
}

/// The values of one column in a batch.
struct Value<'a> {
    column: &'a ExtraColumn,
    encoder: Encoder<'a>,
}

/// Writes the object `old` with the values of `row`; or the column that is at fault, and why.
fn splice<'a>(
    old: Option<&str>,
    values: &mut [Value<'a>],
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), (&'a str, String)> {
    let old = old.filter(|text| text.trim() != "null").unwrap_or("{}");
    let Some((body, tail)) = open_object(old) else {
        return Err(("properties", "must be an object, to take other columns in".to_owned()));
    };
    let keys = keys(old);
    out.extend_from_slice(body.as_bytes());
    let mut separator: &[u8] = if keys.is_empty() { b"" } else { b"," };
    for Value { column, encoder } in values {
        if encoder.is_null(row) || keys.iter().any(|key| key == column.field.name()) {
            continue;
        }
        out.extend_from_slice(separator);
        separator = b",";
        out.extend_from_slice(&column.key);
        encoder.write(row, out).map_err(|reason| (column.field.name().as_str(), reason))?;
    }
    out.extend_from_slice(tail.as_bytes());
    Ok(())
}

/// An object without its closing brace, and the rest from there.
fn open_object(text: &str) -> Option<(&str, &str)> {
    let text_end = text.trim_end().len();
    (text.trim_start().starts_with('{') && text.get(..text_end)?.ends_with('}')).then(|| text.split_at(text_end - 1))
}

/// The keys of an object, without their escapes.
fn keys(object: &str) -> Vec<Cow<'_, str>> {
    let mut keys = Vec::new();
    visit_keys(object, |key| {
        let unescaped = key.contains('\\').then(|| serde_json::from_str(&format!("\"{key}\"")).ok()).flatten();
        keys.push(unescaped.map_or(Cow::Borrowed(key), Cow::Owned));
    });
    keys
}
