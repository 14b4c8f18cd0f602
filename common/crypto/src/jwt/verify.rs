//! Taking a JWT-SVID apart and verifying it with the keys of the subject's trust domain.

use std::sync::Arc;

use credence_identity::{Bundle, Timestamp, TrustDomain};
use serde_json::{Map, Value};

use super::{JwtError, JwtSvid, LEEWAY};
use crate::jws::{Compact, HeaderRules};

/// JWT-SVID, 2.
const HEADER: HeaderRules = HeaderRules {
    types: &["JWT", "JOSE"],
    typ_optional: true,
    kid_optional: false,
};
/// Most audiences of a token.
const MAX_AUDIENCES: usize = 32;

/// Verifies a JWT-SVID at `now`. `audience` holds the names under which the verifier is known, one of which must be in the
/// token; `lookup` gives the bundle of the subject's trust domain. Several keys may share a `kid`: one must fit. A key whose
/// time is over verifies nothing.
pub fn verify(
    token: &str,
    audience: &[&str],
    lookup: impl FnOnce(&TrustDomain) -> Option<Arc<Bundle>>,
    now: Timestamp,
) -> Result<JwtSvid, JwtError> {
    let (compact, svid) = parse(token, audience, now)?;
    let trust_domain = svid.id.trust_domain();
    let bundle = lookup(&trust_domain).ok_or(JwtError::NoBundle(trust_domain))?;
    compact.verify(token, &svid.id, &bundle.jwt_authorities, now)?;
    Ok(svid)
}

/// All that needs no key.
pub(super) fn parse(token: &str, expected: &[&str], now: Timestamp) -> Result<(Compact, JwtSvid), JwtError> {
    let mut compact = Compact::parse(token, &HEADER)?;
    let id = compact.subject()?;
    let audience = read_audience(&compact.claims, expected)?;
    let (issued_at, expires_at) = compact.times(now)?;
    if issued_at.is_some_and(|issued_at| now + LEEWAY < issued_at) {
        return Err(JwtError::IssuedInFuture);
    }
    let svid = JwtSvid {
        token: token.to_owned(),
        id,
        audience,
        issued_at,
        expires_at,
        key_id: compact.key_id.as_str().into(),
        claims: std::mem::take(&mut compact.claims),
    };
    Ok((compact, svid))
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
