//! The tokens of a statement, and what they tell of it that DuckDB's parser does not.

use duckdb_neo::connection::Connection;
use duckdb_neo::enums::TokenType;
use duckdb_neo::tokens::SqlTokenIterator;

use crate::engine::session::End;
use crate::error::Result;

/// One token: its text, folded when it is not quoted, and where it stands.
pub(super) struct Token {
    pub(super) text: String,
    /// A name or keyword, quoted or not; strings, numbers and operators are not.
    pub(super) is_word: bool,
    pub(super) quoted: bool,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// What a SET, RESET or USE is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// The time zone, for everybody.
    GlobalTimeZone,
    /// The time zone or the schema, for the session.
    Session,
    /// A variable.
    Variable,
    /// What is not for users.
    Other,
}

/// Whether the keyword `word` occurs in `sql`.
pub(super) fn has_word(connection: &Connection, sql: &str, word: &str) -> Result<bool> {
    Ok(tokens(connection, sql)?.iter().any(|token| token.is(word)))
}

/// What a SET, RESET or USE is about.
pub(super) fn setting(connection: &Connection, sql: &str) -> Result<Setting> {
    let tokens = tokens(connection, sql)?;
    let named = |at: usize, name: &str| tokens.get(at).is_some_and(|token| token.text.eq_ignore_ascii_case(name));
    let is_zone = |at: usize| named(at, "timezone") || (named(at, "time") && named(at + 1, "zone"));
    let is_global = named(1, "global");
    let at = if is_global || named(1, "session") || named(1, "local") { 2 } else { 1 };
    Ok(if named(0, "use") {
        Setting::Session
    } else if is_zone(at) {
        if is_global { Setting::GlobalTimeZone } else { Setting::Session }
    } else if !is_global && (named(at, "schema") || named(at, "search_path")) {
        Setting::Session
    } else if named(at, "variable") {
        Setting::Variable
    } else {
        Setting::Other
    })
}

/// How BEGIN, COMMIT or ROLLBACK ends a transaction; none: it begins one.
pub(super) fn transaction_end(connection: &Connection, sql: &str) -> Result<Option<End>> {
    let tokens = tokens(connection, sql)?;
    let first = tokens.first().map(|token| token.text.as_str()).unwrap_or_default();
    Ok(match first {
        "commit" | "end" => Some(End::Commit),
        "rollback" | "abort" => Some(End::Rollback),
        _ => None,
    })
}

/// What an EXPLAIN explains, and whether it runs it: ANALYZE.
pub(super) fn explained<'a>(connection: &Connection, sql: &'a str) -> Result<(&'a str, bool)> {
    const QUERY: &[&str] = &[
        "(",
        "desc",
        "describe",
        "from",
        "pivot",
        "select",
        "show",
        "summarize",
        "table",
        "unpivot",
        "values",
        "with",
    ];
    let tokens = tokens(connection, sql)?;
    let mut analyzes = is_word(&tokens, 1, "analyze");
    let mut at = if analyzes { 2 } else { 1 };
    // Options stand in parentheses, and so may the query.
    let is_option = |token: &Token| !QUERY.iter().any(|word| token.is(word));
    if is_word(&tokens, at, "(") && tokens.get(at + 1).is_some_and(is_option) {
        let options = tokens.iter().skip(at).take_while(|token| !token.is(")"));
        analyzes |= options.clone().any(|token| token.is("analyze"));
        at += options.count() + 1;
    }
    Ok((tokens.get(at).and_then(|token| sql.get(token.start..)).unwrap_or_default(), analyzes))
}

/// The one of `kinds` that a CREATE makes.
pub(super) fn creates<'a>(connection: &Connection, sql: &str, kinds: &[&'a str]) -> Result<Option<&'a str>> {
    const BEFORE: &[&str] = &["create", "or", "replace", "temp", "temporary", "persistent"];
    let tokens = tokens(connection, sql)?;
    let what = tokens.iter().find(|token| !BEFORE.iter().any(|word| token.is(word)));
    Ok(what.and_then(|what| kinds.iter().find(|kind| what.is(kind)).copied()))
}

/// Whether it makes something that only a session keeps: TEMP, or a name in the catalog `temp`.
pub(super) fn creates_temporary(connection: &Connection, sql: &str) -> Result<bool> {
    const WHAT: &[&str] = &["table", "view", "macro", "function", "sequence", "type"];
    let tokens = tokens(connection, sql)?;
    if tokens.iter().take(4).any(|token| token.is("temp") || token.is("temporary")) {
        return Ok(true);
    }
    let what = tokens.iter().take(5).position(|token| WHAT.iter().any(|word| token.is(word)));
    let Some(mut at) = what.map(|at| at + 1) else { return Ok(false) };
    if is_word(&tokens, at, "if") {
        at += 3;
    }
    let in_temp = tokens.get(at).is_some_and(|token| token.text.eq_ignore_ascii_case("temp"));
    Ok(in_temp && is_word(&tokens, at + 1, "."))
}

/// Whether a PRAGMA or CALL is one that shows something.
pub(super) fn only_looks(connection: &Connection, sql: &str) -> Result<bool> {
    const LOOKS: &[&str] = &[
        "collations",
        "database_list",
        "database_size",
        "functions",
        "metadata_info",
        "platform",
        "show",
        "show_databases",
        "show_tables",
        "show_tables_expanded",
        "storage_info",
        "table_info",
        "version",
    ];
    let tokens = tokens(connection, sql)?;
    let name = tokens.get(1).map(|token| token.text.to_lowercase()).unwrap_or_default();
    let is_look = LOOKS.contains(&name.strip_prefix("pragma_").unwrap_or(&name)) || name.starts_with("duckdb_");
    Ok(is_look && !tokens.iter().any(|token| token.is("=")))
}

/// Whether the token `at` is the keyword `word`.
pub(super) fn is_word(tokens: &[Token], at: usize, word: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.is(word))
}

/// The tokens of `sql`, comments left out.
pub(super) fn tokens(connection: &Connection, sql: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    for token in SqlTokenIterator::new(connection, sql)? {
        let token = token?;
        let Some(lexeme) = token.lexeme(sql).filter(|lexeme| !lexeme.is_empty()) else { continue };
        match token.token_type {
            TokenType::Comment => {}
            // DuckDB gives a run such as `),` as one token; here every character is one.
            TokenType::Operator | TokenType::Terminator => {
                tokens.extend(lexeme.char_indices().map(|(at, character)| Token {
                    text: character.to_string(),
                    is_word: false,
                    quoted: false,
                    start: token.start + at,
                    end: token.start + at + character.len_utf8(),
                }));
            }
            token_type => tokens.push(word(lexeme, token_type, token.start)),
        }
    }
    Ok(tokens)
}

fn word(lexeme: &str, token_type: TokenType, start: usize) -> Token {
    let inside = lexeme.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Token {
        text: inside.map_or_else(|| lexeme.to_lowercase(), |name| name.replace("\"\"", "\"")),
        is_word: matches!(token_type, TokenType::Keyword | TokenType::Identifier),
        quoted: inside.is_some() || token_type == TokenType::StringLiteral,
        start,
        end: start + lexeme.len(),
    }
}
