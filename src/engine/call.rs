//! On whose behalf a piece of work runs, and until when.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::queries::Tracked;
use crate::access::{self, Operation, Principal};
use crate::error::{Error, Result};

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
    /// The statement in the query log that it is a part of; none: it begins one, or is in no log.
    pub tracked: Option<Arc<Tracked>>,
}

/// Who something is kept for: nobody else finds it.
pub type Owner = Option<Arc<str>>;

impl Call {
    /// Why somebody has stopped the call; waits until somebody has.
    pub async fn stopped(&self) -> Error {
        match &self.tracked {
            Some(tracked) => tracked.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Whose the call is.
    pub fn owner(&self) -> Owner {
        self.principal.as_ref().map(|principal| Arc::clone(&principal.name))
    }

    /// Whether the caller may do `operation`; the server may do everything.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub fn may(&self, operation: Operation<'_>) -> Result<()> {
        self.principal.as_ref().map_or(Ok(()), |principal| principal.may(operation))
    }

    /// Whether the caller may know of a table or view.
    pub fn may_read(&self, schema: &str, table: &str) -> bool {
        self.may(Operation::Read(&access::table_name(schema, table))).is_ok()
    }

    /// Whether the caller may see some tables only.
    pub fn is_restricted(&self) -> bool {
        self.principal.as_ref().is_some_and(|principal| principal.is_restricted())
    }

    /// The same caller, outside of its session and transaction.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self { principal: self.principal.clone(), deadline: self.deadline, ..Self::default() }
    }

    /// The same call with the transaction that it names.
    #[must_use]
    pub fn within(mut self, transaction: Option<TransactionId>) -> Self {
        self.transaction = transaction;
        self
    }
}
