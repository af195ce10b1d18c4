//! The log: tracing's events as lines on stderr, for people or for machines. Stdout belongs to the program's answers.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::error::{Error, Result};

/// Starts the log of this process; a second start is an error.
pub fn init(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| Error::invalid(format!("`log.filter` = {} is not a filter", log.filter)).with_source(error))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Text if io::stderr().is_terminal() => lines.finish().try_init(),
        LogFormat::Text => lines.with_ansi(false).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| Error::internal("the log is already started").with_source(error))
}
