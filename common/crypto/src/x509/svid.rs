//! X509-SVIDs (X509-SVID, sections 2 to 5): the rules for leaves, and the two sides that apply them.

use std::sync::Arc;

use credence_identity::{Bundle, SpiffeId, SpiffeIdError, Timestamp, TrustDomain, X509Authority};

use super::path::{MAX_CHAIN, PathError, verify_issued};
use super::{Certificate, CertificateError};
use crate::keys::{PrivateKey, PrivateKeyError, Signer};

/// Why something is no X509-SVID, or none to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// No certificate at all.
    #[error("certificate chain is empty")]
    NoCertificates,
    /// A certificate can't be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The leaf has no URI name.
    #[error("certificate has no URI SAN")]
    MissingUriSan,
    /// The leaf has several URI names, of whatever scheme.
    #[error("certificate has {0} URI SANs, must have one")]
    MultipleUriSans(usize),
    /// The URI name is no SPIFFE ID.
    #[error("URI SAN is not a SPIFFE ID")]
    BadSpiffeId(#[source] SpiffeIdError),
    /// The leaf's ID is that of a trust domain.
    #[error("SPIFFE ID of a leaf must have a path")]
    RootPathLeaf,
    /// The leaf is a CA.
    #[error("leaf has the CA flag")]
    LeafIsCa,
    /// The leaf may sign certificates.
    #[error("leaf has key usage keyCertSign")]
    LeafKeyCertSign,
    /// The leaf may sign revocation lists.
    #[error("leaf has key usage cRLSign")]
    LeafCrlSign,
    /// The leaf says nothing about key usage.
    #[error("leaf has no key usage")]
    KeyUsageMissing,
    /// The leaf may not sign, so it can't authenticate.
    #[error("leaf lacks key usage digitalSignature")]
    LeafMissingDigitalSignature,
    /// Extended key usage is there without serverAuth or clientAuth.
    #[error("leaf has extended key usage without both serverAuth and clientAuth")]
    EkuIncomplete,
    /// A certificate after the leaf is no CA.
    #[error("intermediate certificate is not a CA")]
    IntermediateNotCa,
    /// A certificate after the leaf may not sign certificates.
    #[error("intermediate certificate lacks key usage keyCertSign")]
    IntermediateNoKeyCertSign,
    /// A CA's SPIFFE ID has a path (X509-SVID, 3.2).
    #[error("SPIFFE ID of a CA must not have a path: {0}")]
    SigningIdHasPath(SpiffeId),
    /// The private key can't be used.
    #[error(transparent)]
    PrivateKey(#[from] PrivateKeyError),
    /// The private key is another one's.
    #[error("private key does not belong to the leaf")]
    KeyMismatch,
    /// The leaf's trust domain isn't known here.
    #[error("no bundle for trust domain {0}")]
    NoBundle(TrustDomain),
    /// The chain isn't valid.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// An X509-SVID: leaf and intermediates, without the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Svid {
    /// The identity.
    pub id: SpiffeId,
    /// DER certificates, leaf first.
    pub chain: Vec<Arc<[u8]>>,
    /// First second of the leaf's validity.
    pub not_before: Timestamp,
    /// Last second of the leaf's validity.
    pub not_after: Timestamp,
    /// The leaf's serial number in decimal.
    pub serial: String,
    /// The key ID of the authority that the chain leads to, where its last certificate names it.
    pub authority_key_id: Option<Arc<[u8]>>,
}

impl X509Svid {
    /// Parses concatenated DER, leaf first, as the Workload API has it, and applies the rules for leaves and CAs. Time and
    /// signatures are not checked: that is the peers' part.
    pub fn parse_chain(der: &[u8]) -> Result<Self, SvidError> {
        Self::from_certificates(&Certificate::parse_concatenated(der)?)
    }

    /// As [`Self::parse_chain`], from certificates one by one.
    pub fn from_der_chain<C: AsRef<[u8]>>(chain: &[C]) -> Result<Self, SvidError> {
        Self::from_certificates(&parse_each(chain)?)
    }

    fn from_certificates(chain: &[Certificate]) -> Result<Self, SvidError> {
        let (leaf, intermediates) = split(chain)?;
        let id = check_leaf(leaf)?;
        for certificate in intermediates {
            if !certificate.is_ca() {
                return Err(SvidError::IntermediateNotCa);
            }
            if certificate.key_usage().is_none_or(|usage| !usage.key_cert_sign()) {
                return Err(SvidError::IntermediateNoKeyCertSign);
            }
            check_signing_id(certificate)?;
        }
        Ok(Self {
            id,
            chain: chain
                .iter()
                .map(|certificate| certificate.der().clone())
                .collect(),
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            serial: leaf.serial(),
            authority_key_id: chain
                .last()
                .and_then(Certificate::authority_key_id)
                .map(Arc::from),
        })
    }

    /// All certificates in a row, leaf first.
    pub fn chain_der(&self) -> Vec<u8> {
        self.chain.concat()
    }

    /// The parsed leaf.
    pub fn leaf(&self) -> Result<Certificate, SvidError> {
        Ok(Certificate::from_der(
            self.chain.first().ok_or(SvidError::NoCertificates)?,
        )?)
    }
}

/// An X509-SVID with its private key.
#[derive(Debug, Clone)]
pub struct X509SvidKey {
    /// The certificates.
    pub svid: X509Svid,
    /// The leaf's key.
    pub key: PrivateKey,
}

impl X509SvidKey {
    /// Joins both, if the key is the leaf's.
    pub fn new(svid: X509Svid, key: PrivateKey) -> Result<Self, SvidError> {
        if svid.leaf()?.public_key() != key.public_key() {
            return Err(SvidError::KeyMismatch);
        }
        Ok(Self { svid, key })
    }

    /// Parses what the Workload API hands out: concatenated DER and PKCS#8.
    pub fn parse(chain: &[u8], pkcs8: &[u8]) -> Result<Self, SvidError> {
        let svid = X509Svid::parse_chain(chain)?;
        Self::new(svid, PrivateKey::from_pkcs8_der(pkcs8)?)
    }
}

/// A peer that was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSvid {
    /// Who it is.
    pub id: SpiffeId,
    /// The leaf it showed.
    pub leaf: Certificate,
}

/// A chain (DER, leaf first) with the authority that its last certificate names as its issuer, to be shown. Nothing is
/// verified, and what can't be parsed is left out.
pub fn chain_with_root(chain: &[Arc<[u8]>], authorities: &[X509Authority]) -> Vec<Certificate> {
    let parsed = chain.iter().filter_map(|der| Certificate::from_der(der).ok());
    let mut chain: Vec<Certificate> = parsed.collect();
    let issuer = chain
        .last()
        .and_then(|last| last.authority_key_id().map(<[u8]>::to_vec));
    let roots = authorities
        .iter()
        .filter_map(|authority| Certificate::from_der(&authority.der).ok());
    let root = { roots }.find(|root| root.subject_key_id() == issuer.as_deref());
    chain.extend(root);
    chain
}

/// Verifies a peer's chain (DER, leaf first) against the authorities of one trust domain, which must be the leaf's: compare
/// [`VerifiedSvid::id`], or use [`verify_svid_in`], which chooses the bundle itself.
pub fn verify_svid<C: AsRef<[u8]>>(
    chain: &[C],
    authorities: &[X509Authority],
    now: Timestamp,
) -> Result<VerifiedSvid, SvidError> {
    let chain = parse_each(chain)?;
    let (leaf, intermediates) = split(&chain)?;
    let id = check_leaf(leaf)?;
    verify_path(id, leaf, intermediates, authorities, now)
}

/// Verifies a peer's chain (DER, leaf first) against the bundle of the leaf's trust domain and no other (X509-SVID, 5).
pub fn verify_svid_in<C: AsRef<[u8]>>(
    chain: &[C],
    lookup: impl FnOnce(&TrustDomain) -> Option<Arc<Bundle>>,
    now: Timestamp,
) -> Result<VerifiedSvid, SvidError> {
    let chain = parse_each(chain)?;
    let (leaf, intermediates) = split(&chain)?;
    let id = check_leaf(leaf)?;
    let trust_domain = id.trust_domain();
    let bundle = lookup(&trust_domain).ok_or(SvidError::NoBundle(trust_domain))?;
    verify_path(id, leaf, intermediates, &bundle.x509_authorities, now)
}

fn verify_path(
    id: SpiffeId,
    leaf: &Certificate,
    intermediates: &[Certificate],
    authorities: &[X509Authority],
    now: Timestamp,
) -> Result<VerifiedSvid, SvidError> {
    // An authority that can't be parsed can't verify anything; the others still can.
    let anchors: Vec<_> = authorities
        .iter()
        .filter_map(|authority| Certificate::from_der(&authority.der).ok())
        .collect();
    let path = verify_issued(leaf, intermediates, &anchors, now)?;
    path.iter().skip(1).try_for_each(check_signing_id)?;
    Ok(VerifiedSvid {
        id,
        leaf: leaf.clone(),
    })
}

fn parse_each<C: AsRef<[u8]>>(chain: &[C]) -> Result<Vec<Certificate>, SvidError> {
    if chain.len() > MAX_CHAIN {
        return Err(PathError::TooLong.into());
    }
    Ok(chain
        .iter()
        .map(|der| Certificate::from_der(der.as_ref()))
        .collect::<Result<_, _>>()?)
}

fn split(chain: &[Certificate]) -> Result<(&Certificate, &[Certificate]), SvidError> {
    if chain.len() > MAX_CHAIN {
        return Err(PathError::TooLong.into());
    }
    chain.split_first().ok_or(SvidError::NoCertificates)
}

/// X509-SVID, 5.2 and section 4: what a leaf must and must not be.
fn check_leaf(leaf: &Certificate) -> Result<SpiffeId, SvidError> {
    if leaf.is_ca() {
        return Err(SvidError::LeafIsCa);
    }
    let usage = leaf.key_usage();
    if usage.is_some_and(|usage| usage.key_cert_sign()) {
        return Err(SvidError::LeafKeyCertSign);
    }
    if usage.is_some_and(|usage| usage.crl_sign()) {
        return Err(SvidError::LeafCrlSign);
    }
    let id = leaf.spiffe_id()?;
    if id.path().is_empty() {
        return Err(SvidError::RootPathLeaf);
    }
    if !usage.ok_or(SvidError::KeyUsageMissing)?.digital_signature() {
        return Err(SvidError::LeafMissingDigitalSignature);
    }
    match leaf.extensions().extended_key_usage {
        Some(usage) if !(usage.server_auth && usage.client_auth) => Err(SvidError::EkuIncomplete),
        _ => Ok(id),
    }
}

/// X509-SVID, 3.2: the SPIFFE ID of a CA, if it has one, has no path.
fn check_signing_id(authority: &Certificate) -> Result<(), SvidError> {
    let ids = authority
        .uri_sans()
        .iter()
        .filter_map(|uri| SpiffeId::parse(uri).ok());
    match ids.into_iter().find(|id| !id.path().is_empty()) {
        Some(id) => Err(SvidError::SigningIdHasPath(id)),
        None => Ok(()),
    }
}
