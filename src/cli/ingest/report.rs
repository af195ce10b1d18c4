//! What is said at the end of a load of many files.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{Args, counted};
use super::ledger::Skipped;
use super::load::Outcome;
use super::progress::rate;
use crate::cli::output::{self, thousands};
use crate::error::Result;
use crate::proto::v1::IngestResult;

/// Files that failed and are listed with their reasons; of others only the number is told.
const LISTED_MAX: usize = 1000;

/// Counts of a load.
pub(super) struct Report<'a> {
    args: &'a Args,
    files: usize,
    stored: usize,
    stored_before: usize,
    pub(super) failed: usize,
    listed: Vec<Value>,
    rows: IngestResult,
    pub(super) skipped: Skipped,
}

impl<'a> Report<'a> {
    pub(super) fn new(args: &'a Args, files: usize) -> Self {
        Self {
            args,
            files,
            stored: 0,
            stored_before: 0,
            failed: 0,
            listed: Vec::new(),
            rows: IngestResult::default(),
            skipped: Skipped::default(),
        }
    }

    pub(super) fn add(&mut self, file: &Path, outcome: Outcome) {
        match outcome {
            Outcome::Stored(imported) => {
                self.stored += 1;
                self.rows.rows_received += imported.result.rows_received;
                self.rows.rows_inserted += imported.result.rows_inserted;
                self.rows.rows_duplicate += imported.result.rows_duplicate;
                self.rows.rows_replaced += imported.result.rows_replaced;
                self.rows.bytes_received += imported.result.bytes_received;
            }
            Outcome::StoredBefore => self.stored_before += 1,
            Outcome::Failed(reason) => {
                self.failed += 1;
                if self.listed.len() < LISTED_MAX {
                    self.listed.push(json!({"file": file.display().to_string(), "reason": reason}));
                }
            }
        }
    }

    /// Whether no file of the load is stored.
    pub(super) fn has_stored_none(&self) -> bool {
        self.stored + self.stored_before == 0
    }

    pub(super) fn print(&self, seconds: f64) -> Result<()> {
        if self.args.json {
            return output::print_json(&self.json(seconds));
        }
        if self.args.quiet {
            return Ok(());
        }
        self.args.tell_skipped(&self.skipped);
        output::print(&self.text(seconds))
    }

    fn json(&self, seconds: f64) -> Value {
        json!({
            "table": self.args.table(),
            "files": self.files,
            "files_stored": self.stored,
            "files_stored_before": self.stored_before,
            "files_failed": self.failed,
            "failed": self.listed,
            "rows_received": self.rows.rows_received,
            "rows_inserted": self.rows.rows_inserted,
            "rows_duplicate": self.rows.rows_duplicate,
            "rows_replaced": self.rows.rows_replaced,
            "bytes_received": self.rows.bytes_received,
            "bad_lines": self.skipped.lines,
            "seconds": seconds,
        })
    }

    fn text(&self, seconds: f64) -> String {
        let of_files = |count: usize, what: &str| match count {
            0 => String::new(),
            count => format!(", {} {what}", thousands(count as u64)),
        };
        let replaced = match self.rows.rows_replaced {
            0 => String::new(),
            rows => format!(", {} replaced", thousands(rows)),
        };
        format!(
            "{}: {} of {} stored{}{}; {} received, {} inserted, {}{replaced} in {seconds:.1} s ({} rows/s)",
            self.args.table(),
            thousands(self.stored as u64),
            counted(self.files as u64, "file"),
            of_files(self.stored_before, "stored before"),
            of_files(self.failed, "failed"),
            counted(self.rows.rows_received, "row"),
            thousands(self.rows.rows_inserted),
            counted(self.rows.rows_duplicate, "duplicate"),
            thousands(rate(self.rows.rows_received, seconds)),
        )
    }
}
