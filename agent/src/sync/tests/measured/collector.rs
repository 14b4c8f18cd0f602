//! An OpenTelemetry collector that remembers what it was sent.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use credence_runtime::supervisor::Supervisor;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

#[derive(Debug, Clone)]
pub(super) struct Collector {
    endpoint: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// With the service that sent it.
    spans: Vec<(String, Span)>,
    metrics: Vec<String>,
    logs: Vec<LogRecord>,
}

impl Collector {
    pub(super) async fn start(supervisor: &Supervisor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            seen: Arc::default(),
        };
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        supervisor.spawn("collector", async {
            serving.await.unwrap();
            Ok::<(), Infallible>(())
        });
        collector
    }

    pub(super) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// The one span of that service and name.
    pub(super) fn span(&self, service: &str, name: &str) -> Span {
        let mut found = self.spans_of(service, name);
        assert_eq!(
            found.len(),
            1,
            "{service} {name}: {:?}",
            self.seen.lock().unwrap().spans
        );
        found.remove(0)
    }

    pub(super) fn spans_of(&self, service: &str, name: &str) -> Vec<Span> {
        let seen = self.seen.lock().unwrap();
        let fits = |(sender, span): &&(String, Span)| sender == service && span.name == name;
        seen.spans
            .iter()
            .filter(fits)
            .map(|(_, span)| span.clone())
            .collect()
    }

    pub(super) fn metrics(&self) -> Vec<String> {
        self.seen.lock().unwrap().metrics.clone()
    }

    /// The first log record with that message.
    pub(super) fn log(&self, message: &str) -> LogRecord {
        let seen = self.seen.lock().unwrap();
        let says = |record: &&LogRecord| {
            let body = record.body.as_ref().and_then(|body| body.value.as_ref());
            matches!(body, Some(Value::StringValue(text)) if text == message)
        };
        let found = seen.logs.iter().find(says);
        found
            .unwrap_or_else(|| panic!("{message}: {:#?}", seen.logs))
            .clone()
    }
}

fn service(resource: Option<Resource>) -> String {
    let attributes = resource.unwrap_or_default().attributes;
    let name = attributes.into_iter().find(|one| one.key == "service.name");
    match name.and_then(|name| name.value).and_then(|value| value.value) {
        Some(Value::StringValue(name)) => name,
        other => panic!("no service: {other:?}"),
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for part in request.into_inner().resource_spans {
            let service = service(part.resource);
            let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| (service.clone(), span));
            self.seen.lock().unwrap().spans.extend(spans);
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        for part in request.into_inner().resource_metrics {
            let metrics = part.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            self.seen
                .lock()
                .unwrap()
                .metrics
                .extend(metrics.map(|metric| metric.name));
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        for part in request.into_inner().resource_logs {
            let logs = part.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            self.seen.lock().unwrap().logs.extend(logs);
        }
        Ok(Response::new(Default::default()))
    }
}
