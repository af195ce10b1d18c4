//! The flags of `serve` that set configuration values.

use std::path::PathBuf;

use clap::Args;

use super::LogFormat;

/// The flags of `serve` that set configuration values: all optional, so that weaker sources show through.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct ConfigFlags {
    /// Database file, made if it is not there [default: merganser/merganser.duckdb in the user's data directory]
    #[arg(value_name = "PATH", conflicts_with_all = ["ephemeral", "memory"])]
    pub path: Option<PathBuf>,
    /// Use a temporary database that is deleted on exit
    #[arg(long, conflicts_with_all = ["memory", "read_only"])]
    pub ephemeral: bool,
    /// Keep the database in memory only
    #[arg(long, conflicts_with = "read_only")]
    pub memory: bool,
    /// Open an existing database file without ever writing to it
    #[arg(long)]
    pub read_only: bool,
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:8815]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Encrypt with a certificate that nobody has signed; it is made, kept beside the database, and its fingerprint told
    #[arg(long)]
    pub tls_self_signed: bool,
    /// Serve beyond this machine although there are no users or there is no TLS
    #[arg(long)]
    pub insecure: bool,
    /// Memory for DuckDB, like 2GiB [default: half of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Threads for DuckDB [default: the cores of the machine]
    #[arg(long, value_name = "NUMBER")]
    pub threads: Option<String>,
    /// Directory for what does not fit in memory [default: beside the database file]
    #[arg(long, value_name = "DIRECTORY")]
    pub temp_directory: Option<PathBuf>,
    /// Form of the log on stderr [default: text]
    #[arg(long, value_enum, value_name = "FORM")]
    pub log_format: Option<LogFormat>,
    /// Set any setting, like engine.query_timeout=30s; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Read settings from this file [default: merganser/merganser.toml in the user's configuration directory]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration and where each value comes from, then exit
    #[arg(long)]
    pub print_config: bool,
}
