//! OpenTelemetry: metrics, traces and the log, over gRPC to a collector.
//!
//! Owns the exporters. They send in batches from threads of their own, and what their queues can't take is lost. The
//! specification's environment variables for sampling, batches and intervals are honoured.

use std::collections::BTreeMap;
use std::convert::Infallible;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tonic::transport::Channel;

use super::subject::Subject;
use crate::config::OtlpConfig;
use crate::grpc::{ConnectError, connect_tls_lazy};
use crate::log::{Level, LogSink};
use crate::supervisor::Supervisor;
use crate::tls::{PageTlsError, collector_config};

/// The instrumentation scope of all that is sent.
const SCOPE: &str = "credence";

/// The port of OTLP over gRPC.
const PORT: u16 = 4317;

/// Exporters that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The library refuses.
    #[error("unable to send to the OpenTelemetry collector")]
    Exporter(#[from] ExporterBuildError),
    /// The authorities of the collector can't be used.
    #[error("unable to verify the OpenTelemetry collector")]
    Tls(#[from] PageTlsError),
    /// There is no way to it.
    #[error(transparent)]
    Connection(#[from] ConnectError),
}

/// The three kinds of what is sent, as far as they are on.
pub(super) struct Otlp {
    metrics: Option<SdkMeterProvider>,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Otlp {
    pub(super) fn start(config: &OtlpConfig, subject: &Subject<'_>, host: &str) -> Result<Self, OtlpError> {
        let resource = Resource::builder()
            .with_service_name(subject.service.replace('_', "-"))
            .with_attributes([
                KeyValue::new("service.version", subject.version.to_owned()),
                KeyValue::new("host.name", host.to_owned()),
                KeyValue::new("spiffe.trust_domain", subject.trust_domain.as_str().to_owned()),
            ])
            .build();
        let channel = secure(config, subject)?;
        let mut otlp = Self {
            metrics: None,
            traces: None,
            logs: None,
        };
        if config.metrics {
            let builder = MetricExporter::builder().with_tonic();
            let exporter = reaching(builder, config, channel.clone()).build()?;
            let provider = SdkMeterProvider::builder()
                .with_periodic_exporter(exporter)
                .with_resource(resource.clone())
                .build();
            otlp.metrics = Some(provider);
        }
        if config.traces {
            let builder = SpanExporter::builder().with_tonic();
            let exporter = reaching(builder, config, channel.clone()).build()?;
            let provider = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource.clone())
                .build();
            otlp.traces = Some(provider);
        }
        if config.logs {
            let builder = LogExporter::builder().with_tonic();
            let exporter = reaching(builder, config, channel).build()?;
            let provider = SdkLoggerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource)
                .build();
            otlp.logs = Some(provider);
        }
        Ok(otlp)
    }

    pub(super) fn meter(&self) -> Option<Meter> {
        self.metrics.as_ref().map(|metrics| metrics.meter(SCOPE))
    }

    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.traces.as_ref().map(|traces| traces.tracer(SCOPE))
    }

    pub(super) fn log(&self) -> Option<Box<dyn LogSink>> {
        let logger = self.logs.as_ref()?.logger(SCOPE);
        Some(Box::new(ToCollector(logger)))
    }

    /// Sends what is left when the process stops.
    pub(super) fn finish_with(self, supervisor: &Supervisor) {
        let stop = supervisor.token();
        supervisor.spawn_graceful("otlp", async move {
            stop.cancelled().await;
            // The exporters' threads need this runtime to send, so it must not be held up.
            drop(spawn_blocking(move || self.finish()).await);
            Ok::<(), Infallible>(())
        });
    }

    /// Whether a collector that is gone got the last words matters to nobody.
    fn finish(self) {
        if let Some(traces) = self.traces {
            drop(traces.shutdown());
        }
        if let Some(metrics) = self.metrics {
            drop(metrics.shutdown());
        }
        if let Some(logs) = self.logs {
            drop(logs.shutdown());
        }
    }
}

/// The connection of ours to a collector that is reached by TLS.
fn secure(config: &OtlpConfig, subject: &Subject<'_>) -> Result<Option<Channel>, OtlpError> {
    let Some(rest) = config.endpoint.strip_prefix("https://") else {
        return Ok(None);
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, port),
        _ => (rest, PORT),
    };
    let tls = collector_config(config.authorities.as_deref(), subject.key_exchange)?;
    Ok(Some(connect_tls_lazy(host, port, tls)?))
}

/// The exporter's way to the collector.
fn reaching<B: WithExportConfig + WithTonicConfig>(
    builder: B,
    config: &OtlpConfig,
    channel: Option<Channel>,
) -> B {
    match channel {
        Some(channel) => builder.with_channel(channel),
        None => builder.with_endpoint(config.endpoint.as_str()),
    }
}

struct ToCollector(SdkLogger);

impl LogSink for ToCollector {
    fn emit(&self, level: Level, message: &str, fields: &BTreeMap<&'static str, Value>) {
        let mut record = self.0.create_log_record();
        record.set_severity_number(severity(level));
        record.set_severity_text(level.as_str());
        record.set_body(AnyValue::from(message.to_owned()));
        record.add_attributes(fields.iter().map(|(name, value)| (Key::new(*name), any(value))));
        self.0.emit(record);
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Trace => Severity::Trace,
        Level::Debug => Severity::Debug,
        Level::Info => Severity::Info,
        Level::Warn => Severity::Warn,
        Level::Error => Severity::Error,
        Level::Fatal | Level::Panic => Severity::Fatal,
    }
}

fn any(value: &Value) -> AnyValue {
    match value {
        Value::Bool(value) => AnyValue::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AnyValue::from(number),
            None => AnyValue::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => AnyValue::from(text.clone()),
        other => AnyValue::from(other.to_string()),
    }
}
