//! The server in-process, called by real gRPC clients over its Unix socket and over mTLS on a free port.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "tests: a failed expectation must stop them"
)]

mod attest;
mod authorization;
mod batches;
mod bundle;
mod commands;
mod downstream;
mod entry;
mod federated;
mod fixtures;
mod harness;
mod localauthority;
mod operations;
mod push;
mod revoke_guard;
mod robust;
mod robust_fields;
mod svid;
mod telemetry;
mod tls;
mod trustdomain;
mod wit;
