//! Lines of a Mixpanel export.
//!
//! Events: `{"event": …, "properties": {"time": …, "distinct_id": …, "$insert_id": …, …}}`. Profiles:
//! `{"$distinct_id": …, "$properties": {"$last_seen": …, …}}`. What the table has a column for is cut out, and everything else of the
//! properties stays as it was written, byte for byte; other members of the line join the properties, at their end.
//!
//! An event without `$insert_id` (or with an empty or null one) gets one that is derived from its content, so that importing the
//! file again adds nothing: the UUID version 5, in the namespace [`insert_id_namespace`], of the name that is made of event_name,
//! event_time in microseconds, distinct_id and properties as they are sent, each followed by a NUL character. Two such events with
//! equal content are one. A missing `distinct_id` is the empty text.

use std::ops::Range;
use std::sync::LazyLock;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use uuid::Uuid;

use super::managed::{EventRow, EventRows, ProfileRow, ProfileRows};
use super::members::{self, Member};
use super::text::{Decode, Flushed, utf8};
use super::time;

/// The namespace of derived insert_ids: the UUID version 5 of `merganser.v1/insert_id` in the namespace of URLs.
pub(super) fn insert_id_namespace() -> Uuid {
    static NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| Uuid::new_v5(&Uuid::NAMESPACE_URL, b"merganser.v1/insert_id"));
    *NAMESPACE
}

/// Decodes lines of an export of events.
#[derive(Debug)]
pub(super) struct Events {
    rows: EventRows,
    scratch: Scratch,
}

/// Decodes lines of an export of profiles.
#[derive(Debug)]
pub(super) struct Profiles {
    rows: ProfileRows,
    scratch: Scratch,
}

/// Kept from line to line, to spare allocations.
#[derive(Debug, Default)]
struct Scratch {
    /// The members of the properties that stay: ranges of neighbours, which are copied with what is between them.
    kept: Vec<Range<usize>>,
    /// Members of the line that join the properties.
    others: Vec<Range<usize>>,
    properties: String,
    hashed: Vec<u8>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { rows: EventRows::new(), scratch: Scratch::default() }
    }
}

impl Decode for Events {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        let line = utf8(record)?;
        let (mut event, mut time, mut distinct_id, mut insert_id) = (None, None, None, None);
        let has_properties = self.scratch.cut(line, "properties", |member| {
            let column = match (member.is_nested, &*member.key) {
                (false, "event") => &mut event,
                (true, "time") => &mut time,
                (true, "distinct_id") => &mut distinct_id,
                (true, "$insert_id") => &mut insert_id,
                _ => return false,
            };
            *column = Some(member.value);
            true
        })?;
        if !has_properties {
            return Err("`properties` is missing".to_owned());
        }
        let text = |name, value: Option<_>| value.map_or(Ok(None), |value| members::text(name, value));
        let event_name = text("event", event)?.ok_or("`event` is missing")?;
        let event_time = time.map_or(Ok(None), |value| time::parse("time", value))?.ok_or("`time` is missing")?;
        let distinct_id = text("distinct_id", distinct_id)?.unwrap_or_default();
        let insert_id = text("$insert_id", insert_id)?.filter(|id| !id.is_empty());

        let mut row = EventRow {
            event_name: &event_name,
            event_time,
            distinct_id: &distinct_id,
            insert_id: "",
            properties: Some(&self.scratch.properties),
        };
        let mut buffer = Uuid::encode_buffer();
        row.insert_id = match &insert_id {
            Some(insert_id) => insert_id,
            None => derive_insert_id(&row, &mut self.scratch.hashed).hyphenated().encode_lower(&mut buffer),
        };
        self.rows.push(&row);
        Ok(())
    }

    fn flush(&mut self) -> Result<Flushed, ArrowError> {
        self.rows.flush().map(Flushed::from)
    }
}

impl Profiles {
    pub(super) fn new() -> Self {
        Self { rows: ProfileRows::new(), scratch: Scratch::default() }
    }
}

impl Decode for Profiles {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        let line = utf8(record)?;
        let (mut distinct_id, mut last_seen) = (None, None);
        self.scratch.cut(line, "$properties", |member| {
            let column = match (member.is_nested, &*member.key) {
                (false, "$distinct_id") => &mut distinct_id,
                (true, "$last_seen") => &mut last_seen,
                _ => return false,
            };
            *column = Some(member.value);
            true
        })?;
        let distinct_id = distinct_id.ok_or("`$distinct_id` is missing")?;
        let distinct_id = members::text("$distinct_id", distinct_id)?.unwrap_or_default();
        let last_seen = last_seen.map_or(Ok(None), |value| time::parse("$last_seen", value))?;
        let properties = Some(self.scratch.properties.as_str());
        self.rows.push(&ProfileRow { distinct_id: &distinct_id, properties, last_seen });
        Ok(())
    }

    fn flush(&mut self) -> Result<Flushed, ArrowError> {
        self.rows.flush().map(Flushed::from)
    }
}

impl Scratch {
    /// Makes `self.properties` of all members of `line` and of its `nested` object that `take` does not take: first the nested
    /// ones. Tells whether the nested object was there.
    fn cut<'a>(
        &mut self,
        line: &'a str,
        nested: &str,
        mut take: impl FnMut(&Member<'a>) -> bool,
    ) -> Result<bool, String> {
        let Self { kept, others, properties, .. } = self;
        kept.clear();
        others.clear();
        let mut is_neighbour = false;
        let found = members::visit_nested(line, nested, |member| {
            if take(&member) {
                is_neighbour = false;
                return;
            }
            if !member.is_nested {
                is_neighbour = false;
                others.push(member.range);
                return;
            }
            match kept.last_mut() {
                Some(last) if is_neighbour => last.end = member.range.end,
                _ => kept.push(member.range),
            }
            is_neighbour = true;
        })?;

        properties.clear();
        for range in kept.iter().chain(others.iter()) {
            properties.push_str(if properties.is_empty() { "{" } else { "," });
            properties.push_str(&line[range.clone()]);
        }
        properties.push_str(if properties.is_empty() { "{}" } else { "}" });
        Ok(found)
    }
}

/// The insert_id of an event that has none; see the head of this file.
fn derive_insert_id(row: &EventRow<'_>, hashed: &mut Vec<u8>) -> Uuid {
    hashed.clear();
    let time = row.event_time.to_string();
    for part in [row.event_name, &time, row.distinct_id, row.properties.unwrap_or_default()] {
        hashed.extend_from_slice(part.as_bytes());
        hashed.push(0);
    }
    Uuid::new_v5(&insert_id_namespace(), hashed)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    fn rows(decoder: &mut dyn Decode, lines: &[&str]) -> RecordBatch {
        for line in lines {
            decoder.push(line.as_bytes()).unwrap();
        }
        decoder.flush().unwrap().batch
    }

    fn cell(batch: &RecordBatch, column: &str) -> String {
        batch[column].as_string::<i32>().value(0).to_owned()
    }

    #[test]
    fn an_event_is_cut_and_the_rest_stays() {
        let check = |properties: &str, wanted: &str| {
            let line = format!(r#"{{"event":"buy","properties":{properties}}}"#);
            let batch = rows(&mut Events::new(), &[&line]);
            assert_eq!(cell(&batch, "event_name"), "buy");
            assert_eq!(batch["event_time"].as_primitive::<TimestampMicrosecondType>().value(0), 1_704_067_200_000_000);
            assert_eq!(cell(&batch, "distinct_id"), "d");
            assert_eq!(cell(&batch, "insert_id"), "i");
            assert_eq!(cell(&batch, "properties"), wanted);
        };
        let ids = r#""time":1704067200,"distinct_id":"d","$insert_id":"i""#;
        check(&format!("{{{ids}}}"), "{}");
        check(&format!(r#"{{{ids},"a":1}}"#), r#"{"a":1}"#);
        check(&format!(r#"{{ "a" : 1.50 , "b":"\u00e9" ,{ids}}}"#), r#"{"a" : 1.50 , "b":"\u00e9"}"#);
        check(
            r#"{"$a":1,"time":1704067200,"x":{"time":1, "y":[ ]},"distinct_id":"d","$insert_id":"i","e":1e5,"z":"ü😀"}"#,
            r#"{"$a":1,"x":{"time":1, "y":[ ]},"e":1e5,"z":"ü😀"}"#,
        );
        // A key may be written with escapes and mean the same.
        check(r#"{"t\u0069me":1704067200,"distinct_id":"d","$insert_id":"i","\u0061":1}"#, r#"{"\u0061":1}"#);
    }

    #[test]
    fn other_members_of_the_line_join_the_properties() {
        let line = r#"{"source":"x","event":"e","properties":{"time":1,"$insert_id":"i","a":1},"n": 2}"#;
        let batch = rows(&mut Events::new(), &[line]);
        assert_eq!(cell(&batch, "properties"), r#"{"a":1,"source":"x","n": 2}"#);
    }

    #[test]
    fn ids_may_be_missing_or_numbers() {
        let event = |members: &str| {
            let line = format!(r#"{{"event":"e","properties":{{"time":1{members}}}}}"#);
            let batch = rows(&mut Events::new(), &[&line]);
            (cell(&batch, "distinct_id"), cell(&batch, "insert_id"))
        };
        assert_eq!(
            event(r#","distinct_id":12345678901234567890,"$insert_id":1.50"#),
            ("12345678901234567890".to_owned(), "1.50".to_owned())
        );
        let (distinct_id, insert_id) = event(r#","distinct_id":null,"a":1"#);
        assert_eq!(distinct_id, "");
        let wanted = Uuid::new_v5(&insert_id_namespace(), b"e\x001000000\0\0{\"a\":1}\0").to_string();
        assert_eq!(insert_id, wanted);
        // The same content, the same id; other content, another.
        assert_eq!(event(r#","a":1,"$insert_id":"""#).1, wanted);
        assert_ne!(event(r#","a":2"#).1, wanted);
        assert_ne!(event(r#","a":1,"distinct_id":"x""#).1, wanted);
        assert_eq!(
            insert_id_namespace().to_string(),
            Uuid::new_v5(&Uuid::NAMESPACE_URL, b"merganser.v1/insert_id").to_string()
        );
    }

    #[test]
    fn bad_events_are_told_by_their_reason() {
        for (line, reason) in [
            (r#"{"event":"e","properties":{}}"#, "`time` is missing"),
            (r#"{"event":"e","properties":{"time":"soon"}}"#, "`time` is not a time: `soon`"),
            (r#"{"properties":{"time":1}}"#, "`event` is missing"),
            (r#"{"event":null,"properties":{"time":1}}"#, "`event` is missing"),
            (r#"{"event":"e"}"#, "`properties` is missing"),
            (r#"{"event":"e","properties":[1]}"#, "invalid type: sequence, expected an object at column 26"),
            (r#"{"event":"e","properties":{"time":1,"distinct_id":{}}}"#, "`distinct_id` is an object, not text"),
            ("[]", "not a JSON object"),
            (r#"{"event":"e""#, "not JSON: EOF while parsing an object at column 12"),
        ] {
            let mut events = Events::new();
            assert_eq!(events.push(line.as_bytes()).unwrap_err(), reason, "{line}");
            assert_eq!(events.flush().unwrap().batch.num_rows(), 0);
        }
        assert_eq!(Events::new().push(b"{\"event\":\"\xff\"}").unwrap_err(), "not UTF-8 at byte 11");
    }

    #[test]
    fn profiles_are_cut() {
        let batch = rows(
            &mut Profiles::new(),
            &[
                r#"{"$distinct_id":7,"$properties":{"$last_seen":"2024-01-01T00:00:00","$name":"Ann","n":1.0}}"#,
                r#"{"$distinct_id":"b","$properties":{"$last_seen":""}}"#,
                r#"{"$distinct_id":"c","$properties":{"$last_seen":null,"a":[1, 2]}}"#,
                r#"{"$distinct_id":"d"}"#,
            ],
        );
        let texts = |column: &str| -> Vec<String> {
            batch[column].as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
        };
        assert_eq!(texts("distinct_id"), ["7", "b", "c", "d"]);
        assert_eq!(texts("properties"), [r#"{"$name":"Ann","n":1.0}"#, "{}", r#"{"a":[1, 2]}"#, "{}"]);
        let last_seen = batch["last_seen"].as_primitive::<TimestampMicrosecondType>();
        assert_eq!(last_seen.value(0), 1_704_067_200_000_000);
        assert_eq!(last_seen.null_count(), 3);
        assert_eq!(Profiles::new().push(br#"{"$properties":{}}"#).unwrap_err(), "`$distinct_id` is missing");
    }
}
