//! Node attestation, the server's half.
