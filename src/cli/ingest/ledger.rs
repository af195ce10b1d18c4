//! What became of each line: rows of the stream and the lines they came from, and the bad lines that were set aside.
//!
//! A server names a row of the stream when it refuses it; a person wants the file and line. Rows are consecutive but for blank
//! and bad lines, so a run a gap is enough to tell.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::output;
use crate::error::{Error, Result};

/// Runs that are kept, 24 bytes each; rows after the last one are not located.
const RUNS_MAX: usize = 1 << 20;

/// Where the rows of a stream came from. Shared by the thread that reads and the task that hears the server's answer.
#[derive(Clone, Debug, Default)]
pub(super) struct RowMap(Arc<Mutex<Runs>>);

#[derive(Debug, Default)]
struct Runs {
    files: Vec<String>,
    list: Vec<Run>,
    /// Rows so far.
    rows: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The first row of the run; the first row of the stream is 1.
    row: u64,
    /// That row's line, or its number in a file without lines.
    position: u64,
    file: u32,
    is_line: bool,
}

impl RowMap {
    /// Rows of `file` follow.
    fn begin(&self, file: &str) {
        self.with(|runs| runs.files.push(file.to_owned()));
    }

    /// Rows that were on these `lines` of the file follow.
    fn add_lines(&self, lines: &[u64]) {
        self.with(|runs| {
            for line in lines {
                runs.add(*line, 1, true);
            }
        });
    }

    /// `count` rows, from number `first` in the file, follow.
    fn add_rows(&self, first: u64, count: u64) {
        self.with(|runs| runs.add(first, count, false));
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.with(|runs| runs.rows)
    }

    /// Where `row` came from: `file:line`, or `file row 5` if the file has no lines.
    pub(super) fn locate(&self, row: u64) -> Option<String> {
        self.with(|runs| {
            let index = runs.list.partition_point(|run| run.row <= row).checked_sub(1)?;
            let run = runs.list.get(index).filter(|_| row <= runs.rows)?;
            if index + 1 == RUNS_MAX {
                return None;
            }
            let file = runs.files.get(run.file as usize)?;
            let position = run.position + (row - run.row);
            Some(if run.is_line { format!("{file}:{position}") } else { format!("{file} row {position}") })
        })
    }

    /// `message` with the place behind each `row N` of the stream that it names.
    pub(super) fn explain(&self, message: &str) -> String {
        let mut text = String::with_capacity(message.len());
        let mut rest = message;
        while let Some(at) = rest.find("row ") {
            let (before, after) = rest.split_at(at + "row ".len());
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            text.push_str(before);
            text.push_str(&after[..digits]);
            let is_word = !before[..at].ends_with(|c: char| c.is_alphanumeric());
            let place = after[..digits].parse().ok().filter(|_| is_word).and_then(|row| self.locate(row));
            if let Some(place) = place {
                text.extend([" (", &place, ")"]);
            }
            rest = &after[digits..];
        }
        text + rest
    }

    fn with<T>(&self, work: impl FnOnce(&mut Runs) -> T) -> T {
        // A thread that panicked while it held the lock left at worst a run too few.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Runs {
    fn add(&mut self, position: u64, count: u64, is_line: bool) {
        let row = self.rows + 1;
        self.rows += count;
        let file = u32::try_from(self.files.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let continues = self.list.last().is_some_and(|run| {
            run.file == file && run.is_line == is_line && run.position + (row - run.row) == position
        });
        if !continues && self.list.len() < RUNS_MAX {
            self.list.push(Run { row, position, file, is_line });
        }
    }
}

/// What the reading thread writes down.
#[derive(Debug)]
pub(super) struct Ledger {
    rows: RowMap,
    file: String,
    skip: Option<Skip>,
}

/// Bad lines that were set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) lines: u64,
    /// The first one: where it is and why it is bad.
    pub(super) first: String,
}

#[derive(Debug)]
struct Skip {
    path: PathBuf,
    file: BufWriter<File>,
    skipped: Skipped,
}

impl Ledger {
    /// A ledger that writes bad lines to `skip_bad`; without it, the first bad line is an error.
    pub(super) fn open(rows: RowMap, skip_bad: Option<&Path>) -> Result<Self> {
        let skip = match skip_bad {
            None => None,
            Some(path) => {
                let file =
                    File::create(path).map_err(|error| output::write_error(&path.display().to_string(), error))?;
                Some(Skip { path: path.to_owned(), file: BufWriter::new(file), skipped: Skipped::default() })
            }
        };
        Ok(Self { rows, file: String::new(), skip })
    }

    /// Rows of `file` follow.
    pub(super) fn begin(&mut self, file: &str) {
        file.clone_into(&mut self.file);
        self.rows.begin(file);
    }

    /// Rows that were on these `lines` of the file follow.
    pub(super) fn add_lines(&mut self, lines: &[u64]) {
        self.rows.add_lines(lines);
    }

    /// `count` rows, from number `first` in the file, follow.
    pub(super) fn add_rows(&mut self, first: u64, count: u64) {
        self.rows.add_rows(first, count);
    }

    /// A bad line: an error, or set aside.
    pub(super) fn bad_line(&mut self, line: u64, text: &[u8], reason: &str) -> Result<()> {
        let message = format!("{}:{line}: {reason}", self.file);
        let Some(skip) = &mut self.skip else { return Err(Error::invalid(message)) };
        if skip.skipped.lines == 0 {
            skip.skipped.first = message;
        }
        skip.skipped.lines += 1;
        skip.file
            .write_all(text)
            .and_then(|()| skip.file.write_all(b"\n"))
            .map_err(|error| output::write_error(&skip.path.display().to_string(), error))
    }

    /// Ends the reading; tells what was set aside.
    pub(super) fn finish(self) -> Result<Skipped> {
        let Some(mut skip) = self.skip else { return Ok(Skipped::default()) };
        skip.file.flush().map_err(|error| output::write_error(&skip.path.display().to_string(), error))?;
        Ok(skip.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_located() {
        let rows = RowMap::default();
        rows.begin("a.ndjson");
        rows.add_lines(&[1, 2, 4, 5]);
        rows.begin("b.parquet");
        rows.add_rows(1, 10);
        rows.add_rows(11, 10);
        rows.begin("c.csv");
        rows.add_lines(&[2]);
        for (row, place) in [
            (1, "a.ndjson:1"),
            (2, "a.ndjson:2"),
            (3, "a.ndjson:4"),
            (4, "a.ndjson:5"),
            (5, "b.parquet row 1"),
            (24, "b.parquet row 20"),
            (25, "c.csv:2"),
        ] {
            assert_eq!(rows.locate(row).as_deref(), Some(place), "{row}");
        }
        assert_eq!(rows.locate(0), None);
        assert_eq!(rows.locate(26), None);
        assert_eq!(rows.with(|runs| runs.list.len()), 4);
        let message = "row 3: event_time is null; row 25: malformed JSON; arrow 3; row x; 12 rows";
        let wanted =
            "row 3 (a.ndjson:4): event_time is null; row 25 (c.csv:2): malformed JSON; arrow 3; row x; 12 rows";
        assert_eq!(rows.explain(message), wanted);
    }

    #[test]
    fn bad_lines_are_errors_or_set_aside() {
        let mut ledger = Ledger::open(RowMap::default(), None).unwrap();
        ledger.begin("a.csv");
        assert_eq!(ledger.bad_line(7, b"x", "too few").unwrap_err().message(), "a.csv:7: too few");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad");
        let mut ledger = Ledger::open(RowMap::default(), Some(&path)).unwrap();
        ledger.begin("a.csv");
        ledger.bad_line(7, b"x\xff", "too few").unwrap();
        ledger.bad_line(9, b"y", "too many").unwrap();
        let wanted = Skipped { lines: 2, first: "a.csv:7: too few".to_owned() };
        assert_eq!(ledger.finish().unwrap(), wanted);
        assert_eq!(std::fs::read(&path).unwrap(), b"x\xff\ny\n");
    }
}
