//! What one request asks for.
//!
//! Pure. Never decides whether the caller may have it. Invariant: an [`Asked`] names one identity, and the CSR is signed
//! with the key that it is about.

use credence_crypto::PublicKey;
use credence_crypto::csr::{CsrError, VerifiedCsr};
use credence_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use credence_proto::istio::v1::auth::IstioCertificateRequest;
use prost_types::Struct;
use prost_types::value::Kind;

/// The label of the PEM block, and the one that old tools write.
const LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
/// Whom ztunnel asks for.
const IMPERSONATED: &str = "ImpersonatedIdentity";
/// Which of several authorities istio-agent wants.
const SIGNER: &str = "CertSigner";

/// Why a request makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the CSR must be one PEM block CERTIFICATE REQUEST")]
    Pem,
    #[error("malformed CSR: {0}")]
    Csr(#[from] CsrError),
    #[error("the CSR has {0} URI names, must have one at most")]
    Names(usize),
    #[error("not a SPIFFE ID: {0}")]
    Id(#[from] SpiffeIdError),
    #[error("the metadata field {0} must be a text")]
    Field(&'static str),
    #[error("the CSR is for {csr}, and {asked} is asked for")]
    OtherId { csr: SpiffeId, asked: SpiffeId },
    #[error("{0} is not of the form spiffe://{1}/ns/NAMESPACE/sa/SERVICEACCOUNT")]
    Form(SpiffeId, TrustDomain),
    #[error("there is no certificate signer {0:?} here: leave CertSigner empty")]
    Signer(String),
}

/// A request that makes sense.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: SpiffeId,
    /// DER.
    pub(super) csr: Vec<u8>,
    pub(super) key: PublicKey,
}

impl Asked {
    /// Reads the request of that caller. The identity is `ImpersonatedIdentity`, or else what the CSR names, or else the
    /// caller's own.
    pub(super) fn read(
        request: &IstioCertificateRequest,
        caller: &SpiffeId,
        trust_domain: &TrustDomain,
    ) -> Result<Self, Malformed> {
        let metadata = request.metadata.as_ref();
        if let Some(signer) = text(metadata, SIGNER)? {
            return Err(Malformed::Signer(signer.to_owned()));
        }
        let impersonated = text(metadata, IMPERSONATED)?.map(SpiffeId::parse).transpose()?;
        let der = der(&request.csr)?;
        let csr = VerifiedCsr::from_der(&der)?;
        let named = match csr.uri_sans() {
            [] => None,
            [name] => Some(SpiffeId::parse(name)?),
            names => return Err(Malformed::Names(names.len())),
        };
        let id = match (impersonated, named) {
            (Some(asked), Some(csr)) if asked != csr => return Err(Malformed::OtherId { csr, asked }),
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => caller.clone(),
        };
        if !id.is_member_of(trust_domain) || !has_form(id.path()) {
            return Err(Malformed::Form(id, trust_domain.clone()));
        }
        Ok(Self {
            id,
            key: csr.public_key().clone(),
            csr: der,
        })
    }
}

/// `/ns/NAMESPACE/sa/SERVICEACCOUNT`, in which Istio's policies read namespace and service account.
fn has_form(path: &str) -> bool {
    let mut segments = path.split('/');
    let mut next = || segments.next();
    (next(), next()) == (Some(""), Some("ns"))
        && next().is_some()
        && next() == Some("sa")
        && next().is_some()
        && next().is_none()
}

/// The field's text; none if it is absent or empty.
fn text<'a>(metadata: Option<&'a Struct>, field: &'static str) -> Result<Option<&'a str>, Malformed> {
    let value = metadata.and_then(|metadata| metadata.fields.get(field));
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Ok(None),
        Some(Kind::StringValue(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Malformed::Field(field)),
    }
}

fn der(csr: &str) -> Result<Vec<u8>, Malformed> {
    match pem::parse_many(csr).map_err(|_| Malformed::Pem)?.as_slice() {
        [block] if LABELS.contains(&block.tag()) => Ok(block.contents().to_vec()),
        _ => Err(Malformed::Pem),
    }
}

#[cfg(test)]
pub(super) mod tests;
