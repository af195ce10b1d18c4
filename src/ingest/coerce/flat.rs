//! Encoded columns (dictionary, run-end) as plain ones.
//!
//! Strings come out as views of the values that the encoding holds, so that a small message cannot unfold into a huge
//! buffer: a row costs 16 bytes, however long its string.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The type that [`unpack`] makes of `data_type`.
pub(super) fn unpacked_type(data_type: &DataType) -> DataType {
    let values = match data_type {
        DataType::Dictionary(_, values) => values,
        DataType::RunEndEncoded(_, values) => values.data_type(),
        plain => return plain.clone(),
    };
    match unpacked_type(values) {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        plain => plain,
    }
}

/// The rows of `array` without encoding; a plain array as it is.
pub(super) fn unpack(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let plain = unpacked_type(array.data_type());
    match array.data_type() {
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = cast(&unpack(dictionary.values())?, &plain)?;
            take(&values, dictionary.keys(), None)
        }
        DataType::RunEndEncoded(ends, values) => {
            let values = values.as_ref().clone().with_data_type(plain.clone());
            let runs = cast(array, &DataType::RunEndEncoded(Arc::clone(ends), Arc::new(values)))?;
            cast(&runs, &plain)
        }
        _ => Ok(Arc::clone(array)),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        DictionaryArray, Int8Array, Int64Array, LargeStringArray, NullArray, PrimitiveArray, RunArray, StringArray,
        UInt16Array,
    };
    use arrow::datatypes::{ArrowDictionaryKeyType, Int16Type, Int32Type, Int64Type, UInt8Type, UInt64Type};

    use super::*;

    fn check(array: ArrayRef, expected: &[Option<&str>]) {
        assert_eq!(unpacked_type(array.data_type()), DataType::Utf8View);
        let found = unpack(&array).unwrap();
        assert_eq!(found.as_string_view().iter().collect::<Vec<_>>(), expected);
        let slice = array.slice(1, array.len() - 1);
        assert_eq!(unpack(&slice).unwrap().as_string_view().iter().collect::<Vec<_>>(), expected[1..]);
        assert!(unpack(&array.slice(0, 0)).unwrap().is_empty());
    }

    fn check_keys<K: ArrowDictionaryKeyType>(keys: PrimitiveArray<K>) {
        let values = vec![Some("a"), None, Some("a string longer than a view holds")];
        let expected = [values[2], values[0], None, values[1], values[2]];
        check(Arc::new(DictionaryArray::new(keys.clone(), Arc::new(StringArray::from(values.clone())))), &expected);
        check(
            Arc::new(DictionaryArray::new(keys.clone(), Arc::new(LargeStringArray::from(values.clone())))),
            &expected,
        );
        let views = cast(&StringArray::from(values), &DataType::Utf8View).unwrap();
        check(Arc::new(DictionaryArray::new(keys, views)), &expected);
    }

    #[test]
    fn dictionaries_of_strings_become_views() {
        check_keys(Int8Array::from(vec![Some(2), Some(0), None, Some(1), Some(2)]));
        check_keys(UInt16Array::from(vec![Some(2), Some(0), None, Some(1), Some(2)]));
        check_keys(PrimitiveArray::<UInt64Type>::from(vec![Some(2), Some(0), None, Some(1), Some(2)]));
        check_keys(PrimitiveArray::<Int64Type>::from(vec![Some(2), Some(0), None, Some(1), Some(2)]));
    }

    #[test]
    fn a_dictionary_without_values_is_null() {
        let keys = PrimitiveArray::<UInt8Type>::from(vec![None, None]);
        check(Arc::new(DictionaryArray::new(keys.clone(), Arc::new(StringArray::new_null(0)))), &[None, None]);
        let nulls: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(NullArray::new(0))));
        assert_eq!(unpack(&nulls).unwrap().data_type(), &DataType::Null);
    }

    #[test]
    fn runs_become_views() {
        let values = StringArray::from(vec![Some("a"), None, Some("a string longer than a view holds")]);
        let expected = [Some("a"), Some("a"), None, Some("a string longer than a view holds")];
        check(
            Arc::new(RunArray::<Int32Type>::try_new(&PrimitiveArray::from(vec![2, 3, 4]), &values).unwrap()),
            &expected,
        );
        check(
            Arc::new(RunArray::<Int16Type>::try_new(&PrimitiveArray::from(vec![2, 3, 4]), &values).unwrap()),
            &expected,
        );
        let nested = DictionaryArray::new(Int8Array::from(vec![0, 1, 2]), Arc::new(values));
        check(
            Arc::new(RunArray::<Int64Type>::try_new(&PrimitiveArray::from(vec![2, 3, 4]), &nested).unwrap()),
            &expected,
        );
    }

    #[test]
    fn other_values_keep_their_type() {
        let numbers: ArrayRef =
            Arc::new(DictionaryArray::new(Int8Array::from(vec![1, 0]), Arc::new(Int64Array::from(vec![7, 8]))));
        assert_eq!(unpack(&numbers).unwrap().as_primitive::<Int64Type>().values(), &[8, 7]);
        let plain: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(Arc::ptr_eq(&unpack(&plain).unwrap(), &plain));
    }
}
