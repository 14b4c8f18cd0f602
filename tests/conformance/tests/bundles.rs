//! `bundles.json`: bundle documents, JWK Sets and DER of the Workload API, and what is published.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credence_conformance::{load, run_cases, text};
use credence_crypto::bundle::{
    parse_jwks, parse_spiffe, parse_spiffe_map, to_jwks, to_spiffe_json, x509_from_der,
};
use credence_crypto::x509::verify_svid_in;
use credence_crypto::{jwt, wit};
use credence_identity::{Bundle, JwtAuthority, Timestamp, TrustDomain, X509Authority};
use serde_json::Value;

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn key_ids(authorities: &[JwtAuthority]) -> Vec<&str> {
    authorities.iter().map(|authority| &*authority.key_id).collect()
}

/// Compares what came out with `expect`: `reject`, `either`, or what `describe` says of the result.
fn judge<T, E: std::fmt::Display>(
    case: &Value,
    outcome: &Result<T, E>,
    describe: impl Fn(&T) -> Value,
) -> Result<(), String> {
    match (&case["expect"], outcome) {
        (Value::String(word), _) if word == "either" => Ok(()),
        (Value::String(word), Err(_)) if word == "reject" => Ok(()),
        (expected, Ok(value)) if *expected == describe(value) => Ok(()),
        (_, Ok(value)) => Err(format!("we read {}", describe(value))),
        (_, Err(error)) => Err(format!("we refuse: {error}")),
    }
}

fn describe(bundle: &Bundle, case: &Value) -> Value {
    // A sequence of 0 and none at all are the same to us.
    let sequence = match bundle.sequence_number {
        0 => case["expect"]["sequence"]
            .as_u64()
            .filter(|expected| *expected == 0),
        number => Some(number),
    };
    serde_json::json!({
        "x509": bundle.x509_authorities.len(),
        "jwt": key_ids(&bundle.jwt_authorities),
        "wit": key_ids(&bundle.wit_authorities),
        "sequence": sequence,
        "refresh_hint": bundle.refresh_hint.map(|hint| hint.as_secs()),
    })
}

/// Conforms: BND-01, BND-02, BND-06, BND-08, BND-09, BND-11, BND-13, BND-14, BND-15, BND-16, BND-17, BND-18
/// Conforms: JWS-26, WIT-29, X5S-28, X5S-29, X5S-30
#[test]
fn documents() {
    run_cases(&load("bundles.json"), "cases", |case| {
        let parsed = parse_spiffe(&trust_domain(), text(case, "document").as_bytes());
        judge(case, &parsed, |bundle| describe(bundle, case))?;
        // Whatever was read is published again as the same bundle.
        let Ok(bundle) = parsed else { return Ok(()) };
        let again = parse_spiffe(&trust_domain(), to_spiffe_json(&bundle).as_bytes());
        let hint = bundle.refresh_hint.filter(|hint| !hint.is_zero());
        if again.as_ref()
            == Ok(&Bundle {
                refresh_hint: hint,
                ..bundle
            })
        {
            Ok(())
        } else {
            Err(format!("published, it reads as {again:?}"))
        }
    });
}

/// The case with that id in a list of cases.
fn case<'a>(document: &'a Value, id: &str) -> &'a Value {
    let cases = document["cases"].as_array().unwrap();
    cases.iter().find(|case| case["id"] == id).unwrap()
}

/// SVIDs of all kinds that verify, until their trust domain publishes a bundle without a key that can be used.
/// Conforms: BND-04, BND-05, JWS-27, WIT-29, X5S-31
#[test]
fn an_empty_or_unusable_bundle_makes_everything_invalid() {
    let (x509, jwt, wit) = (
        load("x509_svids.json"),
        load("jwt_svids.json"),
        load("wit_svids.json"),
    );
    let now = Timestamp::from_unix_seconds(1_893_456_000);
    let svid = case(&x509, "X5-001");
    let ders = |member: &str| -> Vec<Vec<u8>> {
        let list = svid[member].as_array().unwrap().iter();
        list.map(|der| STANDARD.decode(der.as_str().unwrap()).unwrap())
            .collect()
    };
    let chain = ders("chain");
    let verified = |bundle: Bundle| {
        let bundle = Arc::new(bundle);
        let lookup = |_: &TrustDomain| Some(bundle.clone());
        [
            verify_svid_in(&chain, lookup, now).is_ok(),
            jwt::verify(text(case(&jwt, "JW-003"), "token"), &["audience"], lookup, now).is_ok(),
            wit::verify(text(case(&wit, "WI-001"), "token"), lookup, now).is_ok(),
        ]
    };
    let authority = |der: Vec<u8>| X509Authority {
        der: der.into(),
        tainted: false,
    };
    let before = Bundle {
        x509_authorities: ders("bundle").into_iter().map(authority).collect(),
        jwt_authorities: parse_jwks(jwt["jwt_bundle"].to_string().as_bytes()).unwrap(),
        wit_authorities: parse_jwks(wit["wit_bundle"].to_string().as_bytes()).unwrap(),
        ..Bundle::empty(trust_domain())
    };
    assert_eq!(verified(before), [true; 3]);
    let bundles = load("bundles.json");
    for id in ["BU-001", "BU-038"] {
        let document = text(case(&bundles, id), "document");
        let after = parse_spiffe(&trust_domain(), document.as_bytes()).unwrap();
        assert_eq!(verified(after), [false; 3], "{id}");
    }
}

/// Conforms: BND-25, WAP-15
#[test]
fn workload_api_jwks() {
    run_cases(&load("bundles.json"), "workload_api_jwks_cases", |case| {
        let parsed = parse_jwks(text(case, "document").as_bytes());
        judge(case, &parsed, |authorities| {
            serde_json::json!(key_ids(authorities))
        })
    });
}

/// Conforms: WAP-18
#[test]
fn workload_api_x509() {
    run_cases(&load("bundles.json"), "workload_api_x509_der_cases", |case| {
        let parsed = x509_from_der(&STANDARD.decode(text(case, "der_base64")).unwrap());
        judge(case, &parsed, |authorities| serde_json::json!(authorities.len()))
    });
}

/// Conforms: BMP-01, BMP-02
#[test]
fn bundle_maps() {
    run_cases(&load("bundles.json"), "bundle_map_cases", |case| {
        let parsed = parse_spiffe_map(text(case, "document").as_bytes());
        judge(case, &parsed, |map| {
            let counted = map.iter().map(|(domain, bundle)| {
                let (x509, jwt) = (bundle.x509_authorities.len(), bundle.jwt_authorities.len());
                (
                    domain.as_str().to_owned(),
                    serde_json::json!({ "x509": x509, "jwt": jwt }),
                )
            });
            Value::Object(counted.collect())
        })
    });
}

/// The rules of `publish_cases`, which are words, on a bundle with everything in it.
/// Conforms: BND-03, BND-10, BND-25, WAP-34, WIT-28, X5S-25
#[test]
fn publishing() {
    let document = load("bundles.json");
    let all = case(&document, "BU-008");
    let mut bundle = parse_spiffe(&trust_domain(), text(all, "document").as_bytes()).unwrap();
    bundle.refresh_hint = Some(Duration::from_millis(1500));
    run_cases(&document, "publish_cases", |case| {
        let published: Value = serde_json::from_str(&to_spiffe_json(&bundle)).map_err(|e| e.to_string())?;
        let jwks: Value =
            serde_json::from_str(&to_jwks(&bundle.jwt_authorities)).map_err(|e| e.to_string())?;
        let wit: Value =
            serde_json::from_str(&to_jwks(&bundle.wit_authorities)).map_err(|e| e.to_string())?;
        let keys = published["keys"].as_array().ok_or("no keys")?;
        let holds = match text(case, "id") {
            "PB-01" => keys.iter().filter(|key| key["use"] == "x509-svid").all(|key| {
                let x5c = key["x5c"].as_array().unwrap();
                x5c.len() == 1 && key["kid"].is_null() && key["kty"] == "EC" && key["x"].is_string()
            }),
            "PB-03" => {
                let named = |entry: &&Value| entry["use"] == "wit-svid";
                let wit: Vec<_> = keys.iter().filter(named).collect();
                let kids = |kid: &Value| keys.iter().filter(|key| key["kid"] == *kid).count();
                !wit.is_empty()
                    && wit
                        .iter()
                        .all(|key| key["kid"].is_string() && kids(&key["kid"]) == 1)
            }
            "PB-10" => {
                let keys = wit["keys"].as_array().unwrap();
                keys.len() == bundle.wit_authorities.len()
                    && keys
                        .iter()
                        .all(|key| key["kid"].is_string() && key["use"].is_null())
            }
            "PB-04" => {
                let empty = to_spiffe_json(&Bundle::empty(trust_domain()));
                serde_json::from_str::<Value>(&empty).unwrap() == serde_json::json!({"keys": []})
            }
            "PB-07" => published["spiffe_refresh_hint"] == 2,
            "PB-08" => std::str::from_utf8(to_spiffe_json(&bundle).as_bytes()).is_ok(),
            "PB-09" => {
                let members: Vec<_> = jwks.as_object().unwrap().keys().collect();
                let keys = jwks["keys"].as_array().unwrap();
                members == ["keys"] && keys.len() == 2 && keys.iter().all(|key| key["kid"].is_string())
            }
            _ => false,
        };
        if holds {
            Ok(())
        } else {
            Err(format!("we publish {published} and {jwks}"))
        }
    });
}
