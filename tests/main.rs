//! The tests that go through the wire or over the sources, in one binary. Each module says at its head what it proves.

// Stock clients from Python, against the real binary.
mod clients;
// `merganser demo`, run as a newcomer does: what it prints, and that nothing is left behind.
mod demo;
// gRPC reflection, asked of a running server: the services, and Flight's own messages.
mod reflection;
// The rules of the source tree: layers, heads, sizes, documentation that follows the code.
mod tidy;
