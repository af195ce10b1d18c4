//! Parquet: bounded row groups, compressed with zstd, with statistics; columns of JSON are of Parquet's logical type for it.

use std::io::Write;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, LogicalType, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::json::is_json;

/// Rows and encoded bytes of a row group, at most: they are held until the group is full.
const ROW_GROUP_ROWS: usize = 256 << 10;
const ROW_GROUP_BYTES: usize = 64 << 20;

/// A writer of rows of `schema` to `out`.
pub(super) fn writer<W: Write + Send>(out: W, schema: &SchemaRef) -> Result<ArrowWriter<W>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_parquet_schema(parquet_schema(schema)?);
    ArrowWriter::try_new_with_options(out, Arc::clone(schema), options)
}

/// The Parquet schema of `schema`. arrow has columns of JSON as text.
fn parquet_schema(schema: &Schema) -> Result<SchemaDescriptor, ParquetError> {
    let plain = ArrowSchemaConverter::new().convert(schema)?;
    let root = plain.root_schema();
    let fields = schema.fields().iter().zip(root.get_fields()).map(|(field, plain)| {
        let is_text = plain.is_primitive() && plain.get_physical_type() == PhysicalType::BYTE_ARRAY;
        if !is_json(field) || !is_text {
            return Ok(Arc::clone(plain));
        }
        let json = Type::primitive_type_builder(plain.name(), PhysicalType::BYTE_ARRAY)
            .with_repetition(plain.get_basic_info().repetition())
            .with_logical_type(Some(LogicalType::Json));
        json.build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, ParquetError>>()?;
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}
