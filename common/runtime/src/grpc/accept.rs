//! TLS connections in, ready for tonic's `serve_with_incoming`.
//!
//! Handshakes run in tasks of their own, so that a slow or silent client delays nobody. Invariants: a connection that
//! comes out has finished its handshake, and its peer's identity was read once; a client that says something gets its turn
//! however many others hold a connection and say nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use credence_crypto::x509::Certificate;
use credence_identity::{SpiffeId, Timestamp};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::proxy::{TrustedProxies, canonical};
use super::socket::tune;
use crate::supervisor::Supervisor;

/// How long a client may take for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at a time. One more takes the place of the client that has been silent for longest; when all have
/// spoken, further clients wait in the kernel's queue.
const MAX_HANDSHAKES: usize = if cfg!(test) { 32 } else { 2048 };
/// Finished connections that wait to be served.
const READY: usize = 64;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end; tonic puts it into the extensions of each request.
#[derive(Debug, Clone)]
pub struct ConnectInfo {
    /// The client's address.
    pub remote_addr: SocketAddr,
    /// The SVID it authenticated with; none for an anonymous caller.
    pub peer: Option<VerifiedPeer>,
}

/// An X509-SVID that was valid at the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// The leaf's serial number in decimal.
    pub serial: Arc<str>,
    /// Last second of the leaf's validity: the connection may live on past it.
    pub not_after: Timestamp,
}

/// A TLS connection after its handshake.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    info: ConnectInfo,
}

/// Accepts connections until shutdown and yields those whose handshake succeeded within ten seconds.
///
/// Only peers that `config` accepted come out. The address of one that came through a proxy of `proxies` is the one that
/// the proxy names; its header counts against the ten seconds. The stream ends at shutdown.
pub fn accept_tls(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    proxies: TrustedProxies,
    supervisor: &Supervisor,
) -> ReceiverStream<io::Result<TlsConnection>> {
    let (ready, connections) = mpsc::channel(READY);
    let acceptor = TlsAcceptor::from(config);
    let proxies = Arc::new(proxies);
    let under_way = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let tasks = supervisor.clone();
    supervisor.spawn("tls-accept", async move {
        let mut silent = Silent::default();
        loop {
            let (stream, remote_addr) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "Failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if under_way.available_permits() == 0 {
                silent.drop_oldest();
            }
            let Ok(permit) = under_way.clone().acquire_owned().await else {
                break;
            };
            let room_needed = silent.join();
            let (acceptor, proxies, ready) = (acceptor.clone(), proxies.clone(), ready.clone());
            tasks.spawn("tls-handshake", async move {
                shake_hands(
                    &acceptor,
                    &proxies,
                    stream,
                    canonical(remote_addr),
                    &ready,
                    permit,
                    room_needed,
                )
                .await;
                Ok::<(), Infallible>(())
            });
        }
        Ok::<(), Infallible>(())
    });
    ReceiverStream::new(connections)
}

/// The clients that have said nothing yet, oldest first, among some that have.
#[derive(Debug, Default)]
struct Silent(VecDeque<oneshot::Sender<Infallible>>);

impl Silent {
    /// One more. What is returned resolves when its place is needed, and is to be dropped when it speaks.
    fn join(&mut self) -> oneshot::Receiver<Infallible> {
        if self.0.len() >= 2 * MAX_HANDSHAKES {
            self.0.retain(|client| !client.is_closed());
        }
        let (place, needed) = oneshot::channel();
        self.0.push_back(place);
        needed
    }

    fn drop_oldest(&mut self) {
        while let Some(client) = self.0.pop_front() {
            if !client.is_closed() {
                return;
            }
        }
    }
}

async fn shake_hands(
    acceptor: &TlsAcceptor,
    proxies: &TrustedProxies,
    mut stream: TcpStream,
    peer: SocketAddr,
    ready: &mpsc::Sender<io::Result<TlsConnection>>,
    permit: OwnedSemaphorePermit,
    room_needed: oneshot::Receiver<Infallible>,
) {
    tune(&stream);
    let shaken = async {
        // Not `readable`, which may answer though there is nothing.
        let mut first = [0];
        tokio::select! {
            spoken = stream.peek(&mut first) => drop(spoken?),
            _ = room_needed => return Err(io::Error::other("silent, and its place was needed")),
        }
        let client = proxies
            .client(&mut stream, peer)
            .await
            .map_err(io::Error::other)?;
        Ok::<_, io::Error>((acceptor.accept(stream).await?, client))
    };
    let (stream, remote_addr) = match timeout(HANDSHAKE_TIMEOUT, shaken).await {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(error)) => {
            tracing::debug!(address = %peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(address = %peer, "TLS handshake took too long");
            return;
        }
    };
    drop(permit);
    let Some(peer) = peer_of(&stream) else {
        tracing::error!(address = %remote_addr, "Dropping a TLS peer whose verified certificate can't be read");
        return;
    };
    let connection = TlsConnection {
        stream,
        info: ConnectInfo { remote_addr, peer },
    };
    // Nobody receives any more at shutdown.
    drop(ready.send(Ok(connection)).await);
}

/// None when there is a certificate but it can't be read, which the verifier has ruled out.
fn peer_of(stream: &TlsStream<TcpStream>) -> Option<Option<VerifiedPeer>> {
    let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else {
        return Some(None);
    };
    let leaf = Certificate::from_der(leaf).ok()?;
    Some(Some(VerifiedPeer {
        spiffe_id: leaf.spiffe_id().ok()?,
        serial: leaf.serial().into(),
        not_after: leaf.not_after(),
    }))
}

impl TlsConnection {
    /// Who is at the other end.
    pub fn info(&self) -> &ConnectInfo {
        &self.info
    }

    /// Whether TLS 1.3 was agreed on, and not 1.2.
    pub fn is_tls13(&self) -> bool {
        self.stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
