//! JWT-SVIDs: signed by hand with a key parsed once, verified strictly (JWT-SVID; RFC 7515, 7519).
//!
//! Owns the profile: its claims and checks; the token itself is `jws`'s. Never decides who gets one. Invariant: `aud`
//! is demanded whatever the verifier expects. Tokens are secrets: they appear in no `Debug` and no error.

mod sign;
mod verify;

use std::fmt;
use std::sync::Arc;

use credence_identity::{SpiffeId, SpiffeIdError, Timestamp, TrustDomain};
use serde_json::{Map, Value};

pub use crate::jws::{JwtSignError, LEEWAY, SignedToken as SignedJwt};
pub use sign::{JwtClaims, sign_svid};
pub use verify::verify;

/// The profile of JWT-SVIDs.
#[derive(Debug, Clone, Copy)]
pub enum Jwt {}

impl crate::jws::Profile for Jwt {
    const TYP: &'static str = "JWT";
}

/// A key that signs JWT-SVIDs.
pub type JwtKey = crate::jws::TokenKey<Jwt>;

/// Why a token is refused. Holds nothing of the token but the names it claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three base64url parts of sane size.
    #[error("unable to parse JWT token: not a compact JWS")]
    Malformed,
    /// The header is no JSON object, or a member is of the wrong type.
    #[error("token header is malformed")]
    MalformedHeader,
    /// The payload is no JSON object, or a member is of the wrong type.
    #[error("token claims are malformed")]
    MalformedClaims,
    /// `alg` is missing or none of the nine.
    #[error("token signature algorithm is not supported")]
    UnsupportedAlgorithm,
    /// `typ` is there, and neither `JWT` nor `JOSE`.
    #[error("token header type not equal to either JWT or JOSE")]
    InvalidTyp,
    /// `crit` is there: no extension of the header is understood.
    #[error("token has critical header parameters")]
    UnsupportedCritical,
    /// `kid` is missing or empty.
    #[error("token header missing key id")]
    MissingKeyId,
    /// `sub` is missing or empty.
    #[error("token missing subject claim")]
    MissingSubject,
    /// `sub` is no SPIFFE ID.
    #[error("token has an invalid subject claim")]
    InvalidSubject(#[source] SpiffeIdError),
    /// `aud` is missing, empty, or without a value that was expected.
    #[error("expected audience in {expected:?} (audience={found:?})")]
    InvalidAudience {
        /// What the verifier accepts.
        expected: Vec<String>,
        /// What the token says.
        found: Vec<String>,
    },
    /// More audiences than a token is allowed to have.
    #[error("token has {0} audiences")]
    TooManyAudiences(usize),
    /// `exp` is missing.
    #[error("token missing exp claim")]
    MissingExpiry,
    /// `exp` is over.
    #[error("token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("token is not yet valid")]
    NotYetValid,
    /// `iat` has not come.
    #[error("token was issued in the future")]
    IssuedInFuture,
    /// The subject's trust domain isn't known here.
    #[error("no bundle found for trust domain {0}")]
    NoBundle(TrustDomain),
    /// The bundle has no such key.
    #[error("no JWT authority {key_id:?} found for trust domain {trust_domain}")]
    AuthorityNotFound {
        /// The key that the token names.
        key_id: String,
        /// Whose bundle was searched.
        trust_domain: TrustDomain,
    },
    /// The signature isn't by that key.
    #[error("token signature is not valid")]
    BadSignature,
    /// The key is an RSA key of less than 2048 bits.
    #[error("token is signed by an RSA key of {0} bits")]
    WeakKey(usize),
}

/// A JWT-SVID.
#[derive(Clone, PartialEq)]
pub struct JwtSvid {
    /// The compact serialization: a bearer secret.
    pub token: String,
    /// The subject.
    pub id: SpiffeId,
    /// Whom the token is for; at least one.
    pub audience: Vec<String>,
    /// `iat`, if the token has it.
    pub issued_at: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `kid`: the authority that signed it.
    pub key_id: Arc<str>,
    /// All claims, those above included.
    pub claims: Map<String, Value>,
}

impl JwtSvid {
    /// Checks everything but the signature: structure, algorithm, subject, audience and times. For tokens that came from
    /// whoever is trusted to issue them. An empty `audience` expects nothing, yet the token must have one.
    pub fn parse_insecure(token: &str, audience: &[&str], now: Timestamp) -> Result<Self, JwtError> {
        Ok(verify::parse(token, audience, now)?.1)
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid")
            .field("id", &self.id)
            .field("audience", &self.audience)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
