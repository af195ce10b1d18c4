//! The `merganser` program.

use std::process::ExitCode;

/// The allocator of the whole process, DuckDB's C++ included (the `override` feature): with glibc's, exporting a result costs a fifth
/// more, and memory that was used once is hardly given back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    merganser::cli::run()
}
