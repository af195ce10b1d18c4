//! The limits of the settings themselves: one pass over the finished configuration, whose messages name setting and value.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use humantime_serde::re::humantime::format_duration;
use tracing_subscriber::EnvFilter;

use super::{Config, text};
use crate::access::Role;
use crate::error::{Error, Result};

/// What RFC 7518 asks of a key of HS256.
const SECRET_BYTES_MIN: usize = 32;
/// What no setting of a count may exceed: far above any use, far below what overflows.
const COUNT_MAX: usize = 10_000_000;

impl Config {
    /// Checks what the types alone do not: ranges, and settings that only make sense together.
    pub fn validate(&self) -> Result<()> {
        self.validate_counts()?;
        self.validate_sizes()?;
        self.validate_durations()?;
        self.validate_jwt()?;
        self.validate_tls()?;
        self.validate_texts()
    }

    fn validate_counts(&self) -> Result<()> {
        let (engine, query, ingest) = (&self.engine, &self.query, &self.ingest);
        count("server.calls_per_connection_max", self.server.calls_per_connection_max as usize, 1, COUNT_MAX)?;
        count("server.connections_max", self.server.connections_max, 1, COUNT_MAX)?;
        count("server.handshakes_max", self.server.handshakes_max, 1, 65536)?;
        count("engine.threads", engine.threads, 1, 1024)?;
        count("engine.statements_max", engine.statements_max, 1, 4096)?;
        count("engine.open_max", engine.open_max, 1, 4096)?;
        count("engine.statements_queue_max", engine.statements_queue_max, 0, COUNT_MAX)?;
        count("engine.user_statements_max", engine.user_statements_max, 1, 4096)?;
        count("engine.user_queue_max", engine.user_queue_max, 0, COUNT_MAX)?;
        count("engine.statement_depth_max", engine.statement_depth_max, 1, 1000)?;
        count("engine.statement_lambdas_max", engine.statement_lambdas_max, 0, 16)?;
        count("engine.statement_parts_max", engine.statement_parts_max, 1, COUNT_MAX)?;
        count("engine.expression_depth_max", engine.expression_depth_max, 100, 1000)?;
        count("query.batch_rows", query.batch_rows, 1, 1 << 20)?;
        count("query.results_max", query.results_max, 1, COUNT_MAX)?;
        count("query.plans_max", query.plans_max, 1, 4096)?;
        count("query.prepared_max", query.prepared_max, 1, COUNT_MAX)?;
        count("auth.verifications_max", self.auth.verifications_max, 1, 1024)?;
        count("auth.verified_max", self.auth.verified_max, 1, COUNT_MAX)?;
        count("auth.attempts_max", self.auth.attempts_max as usize, 1, COUNT_MAX)?;
        count("auth.attempts_per_address_max", self.auth.attempts_per_address_max as usize, 1, COUNT_MAX)?;
        count("auth.attempts_tracked_max", self.auth.attempts_tracked_max, 1, COUNT_MAX)?;
        count("jwt.keys_max", self.jwt.keys_max, 1, 4096)?;
        count("queries.history_max", self.queries.history_max, 0, 1_000_000)?;
        count("session.sessions_max", self.session.sessions_max, 1, COUNT_MAX)?;
        count("session.transactions_max", self.session.transactions_max, 1, COUNT_MAX)?;
        count("ingest.streams_max", ingest.streams_max, 1, 4096)?;
        count("ingest.ids_max", ingest.ids_max, 0, COUNT_MAX)?;
        count("ingest.json_depth_max", ingest.json_depth_max, 1, 10_000)?;
        count("log.access_per_second", self.log.access_per_second as usize, 0, COUNT_MAX)?;
        count("ops.connections_max", self.ops.connections_max, 1, 4096)
    }

    fn validate_sizes(&self) -> Result<()> {
        let (server, engine, ingest) = (&self.server, &self.engine, &self.ingest);
        let (kib, mib, gib) = (ByteSize::kib, ByteSize::mib, ByteSize::gib);
        size("server.message_bytes_max", server.message_bytes_max, mib(1), gib(2))?;
        size("server.messages_memory", server.messages_memory, mib(1), ByteSize::tib(1))?;
        size("server.header_bytes_max", server.header_bytes_max, kib(4), mib(16))?;
        size("engine.memory_limit", engine.memory_limit, mib(64), ByteSize::pib(1))?;
        size("engine.query_memory_max", engine.query_memory_max, ByteSize(0), ByteSize::pib(1))?;
        if engine.process_memory_max.as_u64() > 0 {
            size("engine.process_memory_max", engine.process_memory_max, mib(512), ByteSize::pib(1))?;
        }
        size("engine.disk_free_min", engine.disk_free_min, ByteSize(0), ByteSize::pib(1))?;
        size("query.result_size_max", self.query.result_size_max, ByteSize(0), ByteSize::pib(1))?;
        size("engine.temp_directory_max", engine.temp_directory_max, ByteSize(0), ByteSize::pib(1))?;
        size("engine.statement_bytes_max", engine.statement_bytes_max, kib(1), mib(64))?;
        size("engine.stack_bytes", engine.stack_bytes, mib(16), gib(1))?;
        size("engine.checkpoint_threshold", engine.checkpoint_threshold, mib(1), ByteSize::tib(1))?;
        size("jwt.response_bytes_max", self.jwt.response_bytes_max, kib(1), mib(16))?;
        size("query.batch_bytes_max", self.query.batch_bytes_max, kib(64), gib(1))?;
        size("query.result_bytes_max", self.query.result_bytes_max, kib(64), gib(16))?;
        size("query.parameters_bytes_max", self.query.parameters_bytes_max, kib(64), gib(16))?;
        size(
            "query.parameters_memory",
            self.query.parameters_memory,
            self.query.parameters_bytes_max,
            ByteSize::tib(1),
        )?;
        size("query.result_buffer", self.query.result_buffer, mib(1), gib(4))?;
        size("queries.text_bytes_max", self.queries.text_bytes_max, ByteSize(16), mib(1))?;
        size("ingest.stream_memory", ingest.stream_memory, mib(1), ByteSize::tib(1))?;
        size("ingest.memory", ingest.memory, ingest.stream_memory, ByteSize::tib(1))?;
        size("ingest.key_filter_memory", ingest.key_filter_memory, kib(64), gib(64))?;
        size("ingest.table_filters_memory", ingest.table_filters_memory, ByteSize(0), gib(64))
    }

    fn validate_durations(&self) -> Result<()> {
        let zero = Duration::ZERO;
        let (millisecond, second, day) = (Duration::from_millis(1), Duration::from_secs(1), Duration::from_hours(24));
        duration("server.handshake_timeout", self.server.handshake_timeout, millisecond * 100, day)?;
        duration("server.messages_wait", self.server.messages_wait, zero, day)?;
        duration("server.keepalive_interval", self.server.keepalive_interval, second, day)?;
        duration("server.keepalive_timeout", self.server.keepalive_timeout, second, day)?;
        duration("server.shutdown_grace", self.server.shutdown_grace, zero, day)?;
        duration("engine.statements_queue_wait", self.engine.statements_queue_wait, zero, day)?;
        duration("engine.query_timeout", self.engine.query_timeout, zero, day * 30)?;
        duration("engine.reopen_timeout", self.engine.reopen_timeout, second, day)?;
        duration("auth.session_token_expire", self.auth.session_token_expire, second, day * 365)?;
        duration("auth.verifications_wait", self.auth.verifications_wait, millisecond, day)?;
        duration("auth.verified_expire", self.auth.verified_expire, zero, day)?;
        duration("auth.attempts_window", self.auth.attempts_window, second, day)?;
        duration("jwt.leeway", self.jwt.leeway, zero, day)?;
        duration("jwt.keys_expire", self.jwt.keys_expire, second, day * 30)?;
        duration("jwt.keys_refetch", self.jwt.keys_refetch, second, day)?;
        duration("jwt.fetch_timeout", self.jwt.fetch_timeout, millisecond, day)?;
        duration("query.results_expire", self.query.results_expire, second, day)?;
        duration("query.plans_expire", self.query.plans_expire, millisecond, day)?;
        duration("queries.slow", self.queries.slow, zero, day)?;
        duration("session.idle_timeout", self.session.idle_timeout, second, day * 30)?;
        duration("session.transaction_idle_timeout", self.session.transaction_idle_timeout, second, day * 30)?;
        duration("ingest.idle_timeout", self.ingest.idle_timeout, millisecond, day)?;
        duration("ingest.table_wait", self.ingest.table_wait, zero, day)?;
        duration("ops.probe_timeout", self.ops.probe_timeout, millisecond, day)
    }

    fn validate_jwt(&self) -> Result<()> {
        let jwt = &self.jwt;
        let keys = [
            ("jwt.secret", !jwt.secret.is_empty()),
            ("jwt.public_key_file", !jwt.public_key_file.as_os_str().is_empty()),
            ("jwt.jwks_url", !jwt.jwks_url.is_empty()),
        ];
        let mut set = keys.iter().filter(|(_, is_set)| *is_set).map(|(key, _)| *key);
        let (first, second) = (set.next(), set.next());
        if let (Some(first), Some(second)) = (first, second) {
            return Err(Error::invalid(format!("`{first}` and `{second}` are both set: keys have one source")));
        }
        match (first, jwt.issuer.is_empty(), jwt.audience.is_empty()) {
            (Some(key), true, _) => return Err(Error::invalid(format!("`{key}` is set without `jwt.issuer`"))),
            (_, false, true) => return Err(Error::invalid("`jwt.issuer` is set without `jwt.audience`")),
            _ => {}
        }
        if !jwt.secret.is_empty() && jwt.secret.len() < SECRET_BYTES_MIN {
            return Err(Error::invalid(format!("`jwt.secret` has less than {SECRET_BYTES_MIN} bytes")));
        }
        if !jwt.role_default.is_empty() {
            let unknown = |error: Error| refuse("jwt.role_default", &jwt.role_default, "is no role").with_source(error);
            jwt.role_default.parse::<Role>().map_err(unknown)?;
        }
        Ok(())
    }

    fn validate_tls(&self) -> Result<()> {
        let tls = &self.tls;
        let given = |path: &Path| !path.as_os_str().is_empty();
        let (certificate, key, client_ca) = (given(&tls.certificate), given(&tls.key), given(&tls.client_ca));
        let show = Path::display;
        if certificate && tls.self_signed {
            return Err(refuse("tls.certificate", show(&tls.certificate), "and `tls.self_signed` exclude each other"));
        } else if certificate && !key {
            return Err(refuse("tls.certificate", show(&tls.certificate), "has no use without `tls.key`"));
        } else if key && !certificate {
            return Err(refuse("tls.key", show(&tls.key), "has no use without `tls.certificate`"));
        } else if client_ca && !tls.is_on() {
            let why = "has no use without `tls.certificate` or `tls.self_signed`";
            return Err(refuse("tls.client_ca", show(&tls.client_ca), why));
        } else if tls.client_optional && !client_ca {
            return Err(refuse("tls.client_optional", true, "has no use without `tls.client_ca`"));
        }
        Ok(())
    }

    fn validate_texts(&self) -> Result<()> {
        let Config { server, ops, otel, database, log, .. } = self;
        if !is_address(&server.listen) {
            return Err(refuse("server.listen", &server.listen, "is not an address like 127.0.0.1:8815"));
        }
        if !ops.listen.is_empty() && !is_address(&ops.listen) {
            return Err(refuse("ops.listen", &ops.listen, "is not an address like 127.0.0.1:8816"));
        }
        if !otel.endpoint.is_empty() && !otel.endpoint.starts_with("http://") {
            return Err(refuse("otel.endpoint", &otel.endpoint, "is not a URI like http://127.0.0.1:4317"));
        }
        if !database.mode.has_path() && !database.path.as_os_str().is_empty() {
            let why = format!("has no use while `database.mode` is {}", database.mode.word());
            return Err(refuse("database.path", database.path.display(), &why));
        }
        match EnvFilter::try_new(&log.filter) {
            Ok(_) => Ok(()),
            Err(error) => Err(refuse("log.filter", &log.filter, "is not a filter like info or merganser=debug,info")
                .with_source(error)),
        }
    }
}

fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    matches!(port, Some(Ok(_)))
}

fn count(key: &str, value: usize, min: usize, max: usize) -> Result<()> {
    within(key, value, min, max, ToString::to_string)
}

fn size(key: &str, value: ByteSize, min: ByteSize, max: ByteSize) -> Result<()> {
    within(key, value, min, max, |size| text::size::write(*size))
}

fn duration(key: &str, value: Duration, min: Duration, max: Duration) -> Result<()> {
    within(key, value, min, max, |duration| format_duration(*duration).to_string())
}

fn within<T: Copy + PartialOrd>(key: &str, value: T, min: T, max: T, write: impl Fn(&T) -> String) -> Result<()> {
    if value < min {
        Err(refuse(key, write(&value), &format!("is less than {}", write(&min))))
    } else if value > max {
        Err(refuse(key, write(&value), &format!("is more than {}", write(&max))))
    } else {
        Ok(())
    }
}

fn refuse(key: &str, value: impl Display, why: &str) -> Error {
    Error::invalid(format!("`{key}` = {value} {why}"))
}
