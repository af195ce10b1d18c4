//! On whose behalf a piece of work runs, and until when.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use crate::access::Principal;

/// The name of a session: whoever knows it is in it.
pub type SessionKey = Arc<str>;

/// The name of a transaction that a client has begun.
pub type TransactionId = Uuid;

/// On whose behalf a piece of work runs, and until when.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Who calls; none: the server itself.
    pub principal: Option<Arc<Principal>>,
    /// The caller's session; none: the call stands alone, and leaves nothing behind but what it stores.
    pub session: Option<SessionKey>,
    /// The transaction that it names.
    pub transaction: Option<TransactionId>,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
}

impl Call {
    /// The same call with the transaction that it names.
    #[must_use]
    pub fn within(mut self, transaction: Option<TransactionId>) -> Self {
        self.transaction = transaction;
        self
    }
}
