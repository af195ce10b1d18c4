//! A JSON object cut into its members without changing a byte of them: key order, number spelling and escapes survive.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One member of an object.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// The key, decoded.
    pub(super) key: Cow<'a, str>,
    /// The value's text.
    pub(super) value: &'a str,
    /// Where the member, from its key to its value, is in the text.
    pub(super) range: Range<usize>,
    /// Whether it is a member of the nested object.
    pub(super) is_nested: bool,
}

/// Calls `visit` with each member of the object `text`, in order. An error says what is wrong with the text.
pub(super) fn visit<'a>(text: &'a str, visit: impl FnMut(Member<'a>)) -> Result<(), String> {
    run(text, None, visit).map(|_| ())
}

/// The same, but what the member `nested` holds must be an object, and its members are visited in its place: in one pass, for
/// the text of such objects is most of an import. Tells whether the member was there.
pub(super) fn visit_nested<'a>(text: &'a str, nested: &str, visit: impl FnMut(Member<'a>)) -> Result<bool, String> {
    run(text, Some(nested), visit)
}

fn run<'a>(text: &'a str, nested: Option<&str>, mut visit: impl FnMut(Member<'a>)) -> Result<bool, String> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err("not a JSON object".to_owned());
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = Members { text, nested, is_nested: false, visit: &mut visit };
    let found = members.deserialize(&mut deserializer).map_err(|error| reason(&error))?;
    deserializer.end().map_err(|error| reason(&error))?;
    Ok(found)
}

struct Members<'a, 'v, F> {
    text: &'a str,
    /// The member whose members are visited in its place.
    nested: Option<&'v str>,
    /// Whether this is that object.
    is_nested: bool,
    visit: &'v mut F,
}

impl<'a, F: FnMut(Member<'a>)> DeserializeSeed<'a> for Members<'a, '_, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, F: FnMut(Member<'a>)> Visitor<'a> for Members<'a, '_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<bool, A::Error> {
        let Self { text, nested, is_nested, visit } = self;
        let base = text.as_ptr().addr();
        let mut found = false;
        while let Some(Key(key)) = map.next_key()? {
            if nested == Some(&*key) {
                map.next_value_seed(Members { text, nested: None, is_nested: true, visit: &mut *visit })?;
                found = true;
                continue;
            }
            let value = map.next_value::<&RawValue>()?.get();
            // Both are slices of the text: the difference of their addresses is the place.
            let value_start = value.as_ptr().addr() - base;
            let start = match &key {
                Cow::Borrowed(key) => key.as_ptr().addr() - base - 1,
                Cow::Owned(_) => key_start(text.as_bytes(), value_start),
            };
            visit(Member { key, value, range: start..value_start + value.len(), is_nested });
        }
        Ok(found)
    }
}

/// A key, borrowed when it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'a> Deserialize<'a> for Key<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor).map(Key)
    }
}

struct KeyVisitor;

impl<'a> Visitor<'a> for KeyVisitor {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// Where the key before the value at `value_start` begins. A quote inside of a string has an odd number of backslashes before
/// it, so the first one, going back from the key's end, that has not is the key's beginning.
fn key_start(text: &[u8], value_start: usize) -> usize {
    let quote_before = |end: usize| text[..end].iter().rposition(|byte| *byte == b'"').unwrap_or_default();
    let mut at = quote_before(quote_before(value_start));
    while at > 0 && !backslashes_before(text, at).is_multiple_of(2) {
        at = quote_before(at);
    }
    at
}

fn backslashes_before(text: &[u8], at: usize) -> usize {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count()
}

/// The text of a JSON value as a column of strings takes it: strings decoded, numbers and booleans as they are written; `None`
/// for null.
pub(super) fn text<'a>(name: &str, value: &'a str) -> Result<Option<Cow<'a, str>>, String> {
    match value.as_bytes().first() {
        Some(b'"') if !value.contains('\\') => Ok(Some(Cow::Borrowed(value.trim_matches('"')))),
        Some(b'"') => match serde_json::from_str(value) {
            Ok(text) => Ok(Some(Cow::Owned(text))),
            Err(error) => Err(format!("`{name}` is {}", reason(&error))),
        },
        Some(b'n') => Ok(None),
        Some(b'{') => Err(format!("`{name}` is an object, not text")),
        Some(b'[') => Err(format!("`{name}` is an array, not text")),
        _ => Ok(Some(Cow::Borrowed(value))),
    }
}

/// What serde_json found wrong with one line.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    let kind = if error.is_data() { "" } else { "not JSON: " };
    format!("{kind}{what} at column {}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(object: &str) -> Result<Vec<(String, &str, &str)>, String> {
        let mut found = Vec::new();
        visit(object, |member| {
            found.push((member.key.clone().into_owned(), member.value, &object[member.range.clone()]));
        })?;
        Ok(found)
    }

    #[test]
    fn members_are_cut_byte_for_byte() {
        let check = |object: &str, wanted: &[(&str, &str, &str)]| {
            let wanted: Vec<_> = wanted.iter().map(|(key, value, text)| ((*key).to_owned(), *value, *text)).collect();
            assert_eq!(members(object).unwrap(), wanted, "{object}");
        };
        check("{}", &[]);
        check(
            r#" { "a" : 1.50 , "b":[1, {"c":2}] } "#,
            &[("a", "1.50", r#""a" : 1.50"#), ("b", r#"[1, {"c":2}]"#, r#""b":[1, {"c":2}]"#)],
        );
        check(r#"{"é":"ü\u0041"}"#, &[("é", r#""ü\u0041""#, r#""é":"ü\u0041""#)]);
        // Escapes in keys: quotes, backslashes before the quote, and a key that ends in a backslash.
        check(r#"{"\"x\\\"":1}"#, &[(r#""x\""#, "1", r#""\"x\\\"":1"#)]);
        check(r#"{"a":"\\","\\":"\""}"#, &[("a", r#""\\""#, r#""a":"\\""#), ("\\", r#""\"""#, r#""\\":"\"""#)]);
        check(
            r#"{"\u0022" : 12345678901234567890123}"#,
            &[("\"", "12345678901234567890123", r#""\u0022" : 12345678901234567890123"#)],
        );
    }

    #[test]
    fn a_nested_object_is_visited_in_place() {
        let text = r#"{"a":1, "in": {"b" : [2],"in":{"c":3}} ,"d":4}"#;
        let mut found = Vec::new();
        let has_nested =
            visit_nested(text, "in", |member| found.push((member.is_nested, &text[member.range]))).unwrap();
        assert!(has_nested);
        let wanted = [(false, r#""a":1"#), (true, r#""b" : [2]"#), (true, r#""in":{"c":3}"#), (false, r#""d":4"#)];
        assert_eq!(found, wanted);
        assert!(!visit_nested("{}", "in", |_| ()).unwrap());
        let error = visit_nested(r#"{"in":[1]}"#, "in", |_| ()).unwrap_err();
        assert_eq!(error, "invalid type: sequence, expected an object at column 6");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (object, reason) in [
            ("", "not a JSON object"),
            ("[1]", "not a JSON object"),
            (r#"{"a":1"#, "not JSON: EOF while parsing an object at column 6"),
            (r#"{"a":1,}"#, "not JSON: trailing comma at column 8"),
            (r#"{"a":1} x"#, "not JSON: trailing characters at column 9"),
            (r#"{"a":tru}"#, "not JSON: expected ident at column 9"),
        ] {
            assert_eq!(members(object).unwrap_err(), reason, "{object}");
        }
    }

    #[test]
    fn texts() {
        assert_eq!(text("a", r#""x""#).unwrap().as_deref(), Some("x"));
        assert_eq!(text("a", r#""""#).unwrap().as_deref(), Some(""));
        assert_eq!(text("a", r#""\"\u00e9\"""#).unwrap().as_deref(), Some("\"é\""));
        assert_eq!(text("a", "1.0e5").unwrap().as_deref(), Some("1.0e5"));
        assert_eq!(text("a", "null").unwrap(), None);
        assert_eq!(text("a", "{}").unwrap_err(), "`a` is an object, not text");
        assert!(text("a", r#""\ud800""#).unwrap_err().contains("hex escape"));
    }
}
