//! Generates the Rust types of `proto/` with prost (protox compiles the files, so nobody needs protoc), and compiles the parts of the
//! engine that are C++.

use std::io::Result;
use std::path::PathBuf;

use prost::Message;

const FILES: &[&str] = &[
    "merganser/v1/backups.proto",
    "merganser/v1/ingest.proto",
    "merganser/v1/queries.proto",
    "merganser/v1/tables.proto",
    "merganser/v1/tickets.proto",
];

/// Messages that exist as JSON too. Field names are those of the proto files; unknown fields are refused.
const JSON_MESSAGES: &[&str] = &[
    "BackupInfo",
    "BackupRequest",
    "CancelQueryRequest",
    "CancelQueryResult",
    "CloseSessionRequest",
    "CloseSessionResult",
    "Column",
    "DropTableRequest",
    "DropTableResult",
    "Ingest",
    "IngestCommit",
    "IngestMetadata",
    "IngestProgress",
    "IngestResult",
    "ListQueriesRequest",
    "ListSessionsRequest",
    "ListTablesRequest",
    "QueryInfo",
    "ServerInfo",
    "SessionInfo",
    "TableExists",
    "TableInfo",
    "TableMetadata",
    "TableRequest",
    "TableSchema",
];

/// Fields whose JSON form is not the plain one, and the module of `crate::proto::json` that writes it.
const JSON_FIELDS: &[(&str, &str)] = &[
    ("BackupInfo.created_at", "timestamp"),
    ("Ingest.commit", "commit"),
    ("Ingest.extra", "extra_columns"),
    ("Ingest.kind", "table_kind"),
    ("Ingest.mode", "ingest_mode"),
    ("Ingest.on_duplicate", "on_duplicate"),
    ("Ingest.progress", "progress"),
    ("IngestMetadata.fetched_at", "timestamp"),
    ("ListTablesRequest.kind", "table_kind"),
    ("QueryInfo.kind", "query_kind"),
    ("QueryInfo.outcome", "query_outcome"),
    ("QueryInfo.started_at", "timestamp"),
    ("QueryInfo.state", "query_state"),
    ("SessionInfo.created_at", "timestamp"),
    ("SessionInfo.last_used_at", "timestamp"),
    ("TableInfo.fetched_at", "timestamp"),
    ("TableInfo.kind", "table_kind"),
    ("TableMetadata.created_at", "timestamp"),
    ("TableMetadata.fetched_at", "timestamp"),
    ("TableMetadata.type", "table_kind"),
    ("TableMetadata.updated_at", "timestamp"),
    ("TableSchema.arrow_schema", "base64_bytes"),
    ("TableSchema.kind", "table_kind"),
];

/// What makes Arrow arrays of results, and what walks DuckDB's bound plans.
const CPP: &[&str] = &["src/engine/arrays.cpp", "src/engine/guard/plan.cpp"];

fn main() -> Result<()> {
    compile_cpp();
    generate_messages()
}

/// Against the headers that libduckdb-sys has compiled DuckDB with, and with the same options.
fn compile_cpp() {
    for file in CPP {
        println!("cargo:rerun-if-changed={file}");
    }
    let include = std::env::var_os("DEP_DUCKDB_INCLUDE").expect("libduckdb-sys tells where DuckDB's headers are");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files(CPP)
        .include(include)
        .define("NDEBUG", None)
        .warnings(false)
        .compile("merganser_engine");
}

fn generate_messages() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"]).map_err(std::io::Error::other)?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.btree_map([".merganser.v1.SessionInfo.settings"]);
    for message in JSON_MESSAGES {
        let path = format!(".merganser.v1.{message}");
        config.type_attribute(&path, "#[derive(serde::Serialize, serde::Deserialize)]");
        config.type_attribute(&path, "#[serde(default, deny_unknown_fields)]");
    }
    for (field, module) in JSON_FIELDS {
        config.field_attribute(
            format!(".merganser.v1.{field}"),
            format!("#[serde(with = \"crate::proto::json::{module}\")]"),
        );
    }
    let directory = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(directory.join("merganser.bin"), descriptors.encode_to_vec())?;
    config.compile_fds(descriptors)
}
