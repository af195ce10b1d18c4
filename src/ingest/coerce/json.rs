//! Strict validation of JSON text (RFC 8259), fast enough to run on every row of a stream.
//!
//! DuckDB takes more than JSON (NaN, trailing commas) into a JSON column, and chokes later on what it took (lone
//! surrogates, deep nesting); `serde_json` without a tree (`IgnoredAny`) lets lone surrogates pass. So this is a
//! validator of our own: iterative, without a tree, and it says where and why a text is malformed. Numbers of any size
//! and duplicate keys are JSON, and pass.

use std::borrow::Cow;

/// Where and why a text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The byte that does not fit, counted from 1.
    position: usize,
    reason: Cow<'static, str>,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed JSON at byte {} ({})", self.position, self.reason)
    }
}

/// Checks one text after the other, reusing its memory.
#[derive(Debug)]
pub(super) struct Validator {
    depth_max: usize,
    /// The opening bytes of the arrays and objects around the current value.
    open: Vec<u8>,
}

impl Validator {
    /// A validator that refuses arrays and objects nested deeper than `depth_max`.
    pub(super) fn new(depth_max: usize) -> Self {
        Self { depth_max, open: Vec::new() }
    }

    /// Checks that the whole of `text` is one JSON value.
    pub(super) fn check(&mut self, text: &str) -> Result<(), Malformed> {
        let bytes = text.as_bytes();
        self.open.clear();
        let mut at = 0;
        loop {
            at = skip_space(bytes, at);
            at = match byte(bytes, at) {
                b'"' => string(bytes, at + 1)?,
                b'-' | b'0'..=b'9' => number(bytes, at)?,
                b't' => literal(bytes, at, b"true")?,
                b'f' => literal(bytes, at, b"false")?,
                b'n' => literal(bytes, at, b"null")?,
                b'{' => {
                    self.enter(bytes, at)?;
                    let next = skip_space(bytes, at + 1);
                    if byte(bytes, next) != b'}' {
                        at = key(bytes, next)?;
                        continue;
                    }
                    next
                }
                b'[' => {
                    self.enter(bytes, at)?;
                    let next = skip_space(bytes, at + 1);
                    if byte(bytes, next) != b']' {
                        at = next;
                        continue;
                    }
                    next
                }
                _ => return Err(malformed(bytes, at, "expected a value")),
            };
            match self.after_value(bytes, at)? {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }

    fn enter(&mut self, bytes: &[u8], at: usize) -> Result<(), Malformed> {
        if self.open.len() == self.depth_max {
            return Err(malformed(bytes, at, format!("nested deeper than {}", self.depth_max)));
        }
        self.open.push(byte(bytes, at));
        Ok(())
    }

    /// Closes what ends at `at`; where the next value begins, or none at the end of the text.
    fn after_value(&mut self, bytes: &[u8], mut at: usize) -> Result<Option<usize>, Malformed> {
        loop {
            at = skip_space(bytes, at);
            match (self.open.last(), byte(bytes, at)) {
                (None, _) if at == bytes.len() => return Ok(None),
                (None, _) => return Err(malformed(bytes, at, "text after the value")),
                (Some(b'{'), b',') => return key(bytes, skip_space(bytes, at + 1)).map(Some),
                (Some(_), b',') => return Ok(Some(at + 1)),
                (Some(b'{'), b'}') | (Some(b'['), b']') => {
                    self.open.pop();
                    at += 1;
                }
                (Some(b'{'), _) => return Err(malformed(bytes, at, "expected `,` or `}`")),
                (Some(_), _) => return Err(malformed(bytes, at, "expected `,` or `]`")),
            }
        }
    }
}

/// The keys of an object, as they are spelled in `object`, a text that has passed [`Validator::check`].
pub(super) fn visit_keys<'a>(object: &'a str, mut visit: impl FnMut(&'a str)) {
    let bytes = object.as_bytes();
    let (mut at, mut depth, mut key_next) = (0, 0_usize, false);
    while let Some(&found) = bytes.get(at) {
        at += 1;
        match found {
            b'"' => {
                let start = at;
                at = string(bytes, start).unwrap_or(bytes.len());
                if key_next && depth == 1 {
                    visit(object.get(start..at - 1).unwrap_or_default());
                    key_next = false;
                }
            }
            b'{' | b'[' => {
                depth += 1;
                key_next = depth == 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => key_next = depth == 1,
            _ => {}
        }
    }
}

/// `reason`, unless the text just ended too early.
#[cold]
fn malformed(bytes: &[u8], at: usize, reason: impl Into<Cow<'static, str>>) -> Malformed {
    let reason = if at < bytes.len() { reason.into() } else { "the text ends too early".into() };
    Malformed { position: at.min(bytes.len()) + 1, reason }
}

/// The byte at `at`; past the end a NUL, which fits nowhere.
#[inline]
fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

#[inline]
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// Reads a key and its colon; the index behind them.
#[inline]
fn key(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    if byte(bytes, at) != b'"' {
        return Err(malformed(bytes, at, "expected a key"));
    }
    let at = skip_space(bytes, string(bytes, at + 1)?);
    if byte(bytes, at) != b':' {
        return Err(malformed(bytes, at, "expected `:`"));
    }
    Ok(at + 1)
}

/// Reads the rest of a string whose quote came before `at`; the index behind its end.
#[inline]
fn string(bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
    loop {
        at += plain_len(bytes.get(at..).unwrap_or_default());
        match byte(bytes, at) {
            b'"' => return Ok(at + 1),
            b'\\' => at = escape(bytes, at)?,
            _ => return Err(malformed(bytes, at, "control character in a string")),
        }
    }
}

/// How many bytes of a string mean just themselves: up to a quote, a backslash or a control character.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ').unwrap_or(rest.len());
    words.len() * 8 + tail
}

/// Sets the high bit of bytes that are a quote, a backslash or below the space. The lowest bit set is exact: a borrow
/// can set only bits above one that is rightly set.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH << 7;
    let zero = |word: u64| word.wrapping_sub(EACH) & !word;
    let quote = zero(word ^ (EACH * u64::from(b'"')));
    let backslash = zero(word ^ (EACH * u64::from(b'\\')));
    let control = word.wrapping_sub(EACH * u64::from(b' ')) & !word;
    (quote | backslash | control) & HIGH
}

/// Reads an escape whose backslash is at `at`; the index behind it.
fn escape(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    match byte(bytes, at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => match hex(bytes, at + 2)? {
            0xD800..=0xDBFF => {
                let pair = byte(bytes, at + 6) == b'\\' && byte(bytes, at + 7) == b'u';
                if pair && (0xDC00..=0xDFFF).contains(&hex(bytes, at + 8)?) {
                    Ok(at + 12)
                } else {
                    Err(malformed(bytes, at, "lone surrogate"))
                }
            }
            0xDC00..=0xDFFF => Err(malformed(bytes, at, "lone surrogate")),
            _ => Ok(at + 6),
        },
        _ => Err(malformed(bytes, at + 1, "unknown escape")),
    }
}

fn hex(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    (at..at + 4).try_fold(0, |value, at| match char::from(byte(bytes, at)).to_digit(16) {
        Some(digit) => Ok(value * 16 + digit),
        None => Err(malformed(bytes, at, "expected a hexadecimal digit")),
    })
}

#[inline]
fn number(bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
    if byte(bytes, at) == b'-' {
        at += 1;
    }
    at = if byte(bytes, at) == b'0' { at + 1 } else { digits(bytes, at)? };
    if byte(bytes, at) == b'.' {
        at = digits(bytes, at + 1)?;
    }
    if matches!(byte(bytes, at), b'e' | b'E') {
        let sign = usize::from(matches!(byte(bytes, at + 1), b'+' | b'-'));
        at = digits(bytes, at + 1 + sign)?;
    }
    Ok(at)
}

#[inline]
fn digits(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut at = start;
    while byte(bytes, at).is_ascii_digit() {
        at += 1;
    }
    if at == start { Err(malformed(bytes, at, "expected a digit")) } else { Ok(at) }
}

#[inline]
fn literal(bytes: &[u8], at: usize, word: &'static [u8]) -> Result<usize, Malformed> {
    let end = at + word.len();
    if bytes.get(at..end) == Some(word) { Ok(end) } else { Err(malformed(bytes, at, "expected a value")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEPTH: usize = 127; // where serde_json stops

    fn check(text: &str, expected: Option<(usize, &str)>) {
        let found = Validator::new(DEPTH).check(text);
        let expected = expected.map(|(position, reason)| Malformed { position, reason: reason.to_owned().into() });
        assert_eq!(found.err(), expected, "{text}");
    }

    #[test]
    fn valid_texts_pass() {
        for text in [
            "null",
            " true ",
            "\t\r\n[ ]\n",
            "{}",
            r#"{"a":1,"a":{"b":[1,2,{"c":null}]} , "d" : [ [ ] , { } ] }"#,
            "-0",
            "0.10e-5",
            "123456789012345678901234567890123456789012345678901234567890",
            "1e999",
            r#""\"\\\/\b\f\n\r\t\u0000\u00e9\uD83D\uDE00 é 😀 and a longer plain run""#,
            "\"\u{7f}\"",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn malformed_texts_say_where_and_why() {
        let early = "the text ends too early";
        for (text, position, reason) in [
            ("", 1, early),
            ("  ", 3, early),
            ("{\"a\":", 6, early),
            ("[1,2", 5, early),
            ("\"abc", 5, early),
            ("\"a\\", 4, early),
            ("\"\\u12", 6, early),
            ("1.", 3, early),
            ("{\"a\": nope}", 7, "expected a value"),
            ("NaN", 1, "expected a value"),
            ("[1,]", 4, "expected a value"),
            ("-Infinity", 2, "expected a digit"),
            ("+1", 1, "expected a value"),
            (".5", 1, "expected a value"),
            ("01", 2, "text after the value"),
            ("1.e5", 3, "expected a digit"),
            ("1e+x", 4, "expected a digit"),
            ("{\"a\":1,}", 8, "expected a key"),
            ("{a:1}", 2, "expected a key"),
            ("{\"a\" 1}", 6, "expected `:`"),
            ("{\"a\":1]", 7, "expected `,` or `}`"),
            ("[1}", 3, "expected `,` or `]`"),
            ("{} {}", 4, "text after the value"),
            ("\"a\nb\"", 3, "control character in a string"),
            ("\"a\0b\"", 3, "control character in a string"),
            ("\"0123456789\u{1f}\"", 12, "control character in a string"),
            (r#""\x41""#, 3, "unknown escape"),
            (r#""\u12g4""#, 6, "expected a hexadecimal digit"),
            (r#"["\ud800"]"#, 3, "lone surrogate"),
            (r#""\ud800\n""#, 2, "lone surrogate"),
            (r#""\ud800\ud800""#, 2, "lone surrogate"),
            (r#""\udc00""#, 2, "lone surrogate"),
            ("\u{feff}1", 1, "expected a value"),
        ] {
            check(text, Some((position, reason)));
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(DEPTH), None);
        check(&nested(DEPTH + 1), Some((DEPTH + 1, "nested deeper than 127")));
        assert_eq!(Validator::new(0).check("1"), Ok(()));
        assert!(Validator::new(0).check("{}").is_err());
    }

    #[test]
    fn keys_of_the_outer_object_are_visited() {
        let mut keys = Vec::new();
        visit_keys(r#" { "a" : {"b":1,"c":[{"d":2}]}, "e\"f":"g,\"h", "i":[1,"j",2],"":0}"#, |key| keys.push(key));
        assert_eq!(keys, ["a", r#"e\"f"#, "i", ""]);
        visit_keys(r#"["a",{"b":1}]"#, |key| assert_eq!(key, "a", "arrays are not for this function"));
        visit_keys("{}", |_| panic!("there is no key"));
    }

    /// Values with awkward strings and numbers, nested.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    /// Both must say the same, but for numbers past f64, which are JSON.
    fn agrees_with_serde_json(text: &str) {
        let reference = serde_json::from_str::<serde_json::Value>(text);
        if reference.as_ref().is_err_and(|error| error.to_string().contains("number out of range")) {
            return;
        }
        let found = Validator::new(DEPTH).check(text);
        assert_eq!(found.is_ok(), reference.is_ok(), "{text:?}: {found:?}, {reference:?}");
    }

    proptest! {
        #[test]
        fn generated_texts_pass(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            check(&text, None);
        }

        #[test]
        fn mutated_texts_agree_with_serde_json(
            value in value(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..4),
        ) {
            let mut bytes = serde_json::to_vec(&value).unwrap();
            for (index, byte, kind) in edits {
                let at = index.index(bytes.len() + 1);
                match kind {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, byte),
                    2 => bytes.insert(at, b"{}[]\",:\\u0e-.+ \ntfn"[byte as usize % 19]),
                    _ if at < bytes.len() => bytes[at] = byte,
                    _ => {}
                }
            }
            agrees_with_serde_json(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn token_soup_agrees_with_serde_json(
            tokens in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\u", "d83d", "de00", "\\ud800", "\\udc00", "0", "-", "12",
                    ".", "e", "+", "true", "null", "nul", " ", "\n", "\u{1}", "é",
                ]),
                0..12,
            ),
        ) {
            agrees_with_serde_json(&tokens.concat());
            agrees_with_serde_json(&format!("\"{}\"", tokens.concat()));
        }
    }
}
