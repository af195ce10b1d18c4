//! What is told of an error besides its message: the place in the SQL, and what a newcomer may have meant.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::lex::{Kind, Token, tokens};
use crate::error::Error;

/// Columns of a line that are shown.
const COLUMNS_MAX: usize = 100;
/// Columns before the place that are shown of a longer line.
const COLUMNS_BEFORE: usize = 60;

/// The number of line ends before a place in `sql`.
pub(super) fn lines_before(sql: &str, position: usize) -> usize {
    sql.chars().take(position).filter(|c| *c == '\n').count()
}

/// The line of `sql` that a place is in, and a mark below the place.
pub(super) fn point(sql: &str, position: usize) -> Option<String> {
    let start = sql.char_indices().nth(position).map_or_else(
        // Behind the last character.
        || (sql.chars().count() == position).then_some(sql.len()),
        |(start, _)| Some(start),
    )?;
    let begin = sql[..start].rfind('\n').map_or(0, |end| end + 1);
    let end = sql[start..].find('\n').map_or(sql.len(), |length| start + length);
    let (before, behind) = (plain(&sql[begin..start]), plain(&sql[start..end]));
    let cut = before.width() > COLUMNS_MAX - COLUMNS_BEFORE / 2;
    let shown = if cut { format!("...{}", last_columns(&before, COLUMNS_BEFORE)) } else { before };
    let column = shown.width();
    let line = shown + &behind;
    let short = first_columns(&line, COLUMNS_MAX.max(column + 1));
    let line = if short.len() < line.len() { format!("{short}...") } else { line };
    Some(format!("{}\n{:column$}^", line.trim_end(), ""))
}

/// The same without what moves the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn first_columns(text: &str, columns: usize) -> &str {
    let mut width = 0;
    let end = text.char_indices().find(|(_, c)| {
        width += c.width().unwrap_or(0);
        width > columns
    });
    end.map_or(text, |(end, _)| &text[..end])
}

fn last_columns(text: &str, columns: usize) -> &str {
    let mut width = 0;
    let start = text.char_indices().rev().find(|(_, c)| {
        width += c.width().unwrap_or(0);
        width > columns
    });
    start.map_or(text, |(start, c)| &text[start + c.len_utf8()..])
}

/// What the user may have meant, where that can be seen.
pub(super) fn hint(error: &Error, sql: &str) -> Option<String> {
    let (_, rest) = error.message().split_once("Referenced column \"")?;
    let (name, _) = rest.split_once("\" not found")?;
    let all: Vec<Token<'_>> = tokens(sql).collect();
    let index = all.iter().position(|token| match token.kind {
        Kind::Name => token.text.trim_matches('"') == name,
        Kind::Word => token.text == name && is_compared(&all, token.start),
        Kind::Text | Kind::Number | Kind::Comment | Kind::Symbol => false,
    })?;
    let what = if all[index].kind == Kind::Name { "what stands in double quotes is a name; " } else { "" };
    Some(format!("{what}text stands in single quotes: '{}'", name.replace('\'', "''")))
}

/// Whether the token that begins at `start` stands where a value would: behind `=`, LIKE, or in the list of an IN.
fn is_compared(all: &[Token<'_>], start: usize) -> bool {
    let before: Vec<&Token<'_>> = all.iter().take_while(|token| token.start < start).collect();
    let Some(last) = before.last() else { return false };
    let in_list = |token: &&&Token<'_>| !token.is('(') && !token.is(')');
    let inside = before.iter().rev().take_while(in_list).count();
    let opens = before.len().checked_sub(inside + 2).is_some_and(|index| before[index].is_word("in"));
    last.is('=') || last.is('>') || last.is('<') || last.is_word("like") || last.is_word("ilike") || opens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_marked() {
        assert_eq!(point("SELEC 1", 0).unwrap(), "SELEC 1\n^");
        assert_eq!(point("SELECT 1,\n\t日本 é FRM t\nLIMIT 1", 16).unwrap(), " 日本 é FRM t\n        ^");
        assert_eq!(point("SELECT 1 +", 10).unwrap(), "SELECT 1 +\n          ^");
        assert_eq!(point("SELECT", 7), None);
        assert_eq!(lines_before("a\nb\nc", 4), 2);
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let sql = format!("SELECT {}nope{}", "a, ".repeat(100), ", b".repeat(100));
        let shown = point(&sql, 307).unwrap();
        let (line, mark) = shown.split_once('\n').unwrap();
        assert!(line.starts_with("...") && line.ends_with("...") && line.width() <= COLUMNS_MAX + 3, "{shown}");
        assert_eq!(line.find("nope"), mark.find('^'), "{shown}");
        let start = point(&sql, 7).unwrap();
        assert!(start.starts_with("SELECT a, a") && start.ends_with("...\n       ^"), "{start}");
    }

    #[test]
    fn text_without_its_quotes_is_noticed() {
        let missing = |name: &str| {
            Error::invalid(format!("Binder Error: Referenced column \"{name}\" not found in FROM clause!"))
        };
        for (sql, name, told) in [
            ("FROM t WHERE country = NO", "NO", Some("text stands in single quotes: 'NO'")),
            ("FROM t WHERE country IN ('SE', NO)", "NO", Some("text stands in single quotes: 'NO'")),
            (
                "FROM t WHERE name = \"Sign up\"",
                "Sign up",
                Some("what stands in double quotes is a name; text stands in single quotes: 'Sign up'"),
            ),
            ("SELECT nme FROM t", "nme", None),
            ("SELECT f(nme, 1) FROM t", "nme", None),
        ] {
            assert_eq!(hint(&missing(name), sql).as_deref(), told, "{sql}");
        }
        assert_eq!(hint(&Error::invalid("no"), "SELECT 1"), None);
    }
}
