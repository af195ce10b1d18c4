//! How far an export is: rows and bytes that are written, and a bar on a terminal's stderr.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::cli::ingest::progress::{rate, style};
use crate::cli::output::{self, thousands};

const BAR: &str = "{bar:30} {percent:>3}%  {msg}  {eta} left";
const SPINNER: &str = "{spinner} {msg}  {elapsed}";
const TICK: Duration = Duration::from_millis(100);

/// Counts what is written; its clones count together.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Meter {
    rows: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Meter {
    pub(super) fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Rows and bytes so far.
    pub(in crate::cli) fn read(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// A bar over the rows of an export; it goes away when it is dropped.
#[derive(Debug)]
pub(in crate::cli) struct Progress {
    bar: ProgressBar,
    meter: Meter,
    started: Instant,
}

impl Progress {
    /// A bar over `total` rows, if their number is known. Without a terminal, or when `hidden`, nothing is shown.
    pub(in crate::cli) fn new(meter: Meter, total: Option<u64>, hidden: bool) -> Self {
        let bar = match (hidden || !io::stderr().is_terminal(), total) {
            (true, _) => ProgressBar::hidden(),
            (false, Some(rows)) => ProgressBar::new(rows).with_style(style(BAR)),
            (false, None) => ProgressBar::new_spinner().with_style(style(SPINNER)),
        };
        // A query may run for long before its first row.
        bar.enable_steady_tick(TICK);
        Self { bar, meter, started: Instant::now() }
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Shows what is written by now.
    pub(super) fn show(&self) {
        let (rows, bytes) = self.meter.read();
        let rate = rate(rows, self.started.elapsed().as_secs_f64());
        self.bar.set_position(rows);
        self.bar.set_message(format!("{} rows  {}  {} rows/s", thousands(rows), output::bytes(bytes), thousands(rate)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    use super::*;

    #[test]
    fn templates_parse() {
        for template in [BAR, SPINNER] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
