//! gRPC plumbing that is no service: connections in, connections out, and details of a status.
//!
//! Owns transports only. It names no protobuf message: a status detail passes through as type URL and bytes.

pub mod accept;
pub mod authority;
pub mod connect;
pub mod request_id;
pub mod status;

mod proxy;
mod socket;

pub use accept::{ConnectInfo, TlsConnection, VerifiedPeer, accept_tls};
pub use connect::{ConnectError, LinkFault, connect_tls, connect_tls_lazy, connect_unix, connect_unix_lazy};
pub use proxy::{NoNetwork, TrustedProxies};
pub use request_id::{NoRequestId, REQUEST_ID, RequestId};

/// In the metadata of `BatchNewX509SVID`: the agent passes on CSRs of others, whose certificates it won't replace. SPIRE's
/// server ignores it.
pub const KEY_ELSEWHERE: &str = "credence-key-elsewhere";
