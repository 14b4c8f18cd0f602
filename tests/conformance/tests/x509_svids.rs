//! `x509_svids.json`: the holder's and the peer's side of X509-SVIDs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credence_conformance::{judge, load, run_cases, text};
use credence_crypto::VerifyError;
use credence_crypto::x509::{PathError, SvidError, VerifiedSvid, X509SvidKey, verify_svid_in};
use credence_identity::{Bundle, Timestamp, TrustDomain, X509Authority};
use serde_json::Value;

fn class(error: &SvidError) -> &'static str {
    match error {
        SvidError::NoCertificates => "NoCertificates",
        SvidError::Certificate(_) => "BadCertificate",
        SvidError::MissingUriSan => "MissingUriSan",
        SvidError::MultipleUriSans(_) => "MultipleUriSans",
        SvidError::BadSpiffeId(_) => "BadSpiffeId",
        SvidError::RootPathLeaf => "RootPathLeaf",
        SvidError::LeafIsCa => "LeafIsCa",
        SvidError::LeafKeyCertSign => "LeafKeyCertSign",
        SvidError::LeafCrlSign => "LeafCrlSign",
        SvidError::KeyUsageMissing => "KeyUsageMissing",
        SvidError::LeafMissingDigitalSignature => "LeafMissingDigitalSignature",
        SvidError::EkuIncomplete => "EkuIncomplete",
        SvidError::IntermediateNotCa => "IntermediateNotCa",
        SvidError::IntermediateNoKeyCertSign => "IntermediateNoKeyCertSign",
        SvidError::SigningIdHasPath(_) => "SigningIdHasPath",
        SvidError::PrivateKey(_) => "BadPrivateKey",
        SvidError::KeyMismatch => "KeyMismatch",
        SvidError::NoBundle(_) => "NoBundleForTrustDomain",
        SvidError::Path(error) => match error {
            PathError::TooLong | PathError::NotACa(_) | PathError::NoKeyCertSign(_) => "PathInvalid",
            PathError::UnknownAuthority { .. } => "UnknownAuthority",
            PathError::Expired { .. } => "Expired",
            PathError::NotYetValid { .. } => "NotYetValid",
            PathError::PathLenExceeded(_) => "PathLenExceeded",
            PathError::NameConstraintViolation(_) => "NameConstraintViolation",
            PathError::UnsupportedNameConstraint(_) => "UnsupportedNameConstraint",
            PathError::UnknownCriticalExtension(_) => "UnknownCriticalExtension",
            PathError::Signature(VerifyError::BadSignature) => "BadSignature",
            PathError::UnsupportedSignature(_) | PathError::Signature(_) => "UnsupportedSignature",
        },
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD
        .decode(value.as_str().unwrap_or_default())
        .expect("vectors are base64")
}

fn list(case: &Value, member: &str) -> Vec<Vec<u8>> {
    case[member]
        .as_array()
        .expect("a list")
        .iter()
        .map(bytes)
        .collect()
}

/// Conforms: X5S-01, X5S-02, X5S-03, X5S-04, X5S-12, X5S-18, X5S-34, X5S-35
#[test]
fn parse() {
    run_cases(&load("x509_svids.json"), "cases", |case| {
        let parsed = X509SvidKey::parse(&list(case, "chain").concat(), &bytes(&case["key"]));
        judge(&case["parse"], parsed.as_ref().map_err(class)).map(|_| ())
    });
}

/// Conforms: BND-21, FED-30, SID-24, WAP-14, X5S-02, X5S-04, X5S-06, X5S-07, X5S-09, X5S-10, X5S-11, X5S-13
/// Conforms: X5S-14, X5S-20, X5S-22, X5S-23, X5S-24, X5S-27, X5S-30, X5S-31
#[test]
fn verify() {
    run_cases(&load("x509_svids.json"), "cases", |case| {
        // All vectors are judged at one moment, and the standard's text wins over it.
        assert_eq!(text(case, "now"), "2030-01-01T00:00:00Z");
        let now = Timestamp::from_unix_seconds(1_893_456_000);
        let trust_domain = TrustDomain::parse(text(case, "trust_domain")).map_err(|e| e.to_string())?;
        let mut bundle = Bundle::empty(trust_domain.clone());
        let roots = list(case, "bundle").into_iter();
        bundle.x509_authorities = roots
            .map(|der| X509Authority {
                der: der.into(),
                tainted: false,
            })
            .collect();
        let bundle = Arc::new(bundle);
        let lookup = |wanted: &TrustDomain| (*wanted == trust_domain).then(|| bundle.clone());
        let verified: Result<VerifiedSvid, SvidError> = verify_svid_in(&list(case, "chain"), lookup, now);
        judge(&case["verify"], verified.as_ref().map_err(class)).map(|_| ())
    });
}
