//! Traces for OpenTelemetry: the spans of calls and statements go to a collector by OTLP over gRPC, on the trace of the client if
//! its `traceparent` header names one.
//!
//! What waits to be sent is bounded by the SDK (2048 spans); more are dropped. Of its environment variables, the SDK reads its own:
//! `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` choose which calls are traced.

use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter};

use crate::config::Otel;
use crate::error::{Error, Result};

/// The header of the trace that a client's call belongs to.
pub const PARENT_HEADER: &str = "traceparent";

/// How long the collector has to take a batch of spans; the last one, too.
const SEND_MAX: Duration = Duration::from_secs(5);

/// Spans of ours go there, and nothing of the libraries'.
const TARGET: &str = env!("CARGO_CRATE_NAME");

/// The spans on their way to a collector, if there is one.
#[derive(Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends what is left.
    pub async fn stop(self) {
        let Some(provider) = self.0 else { return };
        // It blocks until the collector has answered.
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SEND_MAX)).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(%error, "the last spans were not sent (otel.endpoint)");
        }
    }
}

/// A layer of the subscriber `S`.
pub(super) type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// The sender, and the layer that gives it spans.
pub(super) fn start<S>(otel: &Otel) -> Result<(Traces, Option<BoxedLayer<S>>)>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    if otel.endpoint.is_empty() {
        return Ok((Traces::default(), None));
    }
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(&otel.endpoint).with_timeout(SEND_MAX).build();
    let exporter = exporter.map_err(|error| {
        Error::invalid(format!("`otel.endpoint` = {} cannot be used", otel.endpoint)).with_source(error)
    })?;
    let resource = Resource::builder().with_service_name(env!("CARGO_PKG_NAME")).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_filter(filter::filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with(TARGET)));
    Ok((Traces(Some(provider)), Some(layer.boxed())))
}

/// Makes `span` a part of the trace that a `traceparent` names, and of none if it is not one.
pub fn adopt(span: &Span, parent: &str) {
    let context = TraceContextPropagator::new().extract(&Header(parent));
    if context.span().span_context().is_valid()
        && let Err(error) = span.set_parent(context)
    {
        // Nobody asked for traces.
        tracing::trace!(%error, "the client's trace is not used");
    }
}

/// The one header of a call that says where it belongs.
struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == PARENT_HEADER).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT_HEADER]
    }
}
