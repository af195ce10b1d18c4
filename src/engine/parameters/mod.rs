//! Parameter values: one row of an Arrow batch becomes the DuckDB values that a statement is run with.
//!
//! A value keeps the type that its Arrow column has, and DuckDB casts it to what the statement needs, which is not always the
//! type that the parameter was declared with: `WHERE int_column < ?` declares INTEGER, and a DOUBLE of 42.5 is compared
//! as a DOUBLE. So values are never cast to the declared type here, which could change the answer.
//! Text is as good as a literal: it fits every type, and text that does not read as that type is an error of DuckDB's.
//! Where a function has to be chosen by the type (`? + 1`), DuckDB asks for an explicit cast.
//!
//! What `Statement::bind` says of the parameters, in the order of `Statement::parameter_names` (`"1"`, or the name of `$name`):
//! the type of the column that one is compared with or inserted into, or of the cast around it (`?::DATE`); `UNKNOWN` for one
//! whose type only its value decides (`SELECT ?`).

mod scalar;
#[cfg(test)]
mod tests;
mod types;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef};
use duckdb_neo::Parameters;
use duckdb_neo::connection::{Connection, FFILink};
use duckdb_neo::statement::Statement;
use duckdb_neo::value::{Value, ValueInput};

use self::types::{Extension, logical_type};
use super::types::arrow_type;
use crate::error::{Error, Result};

/// The names of a statement's parameters in the order in which clients give them: numbers ascending (`1` for `?` and `$1`),
/// other names as they appear.
pub(in crate::engine) fn names(statement: &Statement<'_>) -> Result<Vec<String>> {
    let mut names: Vec<String> = statement.parameter_names()?.into_iter().map(str::to_owned).collect();
    names.sort_by_key(|name| name.parse::<u64>().ok());
    Ok(names)
}

/// The names of a statement's parameters, and the Arrow type of each whose type the statement decides.
pub(in crate::engine) fn declared(
    connection: &Connection,
    statement: &Statement<'static>,
) -> Result<Vec<(String, Option<DataType>)>> {
    let in_order = names(statement)?;
    // If it cannot be bound, executing it says the same, or more.
    let bound = statement.bind(connection).and_then(|bound| bound.parameters.get_all()).unwrap_or_default();
    let decided = |name: &str| {
        let (_, logical) = bound.iter().find(|(bound, _)| bound == name)?;
        arrow_type(logical)
    };
    Ok(in_order.into_iter().map(|name| (decided(&name), name)).map(|(of, name)| (name, of)).collect())
}

/// The values of a statement's parameters, under the names that it has for them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct Values<'a> {
    pub(in crate::engine) names: &'a [String],
    pub(in crate::engine) values: &'a [Value],
}

/// Calls `run` with the values of the parameters of these names.
pub(in crate::engine) fn with<T>(names: &[String], values: &[Value], run: impl FnOnce(Parameters<'_>) -> T) -> T {
    // The crate does not export the trait that the cast is to.
    let pairs: Vec<_> = names.iter().zip(values).map(|(name, value)| (name.as_str(), value as _)).collect();
    run(Parameters::named(&pairs))
}

/// The values of one row of `batch`, one for each column.
///
/// # Errors
/// `InvalidArgument` naming the parameter whose type or value DuckDB cannot take.
pub(in crate::engine) fn row(connection: &Connection, batch: &RecordBatch, row: usize) -> Result<Vec<Value>> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).enumerate();
    let values = columns.map(|(index, (field, column))| {
        value(connection, field, column, row).map_err(|error| {
            let message = format!("{}: {}", shown(index, field.name()), error.message());
            Error::new(error.kind(), message).with_source(error)
        })
    });
    values.collect()
}

/// `parameter 2`, and its name if that says more. Clients count from 0 or from 1 in names that are numbers.
fn shown(index: usize, name: &str) -> String {
    let number = index + 1;
    if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("parameter {number}");
    }
    format!("parameter {number} ({})", name.escape_debug())
}

/// The value at `at` of an array of `field`.
fn value(link: &Connection, field: &Field, array: &ArrayRef, at: usize) -> Result<Value> {
    if array.is_null(at) || *array.data_type() == DataType::Null {
        return Ok(Value::null(link, &logical_type(link, field)?)?);
    }
    if let Some(extension) = Extension::of(field)? {
        return scalar::tagged(link, extension, array, at);
    }
    match array.data_type() {
        DataType::Dictionary(_, values) => {
            let dictionary = array.as_any_dictionary();
            let keys = dictionary.normalized_keys();
            let key = keys.get(at).copied().unwrap_or_default();
            value(link, &Field::new("", values.as_ref().clone(), true), dictionary.values(), key)
        }
        DataType::Union(fields, _) => {
            let union = array.as_union();
            let tag = union.type_id(at);
            let member = fields.iter().find_map(|(id, member)| (id == tag).then_some(member));
            let member = member.ok_or_else(|| Error::invalid("a value of a union has an unknown type"))?;
            value(link, member, union.child(tag), union.value_offset(at))
        }
        DataType::RunEndEncoded(ends, values) => {
            let (values_array, key) = scalar::run(ends.data_type(), array, at)?;
            value(link, values, &values_array, key)
        }
        DataType::List(item) => list(link, item, &array.as_list::<i32>().value(at)),
        DataType::LargeList(item) => list(link, item, &array.as_list::<i64>().value(at)),
        DataType::ListView(item) => list(link, item, &array.as_list_view::<i32>().value(at)),
        DataType::LargeListView(item) => list(link, item, &array.as_list_view::<i64>().value(at)),
        DataType::FixedSizeList(item, _) => {
            let children = all(link, item, &array.as_fixed_size_list().value(at))?;
            let child_type = &logical_type(link, item)?;
            Ok(link.create_value(ValueInput::Array { child_type, children: &children })?)
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let children = columns.map(|(field, column)| value(link, field, column, at)).collect::<Result<Vec<_>>>()?;
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            Ok(link.create_value(ValueInput::Struct { names: &names, children: &children })?)
        }
        DataType::Map(entries, _) => map(link, entries, array, at),
        _ => scalar::value(link, array, at),
    }
}

fn all(link: &Connection, item: &FieldRef, array: &ArrayRef) -> Result<Vec<Value>> {
    (0..array.len()).map(|at| value(link, item, array, at)).collect()
}

fn list(link: &Connection, item: &FieldRef, array: &ArrayRef) -> Result<Value> {
    let children = all(link, item, array)?;
    Ok(link.create_value(ValueInput::List { child_type: &logical_type(link, item)?, children: &children })?)
}

fn map(link: &Connection, entries: &Field, array: &ArrayRef, at: usize) -> Result<Value> {
    let (key, item) = types::map_fields(entries)?;
    let entry = array.as_map().value(at);
    let keys = all(link, key, entry.column(0))?;
    let values = all(link, item, entry.column(1))?;
    let (key_type, value_type) = (&logical_type(link, key)?, &logical_type(link, item)?);
    Ok(link.create_value(ValueInput::Map { key_type, value_type, keys: &keys, values: &values })?)
}
