//! The allocator of the whole process, and what happens when there is no memory left.
//!
//! [`limit`] gives the process a ceiling: `RLIMIT_DATA`, which the kernel keeps for everybody who allocates, DuckDB's binder,
//! strings and worker threads included. What hits it must end one statement, and never the process:
//!
//! * In C++ a failed `new` has to throw `std::bad_alloc`, which DuckDB answers as an error of the statement. mimalloc, which is
//!   compiled as C, cannot throw and would abort, unless there is a handler that does.
//! * In Rust a failed allocation aborts. Rust's own allocations are small or bounded by settings, so they wait for the statement
//!   that took the memory to fail, and then raise the ceiling by what they need.
//!
//! Stacks of the engine's threads are address space, of which little is used; the ceiling moves with their number.
#![expect(unsafe_code, reason = "an allocator is unsafe, and so is standing in for a function of libstdc++")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mimalloc::MiMalloc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How often, and for how long in all, an allocation of Rust's is tried again before the ceiling is raised for it.
const TRY_EVERY: Duration = Duration::from_millis(5);
const TRIES: u32 = 200;

/// What the ceiling is raised by at least.
const RAISE_MIN: u64 = 1 << 20;

/// The ceiling, without the stacks; zero: none.
static CEILING: AtomicU64 = AtomicU64::new(0);
/// Bytes of stacks of the engine's threads, and what Rust had to have beyond the ceiling.
static STACKS: AtomicU64 = AtomicU64::new(0);
static RAISED: AtomicU64 = AtomicU64::new(0);

/// mimalloc, for DuckDB's C++ too (the `override` feature): with glibc's, exporting a result costs a tenth to a fifth more.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call goes to mimalloc with the caller's own arguments; what is tried again is a call that has given nothing.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        persist(layout.size(), || unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        persist(layout.size(), || unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract; a failed realloc leaves the old block as it was.
        persist(size, || unsafe { MiMalloc.realloc(pointer, layout, size) })
    }
}

#[inline]
fn persist(bytes: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let pointer = allocate();
    if pointer.is_null() { persist_slowly(bytes, allocate) } else { pointer }
}

#[cold]
#[inline(never)]
fn persist_slowly(bytes: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    // Without a ceiling of ours it is the machine that has no more.
    if CEILING.load(Ordering::Relaxed) == 0 {
        return std::ptr::null_mut();
    }
    for _ in 0..TRIES {
        std::thread::sleep(TRY_EVERY);
        let pointer = allocate();
        if !pointer.is_null() {
            return pointer;
        }
    }
    // Twice: mimalloc takes more than it is asked for.
    RAISED.fetch_add(2 * (bytes as u64).max(RAISE_MIN), Ordering::Relaxed);
    apply();
    allocate()
}

type NewHandler = unsafe extern "C-unwind" fn();

unsafe extern "C-unwind" {
    /// libstdc++'s `std::__throw_bad_alloc()`.
    #[link_name = "_ZSt17__throw_bad_allocv"]
    fn throw_bad_alloc();
}

/// `std::get_new_handler()`, which mimalloc asks what to do when it has no memory for a `new`: its own answer is nothing, and then
/// it aborts.
// SAFETY: mimalloc defines the same function weakly, to be replaced; libstdc++ is a shared library, whose own is hidden by either.
#[unsafe(export_name = "_ZSt15get_new_handlerv")]
extern "C" fn new_handler() -> NewHandler {
    throw_bad_alloc
}

/// Gives the process a ceiling of `bytes`, the stacks of the engine's threads not counted; zero: none.
pub fn limit(bytes: u64) {
    CEILING.store(bytes, Ordering::Relaxed);
    // Without it the first failure would abort: this is what keeps the linker from leaving the handler out.
    std::hint::black_box(new_handler());
    apply();
}

/// A thread of the engine begins or ends: its stack of `bytes` does not count.
pub(crate) fn thread_begins(bytes: usize) {
    STACKS.fetch_add(bytes as u64, Ordering::Relaxed);
    apply();
}

/// The same for one that has ended.
pub(crate) fn thread_ends(bytes: usize) {
    STACKS.fetch_sub(bytes as u64, Ordering::Relaxed);
    apply();
}

/// What was needed beyond the ceiling is no longer, as far as a thread that begins other work can tell.
pub(crate) fn settle() {
    if RAISED.load(Ordering::Relaxed) != 0 {
        RAISED.store(0, Ordering::Relaxed);
        apply();
    }
}

fn apply() {
    let ceiling = CEILING.load(Ordering::Relaxed);
    if ceiling == 0 {
        return;
    }
    let bytes = ceiling + STACKS.load(Ordering::Relaxed) + RAISED.load(Ordering::Relaxed);
    let Rlimit { maximum, .. } = getrlimit(Resource::Data);
    let current = Some(maximum.map_or(bytes, |maximum| bytes.min(maximum)));
    // Only the soft limit moves, which needs no right. A failure leaves the one before.
    _ = setrlimit(Resource::Data, Rlimit { current, maximum });
}
