//! Who is at the other end of a connection, decided once when it is accepted.
//!
//! Owns [`Caller`]. It never says what a caller may do: that is [`super::authz`].
//!
//! Invariant: a [`Caller::Peer`] proved possession of the key of an X.509-SVID that verified against the bundle of
//! its trust domain when the connection was made.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use credence_identity::{SpiffeId, Timestamp};

/// One end of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process on this host that could open the server's Unix socket. Its uid isn't checked, as in SPIRE: the
    /// modes of the socket and its folder decide.
    Local {
        uid: u32,
        gid: u32,
        /// Absent where the kernel doesn't tell (another pid namespace).
        pid: Option<i32>,
    },
    /// A TLS caller with an X.509-SVID.
    Peer {
        id: SpiffeId,
        /// Decimal, as in the node's row.
        serial: Arc<str>,
        not_after: Timestamp,
        address: SocketAddr,
    },
    /// A TLS caller without a certificate.
    Anonymous { address: SocketAddr },
}

impl Caller {
    /// Whether the call came over the Unix socket.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self, Self::Local { .. })
    }

    /// The address that rate limits count by; local callers are never limited.
    pub(crate) const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Local { .. } => None,
            Self::Peer { address, .. } | Self::Anonymous { address } => Some(address.ip()),
        }
    }

    /// Where the caller is, for the log.
    pub(crate) fn address(&self) -> impl fmt::Display + use<'_> {
        fmt::from_fn(move |f| match self {
            Self::Local {
                uid, pid: Some(pid), ..
            } => write!(f, "local pid {pid} uid {uid}"),
            Self::Local { uid, pid: None, .. } => write!(f, "local uid {uid}"),
            Self::Peer { address, .. } | Self::Anonymous { address } => write!(f, "{address}"),
        })
    }

    /// The SPIFFE ID a TLS caller proved.
    pub(crate) const fn id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Peer { id, .. } => Some(id),
            Self::Local { .. } | Self::Anonymous { .. } => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local {
                uid,
                gid,
                pid: Some(pid),
            } => write!(f, "local pid {pid} uid {uid} gid {gid}"),
            Self::Local { uid, gid, pid: None } => write!(f, "local uid {uid} gid {gid}"),
            Self::Peer { id, address, .. } => write!(f, "{id} at {address}"),
            Self::Anonymous { address } => write!(f, "{address}"),
        }
    }
}
