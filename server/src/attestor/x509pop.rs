//! x509pop: the node shows a certificate of an authority that the operator trusts, and proves that it has the key.
//!
//! Owns the exchange, in the JSON of SPIRE's agents, and what becomes of the certificate: ID and selectors. Path
//! validation is `credence-crypto`'s, which takes the certificates of the field: serial 0, dates before 1970.
//!
//! Invariant: nothing of the certificate is believed before its chain verified, and no node is attested without a
//! signature over both nonces.

mod template;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use credence_crypto::x509::{Certificate, verify_chain};
use credence_crypto::{PopSignature, random_bytes};
use credence_identity::{Selector, SpiffeId, TrustDomain};
use credence_runtime::clock::Clock;

use super::{AttestError, AttestedNode, Challenger, NodeAttestor, Step};
pub use template::{PathTemplate, TemplateError};

/// The attestation type.
pub const TYPE: &str = "x509pop";
/// Bytes of a nonce.
const NONCE: usize = 32;

/// What the plugin's block configures.
#[derive(Debug, Clone)]
pub struct X509PopConfig {
    /// The authorities (`ca_bundle_path`, `ca_bundle_paths`).
    pub roots: Vec<Certificate>,
    /// How the agent's path is made (`agent_path_template`).
    pub path: PathTemplate,
    /// Most certificates between leaf and authority (`max_intermediates`).
    pub max_intermediates: usize,
}

/// The attestor.
#[derive(Debug, Clone)]
pub struct X509Pop {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    trust_domain: TrustDomain,
    config: X509PopConfig,
    clock: Arc<dyn Clock>,
}

impl X509Pop {
    /// An attestor for agents of `trust_domain`.
    pub fn new(trust_domain: TrustDomain, config: X509PopConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                trust_domain,
                config,
                clock,
            }),
        }
    }
}

impl NodeAttestor for X509Pop {
    fn name(&self) -> &'static str {
        TYPE
    }

    fn attest(&self, payload: &[u8]) -> Result<Step, AttestError> {
        let shown: wire::AttestationData =
            serde_json::from_slice(payload).map_err(|error| malformed("failed to unmarshal data", error))?;
        let path = self.shared.verified_path(&shown)?;
        let nonce =
            random_bytes::<NONCE>().map_err(|error| internal("unable to generate challenge", error))?;
        let leaf = path
            .first()
            .ok_or_else(|| malformed("no certificate to attest", "none given"))?;
        let challenge = match leaf.public_key().pop_is_rsa() {
            Some(true) => wire::Challenge {
                rsa_signature: Some(wire::Nonce::new(&nonce)),
                ecdsa_signature: None,
            },
            Some(false) => wire::Challenge {
                rsa_signature: None,
                ecdsa_signature: Some(wire::Nonce::new(&nonce)),
            },
            None => {
                return Err(internal(
                    "unable to generate challenge",
                    "unsupported public key type",
                ));
            }
        };
        let challenge =
            serde_json::to_vec(&challenge).map_err(|error| internal("unable to marshal challenge", error))?;
        let then = Box::new(Challenged {
            shared: Arc::clone(&self.shared),
            path,
            nonce,
        });
        Ok(Step::Challenge { challenge, then })
    }
}

/// A node that was sent a nonce.
#[derive(Debug)]
struct Challenged {
    shared: Arc<Shared>,
    /// Leaf first, authority last.
    path: Vec<Certificate>,
    nonce: [u8; NONCE],
}

impl Challenger for Challenged {
    fn answered(self: Box<Self>, response: &[u8]) -> Result<Step, AttestError> {
        const WHAT: &str = "challenge response verification failed";
        let response: wire::Response = serde_json::from_slice(response)
            .map_err(|error| malformed("unable to unmarshal challenge response", error))?;
        let leaf = self.path.first().ok_or_else(|| denied(WHAT, "no certificate"))?;
        let (nonce, proof) = match (
            leaf.public_key().pop_is_rsa(),
            response.rsa_signature,
            response.ecdsa_signature,
        ) {
            (Some(true), Some(rsa), _) => (rsa.nonce.0, PopSignature::Rsa(rsa.signature.0)),
            (Some(false), _, Some(ecdsa)) => (
                ecdsa.nonce.0,
                PopSignature::Ecdsa {
                    r: ecdsa.r.0,
                    s: ecdsa.s.0,
                },
            ),
            _ => {
                return Err(denied(
                    WHAT,
                    "response has no signature by the type of the certificate's key",
                ));
            }
        };
        if nonce.len() != NONCE {
            return Err(denied(
                WHAT,
                format!("nonce has {} bytes instead of {NONCE}", nonce.len()),
            ));
        }
        let message = [self.nonce.as_slice(), &nonce].concat();
        leaf.public_key()
            .verify_possession(&message, &proof)
            .map_err(|error| denied(WHAT, error))?;
        self.shared.attested(leaf, &self.path).map(Step::Attested)
    }
}

impl Shared {
    /// The path from the shown leaf to an authority.
    fn verified_path(&self, shown: &wire::AttestationData) -> Result<Vec<Certificate>, AttestError> {
        let mut certificates = shown.certificates.iter().enumerate().map(|(at, der)| {
            Certificate::from_der(&der.0).map_err(|error| match at {
                0 => malformed("unable to parse leaf certificate", error),
                _ => malformed(
                    &format!("unable to parse intermediate certificate {}", at - 1),
                    error,
                ),
            })
        });
        let leaf = certificates
            .next()
            .ok_or_else(|| malformed("no certificate to attest", "none given"))??;
        if shown.certificates.len() - 1 > self.config.max_intermediates {
            let most = self.config.max_intermediates;
            return Err(malformed(
                "too many intermediate certificates",
                format!("at most {most} are taken"),
            ));
        }
        let intermediates = certificates.collect::<Result<Vec<_>, _>>()?;
        verify_chain(&leaf, &intermediates, &self.config.roots, self.clock.now())
            .map_err(|error| denied("certificate verification failed", error))
    }

    fn attested(&self, leaf: &Certificate, path: &[Certificate]) -> Result<AttestedNode, AttestError> {
        const WHAT: &str = "failed to make spiffe id";
        let sans = san_selectors(&self.trust_domain, leaf.uri_sans());
        let fields = template::Fields {
            trust_domain: &self.trust_domain,
            leaf,
            sans: &sans,
        };
        let agent_path = self
            .config
            .path
            .render(&fields)
            .map_err(|error| internal(WHAT, error))?;
        let id = SpiffeId::agent(&self.trust_domain, &agent_path).map_err(|error| internal(WHAT, error))?;
        let mut values = Vec::new();
        if let Some(name) = leaf.subject().common_name().filter(|name| !name.is_empty()) {
            values.push(format!("subject:cn:{name}"));
        }
        values.extend(
            path.iter()
                .skip(1)
                .map(|issuer| format!("ca:fingerprint:{}", issuer.sha1_fingerprint())),
        );
        values.push(format!("serialnumber:{}", leaf.serial_hex()));
        values.extend(sans.iter().map(|(key, value)| format!("san:{key}:{value}")));
        let selectors: Result<Vec<_>, _> = values.iter().map(|value| Selector::new(TYPE, value)).collect();
        let selectors = selectors.map_err(|error| internal("failed to make selectors", error))?;
        Ok(AttestedNode {
            id,
            selectors,
            can_reattest: true,
        })
    }
}

/// Keys and values of the URI names `x509pop://<own trust domain>/<key>/<value>`. Those of other trust domains say
/// nothing here.
fn san_selectors(own: &TrustDomain, uris: &[String]) -> BTreeMap<String, String> {
    let prefix = format!("{TYPE}://{own}/");
    let pairs = uris
        .iter()
        .filter_map(|uri| uri.strip_prefix(&prefix)?.split_once('/'));
    pairs
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn malformed(what: &str, cause: impl Display) -> AttestError {
    AttestError::Malformed(format!("nodeattestor({TYPE}): {what}: {cause}"))
}

fn denied(what: &str, cause: impl Display) -> AttestError {
    AttestError::Denied(format!("nodeattestor({TYPE}): {what}: {cause}"))
}

fn internal(what: &str, cause: impl Display) -> AttestError {
    AttestError::Internal(format!("nodeattestor({TYPE}): {what}: {cause}"))
}
