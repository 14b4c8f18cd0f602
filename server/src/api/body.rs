//! The body of a request: as it comes from the wire, or read before its turn, for those who must see the message first.
//!
//! Owns gRPC's framing of one message. Invariant: what is read here has a bound, and is handed on unchanged.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::Status;

/// The flag and the length before each message.
const PREFIX: usize = 5;
/// The largest message, as tonic's and Go's default.
pub(crate) const LARGEST: usize = 4 * 1024 * 1024;

/// What a service reads.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Not read yet.
    Wire(Incoming),
    /// Read already.
    Read(Option<Bytes>),
}

impl RequestBody {
    /// Reads a call's one message, of `most` bytes at most, and keeps it for the service. Bytes that are no message stand
    /// as they are: the service refuses them.
    ///
    /// # Errors
    /// `ResourceExhausted` for more bytes than `most`, `Cancelled` when the caller went away.
    pub(crate) async fn read(&mut self, most: usize) -> Result<Bytes, Status> {
        if let Self::Wire(incoming) = self {
            let mut whole = BytesMut::new();
            while let Some(frame) = incoming.frame().await {
                let frame = frame.map_err(|_| Status::cancelled("the request ended early"))?;
                if let Ok(data) = frame.into_data() {
                    if whole.len() + data.len() > most + PREFIX {
                        return Err(too_large(&whole, data.len(), most));
                    }
                    whole.extend_from_slice(&data);
                }
            }
            *self = Self::Read(Some(whole.freeze()));
        }
        match self {
            Self::Read(Some(whole)) => Ok(message(whole)),
            _ => Ok(Bytes::new()),
        }
    }
}

fn too_large(begun: &[u8], more: usize, most: usize) -> Status {
    let announced = begun
        .get(1..PREFIX)
        .and_then(|length| length.try_into().ok())
        .map_or(begun.len() + more, |length| {
            usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX)
        });
    Status::resource_exhausted(format!(
        "grpc: received message larger than max: found {announced} bytes, the limit is: {most} bytes"
    ))
}

/// The message behind its prefix.
pub(crate) fn message(framed: &Bytes) -> Bytes {
    if framed.len() < PREFIX {
        return Bytes::new();
    }
    framed.slice(PREFIX..)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Wire(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Read(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Wire(incoming) => incoming.is_end_stream(),
            Self::Read(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Wire(incoming) => incoming.size_hint(),
            Self::Read(bytes) => SizeHint::with_exact(
                bytes
                    .as_ref()
                    .map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            ),
        }
    }
}
