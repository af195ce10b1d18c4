//! The bad rows of a batch: all counted, the first ones kept with their reasons, and the error that names them.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::error::{Error, Result};

/// Rows that a report names; the others are counted.
const LISTED_MAX: usize = 10;
/// Characters of a value that a report shows.
const SHOWN_MAX: usize = 40;

/// What is wrong with the rows of one batch.
#[derive(Debug)]
pub(super) struct BadRows {
    rows: usize,
    /// Whether each row is bad; empty as long as none is.
    bad: Vec<bool>,
    /// The first bad rows, each with its faults as `column: reason`, in the order in which they were found.
    listed: BTreeMap<usize, Vec<String>>,
}

impl BadRows {
    /// For a batch of `rows` rows, which are good so far.
    pub(super) fn new(rows: usize) -> Self {
        Self { rows, bad: Vec::new(), listed: BTreeMap::new() }
    }

    /// Counts `row` of the batch as bad. `reason` is asked only for rows that will be listed, so that a batch without
    /// a good row costs little more than a good one.
    pub(super) fn add(&mut self, row: usize, column: &str, reason: impl FnOnce() -> String) {
        if self.bad.is_empty() {
            self.bad.resize(self.rows, false);
        }
        if let Some(bad) = self.bad.get_mut(row) {
            *bad = true;
        }
        let full = self.listed.len() >= LISTED_MAX && !self.listed.contains_key(&row);
        if full && self.listed.last_key_value().is_some_and(|(&last, _)| last < row) {
            return;
        }
        self.listed.entry(row).or_default().push(format!("{column}: {}", reason()));
        if self.listed.len() > LISTED_MAX {
            self.listed.pop_last();
        }
    }

    /// Whether `row` of the batch is known to be bad.
    pub(super) fn contains(&self, row: usize) -> bool {
        self.bad.get(row).copied().unwrap_or(false)
    }

    /// The error that reports the bad rows, if there are any; `first_row` is the number of the batch's first row.
    pub(super) fn into_result(self, first_row: u64) -> Result<()> {
        let count = self.bad.iter().filter(|bad| **bad).count();
        if count == 0 {
            return Ok(());
        }
        let rows = if count == 1 { "row" } else { "rows" };
        let mut message = format!("{count} bad {rows}, nothing is stored: ");
        for (index, (row, faults)) in self.listed.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let number = first_row.saturating_add(*row as u64);
            let _ = write!(message, "{separator}row {number}: {}", faults.join(", "));
        }
        if count > self.listed.len() {
            let _ = write!(message, "; and {} more in this batch", count - self.listed.len());
        }
        Err(Error::invalid(message))
    }
}

/// `text` as a report shows it: quoted, escaped and cut.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn message(bad: BadRows) -> String {
        let error = bad.into_result(101).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.message().to_owned()
    }

    #[test]
    fn good_rows_are_no_error() {
        assert!(BadRows::new(3).into_result(1).is_ok());
    }

    #[test]
    fn rows_are_listed_in_their_order_with_all_faults() {
        let mut bad = BadRows::new(10);
        bad.add(7, "event_time", || "no time".to_owned());
        bad.add(2, "insert_id", || "must not be null".to_owned());
        bad.add(7, "properties", || "malformed".to_owned());
        assert_eq!(
            message(bad),
            "2 bad rows, nothing is stored: row 103: insert_id: must not be null; \
             row 108: event_time: no time, properties: malformed"
        );
    }

    #[test]
    fn the_first_ten_are_listed_and_the_others_counted() {
        let mut bad = BadRows::new(100);
        let mut reasons = 0;
        for row in (50..100).chain(0..5) {
            bad.add(row, "c", || {
                reasons += 1;
                row.to_string()
            });
        }
        assert_eq!(reasons, 15);
        let message = message(bad);
        assert!(message.starts_with("55 bad rows, nothing is stored: row 101: c: 0; row 102: c: 1; "), "{message}");
        assert!(message.ends_with("row 151: c: 50; row 152: c: 51; row 153: c: 52; row 154: c: 53; row 155: c: 54; and 45 more in this batch"), "{message}");
    }

    #[test]
    fn one_row_is_singular() {
        let mut bad = BadRows::new(1);
        bad.add(0, "c", || "x".to_owned());
        assert_eq!(message(bad), "1 bad row, nothing is stored: row 101: c: x");
    }

    #[test]
    fn values_are_cut_and_escaped() {
        assert_eq!(shown("a\n\"b\u{0}"), r#""a\n\"b\0""#);
        assert_eq!(shown(&"é".repeat(40)), format!("{:?}", "é".repeat(40)));
        assert_eq!(shown(&"é".repeat(41)), format!("{:?}…", "é".repeat(40)));
    }
}
