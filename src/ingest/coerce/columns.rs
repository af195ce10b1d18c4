//! Which column of a stream is which column of a managed kind: by name, in any order and ASCII case.

use arrow::datatypes::{FieldRef, Schema};

use super::Extra;
use super::report::shown;
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
        Error::invalid(format!("the stream has two columns {}", shown(first)))
    } else {
        let (first, second) = (shown(first), shown(second));
        Error::invalid(format!("columns {first} and {second} are the same: case does not tell columns apart"))
    }
}

fn missing_error(kind: Kind, missing: &[&str], schema: &Schema, extras: &[usize]) -> Error {
    let columns = if missing.len() == 1 { "column" } else { "columns" };
    let mut message = format!("{} need {columns} {}", kind.word(), listed(missing.iter().copied()));
    for &name in missing {
        if let Some(other) = others(schema, extras).find(|field| meant(field.name(), missing) == Some(name)) {
            message = format!("{message}; did you mean {name} by {}?", shown(other.name()));
        }
    }
    Error::invalid(message)
}

fn extra_error(kind: Kind, sources: &[Option<usize>], schema: &Schema, extras: &[usize]) -> Error {
    let columns = if extras.len() == 1 { "column" } else { "columns" };
    let names = listed(others(schema, extras).map(|field| field.name().as_str()));
    let message = format!("{} have no {columns} {names}", kind.word());
    let absent = kind.columns().iter().zip(sources).filter(|(_, source)| source.is_none());
    let absent: Vec<&str> = absent.map(|(column, _)| column.name).collect();
    Error::invalid(match others(schema, extras).find_map(|field| Some((field.name(), meant(field.name(), &absent)?))) {
        Some((other, name)) => format!("{message}; did you mean {name} by {}?", shown(other)),
        None => format!("{message}; extra = \"properties\" folds other columns into properties"),
    })
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(shown).collect();
    match names.get(..NAMED_MAX) {
        Some(first) if names.len() > NAMED_MAX => format!("{} and {} more", first.join(", "), names.len() - NAMED_MAX),
        _ => names.join(", "),
    }
}

/// Which of `columns` may be meant by `name`.
fn meant<'a>(name: &str, columns: &[&'a str]) -> Option<&'a str> {
    let bare = |name: &str| -> Vec<u8> {
        name.bytes().filter(u8::is_ascii_alphanumeric).take(64).map(|byte| byte.to_ascii_lowercase()).collect()
    };
    let name = bare(name);
    let alias = ALIASES.iter().find(|(alias, _)| alias.as_bytes() == name).map(|(_, column)| *column);
    columns
        .iter()
        .map(|column| (if alias == Some(*column) { 0 } else { distance(&name, &bare(column)) }, *column))
        .filter(|(distance, _)| *distance <= 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, column)| column)
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn check(kind: Kind, names: &[&str], extra: Extra, expected: Result<(&[Option<usize>], &[usize]), &str>) {
        let schema = Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>());
        let found = match_columns(kind, &schema, extra);
        let found = found.as_ref().map(|matched| (matched.sources.as_slice(), matched.extras.as_slice()));
        assert_eq!(found.map_err(Error::message), expected, "{names:?}");
    }

    const NEEDED: &[&str] = &["insert_id", "EVENT_TIME", "event_name", "Distinct_Id"];

    fn with<'a>(names: &[&'a str]) -> Vec<&'a str> {
        NEEDED.iter().chain(names).copied().collect()
    }

    #[test]
    fn names_match_in_any_order_and_case() {
        let sources = [Some(2), Some(1), Some(3), Some(0), None];
        check(Kind::Events, NEEDED, Extra::Refuse, Ok((&sources, &[])));
        let sources = [Some(2), Some(1), Some(3), Some(0), Some(5)];
        let names = with(&["country", "PROPERTIES", "Country"]);
        check(Kind::Events, &names, Extra::FoldIntoProperties, Ok((&sources, &[4, 6])));
        check(Kind::Profiles, &["last_seen", "distinct_id"], Extra::Refuse, Ok((&[Some(1), None, Some(0)], &[])));
    }

    #[test]
    fn missing_columns_are_named() {
        let needs = "events need column \"insert_id\"; did you mean insert_id by";
        let three = ["event_time", "event_name", "distinct_id"];
        for (other, message) in [
            ("$insert_id", format!("{needs} \"$insert_id\"?")),
            ("insertId", format!("{needs} \"insertId\"?")),
            ("insrt_id", format!("{needs} \"insrt_id\"?")),
            ("event_id", format!("{needs} \"event_id\"?")),
            ("country", "events need column \"insert_id\"".to_owned()),
        ] {
            let names: Vec<_> = three.into_iter().chain([other]).collect();
            check(Kind::Events, &names, Extra::Refuse, Err(&message));
            check(Kind::Events, &names, Extra::FoldIntoProperties, Err(&message));
        }
        check(
            Kind::Events,
            &["eventname", "time", "distinct_id"],
            Extra::Refuse,
            Err("events need columns \"event_name\", \"event_time\", \"insert_id\"; \
                 did you mean event_name by \"eventname\"?; did you mean event_time by \"time\"?"),
        );
        check(Kind::Profiles, &[], Extra::Refuse, Err("profiles need column \"distinct_id\""));
    }

    #[test]
    fn extra_columns_are_named() {
        let fold = "; extra = \"properties\" folds other columns into properties";
        let message = format!("events have no columns \"a\\n\", \"b\"{fold}");
        check(Kind::Events, &with(&["a\n", "b"]), Extra::Refuse, Err(&message));
        let message = "events have no column \"propertys\"; did you mean properties by \"propertys\"?";
        check(Kind::Events, &with(&["propertys"]), Extra::Refuse, Err(message));
        let many: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
        let names = with(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let listed = many[..10].iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let message = format!("events have no columns {listed} and 2 more{fold}");
        check(Kind::Events, &names, Extra::Refuse, Err(&message));
    }

    #[test]
    fn a_column_comes_once() {
        let message = "columns \"event_name\" and \"Event_Name\" are the same: case does not tell columns apart";
        check(Kind::Events, &with(&["Event_Name"]), Extra::Refuse, Err(message));
        let message = "the stream has two columns \"insert_id\"";
        check(Kind::Events, &with(&["insert_id"]), Extra::Refuse, Err(message));
        let message = "the stream has two columns \"a\"";
        check(Kind::Events, &with(&["a", "A", "a"]), Extra::FoldIntoProperties, Err(message));
    }
}
