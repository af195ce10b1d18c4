//! `merganser query`: runs SQL on the server and writes its rows in the format that was asked for, as they arrive.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use super::client::{Client, Rows, ServerArgs};
use super::interrupt::unless_interrupted;
use super::output::{self, Existing, Format, RowWriter, RowWriterOptions, Target};
use crate::error::{Error, Result};

/// Run SQL and print its rows
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Run one SQL statement on the server and print its rows as they arrive\n\n\
    Every format but `table` streams: memory does not grow with the result. JSON columns are embedded as JSON in `json` and \
    `ndjson`. A file given by --output appears when the result is complete, and not before",
    after_long_help = "Examples:\n  \
    merganser query \"SELECT 42 AS answer\"\n  \
    merganser query \"SELECT properties->>'$.country' AS country, count(*) AS n FROM events GROUP BY ALL\"\n  \
    merganser query \"FROM events\" --format parquet --output events.parquet\n  \
    merganser query --format ndjson < report.sql"
)]
pub(super) struct Args {
    /// SQL to run; `-`, or none with stdin piped, reads it from stdin
    #[arg(value_name = "SQL")]
    sql: Vec<String>,

    /// Write the rows in this format
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Write to this file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Show at most this many rows in a table
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_rows: usize,

    /// Cut a table's cells to this many characters, 0 for none
    #[arg(long, value_name = "N", default_value_t = 60)]
    max_width: usize,

    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    /// What is wrong with the arguments that only all of them tell: a shell has taken the SQL apart.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.sql.len() {
            0 | 1 => Ok(()),
            words => Err(format!("the SQL came as {words} words: put all of it in quotes, like \"SELECT 1\"")),
        }
    }
}

pub(super) async fn run(args: Args) -> Result<()> {
    if args.format.is_binary() && args.output.is_none() && output::stdout_is_terminal() {
        return Err(Error::invalid("a terminal cannot show this format: give --output FILE, or redirect stdout"));
    }
    let sql = read_sql(args.sql.into_iter().next())?;
    let options =
        RowWriterOptions { rows_max: args.max_rows, width_max: args.max_width, ..RowWriterOptions::all(args.format) };
    let rows = Client::connect(&args.server).await?.query(sql).await.map_err(name_the_shell)?;
    let Some(path) = args.output else {
        return write_rows(rows, options, output::stdout()).await;
    };
    let target = Target::open(&path, Existing::Replace)?;
    unless_interrupted(write_rows(rows, options, target.writer()?)).await?;
    target.keep()
}

/// The error, with what runs several statements, if that is what is wrong.
fn name_the_shell(error: Error) -> Error {
    if error.message().starts_with("one statement is expected, several were given") {
        return error.retold(|message| format!("{message}, or to `merganser shell`, which runs all"));
    }
    error
}

fn read_sql(sql: Option<String>) -> Result<String> {
    let sql = match sql {
        Some(sql) if sql != "-" => sql,
        None if io::stdin().is_terminal() => {
            return Err(Error::invalid("no SQL: give it as an argument, or pipe it in"));
        }
        _ => io::read_to_string(io::stdin().lock())
            .map_err(|error| Error::invalid(format!("cannot read the SQL from stdin: {}", output::reason(&error))))?,
    };
    if sql.trim().is_empty() { Err(Error::invalid("no SQL: the text is empty")) } else { Ok(sql) }
}

/// Writes the rows as they arrive.
pub(super) async fn write_rows(mut rows: Rows, options: RowWriterOptions, out: Box<dyn Write + Send>) -> Result<()> {
    let mut writer = RowWriter::new(rows.schema(), options, out)?;
    while let Some(batch) = rows.next().await? {
        writer.write(&batch)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_must_be_there() {
        assert_eq!(read_sql(Some(" \n".to_owned())).unwrap_err().message(), "no SQL: the text is empty");
        assert_eq!(read_sql(Some("SELECT 1".to_owned())).unwrap(), "SELECT 1");
    }
}
