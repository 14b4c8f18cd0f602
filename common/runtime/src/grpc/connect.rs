//! Channels over a Unix socket.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

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
pub(super) async fn in_time<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
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

    #[tokio::test]
    async fn a_missing_socket_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = connect_unix(&dir.path().join("a b%/none.sock"))
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with("a b%/none.sock"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}
