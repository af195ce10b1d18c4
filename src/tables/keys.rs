//! Keys: their texts and hashes, and a filter of those that there may be.
//!
//! The filter never misses a key, and rarely takes a new one for a known one. It grows by layers, each twice as large as the one before, up to a limit of bytes; beyond it the errors grow slowly, and cost
//! time, not truth. Keys are kept as hashes only.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use parquet::bloom_filter::Sbbf;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bits for each key, which make about three errors in ten thousand looks.
const KEY_BITS: usize = 20;

/// Bytes of the smallest layer.
const LAYER_BYTES_MIN: usize = 64 << 10;

/// A key's hash: random between processes, so that nobody can make up keys that all collide.
#[derive(Clone, Copy, Debug)]
pub struct KeyHasher(u64);

/// The keys that there may be.
#[derive(Debug)]
pub struct KeyFilter {
    layers: Vec<Layer>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Layer {
    filter: Sbbf,
    keys: usize,
    keys_max: usize,
}

impl KeyHasher {
    /// A hasher like no other.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().0)
    }

    /// The hash of a key.
    pub fn hash(self, key: &str) -> u64 {
        xxh3_64_with_seed(key.as_bytes(), self.0)
    }
}

impl KeyFilter {
    /// No keys yet, with room for about `keys` before it grows; at most `bytes_max`.
    pub fn new(keys: usize, bytes_max: usize) -> Self {
        let mut filter = Self { layers: Vec::new(), bytes: 0, bytes_max };
        filter.add_layer(filter_bytes(keys));
        filter
    }

    /// Notes a key by its hash; true when it was not there for certain.
    pub fn insert(&mut self, hash: u64) -> bool {
        let is_new = !self.may_have(hash);
        if is_new {
            if self.layers.last().is_some_and(|layer| layer.keys >= layer.keys_max) && self.bytes < self.bytes_max {
                self.add_layer(self.layers.last().map_or(0, |layer| layer.filter.num_blocks() * 32 * 2));
            }
            if let Some(layer) = self.layers.last_mut() {
                layer.filter.insert(&hash);
                layer.keys += 1;
            }
        }
        is_new
    }

    /// Whether a key may be there, by its hash.
    pub fn may_have(&self, hash: u64) -> bool {
        // The newest layer is the largest, and has most of the keys.
        self.layers.iter().rev().any(|layer| layer.filter.check(&hash))
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn add_layer(&mut self, bytes: usize) {
        // A layer is rounded up to a power of two, so what there is room for is rounded down.
        let room = self.bytes_max.saturating_sub(self.bytes).max(LAYER_BYTES_MIN);
        let bytes = bytes.clamp(LAYER_BYTES_MIN, 1 << room.ilog2());
        let filter = Sbbf::new_with_num_of_bytes(bytes);
        let bytes = filter.num_blocks() * 32;
        self.bytes += bytes;
        self.layers.push(Layer { filter, keys: 0, keys_max: bytes * 8 / KEY_BITS });
    }
}

/// Bytes that a filter of `keys` needs.
pub fn filter_bytes(keys: usize) -> usize {
    keys.saturating_mul(KEY_BITS) / 8
}

/// The keys of a column of text, none of which is null: a null is a bad row, found before. None for another type.
pub fn key_texts(keys: &dyn Array) -> Option<Box<dyn Iterator<Item = &str> + '_>> {
    Some(match keys.data_type() {
        DataType::Utf8 => Box::new(keys.as_string::<i32>().iter().map(Option::unwrap_or_default)),
        DataType::LargeUtf8 => Box::new(keys.as_string::<i64>().iter().map(Option::unwrap_or_default)),
        DataType::Utf8View => Box::new(keys.as_string_view().iter().map(Option::unwrap_or_default)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_misses_none() {
        let hasher = KeyHasher::random();
        let mut filter = KeyFilter::new(1000, 4 << 20);
        let hash = |key: u32| hasher.hash(&key.to_string());
        let new = (0..500_000).filter(|key| filter.insert(hash(*key))).count();
        assert!(new > 499_000, "{new}");
        assert!((0..500_000).all(|key| filter.may_have(hash(key))));
        let wrong = (500_000..600_000).filter(|key| filter.may_have(hash(*key))).count();
        assert!(wrong < 400, "{wrong}");
        assert!(filter.layers.len() > 2 && filter.bytes() <= 4 << 20);
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let hasher = KeyHasher::random();
        let mut filter = KeyFilter::new(0, 128 << 10);
        for key in 0..200_000 {
            filter.insert(hasher.hash(&key.to_string()));
        }
        assert_eq!(filter.bytes(), 128 << 10);
        assert!(KeyFilter::new(1_000_000, 1_500_000).bytes() <= 1_500_000);
        assert!((0..200_000).all(|key| filter.may_have(hasher.hash(&key.to_string()))));
    }
}
