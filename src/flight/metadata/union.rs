//! The values of GetSqlInfo: a dense union of six types, as the Go client's reference schema has it. arrow-flight's builder
//! for it lets two members be null.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int32Builder, Int64Array, ListBuilder, MapBuilder, StringArray, StringBuilder,
    UInt32Array, UnionArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UnionFields, UnionMode};

use crate::error::{Error, Result};

/// The answer to one code.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Long(i64),
    Mask(i32),
    Words(Vec<String>),
    Lists(Vec<(i32, Vec<i32>)>),
}

/// The columns of GetSqlInfo.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let value = DataType::Union(MEMBERS.clone(), UnionMode::Dense);
    Arc::new(Schema::new(vec![Field::new("info_name", DataType::UInt32, false), Field::new("value", value, false)]))
});

static MEMBERS: LazyLock<UnionFields> = LazyLock::new(|| {
    let list = |of: DataType| DataType::List(Arc::new(Field::new_list_field(of, true)));
    let entries = vec![Field::new("key", DataType::Int32, false), Field::new("value", list(DataType::Int32), true)];
    let entries = Field::new("entries", DataType::Struct(entries.into()), false);
    UnionFields::from_fields([
        Field::new("string_value", DataType::Utf8, false),
        Field::new("bool_value", DataType::Boolean, false),
        Field::new("bigint_value", DataType::Int64, false),
        Field::new("int32_bitmask", DataType::Int32, false),
        Field::new("string_list", list(DataType::Utf8), false),
        Field::new("int32_to_int32_list_map", DataType::Map(Arc::new(entries), false), false),
    ])
});

/// The columns of the answers to some codes.
pub(super) fn columns<'a>(answers: impl Iterator<Item = (u32, &'a Value)>) -> Result<Vec<ArrayRef>> {
    let (mut codes, mut ids, mut offsets) = (Vec::new(), Vec::<i8>::new(), Vec::<i32>::new());
    let (mut texts, mut flags, mut longs, mut masks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut words = ListBuilder::new(StringBuilder::new());
    let mut lists = MapBuilder::new(None, Int32Builder::new(), ListBuilder::new(Int32Builder::new()));
    let mut lengths = [0; 6];
    for (code, value) in answers {
        let id = match value {
            Value::Text(text) => {
                texts.push(text.as_str());
                0
            }
            Value::Flag(flag) => {
                flags.push(*flag);
                1
            }
            Value::Long(number) => {
                longs.push(*number);
                2
            }
            Value::Mask(mask) => {
                masks.push(*mask);
                3
            }
            Value::Words(values) => {
                words.append_value(values.iter().map(Some));
                4
            }
            Value::Lists(entries) => {
                for (key, values) in entries {
                    lists.keys().append_value(*key);
                    lists.values().append_value(values.iter().copied().map(Some));
                }
                lists.append(true)?;
                5
            }
        };
        codes.push(code);
        ids.push(id);
        let length = &mut lengths[usize::from(id.unsigned_abs())];
        offsets.push(*length);
        *length += 1;
    }
    let members: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(texts)),
        Arc::new(BooleanArray::from(flags)),
        Arc::new(Int64Array::from(longs)),
        Arc::new(Int32Array::from(masks)),
        Arc::new(words.finish()),
        Arc::new(lists.finish()),
    ];
    let union = UnionArray::try_new(MEMBERS.clone(), ids.into(), Some(offsets.into()), members)
        .map_err(|error| Error::internal("cannot build the metadata").with_source(error))?;
    Ok(vec![Arc::new(UInt32Array::from(codes)), Arc::new(union)])
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Long(number)
    }
}
