//! Authorities and signing.
