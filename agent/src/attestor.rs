//! Node attestation and workload attestation.

pub mod node;
pub mod workload;
