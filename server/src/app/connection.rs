//! One connection, from its first byte to its end.
//!
//! Owns HTTP/2 and how long a connection may live. Invariant: a peer that stops talking, at whatever point, is let go:
//! before HTTP/2 began after ten seconds, later when it doesn't answer a ping.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::{Caller, Connection, Gate, Program, Services};

/// What every HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a peer may take to say it.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection takes calls, give or take a tenth; clients make a new one silently (as with SPIRE).
const MAX_AGE: Duration = Duration::from_secs(3 * 60);
/// How long calls may go on when a connection is old.
const AGE_GRACE: Duration = Duration::from_secs(60);
/// When a silent peer is asked whether it is there, and how long it may take to say so.
const PING_AFTER: Duration = Duration::from_secs(60);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// Calls at a time on one connection; few for a caller who proved nothing and may make two kinds of call only.
const MAX_CALLS: u32 = 1_000;
const MAX_ANONYMOUS_CALLS: u32 = 32;
/// What a peer may send before it is read, per call and in all.
const CALL_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) caller: Caller,
    /// What a local caller runs, where somebody asks.
    pub(super) program: Option<Program>,
}

impl From<Caller> for Peer {
    fn from(caller: Caller) -> Self {
        Self {
            caller,
            program: None,
        }
    }
}

/// Serves a connection until the peer leaves, the connection is old, or the server stops.
pub(super) async fn serve<S>(
    stream: S,
    peer: impl Into<Peer> + Send,
    services: Arc<Services>,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Peer { caller, program } = peer.into();
    let closing = stop.child_token();
    let greeted = tokio::select! {
        greeted = timeout(HELLO_WITHIN, Greeted::wait(stream)) => greeted,
        () = stop.cancelled() => return,
    };
    let stream = match greeted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%caller, %error, "Connection without HTTP/2"),
        Err(_) => return tracing::debug!(%caller, "Connection said nothing in time"),
    };
    let calls = match caller {
        Caller::Anonymous { .. } => MAX_ANONYMOUS_CALLS,
        Caller::Local { .. } | Caller::Peer { .. } => MAX_CALLS,
    };
    let connection = Arc::new(Connection {
        caller,
        program,
        closing: closing.clone(),
    });
    let gate = Gate::new(services, Arc::clone(&connection));
    let http = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN)
        .max_concurrent_streams(calls)
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), gate);
    tokio::pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => Some(ended),
        () = sleep(jittered(MAX_AGE)) => None,
        () = stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            closing.cancel();
            http.as_mut().graceful_shutdown();
            // When the server stops, the supervisor drops what doesn't end in time.
            timeout(AGE_GRACE, http).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(caller = %connection.caller, %error, "Connection failed");
    }
}

/// So that the connections of many agents that came at once don't end at once.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::rng().random_range(0.9..1.1))
}

/// A connection whose peer has said the preface, which is read again from it.
#[derive(Debug)]
struct Greeted<S> {
    inner: S,
    given: usize,
}

impl<S: AsyncRead + Unpin> Greeted<S> {
    async fn wait(mut inner: S) -> io::Result<Self> {
        let mut said = [0; PREFACE.len()];
        inner.read_exact(&mut said).await?;
        if said == PREFACE {
            Ok(Self { inner, given: 0 })
        } else {
            Err(io::Error::other("no HTTP/2 preface"))
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match PREFACE.get(self.given..) {
            Some(rest) if !rest.is_empty() => {
                let part = rest.get(..rest.len().min(buf.remaining())).unwrap_or(rest);
                buf.put_slice(part);
                self.given += part.len();
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut self.inner).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
