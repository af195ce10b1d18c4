//! Merganser: one binary that turns DuckDB into an Arrow Flight server for product events.
//!
//! # Map
//!
//! From the wire inwards; each folder knows only what stands below it, and they meet in Arrow batches and plain values.
//!
//! * [`cli`]: the program's commands. `serve` and `demo` run a server; the others are Flight clients of any server.
//! * [`alloc`]: the allocator, and the ceiling of the process's memory.
//! * [`access`]: who calls (the users file, API tokens, an issuer's JWTs, the tokens of sessions), and the one decision about what
//!   principals with their roles and grants may do.
//! * [`config`]: every setting, its default and where its value came from. [`telemetry`]: the log, the table of all metrics, and traces.
//! * [`server`]: opens the database ([`server::Location`] says where), reserves the port, serves, drains (`server/drain.rs`).
//!   [`server::exposure`] says whether it may be reached from elsewhere, `server/listener` takes connections in, `server/tls` is
//!   what encrypts them. `server/readiness.rs` probes the database for gRPC's health service and the operations port
//!   (`server/ops.rs`), which also shows the metrics (`server/gauges.rs`).
//! * [`backup`]: copies of the database that are known to be good, and their way back.
//! * [`flight`]: the only folder that speaks Flight. Bytes become a command, an error becomes a status, here only.
//!   `flight/observe` is around every call: its id, its span, its metrics, its line in the access log.
//! * [`ingest`]: from a stream of batches to an outcome: coercion of columns, telling new keys from known ones, chunks.
//! * [`engine`]: the only folder that names DuckDB. Its threads, queries, statements, sessions and transactions, tables, and the
//!   transaction of an ingest; `engine/types` is what clients get of each type, `engine/parameters` what they may send, `engine/listing`
//!   what there is; `engine/guard` decides what a caller's statement may do, on the plan that DuckDB has bound it to;
//!   `engine/startup` makes a new file, and mends the log that a crash has left, before DuckDB opens them; `engine/queries` is the
//!   query log; `engine/timezone` is what DuckDB's ICU extension would add; `engine/ffi.rs` has the `unsafe` that DuckDB needs.
//! * [`tables`]: kinds of tables, their columns, names. [`proto`]: the messages of `merganser.v1`. [`error`]: the one error. [`batch`]: what a batch weighs.
//!   `files`: names and places of files.
//!
//! # Follow a DoPut
//!
//! 1. `flight/arriving.rs` lets messages in as there is room for them. `flight/mod.rs` `do_put` reads the first; `flight/command.rs`
//!    `decode` makes an [`ingest::Request`] of its descriptor, and `flight/ingest.rs` `put` runs the stream in a task beside its answers;
//!    `flight/decode.rs` decodes it.
//! 2. `ingest/pipeline.rs` `Ingest::open` settles the kind, plans the coercion (`ingest/coerce`) and asks the engine;
//!    `engine/ingest/writer.rs` `open_ingest` checks the table (`engine/ingest/table.rs`) on a thread of its own and chooses the way: straight into a new
//!    table, or through a stage into one that others use. The client gets its first IngestProgress.
//! 3. Each batch: `Ingest::write` coerces it beside the async runtime, `ingest/keys.rs` splits it into rows with new keys and
//!    suspects, and chunks of whole row groups go over a channel of one to the writer's thread.
//! 4. The writer puts a chunk under a token (`engine/import.rs`) and runs `INSERT … FROM merganser_import('token')`, or stages
//!    it (`engine/ingest/stage.rs`).
//! 5. At the end `Ingest::commit` makes the writer merge what is left (`engine/ingest/merge.rs`) under the table's lock, write
//!    `_metadata` (`engine/metadata.rs`) and COMMIT. The client gets its IngestResult. Anything else that ends the stream drops the
//!    writer, and with it the transaction; an error is answered when that has ended (`Ingest::abandon`).
//!
//! An append to a managed table goes another way while it is small: it has no writer (`engine/ingest/append.rs`), its rows wait in
//! memory, and at its end it joins the others that wait for the same table (`engine/ingest/group.rs`). Which of their rows enter
//! is decided in memory (`engine/ingest/admit.rs`) with what is known of the table (`engine/ingest/known.rs`); one statement
//! (`engine/ingest/store.rs`), and one write to the disk, store them all.
//!
//! # Follow a DoGet
//!
//! 1. `flight/auth.rs` asks `access/authority` who calls, in which session. GetFlightInfo (`flight/info.rs`) has planned the query and left the plan
//!    with its thread in `flight/flights.rs`; `flight/mod.rs` `do_get`: `flight/ticket.rs` `decode` makes a ticket of the bytes,
//!    `flight/statement.rs` `get` takes the plan, or asks the engine for a new one.
//! 2. `engine/query.rs` `query` starts an engine thread (`engine/threads.rs`) on a connection of its own, or on that of the
//!    session or transaction (`engine/session/lane.rs`), which waits for a slot (`engine/slots.rs`), reads
//!    the statement (`engine/statement`), has the guard (`engine/guard`) decide on what DuckDB binds it to, answers its columns, and starts it when its rows are wanted.
//! 3. DuckDB's workers make Arrow arrays of its rows (`engine/arrays.cpp`); the thread takes them over (`engine/ffi.rs`) and sends them into a channel of so many
//!    bytes (`engine/output.rs`, sized by `engine/buffer.rs`), beside which it says how they ended. A full channel gives the slot back until the client has read; a
//!    dropped one interrupts the query (`engine/cancel.rs`).
//! 4. `flight/encode.rs` `encode` makes messages of the batches, each under the limit by its real size, and `flight/body.rs` gives
//!    the arrays' own buffers to HTTP/2.
//!
//! # Invariants
//!
//! 1. Only `engine/` names DuckDB's crates. Only `flight/`, `server/` and `cli/` name tonic; only `flight/status.rs` picks a
//!    gRPC code. `unsafe` is in `engine/ffi.rs` and `alloc.rs` only. (`tests/tidy.rs` checks these.)
//! 2. DuckDB runs on the engine's threads, never on the async runtime. DuckDB's own workers never wait for a client: what a
//!    statement reads is there before it begins.
//! 3. One stream is one transaction: an ingest that was not answered OK has left nothing; one that was is on the disk.
//! 4. A key of a managed table is checked against the table and then written under the table's lock, never otherwise. Who takes the
//!    lock makes forgotten what small appends knew of the table.
//! 5. Every queue, cache, map, message and wait has a bound, and the bound has a name in [`config`]. Where something is bounded
//!    by something else, a comment says by what.
//! 6. Environment, files and the clock are read at the edge, and passed on as values.
//! 7. A client can make a call fail, and never the server.

pub mod access;
pub mod alloc;
pub mod backup;
pub mod batch;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
mod files;
pub mod flight;
pub mod ingest;
pub mod proto;
pub mod server;
pub mod tables;
pub mod telemetry;
