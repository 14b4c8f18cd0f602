//! Taking a token apart, and every check that needs no key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_identity::{SpiffeId, Timestamp};
use serde_json::{Map, Value};

use super::{JwtError, JwtSvid, LEEWAY};
use crate::json;
use crate::keys::{Hash, SignatureAlgorithm};

/// Longest encoded part of a token.
const MAX_PART_BYTES: usize = 64 * 1024;
/// Most audiences of a token.
const MAX_AUDIENCES: usize = 32;
/// Seconds beyond which a date is no date: the year 33658.
const MAX_SECONDS: i64 = 1_000_000_000_000;

/// A token that is valid but for its signature.
pub(super) struct Token {
    pub(super) algorithm: SignatureAlgorithm,
    pub(super) key_id: String,
    pub(super) signature: Vec<u8>,
    /// How much of the token is signed.
    pub(super) signed_bytes: usize,
    pub(super) svid: JwtSvid,
}

impl Token {
    pub(super) fn parse(token: &str, expected: &[&str], now: Timestamp) -> Result<Self, JwtError> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed);
        };
        let signed_bytes = header.len() + 1 + claims.len();
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let (algorithm, key_id) = read_header(&header)?;
        let claims = json::object(&claims)
            .ok()
            .flatten()
            .ok_or(JwtError::MalformedClaims)?;
        let id = read_subject(&claims)?;
        let audience = read_audience(&claims, expected)?;
        let expires_at = match claims.get("exp") {
            None | Some(Value::Null) => return Err(JwtError::MissingExpiry),
            Some(exp) => numeric_date(exp)?,
        };
        let not_before = claims.get("nbf").map(numeric_date).transpose()?;
        let issued_at = claims.get("iat").map(numeric_date).transpose()?;
        if now >= expires_at + LEEWAY {
            return Err(JwtError::Expired);
        }
        if not_before.is_some_and(|not_before| now + LEEWAY < not_before) {
            return Err(JwtError::NotYetValid);
        }
        if issued_at.is_some_and(|issued_at| now + LEEWAY < issued_at) {
            return Err(JwtError::IssuedInFuture);
        }
        let svid = JwtSvid {
            token: token.to_owned(),
            id,
            audience,
            issued_at,
            expires_at,
            claims,
        };
        Ok(Self {
            algorithm,
            key_id,
            signature,
            signed_bytes,
            svid,
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    if part.len() > MAX_PART_BYTES {
        return Err(JwtError::Malformed);
    }
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)
}

/// Other parameters than these are ignored, as go-spiffe does, and never a source of keys.
fn read_header(header: &[u8]) -> Result<(SignatureAlgorithm, String), JwtError> {
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
        None => {}
        Some(Value::String(typ)) if typ == "JWT" || typ == "JOSE" => {}
        Some(_) => return Err(JwtError::InvalidTyp),
    }
    match header.get("kid") {
        Some(Value::String(kid)) if !kid.is_empty() => Ok((algorithm, kid.clone())),
        None | Some(Value::String(_)) => Err(JwtError::MissingKeyId),
        Some(_) => Err(JwtError::MalformedHeader),
    }
}

/// JWT-SVID, 2.1: these nine, by their exact names.
fn algorithm(name: &str) -> Option<SignatureAlgorithm> {
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

fn read_subject(claims: &Map<String, Value>) -> Result<SpiffeId, JwtError> {
    match claims.get("sub") {
        None | Some(Value::Null) => Err(JwtError::MissingSubject),
        Some(Value::String(sub)) if sub.is_empty() => Err(JwtError::MissingSubject),
        Some(Value::String(sub)) => SpiffeId::parse(sub).map_err(JwtError::InvalidSubject),
        Some(_) => Err(JwtError::MalformedClaims),
    }
}

/// One text or a list of texts; one of them must not be empty, and one must be expected if anything is.
fn read_audience(claims: &Map<String, Value>, expected: &[&str]) -> Result<Vec<String>, JwtError> {
    let found = match claims.get("aud") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|value| value.as_str().map(str::to_owned));
            texts
                .collect::<Option<Vec<_>>>()
                .ok_or(JwtError::MalformedClaims)?
        }
        Some(_) => return Err(JwtError::MalformedClaims),
    };
    if found.len() > MAX_AUDIENCES {
        return Err(JwtError::TooManyAudiences(found.len()));
    }
    let meant = expected.is_empty() || found.iter().any(|value| expected.contains(&value.as_str()));
    if found.iter().all(String::is_empty) || !meant {
        let expected = expected.iter().map(|value| (*value).to_owned()).collect();
        return Err(JwtError::InvalidAudience { expected, found });
    }
    Ok(found)
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
