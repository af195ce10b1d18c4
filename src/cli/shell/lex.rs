//! The words of SQL, as far as a client needs them: where strings, names and comments begin and end. The server parses.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, or a name without quotes.
    Word,
    /// A name in double quotes.
    Name,
    /// A string: in quotes, or between `$$`.
    Text,
    /// A number.
    Number,
    /// `-- …`, or between `/*` and `*/`.
    Comment,
    /// Any other character.
    Symbol,
}

/// A piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Where it begins, in bytes.
    pub(super) start: usize,
    /// Whether its own end is there: false for a string, a name or a comment that the text ends in.
    pub(super) closed: bool,
}

impl Token<'_> {
    /// Where it ends, in bytes.
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is this character by itself.
    pub(super) fn is(&self, symbol: char) -> bool {
        self.kind == Kind::Symbol && self.text.starts_with(symbol)
    }

    /// Whether it is this word, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }
}

/// The tokens of `text`, in order; white space is between them.
pub(super) fn tokens(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0 }
}

/// See [`tokens`].
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let (kind, bytes, closed) = measure(rest)?;
        self.at = start + bytes;
        Some(Token { kind, text: &self.text[start..self.at], start, closed })
    }
}

/// The first token of `rest`: what it is, its bytes, and whether it is closed.
fn measure(rest: &str) -> Option<(Kind, usize, bool)> {
    let first = rest.chars().next()?;
    let part = |kind, (bytes, closed)| Some((kind, bytes, closed));
    match first {
        '\'' => part(Kind::Text, quoted(rest, b'\'', false)),
        '"' => part(Kind::Name, quoted(rest, b'"', false)),
        'e' | 'E' if rest[1..].starts_with('\'') => {
            let (bytes, closed) = quoted(&rest[1..], b'\'', true);
            Some((Kind::Text, bytes + 1, closed))
        }
        '-' if rest.starts_with("--") => Some((Kind::Comment, rest.find('\n').unwrap_or(rest.len()), true)),
        '/' if rest.starts_with("/*") => part(Kind::Comment, comment(rest)),
        '$' => Some(match dollar(rest) {
            Some((bytes, closed)) => (Kind::Text, bytes, closed),
            None => (Kind::Symbol, 1, true),
        }),
        c if is_word_start(c) => Some((Kind::Word, length(rest, is_in_word), true)),
        c if c.is_ascii_digit() => Some((Kind::Number, length(rest, |c| c.is_ascii_alphanumeric() || c == '.'), true)),
        c => Some((Kind::Symbol, c.len_utf8(), true)),
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn length(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// A string or a name, whose quote is doubled inside of it, or, with `escapes`, stands behind a backslash.
fn quoted(rest: &str, quote: u8, escapes: bool) -> (usize, bool) {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        if escapes && byte == b'\\' {
            at += 1;
        } else if byte == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return (at + 1, true);
            }
            at += 1;
        }
        at += 1;
    }
    (rest.len(), false)
}

/// Comments stand in comments.
fn comment(rest: &str) -> (usize, bool) {
    let bytes = rest.as_bytes();
    let (mut at, mut depth) = (2, 1);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return (at, true);
        }
    }
    (rest.len(), false)
}

/// `$$…$$` or `$tag$…$tag$`, if it is one: `$1` is a parameter.
fn dollar(rest: &str) -> Option<(usize, bool)> {
    let tag = length(&rest[1..], |c| c.is_alphanumeric() || c == '_');
    let name = &rest[1..=tag];
    if !rest[1 + tag..].starts_with('$') || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let quote = &rest[..tag + 2];
    Some(match rest[quote.len()..].find(quote) {
        Some(inside) => (inside + 2 * quote.len(), true),
        None => (rest.len(), false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        tokens(text).map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn pieces_are_told_apart() {
        use Kind::{Comment, Name, Number, Symbol, Text, Word};
        assert_eq!(
            kinds("SELECT a.\"b \"\"c\", 'it''s; ' -- x;\n, 1.5e3 /* /* ; */ */ FROM t$1"),
            [
                (Word, "SELECT"),
                (Word, "a"),
                (Symbol, "."),
                (Name, "\"b \"\"c\""),
                (Symbol, ","),
                (Text, "'it''s; '"),
                (Comment, "-- x;"),
                (Symbol, ","),
                (Number, "1.5e3"),
                (Comment, "/* /* ; */ */"),
                (Word, "FROM"),
                (Word, "t$1"),
            ]
        );
        assert_eq!(kinds(r"E'a\';' x"), [(Text, r"E'a\';'"), (Word, "x")]);
        assert_eq!(
            kinds("$$a;$x$b$$ $x$;$$$x$ $1"),
            [(Text, "$$a;$x$b$$"), (Text, "$x$;$$$x$"), (Symbol, "$"), (Number, "1"),]
        );
        assert_eq!(kinds("größe='é'"), [(Word, "größe"), (Symbol, "="), (Text, "'é'")]);
    }

    #[test]
    fn what_is_not_closed_is_told() {
        for (text, closed) in [
            ("'a", false),
            ("'a''", false),
            ("'a'", true),
            ("\"a", false),
            ("/* /* */", false),
            ("/*/", false),
            ("$$ $", false),
            ("$a$ $$", false),
            (r"e'\'", false),
            ("-- a", true),
            ("'", false),
        ] {
            let token = tokens(text).last().unwrap();
            assert_eq!((token.closed, token.end()), (closed, text.len()), "{text}");
        }
    }
}
