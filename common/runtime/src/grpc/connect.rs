//! Channels over a Unix socket or TLS.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::socket::tune;
use crate::tls::{PeerFault, peer_fault};

/// How long one attempt to connect may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that could not be made; the cause is in the chain.
#[derive(Debug, thiserror::Error)]
#[error("unable to connect to {address}")]
pub struct ConnectError {
    /// Where to.
    pub address: String,
    /// Why not.
    #[source]
    pub source: tonic::transport::Error,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFault {
    /// A certificate was refused.
    Certificate(PeerFault),
    /// Nobody listens there.
    Refused,
    /// The name of the host can't be looked up.
    UnknownName,
    /// There was no answer, or no way there.
    Unreachable,
}

impl LinkFault {
    /// What the chain of causes says of the connection; nothing if there was one.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(fault) = peer_fault(error) {
            return Some(Self::Certificate(fault));
        }
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Self::of_io(error);
            }
            next = error.source();
        }
        None
    }

    fn of_io(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof => Some(Self::Unreachable),
            // The standard library has no kind of its own for it.
            _ if error.to_string().contains("lookup address") => Some(Self::UnknownName),
            _ => None,
        }
    }
}

/// Connects to a gRPC server on a Unix socket, with `:authority` "localhost" whatever the path holds.
///
/// The channel connects anew by itself when the connection is lost. Cancel safe.
///
/// # Errors
/// [`ConnectError`] when nobody answers within [`CONNECT_TIMEOUT`].
pub async fn connect_unix(path: &Path) -> Result<Channel, ConnectError> {
    let connected = local_endpoint()
        .connect_with_connector(unix_connector(path))
        .await;
    connected.map_err(|source| ConnectError {
        address: format!("unix:{}", path.display()),
        source,
    })
}

/// As [`connect_unix`], but connects with the first call.
pub fn connect_unix_lazy(path: &Path) -> Channel {
    local_endpoint().connect_with_connector_lazy(unix_connector(path))
}

/// Connects to a gRPC server over TLS; `config` decides whether it is the right one, its host name doesn't matter.
///
/// The channel connects anew by itself when the connection is lost, with the SVID of that moment. Cancel safe.
///
/// # Errors
/// [`ConnectError`] when no handshake succeeds within [`CONNECT_TIMEOUT`]; [`crate::tls::is_unknown_authority`] looks into
/// it. Over TLS 1.3 a server refuses our certificate only after the handshake: that shows at the first call.
pub async fn connect_tls(host: &str, port: u16, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let connected = match tls_endpoint(host, port) {
        Ok(endpoint) => {
            endpoint
                .connect_with_connector(tls_connector(host, port, config))
                .await
        }
        Err(error) => Err(error),
    };
    connected.map_err(|source| ConnectError {
        address: address(host, port),
        source,
    })
}

/// As [`connect_tls`], but connects with the first call.
///
/// # Errors
/// [`ConnectError`] when `host` can't be part of a URI.
pub fn connect_tls_lazy(host: &str, port: u16, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let endpoint = tls_endpoint(host, port).map_err(|source| ConnectError {
        address: address(host, port),
        source,
    })?;
    Ok(endpoint.connect_with_connector_lazy(tls_connector(host, port, config)))
}

fn address(host: &str, port: u16) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.contains(':') {
        format!("[{bare}]:{port}")
    } else {
        format!("{bare}:{port}")
    }
}

fn tls_endpoint(host: &str, port: u16) -> Result<Endpoint, tonic::transport::Error> {
    // "http" because TLS is the connector's business.
    Endpoint::from_shared(format!("http://{}", address(host, port)))
}

fn tls_connector(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
) -> impl tower::Service<
    http::Uri,
    Response = TokioIo<TlsStream<TcpStream>>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send + use<>,
> + Send
+ use<> {
    let host: Arc<str> = host.trim_start_matches('[').trim_end_matches(']').into();
    let connector = TlsConnector::from(config);
    service_fn(move |_: http::Uri| {
        let (host, connector) = (host.clone(), connector.clone());
        in_time(async move {
            let stream = TcpStream::connect((&*host, port)).await?;
            tune(&stream);
            Ok(TokioIo::new(connector.connect(server_name(&host), stream).await?))
        })
    })
}

/// The name for SNI, which is courtesy only; an address means none is sent.
fn server_name(host: &str) -> ServerName<'static> {
    ServerName::try_from(host.to_owned())
        .unwrap_or_else(|_| ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into()))
}

fn local_endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost")
}

fn unix_connector(
    path: &Path,
) -> impl tower::Service<
    http::Uri,
    Response = TokioIo<UnixStream>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<UnixStream>>> + Send + use<>,
> + Send
+ use<> {
    let path: PathBuf = path.to_owned();
    service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { Ok(TokioIo::new(in_time(UnixStream::connect(path)).await?)) }
    })
}

/// The deadline that each attempt to connect has.
async fn in_time<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the attempt to connect took too long",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::is_unknown_authority;
    use crate::tls::tests::Authority;

    #[tokio::test]
    async fn a_missing_socket_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = connect_unix(&dir.path().join("a b%/none.sock"))
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with("a b%/none.sock"), "{error}");
        assert!(Error::source(&error).is_some());
    }

    #[tokio::test]
    async fn a_server_of_another_authority_is_told_apart_from_one_that_is_down() {
        let (ours, theirs) = (Authority::new("example.org"), Authority::new("example.org"));
        let (own, _) = tokio::sync::watch::channel(theirs.svid("/spire/server"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let supervisor = crate::supervisor::Supervisor::new();
        let _incoming = crate::grpc::accept_tls(
            listener,
            theirs.server_config(&own),
            crate::grpc::TrustedProxies::default(),
            &supervisor,
        );
        let error = connect_tls("127.0.0.1", port, ours.client_config(None))
            .await
            .unwrap_err();
        assert!(is_unknown_authority(&error), "{error:?}");
        connect_tls("127.0.0.1", port, theirs.client_config(None))
            .await
            .unwrap();
        supervisor.shutdown();
        supervisor.wait().await.unwrap();
        let error = connect_tls("127.0.0.1", port, ours.client_config(None))
            .await
            .unwrap_err();
        assert!(!is_unknown_authority(&error), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("unable to connect to 127.0.0.1:{port}")
        );
    }

    #[test]
    fn addresses() {
        for (host, want) in [
            ("db", "db:1"),
            ("::1", "[::1]:1"),
            ("[::1]", "[::1]:1"),
            ("10.0.0.1", "10.0.0.1:1"),
        ] {
            assert_eq!(address(host, 1), want);
        }
        assert!(tls_endpoint("a b", 1).is_err());
        assert!(matches!(
            server_name("under_score.example"),
            ServerName::DnsName(_)
        ));
        assert!(matches!(server_name("..."), ServerName::IpAddress(_)));
    }
}
