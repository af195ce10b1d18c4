//! What a word may be where the cursor is: from the tokens before it, and from the tables that the statement names.

use crate::cli::shell::lex::{Kind, Token, tokens};

/// What is to be completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the part that is typed begins, in bytes.
    pub(super) start: usize,
    /// What is typed of it, without a quote.
    pub(super) prefix: String,
    pub(super) wants: Wants,
}

/// What may stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// A command of the shell.
    Command,
    /// A file of this machine.
    File,
    /// A table or view.
    Table,
    /// A column of these tables.
    Column(Vec<String>),
    /// Anything in an expression: columns of these tables, functions, keywords, tables.
    Anything(Vec<String>),
    /// A member of a JSON column of one of these tables: the members above it, and whether it stands in a path.
    Property { tables: Vec<String>, column: String, above: Vec<String>, path: bool },
    /// Nothing that is known.
    Nothing,
}

/// A table that a statement reads or writes, and what else it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    table: String,
    alias: Option<String>,
}

/// Words after which a table comes.
const BEFORE_TABLE: &[&str] = &["from", "join", "into", "update", "describe", "table", "view", "summarize", "truncate"];
/// Words that end a FROM list, or cannot be another name of a table.
const NO_ALIAS: &[&str] = &[
    "where",
    "group",
    "order",
    "limit",
    "having",
    "join",
    "left",
    "right",
    "inner",
    "outer",
    "full",
    "cross",
    "on",
    "using",
    "union",
    "except",
    "intersect",
    "select",
    "set",
    "values",
    "qualify",
    "window",
    "natural",
    "asof",
    "semi",
    "anti",
    "positional",
    "lateral",
    "tablesample",
    "by",
    "default",
    "offset",
    "returning",
    "pivot",
    "unpivot",
    "sample",
    "as",
];

/// What is to be completed in `text` at `at`.
pub(super) fn place(text: &str, at: usize) -> Place {
    let begins = text.trim_start();
    if begins.starts_with('\\') {
        return of_command(text, text.len() - begins.len(), at);
    }
    let all: Vec<Token<'_>> = tokens(text).collect();
    let first = all.iter().rposition(|token| token.is(';') && token.end() <= at).map_or(0, |index| index + 1);
    let statement: Vec<Token<'_>> = all[first..].iter().take_while(|token| !token.is(';')).copied().collect();
    let before = statement.iter().take_while(|token| token.start < at).count();
    let (typed, before) = match statement[..before].split_last() {
        // The cursor is in it, or right behind it.
        Some((last, before)) if at <= last.end() && last.kind != Kind::Symbol => (Some(*last), before),
        // A string that is open takes what comes, white space too.
        Some((last, before)) if !last.closed => (Some(*last), before),
        _ => (None, &statement[..before]),
    };
    let sources = sources(&statement);
    let Some(typed) = typed else {
        return Place { start: at, prefix: String::new(), wants: of_word(before, &sources, true) };
    };
    let so_far = &text[typed.start..at];
    match typed.kind {
        Kind::Word => Place { start: typed.start, prefix: so_far.to_owned(), wants: of_word(before, &sources, false) },
        Kind::Name => {
            let prefix = so_far.trim_start_matches('"').replace("\"\"", "\"");
            let wants = match of_word(before, &sources, false) {
                Wants::Anything(tables) => Wants::Column(tables),
                wants => wants,
            };
            Place { start: typed.start, prefix, wants }
        }
        Kind::Text if so_far.starts_with('\'') => of_text(&so_far[1..], typed.start + 1, before, &sources),
        Kind::Text | Kind::Number | Kind::Comment | Kind::Symbol => nothing(at),
    }
}

fn nothing(at: usize) -> Place {
    Place { start: at, prefix: String::new(), wants: Wants::Nothing }
}

/// A place in a command of the shell: its name, or what it takes.
fn of_command(text: &str, start: usize, at: usize) -> Place {
    if at < start {
        return nothing(at);
    }
    let line = &text[start..at];
    let Some((name, rest)) = line.split_once(char::is_whitespace) else {
        return Place { start, prefix: line.to_owned(), wants: Wants::Command };
    };
    let word = rest.rsplit(|c: char| c.is_whitespace() || c == '\'').next().unwrap_or_default();
    let words = rest.split_whitespace().count() - usize::from(!word.is_empty());
    let wants = match (name, words) {
        ("\\d" | "\\d+" | "\\copy", 0) => Wants::Table,
        ("\\i" | "\\o", 0) | ("\\copy", 2..) => Wants::File,
        _ => Wants::Nothing,
    };
    Place { start: at - word.len(), prefix: word.to_owned(), wants }
}

/// What a word may be behind `before`; an `empty` one is not offered all functions.
fn of_word(before: &[Token<'_>], sources: &[Source], empty: bool) -> Wants {
    if let Some((dot, before)) = before.split_last()
        && dot.is('.')
        && let Some(owner) = before.last()
    {
        let owner = name_of(owner);
        let named = |source: &&Source| {
            let name = source.alias.as_ref().unwrap_or(&source.table);
            name.eq_ignore_ascii_case(&owner) || source.table.eq_ignore_ascii_case(&owner)
        };
        return Wants::Column(sources.iter().filter(named).map(|source| source.table.clone()).collect());
    }
    let tables = sources.iter().map(|source| source.table.clone()).collect();
    if wants_table(before) {
        return Wants::Table;
    }
    if empty { Wants::Column(tables) } else { Wants::Anything(tables) }
}

/// Whether a table comes next: behind FROM and its like, and behind a comma of a FROM list.
fn wants_table(before: &[Token<'_>]) -> bool {
    let Some(last) = before.last() else { return false };
    if BEFORE_TABLE.iter().any(|word| last.is_word(word)) {
        return true;
    }
    let is_listed =
        |token: &&Token<'_>| matches!(token.kind, Kind::Word | Kind::Name) || token.is(',') || token.is('.');
    let mut listed =
        before.iter().rev().take_while(is_listed).take_while(|token| {
            !NO_ALIAS.iter().any(|word| token.is_word(word) && *word != "as") && !token.is_word("and")
        });
    last.is(',') && listed.any(|token| token.is_word("from"))
}

/// A place in a string: the member of a JSON column behind `->` or `->>`, or in a function of JSON.
fn of_text(content: &str, start: usize, before: &[Token<'_>], sources: &[Source]) -> Place {
    let Some((column, owner)) = json_column(before) else { return nothing(start + content.len()) };
    let tables = sources.iter().filter(|source| {
        let name = source.alias.as_ref().unwrap_or(&source.table);
        owner.as_ref().is_none_or(|owner| name.eq_ignore_ascii_case(owner))
    });
    let tables: Vec<String> = tables.map(|source| source.table.clone()).collect();
    let property = |above, path| Wants::Property { tables, column, above, path };
    let Some(inside) = content.strip_prefix('$') else {
        return Place { start, prefix: content.to_owned(), wants: property(Vec::new(), false) };
    };
    let mut members = members(inside);
    let last = members.pop().unwrap_or_default();
    let typed = last.trim_start_matches('"').to_owned();
    let above = members.iter().map(|member| member.trim_matches('"').to_owned()).collect();
    // Behind the dot, which may not be there yet.
    let start = start + content.len() - last.len();
    Place { start, prefix: typed, wants: property(above, true) }
}

/// The members of a path behind `$`, as they are written; the last one is typed just now.
fn members(path: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut begin, mut in_quotes) = (None, false);
    for (index, c) in path.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            '.' if !in_quotes => {
                if let Some(begin) = begin {
                    members.push(&path[begin..index]);
                }
                begin = Some(index + 1);
            }
            _ => {}
        }
    }
    members.push(begin.map_or("", |begin| &path[begin..]));
    members
}

/// The column whose member a string names, and the table or alias before it.
fn json_column(before: &[Token<'_>]) -> Option<(String, Option<String>)> {
    let arrow = before.iter().rev().take_while(|token| token.is('>') || token.is('-')).count();
    let end = if arrow >= 2 {
        before.len() - arrow
    } else {
        // json_extract_string(properties, '
        let [.., function, open, _] = before.split_last().filter(|(comma, _)| comma.is(','))?.1 else { return None };
        let is_json = function.kind == Kind::Word && function.text.to_ascii_lowercase().starts_with("json_");
        if !is_json || !open.is('(') {
            return None;
        }
        before.len() - 1
    };
    let (column, rest) = before[..end].split_last()?;
    if !matches!(column.kind, Kind::Word | Kind::Name) {
        return None;
    }
    let owner = match rest {
        [.., owner, dot] if dot.is('.') => Some(name_of(owner)),
        _ => None,
    };
    Some((name_of(column), owner))
}

/// The tables that a statement names.
fn sources(statement: &[Token<'_>]) -> Vec<Source> {
    let mut sources = Vec::new();
    for (index, token) in statement.iter().enumerate() {
        let before = &statement[..index];
        if matches!(token.kind, Kind::Word | Kind::Name) && token.closed && wants_table(before) {
            sources.extend(source(&statement[index..]));
        }
    }
    sources
}

/// The table that `rest` begins with.
fn source(rest: &[Token<'_>]) -> Option<Source> {
    let is_name = |token: &&Token<'_>| {
        token.kind == Kind::Name || token.kind == Kind::Word && !NO_ALIAS.iter().any(|word| token.is_word(word))
    };
    let mut at = 0;
    let mut table = rest.first().filter(is_name)?;
    while let [dot, name, ..] = &rest[at + 1..]
        && dot.is('.')
        && is_name(&name)
    {
        table = name;
        at += 2;
    }
    if rest.get(at + 1).is_some_and(|token| token.is('(')) {
        // A function.
        return None;
    }
    let behind = if rest.get(at + 1).is_some_and(|token| token.is_word("as")) { at + 2 } else { at + 1 };
    let alias = rest.get(behind).filter(is_name).map(name_of);
    Some(Source { table: name_of(table), alias })
}

/// A name, without its quotes.
fn name_of(token: &Token<'_>) -> String {
    match token.kind {
        Kind::Name => token.text.trim_matches('"').replace("\"\"", "\""),
        _ => token.text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of the `|` in a text.
    fn at(marked: &str) -> (usize, String, Wants) {
        let cursor = marked.find('|').unwrap();
        let Place { start, prefix, wants } = place(&marked.replacen('|', "", 1), cursor);
        (cursor - start, prefix, wants)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn tables_come_behind_from() {
        for marked in [
            "SELECT * FROM pur|",
            "FROM pur|",
            "SELECT 1; SELECT * FROM a JOIN pur|",
            "SELECT * FROM a x, pur|",
            "DESCRIBE pur|",
            "INSERT INTO pur| SELECT 1",
        ] {
            assert_eq!(at(marked), (3, "pur".to_owned(), Wants::Table), "{marked}");
        }
        assert_eq!(at("SELECT * FROM |"), (0, String::new(), Wants::Table));
        assert_eq!(at("SELECT a FROM t WHERE a IN (1, x|"), (1, "x".to_owned(), Wants::Anything(names(&["t"]))));
        assert_eq!(at("SELECT * FROM \"My t|"), (5, "My t".to_owned(), Wants::Table));
    }

    #[test]
    fn columns_are_of_the_statement_s_tables() {
        assert_eq!(at("SELECT ev| FROM events e"), (2, "ev".to_owned(), Wants::Anything(names(&["events"]))));
        assert_eq!(
            at("SELECT | FROM events, s.people"),
            (0, String::new(), Wants::Column(names(&["events", "people"])))
        );
        assert_eq!(
            at("SELECT p.d| FROM events e JOIN people AS p"),
            (1, "d".to_owned(), Wants::Column(names(&["people"])))
        );
        assert_eq!(at("SELECT people.| FROM people"), (0, String::new(), Wants::Column(names(&["people"]))));
        assert_eq!(
            at("SELECT x FROM a; SELECT x| FROM b; SELECT 1"),
            (1, "x".to_owned(), Wants::Anything(names(&["b"])))
        );
        assert_eq!(at("SELECT \"x| FROM b"), (2, "x".to_owned(), Wants::Column(Vec::new())));
        assert_eq!(at("SELECT x FROM range(3) WHERE y|"), (1, "y".to_owned(), Wants::Anything(Vec::new())));
    }

    #[test]
    fn properties_come_behind_the_arrow() {
        let property = |tables: &[&str], above: &[&str], path| Wants::Property {
            tables: names(tables),
            column: "properties".to_owned(),
            above: names(above),
            path,
        };
        for (marked, typed, prefix, wants) in [
            ("SELECT properties->>'$.co| FROM events", 2, "co", property(&[], &[], true)),
            ("FROM events SELECT properties->>'$.co|", 2, "co", property(&["events"], &[], true)),
            ("FROM events SELECT properties->>'$.co|'", 2, "co", property(&["events"], &[], true)),
            ("FROM events SELECT properties ->> '$.|", 0, "", property(&["events"], &[], true)),
            ("FROM events SELECT properties->'$|", 0, "", property(&["events"], &[], true)),
            ("FROM events SELECT properties->>'co|", 2, "co", property(&["events"], &[], false)),
            (
                "FROM events SELECT properties->>'$.device.\"a b\".o|",
                1,
                "o",
                property(&["events"], &["device", "a b"], true),
            ),
            ("FROM events SELECT properties->>'$.\"a b|", 4, "a b", property(&["events"], &[], true)),
            ("FROM events e, people p SELECT p.properties->>'$.pl|'", 2, "pl", property(&["people"], &[], true)),
            ("FROM events SELECT json_extract_string(properties, '$.co|", 2, "co", property(&["events"], &[], true)),
        ] {
            assert_eq!(at(marked), (typed, prefix.to_owned(), wants), "{marked}");
        }
        for marked in
            ["SELECT * FROM t WHERE a = 'x|'", "SELECT 'x|", "SELECT f(a, 'x|", "SELECT 12|", "SELECT 1 -- x|"]
        {
            assert_eq!(at(marked).2, Wants::Nothing, "{marked}");
        }
    }

    #[test]
    fn commands_have_places_too() {
        assert_eq!(at("\\|"), (1, "\\".to_owned(), Wants::Command));
        assert_eq!(at("\\ti|"), (3, "\\ti".to_owned(), Wants::Command));
        assert_eq!(at("\\d pu|"), (2, "pu".to_owned(), Wants::Table));
        assert_eq!(at("\\i a/b|"), (3, "a/b".to_owned(), Wants::File));
        assert_eq!(at("\\copy pu|"), (2, "pu".to_owned(), Wants::Table));
        assert_eq!(at("\\copy t to |"), (0, String::new(), Wants::File));
        assert_eq!(at("\\copy t to 'a b|").0, 1);
        assert_eq!(at("\\timing o|").2, Wants::Nothing);
    }
}
