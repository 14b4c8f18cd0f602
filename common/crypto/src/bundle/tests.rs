//! What is published reads back, and is read by others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credence_identity::{JwtAuthority, Timestamp, TrustDomain};

use super::*;
use crate::keys::{KeyType, PrivateKey, Signer};
use crate::x509::{CaSubject, X509Ca};

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn full() -> Bundle {
    let mut bundle = Bundle::empty(trust_domain());
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = Arc::new(PrivateKey::generate(key_type).unwrap());
        bundle.jwt_authorities.push(JwtAuthority {
            key_id: key_type.to_string().into(),
            public_key: key.public_key().spki_der().into(),
            expires_at: None,
            tainted: false,
        });
        let end = Timestamp::from_unix_seconds(4_000_000_000);
        let ca =
            X509Ca::self_sign(key, &trust_domain(), &CaSubject::default(), Timestamp::EPOCH, end).unwrap();
        bundle.x509_authorities.push(X509Authority {
            der: ca.certificate().der().clone(),
            tainted: false,
        });
    }
    bundle.sequence_number = u64::MAX;
    bundle
}

/// Conforms: BND-08
#[test]
fn every_key_type_reads_back_from_every_form() {
    let bundle = full();
    assert_eq!(
        parse_spiffe(&trust_domain(), to_spiffe_json(&bundle).as_bytes()).unwrap(),
        bundle
    );
    assert_eq!(
        parse_jwks(to_jwks(&bundle.jwt_authorities).as_bytes()).unwrap(),
        bundle.jwt_authorities
    );
    assert_eq!(
        x509_from_der(&x509_to_der(&bundle)).unwrap(),
        bundle.x509_authorities
    );
    assert_eq!(
        x509_from_pem(&x509_to_pem(&bundle)).unwrap(),
        bundle.x509_authorities
    );
}

/// A trap of libraries: widespread JWT libraries find no key in a set whose `use` they don't know.
/// Conforms: BND-25
#[test]
fn workload_api_key_sets_have_no_use() {
    let set: serde_json::Value = serde_json::from_str(&to_jwks(&full().jwt_authorities)).unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert!(
        keys.len() == 3
            && keys
                .iter()
                .all(|key| key.get("use").is_none() && key["kid"].is_string())
    );
}

/// Conforms: BND-03, BND-24
#[test]
fn documents_are_indented_by_four_and_leave_zeros_out() {
    assert_eq!(
        to_spiffe_json(&Bundle::empty(trust_domain())),
        "{\n    \"keys\": []\n}"
    );
    assert_eq!(to_jwks(&[]), "{\n    \"keys\": []\n}");
}

#[test]
fn one_key_id_with_two_keys_keeps_both() {
    let mut bundle = full();
    bundle
        .jwt_authorities
        .iter_mut()
        .for_each(|authority| authority.key_id = "same".into());
    let read = parse_spiffe(&trust_domain(), to_spiffe_json(&bundle).as_bytes()).unwrap();
    assert_eq!(read.jwt_authorities.len(), 3);
}

#[test]
fn private_keys_and_leaves_are_never_authorities() {
    let text = to_spiffe_json(&full()).replace("\"kid\":", "\"d\": \"AQ\", \"kid\":");
    let read = parse_spiffe(&trust_domain(), text.as_bytes()).unwrap();
    assert!(read.jwt_authorities.is_empty());
    assert_eq!(read.x509_authorities.len(), 3);
}

#[test]
fn pem_with_text_around_and_without_certificates() {
    let pem = x509_to_pem(&full());
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && !pem.contains('\r'));
    let wrapped = format!("# roots\n{pem}\ntrailing words\n");
    assert_eq!(x509_from_pem(&wrapped).unwrap().len(), 3);
    for text in [
        "",
        "no PEM",
        "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
    ] {
        assert_eq!(
            x509_from_pem(text).unwrap_err(),
            CertificateError::NoPemCertificate
        );
    }
}

/// Conforms: BND-19, JWS-25, X5S-25, X5S-26
#[test]
fn published_entries_have_the_members_of_their_kind_and_no_others() {
    let mut bundle = full();
    let key = JwtAuthority {
        key_id: "wit".into(),
        ..bundle.jwt_authorities[0].clone()
    };
    bundle.wit_authorities.push(key);
    let document: serde_json::Value = serde_json::from_str(&to_spiffe_json(&bundle)).unwrap();
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for key in document["keys"].as_array().unwrap() {
        let key = key.as_object().unwrap();
        let kind = key["use"].as_str().unwrap();
        let of_key: &[&str] = match key["kty"].as_str() {
            Some("EC") => &["crv", "x", "y"],
            _ => &["e", "n"],
        };
        let own = if kind == "x509-svid" { "x5c" } else { "kid" };
        let mut wanted = [of_key, &["kty", "use", own]].concat();
        wanted.sort_unstable();
        let mut members: Vec<&str> = key.keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, wanted);
        if let Some(chain) = key.get("x5c") {
            let [only] = chain.as_array().unwrap().as_slice() else {
                panic!("{chain}")
            };
            let der = STANDARD.decode(only.as_str().unwrap()).unwrap();
            let certificate = Certificate::from_der(&der).unwrap();
            assert!(certificate.is_ca());
            assert_eq!(
                crate::jwk::public_key(key).as_ref(),
                Some(certificate.public_key())
            );
        }
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(kinds, [("jwt-svid", 3), ("wit-svid", 1), ("x509-svid", 3)]);
}
