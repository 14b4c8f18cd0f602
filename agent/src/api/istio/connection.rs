//! Connections of callers, so many of each identity at a time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use credence_identity::SpiffeId;
use credence_runtime::grpc::{ConnectInfo, TlsConnection};
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::super::peer::seats::{Seat, Seats};

/// Pods of one service account come by one connection each where there is no ztunnel.
const SEATS_PER_CALLER: usize = 256;

/// A connection in its place.
#[derive(Debug)]
pub(super) struct Seated {
    stream: TlsConnection,
    _seat: Seat<SpiffeId>,
}

/// Lets those in who find a seat.
pub(super) fn seated(
    incoming: impl Stream<Item = io::Result<TlsConnection>>,
) -> impl Stream<Item = io::Result<Seated>> {
    let seats = Seats::new(SEATS_PER_CALLER);
    incoming.filter_map(move |accepted| {
        let seated = accepted.map(|stream| {
            let caller = stream.info().peer.as_ref()?.spiffe_id.clone();
            let seat = seats.take(caller)?;
            Some(Seated { stream, _seat: seat })
        });
        std::future::ready(seated.transpose())
    })
}

impl Connected for Seated {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Seated {
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
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
