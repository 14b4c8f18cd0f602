//! `wit_svids.json`: real tokens against a bundle, and proofs of possession.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_conformance::{judge, load, run_cases, text};
use credence_crypto::bundle::{parse_jwks, parse_spiffe};
use credence_crypto::jwt::JwtError;
use credence_crypto::wit::{WitError, WitSvid, verify};
use credence_crypto::{KeyType, PrivateKey, SignatureForm, Signer as _, sha256};
use credence_identity::{Bundle, Timestamp, TrustDomain};
use serde_json::{Value, json};

fn class(error: &WitError) -> &'static str {
    match error {
        WitError::InvalidTyp => "InvalidTyp",
        WitError::AudiencePresent => "AudiencePresent",
        WitError::MissingCnf => "MissingCnf",
        WitError::MalformedCnf => "MalformedCnf",
        WitError::CnfAlgorithm => "CnfAlg",
        WitError::CnfKey => "CnfKey",
        WitError::CnfPrivate => "CnfPrivate",
        WitError::Token(error) => match error {
            JwtError::Malformed => "Malformed",
            JwtError::UnsupportedAlgorithm => "UnsupportedAlgorithm",
            JwtError::UnsupportedCritical => "UnsupportedCritical",
            JwtError::MissingKeyId => "MissingKeyId",
            JwtError::MissingSubject => "MissingSubject",
            JwtError::InvalidSubject(_) => "InvalidSubject",
            JwtError::MissingExpiry => "MissingExpiry",
            JwtError::Expired => "Expired",
            JwtError::NotYetValid => "NotYetValid",
            JwtError::NoBundle(_) => "NoBundleForTrustDomain",
            JwtError::AuthorityNotFound { .. } => "AuthorityNotFound",
            JwtError::BadSignature => "BadSignature",
            _ => "another fault of a token",
        },
        _ => "a fault of the proof",
    }
}

fn bundle(document: &Value) -> Arc<Bundle> {
    let trust_domain = TrustDomain::parse(text(document, "trust_domain")).unwrap();
    let mut bundle = Bundle::empty(trust_domain);
    bundle.wit_authorities = parse_jwks(document["wit_bundle"].to_string().as_bytes()).unwrap();
    Arc::new(bundle)
}

/// Conforms: JWS-05, WIT-01, WIT-02, WIT-03, WIT-04, WIT-06, WIT-07, WIT-08, WIT-09, WIT-10, WIT-12, WIT-13
/// Conforms: WIT-16, WIT-18, WIT-19, WIT-31
#[test]
fn tokens() {
    let document = load("wit_svids.json");
    let bundle = bundle(&document);
    run_cases(&document, "cases", |case| {
        let now = Timestamp::from_unix_seconds(case["now"].as_i64().ok_or("no time")?);
        let token = text(case, "token");
        if text(case, "name").contains("without signature check") || text(case, "id") == "WI-081" {
            let parsed = WitSvid::parse_insecure(token, now);
            return judge(case, parsed.as_ref().map_err(class)).map(|_| ());
        }
        let lookup = |wanted: &TrustDomain| (*wanted == bundle.trust_domain).then(|| bundle.clone());
        let verified = verify(token, lookup, now);
        judge(case, verified.as_ref().map_err(class)).map(|_| ())
    });
}

#[test]
fn a_spiffe_bundle_has_the_same_keys() {
    let document = load("wit_svids.json");
    let expected = bundle(&document);
    let read = parse_spiffe(
        &expected.trust_domain,
        document["spiffe_bundle"].to_string().as_bytes(),
    )
    .unwrap();
    assert_eq!(read.wit_authorities, expected.wit_authorities);
}

/// The rules of `presentation_cases`, which are words, for a token that is bound to a key of ours.
/// Conforms: WIT-20, WIT-25, WIT-32
#[test]
fn presentation() {
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_893_456_000);
    const TARGET: &str = "https://store.example.org/";
    let document = load("wit_svids.json");
    let issuer: Arc<PrivateKey> = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let end = NOW + std::time::Duration::from_secs(3600);
    let key = credence_crypto::wit::WitKey::new("k", issuer.clone(), end).unwrap();
    let holder = PrivateKey::generate(KeyType::EcP256).unwrap();
    let id = credence_identity::SpiffeId::parse("spiffe://example.org/workload").unwrap();
    let claims = credence_crypto::wit::WitClaims {
        sub: &id,
        public_key: holder.public_key(),
        algorithm: "ES256",
        iat: NOW,
        exp: end,
        iss: None,
    };
    let token = credence_crypto::wit::sign_svid(&key, &claims).unwrap().token;
    let mut trusted = Bundle::empty(id.trust_domain());
    trusted.wit_authorities.push(credence_identity::JwtAuthority {
        key_id: "k".into(),
        public_key: issuer.public_key().spki_der().into(),
        expires_at: None,
        tainted: false,
    });
    let trusted = Arc::new(trusted);
    let proof = |signer: &PrivateKey, bound_to: &str, audience: &str| {
        let header = json!({"alg": signer.key_type().jws_algorithm(), "typ": "wpt+jwt"});
        let wth = URL_SAFE_NO_PAD.encode(sha256(bound_to.as_bytes()));
        let claims = json!({"aud": audience, "exp": NOW.unix_seconds() + 60, "jti": "1", "wth": wth});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = signer.sign(signed.as_bytes(), SignatureForm::Jose).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let other_kind = PrivateKey::generate(KeyType::EcP384).unwrap();
    run_cases(&document, "presentation_cases", |case| {
        let shown = match text(case, "id") {
            "WP-02" => String::new(),
            "WP-03" => proof(&holder, &token, TARGET),
            "WP-04" => proof(&holder, "another token", TARGET),
            "WP-05" => proof(&other_kind, &token, TARGET),
            "WP-08" => proof(&holder, &token, "https://other.example.org/"),
            other => return Err(format!("{other} is new")),
        };
        let unproven = verify(&token, |_| Some(trusted.clone()), NOW).map_err(|error| error.to_string())?;
        let believed = unproven.prove(&shown, TARGET, NOW);
        match (text(case, "verdict"), believed) {
            ("accept", Ok(svid)) if svid.id == id => Ok(()),
            ("refuse", Err(_)) => Ok(()),
            (_, outcome) => Err(format!("we answer {outcome:?}")),
        }
    });
}
