//! `merganser ingest`: streams files or stdin into a table; each stream is stored as a whole or not at all.
//!
//! One file is one stream, and so are several that are to be stored all or none. Else each of several files is a stream of its own
//! (`load.rs`), and what is stored is noted (`journal.rs`).
//!
//! A thread reads, decompresses and parses; what it makes goes through a short queue to the task that sends it, and that hears the
//! server's answers meanwhile. The last message is the commit: when a file turns out bad half-way, the stream ends without it, and
//! nothing is stored.

mod args;
mod buffered;
mod checked;
mod csv;
mod files;
mod inputs;
mod ipc;
mod journal;
mod ledger;
mod lines;
mod load;
pub(super) mod managed;
mod members;
mod mixpanel;
mod ndjson;
mod parquet;
pub(super) mod progress;
mod report;
mod skip_bad;
mod source;
mod text;
mod time;
pub(super) mod upload;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use directories::BaseDirs;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use self::inputs::Inputs;
use self::ledger::{Ledger, RowMap, Skipped};
use self::progress::Progress;
use self::upload::{Answer, Upload};
use super::client::Client;
use super::output;
use crate::error::{Error, Result};
use crate::proto::v1::{Ingest, IngestResult};

pub(super) use args::Args;

/// Batches that are parsed and not yet sent.
const QUEUE_BATCHES: usize = 4;
/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(100);
/// How long the server may take to answer a stream that ended without its commit.
const GRACE: Duration = Duration::from_secs(10);

/// What reads batches of one input.
trait Batches: Send {
    /// The columns.
    fn schema(&self) -> SchemaRef;

    /// The next batch; `None` at the end. Where its rows came from is written into the ledger.
    fn next(&mut self, ledger: &mut Ledger) -> Result<Option<RecordBatch>>;

    /// How much is done and how much there is, in some unit, if that is known.
    fn parts(&self) -> Option<(u64, u64)> {
        None
    }
}

/// What became of an import.
#[derive(Debug)]
struct Imported {
    result: IngestResult,
    skipped: Skipped,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let found = files::find(&args.files)?;
    refuse_overwriting(args.skip_bad.as_deref(), &found.files)?;
    if found.is_set && !args.is_one_stream() {
        if found.files.iter().any(|file| source::is_stdin(file)) {
            return Err(Error::invalid("stdin (`-`) is imported alone, or together with files by --atomic"));
        }
        let state = BaseDirs::new()
            .map(|base| base.state_dir().unwrap_or(base.data_local_dir()).join("merganser").join("ingest"));
        return load::run(&args, found, state.as_deref()).await;
    }
    if let Some(line) = found.passed_over().filter(|_| !args.quiet) {
        output::warn(&line);
    }
    let bytes_read = Arc::new(AtomicU64::new(0));
    let inputs = Inputs::open(found.files.clone(), args.read_options(), Arc::clone(&bytes_read))?;
    let command = args.command(inputs.kind());
    let client = Client::connect(&args.server).await?;

    let mut progress = Progress::new(bytes_read, bytes_total(&found.files), args.quiet || args.json);
    let imported = import(&client, command, inputs, args.skip_bad.as_deref(), &mut progress).await;
    progress.clear();
    args.report(&imported?, started.elapsed().as_secs_f64())
}

/// The bad lines' file must not be one that is read.
fn refuse_overwriting(skip_bad: Option<&Path>, files: &[PathBuf]) -> Result<()> {
    let Some(target) = skip_bad.and_then(|skip_bad| skip_bad.canonicalize().ok()) else { return Ok(()) };
    match files.iter().find(|file| file.canonicalize().is_ok_and(|file| file == target)) {
        Some(file) => Err(Error::invalid(format!("--skip-bad would overwrite {}, which is read", file.display()))),
        None => Ok(()),
    }
}

/// Bytes of all files; unknown if one is a pipe.
fn bytes_total(files: &[PathBuf]) -> Option<u64> {
    let size = |file: &PathBuf| {
        let metadata = if source::is_stdin(file) { None } else { std::fs::metadata(file).ok() };
        metadata.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    };
    files.iter().map(size).sum()
}

/// Streams the inputs to the server.
async fn import(
    client: &Client,
    command: Ingest,
    inputs: Inputs,
    skip_bad: Option<&Path>,
    progress: &mut Progress,
) -> Result<Imported> {
    let rows = RowMap::default();
    let ledger = Ledger::open(rows.clone(), skip_bad)?;
    let (batch_sender, batches) = mpsc::channel(QUEUE_BATCHES);
    let (commit_sender, commit) = oneshot::channel();
    let (outcome_sender, outcome) = oneshot::channel();
    let upload = Upload { command, schema: Arc::clone(inputs.schema()), batches, commit };

    let counted = rows.clone();
    let read = move || {
        let outcome = read(inputs, ledger, &batch_sender);
        // Receivers that are gone have heard the server's error.
        if outcome.is_ok() {
            let _ = commit_sender.send(counted.rows());
        }
        drop(outcome_sender.send(outcome));
        // Only now, for the end of the batches makes the others look for commit and outcome.
        drop(batch_sender);
    };
    std::thread::Builder::new()
        .name("ingest-read".to_owned())
        .spawn(read)
        .map_err(|error| Error::internal("cannot start a thread").with_source(error))?;
    follow(Box::pin(upload.send(client)), outcome, &rows, progress).await
}

fn read(inputs: Inputs, mut ledger: Ledger, batches: &mpsc::Sender<RecordBatch>) -> Result<Skipped> {
    inputs.read(&mut ledger, |batch| batches.blocking_send(batch).is_ok())?;
    ledger.finish()
}

/// Hears the server and the reading thread until both are done. If both fail, the reading thread has the reason.
async fn follow(
    mut answers: impl Stream<Item = Result<Answer>> + Unpin,
    mut outcome: oneshot::Receiver<Result<Skipped>>,
    rows: &RowMap,
    progress: &mut Progress,
) -> Result<Imported> {
    let died = |_| Error::internal("the thread that reads the files died");
    let mut skipped = None;
    let mut result = None;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            outcome = &mut outcome, if skipped.is_none() => match outcome.map_err(died)? {
                Ok(lines) => skipped = Some(lines),
                Err(error) => {
                    // The stream ends without its commit. The server should see that end, not a connection that breaks.
                    drop(tokio::time::timeout(GRACE, answers.by_ref().count()).await);
                    return Err(error);
                }
            },
            answer = answers.next() => match answer {
                Some(Ok(Answer::Progress(now))) => progress.answered(&now),
                Some(Ok(Answer::Result(stored))) => result = Some(stored),
                Some(Err(error)) => {
                    if let Ok(Err(error)) = outcome.try_recv() {
                        return Err(error);
                    }
                    return Err(Error::new(error.kind(), rows.explain(error.message())).with_source(error));
                }
                None => break,
            },
            _ = ticks.tick() => progress.tick(),
        }
    }
    let skipped = match skipped {
        Some(skipped) => skipped,
        None => outcome.await.map_err(died)??,
    };
    let result = result.ok_or_else(|| Error::internal("the server ended the ingest without a result"))?;
    Ok(Imported { result, skipped })
}
