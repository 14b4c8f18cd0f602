//! Verification with the keys of the subject's trust domain.

use std::sync::Arc;

use credence_identity::{Bundle, Timestamp, TrustDomain};

use super::token::Token;
use super::{JwtError, JwtSvid, LEEWAY};
use crate::keys::{PublicKey, SignatureForm, VerifyError};

/// Verifies a JWT-SVID at `now`. `audience` holds the names under which the verifier is known, one of which must be in the
/// token; `lookup` gives the bundle of the subject's trust domain. Several keys may share a `kid`: one must fit. A key whose
/// time is over verifies nothing.
pub fn verify(
    token: &str,
    audience: &[&str],
    lookup: impl FnOnce(&TrustDomain) -> Option<Arc<Bundle>>,
    now: Timestamp,
) -> Result<JwtSvid, JwtError> {
    let parsed = Token::parse(token, audience, now)?;
    let trust_domain = parsed.svid.id.trust_domain();
    let bundle = lookup(&trust_domain).ok_or_else(|| JwtError::NoBundle(trust_domain.clone()))?;
    let signed = token
        .as_bytes()
        .get(..parsed.signed_bytes)
        .ok_or(JwtError::Malformed)?;
    let mut reason = JwtError::AuthorityNotFound {
        key_id: parsed.key_id.clone(),
        trust_domain,
    };
    for authority in bundle.jwt_authorities_by_key_id(&parsed.key_id) {
        if authority.expires_at.is_some_and(|end| now >= end + LEEWAY) {
            continue;
        }
        let Ok(key) = PublicKey::from_spki_shape(&authority.public_key) else {
            continue;
        };
        match key.verify(parsed.algorithm, SignatureForm::Jose, signed, &parsed.signature) {
            Ok(()) => return Ok(parsed.svid),
            Err(VerifyError::WeakKey(bits)) => reason = JwtError::WeakKey(bits),
            Err(VerifyError::AlgorithmMismatch | VerifyError::BadSignature) => {
                reason = JwtError::BadSignature
            }
        }
    }
    Err(reason)
}
