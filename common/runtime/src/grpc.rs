//! gRPC plumbing that is no service: connections in, connections out, and details of a status.
//!
//! Owns transports only. It names no protobuf message: a status detail passes through as type URL and bytes.

pub mod authority;
pub mod connect;
pub mod status;

pub use connect::{ConnectError, connect_unix, connect_unix_lazy};
