//! The progress bar of an import: on a terminal only, on stderr.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::thousands;
use crate::proto::v1::IngestProgress;

const BAR: &str = "{bar:30} {bytes:>10} of {total_bytes}  {msg}  {eta} left";
const SPINNER: &str = "{spinner} {bytes:>10}  {msg}  {elapsed}";

/// What is shown while an import runs.
pub(super) struct Progress {
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
    started: Instant,
    rows: u64,
    /// Bytes and rows that are in the totals.
    counted: (u64, u64),
    totals: Arc<Totals>,
    /// Whether what it counted stays in the totals when it is dropped.
    stays: bool,
}

/// What all parts of the bar come to.
#[derive(Debug, Default)]
struct Totals {
    bytes: AtomicU64,
    rows: AtomicU64,
    files: AtomicU64,
    /// 0 where they are not counted.
    files_total: u64,
}

impl Progress {
    /// A bar over `bytes_total` bytes, if they are known. Without a terminal, or when `quiet`, nothing is shown.
    pub(super) fn new(bytes_read: Arc<AtomicU64>, bytes_total: Option<u64>, quiet: bool) -> Self {
        let bar = match (quiet || !io::stderr().is_terminal(), bytes_total) {
            (true, _) => ProgressBar::hidden(),
            (false, Some(bytes)) => ProgressBar::new(bytes).with_style(style(BAR)),
            (false, None) => ProgressBar::new_spinner().with_style(style(SPINNER)),
        };
        let totals = Arc::new(Totals::default());
        Self { bar, bytes_read, started: Instant::now(), rows: 0, counted: (0, 0), totals, stays: true }
    }

    /// The same bar, which tells of so many files, too.
    pub(super) fn over_files(self, files: usize) -> Self {
        let mut bar = self;
        bar.totals = Arc::new(Totals { files_total: files as u64, ..Totals::default() });
        bar
    }

    /// The part of the bar that one file is.
    pub(super) fn part(&self, bytes_read: Arc<AtomicU64>) -> Self {
        let (bar, totals) = (self.bar.clone(), Arc::clone(&self.totals));
        Self { bar, bytes_read, started: self.started, rows: 0, counted: (0, 0), totals, stays: false }
    }

    /// The file of this part is done.
    pub(super) fn part_is_done(mut self) {
        self.totals.files.fetch_add(1, Ordering::Relaxed);
        self.stays = true;
        self.tick();
    }

    /// A file is done of which nothing had to be read, or no more.
    pub(super) fn passed(&self, file: &Path) {
        let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        self.totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.totals.files.fetch_add(1, Ordering::Relaxed);
        self.draw();
    }

    /// What the server said.
    pub(super) fn answered(&mut self, progress: &IngestProgress) {
        self.rows = progress.rows_received;
        self.tick();
    }

    /// Draws the bar anew.
    pub(super) fn tick(&mut self) {
        let now = (self.bytes_read.load(Ordering::Relaxed), self.rows);
        // It may be less than before, when a file is opened again.
        self.totals.bytes.fetch_add(now.0.wrapping_sub(self.counted.0), Ordering::Relaxed);
        self.totals.rows.fetch_add(now.1.wrapping_sub(self.counted.1), Ordering::Relaxed);
        self.counted = now;
        self.draw();
    }

    fn draw(&self) {
        let totals = &self.totals;
        let rows = totals.rows.load(Ordering::Relaxed);
        let rate = rate(rows, self.started.elapsed().as_secs_f64());
        let files = match totals.files_total {
            0 => String::new(),
            all => format!("{} of {} files  ", thousands(totals.files.load(Ordering::Relaxed)), thousands(all)),
        };
        self.bar.set_position(totals.bytes.load(Ordering::Relaxed));
        self.bar.set_message(format!("{files}{} rows  {} rows/s", thousands(rows), thousands(rate)));
        self.bar.tick();
    }

    /// Does something while the bar is away.
    pub(super) fn aside(&self, work: impl FnOnce()) {
        self.bar.suspend(work);
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    /// A part that is given up counts no more: its file is opened again, or passed.
    fn drop(&mut self) {
        if !self.stays {
            self.totals.bytes.fetch_sub(self.counted.0, Ordering::Relaxed);
            self.totals.rows.fetch_sub(self.counted.1, Ordering::Relaxed);
        }
    }
}

/// Rows a second.
pub(in crate::cli) fn rate(rows: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people, and never negative"
    )]
    let rate = (rows as f64 / seconds).round() as u64;
    rate
}

/// How a bar looks.
pub(in crate::cli) fn style(template: &str) -> ProgressStyle {
    // A template that does not parse is a bug, and no reason to stop the work.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for template in [BAR, SPINNER] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn parts_add_up() {
        let bar = Progress::new(Arc::default(), None, true).over_files(3);
        let counter = Arc::new(AtomicU64::new(100));
        let part = bar.part(Arc::clone(&counter));
        counter.store(150, Ordering::Relaxed);
        part.part_is_done();
        let mut given_up = bar.part(Arc::new(AtomicU64::new(70)));
        given_up.answered(&IngestProgress { rows_received: 5, ..IngestProgress::default() });
        assert_eq!(bar.totals.bytes.load(Ordering::Relaxed), 220);
        drop(given_up);
        bar.passed(Path::new("/nowhere"));
        let totals =
            [&bar.totals.bytes, &bar.totals.rows, &bar.totals.files].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(totals, [150, 0, 2]);
    }

    #[test]
    fn rates() {
        assert_eq!(rate(62_189, 0.5), 124_378);
        assert_eq!(rate(5, 0.0), 0);
    }
}
