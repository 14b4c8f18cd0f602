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
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use credence_crypto::x509::{Certificate, verify_chain};
use credence_crypto::{PopSignature, PublicKeyKind, random_bytes};
use credence_identity::{Bundle, Selector, SpiffeId, TrustDomain};
use credence_runtime::clock::Clock;

use super::{AttestError, AttestedNode, Challenger, NodeAttestor, Step};
pub use template::{PathTemplate, TemplateError};

/// The attestation type.
pub const TYPE: &str = "x509pop";
/// Bytes of a nonce.
const NONCE: usize = 32;

/// SPIRE's defaults of `max_intermediates` and `max_rsa_key_size`.
const MAX_INTERMEDIATES: usize = 4;
const MAX_RSA_BITS: usize = 8192;

/// What the plugin's block configures.
#[derive(Debug, Clone)]
pub struct X509PopConfig {
    /// Whose certificates prove a node (`mode`).
    pub trust: Trust,
    /// How the agent's path is made (`agent_path_template`).
    pub path: PathTemplate,
    /// Most certificates between leaf and authority (`max_intermediates`).
    pub max_intermediates: usize,
    /// Longest RSA key of a certificate that is looked at (`max_rsa_key_size`).
    pub max_rsa_bits: usize,
    /// The leaf must name the address that the agent calls from (`verify_client_ip`).
    pub verify_client_ip: bool,
}

/// Whose certificates prove a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those of these authorities (`external_pki`).
    Authorities(Vec<Certificate>),
    /// X.509-SVIDs of the own trust domain whose path begins with this prefix (`spiffe`).
    OwnSvids {
        /// Ends with a slash.
        prefix: String,
    },
}

/// The server's own bundle, as it is at that moment.
pub type OwnBundle = Arc<dyn Fn() -> Option<Arc<Bundle>> + Send + Sync>;

impl X509PopConfig {
    /// SPIRE's defaults, for certificates of these authorities.
    pub fn external(authorities: Vec<Certificate>) -> Self {
        Self::of(Trust::Authorities(authorities))
    }

    /// SPIRE's defaults.
    pub fn of(trust: Trust) -> Self {
        let path = match trust {
            Trust::Authorities(_) => PathTemplate::default(),
            Trust::OwnSvids { .. } => PathTemplate::svid_path(),
        };
        Self {
            trust,
            path,
            max_intermediates: MAX_INTERMEDIATES,
            max_rsa_bits: MAX_RSA_BITS,
            verify_client_ip: false,
        }
    }
}

/// The attestor; clones share it.
#[derive(Clone)]
pub struct X509Pop {
    shared: Arc<Shared>,
}

struct Shared {
    trust_domain: TrustDomain,
    config: ArcSwap<X509PopConfig>,
    own_bundle: OwnBundle,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for X509Pop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Pop")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl X509Pop {
    /// An attestor for agents of `trust_domain`.
    pub fn new(
        trust_domain: TrustDomain,
        config: X509PopConfig,
        own_bundle: OwnBundle,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                trust_domain,
                config: ArcSwap::from_pointee(config),
                own_bundle,
                clock,
            }),
        }
    }

    /// Attests by this configuration from the next attestation on.
    pub fn configure(&self, config: X509PopConfig) {
        self.shared.config.store(Arc::new(config));
    }
}

impl NodeAttestor for X509Pop {
    fn name(&self) -> &'static str {
        TYPE
    }

    fn attest(&self, payload: &[u8], client: Option<IpAddr>) -> Result<Step, AttestError> {
        let shown: wire::AttestationData =
            serde_json::from_slice(payload).map_err(|error| malformed("failed to unmarshal data", error))?;
        let config = self.shared.config.load_full();
        let path = self.shared.verified_path(&config, &shown)?;
        let leaf = path.first().ok_or_else(no_certificate)?;
        if config.verify_client_ip {
            check_address(leaf, client)?;
        }
        let may_sign = leaf.key_usage().is_some_and(|usage| usage.digital_signature());
        if !may_sign {
            return Err(internal(
                "unable to generate challenge",
                "certificate not intended for digital signature use",
            ));
        }
        let nonce =
            random_bytes::<NONCE>().map_err(|error| internal("unable to generate challenge", error))?;
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
            trust_domain: self.shared.trust_domain.clone(),
            config,
            path,
            nonce,
        });
        Ok(Step::Challenge { challenge, then })
    }
}

/// A node that was sent a nonce.
#[derive(Debug)]
struct Challenged {
    trust_domain: TrustDomain,
    config: Arc<X509PopConfig>,
    /// Leaf first, authority last.
    path: Vec<Certificate>,
    nonce: [u8; NONCE],
}

impl Challenger for Challenged {
    fn answered(self: Box<Self>, response: &[u8]) -> Result<Step, AttestError> {
        const WHAT: &str = "challenge response verification failed";
        let response = wire::Response::parse(response)
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
            (Some(true), ..) => return Err(denied(WHAT, "expecting RSA response")),
            _ => return Err(denied(WHAT, "expecting ECDSA response")),
        };
        if nonce.len() != NONCE {
            return Err(denied(WHAT, "invalid response nonce"));
        }
        let kind = match &proof {
            PopSignature::Rsa(_) => "RSA",
            PopSignature::Ecdsa { .. } => "ECDSA",
        };
        let message = [self.nonce.as_slice(), &nonce].concat();
        leaf.public_key()
            .verify_possession(&message, &proof)
            .map_err(|_| denied(WHAT, format!("{kind} signature verify failed")))?;
        self.attested(leaf).map(Step::Attested)
    }
}

impl Shared {
    /// The path from the shown leaf to an authority.
    fn verified_path(
        &self,
        config: &X509PopConfig,
        shown: &wire::AttestationData,
    ) -> Result<Vec<Certificate>, AttestError> {
        // Before anything is parsed: each costs time.
        if shown.certificates.len().saturating_sub(1) > config.max_intermediates {
            return Err(too_much("too many intermediate certificates"));
        }
        let mut certificates = shown.certificates.iter().enumerate().map(|(at, der)| {
            Certificate::from_der(&der.0).map_err(|error| match at {
                0 => malformed("unable to parse leaf certificate", error),
                _ => malformed(
                    &format!("unable to parse intermediate certificate {}", at - 1),
                    error,
                ),
            })
        });
        let leaf = certificates.next().ok_or_else(no_certificate)??;
        let intermediates = certificates.collect::<Result<Vec<_>, _>>()?;
        for (at, certificate) in std::iter::once(&leaf).chain(&intermediates).enumerate() {
            if matches!(certificate.public_key().kind(), PublicKeyKind::Rsa { bits } if bits > config.max_rsa_bits)
            {
                let which = match at {
                    0 => "leaf certificate".to_owned(),
                    _ => format!("intermediate certificate {}", at - 1),
                };
                return Err(too_much(&format!("{which} key size too large")));
            }
        }
        let own;
        let roots = match &config.trust {
            Trust::Authorities(roots) => roots,
            Trust::OwnSvids { .. } => {
                own = self.own_authorities()?;
                &own
            }
        };
        verify_chain(&leaf, &intermediates, roots, self.clock.now())
            .map_err(|error| denied("certificate verification failed", error))
    }

    fn own_authorities(&self) -> Result<Vec<Certificate>, AttestError> {
        let bundle = (self.own_bundle)()
            .ok_or_else(|| internal("failed to get trust bundle", "the server has none yet"))?;
        let authorities = bundle.x509_authorities.iter();
        Ok(authorities
            .filter_map(|authority| Certificate::from_der(&authority.der).ok())
            .collect())
    }
}

impl Challenged {
    fn attested(&self, leaf: &Certificate) -> Result<AttestedNode, AttestError> {
        const WHAT: &str = "failed to make spiffe id";
        let svid_path = match &self.config.trust {
            Trust::Authorities(_) => None,
            Trust::OwnSvids { prefix } => Some(self.svid_path(leaf, prefix)?),
        };
        let sans = san_selectors(&self.trust_domain, leaf.uri_sans());
        let fields = template::Fields {
            trust_domain: &self.trust_domain,
            leaf,
            sans: &sans,
            svid_path: svid_path.as_deref(),
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
            self.path
                .iter()
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

    /// What follows the prefix in the path of an SVID of the own trust domain.
    fn svid_path(&self, leaf: &Certificate, prefix: &str) -> Result<String, AttestError> {
        const WHAT: &str = "valid SVID x509 cert not found";
        let mut ids = leaf.uri_sans().iter().filter(|uri| uri.starts_with("spiffe://"));
        let (Some(uri), None) = (ids.next(), ids.next()) else {
            return Err(denied(WHAT, "the certificate must hold one SPIFFE ID"));
        };
        let id = SpiffeId::parse(uri).map_err(|error| denied(WHAT, error))?;
        if !id.is_member_of(&self.trust_domain) {
            return Err(denied(WHAT, format!("{id} is of another trust domain")));
        }
        let rest = id.path().strip_prefix(prefix);
        rest.map(str::to_owned)
            .ok_or_else(|| denied("x509 cert doesnt match SVID prefix", prefix))
    }
}

/// The address must be one of those in the leaf.
fn check_address(leaf: &Certificate, client: Option<IpAddr>) -> Result<(), AttestError> {
    let client =
        client.ok_or_else(|| internal("client IP not available for verification", "a local caller"))?;
    let named = leaf
        .ip_addresses()
        .iter()
        .any(|ip| ip.to_canonical() == client.to_canonical());
    if named {
        return Ok(());
    }
    let what = format!("client IP {client} does not match any certificate IP SAN");
    Err(AttestError::Denied(format!("nodeattestor({TYPE}): {what}")))
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

fn no_certificate() -> AttestError {
    AttestError::Malformed(format!("nodeattestor({TYPE}): no certificate to attest"))
}

fn too_much(what: &str) -> AttestError {
    AttestError::Malformed(format!("nodeattestor({TYPE}): {what}"))
}

fn denied(what: &str, cause: impl Display) -> AttestError {
    AttestError::Denied(format!("nodeattestor({TYPE}): {what}: {cause}"))
}

fn internal(what: &str, cause: impl Display) -> AttestError {
    AttestError::Internal(format!("nodeattestor({TYPE}): {what}: {cause}"))
}
