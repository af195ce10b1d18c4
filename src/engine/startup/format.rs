//! How DuckDB 2.0 writes its log (`write_ahead_log.cpp`, `wal_replay.cpp`), as far as it takes to find its commits. First comes an
//! entry that names the version; it has neither a length nor a checksum. Each other one is its length, a checksum, and so many bytes.
//! A commit is entries and then one that says "flush"; the file is synced when that is written, and only then the next commit
//! begins. When a checkpoint begins, the log ends with its marker, which is a commit too.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// Bytes of the log in memory at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes of an entry before its own: length and checksum.
const FRAME_BYTES: u64 = 16;
/// The first entry is shorter than this.
const HEAD_BYTES_MAX: u64 = 256;
/// The version that has lengths and checksums; 1 has not, 3 is encrypted.
const VERSION: u64 = 2;
/// What entries begin with: the field of their type.
const TYPE_FIELD: [u8; 2] = [100, 0];
const TYPE_VERSION: u8 = 98;
const TYPE_CHECKPOINT: u8 = 99;
const TYPE_FLUSH: u8 = 100;
/// The entry of a checkpoint is shorter than this.
const MARKER_BYTES_MAX: usize = 64;
/// What entries end with.
const END: [u8; 2] = [0xff, 0xff];
/// All of a flush's own bytes.
const FLUSH: [u8; 5] = [TYPE_FIELD[0], TYPE_FIELD[1], TYPE_FLUSH, END[0], END[1]];

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// Bytes of the file.
    pub(super) length: u64,
    /// Where the last complete commit ends that only complete ones come before.
    pub(super) committed: u64,
    /// If that is the marker of a checkpoint: what the data file's header says once it is done.
    pub(super) marker: Option<u64>,
    /// What comes after it.
    pub(super) rest: Rest,
}

/// What comes after the last complete commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// The beginning of a commit: the file ends before it does.
    Unfinished,
    /// Something that is no entry, at this byte.
    Damaged(u64),
}

/// Reads a log; none if it is not of the version that is known here, which is then DuckDB's to judge.
pub(super) fn read<File: Read + Seek>(file: File) -> io::Result<Option<Contents>> {
    let mut log = Log::open(file)?;
    let Some(head) = log.head()? else { return Ok(None) };
    let mut contents = Contents { length: log.length, committed: 0, marker: None, rest: Rest::Nothing };
    let mut at = match head {
        Head::Entries(at) => at,
        Head::Rest(rest) => {
            contents.rest = rest;
            return Ok(Some(contents));
        }
    };
    let mut marker = None;
    log.seek(at)?;
    while at < log.length {
        match log.entry(at)? {
            Entry::Whole { is_flush: true, end, .. } => {
                at = end;
                contents.committed = end;
                contents.marker = marker.take();
            }
            Entry::Whole { marker: found, end, .. } => {
                at = end;
                marker = found;
            }
            Entry::CutOff => {
                contents.rest = Rest::Unfinished;
                return Ok(Some(contents));
            }
            Entry::Damaged => {
                contents.rest = Rest::Damaged(at);
                return Ok(Some(contents));
            }
        }
    }
    if contents.committed < log.length {
        contents.rest = Rest::Unfinished;
    }
    Ok(Some(contents))
}

/// Whether, somewhere after `from`, a commit ends and a whole entry follows: then that commit had been synced.
pub(super) fn has_later_commit<File: Read + Seek>(file: File, from: u64) -> io::Result<bool> {
    let mut log = Log::open(file)?;
    let flush = [(FLUSH.len() as u64).to_le_bytes().as_slice(), &checksum_of(&FLUSH).to_le_bytes(), &FLUSH].concat();
    let mut at = from;
    while let Some(found) = log.find(&flush, at)? {
        let end = found + flush.len() as u64;
        log.seek(end)?;
        if matches!(log.entry(end)?, Entry::Whole { .. }) {
            return Ok(true);
        }
        at = found + 1;
    }
    Ok(false)
}

/// A log that is being read.
struct Log<File> {
    reader: BufReader<File>,
    length: u64,
}

enum Head {
    /// The entries begin at this byte.
    Entries(u64),
    /// There are none.
    Rest(Rest),
}

enum Entry {
    /// Its checksum is right.
    Whole {
        is_flush: bool,
        marker: Option<u64>,
        end: u64,
    },
    /// The file is shorter than it says.
    CutOff,
    Damaged,
}

impl<File: Read + Seek> Log<File> {
    fn open(mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self { reader: BufReader::with_capacity(BUFFER_BYTES, file), length })
    }

    fn seek(&mut self, at: u64) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(at)).map(drop)
    }

    /// The first entry; none if it is of a version that is not known here.
    fn head(&mut self) -> io::Result<Option<Head>> {
        let mut bytes = Vec::new();
        self.reader.by_ref().take(HEAD_BYTES_MAX).read_to_end(&mut bytes)?;
        let is_short = (bytes.len() as u64) < HEAD_BYTES_MAX;
        let mut fields = Fields { bytes: &bytes };
        Ok(match fields.head() {
            Some(VERSION) => Some(Head::Entries((bytes.len() - fields.bytes.len()) as u64)),
            None if bytes.is_empty() => Some(Head::Rest(Rest::Nothing)),
            None if is_short && fields.bytes.is_empty() => Some(Head::Rest(Rest::Unfinished)),
            // A page of zeros.
            None if bytes.starts_with(&[0, 0]) => Some(Head::Rest(Rest::Damaged(0))),
            _ => None,
        })
    }

    /// The entry at `at`, where the reader is.
    fn entry(&mut self, at: u64) -> io::Result<Entry> {
        let left = self.length.saturating_sub(at);
        if left < FRAME_BYTES {
            return Ok(Entry::CutOff);
        }
        let (size, checksum) = (self.number()?, self.number()?);
        if size < FLUSH.len() as u64 {
            return Ok(Entry::Damaged);
        }
        if size > left - FRAME_BYTES {
            return Ok(Entry::CutOff);
        }
        let mut sum = Checksum::default();
        let mut start = Vec::new();
        let mut unread = size;
        let mut piece = [0; 4096];
        while unread > 0 {
            let now = piece.len().min(usize::try_from(unread).unwrap_or(usize::MAX));
            self.reader.read_exact(&mut piece[..now])?;
            if unread == size {
                start.extend_from_slice(&piece[..now.min(MARKER_BYTES_MAX)]);
            }
            sum.add(&piece[..now]);
            unread -= now as u64;
        }
        if sum.0 != checksum || !start.starts_with(&TYPE_FIELD) {
            return Ok(Entry::Damaged);
        }
        let marker = Fields { bytes: &start }.marker();
        Ok(Entry::Whole { is_flush: start == FLUSH, marker, end: at + FRAME_BYTES + size })
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.reader.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Where `wanted` begins, not before `from`.
    fn find(&mut self, wanted: &[u8], from: u64) -> io::Result<Option<u64>> {
        self.seek(from)?;
        // What was read last, so that one across two pieces is found.
        let mut window: Vec<u8> = Vec::new();
        let mut start = from;
        loop {
            let piece = self.reader.fill_buf()?;
            if piece.is_empty() {
                return Ok(None);
            }
            let read = piece.len();
            window.extend_from_slice(piece);
            self.reader.consume(read);
            if let Some(found) = window.windows(wanted.len()).position(|bytes| bytes == wanted) {
                return Ok(Some(start + found as u64));
            }
            let done = window.len().saturating_sub(wanted.len() - 1);
            window.drain(..done);
            start += done as u64;
        }
    }
}

/// Fields of an entry: the number of each, then its value, in seven bits a byte.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    /// The version; none if this is no such entry, or not all of it.
    fn head(&mut self) -> Option<u64> {
        let mut version = None;
        loop {
            match self.field()? {
                100 if self.value()? == u64::from(TYPE_VERSION) => {}
                101 => version = Some(self.value()?),
                // Which database file it belongs to, byte by byte, and after which checkpoint.
                102 => (0..self.value()?).try_for_each(|_| self.value().map(drop))?,
                103 => drop(self.value()?),
                0xffff => return version,
                _ => return None,
            }
        }
    }

    /// Where the checkpoint that an entry is the marker of has its root: block and place in one, as the data file's header has it; none
    /// if this is no such entry.
    fn marker(&mut self) -> Option<u64> {
        if self.field()? != 100 || self.value()? != u64::from(TYPE_CHECKPOINT) || self.field()? != 101 {
            return None;
        }
        // Left out when it is 0.
        if self.field()? == 100 { self.value() } else { Some(0) }
    }

    fn field(&mut self) -> Option<u16> {
        let Some((field, rest)) = self.bytes.split_first_chunk() else {
            self.bytes = &[];
            return None;
        };
        self.bytes = rest;
        Some(u16::from_le_bytes(*field))
    }

    fn value(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// DuckDB's checksum (`checksum.cpp`), of pieces whose lengths are multiples of 8, but for the last.
struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(5381)
    }
}

impl Checksum {
    fn add(&mut self, piece: &[u8]) {
        let (words, rest) = piece.as_chunks::<8>();
        for word in words {
            self.0 ^= u64::from_le_bytes(*word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        if !rest.is_empty() {
            self.0 ^= of_rest(rest);
        }
    }
}

pub(super) fn checksum_of(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::default();
    sum.add(bytes);
    sum.0
}

/// The hash of less than 8 bytes.
fn of_rest(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xe17a_1465;
    let mut last = [0; 8];
    last[..bytes.len()].copy_from_slice(bytes);
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    hash = (hash ^ (hash >> 47)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 47)
}

/// A commit of one entry that is these bytes.
#[cfg(test)]
pub(super) fn commit_of(bytes: &[u8]) -> Vec<u8> {
    let entry =
        |own: &[u8]| [(own.len() as u64).to_le_bytes().as_slice(), &checksum_of(own).to_le_bytes(), own].concat();
    [entry(bytes), entry(&FLUSH)].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const FLUSH_ENTRY_BYTES: usize = 21;

    /// A log's first entry, as DuckDB writes it.
    fn head(version: u8) -> Vec<u8> {
        let mut bytes = vec![100, 0, TYPE_VERSION, 101, 0, version, 102, 0, 16];
        // Each a byte of the file's id; large ones take two.
        bytes.extend([[0xc8, 0x01].as_slice(), &[7; 15]].concat());
        bytes.extend([103, 0, 3, 0xff, 0xff]);
        bytes
    }

    fn commit(word: u8, bytes: &[u8]) -> Vec<u8> {
        commit_of(&[&TYPE_FIELD, [word].as_slice(), bytes, &END].concat())
    }

    /// An entry whose commit is not there yet.
    fn entry(word: u8, bytes: &[u8]) -> Vec<u8> {
        let mut entry = commit(word, bytes);
        entry.truncate(entry.len() - FLUSH_ENTRY_BYTES);
        entry
    }

    fn read_bytes(bytes: &[u8]) -> Option<Contents> {
        read(Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn commits_are_found() {
        let first = [head(2), commit(26, &[1; 5000])].concat();
        let both = [first.as_slice(), &commit(26, &[2; 13])].concat();
        let whole =
            Contents { length: both.len() as u64, committed: both.len() as u64, marker: None, rest: Rest::Nothing };
        assert_eq!(read_bytes(&both), Some(whole));
        for length in first.len() + 1..both.len() {
            let found = read_bytes(&both[..length]).unwrap();
            assert_eq!((found.committed, found.rest), (first.len() as u64, Rest::Unfinished), "cut to {length}");
        }
        for length in 1..first.len() {
            let found = read_bytes(&both[..length]).unwrap();
            assert_eq!((found.committed, found.rest), (0, Rest::Unfinished), "cut to {length}");
        }
        assert_eq!(read_bytes(&[]).unwrap().rest, Rest::Nothing);
    }

    #[test]
    fn damage_is_found_where_it_is() {
        let first = [head(2), commit(26, &[1; 5000])].concat();
        let mut both = [first.as_slice(), &commit(26, &[2; 9000])].concat();
        let at = first.len();
        both[at + 100..at + 4196].fill(0);
        let found = read_bytes(&both).unwrap();
        assert_eq!((found.committed, found.rest), (at as u64, Rest::Damaged(at as u64)));
        // Also where the length was.
        both[at..at + 4196].fill(0);
        assert_eq!(read_bytes(&both).unwrap().rest, Rest::Damaged(at as u64));
        both[..at].fill(0);
        let found = read_bytes(&both).unwrap();
        assert_eq!((found.committed, found.rest), (0, Rest::Damaged(0)));
    }

    #[test]
    fn a_checkpoints_marker_is_told() {
        let plain = [head(2), commit(26, &[1; 20])].concat();
        let mark = |root: &[u8]| commit(TYPE_CHECKPOINT, &[[101, 0].as_slice(), root, &END].concat());
        let marked = [plain.as_slice(), &mark(&[100, 0, 0x85, 0x02])].concat();
        assert_eq!(read_bytes(&plain).unwrap().marker, None);
        assert_eq!(read_bytes(&marked).unwrap().marker, Some(0x105));
        assert_eq!(read_bytes(&[head(2), mark(&[])].concat()).unwrap().marker, Some(0));
        // It is one only once it is whole, and at the end.
        assert_eq!(read_bytes(&marked[..marked.len() - 1]).unwrap().marker, None);
        assert_eq!(read_bytes(&[marked, commit(26, &[1; 20])].concat()).unwrap().marker, None);
    }

    #[test]
    fn other_versions_are_not_judged() {
        for version in [1, 3, 4] {
            assert_eq!(read_bytes(&[head(version), vec![0; 400]].concat()), None);
        }
        // One without a version.
        assert_eq!(read_bytes(&[[100, 0, 26, 101, 0, 1].as_slice(), &[9; 300]].concat()), None);
    }

    #[test]
    fn a_commit_after_the_damage_is_proof_only_if_something_follows_it() {
        let later = |bytes: &[u8]| has_later_commit(Cursor::new(bytes), 10).unwrap();
        let damaged = vec![0; 5000];
        let ended = [damaged.as_slice(), &commit(26, &[2; 300])].concat();
        assert!(!later(&damaged) && !later(&ended));
        // The next commit's first entry, whole; or not.
        let next = [ended.as_slice(), &entry(26, &[3; 40])].concat();
        assert!(later(&next));
        assert!(!later(&next[..next.len() - 1]));
        assert!(!later(&[ended.as_slice(), &[9; 50]].concat()));
        // Across the pieces that it is read in.
        for more in 0..30 {
            let far = vec![0; BUFFER_BYTES - 300 - more];
            assert!(later(&[far.as_slice(), &commit(26, &[2; 300]), &entry(26, &[])].concat()), "{more}");
        }
    }
}
