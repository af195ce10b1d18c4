//! JSON lines whose members are columns: those of a managed kind, or of a plain table whose types are told from a sample.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;

use super::buffered::{Parse, plain};
use super::managed::{EventRow, EventRows, ProfileRow, ProfileRows};
use super::text::{Decode, Flushed, utf8};
use super::{members, time};
use crate::tables::Kind;

/// Decodes lines whose members are the columns of events.
#[derive(Debug)]
pub(super) struct Events {
    rows: EventRows,
    fold: bool,
}

/// Decodes lines whose members are the columns of profiles.
#[derive(Debug)]
pub(super) struct Profiles {
    rows: ProfileRows,
    fold: bool,
}

impl Events {
    /// With `fold`, members that are no column join the properties; else they are refused.
    pub(super) fn new(fold: bool) -> Self {
        Self { rows: EventRows::new(), fold }
    }
}

impl Decode for Events {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        let line = utf8(record)?;
        let (columns, others) = cut::<5>(line, Kind::Events, self.fold)?;
        let [event_name, event_time, distinct_id, insert_id, properties] = columns;
        let time = event_time.map_or(Ok(None), |value| time::parse("event_time", value))?;
        self.rows.push(&EventRow {
            event_name: &required("event_name", event_name)?,
            event_time: time.ok_or("`event_time` is missing")?,
            distinct_id: &required("distinct_id", distinct_id)?,
            insert_id: &required("insert_id", insert_id)?,
            properties: with_others(json_text(properties)?, &others)?.as_deref(),
        });
        Ok(())
    }

    fn flush(&mut self) -> Result<Flushed, ArrowError> {
        self.rows.flush().map(Flushed::from)
    }
}

impl Profiles {
    /// With `fold`, members that are no column join the properties; else they are refused.
    pub(super) fn new(fold: bool) -> Self {
        Self { rows: ProfileRows::new(), fold }
    }
}

impl Decode for Profiles {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        let line = utf8(record)?;
        let (columns, others) = cut::<3>(line, Kind::Profiles, self.fold)?;
        let [distinct_id, properties, last_seen] = columns;
        self.rows.push(&ProfileRow {
            distinct_id: &required("distinct_id", distinct_id)?,
            properties: with_others(json_text(properties)?, &others)?.as_deref(),
            last_seen: last_seen.map_or(Ok(None), |value| time::parse("last_seen", value))?,
        });
        Ok(())
    }

    fn flush(&mut self) -> Result<Flushed, ArrowError> {
        self.rows.flush().map(Flushed::from)
    }
}

/// The values of the kind's columns in `line`, in the table's order, and the other members.
fn cut<const N: usize>(line: &str, kind: Kind, fold: bool) -> Result<([Option<&str>; N], Vec<&str>), String> {
    let mut columns = [None; N];
    let mut others = Vec::new();
    let mut unknown = None;
    members::visit(line, |member| {
        match kind.columns().iter().position(|column| column.name.eq_ignore_ascii_case(&member.key)) {
            Some(index) => columns[index] = Some(member.value),
            None if fold => others.push(&line[member.range]),
            None => unknown = unknown.take().or(Some(member.key)),
        }
    })?;
    match unknown {
        None => Ok((columns, others)),
        Some(name) => {
            Err(format!("`{name}` is not a column of {} (--extra properties keeps it in properties)", kind.word()))
        }
    }
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<Cow<'a, str>, String> {
    let text = value.map_or(Ok(None), |value| members::text(name, value))?;
    text.ok_or_else(|| format!("`{name}` is missing"))
}

/// JSON text: as it is written, or, if it is a string, what the string holds. `None` for null and the empty string.
fn json_text(value: Option<&str>) -> Result<Option<Cow<'_, str>>, String> {
    let text = match value {
        Some(value) if value.starts_with('"') => members::text("properties", value)?,
        Some(value) if value != "null" => Some(Cow::Borrowed(value)),
        _ => None,
    };
    Ok(text.filter(|text| !text.trim().is_empty()))
}

/// `properties` with the members `others` at its end.
fn with_others<'a>(properties: Option<Cow<'a, str>>, others: &[&str]) -> Result<Option<Cow<'a, str>>, String> {
    if others.is_empty() {
        return Ok(properties);
    }
    let others = others.join(",");
    let Some(properties) = properties else { return Ok(Some(Cow::Owned(format!("{{{others}}}")))) };
    let members = properties.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    match members {
        Some(members) if members.trim().is_empty() => Ok(Some(Cow::Owned(format!("{{{others}}}")))),
        Some(members) => Ok(Some(Cow::Owned(format!("{{{members},{others}}}")))),
        None => Err("`properties` is not an object that other members can join".to_owned()),
    }
}

/// Parses lines whose members are the columns of a plain table.
#[derive(Debug)]
pub(super) struct Table {
    schema: SchemaRef,
}

impl Table {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl Parse for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn parse(&self, text: &[u8], rows: usize) -> Result<RecordBatch, ArrowError> {
        // Strict: a member that the sample did not have is an error, for dropping it in silence would lose data.
        let mut decoder = ReaderBuilder::new(self.schema())
            .with_strict_mode(true)
            .with_coerce_primitive(true)
            .with_batch_size(rows + 1)
            .build_decoder()?;
        decoder.decode(text)?;
        Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(self.schema())))
    }
}

/// The schema of the objects in a sample of lines: the columns in the order in which they first appear. Lines that are no
/// objects are passed over; the reader meets them again.
pub(super) fn infer<'a>(sample: impl Iterator<Item = &'a [u8]>) -> Result<SchemaRef, String> {
    let objects: Vec<(&str, serde_json::Value)> = sample
        .filter_map(|line| Some((std::str::from_utf8(line).ok()?, serde_json::from_slice(line).ok()?)))
        .filter(|(_, value): &(_, serde_json::Value)| value.is_object())
        .collect();
    let inferred = infer_json_schema_from_iterator(objects.iter().map(|(_, value)| Ok(value)))
        .map_err(|error| format!("cannot tell the columns' types: {}", plain(&error)))?;

    let mut fields: Vec<FieldRef> = Vec::new();
    for (line, _) in &objects {
        members::visit(line, |member| {
            let is_new = fields.iter().all(|field| *field.name() != member.key);
            if let (true, Ok(field)) = (is_new, inferred.field_with_name(&member.key)) {
                fields.push(settled(field));
            }
        })?;
    }
    if fields.is_empty() {
        Err("no rows to tell the columns from".to_owned())
    } else {
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// `field` with no type left open (all values of the sample null: text), and members of objects in the order of their names,
/// for inference has them in none.
fn settled(field: &Field) -> FieldRef {
    let data_type = if let DataType::Struct(fields) = field.data_type() {
        let mut fields: Vec<FieldRef> = fields.iter().map(|field| settled(field)).collect();
        fields.sort_by(|a, b| a.name().cmp(b.name()));
        DataType::Struct(Fields::from(fields))
    } else if let DataType::List(item) = field.data_type() {
        DataType::List(settled(item))
    } else if field.data_type().is_null() {
        DataType::Utf8
    } else {
        field.data_type().clone()
    };
    Arc::new(field.clone().with_data_type(data_type))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    #[test]
    fn events_have_our_columns() {
        let mut events = Events::new(false);
        for line in [
            r#"{"event_name":"e","event_time":"2024-01-01T00:00:00Z","distinct_id":1,"insert_id":"a","properties":{ "x" : 1.0 }}"#,
            r#"{"EVENT_NAME":"e","event_time":1704067200,"distinct_id":"","insert_id":"b","properties":"{\"x\": 2}"}"#,
            r#"{"event_name":"e","event_time":1704067200.0,"distinct_id":"d","insert_id":"c","properties":null}"#,
            r#"{"event_name":"e","event_time":1704067200,"distinct_id":"d","insert_id":"d"}"#,
        ] {
            events.push(line.as_bytes()).unwrap();
        }
        let batch = events.flush().unwrap().batch;
        assert_eq!(
            batch["event_time"].as_primitive::<TimestampMicrosecondType>().values(),
            &[1_704_067_200_000_000; 4]
        );
        let properties: Vec<_> = batch["properties"].as_string::<i32>().iter().collect();
        assert_eq!(properties, [Some(r#"{ "x" : 1.0 }"#), Some(r#"{"x": 2}"#), None, None]);
        assert_eq!(batch["distinct_id"].as_string::<i32>().value(0), "1");
    }

    #[test]
    fn bad_events_are_told_by_their_reason() {
        for (line, reason) in [
            (r#"{"event_time":1,"distinct_id":"d","insert_id":"i"}"#, "`event_name` is missing"),
            (r#"{"event_name":"e","distinct_id":"d","insert_id":"i"}"#, "`event_time` is missing"),
            (r#"{"event_name":"e","event_time":1,"distinct_id":null,"insert_id":"i"}"#, "`distinct_id` is missing"),
            (
                r#"{"event_name":"e","event_time":1,"distinct_id":[],"insert_id":"i"}"#,
                "`distinct_id` is an array, not text",
            ),
            (r#"{"event":"e"}"#, "`event` is not a column of events (--extra properties keeps it in properties)"),
        ] {
            assert_eq!(Events::new(false).push(line.as_bytes()).unwrap_err(), reason, "{line}");
        }
    }

    #[test]
    fn extra_members_join_the_properties() {
        let check = |properties: &str, wanted: &str| {
            let mut profiles = Profiles::new(true);
            let line = format!(r#"{{"distinct_id":"d","plan": "free"{properties},"n":1}}"#);
            profiles.push(line.as_bytes()).unwrap();
            let batch = profiles.flush().unwrap().batch;
            assert_eq!(batch["properties"].as_string::<i32>().value(0), wanted);
            assert_eq!(batch["last_seen"].null_count(), 1);
        };
        check("", r#"{"plan": "free","n":1}"#);
        check(r#","properties":{"a":1.0}"#, r#"{"a":1.0,"plan": "free","n":1}"#);
        check(r#","properties":"{ }""#, r#"{"plan": "free","n":1}"#);
        let error = Profiles::new(true).push(br#"{"distinct_id":"d","properties":[1],"n":1}"#).unwrap_err();
        assert_eq!(error, "`properties` is not an object that other members can join");
    }

    #[test]
    fn types_are_told_from_a_sample() {
        let lines =
            [&br#"{"z":1,"a":"x","o":{"b":1,"a":[1,2]},"n":null}"#[..], b"not json", br#"{"z":1.5,"later":true}"#];
        let schema = infer(lines.into_iter()).unwrap();
        let found: Vec<_> = schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
        let object = DataType::Struct(Fields::from(vec![
            Field::new("a", DataType::new_list(DataType::Int64, true), true),
            Field::new("b", DataType::Int64, true),
        ]));
        assert_eq!(
            found,
            [
                ("z", &DataType::Float64),
                ("a", &DataType::Utf8),
                ("o", &object),
                ("n", &DataType::Utf8),
                ("later", &DataType::Boolean),
            ]
        );
        assert_eq!(infer([&b"[]"[..]].into_iter()).unwrap_err(), "no rows to tell the columns from");
    }
}
