//! The guard: what a caller's statement may do, decided on the plan that DuckDB has bound it to.
//!
//! DuckDB tells each item of each bound plan (`plan.cpp`): a table that is read, a table that is written, a function, an entry of the
//! catalog that is made or dropped. Views, macros, CTEs and `query('…')` have become operators by then, so no spelling hides
//! anything. [`items`] says what each item means; what the caller may do is decided by [`Principal::may`], as everywhere.
//!
//! Binding happens on the thread that runs the statement, so who calls is a value of the thread: [`enter`] sets it for a piece
//! of work, and [`as_server`] lays it aside for a statement of the server's own.

mod builtins;
mod items;
mod lists;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use duckdb_neo::connection::Connection;

use super::{Inner, ffi};
use crate::access::Principal;
use crate::error::Result;
pub(in crate::engine) use builtins::Builtins;
pub(in crate::engine) use items::{Item, Kind};

/// On whose behalf a thread binds statements.
struct Caller {
    principal: Arc<Principal>,
    engine: Arc<Inner>,
}

thread_local! {
    /// None: the server.
    static CALLER: RefCell<Option<Caller>> = const { RefCell::new(None) };
}

/// The thread's statements are a caller's until this is dropped. It stays on its thread.
pub(in crate::engine) struct Entered {
    before: Option<Caller>,
    thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CALLER.set(self.before.take());
    }
}

/// From here on the thread's statements are those of `principal`; none: of the server.
pub(in crate::engine) fn enter(principal: Option<&Arc<Principal>>, engine: &Arc<Inner>) -> Entered {
    let caller = principal.map(|principal| Caller { principal: Arc::clone(principal), engine: Arc::clone(engine) });
    Entered { before: CALLER.replace(caller), thread: PhantomData }
}

/// Runs a statement of the server's own in the midst of a caller's work.
pub(in crate::engine) fn as_server<T>(work: impl FnOnce() -> T) -> T {
    let _entered = Entered { before: CALLER.take(), thread: PhantomData };
    work()
}

/// Puts the guard before every statement of the instance, and takes away the functions that read files while they are bound.
pub(in crate::engine) fn install(connection: &Connection) {
    for function in lists::REMOVED {
        ffi::remove_function(connection, function);
    }
    ffi::install_guard(connection);
}

/// Whether `name` is that of a function which is taken away.
pub(in crate::engine) fn is_removed(name: &str) -> bool {
    lists::has(lists::REMOVED, name)
}

/// Refuses a table or view that would hide one of DuckDB's own.
///
/// # Errors
/// `PermissionDenied`.
pub(in crate::engine) fn refuse_builtin(builtins: &Builtins, table: &str) -> Result<()> {
    if builtins.have_relation(table) { Err(items::name_of_ours(table)) } else { Ok(()) }
}

/// Whether the thread's caller may do what an item says.
///
/// # Errors
/// `PermissionDenied`, which says what is not allowed.
pub(in crate::engine) fn decide(item: &Item<'_>) -> Result<()> {
    CALLER.with_borrow(|caller| caller.as_ref().map_or(Ok(()), |caller| item.allowed(caller)))
}
