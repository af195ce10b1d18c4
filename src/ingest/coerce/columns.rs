//! Which column of a stream is which column of a managed kind: by name, in any order and ASCII case.

use arrow::datatypes::{FieldRef, Schema};

use super::Extra;
use crate::error::{Error, Result};
use crate::tables::Kind;

/// Names that sources give to what the managed kinds have; the names themselves are told by likeness.
const ALIASES: &[(&str, &str)] = &[
    ("event", "event_name"),
    ("name", "event_name"),
    ("date", "event_time"),
    ("datetime", "event_time"),
    ("time", "event_time"),
    ("timestamp", "event_time"),
    ("ts", "event_time"),
    ("user", "distinct_id"),
    ("userid", "distinct_id"),
    ("eventid", "insert_id"),
    ("messageid", "insert_id"),
    ("uuid", "insert_id"),
    ("props", "properties"),
];

/// Names that a message lists.
const NAMED_MAX: usize = 10;

/// Where the columns of a kind are in a stream.
#[derive(Debug)]
pub(super) struct Matched {
    /// For each column of the kind, its index in the stream.
    pub(super) sources: Vec<Option<usize>>,
    /// The other columns of the stream.
    pub(super) extras: Vec<usize>,
}

/// Finds the columns of `kind` in a stream of `schema`.
pub(super) fn match_columns(kind: Kind, schema: &Schema, extra: Extra) -> Result<Matched> {
    let mut sources = vec![None; kind.columns().len()];
    let mut extras = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        let column = kind.columns().iter().position(|column| column.name.eq_ignore_ascii_case(field.name()));
        match column.and_then(|column| sources.get_mut(column)) {
            Some(source @ None) => *source = Some(index),
            Some(Some(first)) => {
                return Err(twice(schema.field(*first).name(), field.name()));
            }
            None => extras.push(index),
        }
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(field) = others(schema, &extras).find(|field| !seen.insert(field.name())) {
        return Err(twice(field.name(), field.name()));
    }
    let missing: Vec<&str> = (kind.columns().iter().zip(&sources))
        .filter(|(column, source)| !column.nullable && source.is_none())
        .map(|(column, _)| column.name)
        .collect();
    if !missing.is_empty() {
        return Err(missing_error(kind, &missing, schema, &extras));
    }
    if extra == Extra::Refuse && !extras.is_empty() {
        return Err(extra_error(kind, &sources, schema, &extras));
    }
    Ok(Matched { sources, extras })
}

fn others<'a>(schema: &'a Schema, extras: &'a [usize]) -> impl Iterator<Item = &'a FieldRef> {
    extras.iter().filter_map(|&index| schema.fields().get(index))
}

fn twice(first: &str, second: &str) -> Error {
    if first == second {
        Error::invalid(format!("the stream has two columns {first:?}"))
    } else {
        Error::invalid(format!("columns {first:?} and {second:?} are the same: case does not tell columns apart"))
    }
}

fn missing_error(kind: Kind, missing: &[&str], schema: &Schema, extras: &[usize]) -> Error {
    let columns = if missing.len() == 1 { "column" } else { "columns" };
    let mut message = format!("{} need {columns} {}", kind.word(), listed(missing.iter().copied()));
    let found: Vec<String> = (missing.iter())
        .filter_map(|name| {
            let other = others(schema, extras).find(|field| meant(field.name(), name))?;
            Some(format!("did you mean {name} by {:?}?", other.name()))
        })
        .collect();
    if !found.is_empty() {
        message = format!("{message}; {}", found.join(" "));
    }
    Error::invalid(message)
}

fn extra_error(kind: Kind, sources: &[Option<usize>], schema: &Schema, extras: &[usize]) -> Error {
    let columns = if extras.len() == 1 { "column" } else { "columns" };
    let names = listed(others(schema, extras).map(|field| field.name().as_str()));
    let mut message = format!("{} have no {columns} {names}", kind.word());
    let absent = kind.columns().iter().zip(sources).filter(|(_, source)| source.is_none());
    for (column, _) in absent {
        if let Some(other) = others(schema, extras).find(|field| meant(field.name(), column.name)) {
            return Error::invalid(format!("{message}; did you mean {} by {:?}?", column.name, other.name()));
        }
    }
    message.push_str("; extra = \"properties\" folds other columns into properties");
    Error::invalid(message)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    match names.get(..NAMED_MAX) {
        Some(first) if names.len() > NAMED_MAX => format!("{} and {} more", first.join(", "), names.len() - NAMED_MAX),
        _ => names.join(", "),
    }
}

/// Whether `name` may be meant to be `column`.
fn meant(name: &str, column: &str) -> bool {
    let bare = |name: &str| -> Vec<u8> {
        name.bytes().filter(u8::is_ascii_alphanumeric).take(64).map(|byte| byte.to_ascii_lowercase()).collect()
    };
    let (name, target) = (bare(name), bare(column));
    ALIASES.iter().any(|(alias, meant)| alias.as_bytes() == name && *meant == column) || distance(&name, &target) <= 2
}

/// The Levenshtein distance.
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, byte) in from.iter().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (pair, other) in row.windows(2).zip(to) {
            let [diagonal, above] = *pair else { continue };
            left = (diagonal + usize::from(byte != other)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
