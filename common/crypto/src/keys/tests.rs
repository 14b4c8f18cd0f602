//! Keys of every type sign and verify, and never show themselves.

use super::*;

const ALL: [KeyType; 4] = [
    KeyType::EcP256,
    KeyType::EcP384,
    KeyType::Rsa2048,
    KeyType::Rsa4096,
];

#[test]
fn names_as_in_spires_configuration() {
    for key_type in ALL {
        assert_eq!(key_type.to_string().parse(), Ok(key_type));
    }
    assert_eq!("EC-P256".parse(), Ok(KeyType::EcP256));
    assert!("ec-p521".parse::<KeyType>().is_err());
}

#[test]
fn every_type_signs_in_both_forms_and_reads_back() {
    for key_type in ALL {
        let key = PrivateKey::generate(key_type).unwrap();
        let again = PrivateKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.key_type(), key_type);
        for form in [SignatureForm::X509, SignatureForm::Jose] {
            let algorithm = key_type.signature_algorithm();
            let signature = again.sign(b"message", form).unwrap();
            key.public_key()
                .verify(algorithm, form, b"message", &signature)
                .unwrap();
            assert_eq!(
                key.public_key().verify(algorithm, form, b"massage", &signature),
                Err(VerifyError::BadSignature)
            );
        }
    }
}

/// Conforms: JWS-23
#[test]
fn jose_signatures_have_a_fixed_size() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    for _ in 0..50 {
        assert_eq!(key.sign(b"message", SignatureForm::Jose).unwrap().len(), 64);
    }
}

#[test]
fn debug_shows_no_secret() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(ec-p256, redacted)");
    let svid_like = format!("{:?}", Some(&key));
    assert!(!svid_like.contains(&crate::hex(&key.pkcs8_der()[40..44])));
}

/// Conforms: X5S-35
#[test]
fn only_unencrypted_pkcs8_is_taken() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let pem = crate::bundle::private_key_to_pem(key.pkcs8_der());
    for bytes in [
        &[][..],
        pem.as_bytes(),
        &key.pkcs8_der()[..100],
        &[&key.pkcs8_der()[..], &[0]].concat(),
    ] {
        assert_eq!(
            PrivateKey::from_pkcs8_der(bytes).unwrap_err(),
            PrivateKeyError::Unusable
        );
    }
    assert_eq!(PrivateKey::from_pem(&pem).unwrap().public_key(), key.public_key());
    assert_eq!(PrivateKey::from_pem("").unwrap_err(), PrivateKeyError::NoPemKey);
}

#[test]
fn a_point_off_the_curve_is_no_key() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let mut spki = key.public_key().spki_der().to_vec();
    *spki.last_mut().unwrap() ^= 1;
    assert_eq!(PublicKey::from_spki_der(&spki), Err(PublicKeyError::Invalid));
    spki.push(0);
    assert!(PublicKey::from_spki_der(&spki).is_err());
}

/// Conforms: JWS-06
#[test]
fn algorithm_must_fit_the_key() {
    let ec = PrivateKey::generate(KeyType::EcP256).unwrap();
    let signature = ec.sign(b"message", SignatureForm::Jose).unwrap();
    for algorithm in [
        SignatureAlgorithm::RsaPkcs1(Hash::Sha256),
        SignatureAlgorithm::RsaPss(Hash::Sha256),
        SignatureAlgorithm::Ecdsa(Hash::Sha384),
        SignatureAlgorithm::Ed25519,
    ] {
        let verdict = ec
            .public_key()
            .verify(algorithm, SignatureForm::Jose, b"message", &signature);
        assert_eq!(verdict, Err(VerifyError::AlgorithmMismatch));
    }
}

#[test]
fn proofs_of_possession() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        let proof = key.prove_possession(b"both nonces").unwrap();
        key.public_key()
            .verify_possession(b"both nonces", &proof)
            .unwrap();
        assert!(
            key.public_key()
                .verify_possession(b"other nonces", &proof)
                .is_err()
        );
        let other = PrivateKey::generate(KeyType::EcP256).unwrap();
        assert!(
            other
                .public_key()
                .verify_possession(b"both nonces", &proof)
                .is_err()
        );
    }
    let huge = PopSignature::Ecdsa {
        r: vec![1; 1 << 20],
        s: vec![1],
    };
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    assert_eq!(
        key.public_key().verify_possession(b"", &huge),
        Err(VerifyError::BadSignature)
    );
}

/// Go's library signs with the longest salt unless told otherwise, so SPIRE's agents do.
#[test]
fn a_proof_with_the_longest_salt_passes() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair, RsaPssSaltLength, RsaSignatureEncoding};
    static LONGEST: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
    let key = PrivateKey::generate(KeyType::Rsa2048).unwrap();
    let pair = RsaKeyPair::from_pkcs8(key.pkcs8_der()).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&LONGEST, &SystemRandom::new(), b"both nonces", &mut signature)
        .unwrap();
    let proof = PopSignature::Rsa(signature);
    key.public_key()
        .verify_possession(b"both nonces", &proof)
        .unwrap();
    let other = key.public_key().verify_possession(b"other nonces", &proof);
    assert_eq!(other, Err(VerifyError::BadSignature));
}
