//! The `merganser` program.

use std::process::ExitCode;

/// The allocator of the whole process, DuckDB's C++ included (the `override` feature): with glibc's, exporting a result costs a tenth
/// to a fifth more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    merganser::cli::run()
}
