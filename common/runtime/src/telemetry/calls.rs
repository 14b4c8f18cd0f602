//! Counting the calls of gRPC services: their names as SPIRE's metrics have them, and the code each ended with.
//!
//! Owns no service and reads no message. Invariant: a call counts when it is over, a stream with the code in its
//! trailers; paths that aren't known beforehand are counted nowhere, since a caller chooses them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use opentelemetry::trace::SpanKind;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{Call, CallCounter, Parent, Telemetry};

/// SPIRE's names for services whose own are long. The first that fits counts.
const SHORT: [(&str, &str); 9] = [
    ("spire.api.agent.logger.v1.Logger", "Logger"),
    ("spire.api.server.logger.v1.Logger", "Logger"),
    ("spire.api.server.", ""),
    ("SpiffeWorkloadAPI", "WorkloadAPI"),
    ("envoy.service.secret.v3.SecretDiscoveryService", "SDS.v3"),
    ("grpc.health.v1.Health", "Health"),
    ("spire.api.agent.debug.v1.Debug", "Debug"),
    ("spire.agent.debug.v1.Debug", "Debug"),
    (
        "spire.api.agent.delegatedidentity.v1.DelegatedIdentity",
        "DelegatedIdentity",
    ),
];

/// The services whose calls under way SPIRE shows as connections.
const CONNECTIONS: [(&str, &str); 6] = [
    ("SpiffeWorkloadAPI", "workload_api"),
    ("envoy.service.secret.v3.SecretDiscoveryService", "sds_api"),
    ("spire.api.agent.debug.v1.Debug", "debug_api"),
    ("spire.agent.debug.v1.Debug", "debug_api"),
    (
        "spire.api.agent.delegatedidentity.v1.DelegatedIdentity",
        "delegated_identity_api",
    ),
    ("spire.api.agent.logger.v1.Logger", "logger_api"),
];

/// A counter for each method, by its path.
#[derive(Debug, Clone, Default)]
pub struct RpcCalls {
    by_path: Arc<HashMap<String, Method>>,
}

#[derive(Debug)]
struct Method {
    calls: CallCounter,
    connections: Option<Connections>,
}

#[derive(Debug, Clone)]
struct Connections {
    telemetry: Telemetry,
    total: String,
    open: String,
    now: Arc<AtomicU32>,
}

impl RpcCalls {
    /// Counts methods of these services, given as full names.
    pub fn new<'a>(telemetry: &Telemetry, methods: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        if !telemetry.is_on() {
            return Self::default();
        }
        let mut open: HashMap<&str, Arc<AtomicU32>> = HashMap::new();
        let by_path = methods.into_iter().map(|(service, method)| {
            let span = format!("{service}/{method}");
            let calls = telemetry.counter_of(&metric_key(service, method), &span, SpanKind::Server);
            let api = CONNECTIONS.iter().find(|(name, _)| *name == service);
            let connections = api.map(|(_, api)| Connections {
                telemetry: telemetry.clone(),
                total: format!("{api}.connection"),
                open: format!("{api}.connections"),
                now: open.entry(api).or_default().clone(),
            });
            (format!("/{span}"), Method { calls, connections })
        });
        Self {
            by_path: Arc::new(by_path.collect()),
        }
    }

    /// Begins the call of a request. What it says of its caller's trace is gone on with if the caller is `believed`, and
    /// else referred to.
    pub fn start<B>(&self, request: &Request<B>, believed: bool) -> RpcCall {
        if self.by_path.is_empty() {
            return RpcCall::default();
        }
        let Some(method) = self.by_path.get(request.uri().path()) else {
            return RpcCall::default();
        };
        let call = method
            .calls
            .start_in(Parent::of_caller(request.headers(), believed));
        let connection = method.connections.clone().map(Connection::open);
        RpcCall { call, connection }
    }
}

/// A call of a gRPC method that is under way.
#[derive(Debug, Default)]
pub struct RpcCall {
    call: Call,
    connection: Option<Connection>,
}

impl RpcCall {
    /// Runs what answers the call.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        self.call.run(work).await
    }

    /// Counts the call when `response` has been sent whole.
    pub fn follow(self, response: Response<Body>) -> Response<Body> {
        if self.call.is_idle() && self.connection.is_none() {
            return response;
        }
        if let Some(code) = code_of(response.headers()) {
            self.call.end_with(code);
            return response;
        }
        response.map(|body| {
            Body::new(CountedBody {
                body,
                call: Some(self),
            })
        })
    }
}

/// One call of those that SPIRE shows as connections.
#[derive(Debug)]
struct Connection(Connections);

impl Connection {
    fn open(connections: Connections) -> Self {
        let now = connections.now.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        connections.telemetry.count(&connections.total, 1);
        connections.telemetry.gauge(&connections.open, f64::from(now));
        Self(connections)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let now = self.0.now.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.0.telemetry.gauge(&self.0.open, f64::from(now));
    }
}

/// A body that ends a call with the code of its trailers.
#[derive(Debug)]
pub struct CountedBody {
    body: Body,
    call: Option<RpcCall>,
}

impl http_body::Body for CountedBody {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let code = match &frame {
            Some(Ok(frame)) => frame
                .trailers_ref()
                .map(|trailers| code_of(trailers).unwrap_or(Code::Unknown)),
            Some(Err(status)) => Some(status.code()),
            None => Some(Code::Unknown),
        };
        if let Some(code) = code
            && let Some(call) = this.call.take()
        {
            call.call.end_with(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|code| Code::from_bytes(code.as_bytes()))
}

/// Counts the calls of the services behind it. What callers say about their own traces is only referred to.
#[derive(Debug, Clone)]
pub struct CountCalls(pub RpcCalls);

impl<S> Layer<S> for CountCalls {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            calls: self.0.clone(),
        }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct Counting<S> {
    inner: S,
    calls: RpcCalls,
}

impl<S, B> Service<Request<B>> for Counting<S>
where
    S: Service<Request<B>, Response = Response<Body>, Future: Send + 'static>,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.calls.by_path.is_empty() {
            return Either::Left(self.inner.call(request));
        }
        let call = self.calls.start(&request, false);
        let answering = self.inner.call(request);
        Either::Right(
            async move {
                let response = call.run(answering).await?;
                Ok(call.follow(response))
            }
            .boxed(),
        )
    }
}

/// The key under which the waits for a rate limit of this method count.
pub fn rate_limit_key(service: &str, method: &str) -> String {
    format!("rateLimit.{}", words(service, method))
}

fn metric_key(service: &str, method: &str) -> String {
    format!("rpc.{}", words(service, method))
}

/// The service's words and the method, each as SPIRE writes it.
fn words(service: &str, method: &str) -> String {
    let mut short = service.to_owned();
    for (long, name) in SHORT {
        if let Some(rest) = service.strip_prefix(long) {
            short = format!("{name}{rest}");
            break;
        }
    }
    // The one method that the rule would spell otherwise, and SPIRE spells so.
    let method = match method {
        "SubscribeToX509SVIDs" => "subscribe_to_x509_svids",
        method => method,
    };
    let words = short.split('.').chain([method]).map(snake);
    words.collect::<Vec<_>>().join(".")
}

/// PascalCase as SPIRE turns it into snake_case: an underscore before a capital beside a small letter, so that
/// `FetchX509SVID` becomes `fetch_x509svid`.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (at, letter) in letters.iter().enumerate() {
        if !letter.is_ascii_alphanumeric() {
            out.push('_');
            continue;
        }
        let next = letters.get(at + 1);
        let before = at.checked_sub(1).and_then(|before| letters.get(before));
        let beside_small = [next, before].into_iter().flatten().any(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase()
            && before.is_some()
            && next.is_some()
            && beside_small
            && !out.ends_with('_')
        {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spires() {
        for (service, method, want) in [
            (
                "spire.api.server.agent.v1.Agent",
                "AttestAgent",
                "rpc.agent.v1.agent.attest_agent",
            ),
            (
                "spire.api.server.svid.v1.SVID",
                "BatchNewX509SVID",
                "rpc.svid.v1.svid.batch_new_x509svid",
            ),
            (
                "spire.api.server.svid.v1.SVID",
                "NewJWTSVID",
                "rpc.svid.v1.svid.new_jwtsvid",
            ),
            (
                "spire.api.server.bundle.v1.Bundle",
                "PublishJWTAuthority",
                "rpc.bundle.v1.bundle.publish_jwt_authority",
            ),
            (
                "spire.api.server.logger.v1.Logger",
                "GetLogger",
                "rpc.logger.get_logger",
            ),
            (
                "spire.api.server.debug.v1.Debug",
                "GetInfo",
                "rpc.debug.v1.debug.get_info",
            ),
            (
                "SpiffeWorkloadAPI",
                "FetchX509SVID",
                "rpc.workload_api.fetch_x509svid",
            ),
            (
                "SpiffeWorkloadAPI",
                "FetchX509Bundles",
                "rpc.workload_api.fetch_x509_bundles",
            ),
            (
                "SpiffeWorkloadAPI",
                "ValidateJWTSVID",
                "rpc.workload_api.validate_jwtsvid",
            ),
            (
                "envoy.service.secret.v3.SecretDiscoveryService",
                "StreamSecrets",
                "rpc.sds.v3.stream_secrets",
            ),
            ("grpc.health.v1.Health", "Check", "rpc.health.check"),
            (
                "spire.api.agent.delegatedidentity.v1.DelegatedIdentity",
                "SubscribeToX509SVIDs",
                "rpc.delegated_identity.subscribe_to_x509_svids",
            ),
        ] {
            assert_eq!(metric_key(service, method), want);
        }
    }
}
