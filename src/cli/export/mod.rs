//! `merganser export`: writes the rows of a table or a query to a file on this side, in bounded memory.
//!
//! The rows of a query become a file in three steps, which `\copy` of the shell takes as well: [`Encoding::of`] tells from the file's
//! name what is written, a [`Target`] is the file, which is there when it is complete, and [`write`] writes the rows: one thread
//! encodes while the next rows arrive.

mod encoding;
mod progress;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::client::{Client, Rows, ServerArgs};
use super::ingest::progress::rate;
use super::interrupt::unless_interrupted;
use super::output::{self, Existing, Target, thousands};
use crate::error::{Error, Result};

pub(super) use encoding::{Encoding, Format};
pub(super) use progress::{Meter, Progress};
pub(super) use writer::write;

/// The name that means stdout.
const STDOUT: &str = "-";

/// Write a table or a query to a file
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Write a table or a query to a file\n\n\
    The file is written on this side, as rows arrive: memory does not grow with their number. It appears when it is complete; an \
    export that fails or is interrupted leaves what was there. The format is told by the name's ending: .parquet, .csv, .ndjson, \
    .arrow (an IPC file), .arrows (an IPC stream); .gz or .zst behind it compresses text. JSON columns are embedded as JSON in \
    NDJSON, and are of the type JSON in Parquet and Arrow. `merganser ingest` reads all of them",
    after_long_help = "Examples:\n  \
    merganser export events --output events.parquet\n  \
    merganser export events --output events.ndjson.zst --replace\n  \
    merganser export --query \"FROM events WHERE event_name = 'Purchase'\" --output purchases.csv\n  \
    merganser export events --output - --format ndjson | jq .properties.plan"
)]
pub(super) struct Args {
    /// Table or view to write
    #[arg(required_unless_present = "query", conflicts_with = "query")]
    table: Option<String>,

    /// Write the rows of this SQL statement
    #[arg(long, value_name = "SQL")]
    query: Option<String>,

    /// Write to this file; `-` is stdout
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Write the rows in this format; told by the file's name if not given
    #[arg(long, short, value_enum)]
    format: Option<Format>,

    /// Put the file in the place of one that is there
    #[arg(long)]
    replace: bool,

    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let encoding = Encoding::of(&args.output, args.format)?;
    let is_stdout = args.output == Path::new(STDOUT);
    if is_stdout && encoding.is_binary() && output::stdout_is_terminal() {
        return Err(Error::invalid("a terminal cannot show this format: give --output FILE, or redirect stdout"));
    }
    let existing = if args.replace { Existing::Replace } else { Existing::Keep };
    let target = if is_stdout { None } else { Some(Target::open(&args.output, existing)?) };

    let meter = Meter::default();
    let work = async {
        let (rows, total) = open(&args).await?;
        let hidden = args.quiet || (is_stdout && output::stdout_is_terminal());
        let progress = Progress::new(meter.clone(), total, hidden);
        let out = match &target {
            Some(target) => target.writer()?,
            None => output::stdout(),
        };
        write(rows, encoding, out, &progress).await
    };
    unless_interrupted(work).await?;
    let Some(target) = target else { return Ok(()) };
    target.keep()?;
    if args.quiet {
        return Ok(());
    }
    output::print(&summary(&args.output, &meter, started.elapsed().as_secs_f64()))
}

/// The rows that are wanted, and their number, if it is known.
async fn open(args: &Args) -> Result<(Rows, Option<u64>)> {
    let mut client = Client::connect(&args.server).await?;
    match (&args.table, &args.query) {
        (Some(table), _) => {
            let (ticket, total) = client.table(table).await?;
            Ok((client.get(ticket).await?, total))
        }
        (None, query) => Ok((client.query(query.clone().unwrap_or_default()).await?, None)),
    }
}

fn summary(path: &Path, meter: &Meter, seconds: f64) -> String {
    let (rows, bytes) = meter.read();
    format!(
        "{}: {} row{}, {} in {seconds:.1} s ({} rows/s)",
        path.display(),
        thousands(rows),
        if rows == 1 { "" } else { "s" },
        output::bytes(bytes),
        thousands(rate(rows, seconds)),
    )
}
