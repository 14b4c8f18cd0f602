//! Serving the page.
//!
//! Owns the listener. Every path is the page, as with SPIRE. A port that can't be had costs the page and not the service:
//! identities matter more than numbers about them, and Prometheus notices by itself. Invariant: at most [`MOST`] readers
//! at a time, each with deadlines.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::X509SvidKey;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;
use crate::config::PrometheusConfig;
use crate::supervisor::Supervisor;
use crate::telemetry::Shared;
use crate::tls::{BundleLookup, KeyExchange, PageTlsError, page_config};

/// Readers at a time.
const MOST: usize = 64;
/// How long a reader may take for a request's head, and for the next request.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection lasts: Prometheus makes a new one without a word.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a page shows and judges its readers by when it is protected by SPIFFE.
#[derive(Clone)]
pub struct Identity {
    /// The SVID of the server or agent.
    pub svid: watch::Receiver<Arc<X509SvidKey>>,
    /// The bundles that readers are judged by.
    pub bundles: BundleLookup,
}

/// Why there can be no page.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The files of the certificate are of no use.
    #[error("failed to create TLS config for Prometheus")]
    Tls(#[from] PageTlsError),
}

/// Listens as configured and returns the real address; none if the port can't be had, which the log says.
///
/// # Errors
/// [`PrometheusError`].
pub(in crate::telemetry) async fn serve(
    config: &PrometheusConfig,
    key_exchange: KeyExchange,
    shared: &Arc<Shared>,
    clock: &Arc<dyn Clock>,
    supervisor: &Supervisor,
) -> Result<Option<SocketAddr>, PrometheusError> {
    let (host, port) = (config.host.as_str(), config.port);
    if host != "localhost" {
        tracing::warn!(
            subsystem_name = "telemetry",
            "Agent is now configured to accept remote network connections for Prometheus stats collection. Please ensure access to this port is tightly controlled"
        );
    }
    tracing::info!(
        host,
        port,
        subsystem_name = "telemetry",
        "Starting prometheus exporter"
    );
    let mut tls = None;
    if let Some(wanted) = &config.tls
        && !config.needs_identity()
    {
        tls = Some(page_config(wanted, key_exchange, None, clock)?);
    }
    let bound = async {
        let listener = TcpListener::bind((host.trim_start_matches('[').trim_end_matches(']'), port)).await?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    let (listener, address) = match bound.await {
        Ok(bound) => bound,
        Err(error) => {
            tracing::warn!(%error, host, port, subsystem_name = "telemetry", "Prometheus listener stopped unexpectedly");
            return Ok(None);
        }
    };
    let page = Page {
        shared: shared.clone(),
        config: config.clone(),
        key_exchange,
        clock: clock.clone(),
        tasks: supervisor.clone(),
    };
    supervisor.spawn("prometheus", page.serve(listener, tls));
    Ok(Some(address))
}

struct Page {
    shared: Arc<Shared>,
    config: PrometheusConfig,
    key_exchange: KeyExchange,
    clock: Arc<dyn Clock>,
    tasks: Supervisor,
}

impl Page {
    async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<(), PrometheusError> {
        let tls = match (&self.config.tls, tls) {
            (Some(wanted), None) => {
                let mut identity = self.shared.identity.subscribe();
                let Ok(known) = identity
                    .wait_for(Option::is_some)
                    .await
                    .map(|known| known.clone())
                else {
                    return Ok(());
                };
                Some(page_config(
                    wanted,
                    self.key_exchange,
                    known.as_ref(),
                    &self.clock,
                )?)
            }
            (_, tls) => tls,
        };
        let acceptor = tls.map(TlsAcceptor::from);
        let places = Arc::new(Semaphore::new(MOST));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (acceptor, shared) = (acceptor.clone(), self.shared.clone());
            self.tasks.spawn("prometheus-reader", async move {
                // Whoever asks and goes away needs no answer.
                drop(timeout(LONGEST, read(acceptor, stream, shared)).await);
                drop(place);
                Ok::<(), Infallible>(())
            });
        }
        Ok(())
    }
}

async fn read(acceptor: Option<TlsAcceptor>, stream: TcpStream, shared: Arc<Shared>) {
    match acceptor {
        None => answer(stream, shared).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                answer(stream, shared).await;
            }
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send, shared: Arc<Shared>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &shared);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    // What a reader does wrong is its own affair.
    drop(connection.await);
}

fn respond(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    shared.poll();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    *response.body_mut() = Full::new(Bytes::from(super::page(&shared.recorder)));
    response
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.svid.borrow().svid.id)
            .finish_non_exhaustive()
    }
}
