//! A client's bytes, handed out in pieces of a chosen size and read through [`MendAuthority`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use credence_runtime::grpc::authority::MendAuthority;
use tokio::io::{AsyncRead, ReadBuf};

struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.size.max(1).min(buf.remaining()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(length);
        buf.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// All that comes out when `stream` arrives in pieces of `size` bytes.
///
/// # Panics
/// If the reader waits although there is always something to read, or fails.
#[expect(clippy::panic, reason = "this is the assertion of the target")]
pub(crate) fn mend(stream: &[u8], size: usize) -> Vec<u8> {
    let mut reader = MendAuthority::new(Pieces { rest: stream, size });
    let mut context = Context::from_waker(Waker::noop());
    let mut out = Vec::new();
    loop {
        let mut space = [0; 1024];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut reader).poll_read(&mut context, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return out,
            Poll::Ready(Ok(())) => out.extend_from_slice(buf.filled()),
            other => panic!("reading gave {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    /// The target would find nothing if what it feeds were passed on unread.
    #[test]
    fn mending_is_reached() {
        let mut stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        stream.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        stream.extend([0, 0, 7, 1, 4, 0, 0, 0, 1, 0x83, 0x41, 4]);
        stream.extend(b"/a/b");
        let mended = super::mend(&stream, 3);
        assert!(mended.ends_with(b"-a-b"), "{mended:?}");
    }
}
