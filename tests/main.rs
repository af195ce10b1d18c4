//! The tests that go through the wire or over the sources, in one binary. Each module says at its head what it proves.

// The client commands against a running server.
mod cli;
// Stock clients from Python, against the real binary.
mod clients;
// The server as a process: its modes, its start, its end.
mod modes;
// The processes and the sample that these tests share.
mod support;
// The rules of the source tree: layers, heads, sizes, documentation that follows the code.
mod tidy;
