//! Text that is tagged `arrow.json`, at any depth of a column: DuckDB trusts the tag, so it is validated here.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListLikeArray};
use arrow::datatypes::{DataType, Field, Fields};

use super::Limits;
use super::encode::JSON_EXTENSION;
use super::json::Validator;
use super::report::BadRows;

/// Whether `field`, or one inside it, is tagged as JSON; refuses tags where DuckDB would not look for them.
pub(super) fn holds_json(field: &Field) -> Result<bool, String> {
    if field.extension_type_name() == Some(JSON_EXTENSION) {
        return if field.data_type().is_string() { Ok(true) } else { Err(format!("{JSON_EXTENSION} is for strings")) };
    }
    let elsewhere = |field: &Field, place: &str| {
        if holds_json(field)? { Err(format!("{JSON_EXTENSION} inside of {place}")) } else { Ok(false) }
    };
    let any = |fields: &Fields| -> Result<bool, String> {
        fields.iter().try_fold(false, |found, field| Ok(found | holds_json(field)?))
    };
    match field.data_type() {
        DataType::Struct(fields) => any(fields),
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => holds_json(inner),
        // No producer makes these, and DuckDB would not look for the tag.
        DataType::RunEndEncoded(_, inner) => elsewhere(inner, "runs"),
        DataType::Dictionary(_, values) => elsewhere(&Field::new("", values.as_ref().clone(), true), "a dictionary"),
        DataType::Union(fields, _) => fields.iter().try_fold(false, |_, (_, field)| elsewhere(field, "a union")),
        _ => Ok(false),
    }
}

/// Counts the rows of a column whose JSON is malformed as bad ones. `array` has the type of `field`.
pub(super) fn check_json(field: &Field, array: &ArrayRef, limits: &Limits, bad: &mut BadRows) {
    let mut check = Check { bad, column: field.name(), validator: Validator::new(limits.json_depth) };
    check.visit(field, array, (0..array.len()).map(Some).collect());
}

/// Validates the JSON of one column.
struct Check<'a> {
    bad: &'a mut BadRows,
    column: &'a str,
    validator: Validator,
}

impl Check<'_> {
    /// Validates what is tagged in `array`. `owners` tells the row of the batch that each value belongs to: values
    /// without one (under a null, or outside of every list) are nobody's, and may be anything.
    fn visit(&mut self, field: &Field, array: &ArrayRef, owners: Vec<Option<usize>>) {
        let owners: Vec<Option<usize>> = match array.logical_nulls() {
            Some(nulls) => owners.into_iter().zip(&nulls).map(|(owner, valid)| owner.filter(|_| valid)).collect(),
            None => owners,
        };
        match field.data_type() {
            DataType::Struct(fields) => {
                for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                    self.visit(field, column, owners.clone());
                }
            }
            DataType::List(item) => self.visit_list(item, array.as_list::<i32>(), &owners),
            DataType::LargeList(item) => self.visit_list(item, array.as_list::<i64>(), &owners),
            DataType::ListView(item) => self.visit_list(item, array.as_list_view::<i32>(), &owners),
            DataType::LargeListView(item) => self.visit_list(item, array.as_list_view::<i64>(), &owners),
            DataType::FixedSizeList(item, _) => self.visit_list(item, array.as_fixed_size_list(), &owners),
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let all: ArrayRef = Arc::new(map.entries().clone());
                let ranges = map.offsets().windows(2).map(|pair| {
                    let index = |at: usize| pair.get(at).and_then(|&at| usize::try_from(at).ok()).unwrap_or_default();
                    index(0)..index(1)
                });
                let inner = spread(all.len(), ranges, &owners);
                self.visit(entries, &all, inner);
            }
            _ => self.check_texts(field, array, &owners),
        }
    }

    fn visit_list(&mut self, item: &Field, list: &impl ListLikeArray, owners: &[Option<usize>]) {
        let ranges = (0..list.len()).map(|row| list.element_range(row));
        let inner = spread(list.values().len(), ranges, owners);
        self.visit(item, list.values(), inner);
    }

    fn check_texts(&mut self, field: &Field, array: &ArrayRef, owners: &[Option<usize>]) {
        if field.extension_type_name() != Some(JSON_EXTENSION) {
            return;
        }
        let text = |row| match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value(row),
            DataType::LargeUtf8 => array.as_string::<i64>().value(row),
            _ => array.as_string_view().value(row),
        };
        for (row, owner) in owners.iter().enumerate() {
            if let Some(owner) = *owner
                && let Err(malformed) = self.validator.check(text(row))
            {
                self.bad.add(owner, self.column, || malformed.to_string());
            }
        }
    }
}

/// The owners of the `len` items of lists, of which each has a range of them.
fn spread(len: usize, ranges: impl Iterator<Item = Range<usize>>, owners: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut inner = vec![None; len];
    for (range, owner) in ranges.zip(owners) {
        if let (Some(items), Some(_)) = (inner.get_mut(range), owner) {
            items.fill(*owner);
        }
    }
    inner
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListArray, MapArray, RecordBatch, StringArray, StringViewArray, StructArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::compute::cast;
    use arrow::datatypes::{Schema, UnionFields, UnionMode};

    use super::*;
    use crate::error::Result;
    use crate::ingest::coerce::Plain;

    fn one(field: Field, array: ArrayRef) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
    }

    fn coerce(batch: &RecordBatch) -> Result<RecordBatch> {
        Plain::new(&batch.schema(), Limits::default())?.coerce(batch, 11)
    }

    fn json(name: &str, data_type: DataType) -> Field {
        Field::new(name, data_type, true)
            .with_metadata([("ARROW:extension:name".to_owned(), JSON_EXTENSION.to_owned())])
    }

    fn check_bad(batch: &RecordBatch, message: &str) {
        assert_eq!(coerce(batch).unwrap_err().message(), message);
    }

    #[test]
    fn tagged_json_is_validated_and_keeps_its_tag() {
        let texts = vec![Some(r#"{"a":1}"#), None, Some("{a}")];
        let message = "1 bad row, nothing is stored: row 13: j: malformed JSON at byte 2 (expected a key)";
        let arrays: [ArrayRef; 3] = [
            Arc::new(StringArray::from(texts.clone())),
            cast(&StringArray::from(texts.clone()), &DataType::LargeUtf8).unwrap(),
            Arc::new(StringViewArray::from(texts)),
        ];
        for array in arrays {
            let batch = one(json("j", array.data_type().clone()), array);
            check_bad(&batch, message);
            let good = coerce(&batch.slice(0, 2)).unwrap();
            assert_eq!(good.schema().field(0).extension_type_name(), Some(JSON_EXTENSION));
        }
    }

    #[test]
    fn tagged_json_is_validated_at_any_depth() {
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec!["1", "bad under null", "[2]", "bad", "bad in no list", "{}"]));
        let nulls = NullBuffer::from(vec![true, false, true, true, true, true]);
        let structs = StructArray::new(Fields::from(vec![json("j", DataType::Utf8)]), vec![texts], Some(nulls));
        let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
        let offsets = OffsetBuffer::new(vec![0, 3, 3, 4].into());
        let list: ArrayRef = Arc::new(ListArray::new(item, offsets, Arc::new(structs), None));
        let message = "1 bad row, nothing is stored: row 13: l: malformed JSON at byte 1 (expected a value)";
        let batch = one(Field::new("l", list.data_type().clone(), true), Arc::clone(&list));
        check_bad(&batch, message);
        assert!(coerce(&batch.slice(0, 2)).is_ok());
        let keys = StringArray::from(vec!["a", "b"]);
        let fields = Fields::from(vec![Field::new("keys", DataType::Utf8, false), json("values", DataType::Utf8)]);
        let entries = StructArray::new(fields, vec![Arc::new(keys), Arc::new(StringArray::from(vec!["1", "x"]))], None);
        let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let map = MapArray::new(entry, OffsetBuffer::from_lengths([1, 0, 1]), entries, None, false);
        let batch = one(Field::new("l", map.data_type().clone(), true), Arc::new(map));
        check_bad(&batch, message);
        assert!(coerce(&batch.slice(0, 2)).is_ok());
    }

    #[test]
    fn tags_where_duckdb_would_not_look_are_refused() {
        let tagged = json("m", DataType::Utf8);
        let structs = DataType::Struct(Fields::from(vec![tagged.clone()]));
        let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
        let union = UnionFields::try_new([0], [tagged.clone()]).unwrap();
        for (field, reason) in [
            (json("c", DataType::Int8), "arrow.json is for strings"),
            (Field::new("c", DataType::Union(union, UnionMode::Sparse), true), "arrow.json inside of a union"),
            (Field::new("c", DataType::RunEndEncoded(ends, Arc::new(tagged)), true), "arrow.json inside of runs"),
            (
                Field::new("c", DataType::Dictionary(Box::new(DataType::Int8), Box::new(structs)), true),
                "arrow.json inside of a dictionary",
            ),
        ] {
            assert_eq!(holds_json(&field), Err(reason.to_owned()));
            let error = Plain::new(&Schema::new(vec![field]), Limits::default()).unwrap_err();
            assert!(error.message().starts_with("column \"c\" cannot be "), "{error}");
        }
    }
}
