use std::time::Duration;

use credence_crypto::KeyType;

use super::*;
use crate::cache::testing::{START, entry, svid};

fn attestor(folder: &Path) -> (X509Pop, PrivateKey) {
    let signed = svid(&entry("host"), START, Duration::from_secs(60));
    let certificate = pem::encode(&pem::Pem::new("CERTIFICATE", signed.svid.chain[0].to_vec()));
    let key = pem::encode(&pem::Pem::new("PRIVATE KEY", signed.key.pkcs8_der().to_vec()));
    let attestor = X509Pop {
        private_key_path: folder.join("key.pem"),
        certificate_path: folder.join("certificate.pem"),
        intermediates_path: None,
    };
    fs::write(&attestor.certificate_path, certificate).unwrap();
    fs::write(&attestor.private_key_path, key).unwrap();
    (attestor, signed.key)
}

fn decoded(value: &serde_json::Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn proves_that_it_holds_the_key_to_a_nonce_of_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (attestor, key) = attestor(folder.path());
    let mut attempt = attestor.begin().unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&attempt.payload()).unwrap();
    let leaf = Certificate::from_der(&decoded(&payload["certificates"][0])).unwrap();
    assert_eq!(leaf.public_key(), key.public_key());

    let theirs = [7_u8; NONCE_BYTES];
    let challenge = format!(
        r#"{{"rsa_signature":null,"ecdsa_signature":{{"nonce":"{}"}}}}"#,
        STANDARD.encode(theirs)
    );
    let response = attempt.respond(challenge.as_bytes()).unwrap();
    let response: serde_json::Value = serde_json::from_slice(&response).unwrap();
    assert!(response["rsa_signature"].is_null());
    let answer = &response["ecdsa_signature"];
    let proof = PopSignature::Ecdsa {
        r: decoded(&answer["r"]),
        s: decoded(&answer["s"]),
    };
    let signed = [theirs.as_slice(), &decoded(&answer["nonce"])].concat();
    leaf.public_key().verify_possession(&signed, &proof).unwrap();
}

#[test]
fn odd_challenges_and_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (attestor, _) = attestor(folder.path());
    let mut attempt = attestor.begin().unwrap();
    for odd in [
        "",
        "{}",
        r#"{"rsa_signature":{"nonce":""}}"#,
        r#"{"ecdsa_signature":{"nonce":"AAAA"}}"#,
    ] {
        assert!(
            matches!(
                attempt.respond(odd.as_bytes()),
                Err(NodeAttestorError::Challenge(_))
            ),
            "{odd}"
        );
    }
    let other = pem::encode(&pem::Pem::new(
        "PRIVATE KEY",
        PrivateKey::generate(KeyType::EcP256)
            .unwrap()
            .pkcs8_der()
            .to_vec(),
    ));
    fs::write(&attestor.private_key_path, other).unwrap();
    assert!(matches!(
        attestor.begin(),
        Err(NodeAttestorError::KeyMismatch { .. })
    ));
    fs::write(&attestor.certificate_path, "").unwrap();
    assert!(matches!(
        attestor.begin(),
        Err(NodeAttestorError::Unusable { .. })
    ));
    fs::remove_file(&attestor.private_key_path).unwrap();
    assert!(matches!(attestor.begin(), Err(NodeAttestorError::Read { .. })));
}
