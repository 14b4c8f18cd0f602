//! One connection of a workload.

use std::io::{self, IoSlice};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use super::seats::Seat;
use crate::attestor::workload::Process;

/// Length of the preface that each HTTP/2 client sends first.
const PREFACE: usize = 24;
/// How long a client may take to send it. A connection that stays silent would hold descriptors for nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who called: found among the extensions of each request.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Process>);

impl Deref for Caller {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

/// The agent's end of a connection with its caller. Reading fails when the client says nothing at first.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    caller: Caller,
    silence: Option<Silence>,
    _seat: Seat<u32>,
}

#[derive(Debug)]
struct Silence {
    missing: usize,
    end: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, caller: Caller, seat: Seat<u32>) -> Self {
        let silence = Silence {
            missing: PREFACE,
            end: Box::pin(sleep(PATIENCE)),
        };
        Self {
            stream,
            caller,
            silence: Some(silence),
            _seat: seat,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(silence) = &mut this.silence {
            silence.missing = silence.missing.saturating_sub(buf.filled().len() - before);
            if silence.missing == 0 {
                this.silence = None;
            } else if read.is_pending() && silence.end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
