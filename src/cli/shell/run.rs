//! What each statement and each command does.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Zoned;

use super::command::{Command, HELP, Which};
use super::connection::Left;
use super::lex::{Kind, Token, tokens};
use super::script::Origin;
use super::{Next, Shell, Told, not_shown};
use crate::cli::output::{self, Format};
use crate::cli::{schema, tables};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::v1::{ListTablesRequest, ServerInfo, TableInfo, TableKind, TableMetadata, TableRequest, TableSchema};

/// Files that are run one out of the other.
const FILES_MAX: usize = 16;

/// What a statement is for the shell, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// It reads.
    Query,
    /// It changes rows, and answers how many.
    Change,
    /// BEGIN.
    Begin,
    /// COMMIT or ROLLBACK.
    End,
    /// It changes something else, like tables.
    Other,
}

impl Sort {
    fn of(sql: &str) -> Self {
        let mut words = tokens(sql).filter(|token| token.kind != Kind::Comment);
        let Some(first) = words.next() else { return Self::Query };
        let is = |known: &[&str]| known.iter().any(|word| first.is_word(word));
        let is_returning = |token: Token<'_>| token.is_word("returning");
        if is(&["insert", "update", "delete", "merge"]) {
            return if words.any(is_returning) { Self::Other } else { Self::Change };
        }
        if is(&["begin", "start"]) {
            Self::Begin
        } else if is(&["commit", "end", "rollback", "abort"]) {
            Self::End
        } else if first.is('(') || is(&["select", "from", "with", "values", "explain", "describe", "show", "summarize"])
        {
            Self::Query
        } else {
            Self::Other
        }
    }
}

impl Shell {
    /// Runs a statement, and shows its rows.
    pub(super) fn run(&mut self, sql: &str) -> Result<()> {
        let started = Instant::now();
        let sort = Sort::of(sql);
        let mut client = self.connection.client();
        let view = &self.view;
        // A query that is left in the middle could end the transaction.
        let to_the_end = self.in_transaction;
        let work = async {
            if sort == Sort::Change {
                return client.update(sql.to_owned()).await.map(Some);
            }
            let rows = client.query(sql.to_owned()).await?;
            view.show(rows, to_the_end).await.map(|()| None)
        };
        let done = self.runner.run(work);
        if let (Ok(Some(rows)), Format::Table) = (&done, self.view.format) {
            let count = output::thousands(rows.unsigned_abs());
            self.view.print(&format!("{count} row{} changed", if *rows == 1 { "" } else { "s" }))?;
        }
        if self.timing {
            output::tell(&format!("Time: {}", time(started.elapsed())));
        }
        match sort {
            Sort::Begin if done.is_ok() => self.in_transaction = true,
            Sort::End if done.is_ok() => self.in_transaction = false,
            Sort::Other => self.names.forget(),
            _ => {}
        }
        done.map(drop)
    }

    /// Does what a command says.
    pub(super) fn obey(&mut self, command: Command) -> Result<Result<Next, Told>> {
        match command {
            Command::Help => self.view.print(&help())?,
            Command::Quit => return Ok(Ok(Next::Quit)),
            Command::Describe(table) => self.describe(table)?,
            Command::Tables { which, like } => self.tables(which, like)?,
            Command::Functions(like) => self.run(&functions(like.as_deref()))?,
            Command::Server => self.server()?,
            Command::Timing(on) => {
                self.timing = on.unwrap_or(!self.timing);
                output::print(if self.timing { "times are told" } else { "times are not told" })?;
            }
            Command::Expanded(on) => {
                self.view.expanded = on.unwrap_or(!self.view.expanded);
                output::print(if self.view.expanded { "a line a value" } else { "a line a row" })?;
            }
            Command::Format(format) if format.is_binary() => return Err(not_shown()),
            Command::Format(format) => self.view.format = format,
            Command::Output(None) => self.view.file = None,
            Command::Output(Some(path)) => {
                let name = path.display().to_string();
                let file = File::create(&path).map_err(|error| output::write_error(&name, error))?;
                self.view.file = Some((file, name));
            }
            Command::Include(path) => return self.include(&path),
            Command::CopyTo { sql, file, format } => self.copy_to(sql, &file, format.as_deref())?,
            Command::CopyFrom(arguments) => self.copy_from(arguments)?,
            Command::Watch(pause) => self.watch(pause)?,
        }
        Ok(Ok(Next::Go))
    }

    fn tables(&self, which: Which, like: Option<String>) -> Result<()> {
        let kind = if which == Which::Views { TableKind::View } else { TableKind::Unspecified };
        let request = ListTablesRequest { kind: kind.into(), name_like: like.unwrap_or_default() };
        let mut client = self.connection.client();
        let mut found: Vec<TableInfo> = self.runner.run(client.action("list_tables", &request))?;
        if which == Which::Tables {
            found.retain(|table| table.kind() != TableKind::View);
        }
        self.view.print(&tables::text(&found))
    }

    fn describe(&self, table: String) -> Result<()> {
        let mut client = self.connection.client();
        let request = TableRequest { table };
        let asked = async {
            let schema: TableSchema = client.action_once("get_schema", &request).await?;
            let is_managed = matches!(schema.kind(), TableKind::Events | TableKind::Profiles);
            let metadata: Option<TableMetadata> =
                if is_managed { Some(client.action_once("get_metadata", &request).await?) } else { None };
            Ok((schema, metadata))
        };
        let (schema, metadata) = self.runner.run(asked)?;
        let metadata = metadata.map(|metadata| format!("\n\n{}", crate::cli::metadata::text(&metadata)));
        self.view.print(&(schema::text(&schema) + &metadata.unwrap_or_default()))
    }

    fn server(&mut self) -> Result<()> {
        let info = self.runner.run(self.connection.refresh())?.clone();
        let args = self.connection.args();
        self.view.print(&about(&args.server, args.user.as_deref(), &info))
    }

    fn include(&mut self, path: &Path) -> Result<Result<Next, Told>> {
        if self.files >= FILES_MAX {
            return Err(Error::invalid(format!(
                "{FILES_MAX} files run one another already: is one among them that runs itself?"
            )));
        }
        let name = path.display().to_string();
        let unreadable =
            |error: std::io::Error| Error::invalid(format!("{name}: {}", output::reason(&error))).with_source(error);
        if fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Err(Error::invalid(format!("{name}: it is a directory")));
        }
        let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
        let read = || {
            let mut line = String::new();
            lines.read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
        };
        self.files += 1;
        let done = self.script(&Origin::file(&name), read);
        self.files -= 1;
        Ok(done)
    }

    /// Runs the last statement again and again.
    fn watch(&mut self, pause: Duration) -> Result<()> {
        let Some(statement) = self.last.clone() else {
            return Err(Error::invalid("\\watch runs the last statement again, and there is none"));
        };
        // Nobody could leave the pager and see the next one.
        let pager = self.view.pager.take();
        let done = loop {
            output::print(&format!("{} (every {})", Zoned::now().strftime("%H:%M:%S"), time(pause)))?;
            if let Err(error) = self.run(&statement.text) {
                break Err(error);
            }
            let pausing = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            if self.runner.run(pausing).is_err() {
                break Ok(());
            }
        };
        self.view.pager = pager;
        match done {
            // The user wants no more of it.
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(()),
            done => done,
        }
    }

    /// Makes a connection again that `error` tells to be lost. A script ends anyway.
    pub(super) fn recover(&mut self, error: &Error) {
        if !self.is_interactive {
            return;
        }
        let left = match self.runner.run(self.connection.after(error)) {
            Ok(Left::All) => return,
            Ok(left) => left,
            Err(error) if error.kind() == ErrorKind::Cancelled => return output::tell("not connected"),
            Err(error) => return output::tell(&format!("not connected: {error}; the next statement tries again")),
        };
        output::tell(match left {
            Left::Session => "connected again, in the same session; the statement was not run again",
            Left::All | Left::Nothing => {
                self.in_transaction = false;
                "connected again, in a new session: temporary tables, settings and an open transaction are gone; \
                 the statement was not run again"
            }
        });
        self.names.ask(Some(self.connection.client().without_session()));
    }
}

fn help() -> String {
    let lines: Vec<Vec<String>> =
        HELP.iter().map(|(usage, what)| vec![(*usage).to_owned(), (*what).to_owned()]).collect();
    format!("Statements end with a semicolon. Commands:\n\n{}", output::columns(&lines, &[]))
}

/// Functions with what they take and give.
fn functions(like: Option<&str>) -> String {
    let pattern = like.unwrap_or("%").replace('\'', "''");
    format!(
        "SELECT DISTINCT function_name AS name, function_type AS kind, array_to_string(parameter_types, ', ') AS takes, \
         return_type AS gives FROM duckdb_functions() \
         WHERE function_name ILIKE '{pattern}' AND regexp_full_match(function_name, '[a-z_][a-z0-9_]*') ORDER BY ALL"
    )
}

fn about(server: &str, user: Option<&str>, info: &ServerInfo) -> String {
    let fields = [
        ("server", server.to_owned()),
        ("user", user.unwrap_or_default().to_owned()),
        ("version", info.version.clone()),
        ("DuckDB", info.duckdb_version.trim_start_matches('v').to_owned()),
        ("database", info.mode.clone()),
        ("file", info.database_path.clone()),
        ("up for", time(Duration::try_from_secs_f64(info.uptime_seconds.floor()).unwrap_or_default())),
        ("sessions", output::thousands(info.sessions)),
        ("statements", output::thousands(info.statements)),
    ];
    let lines = fields.into_iter().filter(|(_, value)| !value.is_empty());
    output::columns(&lines.map(|(name, value)| vec![name.to_owned(), value]).collect::<Vec<_>>(), &[])
}

/// A time for people.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) if seconds == 0 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        (0, 0) => format!("{:.2} s", time.as_secs_f64()),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_sorted_by_their_first_word() {
        for (sql, sort) in [
            ("-- x\nselect 1", Sort::Query),
            ("(SELECT 1)", Sort::Query),
            ("FROM t", Sort::Query),
            ("INSERT INTO t SELECT 'returning'", Sort::Change),
            ("INSERT INTO t VALUES (1) RETURNING x", Sort::Other),
            ("delete from t", Sort::Change),
            ("BEGIN", Sort::Begin),
            ("START TRANSACTION", Sort::Begin),
            ("ROLLBACK", Sort::End),
            ("CREATE TABLE t (x INT)", Sort::Other),
            ("", Sort::Query),
        ] {
            assert_eq!(Sort::of(sql), sort, "{sql}");
        }
    }

    #[test]
    fn times_are_for_people() {
        for (millis, text) in
            [(0, "0.0 ms"), (12, "12.0 ms"), (2_500, "2.50 s"), (62_000, "1 min 2 s"), (7_320_000, "2 h 2 min")]
        {
            assert_eq!(time(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn the_server_is_told_about() {
        let info = ServerInfo {
            version: "1.2.3".to_owned(),
            duckdb_version: "v2.0.0".to_owned(),
            mode: "memory".to_owned(),
            uptime_seconds: 61.5,
            ..ServerInfo::default()
        };
        let text = about("grpc://a", None, &info);
        assert!(text.starts_with("server      grpc://a\nversion     1.2.3\nDuckDB      2.0.0\n"), "{text}");
        assert!(text.contains("up for      1 min 1 s") && !text.contains("file"), "{text}");
    }

    #[test]
    fn the_help_is_aligned() {
        assert!(help().contains("\n\\q                              leave"), "{}", help());
    }
}
