//! The tests that go through the wire, in one binary.
