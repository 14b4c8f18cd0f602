//! Compact JWS tokens (RFC 7515, 7519) as JWT-SVIDs and WIT-SVIDs share them: taken apart, checked and verified here, signed in
//! [`sign`].
//!
//! Owns what both profiles have in common; what only one demands (`aud`, `cnf`) is its own module's. Invariants: the
//! algorithm is one of nine and fits the key; keys come from the bundle of the subject's trust domain and from nowhere
//! else.

mod error;
mod sign;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_identity::{JwtAuthority, SpiffeId, Timestamp};
use serde_json::{Map, Value};

use crate::json;
use crate::keys::{Hash, PublicKey, SignatureAlgorithm, SignatureForm, VerifyError};

pub use error::JwtError;
pub use sign::{JwtSignError, Profile, SignedToken, TokenKey};

/// How far the clocks of issuer and verifier may be apart, for `exp`, `nbf` and `iat` (as go-spiffe and SPIRE have it).
pub const LEEWAY: Duration = Duration::from_secs(60);
/// Longest encoded part of a token.
const MAX_PART_BYTES: usize = 64 * 1024;
/// Seconds beyond which a date is no date: the year 33658.
const MAX_SECONDS: i64 = 1_000_000_000_000;

/// What a kind of token demands of its header.
pub(crate) struct HeaderRules {
    /// The values of `typ`, of exactly these letters.
    pub(crate) types: &'static [&'static str],
    /// Whether it may have no `typ`.
    pub(crate) typ_optional: bool,
    /// Whether it may have no `kid`: its key is known from elsewhere.
    pub(crate) kid_optional: bool,
}

/// A token taken apart; nothing of its claims is believed yet.
pub(crate) struct Compact {
    algorithm: SignatureAlgorithm,
    pub(crate) key_id: String,
    signature: Vec<u8>,
    /// How much of the token is signed.
    signed_bytes: usize,
    /// The payload.
    pub(crate) claims: Map<String, Value>,
}

impl Compact {
    pub(crate) fn parse(token: &str, rules: &HeaderRules) -> Result<Self, JwtError> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed);
        };
        let signed_bytes = header.len() + 1 + claims.len();
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let (algorithm, key_id) = read_header(&header, rules)?;
        let claims = json::object(&claims)
            .ok()
            .flatten()
            .ok_or(JwtError::MalformedClaims)?;
        Ok(Self {
            algorithm,
            key_id,
            signature,
            signed_bytes,
            claims,
        })
    }

    /// The subject.
    pub(crate) fn subject(&self) -> Result<SpiffeId, JwtError> {
        match self.claims.get("sub") {
            None | Some(Value::Null) => Err(JwtError::MissingSubject),
            Some(Value::String(sub)) if sub.is_empty() => Err(JwtError::MissingSubject),
            Some(Value::String(sub)) => SpiffeId::parse(sub).map_err(JwtError::InvalidSubject),
            Some(_) => Err(JwtError::MalformedClaims),
        }
    }

    /// `iat`, if there, and `exp`, which hasn't passed; nor is `nbf` ahead.
    pub(crate) fn times(&self, now: Timestamp) -> Result<(Option<Timestamp>, Timestamp), JwtError> {
        let expires_at = match self.claims.get("exp") {
            None | Some(Value::Null) => return Err(JwtError::MissingExpiry),
            Some(exp) => numeric_date(exp)?,
        };
        let not_before = self.claims.get("nbf").map(numeric_date).transpose()?;
        let issued_at = self.claims.get("iat").map(numeric_date).transpose()?;
        if now >= expires_at + LEEWAY {
            return Err(JwtError::Expired);
        }
        if not_before.is_some_and(|not_before| now + LEEWAY < not_before) {
            return Err(JwtError::NotYetValid);
        }
        Ok((issued_at, expires_at))
    }

    /// Verifies the signature of `token`, from which this was parsed, by one of the authorities of `subject`'s trust domain.
    /// Several keys may share a `kid`: one must fit. A key whose time is over verifies nothing.
    pub(crate) fn verify(
        &self,
        token: &str,
        subject: &SpiffeId,
        authorities: &[JwtAuthority],
        now: Timestamp,
    ) -> Result<(), JwtError> {
        let mut reason = JwtError::AuthorityNotFound {
            key_id: self.key_id.clone(),
            trust_domain: subject.trust_domain(),
        };
        let named = authorities
            .iter()
            .filter(|authority| *authority.key_id == *self.key_id);
        for authority in named {
            if authority.expires_at.is_some_and(|end| now >= end + LEEWAY) {
                continue;
            }
            let Ok(key) = PublicKey::from_spki_shape(&authority.public_key) else {
                continue;
            };
            match self.verify_by(token, &key) {
                Ok(()) => return Ok(()),
                Err(fault) => reason = fault,
            }
        }
        Err(reason)
    }

    /// Verifies the signature of `token`, from which this was parsed, by one key.
    pub(crate) fn verify_by(&self, token: &str, key: &PublicKey) -> Result<(), JwtError> {
        let signed = token
            .as_bytes()
            .get(..self.signed_bytes)
            .ok_or(JwtError::Malformed)?;
        key.verify(self.algorithm, SignatureForm::Jose, signed, &self.signature)
            .map_err(|fault| match fault {
                VerifyError::WeakKey(bits) => JwtError::WeakKey(bits),
                VerifyError::AlgorithmMismatch | VerifyError::BadSignature => JwtError::BadSignature,
            })
    }

    /// `alg` of its header.
    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    if part.len() > MAX_PART_BYTES {
        return Err(JwtError::Malformed);
    }
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)
}

/// Other parameters than these are ignored, as go-spiffe does, and never a source of keys.
fn read_header(header: &[u8], rules: &HeaderRules) -> Result<(SignatureAlgorithm, String), JwtError> {
    let header = json::object(header)
        .ok()
        .flatten()
        .ok_or(JwtError::MalformedHeader)?;
    let algorithm = match header.get("alg") {
        None => return Err(JwtError::UnsupportedAlgorithm),
        Some(Value::String(name)) => algorithm(name).ok_or(JwtError::UnsupportedAlgorithm)?,
        Some(_) => return Err(JwtError::MalformedHeader),
    };
    if header.contains_key("crit") {
        return Err(JwtError::UnsupportedCritical);
    }
    match header.get("typ") {
        None if rules.typ_optional => {}
        Some(Value::String(typ)) if rules.types.contains(&typ.as_str()) => {}
        _ => return Err(JwtError::InvalidTyp),
    }
    match header.get("kid") {
        Some(Value::String(kid)) if !kid.is_empty() => Ok((algorithm, kid.clone())),
        None if rules.kid_optional => Ok((algorithm, String::new())),
        None | Some(Value::String(_)) => Err(JwtError::MissingKeyId),
        Some(_) => Err(JwtError::MalformedHeader),
    }
}

/// JWT-SVID, 2.1, and WIT-SVID, 2.3: these nine, by their exact names.
pub(crate) fn algorithm(name: &str) -> Option<SignatureAlgorithm> {
    let (family, size) = name.split_at_checked(2)?;
    let hash = match size {
        "256" => Hash::Sha256,
        "384" => Hash::Sha384,
        "512" => Hash::Sha512,
        _ => return None,
    };
    match family {
        "ES" => Some(SignatureAlgorithm::Ecdsa(hash)),
        "RS" => Some(SignatureAlgorithm::RsaPkcs1(hash)),
        "PS" => Some(SignatureAlgorithm::RsaPss(hash)),
        _ => None,
    }
}

/// Seconds, with a fraction or not (RFC 7519, 2).
fn numeric_date(value: &Value) -> Result<Timestamp, JwtError> {
    let number = value.as_number().ok_or(JwtError::MalformedClaims)?;
    if let Some(seconds) = number.as_i64() {
        return Ok(Timestamp::from_unix_seconds(
            seconds.clamp(-MAX_SECONDS, MAX_SECONDS),
        ));
    }
    let seconds = number
        .as_f64()
        .filter(|seconds| seconds.is_finite())
        .ok_or(JwtError::MalformedClaims)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float cast saturates, and the clamp follows"
    )]
    let whole = seconds.floor() as i64;
    Ok(Timestamp::from_unix_seconds(
        whole.clamp(-MAX_SECONDS, MAX_SECONDS),
    ))
}
