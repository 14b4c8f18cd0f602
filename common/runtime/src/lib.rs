//! What every long-running part of Credence stands on: clock, supervised tasks, back-off, files, log,
//! configuration reader, TLS with live SVIDs and the gRPC plumbing.
//!
//! It owns mechanisms and no policy: it knows neither entries nor agents, and no protobuf message.

pub mod audit;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod fs;
pub mod grpc;
pub mod health;
pub mod log;
pub mod refusals;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
mod version;

pub use version::VERSION;
