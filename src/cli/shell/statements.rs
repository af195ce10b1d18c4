//! From lines to what is to be done: statements, which end at a `;` however many lines they have, and commands, which are a line
//! that begins with `\` where a statement could begin.

use super::lex::{Kind, Token, tokens};
use crate::error::{Error, Result};

/// Bytes of one statement; the server has a limit of its own (`engine.statement_bytes_max`).
const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// A line that begins with `\`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) text: String,
    /// Its number, from 1.
    pub(super) line: usize,
}

/// One statement, without its `;` and the comments before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) text: String,
    /// The line that it begins on, from 1.
    pub(super) line: usize,
}

/// What is read and not yet done.
#[derive(Debug)]
pub(super) struct Reader {
    text: String,
    /// The line that `text` begins on.
    line: usize,
    /// Whether `text` may have a whole statement.
    is_fresh: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { text: String::new(), line: 1, is_fresh: false }
    }
}

impl Reader {
    /// Takes a line, with its end if it has one; a command is complete by itself.
    pub(super) fn push(&mut self, line: &str) -> Result<Option<CommandLine>> {
        let begins = line.trim_start();
        if begins.starts_with('\\') && self.is_blank() {
            let number = self.line + ends(&self.text);
            self.forget(self.text.len());
            self.line = number + 1;
            return Ok(Some(CommandLine { text: begins.trim_end().to_owned(), line: number }));
        }
        if self.text.len() + line.len() > STATEMENT_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a statement is larger than {STATEMENT_BYTES_MAX} bytes: is a quote or a `;` missing?"
            )));
        }
        self.text.push_str(line);
        self.is_fresh |= line.contains(';');
        Ok(None)
    }

    /// The next statement that has its `;`.
    pub(super) fn next(&mut self) -> Option<Statement> {
        while self.is_fresh {
            let Some(end) = tokens(&self.text).find(|token| token.is(';')) else {
                self.is_fresh = false;
                break;
            };
            let (start, end) = (end.start, end.end());
            let statement = self.statement(start);
            self.forget(end);
            if statement.is_some() {
                return statement;
            }
        }
        None
    }

    /// What is left at the end of the input: a last statement needs no `;`.
    pub(super) fn rest(mut self) -> Result<Option<Statement>> {
        if let Some(open) = self.open() {
            let line = self.line + ends(&self.text[..open.start]);
            return Err(Error::invalid(format!("line {line}: {} is not closed", what(&open))));
        }
        let end = self.text.len();
        let statement = self.statement(end);
        self.forget(end);
        Ok(statement)
    }

    /// Whether a statement has not begun yet.
    pub(super) fn is_blank(&self) -> bool {
        tokens(&self.text).all(|token| token.kind == Kind::Comment && token.closed)
    }

    /// The string, name or comment that the text ends in.
    fn open(&self) -> Option<Token<'_>> {
        tokens(&self.text).last().filter(|token| !token.closed)
    }

    /// The statement before `end`, if there is one.
    fn statement(&self, end: usize) -> Option<Statement> {
        let first = tokens(&self.text).find(|token| token.kind != Kind::Comment)?;
        let text = self.text.get(first.start..end)?.trim_end();
        let line = self.line + ends(&self.text[..first.start]);
        (!text.is_empty()).then(|| Statement { text: text.to_owned(), line })
    }

    fn forget(&mut self, end: usize) {
        self.line += ends(&self.text[..end]);
        drop(self.text.drain(..end));
    }
}

/// Line ends in `text`.
fn ends(text: &str) -> usize {
    text.matches('\n').count()
}

/// What an open token is, for people.
fn what(token: &Token<'_>) -> &'static str {
    match token.kind {
        Kind::Name => "a name in double quotes",
        Kind::Comment => "a comment",
        Kind::Text | Kind::Word | Kind::Number | Kind::Symbol => "a string",
    }
}

/// Whether the prompt takes `text` as it is, or wants more lines.
pub(super) fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.starts_with(['\\', '.']) || is_bare_word(trimmed) {
        return true;
    }
    // What follows the last `;`; in a string that is open there is none.
    let rest = tokens(text).filter(|token| token.is(';')).last().map_or(0, |end| end.end());
    tokens(&text[rest..]).all(|token| token.kind == Kind::Comment && token.closed)
}

/// What people type who want to leave or to know more, without the `\`.
pub(super) fn is_bare_word(line: &str) -> bool {
    ["exit", "quit", "help"].iter().any(|word| line.trim_end_matches(';').eq_ignore_ascii_case(word))
}

/// What the text ends in that is not closed, if it looks like a quote that was forgotten: the line goes on behind a `;`.
pub(super) fn forgotten(text: &str) -> Option<&'static str> {
    let open = tokens(text).last().filter(|token| !token.closed)?;
    open.text.trim_end().ends_with(';').then(|| what(&open))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All steps of a text, by line; and what is left.
    fn steps(text: &str) -> (Vec<(String, usize)>, Result<Option<Statement>>) {
        let mut reader = Reader::default();
        let mut steps = Vec::new();
        for line in text.split_inclusive('\n') {
            if let Some(command) = reader.push(line).unwrap() {
                steps.push((command.text, command.line));
            }
            while let Some(statement) = reader.next() {
                steps.push((statement.text, statement.line));
            }
        }
        (steps, reader.rest())
    }

    #[test]
    fn statements_and_commands_have_their_lines() {
        let text =
            "-- first;\nSELECT 1; SELECT\n  ';\n' AS a; ;\n\\d t\n\n  \\timing \nSELECT /* ; */ 2\n;\nFROM t\n-- end\n";
        let (steps, rest) = steps(text);
        let wanted =
            [("SELECT 1", 2), ("SELECT\n  ';\n' AS a", 2), ("\\d t", 5), ("\\timing", 7), ("SELECT /* ; */ 2", 8)];
        assert_eq!(steps, wanted.map(|(text, line)| (text.to_owned(), line)));
        let rest = rest.unwrap().unwrap();
        assert_eq!((rest.text.as_str(), rest.line), ("FROM t\n-- end", 10));
    }

    #[test]
    fn a_backslash_inside_of_a_statement_is_no_command() {
        let (steps, rest) = steps("SELECT '\n\\d\n' AS a;\n-- x\n");
        assert_eq!(steps, [("SELECT '\n\\d\n' AS a".to_owned(), 1)]);
        assert_eq!(rest.unwrap(), None);
    }

    #[test]
    fn what_is_open_at_the_end_is_named_with_its_line() {
        for (text, message) in [
            ("SELECT 1;\nSELECT 'a;\n", "line 2: a string is not closed"),
            ("SELECT \"a", "line 1: a name in double quotes is not closed"),
            ("\n\n/* a", "line 3: a comment is not closed"),
        ] {
            assert_eq!(steps(text).1.unwrap_err().message(), message);
        }
    }

    #[test]
    fn a_statement_without_end_is_refused() {
        let mut reader = Reader::default();
        reader.push("SELECT '").unwrap();
        let line = "x".repeat(STATEMENT_BYTES_MAX);
        assert!(reader.push(&line).unwrap_err().message().contains("is a quote"));
    }

    #[test]
    fn the_prompt_wants_more_until_the_end() {
        for text in
            ["", "  ", "SELECT 1;", "SELECT 1; -- x", "\\d", "  \\d t", "exit", "QUIT;", "help", ".tables", "-- x"]
        {
            assert!(is_complete(text), "{text}");
        }
        for text in ["SELECT 1", "SELECT 1; SELECT", "SELECT ';", "SELECT 1 -- ;", "/* ;", "$$;", "exits"] {
            assert!(!is_complete(text), "{text}");
        }
    }

    #[test]
    fn a_forgotten_quote_is_noticed() {
        assert_eq!(forgotten("SELECT * FROM t WHERE a = 'b;"), Some("a string"));
        assert_eq!(forgotten("SELECT \"a;\n"), Some("a name in double quotes"));
        for text in ["SELECT 'a", "SELECT 1;", "SELECT 'a';"] {
            assert_eq!(forgotten(text), None, "{text}");
        }
    }
}
