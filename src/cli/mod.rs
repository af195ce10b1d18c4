//! The command line: what the arguments mean, and one file for each command.
//!
//! `ingest`, `query`, `export`, `tail`, `tables`, `schema`, `metadata`, `drop`, `queries`, `cancel`, `sessions` and `backup` are plain
//! Flight clients of a running server: they go over the wire like any other client and never touch a database file. `demo` is a server
//! and such a client in one, and `shell` a client for people. `health` asks a server's operations port. `user` and `token` change the
//! users file of a server on this machine, `restore` its database file. Data goes to stdout; the progress bar, warnings and the one
//! line of an error go to stderr. Exit codes: 0 success, 1 failure, 2 bad usage.

mod backup;
mod client;
mod completions;
mod demo;
mod drop;
mod endings;
mod export;
#[cfg(test)]
mod fake;
mod health;
mod ingest;
mod interrupt;
mod man;
mod metadata;
mod output;
mod queries;
mod query;
mod reach;
mod restore;
mod schema;
mod serve;
mod shell;
mod tables;
mod tail;
mod tls;
mod tokens;
mod users;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::error::{Error, Result};

/// Serve product events from DuckDB over Arrow Flight, and talk to such a server
#[derive(Debug, Parser)]
#[command(name = "merganser", version, propagate_version = true, max_term_width = 120, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Demo(demo::Args),
    Ingest(Box<ingest::Args>),
    Query(query::Args),
    Shell(shell::Args),
    Export(export::Args),
    Tail(tail::Args),
    Tables(tables::Args),
    Schema(schema::Args),
    Metadata(metadata::Args),
    Drop(drop::Args),
    User(users::Args),
    Token(tokens::Args),
    Queries(queries::QueriesArgs),
    Cancel(queries::CancelArgs),
    Sessions(queries::SessionsArgs),
    Health(health::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The command line that the arguments are.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(arguments)?;
    if let Command::Query(args) = &cli.command {
        let wrong = |message| Cli::command().error(clap::error::ErrorKind::TooManyValues, message);
        args.check().map_err(wrong)?;
    }
    Ok(cli)
}

/// Runs the command that the process's arguments name; the result is the process's exit code.
pub fn run() -> ExitCode {
    let cli = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let serves = matches!(cli.command, Command::Serve(_) | Command::Demo(_));
    let ended = dispatch(cli.command);
    let is_good = match &ended {
        Ok(()) => true,
        // The reader of our output had enough (`| head`): that is no failure.
        Err(_) if output::stdout_is_closed() => true,
        Err(error) => {
            // The shell has told its own.
            if !error.message().is_empty() {
                output::warn(error.message());
            }
            false
        }
    };
    if serves {
        // Connections that were left open may still have the engine. Nobody is there to hear of a failure to flush.
        drop(output::Stdout.flush());
        crate::engine::end_process(is_good);
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Serve(args) => block_on(serve::run(*args)),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Ingest(args) => block_on(ingest::run(*args)),
        Command::Query(args) => block_on(query::run(args)),
        Command::Shell(args) => shell::run(args),
        Command::Export(args) => block_on(export::run(args)),
        Command::Tail(args) => block_on(tail::run(args)),
        Command::Tables(args) => block_on(tables::run(args)),
        Command::Schema(args) => block_on(schema::run(args)),
        Command::Metadata(args) => block_on(metadata::run(args)),
        Command::Drop(args) => block_on(drop::run(args)),
        Command::User(args) => users::run(args),
        Command::Token(args) => tokens::run(args),
        Command::Queries(args) => block_on(queries::queries(args)),
        Command::Cancel(args) => block_on(queries::cancel(args)),
        Command::Sessions(args) => block_on(queries::sessions(args)),
        Command::Health(args) => block_on(health::run(args)),
        Command::Backup(args) => block_on(backup::run(args)),
        Command::Restore(args) => restore::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Two threads: one encodes or decodes while the other moves bytes.
fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the runtime").with_source(error))
}

/// Runs a client command on a runtime of its own.
fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = runtime()?;
    let result = runtime.block_on(command);
    // A thread of ours may still wait for stdin; the process does not.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    #[test]
    fn verify_cli() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_usage_is_clap_s_error() {
        for arguments in [
            &["merganser"][..],
            &["merganser", "ingest", "--table", "t"],
            &["merganser", "ingest", "a.csv"],
            &["merganser", "ingest", "a.csv", "--table", "t", "--from-date", "2024-13-01"],
            &["merganser", "query", "SELECT 1", "--format", "xml"],
            &["merganser", "query", "SELECT", "1"],
            &["merganser", "completions", "tcsh"],
            &["merganser", "man"],
            &["merganser", "schema"],
            &["merganser", "user", "add", "ann"],
            &["merganser", "user", "add", "ann", "--role", "king"],
            &["merganser", "user", "add", "ann", "--role", "reader", "--grant", "all"],
            &["merganser", "token", "create"],
            &["merganser", "token", "create", "--user", "ann", "--expires", "soon"],
        ] {
            let error = parse(arguments.iter().map(OsString::from)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }

    /// Runs a command line against a server that does what `script` says.
    fn run_against(script: fake::Script, arguments: &[&str]) -> Result<()> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (server, _) = runtime.block_on(fake::start(script));
        let at = ["--server", &server.server];
        let all = ["merganser"].iter().chain(arguments).chain(&at);
        dispatch(Cli::try_parse_from(all).unwrap().command)
    }

    #[test]
    fn commands_run_from_their_arguments_to_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batches = vec![RecordBatch::try_from_iter([("x", numbers)]).unwrap()];
        let script = || fake::Script { batches: batches.clone(), ..fake::Script::default() };

        run_against(script(), &["query", "SELECT", "--format", "ndjson", "--output", &path("rows")]).unwrap();
        assert_eq!(std::fs::read_to_string(path("rows")).unwrap(), "{\"x\":1}\n{\"x\":2}\n");

        // A query that fails half-way leaves what was there.
        let failing = fake::Script { query_error: Some("half-way".to_owned()), ..script() };
        let error = run_against(failing, &["query", "SELECT", "--format", "csv", "-o", &path("rows")]).unwrap_err();
        assert_eq!(error.message(), "half-way");
        assert!(std::fs::read_to_string(path("rows")).unwrap().starts_with('{'));

        std::fs::write(path("a.csv"), "a,b\n1,2\n\"bad\n3,4\n").unwrap();
        run_against(script(), &["ingest", &path("rows"), "--table", "t", "--quiet"]).unwrap();
        let error = run_against(script(), &["ingest", &path("a.csv"), "--table", "t", "--json"]).unwrap_err();
        assert!(error.message().ends_with("a.csv:3: a quoted field is not closed"), "{error}");
        let error =
            run_against(script(), &["ingest", &path("rows"), &path("none"), "--table", "t", "--atomic"]).unwrap_err();
        assert!(error.message().ends_with("none: no such file or directory"), "{error}");
        let error = run_against(script(), &["ingest", &path("rows"), "--table", "t", "--skip-bad", &path("rows")]);
        assert!(error.unwrap_err().message().contains("--skip-bad would overwrite"));

        run_against(script(), &["tables", "--json"]).unwrap();
        run_against(script(), &["drop", "missing", "--if-exists", "--yes"]).unwrap();
        let error = run_against(script(), &["drop", "missing", "--yes"]).unwrap_err();
        assert_eq!(error.message(), "table `missing` is not there");
    }

    #[test]
    fn forgotten_quotes_are_told() {
        let words = ["merganser", "query", "SELECT", "*", "FROM", "t"];
        let error = parse(words.iter().map(OsString::from)).unwrap_err().to_string();
        assert!(error.contains("the SQL came as 4 words: put all of it in quotes"), "{error}");
    }

    /// The lines of a command's help that show how it is called.
    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        help.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
    }

    /// The arguments of the program in a line of a shell, which may have other programs, files and variables beside it.
    fn arguments(line: &str) -> Vec<OsString> {
        let words = shell::words(line).unwrap();
        let begin = words.iter().position(|word| word == "merganser").unwrap();
        let ends = |word: &&String| !matches!(word.as_str(), "|" | "<" | ">");
        words[begin..].iter().take_while(ends).map(OsString::from).collect()
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut command = Cli::command();
        command.build();
        for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let name = subcommand.get_name();
            let examples = examples(subcommand);
            assert!((2..=5).contains(&examples.len()), "{name} has {} examples", examples.len());
            assert!(examples.iter().any(|line| line.contains(&format!("merganser {name}"))), "{name}: {examples:?}");
            for line in examples {
                if let Err(error) = parse(arguments(&line).into_iter()) {
                    panic!("{name}: {line}: {error}");
                }
            }
        }
    }

    #[test]
    fn help_lines_have_one_voice() {
        let mut command = Cli::command();
        command.build();
        let nested = command.get_subcommands().flat_map(clap::Command::get_subcommands);
        for subcommand in command.get_subcommands().chain(nested).filter(|command| command.get_name() != "help") {
            let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about:?}", subcommand.get_name());
            for argument in subcommand.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty() && !help.ends_with('.'), "{}: {help:?}", argument.get_id());
            }
        }
    }
}
