//! Completion: what may stand where the cursor is, from the [place](context) and from the names that the server [knows](names).

mod context;
pub(super) mod names;

use std::borrow::Cow;

use rustyline::completion::Pair;

use self::context::{Place, Wants, place};
use self::names::Names;
use crate::cli::shell::command;

/// Candidates that are offered at once.
const CANDIDATES_MAX: usize = 1000;

/// Words of SQL that are worth completing.
const KEYWORDS: &[&str] = &[
    "ALTER",
    "AND",
    "ANTI",
    "ASC",
    "ASOF",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COMMIT",
    "CREATE",
    "CROSS",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXCLUDE",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MACRO",
    "NATURAL",
    "NULL",
    "NULLS",
    "OFFSET",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PIVOT",
    "QUALIFY",
    "REPLACE",
    "RETURNING",
    "RIGHT",
    "ROLLBACK",
    "SAMPLE",
    "SELECT",
    "SEMI",
    "SUMMARIZE",
    "TABLE",
    "TEMP",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "TRUNCATE",
    "UNION",
    "UNNEST",
    "UNPIVOT",
    "UPDATE",
    "USING",
    "VALUES",
    "VARIABLE",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// Where the part begins that a candidate replaces, and the candidates for `text` at `at`.
pub(super) fn complete(text: &str, at: usize, names: &dyn Names) -> (usize, Vec<Pair>) {
    let Place { start, prefix, wants } = place(text, at);
    let is_quoted = text[start..].starts_with('"');
    let mut found = Candidates { prefix: &prefix, pairs: Vec::new() };
    match wants {
        Wants::Nothing | Wants::File => {}
        Wants::Command => {
            let usages = command::HELP.iter().filter_map(|(usage, _)| usage.split(' ').next());
            found.add(usages.filter(|name| !name.is_empty()).map(Cow::from), str::to_owned);
        }
        Wants::Table => found.names(names.tables(), is_quoted),
        Wants::Column(tables) => found.names(columns(names, &tables), is_quoted),
        Wants::Anything(tables) => {
            found.names(columns(names, &tables), false);
            found.names(names.tables(), false);
            found.add(names.functions().into_iter().map(Cow::from), |name| format!("{name}("));
            let lower = prefix.starts_with(char::is_lowercase);
            let cased = |word: &str| if lower { word.to_lowercase() } else { word.to_owned() };
            found.add(KEYWORDS.iter().map(|word| Cow::from(cased(word))), str::to_owned);
        }
        Wants::Property { tables, column, above, path } => {
            let keys =
                tables.iter().map(|table| names.properties(table, &column, &above)).find(|keys| !keys.is_empty());
            // The dot that a path needs behind `$`.
            let dot = if path && text[..start].ends_with('$') { "." } else { "" };
            found.add(keys.unwrap_or_default().into_iter().map(Cow::from), |key| {
                if path { format!("{dot}{}", in_path(key)) } else { key.replace('\'', "''") }
            });
        }
    }
    found.pairs.sort_by(|a, b| a.replacement.cmp(&b.replacement));
    found.pairs.dedup_by(|a, b| a.replacement == b.replacement);
    found.pairs.truncate(CANDIDATES_MAX);
    (start, found.pairs)
}

/// Whether a file of this machine may stand there.
pub(super) fn wants_file(text: &str, at: usize) -> bool {
    place(text, at).wants == Wants::File
}

fn columns(names: &dyn Names, tables: &[String]) -> Vec<String> {
    tables.iter().flat_map(|table| names.columns(table)).collect()
}

/// What begins as it was typed, in any case.
struct Candidates<'a> {
    prefix: &'a str,
    pairs: Vec<Pair>,
}

impl Candidates<'_> {
    fn add<'n>(&mut self, names: impl Iterator<Item = Cow<'n, str>>, replacement: impl Fn(&str) -> String) {
        let prefix = self.prefix.to_lowercase();
        let found = names.filter(|name| name.to_lowercase().starts_with(&prefix));
        self.pairs.extend(found.map(|name| Pair { replacement: replacement(&name), display: name.into_owned() }));
    }

    /// Names of tables and columns, in quotes where SQL wants them.
    fn names(&mut self, names: Vec<String>, is_quoted: bool) {
        self.add(names.into_iter().map(Cow::from), |name| {
            if is_quoted || !is_plain(name) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
        });
    }
}

/// Whether a name needs no quotes.
fn is_plain(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEYWORDS.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// A member as a path of JSON has it, in an SQL string.
fn in_path(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let key = key.replace('\'', "''");
    if plain { key } else { format!("\"{key}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shop;

    impl Names for Shop {
        fn tables(&self) -> Vec<String> {
            ["purchases", "people", "Odd name"].map(str::to_owned).to_vec()
        }

        fn columns(&self, table: &str) -> Vec<String> {
            match table {
                "purchases" => ["event_name", "event_time", "properties", "group"].map(str::to_owned).to_vec(),
                _ => Vec::new(),
            }
        }

        fn functions(&self) -> Vec<String> {
            ["even_odd", "count", "count_if"].map(str::to_owned).to_vec()
        }

        fn properties(&self, table: &str, column: &str, above: &[String]) -> Vec<String> {
            assert_eq!((table, column), ("purchases", "properties"));
            match above {
                [] => ["country", "city", "$os", "it's"].map(str::to_owned).to_vec(),
                [one] if one == "device" => vec!["model".to_owned()],
                _ => Vec::new(),
            }
        }
    }

    /// What the text at `|` becomes with each candidate.
    fn completed(marked: &str) -> Vec<String> {
        let at = marked.find('|').unwrap();
        let text = marked.replacen('|', "", 1);
        let (start, pairs) = complete(&text, at, &Shop);
        pairs.iter().map(|pair| text[..start].to_owned() + &pair.replacement).collect()
    }

    #[test]
    fn names_complete_what_was_typed() {
        assert_eq!(completed("FROM pu|"), ["FROM purchases"]);
        assert_eq!(completed("FROM P|"), ["FROM people", "FROM purchases"]);
        assert_eq!(completed("FROM o|"), ["FROM \"Odd name\""]);
        assert_eq!(completed("FROM \"p|"), ["FROM \"people\"", "FROM \"purchases\""]);
        assert_eq!(
            completed("FROM purchases WHERE eve|"),
            ["FROM purchases WHERE even_odd(", "FROM purchases WHERE event_name", "FROM purchases WHERE event_time",]
        );
        assert_eq!(completed("FROM purchases p SELECT p.gr|"), ["FROM purchases p SELECT p.\"group\""]);
        assert_eq!(completed("se|"), ["select", "semi"]);
        assert_eq!(completed("SEL|"), ["SELECT"]);
        assert_eq!(completed("\\tim|"), ["\\timing"]);
        assert_eq!(completed("SELECT 'x|"), Vec::<String>::new());
    }

    #[test]
    fn properties_complete_as_a_path_has_them() {
        let text = "FROM purchases SELECT properties->>";
        let completed = |typed: &str| completed(&format!("{text}{typed}|"));
        assert_eq!(completed("'$.co"), [format!("{text}'$.country")]);
        assert_eq!(
            completed("'$"),
            [
                format!("{text}'$.\"$os\""),
                format!("{text}'$.\"it''s\""),
                format!("{text}'$.city"),
                format!("{text}'$.country"),
            ]
        );
        assert_eq!(completed("'i"), [format!("{text}'it''s")]);
        assert_eq!(completed("'$.device.m"), [format!("{text}'$.device.model")]);
        assert_eq!(completed("'$.device.x"), Vec::<String>::new());
    }
}
