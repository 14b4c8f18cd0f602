//! `jwt_svids.json`: real tokens against a bundle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::sync::Arc;

use credence_conformance::{judge, load, run_cases, text};
use credence_crypto::bundle::parse_jwks;
use credence_crypto::jwt::{JwtError, verify};
use credence_identity::{Bundle, Timestamp, TrustDomain};
use serde_json::Value;

fn class(error: &JwtError) -> &'static str {
    match error {
        JwtError::Malformed => "Malformed",
        JwtError::MalformedHeader => "MalformedHeader",
        JwtError::MalformedClaims => "MalformedClaims",
        JwtError::UnsupportedAlgorithm => "UnsupportedAlgorithm",
        JwtError::InvalidTyp => "InvalidTyp",
        JwtError::UnsupportedCritical => "UnsupportedCritical",
        JwtError::MissingKeyId => "MissingKeyId",
        JwtError::MissingSubject => "MissingSubject",
        JwtError::InvalidSubject(_) => "InvalidSubject",
        JwtError::InvalidAudience { .. } => "InvalidAudience",
        JwtError::TooManyAudiences(_) => "TooManyAudiences",
        JwtError::MissingExpiry => "MissingExpiry",
        JwtError::Expired => "Expired",
        JwtError::NotYetValid => "NotYetValid",
        JwtError::IssuedInFuture => "IssuedInFuture",
        JwtError::NoBundle(_) => "NoBundleForTrustDomain",
        JwtError::AuthorityNotFound { .. } => "AuthorityNotFound",
        JwtError::BadSignature => "BadSignature",
        JwtError::WeakKey(_) => "WeakKey",
    }
}

/// Conforms: JWS-01, JWS-02, JWS-03, JWS-04, JWS-05, JWS-06, JWS-07, JWS-08, JWS-09, JWS-10, JWS-11, JWS-12
/// Conforms: JWS-13, JWS-14, JWS-17, JWS-18, JWS-22, JWS-23, JWS-24
#[test]
fn tokens() {
    let document = load("jwt_svids.json");
    let trust_domain = TrustDomain::parse(text(&document, "trust_domain")).unwrap();
    let mut bundle = Bundle::empty(trust_domain.clone());
    bundle.jwt_authorities = parse_jwks(document["jwt_bundle"].to_string().as_bytes()).unwrap();
    let bundle = Arc::new(bundle);
    run_cases(&document, "cases", |case| {
        let expected = case["expected_audience"]
            .as_array()
            .ok_or("no expected audience")?;
        let expected: Vec<&str> = expected.iter().filter_map(Value::as_str).collect();
        let now = Timestamp::from_unix_seconds(case["now"].as_i64().ok_or("no time")?);
        let lookup = |wanted: &TrustDomain| (*wanted == trust_domain).then(|| bundle.clone());
        let verified = verify(text(case, "token"), &expected, lookup, now);
        judge(case, verified.as_ref().map_err(class)).map(|_| ())
    });
}
