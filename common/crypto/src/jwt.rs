//! JWT-SVIDs: signed by hand with a key parsed once, verified strictly (JWT-SVID; RFC 7515, 7519).
//!
//! Owns the profile: its claims and checks; the token itself is `jws`'s. Never decides who gets one. Invariant: `aud`
//! is demanded whatever the verifier expects. Tokens are secrets: they appear in no `Debug` and no error.

mod sign;
mod verify;

use std::fmt;
use std::sync::Arc;

use credence_identity::{SpiffeId, Timestamp};
use serde_json::{Map, Value};

pub use crate::jws::{JwtError, JwtSignError, LEEWAY, SignedToken as SignedJwt};
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
