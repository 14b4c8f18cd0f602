//! WIT-SVIDs: tokens that are bound to a key of their holder (WIT-SVID, a profile of the WIMSE Workload Identity Token).
//!
//! Owns the profile: its claims and checks; the token itself is `jws`'s. Invariant: a verified token alone proves
//! nothing. [`verify`] answers an [`Unproven`], from which only a fresh proof by the holder's key makes a [`WitSvid`].

mod proof;

use std::fmt;
use std::sync::Arc;

use credence_identity::{Bundle, SpiffeId, Timestamp, TrustDomain};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::jwk::{self, Jwk, PRIVATE_MEMBERS};
pub use crate::jws::SignedToken;
use crate::jws::{Compact, HeaderRules, JwtSignError, TokenKey, algorithm};
use crate::jwt::JwtError;
use crate::keys::{PublicKey, PublicKeyKind, SignatureAlgorithm};

/// The profile of WIT-SVIDs.
#[derive(Debug, Clone, Copy)]
pub enum Wit {}

impl crate::jws::Profile for Wit {
    const TYP: &'static str = "wit+jwt";
}

/// WIT-SVID, 2.
const HEADER: HeaderRules = HeaderRules {
    types: &["wit+jwt"],
    typ_optional: false,
    kid_optional: false,
};

/// A key that signs WIT-SVIDs.
pub type WitKey = TokenKey<Wit>;

/// The algorithms of proofs, by key: what `cnf.jwk.alg` may say (WIT-SVID, 3.2).
const RSA_ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// Why a WIT-SVID or its proof is refused. Holds nothing of the token but the names it claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitError {
    /// A fault that a JWT-SVID could have too.
    #[error(transparent)]
    Token(JwtError),
    /// `typ` isn't `wit+jwt`.
    #[error("token header type not equal to wit+jwt")]
    InvalidTyp,
    /// `aud` is there: a WIT-SVID is for nobody in particular.
    #[error("token must not have an audience")]
    AudiencePresent,
    /// `cnf` is missing.
    #[error("token missing cnf claim")]
    MissingCnf,
    /// `cnf` has no JWK.
    #[error("token has a malformed cnf claim")]
    MalformedCnf,
    /// The key of `cnf` names no algorithm, or one that isn't of the nine or doesn't fit it.
    #[error("key of the cnf claim has no algorithm that fits it")]
    CnfAlgorithm,
    /// The key of `cnf` is no public key.
    #[error("key of the cnf claim is not a usable public key")]
    CnfKey,
    /// The key of `cnf` has private members.
    #[error("key of the cnf claim is a private key")]
    CnfPrivate,
    /// The proof isn't a Workload Proof Token, or not by the holder's key.
    #[error("proof is not valid: {0}")]
    Proof(#[source] JwtError),
    /// The proof is by another algorithm than the token says.
    #[error("proof is signed by another algorithm than the cnf claim names")]
    ProofAlgorithm,
    /// The proof is for another token.
    #[error("proof belongs to another token")]
    ProofToken,
    /// The proof is for another recipient.
    #[error("proof is meant for another audience")]
    ProofAudience,
}

impl From<JwtError> for WitError {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::InvalidTyp => Self::InvalidTyp,
            other => Self::Token(other),
        }
    }
}

/// A WIT-SVID.
#[derive(Clone, PartialEq)]
pub struct WitSvid {
    /// The compact serialization.
    pub token: String,
    /// The subject.
    pub id: SpiffeId,
    /// `iat`, if the token has it.
    pub issued_at: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// The key that its holder has.
    pub public_key: PublicKey,
    /// What the holder signs proofs with.
    pub algorithm: SignatureAlgorithm,
    /// `kid`: the authority that signed it.
    pub key_id: Arc<str>,
    /// All claims, those above included.
    pub claims: Map<String, Value>,
}

impl WitSvid {
    /// Checks everything but the signature. For tokens that came from whoever is trusted to issue them, and are one's own: a
    /// token of somebody else is believed after [`verify`] and [`Unproven::prove`] alone.
    pub fn parse_insecure(token: &str, now: Timestamp) -> Result<Self, WitError> {
        Ok(parse(token, now)?.1)
    }
}

impl fmt::Debug for WitSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WitSvid")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A token whose signature is good, shown by somebody who may have found it (WIT-SVID, 4 and 7.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Unproven(WitSvid);

/// Verifies a WIT-SVID at `now`; `lookup` gives the bundle of the subject's trust domain.
pub fn verify(
    token: &str,
    lookup: impl FnOnce(&TrustDomain) -> Option<Arc<Bundle>>,
    now: Timestamp,
) -> Result<Unproven, WitError> {
    let (compact, svid) = parse(token, now)?;
    let trust_domain = svid.id.trust_domain();
    let bundle = lookup(&trust_domain).ok_or(JwtError::NoBundle(trust_domain))?;
    compact.verify(token, &svid.id, &bundle.wit_authorities, now)?;
    Ok(Unproven(svid))
}

fn parse(token: &str, now: Timestamp) -> Result<(Compact, WitSvid), WitError> {
    let mut compact = Compact::parse(token, &HEADER)?;
    let id = compact.subject()?;
    // `iat` says nothing about validity (WIT-SVID, 3.6).
    let (issued_at, expires_at) = compact.times(now)?;
    if compact.claims.contains_key("aud") {
        return Err(WitError::AudiencePresent);
    }
    let (public_key, algorithm) = read_confirmation(compact.claims.get("cnf"))?;
    let svid = WitSvid {
        token: token.to_owned(),
        id,
        issued_at,
        expires_at,
        public_key,
        algorithm,
        key_id: compact.key_id.as_str().into(),
        claims: std::mem::take(&mut compact.claims),
    };
    Ok((compact, svid))
}

/// `cnf` (RFC 7800, 3.2; WIT-SVID, 3.2).
fn read_confirmation(cnf: Option<&Value>) -> Result<(PublicKey, SignatureAlgorithm), WitError> {
    let cnf = match cnf {
        None | Some(Value::Null) => return Err(WitError::MissingCnf),
        Some(cnf) => cnf.as_object().ok_or(WitError::MalformedCnf)?,
    };
    let key = cnf
        .get("jwk")
        .and_then(Value::as_object)
        .ok_or(WitError::MalformedCnf)?;
    if PRIVATE_MEMBERS.iter().any(|member| key.contains_key(*member)) {
        return Err(WitError::CnfPrivate);
    }
    let name = key
        .get("alg")
        .and_then(Value::as_str)
        .ok_or(WitError::CnfAlgorithm)?;
    let algorithm = algorithm(name).ok_or(WitError::CnfAlgorithm)?;
    let public_key = jwk::public_key(key).ok_or(WitError::CnfKey)?;
    confirmation_algorithm(&public_key, name).ok_or(WitError::CnfAlgorithm)?;
    Ok((public_key, algorithm))
}

/// The algorithm of that name, if a key of this kind can sign proofs with it: the one of its curve, or any of RSA's six.
pub fn confirmation_algorithm(key: &PublicKey, name: &str) -> Option<&'static str> {
    let of_curve = match key.kind() {
        PublicKeyKind::EcP256 => "ES256",
        PublicKeyKind::EcP384 => "ES384",
        PublicKeyKind::EcP521 => "ES512",
        PublicKeyKind::Rsa { .. } => return RSA_ALGORITHMS.into_iter().find(|known| *known == name),
        PublicKeyKind::Ed25519 => return None,
    };
    (of_curve == name).then_some(of_curve)
}

/// The claims of a WIT-SVID.
#[derive(Debug, Clone, Copy)]
pub struct WitClaims<'a> {
    /// The identity.
    pub sub: &'a SpiffeId,
    /// The holder's key.
    pub public_key: &'a PublicKey,
    /// What the holder signs proofs with: see [`confirmation_algorithm`].
    pub algorithm: &'static str,
    /// When it is issued.
    pub iat: Timestamp,
    /// When it ends; cut to the end of the key that signs.
    pub exp: Timestamp,
    /// The issuer, where one is configured.
    pub iss: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    cnf: Confirmation,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    sub: &'a str,
}

#[derive(Serialize)]
struct Confirmation {
    jwk: Jwk,
}

/// Signs a WIT-SVID: `alg`, `kid`, `typ: wit+jwt`; no `aud`, no `nbf` (as SPIRE does).
pub fn sign_svid(key: &WitKey, claims: &WitClaims<'_>) -> Result<SignedToken, JwtSignError> {
    let times = key.times(claims.iat, claims.exp)?;
    let jwk = Jwk {
        alg: Some(claims.algorithm),
        ..Jwk::new(claims.public_key).ok_or(JwtSignError::Encoding)?
    };
    let payload = Payload {
        cnf: Confirmation { jwk },
        exp: times.expires_at.unix_seconds(),
        iat: times.issued_at.unix_seconds(),
        iss: claims.iss,
        sub: claims.sub.as_str(),
    };
    key.sign(&payload, times)
}

#[cfg(test)]
mod tests;
