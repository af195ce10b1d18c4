//! Whether a leader waits a moment before a commit, for clients who send one append after another. Without it two of them would
//! take turns, each waiting for the other's commit; with it they share each commit.

use std::time::Duration;

/// How long to wait at most.
const PATIENCE_MAX: Duration = Duration::from_millis(2);

/// Groups without a wait after many that were in vain.
const PAUSE_MAX: u32 = 64;

/// What the last groups tell about the next one.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// How many appends are likely to come.
    wanted: usize,
    /// How long to wait for them.
    patience: Duration,
    /// Groups that are not waited for, because it was in vain; and how many after the next time that it is.
    pause: u32,
    next_pause: u32,
}

impl Gathering {
    /// Lets `gather` wait for so many appends for so long, if that may be of use; it answers whether they came.
    pub(super) fn wait(&mut self, gather: impl FnOnce(usize, Duration) -> bool) {
        if self.pause > 0 {
            self.pause -= 1;
        } else if gather(self.wanted, self.patience) {
            self.next_pause = 0;
        } else {
            self.next_pause = (self.next_pause * 2).clamp(1, PAUSE_MAX);
            self.pause = self.next_pause;
        }
    }

    /// Notes that `seen` appends were in a group or came during its commit, which took `time`.
    pub(super) fn note(&mut self, seen: usize, time: Duration) {
        self.wanted = seen;
        self.patience = (time / 2).min(PATIENCE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(1);

    #[test]
    fn it_waits_for_as_many_as_there_were() {
        let mut gathering = Gathering::default();
        gathering.note(2, COMMIT);
        let mut asked = None;
        gathering.wait(|wanted, patience| {
            asked = Some((wanted, patience));
            true
        });
        assert_eq!(asked, Some((2, COMMIT / 2)));
    }

    #[test]
    fn it_waits_less_often_in_vain() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for _ in 0..1000 {
            gathering.note(2, COMMIT);
            gathering.wait(|_, _| {
                waits += 1;
                false
            });
        }
        assert!((10..30).contains(&waits), "{waits}");
        for _ in 0..200 {
            gathering.note(2, COMMIT);
            gathering.wait(|_, _| {
                waits += 1;
                true
            });
        }
        assert!(waits > 100, "it goes on once they come: {waits}");
    }
}
