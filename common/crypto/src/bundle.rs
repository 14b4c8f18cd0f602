//! The documents of a trust bundle: SPIFFE JSON, the plain JWK Set of the Workload API, PEM and DER.
//!
//! Never fetches or stores one. Invariants: what is published parses again to the same authorities; entries that this
//! version can't use are skipped, never an error, as the standard wants, and never trusted (Trust Domain and Bundle, 4).

mod map;
mod spiffe;

use std::sync::Arc;

use credence_identity::{Bundle, SpiffeIdError, TrustDomain, X509Authority};

pub use map::parse_spiffe_map;
pub use spiffe::{parse_jwks, parse_spiffe, to_jwks, to_spiffe_json};

use crate::x509::{Certificate, CertificateError};
use zeroize::Zeroizing;

/// Why a document is no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No JSON object, one with a repeated member, or more than one value.
    #[error("not a bundle document: {0}")]
    NotABundle(String),
    /// `keys` is missing or null.
    #[error("bundle document has no keys member")]
    MissingKeys,
    /// `keys` is no list of objects.
    #[error("keys of bundle document is not a list of objects")]
    BadKeys,
    /// `spiffe_sequence` is no integer of 64 bits.
    #[error("spiffe_sequence of bundle document is not an unsigned integer of 64 bits")]
    BadSequence,
    /// `spiffe_refresh_hint` is no number of seconds.
    #[error("spiffe_refresh_hint of bundle document is not an unsigned integer")]
    BadRefreshHint,
    /// A bundle map without an object `trust_domains`.
    #[error("bundle map has no trust_domains object")]
    MissingTrustDomains,
    /// A name in a bundle map is none of a trust domain.
    #[error("bundle map names {0:?}, which is no trust domain: {1}")]
    BadTrustDomain(String, SpiffeIdError),
    /// A bundle within a bundle map is none.
    #[error("bundle of {0} in bundle map: {1}")]
    InMap(TrustDomain, Box<BundleError>),
    /// A key of a JWK Set of the Workload API has no `kid`.
    #[error("key {0} has no key id")]
    MissingKeyId(usize),
    /// A key of a JWK Set of the Workload API can't be used.
    #[error("key {0} is not a usable public key")]
    BadKey(usize),
}

/// The X.509 authorities as concatenated DER, as the Workload API has them.
pub fn x509_to_der(bundle: &Bundle) -> Vec<u8> {
    let ders: Vec<&[u8]> = bundle
        .x509_authorities
        .iter()
        .map(|authority| &*authority.der)
        .collect();
    ders.concat()
}

/// The X.509 authorities as PEM, one block after the other.
pub fn x509_to_pem(bundle: &Bundle) -> String {
    let blocks = bundle
        .x509_authorities
        .iter()
        .map(|authority| certificate_to_pem(&authority.der));
    blocks.collect()
}

/// One certificate as a PEM block that ends with a line feed.
pub fn certificate_to_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

/// A private key as a PEM block of PKCS#8 that ends with a line feed.
pub fn private_key_to_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let block = pem::Pem::new("PRIVATE KEY", pkcs8);
    let text = Zeroizing::new(pem::encode_config(&block, config));
    drop(Zeroizing::new(block.into_contents()));
    text
}

/// Authorities from concatenated DER; repeats collapse. No bytes, no authorities.
pub fn x509_from_der(der: &[u8]) -> Result<Vec<X509Authority>, CertificateError> {
    Ok(x509_authorities(Certificate::parse_concatenated(der)?))
}

/// Authorities from a PEM text with one certificate at least; repeats collapse.
pub fn x509_from_pem(text: &str) -> Result<Vec<X509Authority>, CertificateError> {
    Ok(x509_authorities(Certificate::parse_pem(text)?))
}

fn x509_authorities(certificates: Vec<Certificate>) -> Vec<X509Authority> {
    let mut authorities: Vec<X509Authority> = Vec::new();
    for certificate in certificates {
        push_unique(&mut authorities, certificate.der().clone());
    }
    authorities
}

fn push_unique(authorities: &mut Vec<X509Authority>, der: Arc<[u8]>) {
    if authorities.iter().all(|authority| authority.der != der) {
        authorities.push(X509Authority { der, tainted: false });
    }
}

#[cfg(test)]
mod tests;
