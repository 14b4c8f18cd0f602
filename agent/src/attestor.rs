//! Node attestation and workload attestation.

pub mod workload;
