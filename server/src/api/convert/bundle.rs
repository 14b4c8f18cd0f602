//! Bundles on the wire.

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::{Certificate, CertificateError};
use credence_crypto::{PublicKey, PublicKeyError};
use credence_identity::{Bundle, JwtAuthority, SpiffeIdError, Timestamp, TrustDomain, X509Authority};
use credence_proto::spire::api::types;

/// The mask of a request that has none: everything.
pub(crate) const ALL: types::BundleMask = types::BundleMask {
    x509_authorities: true,
    jwt_authorities: true,
    refresh_hint: true,
    sequence_number: true,
    wit_authorities: true,
};

/// A refresh hint in seconds that the store can keep in milliseconds.
const LONGEST_HINT: u64 = i64::MAX.unsigned_abs() / 1000;

/// The bundle on the wire, with the name of its trust domain and what the mask asks for.
pub(crate) fn to_proto(bundle: &Bundle, mask: &types::BundleMask) -> types::Bundle {
    let hint = bundle
        .refresh_hint
        .map_or(0, |hint| i64::try_from(hint.as_secs()).unwrap_or(i64::MAX));
    types::Bundle {
        trust_domain: bundle.trust_domain.as_str().to_owned(),
        x509_authorities: if mask.x509_authorities {
            bundle.x509_authorities.iter().map(x509_to_proto).collect()
        } else {
            Vec::new()
        },
        jwt_authorities: if mask.jwt_authorities {
            bundle.jwt_authorities.iter().map(jwt_to_proto).collect()
        } else {
            Vec::new()
        },
        refresh_hint: if mask.refresh_hint { hint } else { 0 },
        sequence_number: if mask.sequence_number {
            bundle.sequence_number
        } else {
            0
        },
        wit_authorities: if mask.wit_authorities {
            bundle.wit_authorities.iter().map(wit_to_proto).collect()
        } else {
            Vec::new()
        },
    }
}

fn x509_to_proto(authority: &X509Authority) -> types::X509Certificate {
    types::X509Certificate {
        asn1: authority.der.to_vec(),
        tainted: authority.tainted,
    }
}

fn jwt_to_proto(authority: &JwtAuthority) -> types::JwtKey {
    types::JwtKey {
        public_key: authority.public_key.to_vec(),
        key_id: authority.key_id.to_string(),
        expires_at: authority.expires_at.map_or(0, Timestamp::unix_seconds),
        tainted: authority.tainted,
    }
}

/// What is wrong with a bundle of a request; the texts are SPIRE's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleFault {
    #[error("invalid trust domain: {0}")]
    TrustDomain(SpiffeIdError),
    #[error("unable to parse X.509 authority: {0}")]
    X509(CertificateError),
    #[error("unable to parse JWT authority: {0}")]
    Jwt(JwtKeyFault),
}

/// The bundle of a request. A refresh hint below zero is none.
pub(crate) fn from_proto(message: &types::Bundle) -> Result<Bundle, BundleFault> {
    let hint = u64::try_from(message.refresh_hint).ok();
    Ok(Bundle {
        trust_domain: TrustDomain::parse_lenient(&message.trust_domain).map_err(BundleFault::TrustDomain)?,
        x509_authorities: x509_from_proto(&message.x509_authorities).map_err(BundleFault::X509)?,
        jwt_authorities: jwt_from_proto(&message.jwt_authorities).map_err(BundleFault::Jwt)?,
        refresh_hint: hint
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.min(LONGEST_HINT))),
        sequence_number: message.sequence_number,
        // As SPIRE does: a federated trust domain's tokens of this kind aren't verified anywhere yet.
        wit_authorities: Vec::new(),
    })
}

fn wit_to_proto(authority: &JwtAuthority) -> types::WitKey {
    types::WitKey {
        public_key: authority.public_key.to_vec(),
        key_id: authority.key_id.to_string(),
        expires_at: authority.expires_at.map_or(0, Timestamp::unix_seconds),
        tainted: authority.tainted,
    }
}

/// X.509 authorities of a request. One message may hold several certificates in a row; `tainted` is no caller's to
/// set.
pub(crate) fn x509_from_proto(
    authorities: &[types::X509Certificate],
) -> Result<Vec<X509Authority>, CertificateError> {
    let mut parsed = Vec::with_capacity(authorities.len());
    for authority in authorities {
        let certificates = Certificate::parse_concatenated(&authority.asn1)?;
        parsed.extend(certificates.iter().map(|certificate| X509Authority {
            der: Arc::clone(certificate.der()),
            tainted: false,
        }));
    }
    Ok(parsed)
}

/// What is wrong with a JWT authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwtKeyFault {
    #[error("missing key ID")]
    NoKeyId,
    #[error("malformed JWT authority with key ID \"{0}\": {1}")]
    Malformed(String, PublicKeyError),
}

/// JWT authorities of a request.
pub(crate) fn jwt_from_proto(keys: &[types::JwtKey]) -> Result<Vec<JwtAuthority>, JwtKeyFault> {
    keys.iter()
        .map(|key| {
            let public_key = PublicKey::from_spki_der(&key.public_key)
                .map_err(|fault| JwtKeyFault::Malformed(key.key_id.clone(), fault))?;
            if key.key_id.is_empty() {
                return Err(JwtKeyFault::NoKeyId);
            }
            Ok(JwtAuthority {
                key_id: Arc::from(key.key_id.as_str()),
                public_key: Arc::from(public_key.spki_der()),
                expires_at: Some(key.expires_at)
                    .filter(|seconds| *seconds != 0)
                    .map(Timestamp::from_unix_seconds),
                tainted: false,
            })
        })
        .collect()
}
