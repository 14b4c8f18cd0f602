//! Why a token is refused, in words that go-spiffe's and SPIRE's users know.
//!
//! Invariant: an error holds nothing of the token but the names it claims.

use credence_identity::{SpiffeIdError, TrustDomain};

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
