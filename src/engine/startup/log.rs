//! Mending the write-ahead log: what a crash or a power loss has left of a commit that nobody was told of is cut off its end.
//!
//! # What a log can look like
//!
//! DuckDB writes one commit at a time, and the next one begins when the file is synced. So all commits but the last are on the
//! disk, and of the last any page may be missing, in any order: its middle, with its end there, as well as its end. What is not
//! acknowledged is therefore at the end, from the last commit that is whole; and if something is wrong there, that one commit is
//! all there is: nothing follows its end. DuckDB itself stops at a length that is missing, and drops whatever follows; but at
//! a checksum that is wrong it refuses to open the file.
//!
//! # What is decided
//!
//! 1. A log that ends with a whole commit stays. It is synced: a process that was killed may not have done so, and then two commits
//!    would be at the mercy of the next power loss.
//! 2. What follows the last whole commit is cut off, and the cut is synced, before anything is written after it. If it is
//!    damaged, and not only the beginning of a commit, a copy of the log is kept.
//! 3. Unless something acknowledged comes after it. That is certain when behind the damage a commit ends and a whole entry
//!    follows, or when there are commits from a checkpoint, which come later. Then the disk has lost what it had
//!    synced; the log is left as it is, and the server does not start.
//!
//! What nobody can tell from a power loss is a synced page that the disk has lost from the very last commit: it is cut off
//! too, and the copy and a line in the server's log are what is left of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

use super::log_format::{self, Contents, Rest};
use super::{blocks, free_name, sync_directory};
use crate::error::{Error, Result};
use crate::files::{failed, is_taken, with_ending};

/// Mends the logs beside a database's file, which no server has open.
pub(super) fn mend(file: &Path) -> Result<()> {
    let (log, later) = (with_ending(file, ".wal"), with_ending(file, ".wal.checkpoint"));
    if !is_taken(&log) && !is_taken(&later) {
        return Ok(());
    }
    // DuckDB says who has it.
    let Some(held) = hold(file)? else { return Ok(()) };
    let later_bytes = later.metadata().map_or(0, |metadata| metadata.len());
    let Some(Ended { marker }) = mend_one(&log, later_bytes > 0)? else { return Ok(()) };
    if let Some(marker) = marker {
        // The checkpoint was broken off, or is not cleared away. Others may have committed meanwhile.
        blocks::mend(&held, file, marker)?;
        mend_one(&later, false).map(drop)
    } else if later_bytes > 0 {
        set_aside(&later)
    } else {
        Ok(())
    }
}

/// How a log ends once it is mended.
struct Ended {
    /// If it ends with the marker of a checkpoint: where that one's root is.
    marker: Option<u64>,
}

/// Takes the lock that DuckDB takes of a file; none if another process has it.
fn hold(file: &Path) -> Result<Option<File>> {
    let open = File::options().read(true).write(true).open(file);
    let held = open.map_err(|error| failed("cannot open database file", file, error))?;
    Ok(fcntl_lock(&held, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(held))
}

/// Mends one log, which may not be there; none if it is of a version that nothing is known of.
fn mend_one(log: &Path, has_later: bool) -> Result<Option<Ended>> {
    if !is_taken(log) {
        return Ok(Some(Ended { marker: None }));
    }
    let unreadable = |error| failed("cannot read the log", log, error);
    let file = File::options().read(true).write(true).open(log).map_err(unreadable)?;
    let Some(contents) = log_format::read(&file).map_err(unreadable)? else {
        tracing::debug!(log = %log.display(), "the log is of another version, and DuckDB's to read");
        return Ok(None);
    };
    let Contents { length, committed, marker, rest } = contents;
    let damaged_at = match rest {
        Rest::Nothing => length,
        Rest::Unfinished => committed,
        Rest::Damaged(at) => at,
    };
    if rest != Rest::Nothing {
        if (has_later && marker.is_none()) || log_format::has_later_commit(&file, damaged_at).map_err(unreadable)? {
            return Err(damaged_before_commits(log, damaged_at, committed));
        }
        cut(log, &file, &contents)?;
    }
    file.sync_all().map_err(|error| failed("cannot sync", log, error))?;
    Ok(Some(Ended { marker }))
}

/// Cuts off what follows the last whole commit.
fn cut(log: &Path, file: &File, contents: &Contents) -> Result<()> {
    let bytes = contents.length - contents.committed;
    if let Rest::Damaged(at) = contents.rest {
        let kept = keep(log)?;
        tracing::warn!(
            log = %log.display(), bytes, at, kept = %kept.display(),
            "the end of the log was damaged, as by a power loss in the middle of a commit that nobody was told of: it is cut off, and a copy is kept"
        );
    } else {
        tracing::info!(log = %log.display(), bytes, "the end of the log was an unfinished commit: it is cut off");
    }
    file.set_len(contents.committed).map_err(|error| failed("cannot cut", log, error))
}

/// Makes a copy of a log that is about to be cut.
fn keep(log: &Path) -> Result<PathBuf> {
    let kept = free_name(log, "torn");
    let copy = || {
        fs::copy(log, &kept)?;
        File::options().write(true).open(&kept)?.sync_all()
    };
    copy()
        .map_err(|error| failed("the end of the log is damaged, and a copy of it cannot be kept in", &kept, error))?;
    sync_directory(&kept);
    Ok(kept)
}

fn damaged_before_commits(log: &Path, at: u64, committed: u64) -> Error {
    Error::precondition(format!(
        "the write-ahead log {} is damaged at byte {at}, and commits that were acknowledged come after it: the disk has lost what it had. \
         Nothing was changed. Restore a backup; or keep a copy of the log, and cut it to the {committed} bytes before the damage, to go \
         on without what came after",
        log.display()
    ))
}

/// Moves commits that came during a checkpoint out of the way, which the log before them has too: it lacks the checkpoint's marker,
/// so a start was killed after it had put both together (`MergeIntoRecoveryWAL`), and DuckDB would take them again after its
/// next checkpoint if that were broken off.
fn set_aside(later: &Path) -> Result<()> {
    let merged = free_name(later, "merged");
    fs::rename(later, &merged).map_err(|error| failed("cannot move", later, error))?;
    sync_directory(later);
    tracing::warn!(moved = %merged.display(), "the log of a checkpoint that was broken off is in the main log already: it is moved aside");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::super::tests::{count, execute, instance, open};
    use super::*;
    use crate::engine::Database;
    use crate::engine::open::attach;
    use crate::engine::startup::prepare;

    const PAGE: u64 = 4096;
    /// The file that another process is to hold.
    const HOLDS: &str = "MERGANSER_TEST_HOLDS";
    const ROWS: &str = "SELECT count(*)::BIGINT FROM merganser.main.t";

    /// A database whose server was killed after so many commits; and the length of its log after each.
    struct Killed {
        directory: TempDir,
        lengths: Vec<u64>,
    }

    impl Killed {
        /// Each statement is a commit.
        fn after(statements: &[&str]) -> Self {
            let live = tempfile::tempdir().unwrap();
            let file = live.path().join("a.duckdb");
            let instance = open(&file).unwrap();
            let mut lengths = Vec::new();
            for sql in statements {
                execute(&instance, sql);
                lengths.push(with_ending(&file, ".wal").metadata().map_or(0, |metadata| metadata.len()));
            }
            let directory = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(live.path()).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
            }
            Self { directory, lengths }
        }

        fn three_commits() -> Self {
            let insert = "INSERT INTO merganser.main.t SELECT i, repeat('x', 50) || i FROM range(2000) r(i)";
            Self::after(&["CREATE TABLE merganser.main.t (a BIGINT, b VARCHAR)", insert, insert, insert])
        }

        fn file(&self) -> PathBuf {
            self.directory.path().join("a.duckdb")
        }

        fn log(&self) -> PathBuf {
            self.directory.path().join("a.duckdb.wal")
        }

        fn zero(&self, from: u64, to: u64) {
            let mut log = OpenOptions::new().write(true).open(self.log()).unwrap();
            log.seek(SeekFrom::Start(from)).unwrap();
            log.write_all(&vec![0; usize::try_from(to - from).unwrap()]).unwrap();
        }

        fn cut(&self, to: u64) {
            OpenOptions::new().write(true).open(self.log()).unwrap().set_len(to).unwrap();
        }

        fn rows(&self) -> i64 {
            count(&open(&self.file()).unwrap(), ROWS)
        }

        /// Names of files whose names have this in them.
        fn names(&self, part: &str) -> Vec<String> {
            let names = fs::read_dir(self.directory.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.contains(part)).collect()
        }
    }

    /// The first page that lies wholly behind `at`.
    fn page_after(at: u64) -> u64 {
        at.div_ceil(PAGE) * PAGE
    }

    #[test]
    fn a_whole_log_stays_as_it_is() {
        let killed = Killed::three_commits();
        let before = fs::read(killed.log()).unwrap();
        mend(&killed.file()).unwrap();
        assert_eq!(fs::read(killed.log()).unwrap(), before);
        assert_eq!(before.len() as u64, *killed.lengths.last().unwrap());
        assert_eq!(killed.rows(), 6000);
    }

    #[test]
    fn a_log_that_ends_in_a_commit_is_cut_after_the_one_before() {
        for short in [1, 21, 22, 30, 5000] {
            let killed = Killed::three_commits();
            killed.cut(killed.lengths[3] - short);
            mend(&killed.file()).unwrap();
            assert_eq!(killed.log().metadata().unwrap().len(), killed.lengths[2], "{short} bytes short");
            assert_eq!(killed.rows(), 4000);
            assert!(killed.names("torn").is_empty());
        }
    }

    #[test]
    fn a_last_commit_that_lacks_a_page_is_cut_off_and_kept() {
        type Hole = fn(u64, u64) -> (u64, u64);
        let holes: [Hole; 4] = [
            |begin, _| (page_after(begin), page_after(begin) + PAGE),
            |begin, _| (page_after(begin) + PAGE, page_after(begin) + 2 * PAGE),
            // From its very beginning, where a length is.
            |begin, _| (begin, page_after(begin) + PAGE),
            // Its end.
            |_, end| (end / PAGE * PAGE, end),
        ];
        for hole in holes {
            let killed = Killed::three_commits();
            let (from, to) = hole(killed.lengths[2], killed.lengths[3]);
            killed.zero(from, to);
            let before = fs::read(killed.log()).unwrap();
            mend(&killed.file()).unwrap();
            assert_eq!(killed.log().metadata().unwrap().len(), killed.lengths[2], "{from} to {to}");
            let kept = killed.names("wal.torn-");
            assert_eq!(kept.len(), 1, "{kept:?}");
            assert_eq!(fs::read(killed.directory.path().join(&kept[0])).unwrap(), before);
            assert_eq!(killed.rows(), 4000);
        }
    }

    #[test]
    fn a_log_whose_first_commit_is_damaged_is_empty() {
        let killed =
            Killed::after(&["CREATE TABLE merganser.main.t AS SELECT repeat('x', 60) || i FROM range(2000) r(i)"]);
        killed.zero(0, PAGE);
        mend(&killed.file()).unwrap();
        assert_eq!(killed.log().metadata().unwrap().len(), 0);
        let instance = open(&killed.file()).unwrap();
        assert_eq!(count(&instance, "SELECT count(*)::BIGINT FROM duckdb_tables()"), 0);
    }

    #[test]
    fn a_log_that_is_damaged_before_an_acknowledged_commit_is_refused() {
        // A page of the second commit, the file's first one, and where a length is.
        let holes: [fn(u64) -> (u64, u64); 3] =
            [|begin| (page_after(begin), page_after(begin) + PAGE), |_| (0, PAGE), |begin| (begin, begin + 16)];
        for hole in holes {
            let killed = Killed::three_commits();
            let (from, to) = hole(killed.lengths[1]);
            killed.zero(from, to);
            let before = fs::read(killed.log()).unwrap();
            let error = open(&killed.file()).map(drop).unwrap_err();
            assert!(error.message().contains("commits that were acknowledged come after it"), "{error}");
            assert_eq!(fs::read(killed.log()).unwrap(), before);
        }
    }

    #[test]
    fn a_log_that_somebody_has_open_is_not_touched() {
        let killed = Killed::three_commits();
        killed.cut(killed.lengths[3] - 5);
        // A lock of this process would not be in our way, so this program runs once more.
        let mut other = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine::startup::log::tests::another_process", "--nocapture"])
            .env(HOLDS, killed.file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(other.stdout.take().unwrap()).lines().map_while(io::Result::ok);
        assert!(said.any(|line| line.contains(HOLDS)));
        mend(&killed.file()).unwrap();
        assert_eq!(killed.log().metadata().unwrap().len(), killed.lengths[3] - 5);
        drop(other.stdin.take());
        said.for_each(drop);
        other.wait().unwrap();
        mend(&killed.file()).unwrap();
        assert_eq!(killed.log().metadata().unwrap().len(), killed.lengths[2]);
    }

    /// Holds a file for the test above, until its input ends.
    #[test]
    fn another_process() {
        let Some(file) = std::env::var_os(HOLDS) else { return };
        let _held = hold(Path::new(&file)).unwrap().unwrap();
        println!("{HOLDS}");
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    /// A server that was killed in a checkpoint: the main log ends with the marker, and the last commit came after it.
    fn killed_in_a_checkpoint() -> Killed {
        let killed = Killed::three_commits();
        let log = fs::read(killed.log()).unwrap();
        let last = usize::try_from(killed.lengths[2]).unwrap();
        let (before, commit) = log.split_at(last);
        let mut head = log[..log.windows(2).position(|end| end == [0xff, 0xff]).unwrap() + 2].to_vec();
        let iteration = head.len() - 3;
        // It is that of the checkpoint, which was not to be.
        head[iteration] += 1;
        let marker = log_format::commit_of(&[100, 0, 99, 101, 0, 100, 0, 7, 0xff, 0xff, 0xff, 0xff]);
        fs::write(killed.log(), [before, &marker].concat()).unwrap();
        fs::write(with_ending(&killed.file(), ".wal.checkpoint"), [head.as_slice(), commit].concat()).unwrap();
        killed
    }

    #[test]
    fn commits_during_a_checkpoint_that_was_broken_off_are_kept() {
        assert_eq!(killed_in_a_checkpoint().rows(), 6000);
    }

    #[test]
    fn the_log_of_a_checkpoint_may_be_torn_too() {
        for hole in [0, PAGE, 4 * PAGE] {
            let killed = killed_in_a_checkpoint();
            let later = with_ending(&killed.file(), ".wal.checkpoint");
            let mut log = OpenOptions::new().write(true).open(&later).unwrap();
            log.seek(SeekFrom::Start(hole)).unwrap();
            log.write_all(&[0; 4096]).unwrap();
            assert_eq!(killed.rows(), 4000, "{hole}");
            assert_eq!(killed.names("wal.checkpoint.torn-").len(), 1);
        }
    }

    #[test]
    fn commits_of_a_checkpoint_are_not_taken_twice() {
        let later_bytes = fs::read(with_ending(&killed_in_a_checkpoint().file(), ".wal.checkpoint")).unwrap();
        // A start that was killed after it had put the logs together, and before it had removed the second one.
        let killed = Killed::three_commits();
        let later = with_ending(&killed.file(), ".wal.checkpoint");
        fs::write(&later, later_bytes).unwrap();
        mend(&killed.file()).unwrap();
        assert!(!later.exists() && killed.names("wal.checkpoint.merged-").len() == 1);
        assert_eq!(killed.rows(), 6000);
    }

    #[test]
    fn a_log_that_lacks_what_came_before_a_checkpoint_is_refused() {
        let killed = killed_in_a_checkpoint();
        killed.cut(killed.log().metadata().unwrap().len() - 30);
        let error = mend(&killed.file()).unwrap_err();
        assert!(error.message().contains("commits that were acknowledged come after it"), "{error}");
    }

    #[test]
    fn a_file_for_reading_is_not_mended() {
        let killed = Killed::three_commits();
        killed.zero(page_after(killed.lengths[2]), page_after(killed.lengths[2]) + PAGE);
        let database = Database { path: Some(killed.file()), temp_directory: None, read_only: true };
        let instance = instance();
        prepare(&instance, &database).unwrap();
        let error = attach(&instance, &database).unwrap_err();
        assert!(error.message().contains("without --read-only"), "{error}");
        assert!(killed.names("torn").is_empty());
    }
}
