//! Opening: the instance, its settings, our functions, the data file, and the tables that the server keeps in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use duckdb_neo::connection::SettingScope;
use duckdb_neo::environment::{Environment, StorageLocation};
use duckdb_neo::instance::{AttachBuilder, Instance, InstanceBuilder};

use super::buffer::ResultBuffer;
use super::queries::{self, Queries};
use super::threads::{Threads, Use};
use super::work::{OPTIMIZER, QUERY_MEMORY};
use super::{
    CATALOG, Database, Engine, Inner, cancel::Watchdog, disk, format, guard, import, ingest, metadata,
    session::Sessions, slots, startup, timezone,
};
use crate::config::{Config, Engine as EngineConfig};
use crate::error::{Error, Result};

impl Engine {
    /// Opens DuckDB with `database` attached.
    ///
    /// # Errors
    /// `FailedPrecondition` when the file cannot be opened: another process holds it (the message names that one), or it is
    /// no database. `InvalidArgument` when a setting is refused.
    pub fn open(config: &Config, database: Database) -> Result<Self> {
        let engine = &config.engine;
        // DuckDB's workers start with it.
        let instance = Use::Statements.run(|| Ok(options(engine, &database).build(&Environment::new()?)?))?;
        startup::prepare(&instance, &database)?;
        attach(&instance, &database)?;
        let imports = Arc::new(import::Imports::default());
        let connection = instance.connect()?;
        import::register(&connection, &imports)?;
        timezone::register(&connection)?;
        let sessions = Arc::new(Sessions::new(config.session.clone()));
        let queries = Arc::new(Queries::new(config.queries.clone(), bytes(engine.statement_bytes_max)));
        queries::register(&connection, &queries, &sessions)?;
        queries::register_tables(&instance)?;
        let builtins = guard::Builtins::load(&connection)?;
        builtins.check_file(&connection)?;
        guard::install(&connection);
        let export_directory = export_directory(engine);
        lock(&instance, engine, export_directory.as_deref())?;
        format::upgrade(&connection, &database)?;
        // A read-only file may lack the server's tables; nothing in it is written, and every name is looked up.
        let managed = if database.read_only {
            metadata::ManagedNames::default()
        } else {
            metadata::ManagedNames::load(&connection)?
        };
        drop(connection);
        sessions.start_sweeping()?;
        let inner = Inner {
            threads: Threads::new(Use::Statements, engine.open_max, bytes(engine.stack_bytes)),
            // Streams, and the groups that their appends end in.
            ingest_threads: Threads::new(Use::Ingests, 2 * config.ingest.streams_max, bytes(engine.stack_bytes)),
            watchdog: Watchdog::start()?,
            sessions,
            queries,
            slots: slots::Slots::new(statement_limits(engine)),
            // As many as there are threads for them: an ingest does not wait for statements to end.
            ingest_slots: slots::Slots::new(slots::Limits {
                running_max: 2 * config.ingest.streams_max,
                queue_max: 0,
                wait_max: Duration::ZERO,
                user_running: usize::MAX,
                user_queue: 0,
            }),
            imports,
            ingests: ingest::Ingests::new(bytes(config.ingest.table_filters_memory)),
            managed,
            disk: disk::DiskFloor::new(database.path.as_deref(), engine.disk_free_min),
            instance,
            recovery: super::recovery::Recovery::default(),
            database,
            config: engine.clone(),
            query: config.query.clone(),
            export_directory,
            builtins,
            result_buffer: ResultBuffer::new(&config.query),
            // All streams together stay within half of the budget; the rest is for chunks on their way.
            stage_bytes_max: bytes(config.ingest.memory) / config.ingest.streams_max.max(1) / 2,
            ids_max: config.ingest.ids_max,
            table_wait: config.ingest.table_wait,
        };
        Ok(Self(Arc::new(inner)))
    }
}

fn statement_limits(config: &EngineConfig) -> slots::Limits {
    slots::Limits {
        running_max: config.statements_max,
        queue_max: config.statements_queue_max,
        wait_max: config.statements_queue_wait,
        user_running: config.user_statements_max,
        user_queue: config.user_queue_max,
    }
}

/// Closes the instance to what nobody may do through SQL: reading other files, and changing settings for everybody.
fn lock(instance: &Instance, engine: &EngineConfig, export_directory: Option<&Path>) -> Result<()> {
    let open =
        ["TimeZone", timezone::CLOCK, "streaming_buffer_size", "max_streaming_buffer_size", OPTIMIZER, QUERY_MEMORY];
    let config = instance.config()?;
    if let Some(directory) = export_directory.and_then(Path::to_str) {
        // As the text of a list has it.
        let quoted = directory.replace('\\', "\\\\").replace('\'', "\\'");
        // DuckDB takes it neither before the instance is open nor without access to files.
        config.set_text("allowed_directories", &format!("['{quoted}']"), SettingScope::Global)?;
    }
    for (setting, value) in [
        // As an option of the instance it would be shown and not kept: DuckDB's buffer manager does not hear of it.
        ("max_temp_directory_size", &*format!("{}B", engine.temp_directory_max.as_u64())),
        // Only now: attaching the data file needs the access that nothing after it does.
        ("enable_external_access", "false"),
        ("allowed_configs", &format!("[{}]", open.join(", "))),
        ("lock_configuration", "true"),
    ] {
        config.set_text(setting, value, SettingScope::Global)?;
    }
    Ok(())
}

/// The directory for COPY TO, with no link in its path.
fn export_directory(config: &EngineConfig) -> Option<PathBuf> {
    let directory = &config.export_directory;
    (!directory.as_os_str().is_empty()).then(|| directory.canonicalize().unwrap_or_else(|_| directory.clone()))
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// The instance's settings. Extensions are never fetched: the binary holds what it needs.
pub(in crate::engine) fn options(config: &EngineConfig, database: &Database) -> InstanceBuilder {
    let mut options = InstanceBuilder::new()
        .option("autoinstall_known_extensions", "false")
        .option("autoload_known_extensions", "false")
        .option("allow_community_extensions", "false")
        .option("memory_limit", config.memory_limit.as_u64().to_string() + "B")
        .option("threads", config.threads.to_string())
        // A checkpoint without a marker in the log cannot be told from a damaged disk when it is broken off: see `startup/blocks.rs`.
        .option("auto_checkpoint_skip_wal_threshold", i64::MAX.to_string())
        .option("max_expression_depth", config.expression_depth_max.to_string())
        .option("checkpoint_threshold", config.checkpoint_threshold.as_u64().to_string() + "B");
    // Without a directory DuckDB would make one of its own where the process was started.
    let directory = database.temp_directory.as_ref().and_then(|directory| directory.to_str()).unwrap_or_default();
    options = options.option("temp_directory", directory);
    options
}

pub(in crate::engine) fn attach(instance: &Instance, database: &Database) -> Result<()> {
    let location = match &database.path {
        None => StorageLocation::InMemory,
        Some(path) => {
            let text = path.to_str().ok_or_else(|| Error::invalid("the database path is not valid UTF-8"))?;
            StorageLocation::OnDisk(text.to_owned())
        }
    };
    let mut attachment = AttachBuilder::new(location).alias(CATALOG).make_default();
    if database.read_only {
        attachment = attachment.option("read_only", "true");
    }
    match instance.attach(attachment) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(error, database)),
    }
}

/// The one clear line for a file that cannot be opened.
fn explain(error: duckdb_neo::Error, database: &Database) -> Error {
    let shown = database.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let message = if error.message.contains("Could not set lock on file") {
        let holder = holder(&error.message).unwrap_or_else(|| "another process".to_owned());
        format!(
            "database file {shown} is in use by {holder}: stop it first, or open the file with --read-only on both sides"
        )
    } else {
        let reason = error.message.lines().next().unwrap_or_default();
        // A start for writing has looked at the log before.
        let hint = if database.read_only && error.message.contains("Corrupt ") {
            "; start a server without --read-only once, which mends what a power loss leaves"
        } else {
            ""
        };
        format!("cannot open database file {shown}: {reason}{hint}")
    };
    Error::precondition(message).with_source(error)
}

/// `process 123 (merganser)`, read from `… Conflicting lock is held in /path/merganser (PID 123) …`.
fn holder(message: &str) -> Option<String> {
    let (before, after) = message.split_once("(PID ")?;
    let (pid, _) = after.split_once(')')?;
    let program = before.rsplit("held in ").next().map(str::trim).unwrap_or_default();
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Some(if name.is_empty() { format!("process {pid}") } else { format!("process {pid} ({name})") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_named() {
        let message = "IO Error: Could not set lock on file \"/data/a.duckdb\": Conflicting lock is held in \
                       /usr/bin/python3.11 (PID 4711). See also https://duckdb.org/docs/connect/concurrency";
        assert_eq!(holder(message).as_deref(), Some("process 4711 (python3.11)"));
        assert_eq!(holder("IO Error: Could not set lock on file"), None);
    }
}
