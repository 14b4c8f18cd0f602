//! The number under which one call is spoken of: in the metadata of its refusal, in the log, and by `explain request`.
//!
//! Owns the number and where it stands in a status. It says nothing of the call itself, so that a caller learns nothing
//! by it. Invariant: the text of a status stays as it is.

use std::fmt;
use std::str::FromStr;

use tonic::Status;
use tonic::metadata::MetadataValue;
use uuid::{Builder, Uuid};

/// The name in the metadata of a refusal.
pub const REQUEST_ID: &str = "credence-request-id";

/// A random number in the form of a UUID, as SPIRE's log has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

/// A text that is no request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request id: it has the form of a UUID")]
pub struct NoRequestId;

impl RequestId {
    /// A new one. It is a name and no secret: knowing it opens nothing.
    pub fn random() -> Self {
        Self(Builder::from_random_bytes(rand::random()).into_uuid())
    }

    /// The status with this number in its metadata.
    pub fn mark(self, mut status: Status) -> Status {
        if let Ok(value) = MetadataValue::try_from(self.to_string()) {
            status.metadata_mut().insert(REQUEST_ID, value);
        }
        status
    }

    /// The number in the metadata of a status.
    pub fn of(status: &Status) -> Option<Self> {
        status.metadata().get(REQUEST_ID)?.to_str().ok()?.parse().ok()
    }
}

impl FromStr for RequestId {
    type Err = NoRequestId;

    fn from_str(text: &str) -> Result<Self, NoRequestId> {
        Uuid::parse_str(text.trim()).map(Self).map_err(|_| NoRequestId)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_status_keeps_its_words() {
        let id = RequestId::random();
        let marked = id.mark(Status::permission_denied("no identity issued"));
        assert_eq!(RequestId::of(&marked), Some(id));
        assert_eq!(
            (marked.code(), marked.message()),
            (tonic::Code::PermissionDenied, "no identity issued")
        );
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("no".parse::<RequestId>(), Err(NoRequestId));
        assert_ne!(id, RequestId::random());
    }
}
