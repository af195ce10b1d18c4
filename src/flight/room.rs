//! Room in memory for messages, `server.messages_memory`: who needs some waits for it, and not for ever.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config;
use crate::error::{Error, Result};

/// Memory is counted in pages of this size, because a semaphore counts at most 2^32.
pub(super) const PAGE: usize = 4096;

/// Smaller messages are not counted: what HTTP/2's windows let in before anybody reads it is more.
pub(super) const FREE_BYTES: usize = 64 << 10;

/// The room that all calls share; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pages: Arc<Semaphore>,
    memory: ByteSize,
    wait_max: Duration,
}

impl Room {
    pub(super) fn new(server: &config::Server) -> Self {
        // A message that is allowed at all has room for itself.
        let memory = server.messages_memory.max(server.message_bytes_max);
        let pages = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX).div_ceil(PAGE);
        Self {
            pages: Arc::new(Semaphore::new(pages.min(Semaphore::MAX_PERMITS))),
            memory,
            wait_max: server.messages_wait,
        }
    }

    /// Waits for room for `what`, which has so many bytes; it is taken until the permit is dropped.
    ///
    /// # Errors
    /// `ResourceExhausted` when there is none within `server.messages_wait`.
    pub(super) async fn admit(self, what: &'static str, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let pages = u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX);
        let Self { memory, wait_max, .. } = self;
        match tokio::time::timeout(wait_max, self.pages.acquire_many_owned(pages)).await {
            Ok(permit) => permit.map_err(|_| Error::internal("the room for messages is closed")),
            Err(_) => Err(Error::exhausted(format!(
                "{what} of {bytes} bytes found no room in {memory} (server.messages_memory) for {wait_max:?} \
                 (server.messages_wait): try again later, or send smaller batches"
            ))),
        }
    }

    /// Pages that nobody has.
    #[cfg(test)]
    pub(super) fn free_pages(&self) -> usize {
        self.pages.available_permits()
    }
}
