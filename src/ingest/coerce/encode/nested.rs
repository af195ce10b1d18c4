//! Structs, maps, lists, and encoded values, which write their rows with encoders of their own values.

use arrow::array::{Array, ArrayRef, AsArray, ListLikeArray, downcast_run_array};
use arrow::datatypes::Field;
use arrow::error::ArrowError;

use super::{Encoder, WriteRow, key, null};
use crate::ingest::coerce::flat::unpacked_type;

/// Bytes of text that an array of strings holds.
const TEXT_MAX: usize = i32::MAX as usize;

pub(super) fn object(array: &dyn Array, depth_max: usize) -> Result<WriteRow<'_>, ArrowError> {
    let array = array.as_struct();
    let mut fields = Vec::with_capacity(array.num_columns());
    for (field, column) in array.fields().iter().zip(array.columns()) {
        fields.push((key(field.name()), Encoder::new(field, column, depth_max.saturating_sub(1))?));
    }
    Ok(Box::new(move |row, out| {
        let mut opening = b'{';
        for (key, values) in &mut fields {
            if !values.is_null(row) {
                out.push(opening);
                opening = b',';
                out.extend_from_slice(key);
                values.write(row, out)?;
            }
        }
        out.extend_from_slice(if opening == b'{' { b"{}" } else { b"}" });
        Ok(())
    }))
}

pub(super) fn map(array: &dyn Array, depth_max: usize) -> Result<WriteRow<'_>, ArrowError> {
    let array = array.as_map();
    let (key_field, value_field) = array.entries_fields();
    let depth_max = depth_max.saturating_sub(1);
    // Without the metadata: a key is a string, even if its text is JSON.
    let key_field = Field::new("key", key_field.data_type().clone(), false);
    let mut keys = Encoder::new(&key_field, array.keys(), depth_max)?;
    let mut values = Encoder::new(value_field, array.values(), depth_max)?;
    let quoted = !unpacked_type(key_field.data_type()).is_string();
    let offsets = array.offsets();
    Ok(Box::new(move |row, out| {
        let mut opening = b'{';
        for entry in span(offsets[row])..span(offsets[row + 1]) {
            if keys.is_null(entry) {
                return Err("a key of a map must not be null".to_owned());
            }
            check_size(out)?;
            out.push(opening);
            opening = b',';
            let quote: &[u8] = if quoted { b"\"" } else { b"" };
            out.extend_from_slice(quote);
            keys.write(entry, out)?;
            out.extend_from_slice(quote);
            out.push(b':');
            values.write(entry, out)?;
        }
        out.extend_from_slice(if opening == b'{' { b"{}" } else { b"}" });
        Ok(())
    }))
}

/// An offset as an index; arrow guarantees that it is not negative.
fn span(offset: i32) -> usize {
    usize::try_from(offset).unwrap_or_default()
}

/// Encoded items can make a huge text of a small message, within one row.
fn check_size(out: &[u8]) -> Result<(), String> {
    if out.len() > TEXT_MAX { Err("more than 2 GiB of JSON".to_owned()) } else { Ok(()) }
}

pub(super) fn list<'a>(
    item: &Field,
    array: &'a impl ListLikeArray,
    depth_max: usize,
) -> Result<WriteRow<'a>, ArrowError> {
    let mut items = Encoder::new(item, array.values(), depth_max.saturating_sub(1))?;
    Ok(Box::new(move |row, out| {
        let mut opening = b'[';
        for index in array.element_range(row) {
            check_size(out)?;
            out.push(opening);
            opening = b',';
            items.write(index, out)?;
        }
        out.extend_from_slice(if opening == b'[' { b"[]" } else { b"]" });
        Ok(())
    }))
}

pub(super) fn dictionary<'a>(
    field: &Field,
    array: &'a dyn Array,
    depth_max: usize,
) -> Result<WriteRow<'a>, ArrowError> {
    let dictionary = array.as_any_dictionary();
    let values: &'a ArrayRef = dictionary.values();
    if values.is_empty() {
        return Ok(Box::new(|_, out| null(out)));
    }
    let field = field.clone().with_data_type(values.data_type().clone());
    let mut values = Encoder::new(&field, values, depth_max)?;
    let keys = dictionary.normalized_keys();
    Ok(Box::new(move |row, out| values.write(keys[row], out)))
}

pub(super) fn runs<'a>(field: &Field, array: &'a dyn Array, depth_max: usize) -> Result<WriteRow<'a>, ArrowError> {
    downcast_run_array! {
        array => {
            let mut values = Encoder::new(field, array.values(), depth_max)?;
            Ok(Box::new(move |row, out| values.write(array.get_physical_index(row), out)))
        },
        other => Err(ArrowError::JsonError(format!("{other} has no runs")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, FixedSizeListArray, Int8Array, Int32Array, Int64Array, ListArray, MapArray, NullArray,
        PrimitiveArray, RunArray, StringArray, StructArray,
    };
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Fields, Int32Type, Int64Type};

    use super::super::tests::{check, check_bad};
    use super::*;

    fn structs(columns: Vec<(&str, ArrayRef)>, nulls: Option<Vec<bool>>) -> StructArray {
        let fields: Fields =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        StructArray::new(fields, columns.into_iter().map(|(_, array)| array).collect(), nulls.map(NullBuffer::from))
    }

    #[test]
    fn structs_leave_nulls_out() {
        let inner = structs(vec![("x", Arc::new(Int32Array::from(vec![Some(1), None, Some(3), None])))], None);
        let outer = structs(
            vec![
                ("a\"b", Arc::new(Int32Array::from(vec![None, Some(2), Some(3), None])) as ArrayRef),
                ("i", Arc::new(inner)),
                ("n", Arc::new(NullArray::new(4))),
            ],
            Some(vec![true, true, false, true]),
        );
        check(outer, &[r#"{"i":{"x":1}}"#, r#"{"a\"b":2,"i":{}}"#, "null", r#"{"i":{}}"#]);
    }

    #[test]
    fn lists_keep_nulls() {
        let list = || {
            ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                Some(vec![Some(1), None]),
                None,
                Some(vec![]),
                Some(vec![Some(3)]),
            ])
        };
        let expected = ["[1,null]", "null", "[]", "[3]"];
        check(list(), &expected);
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        for data_type in [
            DataType::LargeList(Arc::clone(&item)),
            DataType::ListView(Arc::clone(&item)),
            DataType::LargeListView(Arc::clone(&item)),
        ] {
            let array = cast(&list(), &data_type).unwrap();
            check_bad(&array, &expected.map(Ok));
            check_bad(&array.slice(2, 2), &[Ok("[]"), Ok("[3]")]);
        }
        let pairs = FixedSizeListArray::new(item, 2, Arc::new(Int32Array::from(vec![1, 2, 3, 4])), None);
        check(pairs, &["[1,2]", "[3,4]"]);
    }

    fn map(keys: ArrayRef, values: ArrayRef, lengths: Vec<usize>) -> MapArray {
        let fields = Fields::from(vec![
            Field::new("keys", keys.data_type().clone(), false),
            Field::new("values", values.data_type().clone(), true),
        ]);
        let entries = StructArray::new(fields.clone(), vec![keys, values], None);
        let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
        MapArray::new(field, OffsetBuffer::from_lengths(lengths), entries, None, false)
    }

    #[test]
    fn maps_are_objects_and_keep_nulls() {
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b\n", "a"]));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let expected = [r#"{"a":1,"b\n":null}"#, "{}", r#"{"a":3}"#];
        check(map(keys, Arc::clone(&values), vec![2, 0, 1]), &expected);
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![7, -1, 7]));
        check(map(keys, Arc::clone(&values), vec![2, 0, 1]), &[r#"{"7":1,"-1":null}"#, "{}", r#"{"7":3}"#]);
        let keys = DictionaryArray::new(Int8Array::from(vec![0, 1, 0]), Arc::new(StringArray::from(vec!["a", "b\n"])));
        check(map(Arc::new(keys), values, vec![2, 0, 1]), &expected);
    }

    #[test]
    fn dictionaries_and_runs() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let keys = Int8Array::from(vec![Some(0), Some(1), None, Some(0)]);
        check(DictionaryArray::new(keys, Arc::clone(&values)), &["\"a\"", "null", "null", "\"a\""]);
        check(DictionaryArray::new(Int8Array::from(vec![None, None]), Arc::new(NullArray::new(0))), &["null", "null"]);
        let ends = PrimitiveArray::<Int64Type>::from(vec![2, 3]);
        let runs = RunArray::<Int64Type>::try_new(&ends, &values).unwrap();
        check(structs(vec![("r", Arc::new(runs))], None), &[r#"{"r":"a"}"#, r#"{"r":"a"}"#, "{}"]);
    }
}
