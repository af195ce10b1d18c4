//! The allocator of the whole process, and what happens when there is no memory left.
//!
//! [`limit`] gives the process a ceiling, by `RLIMIT_DATA`, which the kernel keeps for everybody who allocates, DuckDB's binder,
//! strings and worker threads included. What hits it must end one statement, and never the process:
//!
//! * In C++ a failed `new` has to throw `std::bad_alloc`, which DuckDB answers as an error of the statement. mimalloc, which is
//!   compiled as C, cannot throw and would abort, unless there is a handler that does.
//! * In Rust a failed allocation aborts. Rust's own allocations are small or bounded by settings, so they wait for the statement
//!   that took the memory to fail, and then raise the ceiling by what they need.
//!
//! The kernel counts address space, of which mimalloc and threads' stacks take more than they use. So a thread sets the limit anew, many
//! times a second, to what is mapped and what may still be used.
//!
//! Free memory stays with mimalloc for a while, which saves taking it anew; [`give_back_soon`] is for a server that has little.
#![expect(unsafe_code, reason = "an allocator is unsafe, and so is standing in for a function of libstdc++")]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_long};
use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, thread};

use mimalloc::MiMalloc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How often, and for how long in all, an allocation of Rust's is tried again before the ceiling is raised for it.
const TRY_EVERY: Duration = Duration::from_millis(5);
const TRIES: u32 = 200;

/// What the ceiling is raised by at least.
const RAISE_MIN: u64 = 16 << 20;

/// How often the limit is set anew.
const SET_EVERY: Duration = Duration::from_millis(50);

/// Milliseconds after which free memory is given back where it is scarce. mimalloc's own second makes large results 5% faster, and a
/// long ingest take 50 MB more.
const GIVE_BACK_AFTER: c_long = 100;

/// `mi_option_purge_delay` of mimalloc.h, which its crate has no name for.
const PURGE_DELAY: c_int = 15;

/// The ceiling; zero: none.
static CEILING: AtomicU64 = AtomicU64::new(0);

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
        thread::sleep(TRY_EVERY);
        let pointer = allocate();
        if !pointer.is_null() {
            return pointer;
        }
    }
    // Twice: mimalloc takes more than it is asked for. The next look takes back what is left of it.
    set(0, 2 * (bytes as u64).max(RAISE_MIN));
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

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// Has free memory given back to the system soon.
pub fn give_back_soon() {
    // SAFETY: mimalloc stores one word, which its threads read whenever they look; it ignores an option that it does not know.
    unsafe { mi_option_set(PURGE_DELAY, GIVE_BACK_AFTER) };
}

/// Gives the process a ceiling of `bytes`; zero: none. Once is for good.
pub fn limit(bytes: u64) {
    // Without this the linker would leave the handler out, and the first failure abort.
    std::hint::black_box(new_handler());
    if bytes == 0 || CEILING.swap(bytes, Ordering::Relaxed) != 0 {
        return;
    }
    set(bytes, 0);
    let started = thread::Builder::new().name("memory".to_owned()).spawn(move || {
        loop {
            thread::sleep(SET_EVERY);
            set(bytes, 0);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "cannot start a thread: the ceiling of memory stays where it is");
    }
}

/// Sets the limit to what is mapped now, what may be used beyond what is used now, and `more`. Without allocating: it is also called
/// when that fails.
fn set(ceiling: u64, more: u64) {
    let Some((used, mapped)) = memory() else { return };
    let free = ceiling.saturating_sub(used);
    let Rlimit { maximum, .. } = getrlimit(Resource::Data);
    let bytes = mapped + free + more;
    let current = Some(maximum.map_or(bytes, |maximum| bytes.min(maximum)));
    // Only the soft limit moves, which needs no right. A failure leaves the one before.
    _ = setrlimit(Resource::Data, Rlimit { current, maximum });
}

/// Bytes of memory that are used, and those that are mapped, of what is not a file's.
fn memory() -> Option<(u64, u64)> {
    let mut buffer = [0; 128];
    let mut file = fs::File::open("/proc/self/statm").ok()?;
    let length = file.read(&mut buffer).ok()?;
    let mut pages = std::str::from_utf8(buffer.get(..length)?).ok()?.split_ascii_whitespace().map(str::parse::<u64>);
    let page = rustix::param::page_size() as u64;
    // size resident shared text lib data dt
    let (resident, shared) = (pages.nth(1)?.ok()?, pages.next()?.ok()?);
    let mapped = pages.nth(2)?.ok()?;
    Some((resident.saturating_sub(shared) * page, mapped * page))
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, c_char, c_void};

    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        type Output = extern "C" fn(*const c_char, *mut c_void);
        unsafe extern "C" {
            fn mi_options_print_out(output: Output, to: *mut c_void);
        }
        extern "C" fn write(text: *const c_char, to: *mut c_void) {
            // SAFETY: mimalloc gives a text that ends with a zero, and the string that this test has given it.
            let (text, to) = unsafe { (CStr::from_ptr(text), &mut *to.cast::<String>()) };
            to.push_str(&text.to_string_lossy());
        }
        give_back_soon();
        let mut options = String::new();
        // SAFETY: the string outlives the call.
        unsafe { mi_options_print_out(write, (&raw mut options).cast()) };
        assert!(options.contains(&format!("'purge_delay': {GIVE_BACK_AFTER} ")), "{options}");
    }

    #[test]
    fn the_kernel_tells_what_is_used() {
        let block = vec![1_u8; 64 << 20];
        let (used, mapped) = memory().unwrap();
        // Other tests take and give back memory meanwhile; this block is there in any case.
        assert!(used >= std::hint::black_box(block).len() as u64 && mapped >= used / 2);
    }
}
