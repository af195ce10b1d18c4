//! The progress bar of an import: on a terminal only, on stderr.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::thousands;
use crate::proto::v1::IngestProgress;

/// What is shown while an import runs.
pub(super) struct Progress {
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
    started: Instant,
    rows: u64,
}

impl Progress {
    /// A bar over `bytes_total` bytes, if they are known. Without a terminal, or when `quiet`, nothing is shown.
    pub(super) fn new(bytes_read: Arc<AtomicU64>, bytes_total: Option<u64>, quiet: bool) -> Self {
        let bar = match (quiet || !io::stderr().is_terminal(), bytes_total) {
            (true, _) => ProgressBar::hidden(),
            (false, Some(bytes)) => {
                ProgressBar::new(bytes).with_style(style("{bar:30} {bytes:>10} of {total_bytes}  {msg}  {eta} left"))
            }
            (false, None) => ProgressBar::new_spinner().with_style(style("{spinner} {bytes:>10}  {msg}  {elapsed}")),
        };
        Self { bar, bytes_read, started: Instant::now(), rows: 0 }
    }

    /// What the server said.
    pub(super) fn answered(&mut self, progress: &IngestProgress) {
        self.rows = progress.rows_received;
        self.tick();
    }

    /// Draws the bar anew.
    pub(super) fn tick(&self) {
        self.bar.set_position(self.bytes_read.load(Ordering::Relaxed));
        let rate = rate(self.rows, self.started.elapsed().as_secs_f64());
        self.bar.set_message(format!("{} rows  {} rows/s", thousands(self.rows), thousands(rate)));
        self.bar.tick();
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
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

fn style(template: &str) -> ProgressStyle {
    // A template that does not parse is a bug, and no reason to stop an import.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for template in
            ["{bar:30} {bytes:>10} of {total_bytes}  {msg}  {eta} left", "{spinner} {bytes:>10}  {msg}  {elapsed}"]
        {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate(62_189, 0.5), 124_378);
        assert_eq!(rate(5, 0.0), 0);
    }
}
