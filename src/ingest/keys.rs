//! Telling the keys of a stream apart: those that come for the first time from those that may have come before.
//!
//! It never takes a key that came before for a new one. The other way round it may err: then the engine looks again. So
//! memory is bounded however long the stream is: an exact set of hashes while the keys are few, a [`KeyFilter`] beyond that.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::error::{Error, Result};
use crate::tables::{KeyFilter, KeyHasher, key_texts};
use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};

/// Keys that are remembered exactly: 16 bytes each.
const EXACT_MAX: usize = 1 << 20;

/// The keys of one stream so far.
#[derive(Debug)]
pub(super) struct Keys {
    hasher: KeyHasher,
    filter_bytes: usize,
    seen: Seen,
}

#[derive(Debug)]
enum Seen {
    Exact(HashSet<u64, BuildHasherDefault<HashIsKey>>),
    Filter(KeyFilter),
}

/// The hash of a hash is the hash.
#[derive(Debug, Default)]
pub(super) struct HashIsKey(u64);

impl Hasher for HashIsKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Keys {
    /// No keys yet; at most about `filter_bytes` (and 16 MiB while they are few) will be used.
    pub(super) fn new(filter_bytes: usize) -> Self {
        Self { hasher: KeyHasher::random(), filter_bytes, seen: Seen::Exact(HashSet::default()) }
    }

    /// Splits a batch into rows with new keys and suspects; a part that is empty is none.
    pub(super) fn split(
        &mut self,
        batch: &RecordBatch,
        key: &str,
    ) -> Result<(Option<RecordBatch>, Option<RecordBatch>)> {
        let column = batch.column_by_name(key).ok_or_else(|| Error::internal("the batch has no key"))?;
        let is_new = self.insert_all(column.as_ref())?;
        let new_rows = is_new.true_count();
        if new_rows == batch.num_rows() {
            return Ok((Some(batch.clone()), None));
        }
        let suspects = filter_record_batch(batch, &not(&is_new)?)?;
        if new_rows == 0 {
            return Ok((None, Some(suspects)));
        }
        Ok((Some(filter_record_batch(batch, &is_new)?), Some(suspects)))
    }

    fn insert_all(&mut self, keys: &dyn Array) -> Result<BooleanArray> {
        let hasher = self.hasher;
        let texts =
            key_texts(keys).ok_or_else(|| Error::internal(format!("a key column of type {}", keys.data_type())))?;
        Ok(texts.map(|key| self.insert(hasher.hash(key))).map(Some).collect())
    }

    /// Whether the key is new for certain.
    fn insert(&mut self, hash: u64) -> bool {
        match &mut self.seen {
            Seen::Exact(hashes) => {
                let is_new = hashes.insert(hash);
                if hashes.len() >= EXACT_MAX {
                    let mut filter = KeyFilter::new(2 * EXACT_MAX, self.filter_bytes);
                    for hash in hashes.iter() {
                        filter.insert(*hash);
                    }
                    self.seen = Seen::Filter(filter);
                }
                is_new
            }
            Seen::Filter(filter) => filter.insert(hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, StringArray, UInt64Array};

    use super::*;

    fn batch(keys: &[&str]) -> RecordBatch {
        let rows: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..keys.len() as u64));
        RecordBatch::try_from_iter([("k", Arc::new(StringArray::from(keys.to_vec())) as ArrayRef), ("r", rows)])
            .unwrap()
    }

    fn rows(batch: Option<RecordBatch>) -> Vec<u64> {
        batch.map_or_else(Vec::new, |batch| {
            batch.column(1).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec()
        })
    }

    #[test]
    fn repeated_keys_are_suspects() {
        let mut keys = Keys::new(1 << 20);
        let (fresh, suspects) = keys.split(&batch(&["a", "b", "a", "c", "b"]), "k").unwrap();
        assert_eq!((rows(fresh), rows(suspects)), (vec![0, 1, 3], vec![2, 4]));
        let (fresh, suspects) = keys.split(&batch(&["a", "b"]), "k").unwrap();
        assert_eq!((rows(fresh), rows(suspects)), (vec![], vec![0, 1]));
        let (fresh, suspects) = keys.split(&batch(&["d", "e"]), "k").unwrap();
        assert_eq!((rows(fresh), rows(suspects)), (vec![0, 1], vec![]));
    }

    #[test]
    fn many_keys_fit_a_filter_that_misses_none() {
        let mut keys = Keys::new(4 << 20);
        let hash = |key: u64| keys.hasher.hash(&key.to_string());
        let count = EXACT_MAX as u64 + 200_000;
        let hashes: Vec<u64> = (0..count).map(hash).collect();
        let fresh = hashes.iter().filter(|hash| keys.insert(**hash)).count() as u64;
        assert!(matches!(keys.seen, Seen::Filter(_)));
        assert!(fresh > count - count / 100, "{fresh} of {count} are told as new");
        assert_eq!(hashes.iter().filter(|hash| keys.insert(**hash)).count(), 0);
    }
}
