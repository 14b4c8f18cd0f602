//! Lets every gRPC client talk to a server on a Unix socket, whatever `:authority` it sends.
//!
//! A client on a socket has no host to name. Some send the socket's path, percent-encoded (gRPC's C core: Python,
//! Ruby, C++, PHP) or raw (Java), and h2 resets each such request as malformed before any layer of ours sees it.
//! [`MendAuthority`] stands between the socket and h2: where `http` would refuse the value, every byte that isn't
//! unreserved (RFC 3986, 2.3) becomes `-`. A valid value is never touched, and no server of ours gives the name a
//! meaning. Invariant: the decoded length stays, so that both ends' HPACK tables evict the same entries.
//!
//! Not covered: a value written as a literal under a *dynamic* index of the name, which no known client sends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use self::frames::Walker;

mod frames;
mod hpack;
mod huffman;

/// A connection accepted by an HTTP/2 server, with mended `:authority` values on what is read from it.
///
/// Costs nothing to speak of: bytes pass where they were read; only header blocks that arrive in pieces are held
/// back, at most 64 KiB.
#[derive(Debug)]
pub struct MendAuthority<S> {
    inner: S,
    walker: Walker,
    /// Bytes that couldn't be handed out when they were read.
    held: Vec<u8>,
    /// How many bytes at the start of `held` have been handed out, and how many may be.
    given: usize,
    ready: usize,
    ended: bool,
}

impl<S> MendAuthority<S> {
    /// Wraps the server's end of a connection; nothing may have been read from it yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            walker: Walker::default(),
            held: Vec::new(),
            given: 0,
            ready: 0,
            ended: false,
        }
    }

    /// Moves what may be handed out into `buf`; whether that was anything.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(waiting) = self
            .held
            .get(self.given..self.ready)
            .filter(|waiting| !waiting.is_empty())
        else {
            return false;
        };
        let (now, _) = waiting.split_at(waiting.len().min(buf.remaining()));
        buf.put_slice(now);
        self.given += now.len();
        if self.given == self.held.len() {
            self.held = Vec::new();
            (self.given, self.ready) = (0, 0);
        }
        true
    }

    /// Sorts what was read into `buf` after `before`: final bytes stay there, the others are held.
    fn take(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if self.held.is_empty() {
            let Some(new) = buf.filled_mut().get_mut(before..) else {
                return;
            };
            let walked = self.walker.walk(new);
            self.held
                .extend_from_slice(new.get(walked.ready..walked.len).unwrap_or_default());
            buf.set_filled(before + walked.ready);
        } else {
            self.held.drain(..self.given);
            self.given = 0;
            self.held
                .extend_from_slice(buf.filled().get(before..).unwrap_or_default());
            buf.set_filled(before);
            let walked = self.walker.walk(&mut self.held);
            self.held.truncate(walked.len);
            self.ready = walked.ready;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MendAuthority<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.walker.is_raw() && this.held.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        // Ready without a byte means the end, so go on until there is one.
        while !this.hand_out(buf) && !this.ended && buf.remaining() > 0 {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                this.ended = true;
                this.ready = this.held.len();
                continue;
            }
            this.take(buf, before);
            if buf.filled().len() > before {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MendAuthority<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S: Connected> Connected for MendAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests;
