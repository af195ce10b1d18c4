//! Fingerprints of statements: a number that is the same for all texts which differ in literals, comments, white space and
//! case only, as DuckDB's own tokenizer tells them apart.

use duckdb_neo::connection::Connection;
use duckdb_neo::enums::TokenType;
use duckdb_neo::tokens::SqlTokenIterator;
use xxhash_rust::xxh3::xxh3_64;

/// What stands for a literal.
const LITERAL: &str = "?";

/// A statement without its literals, and the number of it.
#[derive(Debug)]
pub(super) struct Fingerprint {
    pub(super) hash: u64,
    pub(super) normalized: String,
}

impl Fingerprint {
    /// None for a text that cannot be read to its end: what is inside a quote that nobody has closed may be anything.
    pub(super) fn of(connection: &Connection, sql: &str) -> Option<Self> {
        let tokens = SqlTokenIterator::new(connection, sql).ok()?;
        let is_open = tokens.ends_unterminated().ok()?;
        let mut text = Normalized { text: String::with_capacity(sql.len()), last: TokenType::Terminator };
        let mut in_comment = false;
        let mut number_end = None;
        for token in tokens {
            let token = token.ok()?;
            in_comment = token.token_type == TokenType::Comment;
            let continues_number = number_end == Some(token.start) && token.token_type != TokenType::Operator;
            if continues_number || token.token_type == TokenType::NumberLiteral {
                number_end = Some(token.start + token.length);
            }
            // 0x1F comes as the number 0 and the name x1F.
            if continues_number {
                continue;
            }
            text.add(token.token_type, token.lexeme(sql)?);
        }
        if is_open && !in_comment {
            return None;
        }
        Some(Self { hash: xxh3_64(text.text.as_bytes()), normalized: text.text })
    }
}

struct Normalized {
    text: String,
    last: TokenType,
}

impl Normalized {
    fn add(&mut self, token_type: TokenType, lexeme: &str) {
        match token_type {
            TokenType::Comment | TokenType::Terminator => return,
            TokenType::StringLiteral | TokenType::NumberLiteral => self.push(LITERAL),
            TokenType::Operator => self.add_operators(lexeme),
            // Names are the same in any case, quoted or not.
            _ => self.push(&lexeme.to_lowercase()),
        }
        self.last = token_type;
    }

    /// DuckDB gives a run such as `),(` as one token; a person may have written it with spaces.
    fn add_operators(&mut self, run: &str) {
        let mut rest = run;
        while let Some(first) = rest.chars().next() {
            let end =
                if is_structure(first) { first.len_utf8() } else { rest.find(is_structure).unwrap_or(rest.len()) };
            let (operator, later) = rest.split_at(end);
            operator.split_whitespace().for_each(|operator| self.push(operator));
            self.last = TokenType::Operator;
            rest = later;
        }
    }

    fn push(&mut self, piece: &str) {
        let joins_next = self.text.is_empty() || self.text.ends_with(['(', '[', '.', '$']);
        let joins_last = piece.starts_with([')', ']', ',', '.']);
        let is_call = piece == "(" && self.last == TokenType::Identifier;
        if !(joins_next || joins_last || is_call) {
            self.text.push(' ');
        }
        self.text.push_str(piece);
    }
}

fn is_structure(c: char) -> bool {
    matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | ',' | '.')
}
