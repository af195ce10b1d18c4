//! What the process tells about itself: the log on stderr, [instruments] for metrics, and [traces].
//!
//! The log is tracing's events as lines, for people or for machines. Stdout belongs to the program's answers.

pub mod instruments;
pub mod traces;

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, Log, LogFormat};
use crate::error::{Error, Result};
use traces::{BoxedLayer, Traces};

/// Starts the log of this process, and its traces if the configuration wants them; a second start is an error. To be called on the
/// async runtime that sends the traces.
pub fn init(config: &Config) -> Result<Traces> {
    let (traces, spans) = traces::start(&config.otel)?;
    // The one for spans is first, so that the other's text of a span's fields is not its matter.
    let subscriber = tracing_subscriber::registry().with(spans).with(lines(&config.log)?);
    subscriber.try_init().map_err(|error| Error::internal("the log is already started").with_source(error))?;
    Ok(traces)
}

/// Lines on stderr.
fn lines<S>(log: &Log) -> Result<BoxedLayer<S>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| Error::invalid(format!("`log.filter` = {} is not a filter", log.filter)).with_source(error))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    Ok(match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed(),
    })
}
