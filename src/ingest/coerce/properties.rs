//! The `properties` column: JSON text that is checked and passed on byte for byte, or nested Arrow values as JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, StringArray, new_null_array};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};

use super::Limits;
use super::encode::{Encoder, check_type};
use super::json::Validator;
use super::report::BadRows;
use crate::error::{Error, Result};

/// What [`output_type`] takes, for messages.
pub(super) const ACCEPTED: &str = "JSON text, structs, maps and lists";

/// The type that [`coerce`] makes of a plain `field`; none if it cannot, or why its nested values have no JSON form.
pub(super) fn output_type(field: &Field, limits: &Limits) -> Result<DataType, Option<String>> {
    match field.data_type() {
        text if text.is_string() => Ok(text.clone()),
        DataType::Null => Ok(DataType::Utf8),
        nested if nested.is_nested() => check_type(field, limits.json_depth).map(|()| DataType::Utf8).map_err(Some),
        _ => Err(None),
    }
}

/// The properties of `array`, a plain array of a type that is accepted; malformed ones are counted as bad rows.
pub(super) fn coerce(array: &ArrayRef, field: &Field, limits: &Limits, bad: &mut BadRows) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Utf8 => validate(array.as_string::<i32>(), limits, bad),
        DataType::LargeUtf8 => validate(array.as_string::<i64>(), limits, bad),
        DataType::Utf8View => validate(array.as_string_view(), limits, bad),
        DataType::Null => return Ok(new_null_array(&DataType::Utf8, array.len())),
        _ => return serialize(array, field, limits, bad),
    }
    Ok(Arc::clone(array))
}

fn validate<'a>(texts: impl ArrayAccessor<Item = &'a str>, limits: &Limits, bad: &mut BadRows) {
    let mut validator = Validator::new(limits.json_depth);
    for row in 0..texts.len() {
        if texts.is_valid(row)
            && let Err(malformed) = validator.check(texts.value(row))
        {
            bad.add(row, "properties", || malformed.to_string());
        }
    }
}

fn serialize(array: &ArrayRef, field: &Field, limits: &Limits, bad: &mut BadRows) -> Result<ArrayRef> {
    let mut rows = Encoder::new(field, array, limits.json_depth)
        .map_err(|error| Error::invalid("column `properties` cannot be written as JSON").with_source(error))?;
    let mut texts = Texts::new(array.len(), limits);
    for row in 0..array.len() {
        if !rows.is_null(row)
            && let Err(reason) = rows.write(row, texts.row())
        {
            bad.add(row, "properties", || reason);
        }
        texts.end_row()?;
    }
    texts.finish(array.logical_nulls())
}

/// JSON texts that are being written, one row after the other.
pub(super) struct Texts {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
    bytes_max: usize,
}

impl Texts {
    /// Without rows, with room for `rows`.
    pub(super) fn new(rows: usize, limits: &Limits) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { bytes: Vec::new(), offsets, bytes_max: limits.json_bytes }
    }

    /// Where the current row is appended.
    pub(super) fn row(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the current row.
    pub(super) fn end_row(&mut self) -> Result<()> {
        match i32::try_from(self.bytes.len()) {
            Ok(offset) if self.bytes.len() <= self.bytes_max => self.offsets.push(offset),
            _ => {
                return Err(Error::exhausted(format!(
                    "the properties of one batch are more than {} bytes of JSON: send smaller batches",
                    self.bytes_max.min(i32::MAX as usize)
                )));
            }
        }
        Ok(())
    }

    /// The texts, of which `nulls` tells which are null.
    pub(super) fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let texts = StringArray::try_new(OffsetBuffer::new(self.offsets.into()), Buffer::from_vec(self.bytes), nulls);
        Ok(Arc::new(texts.map_err(|error| Error::internal("properties could not be written").with_source(error))?))
    }
}
