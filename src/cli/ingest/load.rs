//! Many files into one table: each is a stream of its own, some at a time, and what is stored stays stored. A load that is broken
//! off goes on where it was when the same command runs again: the [journal](super::journal) knows what is stored.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use tokio::sync::Mutex;

use super::args::Args;
use super::files::Found;
use super::inputs::{Inputs, Template};
use super::journal::Journal;
use super::progress::Progress;
use super::report::Report;
use super::skip_bad::SkipBad;
use super::{Imported, import};
use crate::cli::client::Client;
use crate::cli::interrupt::interrupted;
use crate::cli::output::{self, thousands};
use crate::error::{Error, ErrorKind, Result};
use crate::proto::v1::{IngestMode, IngestResult, TableMetadata, TableRequest};

/// How long to wait for a server that is away, time after time, before the load is broken off.
const WAITS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// When so many files fail and none is stored, the others will do no better.
const FAILED_FIRST_MAX: usize = 20;

/// What became of one file.
pub(super) enum Outcome {
    Stored(Imported),
    /// An earlier run of the load has stored it.
    StoredBefore,
    /// It is bad, and nothing of it is stored.
    Failed(String),
}

/// One command on its way.
struct Load<'a> {
    args: &'a Args,
    client: Client,
    template: Template,
    skip_bad: Option<SkipBad>,
    journal: Mutex<Journal>,
    progress: Progress,
}

/// What the table is before the load, or while it goes on.
struct Table {
    rows: Option<u64>,
    /// Not told of plain tables.
    created_at: Option<String>,
}

pub(super) async fn run(args: &Args, found: Found, state: Option<&Path>) -> Result<()> {
    let started = Instant::now();
    let jobs = args.jobs()?;
    let client = Client::connect(&args.server).await?;
    let mut journal = open_journal(state, &args.key()?)?;
    let table = look(&client, args.table()).await?;
    check_journal(&mut journal, table.as_ref(), args.table())?;
    if let Some(line) = found.passed_over().filter(|_| !args.quiet) {
        output::warn(&line);
    }
    let files = found.files;
    let load = Load {
        args,
        client,
        template: Template::of(&files, args.read_options()),
        skip_bad: args.skip_bad.as_deref().map(|path| SkipBad::open(path, journal.files() > 0)).transpose()?,
        journal: Mutex::new(journal),
        progress: Progress::new(Arc::default(), super::bytes_total(&files), args.quiet || args.json)
            .over_files(files.len()),
    };

    let mut report = Report::new(args, files.len());
    let done = tokio::select! {
        done = load.store_all(&files, table.is_some(), jobs, &mut report) => done,
        () = interrupted() => Err(Error::cancelled("interrupted")),
    };
    load.progress.clear();
    let Load { journal, skip_bad, .. } = load;
    let journal = journal.into_inner();
    let stored = files.iter().filter(|path| journal.is_stored(journal.id(path))).count();
    let rest = || {
        let (stored, all) = (thousands(stored as u64), thousands(files.len() as u64));
        format!("{stored} of {all} files are stored; the same command again goes on with the others")
    };
    if let Some(skip_bad) = skip_bad {
        report.skipped = skip_bad.finish()?;
    }
    report.print(started.elapsed().as_secs_f64())?;
    match done {
        Err(error) => Err(Error::new(error.kind(), format!("{}: {}", error.message(), rest())).with_source(error)),
        Ok(()) if report.failed > 0 => Err(Error::invalid(rest())),
        Ok(()) => journal.finish(),
    }
}

/// The journal; one that is not kept where it cannot be.
fn open_journal(state: Option<&Path>, key: &str) -> Result<Journal> {
    match Journal::open(state, key) {
        Err(error) if error.kind() == ErrorKind::ResourceExhausted => {
            output::warn(&format!("{}: if this load is broken off, it will begin anew", error.message()));
            Journal::open(None, key)
        }
        opened => opened,
    }
}

/// What is there under the table's name.
async fn look(client: &Client, table: &str) -> Result<Option<Table>> {
    let mut client = client.clone();
    let rows = match client.table(table).await {
        Ok((_, rows)) => rows,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Table { rows, created_at: created_at(&client, table).await? }))
}

/// When the table was made; none for a plain one.
async fn created_at(client: &Client, table: &str) -> Result<Option<String>> {
    let request = TableRequest { table: table.to_owned() };
    match client.clone().action_once::<TableMetadata>("get_metadata", &request).await {
        Ok(metadata) => Ok(metadata.created_at.map(|time| time.to_string())),
        Err(error) if error.kind() == ErrorKind::FailedPrecondition => Ok(None),
        Err(error) => Err(error),
    }
}

/// A journal is about a table that is there: when that is gone, or another one has its name, all files are to be stored again.
fn check_journal(journal: &mut Journal, table: Option<&Table>, name: &str) -> Result<()> {
    if journal.files() == 0 {
        return Ok(());
    }
    let Some(table) = table else {
        output::warn(&format!("{name} is gone since this load was broken off: it begins anew"));
        return journal.restart();
    };
    match (&table.created_at, journal.created_at()) {
        (Some(now), Some(before)) if now != before => {
            output::warn(&format!("{name} was made anew since this load was broken off: it begins anew"));
            journal.restart()
        }
        // Of a plain table nobody knows when it was made.
        (None, _) if table.rows.is_some_and(|rows| rows < journal.rows_inserted()) => {
            Err(Error::precondition(format!(
                "{name} has {} rows, and this load has stored {} in it before it was broken off: if they are to be stored again, remove {}",
                thousands(table.rows.unwrap_or_default()),
                thousands(journal.rows_inserted()),
                journal.path().unwrap_or(Path::new("the journal")).display()
            )))
        }
        _ => Ok(()),
    }
}

impl Load<'_> {
    /// Stores the files; reports them in their order.
    async fn store_all(&self, files: &[PathBuf], is_there: bool, jobs: usize, report: &mut Report<'_>) -> Result<()> {
        let mut rest = files;
        let mut is_there = is_there;
        // The table is made by the first file that is stored, alone: nobody else could append to it meanwhile.
        while !is_there && let Some((file, others)) = rest.split_first() {
            rest = others;
            let outcome = self.store(file, self.args.mode()).await?;
            is_there = matches!(outcome, Outcome::Stored(_) | Outcome::StoredBefore);
            self.tell(file, outcome, report)?;
        }
        let outcomes = futures::stream::iter(rest)
            .map(|file| async move { (file, self.store(file, IngestMode::Append).await) })
            .buffered(jobs);
        self.tell_all(outcomes, report).await
    }

    async fn tell_all<'f>(
        &self,
        outcomes: impl Stream<Item = (&'f PathBuf, Result<Outcome>)>,
        report: &mut Report<'_>,
    ) -> Result<()> {
        let mut outcomes = std::pin::pin!(outcomes);
        while let Some((file, outcome)) = outcomes.next().await {
            self.tell(file, outcome?, report)?;
        }
        Ok(())
    }

    fn tell(&self, file: &Path, outcome: Outcome, report: &mut Report<'_>) -> Result<()> {
        if let Outcome::Failed(reason) = &outcome {
            self.progress.aside(|| output::warn(reason));
        }
        report.add(file, outcome);
        if report.failed >= FAILED_FIRST_MAX && report.has_stored_none() {
            return Err(Error::invalid(format!("the first {FAILED_FIRST_MAX} files failed")));
        }
        Ok(())
    }

    /// Stores one file, unless that has been done.
    ///
    /// # Errors
    /// What keeps the other files from being stored, too.
    async fn store(&self, file: &Path, mode: IngestMode) -> Result<Outcome> {
        let id = {
            let journal = self.journal.lock().await;
            let id = journal.id(file);
            if journal.is_stored(id) {
                self.progress.passed(file);
                return Ok(Outcome::StoredBefore);
            }
            id
        };
        let mut waits = WAITS.iter();
        loop {
            let error = match self.send(file, id, mode).await {
                Ok(imported) => {
                    self.note(id, file, &imported.result).await?;
                    return Ok(Outcome::Stored(imported));
                }
                Err(error) => error,
            };
            match (error.kind(), waits.next()) {
                // A server that restarts, or that has not yet seen that an earlier run of this load is gone.
                (ErrorKind::Unavailable, Some(wait)) => {
                    if *wait == WAITS[0] {
                        self.progress.aside(|| output::warn(&format!("{}: trying again", error.message())));
                    }
                    tokio::time::sleep(*wait).await;
                }
                (ErrorKind::InvalidArgument | ErrorKind::AlreadyExists | ErrorKind::FailedPrecondition, _) => {
                    self.progress.passed(file);
                    return Ok(Outcome::Failed(reason(file, &error)));
                }
                _ => return Err(error),
            }
        }
    }

    async fn send(&self, file: &Path, id: uuid::Uuid, mode: IngestMode) -> Result<Imported> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let options = self.args.read_options();
        let inputs = Inputs::open_as(&self.template, file.to_owned(), options, Arc::clone(&bytes_read))?;
        let mut command = self.args.command(inputs.kind());
        command.ingest_id = Some(id.to_string());
        command.mode = mode.into();
        let mut progress = self.progress.part(bytes_read);
        let aside = self.skip_bad.as_ref().map(|_| SkipBad::part()).transpose()?;
        let imported = import(&self.client, command, inputs, aside.as_deref(), &mut progress).await?;
        if let (Some(skip_bad), Some(aside)) = (&self.skip_bad, aside) {
            skip_bad.take(&aside, &imported.skipped)?;
        }
        progress.part_is_done();
        Ok(imported)
    }

    /// Notes in the journal that a file is stored, and what is known of the table then.
    async fn note(&self, id: uuid::Uuid, file: &Path, result: &IngestResult) -> Result<()> {
        let mut journal = self.journal.lock().await;
        journal.note_stored(id, file, result.rows_inserted)?;
        if journal.files() == 1
            && journal.created_at().is_none()
            && let Some(created_at) = created_at(&self.client, self.args.table()).await?
        {
            journal.note_table(&created_at)?;
        }
        Ok(())
    }
}

/// What is wrong with a file, with its name.
fn reason(file: &Path, error: &Error) -> String {
    let name = file.display().to_string();
    if error.message().contains(&name) { error.message().to_owned() } else { format!("{name}: {}", error.message()) }
}
