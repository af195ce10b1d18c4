//! The tests that go through the wire or over the sources, in one binary. Each module says at its head what it proves.

// The client commands against a running server.
mod cli;
// Stock clients from Python, against the real binary.
mod clients;
// `merganser demo`, run as a newcomer does: what it prints, and that nothing is left behind.
mod demo;
// The references in docs/: they are what the code says.
mod docs;
// arrow-flight's own client of Flight SQL, against the real binary.
mod flight_sql;
// The server as a process: its modes, its start, its end.
mod modes;
// gRPC reflection, asked of a running server: the services, and Flight's own messages.
mod reflection;
// The processes and the sample that these tests share.
mod support;
// The rules of the source tree: layers, heads, sizes, documentation that follows the code.
mod tidy;
