//! Which tables a statement writes to, read from its tokens, and the parts of an INSERT.
//!
//! A statement that changes rows names its table right after a fixed sequence of keywords, at any depth (DuckDB 2.0 allows
//! changes inside CTEs). A sequence that only looks like one (inside a string, say) is no token sequence; one too many would
//! merely refuse a statement on a managed table.

use duckdb_neo::connection::Connection;

use super::scan::{Token, is_word, tokens};
use crate::engine::{CATALOG, SCHEMA};
use crate::error::{Error, Result};

/// What a statement does to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Insert,
    Update,
    Delete,
    Merge,
    Alter,
    Drop,
    /// CREATE OR REPLACE.
    Replace,
    /// COPY … FROM.
    CopyInto,
}

impl Verb {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Merge => "MERGE",
            Self::Alter => "ALTER",
            Self::Drop => "DROP",
            Self::Replace => "CREATE OR REPLACE",
            Self::CopyInto => "COPY FROM",
        }
    }

    /// What to do instead.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Update | Self::Merge => "use INSERT OR REPLACE, or an ingest with on_duplicate = replace",
            Self::Alter => "its columns are fixed; CREATE TABLE … AS SELECT makes a plain table of it",
            Self::Replace => "DROP it first, or use an ingest with mode = replace",
            Self::CopyInto => "INSERT INTO … SELECT, or the ingest command, reads files",
            Self::Insert => "it must be a statement of its own",
            Self::Delete | Self::Drop => "",
        }
    }
}

/// A table that a statement writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) verb: Verb,
    /// The last part of the name.
    pub(super) name: String,
    /// The parts before it: catalog, schema.
    qualifiers: Vec<String>,
    /// The number of the first token of the verb, and of the first token after the name.
    start: usize,
    end: usize,
}

impl Target {
    /// Whether the name stands without catalog and schema.
    pub(super) fn is_unqualified(&self) -> bool {
        self.qualifiers.is_empty()
    }

    /// The name, if it can be that of a managed table: those are in the data file's main schema.
    pub(super) fn managed_name(&self) -> Option<&str> {
        let known = |part: &String| part.eq_ignore_ascii_case(CATALOG) || part.eq_ignore_ascii_case(SCHEMA);
        self.qualifiers.iter().all(known).then_some(self.name.as_str())
    }
}

/// The parts of an INSERT.
pub(super) struct InsertParts {
    pub(super) source: String,
    pub(super) columns: Option<Vec<String>>,
    pub(super) by_name: bool,
    pub(super) replace: bool,
}

/// The tables that a statement writes to, in the order of its text.
pub(super) fn of(tokens: &[Token]) -> Vec<Target> {
    let mut targets = Vec::new();
    for index in 0..tokens.len() {
        let Some((verb, mut at)) = verb_at(tokens, index) else { continue };
        while let Some((mut parts, end)) = name_at(tokens, at) {
            let name = parts.pop().unwrap_or_default();
            if verb != Verb::CopyInto || tokens[end..].iter().any(|token| token.is("from")) {
                targets.push(Target { verb, name, qualifiers: parts, start: index, end });
            }
            // Only DROP takes a list.
            let goes_on = verb == Verb::Drop && tokens.get(end).is_some_and(|token| token.is(","));
            if !goes_on {
                break;
            }
            at = end + 1;
        }
    }
    targets
}

/// The verb whose keywords begin at `index`, and where its table's name begins.
fn verb_at(tokens: &[Token], index: usize) -> Option<(Verb, usize)> {
    const OPTIONAL: &[&[&str]] = &[&["if", "exists"], &["if", "not", "exists"], &["only"]];
    let follows = |at: usize, words: &[&str]| {
        words.iter().enumerate().all(|(i, word)| tokens.get(at + i).is_some_and(|t| t.is(word)))
    };
    let previous_is = |word: &str| index.checked_sub(1).and_then(|i| tokens.get(i)).is_some_and(|t| t.is(word));
    let found = |verb, mut at| {
        if let Some(words) = OPTIONAL.iter().find(|words| follows(at, words)) {
            at += words.len();
        }
        Some((verb, at))
    };
    let skip_or = |at: usize| if tokens.get(at).is_some_and(|t| t.is("or")) { at + 2 } else { at };
    let token = tokens.get(index)?;
    if token.is("insert") {
        let at = skip_or(index + 1);
        return if follows(at, &["into"]) { found(Verb::Insert, at + 1) } else { None };
    }
    if token.is("update") && !previous_is("do") && !previous_is("for") && !previous_is("then") {
        return found(Verb::Update, skip_or(index + 1));
    }
    if follows(index, &["delete", "from"]) || follows(index, &["truncate", "table"]) {
        return found(Verb::Delete, index + 2);
    }
    if token.is("truncate") {
        return found(Verb::Delete, index + 1);
    }
    if follows(index, &["merge", "into"]) {
        return found(Verb::Merge, index + 2);
    }
    if follows(index, &["alter", "table"]) {
        return found(Verb::Alter, index + 2);
    }
    if follows(index, &["drop", "table"]) || follows(index, &["drop", "view"]) {
        return found(Verb::Drop, index + 2);
    }
    if token.is("copy") && index == 0 {
        return found(Verb::CopyInto, index + 1);
    }
    if follows(index, &["create", "or", "replace"]) {
        let mut at = index + 3;
        while tokens.get(at).is_some_and(|t| !(t.is("table") || t.is("view"))) && at < index + 6 {
            at += 1;
        }
        let is_table = tokens.get(at).is_some_and(|t| t.is("table") || t.is("view"));
        let is_temporary = tokens[index..at.min(tokens.len())].iter().any(|t| t.is("temp") || t.is("temporary"));
        return if is_table && !is_temporary { found(Verb::Replace, at + 1) } else { None };
    }
    None
}

/// A dotted name at `at`: its parts, and the number of the token after it.
fn name_at(tokens: &[Token], mut at: usize) -> Option<(Vec<String>, usize)> {
    let mut parts = Vec::new();
    loop {
        let token = tokens.get(at).filter(|token| token.is_word)?;
        parts.push(token.text.clone());
        at += 1;
        if !tokens.get(at).is_some_and(|token| token.is(".")) {
            return Some((parts, at));
        }
        at += 1;
    }
}

/// The parts of the INSERT that `target` stands for.
pub(super) fn insert_parts(connection: &Connection, sql: &str, target: &Target) -> Result<InsertParts> {
    let tokens = tokens(connection, sql)?;
    let refuse = |what: &str| {
        Err(Error::precondition(format!(
            "{what} is not possible with an INSERT into {}, whose rows enter as an ingest",
            target.name
        )))
    };
    let mut at = target.end;
    let columns = column_list(&tokens, &mut at);
    let by_name = is_word(&tokens, at, "by") && is_word(&tokens, at + 1, "name");
    if is_word(&tokens, at, "by") {
        at += 2;
    }
    let end = match top_level(&tokens, at, &["returning", "on"]) {
        Some(index) if tokens[index].is("returning") => return refuse("RETURNING"),
        Some(index) if is_word(&tokens, index + 1, "conflict") => {
            if top_level(&tokens, index, &["update"]).is_some() {
                return refuse("ON CONFLICT … DO UPDATE");
            }
            tokens[index].start
        }
        _ => tokens.iter().rev().find(|token| !token.is(";")).map_or(sql.len(), |token| token.end),
    };
    let Some(first) = tokens.get(at).filter(|token| !token.is("default")) else { return refuse("DEFAULT VALUES") };
    let before = sql.get(..tokens[target.start].start).unwrap_or_default();
    let body = sql.get(first.start..end).unwrap_or_default();
    Ok(InsertParts {
        source: format!("{before}{body}"),
        columns,
        by_name,
        replace: is_word(&tokens, target.start + 1, "or") && is_word(&tokens, target.start + 2, "replace"),
    })
}

/// `(a, b, c)` at `at`, if it is a list of names and not a query in parentheses.
fn column_list(tokens: &[Token], at: &mut usize) -> Option<Vec<String>> {
    if !is_word(tokens, *at, "(") {
        return None;
    }
    let mut names = Vec::new();
    let mut next = *at + 1;
    loop {
        let token = tokens.get(next).filter(|token| token.is_word)?;
        if !token.quoted && ["select", "from", "values", "with"].contains(&token.text.as_str()) {
            return None;
        }
        names.push(token.text.clone());
        match tokens.get(next + 1) {
            Some(token) if token.is(",") => next += 2,
            Some(token) if token.is(")") => {
                *at = next + 2;
                return Some(names);
            }
            _ => return None,
        }
    }
}

/// The first of `words` at or after `at` that stands outside parentheses.
fn top_level(tokens: &[Token], at: usize, words: &[&str]) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && words.iter().any(|word| token.is(word)) {
            // A join's ON is followed by an expression, the conflict's by CONFLICT.
            if token.is("on") && !is_word(tokens, index + 1, "conflict") {
                continue;
            }
            return Some(index);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use duckdb_neo::environment::{Environment, StorageLocation};

    use super::*;

    fn connection() -> Connection {
        Environment::new().unwrap().open(StorageLocation::InMemory).unwrap().connect().unwrap()
    }

    fn check(sql: &str, expected: &[(Verb, &str)]) {
        let found = of(&tokens(&connection(), sql).unwrap());
        let found: Vec<(Verb, &str)> = found.iter().map(|target| (target.verb, target.name.as_str())).collect();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn targets_are_found_at_any_depth() {
        check("SELECT 'insert into events' AS \"update events\" -- delete from events", &[]);
        check("INSERT INTO events SELECT * FROM x", &[(Verb::Insert, "events")]);
        check("insert or replace into merganser.main.\"Events\" values (1)", &[(Verb::Insert, "Events")]);
        check(
            "WITH d AS (DELETE FROM a RETURNING *) INSERT INTO b FROM d",
            &[(Verb::Delete, "a"), (Verb::Insert, "b")],
        );
        check("UPDATE events SET x = 1", &[(Verb::Update, "events")]);
        check("MERGE INTO events USING x ON true WHEN MATCHED THEN DELETE", &[(Verb::Merge, "events")]);
        check("ALTER TABLE IF EXISTS events ADD COLUMN x INT", &[(Verb::Alter, "events")]);
        check("DROP TABLE IF EXISTS a, s.b", &[(Verb::Drop, "a"), (Verb::Drop, "b")]);
        check("CREATE OR REPLACE TABLE events AS SELECT 1", &[(Verb::Replace, "events")]);
        check("CREATE OR REPLACE TEMP TABLE events AS SELECT 1", &[]);
        check("CREATE OR REPLACE MACRO f() AS 1", &[]);
        check("TRUNCATE events", &[(Verb::Delete, "events")]);
        check("COPY events FROM 'x.csv'", &[(Verb::CopyInto, "events")]);
        check("COPY events TO 'x.csv'", &[]);
        check("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", &[(Verb::Insert, "t")]);
    }

    fn parts(sql: &str) -> (String, Option<Vec<String>>, bool, bool) {
        let connection = connection();
        let target = of(&tokens(&connection, sql).unwrap()).remove(0);
        let parts = insert_parts(&connection, sql, &target).unwrap();
        (parts.source, parts.columns, parts.by_name, parts.replace)
    }

    #[test]
    fn inserts_are_taken_apart() {
        assert_eq!(
            parts("INSERT INTO e VALUES (1, (2)), (3, 4);"),
            ("VALUES (1, (2)), (3, 4)".into(), None, false, false)
        );
        assert_eq!(
            parts("INSERT OR REPLACE INTO e (a, \"B\") SELECT 1, 2"),
            ("SELECT 1, 2".into(), Some(vec!["a".into(), "B".into()]), false, true)
        );
        assert!(parts("INSERT INTO e BY NAME (SELECT 1 AS a)").2);
        assert_eq!(parts("INSERT INTO e (SELECT 1)").0, "(SELECT 1)");
        assert_eq!(parts("WITH x AS (SELECT 1) INSERT INTO e FROM x").0, "WITH x AS (SELECT 1) FROM x");
        assert_eq!(
            parts("INSERT INTO e FROM a JOIN b ON a.x = b.x ON CONFLICT DO NOTHING").0,
            "FROM a JOIN b ON a.x = b.x "
        );
    }

    #[test]
    fn what_an_ingest_cannot_do_is_refused() {
        for sql in [
            "INSERT INTO e VALUES (1) RETURNING *",
            "INSERT INTO e VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1",
            "INSERT INTO e DEFAULT VALUES",
        ] {
            let connection = connection();
            let target = of(&tokens(&connection, sql).unwrap()).remove(0);
            assert!(insert_parts(&connection, sql, &target).is_err(), "{sql}");
        }
    }
}
