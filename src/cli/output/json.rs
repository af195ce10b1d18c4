//! Columns that hold JSON text: embedded where JSON is written, which is not arrow's own way, and said to be JSON where text is text.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, WriterBuilder};

/// The key of a field's metadata that names the column's type in the database.
const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
/// The keys that name a field's extension type, and its parameters.
const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";
const JSON_EXTENSION: &str = "arrow.json";

/// Options of arrow's JSON writers that embed JSON columns; every row has every column, null or not.
pub(super) fn writer_builder() -> WriterBuilder {
    WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(EmbedJson))
}

/// The same for [`arrow::json::writer::make_encoder`].
pub(super) fn encoder_options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(EmbedJson))
}

/// Whether `field` holds JSON text.
pub(super) fn is_json(field: &Field) -> bool {
    field.metadata().get(TYPE_NAME).is_some_and(|name| name.eq_ignore_ascii_case("JSON"))
        || field.extension_type_name() == Some(JSON_EXTENSION)
}

/// `schema`, whose columns of JSON are of Arrow's extension type for it: as DuckDB's Arrow and Parquet readers know them.
pub(super) fn tagged(schema: &SchemaRef) -> SchemaRef {
    let tag = |field: &FieldRef| {
        if !is_json(field) || field.extension_type_name().is_some() {
            return Arc::clone(field);
        }
        let mut metadata = field.metadata().clone();
        metadata.insert(EXTENSION_NAME.to_owned(), JSON_EXTENSION.to_owned());
        metadata.insert(EXTENSION_METADATA.to_owned(), String::new());
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    };
    let fields: Vec<FieldRef> = schema.fields().iter().map(tag).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

#[derive(Debug)]
struct EmbedJson;

impl EncoderFactory for EmbedJson {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !is_json(field) {
            return Ok(None);
        }
        let text: Box<dyn Fn(usize) -> &'a str> = if let Some(array) = array.as_string_opt::<i32>() {
            Box::new(move |row| array.value(row))
        } else if let Some(array) = array.as_string_opt::<i64>() {
            Box::new(move |row| array.value(row))
        } else if let Some(array) = array.as_string_view_opt() {
            Box::new(move |row| array.value(row))
        } else {
            return Ok(None);
        };
        Ok(Some(NullableEncoder::new(Box::new(JsonText(text)), array.nulls().cloned())))
    }
}

struct JsonText<'a>(Box<dyn Fn(usize) -> &'a str + 'a>);

impl Encoder for JsonText<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = (self.0)(row);
        // A line end in JSON text can only be white space, for in a string it must be escaped; in NDJSON it would end the row.
        out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    }
}
