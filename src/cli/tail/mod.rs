//! `merganser tail`: follows a table, and prints rows as they are stored.
//!
//! Rows of a table have numbers, DuckDB's `rowid`, which grow in the order of their commits. So each look asks for the rows after the
//! last one ([`look`]), and for that one, too: if it is not what it was, rows were deleted and the others have moved, or the table was
//! made anew, and the place to go on from is looked for ([`Position`]).

mod look;
mod position;
mod sql;

#[cfg(test)]
mod tests;

use std::time::Duration;

use humantime_serde::re::humantime;

use self::look::Tail;
use super::client::ServerArgs;
use super::interrupt::interrupted;
use super::output::{self, Format};
use crate::error::{Error, ErrorKind, Result};

/// The shortest and the longest time between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_hours(1);
/// The longest time between two tries to reach a server that is away.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// Rows that --lines shows, at most.
const LINES_MAX: i64 = 1_000_000;

/// Follow a table, and print rows as they are stored
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Follow a table, and print rows as they are stored\n\n\
    Rows are printed in the order in which they are stored, each once, until ctrl-c. A row that is replaced is printed again, as it is \
    then; rows that are deleted are not told of. When the server is away, it is tried again, and no row is missed; when the table is \
    dropped, it is waited for, and then followed from its first row on, as is a table that an ingest replaces. If the rows that were \
    printed last are deleted, a line on stderr says that some may be missing",
    after_long_help = "Examples:\n  \
    merganser tail events\n  \
    merganser tail events --lines 10 --format table\n  \
    merganser tail events --since 10m --where \"event_name = 'Purchase'\"\n  \
    merganser tail events | jq -r .properties.country"
)]
pub(super) struct Args {
    /// Table to follow
    table: String,

    /// Begin with the rows whose event_time, or last_seen, is not older than this, like 10m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "lines")]
    since: Option<Duration>,

    /// Begin with this many rows that are there
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(0..=LINES_MAX))]
    lines: Option<u32>,

    /// Print only the rows for which this SQL expression is true
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,

    /// Write the rows in this format
    #[arg(long, short, value_enum, default_value_t = FormatArg::Ndjson)]
    format: FormatArg,

    /// Look for new rows after this time, from 100ms to 1h
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
    interval: Duration,

    #[command(flatten)]
    server: ServerArgs,
}

/// The formats that have no end.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormatArg {
    /// One object a line
    Ndjson,
    /// Comma-separated values with a header
    Csv,
    /// Table for people, one for the rows of each look
    Table,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Ndjson => Self::Ndjson,
            FormatArg::Csv => Self::Csv,
            FormatArg::Table => Self::Table,
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err("not from 100ms to 1h".to_owned())
    }
}

pub(super) async fn run(args: Args) -> Result<()> {
    tokio::select! {
        ended = follow(&args) => ended,
        // That is how it ends well.
        () = interrupted() => Ok(()),
    }
}

/// Follows the table until an error that waiting does not help.
async fn follow(args: &Args) -> Result<()> {
    let mut tail = Tail::start(args).await?;
    let mut away: Option<Duration> = None;
    loop {
        tokio::time::sleep(away.unwrap_or_default().max(args.interval)).await;
        match tail.look().await {
            Ok(()) => {
                if away.take().is_some() {
                    output::warn(&format!("{} is followed again", args.table));
                }
            }
            Err(error) if may_pass(&error) => {
                if away.is_none() {
                    output::warn(&format!("{}: trying again", error.message()));
                }
                away = Some(away.map_or(args.interval, |away| (away * 2).min(AWAY_MAX)));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the same look may go well later.
fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::ResourceExhausted | ErrorKind::DeadlineExceeded)
}
