//! What our gRPC servers and clients share.

pub mod authority;
