//! Node attestation and workload attestation.
