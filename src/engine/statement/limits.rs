//! Limits of a statement's form, told from its tokens before DuckDB parses it: what nests deeply or has many parts takes DuckDB's
//! parser, binder and optimizer more time, memory and stack than its length lets one think, and they are hard to interrupt.

use super::scan::Token;
use crate::config::Engine as EngineConfig;
use crate::error::{Error, Result};

/// Refuses a text that is longer than the settings allow, before anything reads it.
pub(super) fn check_length(sql: &str, config: &EngineConfig) -> Result<()> {
    let bytes_max = config.statement_bytes_max.as_u64();
    within("bytes", sql.len(), usize::try_from(bytes_max).unwrap_or(usize::MAX), "engine.statement_bytes_max")
}

/// Refuses a statement that is deeper or of more parts than the settings allow.
pub(super) fn check_form(tokens: &[Token], config: &EngineConfig) -> Result<()> {
    let form = Form::of(tokens);
    within("levels of nesting", form.depth, config.statement_depth_max, "engine.statement_depth_max")?;
    within("lambdas inside one another", form.lambdas, config.statement_lambdas_max, "engine.statement_lambdas_max")?;
    within(
        "parts (queries, tables, joins, set operations)",
        form.parts,
        config.statement_parts_max,
        "engine.statement_parts_max",
    )
}

fn within(what: &str, count: usize, max: usize, setting: &str) -> Result<()> {
    if count > max {
        return Err(Error::exhausted(format!("the statement has {count} {what}; the limit is {max} ({setting})")));
    }
    Ok(())
}

/// What is counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    /// Parentheses, brackets, braces and CASEs inside one another; names in a chain of dots; INTERVALs in a row.
    depth: usize,
    /// Lambdas and list comprehensions inside one another.
    lambdas: usize,
    /// SELECT, VALUES, WITH, set operations, joins, and tables in a FROM list.
    parts: usize,
}

/// What is open at one place of the text.
#[derive(Debug, Default)]
struct Level {
    /// A CASE, which END closes.
    is_case: bool,
    /// In a FROM list, where a comma brings another table.
    in_from: bool,
    /// Most lambdas inside one another among the levels that ended here, before and since the last lambda began.
    before: usize,
    since: usize,
    /// Lambdas that began here.
    lambdas: usize,
}

impl Level {
    /// The most lambdas inside one another, this level's own included.
    fn lambdas(&self) -> usize {
        self.before.max(self.lambdas + self.since)
    }
}

impl Form {
    fn of(tokens: &[Token]) -> Self {
        let mut form = Self::default();
        let mut levels = vec![Level::default()];
        let mut dots = 0;
        let mut chained = false;
        for token in tokens {
            // a.b.c: names and dots in turn.
            if token.is(".") {
                dots += 1;
                chained = true;
                form.depth = form.depth.max(dots);
            } else if !std::mem::take(&mut chained) {
                dots = 0;
            }
            form.take(token, &mut levels);
            form.depth = form.depth.max(levels.len() - 1);
        }
        while levels.len() > 1 {
            Self::close(&mut levels);
        }
        form.lambdas = levels.first().map_or(0, Level::lambdas);
        form
    }

    fn take(&mut self, token: &Token, levels: &mut Vec<Level>) {
        if token.quoted {
            return;
        }
        match token.text.as_str() {
            "(" | "[" | "{" => levels.push(Level::default()),
            "case" => levels.push(Level { is_case: true, ..Level::default() }),
            ")" | "]" | "}" => {
                while levels.last().is_some_and(|level| level.is_case) {
                    Self::close(levels);
                }
                Self::close(levels);
            }
            "end" if levels.last().is_some_and(|level| level.is_case) => Self::close(levels),
            word => self.count(word, levels.last_mut()),
        }
    }

    fn count(&mut self, word: &str, level: Option<&mut Level>) {
        let Some(level) = level else { return };
        match word {
            "from" => {
                level.in_from = true;
                self.parts += 1;
            }
            "," if level.in_from => self.parts += 1,
            "select" | "values" | "union" | "intersect" | "except" | "with" => {
                level.in_from = false;
                self.parts += 1;
            }
            "join" | "pivot" | "unpivot" => self.parts += 1,
            "where" | "group" | "having" | "order" | "limit" | "window" | "qualify" | "set" | "returning" => {
                level.in_from = false;
            }
            // The body of a lambda follows its name, that of a comprehension comes before FOR.
            "lambda" => {
                level.before = level.before.max(level.since);
                level.since = 0;
                level.lambdas += 1;
            }
            "for" => {
                level.before = level.lambdas() + 1;
                level.since = 0;
                level.lambdas = 0;
            }
            _ => {}
        }
    }

    /// The innermost level ends; the outermost stays.
    fn close(levels: &mut Vec<Level>) {
        if levels.len() > 1
            && let Some(level) = levels.pop()
            && let Some(outer) = levels.last_mut()
        {
            outer.since = outer.since.max(level.lambdas());
        }
    }
}

#[cfg(test)]
mod tests {
    use duckdb_neo::environment::{Environment, StorageLocation};

    use super::super::scan;
    use super::*;

    fn form(sql: &str) -> (usize, usize, usize) {
        let connection = Environment::new().unwrap().open(StorageLocation::InMemory).unwrap().connect().unwrap();
        let form = Form::of(&scan::tokens(&connection, sql).unwrap());
        (form.depth, form.lambdas, form.parts)
    }

    #[test]
    fn depth_lambdas_and_parts_are_counted() {
        for (sql, expected) in [
            ("", (0, 0, 0)),
            ("SELECT '((((', \"((\", $$((($$ -- (((\n /* ((( */", (0, 0, 1)),
            ("SELECT (1), (2), ((3))", (2, 0, 1)),
            ("SELECT [{'a': (1)}]", (3, 0, 1)),
            ("SELECT CASE WHEN a THEN CASE WHEN b THEN 1 END ELSE (2) END FROM t", (2, 0, 2)),
            ("SELECT (CASE WHEN) 1", (2, 0, 1)),
            ("SELECT a.b.c.d, x.y", (3, 0, 1)),
            (")))((", (2, 0, 0)),
            ("SELECT * FROM a, b, c JOIN d ON (x, y) = (1, 2) WHERE a IN (1, 2, 3) GROUP BY 1, 2", (1, 0, 5)),
            ("WITH c AS (SELECT 1) SELECT 1 UNION ALL SELECT 2 FROM c", (1, 0, 6)),
            ("SELECT f([1], lambda x: g([x], lambda y: y))", (3, 2, 1)),
            ("SELECT f(f(f([1], lambda x: x), lambda x: x), lambda x: x)", (4, 1, 1)),
            ("SELECT [[[1 for x in a] for y in b] for z in [q for r in s]]", (3, 3, 1)),
            ("SELECT f([x for x in a], lambda x: [y for y in x])", (2, 2, 1)),
        ] {
            assert_eq!(form(sql), expected, "{sql}");
        }
    }
}
