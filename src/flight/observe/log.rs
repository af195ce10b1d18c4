//! The access log: one line a call at its end, so many in a second.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::record::Record;

/// The span of time in which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Writes the lines, under the target `access`.
#[derive(Debug)]
pub(in crate::flight) struct AccessLog {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    skipped: u64,
}

/// What to write of a call.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    /// Its own line.
    line: bool,
    /// How many calls of earlier windows had none.
    skipped: u64,
}

impl AccessLog {
    /// At most `per_second` lines in a second; 0: none at all.
    pub(in crate::flight) fn new(per_second: u32) -> Self {
        Self { per_second, window: Mutex::new(Window { since: Instant::now(), lines: 0, skipped: 0 }) }
    }

    pub(super) fn write(&self, record: &Record, code: &str) {
        if self.per_second == 0 {
            return;
        }
        let Turn { line, skipped } = self.turn(Instant::now());
        if skipped > 0 {
            tracing::info!(
                target: "access",
                parent: None,
                skipped,
                "calls without a line: there were more than log.access_per_second"
            );
        }
        if line {
            tracing::info!(
                target: "access",
                method = record.method.name(),
                code,
                user = record.user.get().map_or("-", |user| user),
                peer = record.peer.map(tracing::field::display),
                seconds = record.elapsed().as_secs_f64(),
                bytes_out = record.bytes_out.load(Ordering::Relaxed),
                "call"
            );
        }
    }

    fn turn(&self, now: Instant) -> Turn {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut skipped = 0;
        if now.saturating_duration_since(window.since) >= WINDOW {
            skipped = window.skipped;
            *window = Window { since: now, lines: 0, skipped: 0 };
        }
        let line = window.lines < self.per_second;
        if line {
            window.lines += 1;
        } else {
            window.skipped += 1;
        }
        Turn { line, skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_the_limit_are_counted() {
        let log = AccessLog::new(2);
        let start = Instant::now();
        let lines = (0..5).map(|_| log.turn(start)).filter(|turn| turn.line).count();
        assert_eq!(lines, 2);
        assert_eq!(log.turn(start + WINDOW), Turn { line: true, skipped: 3 });
        assert_eq!(log.turn(start + WINDOW), Turn { line: true, skipped: 0 });
    }
}
