//! The one classification of DuckDB's errors: its code and its words become an [`ErrorKind`] and a short message.

use duckdb_neo::error::DuckDBError;

use super::guard;
use crate::error::{Error, ErrorKind};

/// Messages are cut here, at a character boundary: gRPC metadata is limited, and the log has the whole.
const MESSAGE_BYTES_MAX: usize = 2000;

impl From<duckdb_neo::Error> for Error {
    fn from(error: duckdb_neo::Error) -> Self {
        let kind = classify(error.code, &error.message);
        Self::new(kind, present(&error.message)).with_source(error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::internal("an Arrow conversion failed").with_source(error)
    }
}

/// The error of running `sql`, with the place that DuckDB points at: under a line of the SQL that it repeats, maybe without the
/// line's ends. Other SQL than the caller's has no place.
pub(in crate::engine) fn located(error: Error, sql: &str) -> Error {
    let position = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<duckdb_neo::Error>())
        .and_then(|duckdb| position(&duckdb.message, sql));
    if position.is_some() { error.at(position) } else { error }
}

/// How many characters of `sql` come before the place that `message` points at: `LINE 2: … FROM x` with carets below.
fn position(message: &str, sql: &str) -> Option<usize> {
    let lines: Vec<&str> = message.lines().collect();
    let [.., shown, carets] = lines.as_slice() else { return None };
    if carets.trim_matches(' ').is_empty() || !carets.trim_start().chars().all(|c| c == '^') {
        return None;
    }
    let (label, shown) = shown.split_once(": ")?;
    let number: usize = label.strip_prefix("LINE ")?.parse().ok()?;
    let column = (carets.len() - carets.trim_start().len()).checked_sub(label.len() + 2)?;
    let line = sql.split('\n').nth(number.checked_sub(1)?)?;
    let before: usize = sql.split('\n').take(number - 1).map(|line| line.chars().count() + 1).sum();
    if line == shown {
        return Some(before + characters(line, column));
    }
    let inner = shown.strip_suffix("...").unwrap_or(shown);
    let (inner, cut) = inner.strip_prefix("...").map_or((inner, 0), |inner| (inner, 3));
    // A part that stands there twice tells nothing.
    let (first, last) = (line.find(inner)?, line.rfind(inner)?);
    if inner.is_empty() || first != last {
        return None;
    }
    Some(before + line[..first].chars().count() + characters(inner, column.checked_sub(cut)?))
}

/// How many characters of `text` are `columns` wide on a screen: those of East Asia are two.
fn characters(text: &str, columns: usize) -> usize {
    let mut width = 0;
    text.chars()
        .take_while(|c| {
            let is_before = width < columns;
            width += unicode_width::UnicodeWidthChar::width(*c).unwrap_or(1);
            is_before
        })
        .count()
}

/// Whether the error makes every later call on the instance or the attached database fail.
pub(in crate::engine) fn invalidates_database(error: &Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(duckdb) = cause.downcast_ref::<duckdb_neo::Error>() {
            return duckdb.code == DuckDBError::RuntimeFatal || says_invalidated(&duckdb.message);
        }
        source = cause.source();
    }
    false
}

fn says_invalidated(message: &str) -> bool {
    message.contains("has been invalidated")
}

fn classify(code: DuckDBError, message: &str) -> ErrorKind {
    if says_invalidated(message) {
        return ErrorKind::Unavailable;
    }
    if let Some(kind) = classify_words(message) {
        return kind;
    }
    match code {
        DuckDBError::RuntimeInterrupt => ErrorKind::Cancelled,
        DuckDBError::ResourceOutOfMemory => ErrorKind::ResourceExhausted,
        DuckDBError::RuntimeInternal | DuckDBError::RuntimeFatal | DuckDBError::RuntimeNullPointer => {
            ErrorKind::Internal
        }
        DuckDBError::DatabaseTransaction | DuckDBError::ResourceInUse | DuckDBError::ResourceDependency => {
            ErrorKind::FailedPrecondition
        }
        DuckDBError::ConfigurationPermission => ErrorKind::PermissionDenied,
        DuckDBError::QueryNotImplemented => ErrorKind::Unimplemented,
        // The rest says something about the statement or its data: the user can mend it.
        _ => ErrorKind::InvalidArgument,
    }
}

/// What only the words tell. DuckDB's catalog errors have one code for "not there" and "already there".
fn classify_words(message: &str) -> Option<ErrorKind> {
    const WORDS: &[(&str, ErrorKind)] = &[
        ("unknown time zone", ErrorKind::InvalidArgument),
        ("Permission Error", ErrorKind::PermissionDenied),
        ("configuration has been locked", ErrorKind::PermissionDenied),
        ("INTERRUPT Error", ErrorKind::Cancelled),
        ("Interrupted!", ErrorKind::Cancelled),
        ("Out of Memory Error", ErrorKind::ResourceExhausted),
        // A commit that runs out of memory names the transaction in place of the memory.
        ("failed to pin block of size", ErrorKind::ResourceExhausted),
        ("could not allocate block of size", ErrorKind::ResourceExhausted),
        ("failed to allocate data of size", ErrorKind::ResourceExhausted),
        ("std::bad_alloc", ErrorKind::ResourceExhausted),
        ("No space left on device", ErrorKind::ResourceExhausted),
        ("Max expression depth limit", ErrorKind::ResourceExhausted),
        ("read-only mode", ErrorKind::FailedPrecondition),
        ("is not an table", ErrorKind::FailedPrecondition),
        ("TransactionContext Error", ErrorKind::FailedPrecondition),
        ("violates primary key constraint", ErrorKind::AlreadyExists),
        ("violates unique constraint", ErrorKind::AlreadyExists),
    ];
    if let Some((_, kind)) = WORDS.iter().find(|(words, _)| message.contains(words)) {
        return Some(*kind);
    }
    if removed_function(message).is_some() {
        return Some(ErrorKind::PermissionDenied);
    }
    let catalog = message.starts_with("Catalog Error") || message.starts_with("Binder Error: Catalog");
    if !catalog {
        return None;
    }
    let first_line = message.lines().next().unwrap_or_default();
    if first_line.contains("already exists") {
        return Some(ErrorKind::AlreadyExists);
    }
    let missing_relation = ["Table with name", "View with name", "Schema with name", "Catalog \""]
        .iter()
        .any(|words| first_line.contains(words));
    (missing_relation && first_line.contains("does not exist")).then_some(ErrorKind::NotFound)
}

/// The function that a message misses, if it is one that the guard has taken away.
fn removed_function(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("Function with name ")?;
    let name = rest.trim_start_matches('"').split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    guard::is_removed(name).then_some(name)
}

/// DuckDB's limits by its own words, each with what to say in place of its advice and the setting of ours that it is.
const LIMITS: &[(&str, &str, &str)] = &[
    ("max_temp_directory_size", "This limit was set by", "engine.temp_directory_max"),
    ("failed to offload data block", "This limit was set by", "engine.temp_directory_max"),
    ("Out of Memory Error: Allocation failure", "Possible solutions", "engine.process_memory_max"),
    ("Out of Memory Error", "Possible solutions", "engine.memory_limit"),
    ("failed to pin block of size", "Possible solutions", "engine.memory_limit"),
    ("could not allocate block of size", "Possible solutions", "engine.memory_limit"),
    ("failed to allocate data of size", "Possible solutions", "engine.memory_limit"),
    ("Max expression depth limit", "Use \"SET max_expression_depth", "engine.expression_depth_max"),
];

/// The message without DuckDB's advice, which is for those who may set its settings, and with the name of ours.
fn name_limit(message: &str) -> Option<String> {
    if message == "Out of memory." || message == "std::bad_alloc" {
        return Some("out of memory (engine.process_memory_max)".to_owned());
    }
    let (_, advice, setting) = LIMITS.iter().find(|(words, ..)| message.contains(words))?;
    let what = message.split(advice).next().unwrap_or_default().trim_end_matches([' ', '\n', '.', ';']);
    Some(format!("{what} ({setting})"))
}

/// DuckDB's message on one line, without what repeats the SQL: `LINE 1: …` and the carets under it.
fn present(message: &str) -> String {
    if let Some(name) = removed_function(message) {
        return format!(
            "function {name} is not offered: it would reach files, settings or statements outside of the caller's rights"
        );
    }
    let limit = name_limit(message);
    let message = limit.as_deref().unwrap_or(message);
    let is_marker = |line: &str| !line.is_empty() && line.chars().all(|c| c == '^' || c == '~');
    let missing = missing_table(message);
    // Far from every name of the user's, DuckDB suggests a table of its own, or of the server's.
    let is_noise = |line: &str| {
        line.is_empty()
            || line.starts_with("LINE ")
            || line.starts_with("Did you mean \"pg_")
            || line.starts_with("Did you mean \"_")
            || missing.is_some_and(|missing| suggests(line, missing))
    };
    let lines = message.lines().map(str::trim).filter(|line| !is_noise(line) && !is_marker(line));
    let mut text = lines.collect::<Vec<_>>().join("; ");
    // Such a message is the guard's, and says all there is.
    if let Some(own) = text.strip_prefix("Permission Error: ") {
        text = own.to_owned();
    }
    if text.starts_with("TransactionContext Error: Conflict on ") {
        text += " Another transaction has changed the same rows, or the same table's metadata, since this one began: roll back, and try again";
    }
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
    text
}

/// Where DuckDB begins to name what the caller has not: near names, columns, what depends on something.
const NAMES_FOLLOW: &[&str] = &[
    "Did you mean",
    "did you mean",
    "Candidate",
    "Left candidates",
    "Use DROP...CASCADE",
    "main key table of the table",
    "that depend on it",
];

/// Types that spell out names or values.
const TELLING_TYPES: &[&str] = &["STRUCT(", "UNION(", "ENUM("];

/// The message for somebody who may see some tables only: without the names that DuckDB offers or explains with, which are of any
/// table.
pub(in crate::engine) fn without_names(message: &str) -> String {
    let end = NAMES_FOLLOW.iter().filter_map(|words| message.find(words)).min().unwrap_or(message.len());
    let mut rest = message[..end].trim_end_matches(|c: char| c.is_whitespace() || c == ';');
    let mut told = String::with_capacity(rest.len());
    while let Some((start, word)) =
        TELLING_TYPES.iter().filter_map(|word| rest.find(word).map(|start| (start, word))).min()
    {
        let inside = start + word.len();
        told.push_str(&rest[..inside]);
        told.push('…');
        rest = &rest[inside + closing(&rest[inside..])..];
    }
    told + rest
}

/// Where the parenthesis that is open closes, or the end.
fn closing(text: &str) -> usize {
    let mut open = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at;
        }
    }
    text.len()
}

/// The table or view that a message misses.
fn missing_table(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(" with name ")?;
    let (name, _) = rest.split_once(" does not exist")?;
    Some(name.trim_matches('"'))
}

/// Whether a line suggests the very name that is missing: DuckDB's suggestions may be of tables that were dropped, or that nobody has
/// committed yet.
fn suggests(line: &str, missing: &str) -> bool {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().trim_matches('"').to_lowercase();
    let suggestion = line.strip_prefix("Did you mean \"").and_then(|rest| rest.strip_suffix("\"?"));
    suggestion.is_some_and(|suggestion| last(suggestion) == last(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_see_some_tables_is_told_no_other_names() {
        for (message, expected) in [
            (
                "Catalog Error: Table with name x does not exist!; Did you mean \"secret\"?",
                "Catalog Error: Table with name x does not exist!",
            ),
            (
                "Binder Error: column \"x\" not found!; Candidate bindings: \"secret\"",
                "Binder Error: column \"x\" not found!",
            ),
            ("'f(STRUCT(secret INTEGER, b STRUCT(c ENUM('s'))), INTEGER)'. Add", "'f(STRUCT(…), INTEGER)'. Add"),
            ("no f(UNION(a", "no f(UNION(…"),
            (
                "Cannot drop entry \"t\" because there are entries that depend on it.; table \"secret\" depends on",
                "Cannot drop entry \"t\" because there are entries",
            ),
            ("Parser Error: syntax error at \"é(\"", "Parser Error: syntax error at \"é(\""),
        ] {
            assert_eq!(without_names(message), expected);
        }
    }

    #[test]
    fn limits_name_our_settings() {
        for (message, expected) in [
            (
                "Out of Memory Error: failed to offload data block of size 256.0 KiB (19.9 MiB/20.0 MiB used).\nThis limit was set \
                 by the 'max_temp_directory_size' setting.\nBy default",
                "Out of Memory Error: failed to offload data block of size 256.0 KiB (19.9 MiB/20.0 MiB used) \
                 (engine.temp_directory_max)",
            ),
            (
                "Out of Memory Error: failed to allocate data of size 32.0 KiB (511.9 MiB/512.0 MiB used)\n\nPossible \
                 solutions:\n* Reducing",
                "Out of Memory Error: failed to allocate data of size 32.0 KiB (511.9 MiB/512.0 MiB used) (engine.memory_limit)",
            ),
            (
                "TransactionContext Error: Failed to commit: failed to pin block of size 256.0 KiB (476.8 MiB/476.8 MiB used)\n\n\
                 Possible solutions:\n* Reducing",
                "TransactionContext Error: Failed to commit: failed to pin block of size 256.0 KiB (476.8 MiB/476.8 MiB used) \
                 (engine.memory_limit)",
            ),
            (
                "Out of Memory Error: Allocation failure",
                "Out of Memory Error: Allocation failure (engine.process_memory_max)",
            ),
            (
                "Parser Error: Max expression depth limit of 1000 exceeded. Use \"SET max_expression_depth TO x\" to increase",
                "Parser Error: Max expression depth limit of 1000 exceeded (engine.expression_depth_max)",
            ),
        ] {
            assert_eq!(present(message), expected);
            assert_eq!(classify(DuckDBError::ResourceOutOfMemory, message), ErrorKind::ResourceExhausted);
        }
    }

    #[test]
    fn the_place_is_found_in_the_caller_s_sql() {
        let place =
            |message: &str, sql: &str| position(message, sql).map(|at| sql.chars().skip(at).collect::<String>());
        let found = |rest: &str| Some(rest.to_owned());
        let message = "Parser Error: x\n\nLINE 1: SELEC 1\n        ^^^^^";
        assert_eq!(place(message, "SELEC 1"), found("SELEC 1"));
        assert_eq!(place(message, "SELECT 1"), None);
        let message =
            "Binder Error: x\nCandidate bindings: \"a\"\n\nLINE 2: WHERE '日本é' = NO\n                        ^^";
        assert_eq!(place(message, "SELECT 1\nWHERE '日本é' = NO\nLIMIT 1"), found("NO\nLIMIT 1"));
        let long = "SELECT 1, 2, 3, nope, 4, 5";
        let message = "Binder Error: x\n\nLINE 1: ... 2, 3, nope, 4...\n                  ^^^^";
        assert_eq!(place(message, long), found("nope, 4, 5"));
        // Cut parts that stand there twice, other SQL, no carets.
        assert_eq!(place("x\n\nLINE 1: ...1...\n           ^", "1, 1"), None);
        assert_eq!(place("x\n\nLINE 7: 1\n        ^", "1"), None);
        assert_eq!(place("x\n\nLINE 1: 1\n", "1"), None);
        assert_eq!(place("", "1"), None);
    }

    #[test]
    fn a_conflict_says_what_to_do() {
        let message = present("TransactionContext Error: Conflict on update!");
        assert!(message.starts_with("TransactionContext Error: Conflict on update! Another transaction"), "{message}");
        assert!(message.ends_with("try again"), "{message}");
    }

    #[test]
    fn a_table_that_is_missing_is_not_suggested() {
        for (suggestion, shown) in
            [("merganser.ev_3_a", false), ("EV_3_a", false), ("merganser.main.ev_3_b", true), ("ev_3_a2", true)]
        {
            let message = format!(
                "Catalog Error: Table with name ev_3_a does not exist!\nDid you mean \"{suggestion}\"?\n\nLINE 1: x"
            );
            let present = present(&message);
            assert_eq!(present.contains("Did you mean"), shown, "{present}");
            assert!(present.starts_with("Catalog Error: Table with name ev_3_a does not exist!"), "{present}");
        }
    }
}
