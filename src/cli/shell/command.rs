//! The commands of the shell itself, which begin with `\`: what was typed becomes a [`Command`], or an error that says what to type.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum as _;

use super::lex::{Kind, Token, tokens};
use crate::cli::output::Format;
use crate::error::{Error, Result};

/// How long `\watch` waits unless it is told.
const WATCH: Duration = Duration::from_secs(2);
const WATCH_MAX: Duration = Duration::from_hours(24);

/// All commands, as `\?` shows them.
pub(super) const HELP: &[(&str, &str)] = &[
    ("\\d", "list tables and views"),
    ("\\d TABLE", "show the columns of a table, and where its rows came from"),
    ("\\dt [PATTERN]", "list tables whose name matches a LIKE pattern; \\dv lists views"),
    ("\\df [PATTERN]", "list functions"),
    ("\\l", "tell about the server and its database; \\conninfo is the same"),
    ("", ""),
    ("\\x [on|off]", "show each value on a line of its own"),
    ("\\format FORMAT", "show rows as table, csv, json or ndjson"),
    ("\\timing [on|off]", "tell how long statements take"),
    ("\\o [FILE]", "write rows to a file; without a file to the screen again"),
    ("\\watch [SECONDS]", "run the last statement again and again, until ctrl-c"),
    ("", ""),
    ("\\i FILE", "run the statements and commands in a file"),
    ("\\copy TABLE FROM FILE...", "import files of this machine; takes the options of `merganser ingest`"),
    (
        "\\copy TABLE TO FILE [FORMAT]",
        "write a table to a file of this machine; FORMAT is parquet, csv, ndjson or arrow, if its name does not tell",
    ),
    ("\\copy (QUERY) TO FILE [FORMAT]", "the same with the rows of a query"),
    ("", ""),
    ("\\?", "show this"),
    ("\\q", "leave; so do exit, quit and ctrl-d"),
];

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// Show all commands.
    Help,
    /// Leave.
    Quit,
    /// Describe one table.
    Describe(String),
    /// List tables, views or both.
    Tables { which: Which, like: Option<String> },
    /// List functions.
    Functions(Option<String>),
    /// Tell about the server.
    Server,
    /// Turn on or off, or the other way round, telling the time.
    Timing(Option<bool>),
    /// The same for a line a value.
    Expanded(Option<bool>),
    /// Change the format.
    Format(Format),
    /// Write rows to a file, or no longer.
    Output(Option<PathBuf>),
    /// Run a file.
    Include(PathBuf),
    /// Write rows to a file of this machine.
    CopyTo { sql: String, file: PathBuf, format: Option<String> },
    /// Import files of this machine: the arguments of `merganser ingest`.
    CopyFrom(Vec<String>),
    /// Run the last statement again and again.
    Watch(Duration),
}

/// What `\d` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Tables,
    Views,
}

/// The command of a line that begins with `\`.
pub(super) fn parse(line: &str) -> Result<Command> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, rest) = line.split_at(line.find(char::is_whitespace).unwrap_or(line.len()));
    let rest = rest.trim();
    if name == "\\copy" {
        return copy(rest);
    }
    let words = words(rest)?;
    let ([] | [_]) = words.as_slice() else {
        return Err(Error::invalid(format!("{name} takes one argument at most; put one with spaces in quotes")));
    };
    let word = words.into_iter().next();
    let needs = |what: &str| Error::invalid(format!("{name} needs {what}"));
    Ok(match name {
        "\\?" | "\\h" | "\\help" => Command::Help,
        "\\q" | "\\quit" | "\\exit" => Command::Quit,
        "\\d" | "\\d+" => match word {
            Some(table) => Command::Describe(table),
            None => Command::Tables { which: Which::All, like: None },
        },
        "\\dt" | "\\dt+" => Command::Tables { which: Which::Tables, like: word },
        "\\dv" | "\\dv+" => Command::Tables { which: Which::Views, like: word },
        "\\df" => Command::Functions(word),
        "\\l" | "\\conninfo" => Command::Server,
        "\\timing" => Command::Timing(switch(name, word.as_deref())?),
        "\\x" => Command::Expanded(switch(name, word.as_deref())?),
        "\\format" => {
            let word = word.ok_or_else(|| needs("a format: table, csv, json or ndjson"))?;
            Command::Format(
                Format::from_str(&word, true).map_err(|_| {
                    Error::invalid(format!("there is no format {word}: it is table, csv, json or ndjson"))
                })?,
            )
        }
        "\\o" => Command::Output(word.map(|word| file(&word))),
        "\\i" => Command::Include(file(&word.ok_or_else(|| needs("a file"))?)),
        "\\watch" => Command::Watch(word.map_or(Ok(WATCH), |word| seconds(&word))?),
        _ => return Err(unknown(name)),
    })
}

fn unknown(name: &str) -> Error {
    let names = HELP.iter().filter_map(|(usage, _)| usage.split(' ').next()).filter(|known| !known.is_empty());
    let near = names.map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    let hint = match near {
        Some((distance, known)) if distance <= 2 && name.len() > 3 => format!("did you mean {known}? "),
        _ => String::new(),
    };
    Error::invalid(format!("there is no command {name}; {hint}\\? lists them"))
}

/// What to say to a line that begins with a dot: DuckDB's own shell has such commands.
pub(super) fn of_duckdb(line: &str) -> String {
    let known = [
        (".tables", "\\d"),
        (".schema", "\\d TABLE"),
        (".exit", "\\q"),
        (".quit", "\\q"),
        (".help", "\\?"),
        (".timer", "\\timing"),
        (".mode", "\\format"),
        (".read", "\\i"),
        (".output", "\\o"),
        (".import", "\\copy"),
    ];
    let name = line.split_whitespace().next().unwrap_or_default();
    match known.iter().find(|(dotted, _)| *dotted == name) {
        Some((_, own)) => format!("commands begin with \\ here: {name} is {own}"),
        None => "commands begin with \\ here: \\? lists them".to_owned(),
    }
}

fn switch(name: &str, word: Option<&str>) -> Result<Option<bool>> {
    match word {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(word) => Err(Error::invalid(format!("{name} takes on or off, not {word}"))),
    }
}

fn seconds(word: &str) -> Result<Duration> {
    let time = word.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| *time > Duration::ZERO && *time <= WATCH_MAX)
        .ok_or_else(|| Error::invalid(format!("\\watch takes a number of seconds, not {word}")))
}

/// A file's name, with `~/` for the home directory.
fn file(word: &str) -> PathBuf {
    match (word.strip_prefix("~/"), directories::BaseDirs::new()) {
        (Some(rest), Some(base)) => base.home_dir().join(rest),
        _ => PathBuf::from(word),
    }
}

/// `rest` as a shell splits it: at spaces outside of quotes, which are taken away.
pub(in crate::cli) fn words(rest: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in rest.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(format!("a quote is not closed: {rest}")));
    }
    words.extend(word);
    Ok(words)
}

/// What follows `\copy`.
fn copy(rest: &str) -> Result<Command> {
    let usage = || {
        Error::invalid(
            "\\copy is: \\copy TABLE FROM FILE..., \\copy TABLE TO FILE [FORMAT], or \\copy (QUERY) TO FILE [FORMAT]",
        )
    };
    let all: Vec<Token<'_>> = tokens(rest).collect();
    let first = all.first().ok_or_else(usage)?;
    let direction = if first.is('(') { after_parenthesis(&all) } else { after_name(&all) };
    let direction = direction.ok_or_else(usage)?;
    let what = rest[..direction.start].trim();
    let words = words(&rest[direction.end()..])?;
    if direction.is_word("from") {
        if first.is('(') || words.is_empty() {
            return Err(usage());
        }
        let table = ["--table".to_owned(), what.trim_matches('"').replace("\"\"", "\"")];
        return Ok(Command::CopyFrom(table.into_iter().chain(words).collect()));
    }
    let mut words = words.into_iter();
    let target = words.next().ok_or_else(usage)?;
    // As in DuckDB and in PostgreSQL: (FORMAT csv), WITH (FORMAT csv), csv.
    let noise = |word: &String| ["with", "format", "header", "true", ""].contains(&word.as_str());
    let mut formats = words.map(|word| word.trim_matches(['(', ')', ',']).to_lowercase()).filter(|word| !noise(word));
    let format = formats.next();
    if formats.next().is_some() {
        return Err(usage());
    }
    let inside = what.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let sql = inside.map_or_else(|| format!("FROM {what}"), |sql| sql.trim().to_owned());
    Ok(Command::CopyTo { sql, file: file(&target), format })
}

/// The TO behind the parenthesis that the text begins with.
fn after_parenthesis<'a>(all: &[Token<'a>]) -> Option<Token<'a>> {
    let mut depth = 0_usize;
    let close = all.iter().position(|token| {
        depth = if token.is('(') {
            depth + 1
        } else if token.is(')') {
            depth.saturating_sub(1)
        } else {
            depth
        };
        depth == 0
    })?;
    all.get(close + 1).copied().filter(|token| token.is_word("to") || token.is_word("from"))
}

/// The TO or FROM behind a table's name, which may have a schema.
fn after_name<'a>(all: &[Token<'a>]) -> Option<Token<'a>> {
    let is_name = |token: &Token<'_>| matches!(token.kind, Kind::Word | Kind::Name) && token.closed;
    let mut at = 0;
    loop {
        all.get(at).filter(|token| is_name(token))?;
        let next = all.get(at + 1)?;
        if !next.is('.') {
            return Some(*next).filter(|token| token.is_word("to") || token.is_word("from"));
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let like = |text: &str| Some(text.to_owned());
        for (line, command) in [
            ("\\d", Command::Tables { which: Which::All, like: None }),
            ("\\d;", Command::Tables { which: Which::All, like: None }),
            ("  \\d  \"My table\"", Command::Describe("My table".to_owned())),
            ("\\dt app%", Command::Tables { which: Which::Tables, like: like("app%") }),
            ("\\dv", Command::Tables { which: Which::Views, like: None }),
            ("\\df json%", Command::Functions(like("json%"))),
            ("\\timing", Command::Timing(None)),
            ("\\timing off", Command::Timing(Some(false))),
            ("\\x on", Command::Expanded(Some(true))),
            ("\\format CSV", Command::Format(Format::Csv)),
            ("\\o", Command::Output(None)),
            ("\\o 'a b.csv'", Command::Output(Some("a b.csv".into()))),
            ("\\i x.sql", Command::Include("x.sql".into())),
            ("\\watch", Command::Watch(Duration::from_secs(2))),
            ("\\watch 0.5", Command::Watch(Duration::from_millis(500))),
            ("\\?", Command::Help),
            ("\\q", Command::Quit),
            ("\\l", Command::Server),
        ] {
            assert_eq!(parse(line).unwrap(), command, "{line}");
        }
    }

    #[test]
    fn copies_are_read() {
        let to = |sql: &str, file: &str, format: Option<&str>| Command::CopyTo {
            sql: sql.to_owned(),
            file: file.into(),
            format: format.map(str::to_owned),
        };
        for (line, command) in [
            ("\\copy t TO a.parquet", to("FROM t", "a.parquet", None)),
            ("\\copy s.\"T t\" to 'a b' csv header;", to("FROM s.\"T t\"", "a b", Some("csv"))),
            (
                "\\copy (SELECT ')', (1) TO FROM t) TO x.json WITH (FORMAT ndjson)",
                to("SELECT ')', (1) TO FROM t", "x.json", Some("ndjson")),
            ),
        ] {
            assert_eq!(parse(line).unwrap(), command, "{line}");
        }
        let from = |words: &[&str]| Command::CopyFrom(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(parse("\\copy t FROM a.csv").unwrap(), from(&["--table", "t", "a.csv"]));
        assert_eq!(
            parse("\\copy \"t\" from 'a b.csv' c.csv --mode create").unwrap(),
            from(&["--table", "t", "a b.csv", "c.csv", "--mode", "create"])
        );
        for line in [
            "\\copy",
            "\\copy t",
            "\\copy t TO",
            "\\copy t FROM",
            "\\copy (SELECT 1) FROM a",
            "\\copy (SELECT 1 TO a",
            "\\copy t INTO a",
            "\\copy t TO a csv json",
        ] {
            assert!(parse(line).unwrap_err().message().starts_with("\\copy is: "), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_to_type() {
        for (line, message) in [
            ("\\timng", "there is no command \\timng; did you mean \\timing? \\? lists them"),
            ("\\z", "there is no command \\z; \\? lists them"),
            ("\\x maybe", "\\x takes on or off, not maybe"),
            ("\\format", "\\format needs a format: table, csv, json or ndjson"),
            ("\\format xml", "there is no format xml: it is table, csv, json or ndjson"),
            ("\\i", "\\i needs a file"),
            ("\\watch -1", "\\watch takes a number of seconds, not -1"),
            ("\\d a b", "\\d takes one argument at most; put one with spaces in quotes"),
            ("\\d 'a", "a quote is not closed: 'a"),
        ] {
            assert_eq!(parse(line).unwrap_err().message(), message);
        }
        assert_eq!(of_duckdb(".tables x"), "commands begin with \\ here: .tables is \\d");
        assert!(of_duckdb(".x").ends_with("\\? lists them"));
    }

    #[test]
    fn a_home_directory_may_be_short() {
        let home = directories::BaseDirs::new().map(|base| base.home_dir().join("a"));
        assert_eq!(Some(file("~/a")), home.or(Some("~/a".into())));
        assert_eq!(file("~a"), PathBuf::from("~a"));
    }
}
