//! The `merganser` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: merganser::alloc::Allocator = merganser::alloc::Allocator;

fn main() -> ExitCode {
    merganser::cli::run()
}
