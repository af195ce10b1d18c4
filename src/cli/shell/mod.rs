//! `merganser shell`: SQL by hand, and scripts of it, in one session of the server's.
//!
//! Follow a statement: [`editor`] reads a text from a terminal, or [`script`] lines from elsewhere; [`statements`] takes them apart into
//! statements and commands ([`command`]); [`run`] runs each, over the [`connection`], and shows its rows in a [`view`]. What goes wrong is
//! told by [`trouble`] as well as by the message. The loop is not async, so that a tab can wait for the server; each thing that is
//! asked of the server runs on the shell's own runtime.

mod command;
mod complete;
mod connection;
mod copy;
mod editor;
mod history;
mod lex;
mod pager;
mod run;
mod runner;
mod script;
mod statements;
mod trouble;
mod view;

use std::io::{self, BufRead, IsTerminal};
use std::rc::Rc;
use std::time::Duration;

use self::command::Command;
use self::complete::names::ServerNames;
use self::connection::Connection;
use self::editor::{Prompt, Typed};
use self::pager::Pager;
use self::runner::Runner;
use self::script::Origin;
use self::statements::{Statement, is_bare_word};
use self::view::View;
use super::client::ServerArgs;
use super::output::{self, Format};
use crate::error::{Error, ErrorKind, Result};

#[cfg(test)]
pub(super) use command::words;

/// Time in which the server may end the session.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Talk to a server in SQL
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Talk to a server in SQL\n\n\
    Statements end with a semicolon and may have many lines; commands begin with a backslash, and \\? lists them. Tab completes \
    tables, columns, functions, and the properties of events behind properties->>'$. Ctrl-c cancels the statement that runs.\n\n\
    All that is typed is in one session, so that transactions, temporary tables and SET work. Without a terminal, statements come \
    from stdin, and the first error ends it with its line",
    after_long_help = "Examples:\n  \
    merganser shell\n  \
    merganser shell -c \"SELECT 1\" -c '\\d'\n  \
    merganser shell --format csv < report.sql\n  \
    merganser shell --server grpc+tls://db.example:8815 --user ann"
)]
pub(super) struct Args {
    /// Run this SQL or \command, and exit; may be repeated
    #[arg(long, short, value_name = "SQL")]
    command: Vec<String>,

    /// Write the rows in this format
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Show at most this many rows in a table
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_rows: usize,

    /// Cut a table's cells to this many characters, 0 for none
    #[arg(long, value_name = "N", default_value_t = 60)]
    max_width: usize,

    #[command(flatten)]
    server: ServerArgs,
}

/// A shell.
struct Shell {
    runner: Runner,
    connection: Connection,
    view: View,
    names: Rc<ServerNames>,
    /// Whether times are told.
    timing: bool,
    /// Whether a transaction is open, as far as the statements tell.
    in_transaction: bool,
    /// The last statement.
    last: Option<Statement>,
    /// Files that are run, one out of the other.
    files: usize,
    /// Whether a person types.
    is_interactive: bool,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

/// An error that its user was told of.
#[derive(Debug)]
struct Told;

/// Runs the shell. Its errors are told here, so that the error for those that were told has no message.
pub(super) fn run(args: Args) -> Result<()> {
    if args.format.is_binary() {
        return Err(not_shown());
    }
    let is_interactive = args.command.is_empty() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let commands = args.command.clone();
    let mut shell = Shell::open(args, is_interactive)?;
    let done = if !commands.is_empty() {
        shell.commands(&commands)
    } else if is_interactive {
        shell.prompt()?;
        Ok(())
    } else {
        let mut lines = io::stdin().lock();
        let read = move || {
            let mut line = String::new();
            lines.read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
        };
        shell.script(&Origin::file("stdin"), read).map(drop)
    };
    shell.close();
    done.map_err(|Told| Error::cancelled(""))
}

/// A format that the shell cannot show.
fn not_shown() -> Error {
    Error::invalid("the shell shows table, csv, json and ndjson: \\copy (QUERY) TO FILE writes the other formats")
}

impl Shell {
    fn open(args: Args, is_interactive: bool) -> Result<Self> {
        let runner = Runner::new(is_interactive)?;
        let connection = connect(&runner, args.server, is_interactive)?;
        let names = Rc::new(ServerNames::new(runner.handle()));
        names.ask(is_interactive.then(|| connection.client().without_session()));
        let view = View {
            format: args.format,
            expanded: false,
            rows_max: args.max_rows,
            width_max: args.max_width,
            file: None,
            pager: is_interactive.then(|| Pager::of(std::env::var("PAGER").ok())),
        };
        let (timing, in_transaction) = (false, false);
        Ok(Self { runner, connection, view, names, timing, in_transaction, last: None, files: 0, is_interactive })
    }

    /// Reads from the terminal until its user has enough.
    fn prompt(&mut self) -> Result<()> {
        output::print(&self.greeting())?;
        let mut prompt = Prompt::new(Rc::clone(&self.names))?;
        loop {
            let shown = if self.in_transaction { "merganser*> " } else { "merganser> " };
            let text = match prompt.read(shown)? {
                Typed::Text(text) => text,
                Typed::Nothing => continue,
                Typed::End => return Ok(()),
            };
            // The user has been told, and may go on.
            if matches!(self.typed(&text), Ok(Next::Quit)) {
                return Ok(());
            }
        }
    }

    fn greeting(&self) -> String {
        let info = self.connection.info();
        format!(
            "merganser {}, connected to {} (DuckDB {}, {} database); \\? for help, \\q to leave",
            env!("CARGO_PKG_VERSION"),
            self.connection.args().server,
            info.duckdb_version.trim_start_matches('v'),
            info.mode,
        )
    }

    /// Runs what was typed at the prompt.
    fn typed(&mut self, text: &str) -> Result<Next, Told> {
        let trimmed = text.trim();
        let origin = Origin::prompt();
        if is_bare_word(trimmed) {
            let word = if trimmed.to_ascii_lowercase().starts_with("help") { Command::Help } else { Command::Quit };
            return self.command(&origin, word);
        }
        if trimmed.starts_with('.') {
            output::tell(&command::of_duckdb(trimmed));
            return Err(Told);
        }
        let mut lines = text.split_inclusive('\n').map(str::to_owned);
        self.script(&origin, || Ok(lines.next()))
    }

    /// Runs what `--command` gives.
    fn commands(&mut self, commands: &[String]) -> Result<(), Told> {
        for text in commands {
            let mut lines = text.split_inclusive('\n').map(str::to_owned);
            if self.script(&Origin::argument(), || Ok(lines.next()))? == Next::Quit {
                break;
            }
        }
        Ok(())
    }

    fn close(self) {
        let Self { runner, connection, .. } = self;
        runner.end(connection.close(), CLOSE_MAX);
    }
}

/// Connects; asks a person for the password that the server misses.
fn connect(runner: &Runner, mut args: ServerArgs, is_interactive: bool) -> Result<Connection> {
    let error = match runner.run(Connection::open(args.clone())) {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let asks = is_interactive && args.password.is_empty() && error.kind() == ErrorKind::Unauthenticated;
    let Some(user) = args.user.as_ref().filter(|_| asks) else { return Err(error) };
    let password = rpassword::prompt_password(format!("password of {user}: "));
    args.password =
        password.map_err(|error| Error::invalid(format!("cannot read the password: {error}")).with_source(error))?;
    runner.run(Connection::open(args))
}
