//! What the server tells those who operate it: the settings of the log, of the operations port and of traces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text;

/// The log on stderr.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged: a level, or `target=level,...`.
    pub filter: String,
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
    /// Lines of the access log in one second, one a call; calls beyond it are counted in a line of their own. `0`: no access log.
    pub access_per_second: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text, access_per_second: 100 }
    }
}

/// The port for those who operate the server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Address of `/healthz`, `/readyz` and `/metrics` over HTTP, such as `127.0.0.1:8816`; empty: none.
    pub listen: String,
    /// Connections open at once on that port; more wait.
    pub connections_max: usize,
    /// Time in which the database has to answer a probe; the server is not ready beyond it.
    #[serde(with = "text::duration")]
    pub probe_timeout: Duration,
}

impl Default for Ops {
    fn default() -> Self {
        Self { listen: String::new(), connections_max: 32, probe_timeout: Duration::from_secs(5) }
    }
}

/// Traces for OpenTelemetry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otel {
    /// Where spans go by OTLP over gRPC, such as `http://127.0.0.1:4317`; empty: nowhere.
    pub endpoint: String,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object on each line.
    Json,
}

impl LogFormat {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
