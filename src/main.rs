//! The `merganser` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    merganser::cli::run()
}
