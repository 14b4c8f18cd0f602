//! The claims of a JWT-SVID in SPIRE's profile.

use credence_identity::{SpiffeId, Timestamp};
use serde::Serialize;

use super::{JwtKey, SignedJwt};
use crate::jws::JwtSignError;

/// The claims of a JWT-SVID.
#[derive(Debug, Clone, Copy)]
pub struct JwtClaims<'a> {
    /// The identity.
    pub sub: &'a SpiffeId,
    /// Whom the token is for. Empty texts are dropped; one at least must be left.
    pub aud: &'a [String],
    /// When it is issued.
    pub iat: Timestamp,
    /// When it ends; cut to the end of the key.
    pub exp: Timestamp,
    /// The issuer, where one is configured.
    pub iss: Option<&'a str>,
    /// A unique id, where the entry wants it.
    pub jti: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    aud: &'a [&'a str],
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    sub: &'a str,
}

/// Signs a JWT-SVID in SPIRE's profile: `alg`, `kid`, `typ: JWT`; `aud` a list; no `nbf`.
pub fn sign_svid(key: &JwtKey, claims: &JwtClaims<'_>) -> Result<SignedJwt, JwtSignError> {
    let audience: Vec<&str> = claims
        .aud
        .iter()
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .collect();
    if audience.is_empty() {
        return Err(JwtSignError::NoAudience);
    }
    let times = key.times(claims.iat, claims.exp)?;
    let payload = Payload {
        aud: &audience,
        exp: times.expires_at.unix_seconds(),
        iat: times.issued_at.unix_seconds(),
        iss: claims.iss,
        jti: claims.jti,
        sub: claims.sub.as_str(),
    };
    key.sign(&payload, times)
}
