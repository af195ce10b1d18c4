//! Where in the table a tail is: the number of the last row that was looked at, and the marks of the last few, which tell whether the
//! rows still have the numbers that they had.

use std::collections::VecDeque;

/// Rows whose marks are kept: when so many that came last are deleted together, the place is lost.
pub(super) const SEEN_MAX: usize = 64;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) row: i64,
    pub(super) mark: u64,
}

/// The last rows that were looked at, in their order.
#[derive(Debug, Default)]
pub(super) struct Position(VecDeque<Seen>);

impl Position {
    /// Before the first row.
    pub(super) fn start() -> Self {
        Self::default()
    }

    /// After rows that were found again, the last one first.
    pub(super) fn after(found: &[Seen]) -> Self {
        Self(found.iter().rev().copied().collect())
    }

    /// The last row that was looked at.
    pub(super) fn last(&self) -> Option<Seen> {
        self.0.back().copied()
    }

    /// The number of the last row; one that no row has, if there is none.
    pub(super) fn row(&self) -> i64 {
        self.last().map_or(-1, |seen| seen.row)
    }

    /// Goes on to a row.
    pub(super) fn advance(&mut self, seen: Seen) {
        if self.0.len() == SEEN_MAX {
            self.0.pop_front();
        }
        self.0.push_back(seen);
    }

    pub(super) fn marks(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|seen| seen.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_rows_are_kept() {
        let mut position = Position::start();
        assert_eq!((position.row(), position.last()), (-1, None));
        for row in 0..100 {
            position.advance(Seen { row, mark: row.unsigned_abs() });
        }
        assert_eq!((position.row(), position.marks().count()), (99, SEEN_MAX));
        assert_eq!(position.marks().next(), Some(36));
        let position = Position::after(&[Seen { row: 9, mark: 1 }, Seen { row: 4, mark: 2 }]);
        assert_eq!((position.row(), position.marks().collect::<Vec<_>>()), (9, vec![2, 1]));
    }
}
