//! Results of statements that have run (DDL, DML, PIVOT) and wait for their DoGet: bounded in number and in time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use crate::engine::Executed;
use crate::error::{Error, Result};

/// The results that wait. One can be read again until it expires.
#[derive(Debug)]
pub(super) struct Results {
    waiting: Mutex<HashMap<Uuid, (Instant, Executed)>>,
    count_max: usize,
    expire: Duration,
}

impl Results {
    pub(super) fn new(count_max: usize, expire: Duration) -> Self {
        Self { waiting: Mutex::default(), count_max, expire }
    }

    /// Keeps a result; answers its handle, which is empty when there are no rows to keep.
    ///
    /// # Errors
    /// `ResourceExhausted` when too many wait.
    pub(super) fn keep(&self, executed: Executed) -> Result<Bytes> {
        if executed.schema.fields().is_empty() {
            return Ok(Bytes::new());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (since, _)| since.elapsed() < self.expire);
        if waiting.len() >= self.count_max {
            return Err(Error::exhausted(format!(
                "{} results wait to be read, which is the limit (query.results_max); try again later",
                self.count_max
            )));
        }
        let handle = Uuid::new_v4();
        waiting.insert(handle, (Instant::now(), executed));
        Ok(Bytes::copy_from_slice(handle.as_bytes()))
    }

    /// The result of a handle.
    pub(super) fn find(&self, handle: &Bytes) -> Result<Executed> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Uuid::from_slice(handle).ok().and_then(|handle| waiting.get(&handle));
        let found = found.filter(|(since, _)| since.elapsed() < self.expire);
        found.map(|(_, executed)| executed.clone()).ok_or_else(|| {
            Error::not_found(format!(
                "the result of this ticket is gone: it is kept for {:?} (query.results_expire)",
                self.expire
            ))
        })
    }
}
