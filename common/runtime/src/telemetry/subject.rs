//! Whom the measurements are about.

use credence_identity::TrustDomain;

use crate::tls::KeyExchange;

/// Whom the measurements are about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// First word of each metric, if the configuration names no other: `spire_server` or `spire_agent`.
    pub service: &'static str,
    /// Its version.
    pub version: &'a str,
    /// Its trust domain.
    pub trust_domain: &'a TrustDomain,
    /// How it agrees on keys with readers of the page for Prometheus.
    pub key_exchange: KeyExchange,
}
