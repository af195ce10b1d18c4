//! String columns: `event_name`, and the ids, which are often numbers at their source.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The type that [`coerce`] makes of a plain `data_type`, if it can; integers are taken for ids only.
pub(super) fn output_type(data_type: &DataType, is_id: bool) -> Option<DataType> {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(data_type.clone()),
        DataType::Null => Some(DataType::Utf8),
        integer if is_id && integer.is_integer() => Some(DataType::Utf8),
        _ => None,
    }
}

/// What [`output_type`] takes, for messages.
pub(super) fn accepted(is_id: bool) -> &'static str {
    if is_id { "strings and integers" } else { "strings" }
}

/// Strings as they are, anything else as `output`.
pub(super) fn coerce(array: &ArrayRef, output: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == output { Ok(Arc::clone(array)) } else { cast(array, output) }
}
