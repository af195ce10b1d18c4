//! The arguments of `merganser ingest`: what they mean on the wire, and what is said at the end.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;
use uuid::Uuid;

use super::Imported;
use super::inputs::ReadOptions;
use super::ledger::Skipped;
use super::progress::rate;
use super::source::FormatArg;
use crate::cli::client::ServerArgs;
use crate::cli::output::{self, thousands};
use crate::error::{Error, Result};
use crate::proto::v1::{Commit, ExtraColumns, Ingest, IngestMetadata, IngestMode, OnDuplicate, Progress, TableKind};
use crate::tables::Kind;

/// Rows in a batch, at most; more make the server's answer coarser and gain nothing.
const BATCH_ROWS_MAX: u32 = 1 << 20;

/// Files that are stored at the same time, unless the user says otherwise, and at most.
const JOBS: u8 = 2;
const JOBS_MAX: i64 = 16;

/// Import files into a table
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Import files into a table\n\n\
    A FILE is a name, a pattern like 'logs/**/*.gz' (in quotes, or the shell reads it), or a directory, of which all files are \
    read whose names end in .ndjson, .jsonl, .json, .csv, .parquet, .arrow, .arrows, .feather or .ipc, compressed or not.\n\n\
    Each file is stored as a whole or not at all. Of several, each is stored by itself: a bad one is told with its line, and the \
    others are stored all the same. A load that is interrupted, or whose server is lost, goes on where it was when the same \
    command runs again: no file is stored twice. With --atomic, and in the modes create and replace, all files are stored or none. \
    Importing the same events again adds nothing, for their insert_id is the table's key.\n\n\
    Formats, each plain, gzip or zstd (told by content): Mixpanel exports of events and of profiles, JSON lines, CSV with a \
    header, Parquet, Arrow IPC files and streams. Exports fill the columns of their kind and keep all other properties byte for \
    byte; an event without $insert_id gets one derived from its content: a UUID of its name, time, distinct_id and properties. JSON \
    lines and CSV are read by the names of their \
    columns; for a plain table their types are told from the first MiB",
    after_long_help = "Examples:\n  \
    merganser ingest events.ndjson.gz --table events\n  \
    merganser ingest exports/ --table events\n  \
    merganser ingest 'exports/2024-*/*.gz' --table events --jobs 4\n  \
    merganser ingest people.csv --table people --kind profiles --on-duplicate replace\n  \
    zcat events.ndjson.gz | merganser ingest - --table events"
)]
pub(in crate::cli) struct Args {
    /// Files, directories or patterns to import; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,

    /// Import into this table
    #[arg(long, short, value_name = "NAME")]
    table: String,

    /// Make it a table of this kind; told by the format and the columns if not given
    #[arg(long, value_enum)]
    kind: Option<KindArg>,

    /// Do this with the table
    #[arg(long, value_enum, default_value_t = ModeArg::CreateAppend)]
    mode: ModeArg,

    /// Do this with a row whose key is already stored; skip, if not given
    #[arg(long, value_enum)]
    on_duplicate: Option<OnDuplicateArg>,

    /// Read the files in this format
    #[arg(long, short, value_enum, default_value_t = FormatArg::Auto)]
    format: FormatArg,

    /// Do this with columns that the kind does not have; refuse, if not given
    #[arg(long, value_enum)]
    extra: Option<ExtraArg>,

    /// Write bad lines to this file and go on, instead of failing at the first one
    #[arg(long, value_name = "FILE")]
    pub(super) skip_bad: Option<PathBuf>,

    /// Store all files or none, as one stream
    #[arg(long, conflicts_with = "jobs")]
    atomic: bool,

    /// Store so many files at the same time, 2 if not given; which of two equal rows comes first is open then
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=JOBS_MAX))]
    jobs: Option<u8>,

    /// Send at most this many rows in a batch
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = clap::value_parser!(u32).range(1..=i64::from(BATCH_ROWS_MAX)))]
    batch_size: u32,

    /// Note when the data was fetched, like 2024-01-31T12:00:00Z; now, if not given
    #[arg(long, value_name = "TIME", help_heading = "Metadata")]
    fetched_at: Option<Timestamp>,

    /// Note the first day of the data, like 2024-01-01
    #[arg(long, value_name = "DATE", help_heading = "Metadata")]
    from_date: Option<Date>,

    /// Note the last day of the data
    #[arg(long, value_name = "DATE", help_heading = "Metadata")]
    to_date: Option<Date>,

    /// Note an event name that the data was limited to; repeat it for more
    #[arg(long, value_name = "NAME", help_heading = "Metadata")]
    filter_event: Vec<String>,

    /// Note the expression that the data was filtered by
    #[arg(long, value_name = "EXPRESSION", help_heading = "Metadata")]
    filter_where: Option<String>,

    /// Print nothing but errors
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// Print the summary as JSON, and no progress bar
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KindArg {
    /// Product events, one for each insert_id
    Events,
    /// User profiles, one for each distinct_id
    Profiles,
    /// Plain table with the files' columns
    Table,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum ModeArg {
    /// Make a new table; fail if it is there
    Create,
    /// Add to a table; fail if it is not there
    Append,
    /// Add to the table, or make it
    CreateAppend,
    /// Put the rows in the table's place, at once
    Replace,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OnDuplicateArg {
    /// Keep the first row, and count the others
    Skip,
    /// Keep the last row
    Replace,
    /// Fail, and store nothing
    Error,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ExtraArg {
    /// Fail, naming the column
    Refuse,
    /// Keep them in the properties
    Properties,
}

impl Args {
    /// The same, into this server.
    pub(in crate::cli) fn at(self, server: ServerArgs) -> Self {
        Self { server, ..self }
    }

    /// How the files are read.
    pub(super) fn read_options(&self) -> ReadOptions {
        ReadOptions {
            format: self.format,
            kind: self.kind.map(|kind| match kind {
                KindArg::Events => Kind::Events,
                KindArg::Profiles => Kind::Profiles,
                KindArg::Table => Kind::Table,
            }),
            fold: matches!(self.extra, Some(ExtraArg::Properties)),
            skip_bad: self.skip_bad.is_some(),
            batch_rows: self.batch_size as usize,
        }
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    pub(super) fn mode(&self) -> IngestMode {
        match self.mode {
            ModeArg::Create => IngestMode::Create,
            ModeArg::Append => IngestMode::Append,
            ModeArg::CreateAppend => IngestMode::CreateAppend,
            ModeArg::Replace => IngestMode::Replace,
        }
    }

    /// Whether all files are one stream, even if there are several.
    pub(super) fn is_one_stream(&self) -> bool {
        self.atomic || matches!(self.mode, ModeArg::Create | ModeArg::Replace)
    }

    /// Files that are stored at the same time.
    pub(super) fn jobs(&self) -> Result<usize> {
        match (self.on_duplicate, self.jobs) {
            // The last row of a key stays: the order of the files counts.
            (Some(OnDuplicateArg::Replace), None | Some(1)) => Ok(1),
            (Some(OnDuplicateArg::Replace), Some(_)) => Err(Error::invalid(
                "with --on-duplicate replace the last row stays, so files are stored one after the other: leave --jobs out",
            )),
            (_, jobs) => Ok(usize::from(jobs.unwrap_or(JOBS))),
        }
    }

    /// What makes two commands the same load.
    pub(super) fn key(&self) -> Result<String> {
        let here = std::env::current_dir().map_err(|error| {
            Error::invalid(format!("cannot tell the current directory: {}", output::reason(&error)))
        })?;
        let files: Vec<PathBuf> = self.files.iter().map(|file| here.join(file)).collect();
        let how = (self.mode, self.kind, self.format, self.on_duplicate, self.extra);
        Ok(format!("{:?}", (&self.server.server, self.table.to_lowercase(), how, files)))
    }

    /// The command of the stream, under an id of its own.
    pub(super) fn command(&self, kind: Option<Kind>) -> Ingest {
        // What is not given stays unset: a plain table has no duplicates, and no server has to hear that they are skipped.
        let on_duplicate = match self.on_duplicate {
            None => OnDuplicate::Unspecified,
            Some(OnDuplicateArg::Skip) => OnDuplicate::Skip,
            Some(OnDuplicateArg::Replace) => OnDuplicate::Replace,
            Some(OnDuplicateArg::Error) => OnDuplicate::Error,
        };
        let extra = match self.extra {
            None => ExtraColumns::Unspecified,
            Some(ExtraArg::Refuse) => ExtraColumns::Refuse,
            Some(ExtraArg::Properties) => ExtraColumns::Properties,
        };
        Ingest {
            kind: kind.map_or(TableKind::Unspecified, TableKind::from).into(),
            table: self.table.clone(),
            mode: self.mode().into(),
            on_duplicate: on_duplicate.into(),
            metadata: self.metadata(),
            ingest_id: Some(Uuid::now_v7().to_string()),
            commit: Commit::Explicit.into(),
            progress: Progress::Interval.into(),
            extra: extra.into(),
        }
    }

    fn metadata(&self) -> Option<IngestMetadata> {
        let metadata = IngestMetadata {
            fetched_at: self
                .fetched_at
                .map(|time| prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }),
            from_date: self.from_date.map(|date| date.to_string()),
            to_date: self.to_date.map(|date| date.to_string()),
            filter_events: self.filter_event.clone(),
            filter_where: self.filter_where.clone(),
        };
        (metadata != IngestMetadata::default()).then_some(metadata)
    }

    /// Says what became of the import.
    pub(super) fn report(&self, imported: &Imported, seconds: f64) -> Result<()> {
        let Imported { result, skipped } = imported;
        if self.json {
            return output::print_json(&json!({
                "table": self.table,
                "rows_received": result.rows_received,
                "rows_inserted": result.rows_inserted,
                "rows_duplicate": result.rows_duplicate,
                "rows_replaced": result.rows_replaced,
                "bytes_received": result.bytes_received,
                "bad_lines": skipped.lines,
                "seconds": seconds,
            }));
        }
        if self.quiet {
            return Ok(());
        }
        self.tell_skipped(skipped);
        output::print(&self.summary(imported, seconds))
    }

    /// Says that lines were set aside.
    pub(super) fn tell_skipped(&self, skipped: &Skipped) {
        if let (true, Some(path)) = (skipped.lines > 0, &self.skip_bad) {
            let lines = if skipped.lines == 1 { "1 bad line is" } else { "bad lines are" };
            let count = if skipped.lines == 1 { String::new() } else { thousands(skipped.lines) + " " };
            output::warn(&format!("{count}{lines} in {}; the first is {}", path.display(), skipped.first));
        }
    }

    fn summary(&self, imported: &Imported, seconds: f64) -> String {
        let result = &imported.result;
        let replaced = match result.rows_replaced {
            0 => String::new(),
            rows => format!(", {} replaced", thousands(rows)),
        };
        format!(
            "{}: {} received, {} inserted, {}{replaced} in {seconds:.1} s ({} rows/s)",
            self.table,
            counted(result.rows_received, "row"),
            thousands(result.rows_inserted),
            counted(result.rows_duplicate, "duplicate"),
            thousands(rate(result.rows_received, seconds)),
        )
    }
}

/// `count` of what `noun` names.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::ingest::ledger::Skipped;
    use crate::proto::v1::IngestResult;

    #[derive(Parser)]
    struct Outer {
        #[command(flatten)]
        args: Args,
    }

    fn args(arguments: &[&str]) -> Args {
        let all = ["ingest", "a.ndjson", "--table", "events"].iter().chain(arguments);
        Outer::try_parse_from(all).unwrap().args
    }

    #[test]
    fn flags_become_the_command() {
        let command = args(&[]).command(None);
        assert_eq!(command.table, "events");
        assert_eq!((command.kind(), command.mode()), (TableKind::Unspecified, IngestMode::CreateAppend));
        assert_eq!((command.on_duplicate(), command.commit()), (OnDuplicate::Unspecified, Commit::Explicit));
        assert_eq!(command.metadata, None);
        assert_ne!(command.ingest_id, args(&[]).command(None).ingest_id);
        let id: Uuid = command.ingest_id.unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);

        let command = args(&[
            "--mode=create_append",
            "--on-duplicate=replace",
            "--extra=properties",
            "--from-date=2024-01-01",
            "--to-date=2024-01-31",
            "--filter-event=a",
            "--filter-event=b",
            "--filter-where=x > 1",
            "--fetched-at=2024-02-01T00:00:00.5Z",
        ])
        .command(Some(Kind::Profiles));
        assert_eq!((command.kind(), command.on_duplicate()), (TableKind::Profiles, OnDuplicate::Replace));
        assert_eq!(command.extra(), ExtraColumns::Properties);
        let metadata = command.metadata.unwrap();
        assert_eq!(metadata.from_date.as_deref(), Some("2024-01-01"));
        assert_eq!(metadata.filter_events, ["a", "b"]);
        assert_eq!(metadata.fetched_at.unwrap().to_string(), "2024-02-01T00:00:00.500Z");
    }

    #[test]
    fn files_are_stored_at_once_unless_their_order_counts() {
        assert_eq!(args(&[]).jobs().unwrap(), 2);
        assert_eq!(args(&["--jobs=7"]).jobs().unwrap(), 7);
        assert_eq!(args(&["--on-duplicate=replace"]).jobs().unwrap(), 1);
        assert!(args(&["--on-duplicate=replace", "-j2"]).jobs().is_err());
        let all = ["ingest", "a", "--table", "t", "--atomic", "--jobs", "2"];
        assert!(Outer::try_parse_from(all).is_err());
        assert!(args(&["--atomic"]).is_one_stream() && args(&["--mode=replace"]).is_one_stream());
        assert!(!args(&[]).is_one_stream());
    }

    #[test]
    fn the_same_command_is_the_same_load() {
        assert_eq!(args(&[]).key().unwrap(), args(&["--jobs=1", "--quiet"]).key().unwrap());
        for other in ["--kind=table", "--mode=append", "--format=csv", "--server=grpc://x"] {
            assert_ne!(args(&[]).key().unwrap(), args(&[other]).key().unwrap(), "{other}");
        }
    }

    #[test]
    fn the_summary_is_one_line() {
        let result = IngestResult { rows_received: 62_189, rows_duplicate: 62_189, ..IngestResult::default() };
        let mut imported = Imported { result, skipped: Skipped::default() };
        assert_eq!(
            args(&[]).summary(&imported, 0.5),
            "events: 62,189 rows received, 0 inserted, 62,189 duplicates in 0.5 s (124,378 rows/s)"
        );
        imported.result.rows_replaced = 7;
        assert!(args(&[]).summary(&imported, 0.5).contains("duplicates, 7 replaced in"));
        imported.result = IngestResult { rows_received: 1, rows_duplicate: 1, ..IngestResult::default() };
        assert_eq!(
            args(&[]).summary(&imported, 0.5),
            "events: 1 row received, 0 inserted, 1 duplicate in 0.5 s (2 rows/s)"
        );
    }
}
