//! Mending blocks that a checkpoint has half written.
//!
//! A checkpoint writes what is new to free places, syncs, and then writes a header that leads to it, so that a crash leaves the old state or
//! the new one. But DuckDB keeps its metadata in 64 parts of one block, and the checksum is that of the block: new parts are
//! written with the old ones, which are in use, in one write of 256 KiB over the old block. A power loss, or a `kill -9` in the middle
//! of the write, leaves some pages of both. The old parts are the same in both, so nothing is lost; but the checksum is wrong, and DuckDB
//! refuses the file.
//!
//! So when the log says that a checkpoint was under way, and the header that it was not done, the metadata blocks that the header leads
//! to get the checksum of what they hold. At any other time a wrong checksum means a damaged disk, and is left to DuckDB, which
//! refuses. `auto_checkpoint_skip_wal_threshold` sees to it that the log always says so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::log_format::checksum_of;
use crate::error::Result;
use crate::files::failed;

/// Bytes of each of a file's three headers; the second and the third take turns.
const HEADER_BYTES: u64 = 4096;
/// Bytes of a checksum, which blocks and headers begin with.
const CHECKSUM_BYTES: u64 = 8;
/// Parts of a metadata block.
const PARTS: u64 = 64;
/// Bytes of a block that anybody has made; DuckDB's own limit.
const BLOCK_BYTES_MAX: u64 = 256 << 10;
/// A pointer that leads nowhere.
const NOWHERE: u64 = u64::MAX;

/// Mends the metadata blocks of a file whose log ends with the marker of the checkpoint that has this root.
pub(super) fn mend(file: &File, path: &Path, root: u64) -> Result<()> {
    let Some(header) = Header::active(file) else { return Ok(()) };
    if header.root == root {
        return Ok(());
    }
    let Some(blocks) = header.metadata_blocks(file) else {
        tracing::debug!(file = %path.display(), "the file's metadata blocks are not known");
        return Ok(());
    };
    let mut mended = false;
    for id in blocks {
        let Some(block) = header.block(file, id) else { continue };
        let (found, right) = (number(&block, 0), checksum_of(&block[8..]));
        if found == Some(right) {
            continue;
        }
        let at = header.place(id);
        tracing::warn!(
            file = %path.display(), at, found = found.unwrap_or_default(), right,
            "a metadata block is half that of a checkpoint that was broken off, as by a power loss: what is in use of it is whole, and it gets the checksum of that"
        );
        file.write_all_at(&right.to_le_bytes(), at).map_err(|error| failed("cannot write", path, error))?;
        mended = true;
    }
    if mended {
        file.sync_all().map_err(|error| failed("cannot sync", path, error))?;
    }
    Ok(())
}

/// What a file's header says.
#[derive(Debug)]
struct Header {
    iteration: u64,
    root: u64,
    free_list: u64,
    block_bytes: u64,
}

impl Header {
    /// The header that counts; none if one of them is damaged.
    fn active(file: &File) -> Option<Self> {
        let (first, second) = (Self::read(file, HEADER_BYTES)?, Self::read(file, 2 * HEADER_BYTES)?);
        Some(if first.iteration > second.iteration { first } else { second })
    }

    fn read(file: &File, at: u64) -> Option<Self> {
        let bytes = read(file, at, HEADER_BYTES)?;
        let [checksum, iteration, root, free_list, _blocks, block_bytes] = numbers(&bytes)?;
        let is_sane = block_bytes > PARTS * CHECKSUM_BYTES && block_bytes <= BLOCK_BYTES_MAX;
        let is_whole = checksum == checksum_of(&bytes[8..]);
        (is_sane && is_whole).then_some(Self { iteration, root, free_list, block_bytes })
    }

    fn place(&self, block: u64) -> u64 {
        // A damaged list may have any number.
        block.saturating_mul(self.block_bytes).saturating_add(3 * HEADER_BYTES)
    }

    fn block(&self, file: &File, id: u64) -> Option<Vec<u8>> {
        read(file, self.place(id), self.block_bytes)
    }

    /// The metadata blocks, which the list of free blocks ends with.
    fn metadata_blocks(&self, file: &File) -> Option<Vec<u64>> {
        let mut list = List::new(self, file);
        for _ in 0..list.number()? {
            list.number()?;
        }
        for _ in 0..list.number()? {
            // A block that several tables share, and how many.
            list.take(12)?;
        }
        let mut blocks = Vec::new();
        for _ in 0..list.number()? {
            blocks.push(list.number()?);
            // Which of its parts are free.
            list.number()?;
        }
        Some(blocks)
    }
}

/// What the parts of metadata blocks hold, one after the other.
struct List<'a> {
    header: &'a Header,
    file: &'a File,
    /// The part that comes next: its block in the lower 56 bits, and its number in it.
    next: u64,
    /// What is read and not taken yet.
    bytes: Vec<u8>,
    /// Parts that there may be: a damaged list may go in circles.
    left: u64,
}

impl<'a> List<'a> {
    fn new(header: &'a Header, file: &'a File) -> Self {
        let left = file.metadata().map_or(0, |metadata| metadata.len()) / HEADER_BYTES;
        Self { header, file, next: header.free_list, bytes: Vec::new(), left }
    }

    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < bytes {
            if self.next == NOWHERE || self.left == 0 {
                return None;
            }
            self.left -= 1;
            let (block, part) = (self.next & ((1 << 56) - 1), self.next >> 56);
            let part_bytes = (self.header.block_bytes - CHECKSUM_BYTES) / PARTS / 8 * 8;
            let at = self.header.place(block).saturating_add(CHECKSUM_BYTES + part * part_bytes);
            let bytes = read(self.file, at, part_bytes)?;
            self.next = number(&bytes, 0)?;
            self.bytes.extend_from_slice(&bytes[8..]);
        }
        Some(self.bytes.drain(..bytes).collect())
    }

    fn number(&mut self) -> Option<u64> {
        number(&self.take(8)?, 0)
    }
}

/// Bytes of a file; none if it has not so many there.
fn read(file: &File, at: u64, bytes: u64) -> Option<Vec<u8>> {
    let mut read = vec![0; usize::try_from(bytes).ok()?];
    file.read_exact_at(&mut read, at).ok()?;
    Some(read)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The numbers that `bytes` begin with.
fn numbers<const COUNT: usize>(bytes: &[u8]) -> Option<[u64; COUNT]> {
    let mut numbers = [0; COUNT];
    for (at, value) in numbers.iter_mut().enumerate() {
        *value = number(bytes, 8 * at)?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{count, execute, instance, open, try_execute};
    use super::*;
    use crate::engine::Database;
    use crate::engine::open::attach;
    use crate::files::with_ending;

    const PAGE: usize = 4096;
    const SUM: &str = "SELECT (count(*) * 1000000 + sum(length(b)))::BIGINT FROM merganser.main.t";

    /// A file before a checkpoint, as that one has left it when it was broken off, its log, and what it holds.
    fn broken_off() -> (Vec<u8>, Vec<u8>, Vec<u8>, i64) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.duckdb");
        let instance = open(&file).unwrap();
        execute(&instance, "CREATE TABLE merganser.main.t (a BIGINT, b VARCHAR)");
        let insert = "INSERT INTO merganser.main.t SELECT i, repeat('x', i % 50) || i FROM range(200000) r(i)";
        for _ in 0..3 {
            execute(&instance, insert);
            execute(&instance, "CHECKPOINT merganser");
        }
        execute(&instance, "DELETE FROM merganser.main.t WHERE a % 3 = 0");
        let (before, sum) = (fs::read(&file).unwrap(), count(&instance, SUM));
        execute(&instance, "SET GLOBAL debug_checkpoint_abort = 'after_free_list_write'");
        try_execute(&instance, "CHECKPOINT merganser").unwrap_err();
        let (after, log) = (fs::read(&file).unwrap(), fs::read(with_ending(&file, ".wal")).unwrap());
        (before, after, log, sum)
    }

    /// The first page of a metadata block.
    fn metadata_page(file: &[u8]) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.duckdb");
        fs::write(&path, file).unwrap();
        let file = File::open(path).unwrap();
        let header = Header::active(&file).unwrap();
        let blocks = header.metadata_blocks(&file).unwrap();
        usize::try_from(header.place(blocks[0])).unwrap() / PAGE
    }

    /// Each page from one of the two.
    fn torn(before: &[u8], after: &[u8], is_new: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut before = before.to_vec();
        before.resize(after.len(), 0);
        let pages = before.chunks(PAGE).zip(after.chunks(PAGE)).enumerate();
        pages.flat_map(|(at, (old, new))| if is_new(at) { new } else { old }).copied().collect()
    }

    #[test]
    fn a_checkpoint_that_is_half_written_is_no_loss() {
        let (before, after, log, sum) = broken_off();
        let first = metadata_page(&before);
        let block = first..first + 64;
        assert_ne!(before[first * PAGE..][..64 * PAGE], after[first * PAGE..][..64 * PAGE], "it is written elsewhere");
        // Which pages of the block are new.
        let shapes: [fn(usize) -> bool; 5] =
            [|at| at % 2 == 0, |at| at % 2 == 1, |at| at < 2, |at| at >= 1, |at| at == 0];
        for is_new in shapes {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("a.duckdb");
            let content = torn(&before, &after, |at| !block.contains(&at) || is_new(at - first));
            fs::write(&file, &content).unwrap();
            fs::write(with_ending(&file, ".wal"), &log).unwrap();
            // DuckDB alone.
            let database = Database { path: Some(file.clone()), temp_directory: None, read_only: true };
            let error = attach(&instance(), &database).unwrap_err();
            assert!(error.message().contains("Corrupt database file"), "{error}");
            assert_eq!(count(&open(&file).unwrap(), SUM), sum);
        }
    }

    #[test]
    fn a_damaged_disk_is_not_mended() {
        let (before, ..) = broken_off();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.duckdb");
        let mut content = before;
        let page = metadata_page(&content);
        content[page * PAGE + 100] ^= 1;
        fs::write(&file, &content).unwrap();
        let error = open(&file).map(drop).unwrap_err();
        assert!(error.message().contains("Corrupt database file"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), content);
    }
}
