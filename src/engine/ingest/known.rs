//! What is known of tables that small appends go into: their kind, a filter of their keys and their row of `_metadata`, so that an
//! append need not ask DuckDB for them. It is right while nobody else writes, so whoever takes a table's lock for anything else makes it forgotten.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::engine::metadata::Row;
use crate::tables::{KeyFilter, KeyHasher, Kind};

/// Tables that are known at once. Their filters have a limit of their own, of bytes.
const TABLES_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// The known tables, by their lowercase name.
#[derive(Debug)]
pub(super) struct KnownTables {
    tables: Mutex<LruCache<String, Known>>,
    hasher: KeyHasher,
    filter_bytes_max: usize,
}

#[derive(Debug)]
struct Known {
    kind: Kind,
    /// None while they were not needed, or are in use.
    contents: Option<Contents>,
}

/// What is known of a table's contents.
#[derive(Debug)]
pub(super) struct Contents {
    /// None when it would be too large.
    pub(super) filter: Option<KeyFilter>,
    pub(super) row: Row,
}

impl Contents {
    fn filter_bytes(&self) -> usize {
        self.filter.as_ref().map_or(0, KeyFilter::bytes)
    }
}

impl KnownTables {
    /// Nothing is known yet; all filters together will take at most `filter_bytes_max`.
    pub(super) fn new(filter_bytes_max: usize) -> Self {
        Self { tables: Mutex::new(LruCache::new(TABLES_MAX)), hasher: KeyHasher::random(), filter_bytes_max }
    }

    /// What the filters' keys are hashed by.
    pub(super) fn hasher(&self) -> KeyHasher {
        self.hasher
    }

    /// Bytes that one filter may take.
    pub(super) fn filter_bytes_max(&self) -> usize {
        self.filter_bytes_max
    }

    /// The kind of a table, if it is known.
    pub(super) fn kind(&self, table: &str) -> Option<Kind> {
        self.lock().get(table).map(|known| known.kind)
    }

    /// Notes a table's kind, on behalf of one who has its lock.
    pub(super) fn note(&self, table: &str, kind: Kind) {
        let mut tables = self.lock();
        if !tables.contains(table) {
            tables.put(table.to_owned(), Known { kind, contents: None });
        }
    }

    /// Takes what is known of a table's contents to use it, on behalf of one who has its lock.
    pub(super) fn take(&self, table: &str) -> Option<Contents> {
        self.lock().get_mut(table)?.contents.take()
    }

    /// Keeps what is known of a table's contents, before its lock is given back; tables not used for longest are forgotten when the
    /// filters are too large together.
    pub(super) fn keep(&self, table: &str, kind: Kind, contents: Contents) {
        let mut tables = self.lock();
        tables.put(table.to_owned(), Known { kind, contents: Some(contents) });
        let bytes = |known: &Known| known.contents.as_ref().map_or(0, Contents::filter_bytes);
        let mut total: usize = tables.iter().map(|(_, known)| bytes(known)).sum();
        while total > self.filter_bytes_max
            && let Some((_, oldest)) = tables.pop_lru()
        {
            total -= bytes(&oldest);
        }
    }

    /// Forgets a table.
    pub(super) fn forget(&self, table: &str) {
        self.lock().pop(table);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<String, Known>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_all_tables_have_one_limit() {
        let known = KnownTables::new(300 << 10);
        for table in ["a", "b", "c", "d"] {
            known.note(table, Kind::Events);
            assert!(known.take(table).is_none());
            let filter = Some(KeyFilter::new(1, 1 << 20));
            known.keep(table, Kind::Events, Contents { filter, row: Row::default() });
        }
        let bytes = KeyFilter::new(1, 1 << 20).bytes();
        assert_eq!(
            ["a", "b", "c", "d"].iter().filter(|table| known.kind(table).is_some()).count(),
            (300 << 10) / bytes
        );
        assert!(known.kind("a").is_none() || bytes * 4 <= 300 << 10);
        assert!(known.take("d").is_some());
        known.forget("d");
        assert_eq!(known.kind("d"), None);
    }
}
