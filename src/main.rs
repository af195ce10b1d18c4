//! The `merganser` program.

fn main() {}
