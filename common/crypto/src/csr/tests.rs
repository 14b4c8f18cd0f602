//! Requests made by OpenSSL (`tests/csr`), by rcgen and by ourselves.

use std::sync::Arc;

use credence_identity::{SpiffeId, Timestamp, TrustDomain};

use super::*;
use crate::keys::{KeyType, PrivateKey};
use crate::x509::{CaSubject, Certificate, LeafParams, X509Ca};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/csr/", $name, ".der"))
    };
}

fn certify(csr: &VerifiedCsr) -> Certificate {
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let (from, to) = (Timestamp::EPOCH, Timestamp::from_unix_seconds(3600));
    let ca = X509Ca::self_sign(Arc::new(key), &trust_domain, &CaSubject::default(), from, to).unwrap();
    let id = SpiffeId::parse("spiffe://example.org/given").unwrap();
    let leaf = LeafParams {
        id: &id,
        public_key: csr.public_key(),
        dns_names: &[],
        subject: None,
        not_before: from,
        not_after: to,
    };
    let svid = ca.sign_svid(&leaf).unwrap();
    Certificate::from_der(&svid.chain[0]).unwrap()
}

#[test]
fn every_key_type_that_is_certified() {
    let cases: [(&[u8], PublicKeyKind); 8] = [
        (fixture!("p256"), PublicKeyKind::EcP256),
        (fixture!("p256-sha384"), PublicKeyKind::EcP256),
        (fixture!("p384"), PublicKeyKind::EcP384),
        (fixture!("p521"), PublicKeyKind::EcP521),
        (fixture!("ed25519"), PublicKeyKind::Ed25519),
        (fixture!("rsa2048"), PublicKeyKind::Rsa { bits: 2048 }),
        (fixture!("rsa2048-pss"), PublicKeyKind::Rsa { bits: 2048 }),
        (fixture!("rsa4096"), PublicKeyKind::Rsa { bits: 4096 }),
    ];
    for (der, kind) in cases {
        let csr = VerifiedCsr::from_der(der).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(csr.public_key().kind(), kind);
        assert_eq!(csr.uri_sans(), ["spiffe://example.org/workload"]);
        assert_eq!(csr.dns_names(), ["db.example.org"]);
        assert_eq!(csr.subject().to_string(), "CN=asked,O=Requester,C=DE");
        let certificate = certify(&csr);
        assert_eq!(certificate.public_key(), csr.public_key());
    }
}

#[test]
fn every_other_key_is_refused_by_its_name() {
    let cases: [(&[u8], &str); 9] = [
        (fixture!("rsa1024"), "RSA with 1024 bits"),
        (fixture!("rsa4608"), "RSA with 4608 bits"),
        (fixture!("p224"), "unsupported elliptic curve 1.3.132.0.33"),
        (fixture!("secp256k1"), "unsupported elliptic curve 1.3.132.0.10"),
        (fixture!("p256-explicit"), "malformed public key"),
        (fixture!("ed448"), "unsupported key type 1.3.101.113"),
        (fixture!("dsa"), "unsupported key type 1.2.840.10040.4.1"),
        (
            fixture!("rsa-pss-key"),
            "unsupported key type 1.2.840.113549.1.1.10",
        ),
        (
            fixture!("p256-sha1"),
            "unsupported signature algorithm 1.2.840.10045.4.1",
        ),
    ];
    for (der, reason) in cases {
        let error = VerifiedCsr::from_der(der).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

/// A trap of libraries: a library took the curve from the signature algorithm, and made a certificate with a P-384 key
/// type over a P-256 point.
#[test]
fn p256_request_signed_with_sha384_yields_a_p256_certificate() {
    let csr = VerifiedCsr::from_der(fixture!("p256-sha384")).unwrap();
    let certificate = certify(&csr);
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
    let curve = parsed
        .public_key()
        .algorithm
        .parameters()
        .unwrap()
        .as_oid()
        .unwrap();
    assert_eq!(curve.to_id_string(), "1.2.840.10045.3.1.7");
    // Checks the point against the curve.
    PublicKey::from_spki_der(certificate.public_key().spki_der()).unwrap();
}

/// The trap's other half: CA bit, key usage, extended key usage and names were copied from the request.
#[test]
fn nothing_but_the_key_comes_from_the_request() {
    let certificate = certify(&VerifiedCsr::from_der(fixture!("p256")).unwrap());
    assert!(!certificate.is_ca());
    assert!(!certificate.key_usage().unwrap().key_cert_sign());
    assert_eq!(certificate.uri_sans(), ["spiffe://example.org/given"]);
    assert!(certificate.dns_names().is_empty());
    assert_eq!(certificate.subject().to_string(), "O=SPIRE,C=US");
}

#[test]
fn a_changed_byte_breaks_the_signature_or_the_form() {
    let der = fixture!("p256");
    for index in 0..der.len() {
        let mut changed = der.to_vec();
        changed[index] ^= 1;
        assert!(VerifiedCsr::from_der(&changed).is_err(), "byte {index}");
    }
    let mut last = der.to_vec();
    *last.last_mut().unwrap() ^= 1;
    let error = VerifiedCsr::from_der(&last).unwrap_err();
    assert_eq!(error, CsrError::Signature(VerifyError::BadSignature));
}

#[test]
fn trailing_bytes_truncation_and_size() {
    let mut longer = fixture!("p256").to_vec();
    longer.push(0);
    assert_eq!(
        VerifiedCsr::from_der(&longer).unwrap_err(),
        CsrError::Malformed(DerError::TrailingBytes)
    );
    for length in 0..fixture!("p256").len() {
        assert!(VerifiedCsr::from_der(&fixture!("p256")[..length]).is_err());
    }
    assert!(matches!(
        VerifiedCsr::from_der(&vec![0x30; MAX_BYTES + 1]),
        Err(CsrError::TooLarge(_))
    ));
}

#[test]
fn our_own_requests_verify_here_and_elsewhere() {
    let id = SpiffeId::parse("spiffe://example.org/spire/agent/x").unwrap();
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        for (id, dns) in [(None, &[][..]), (Some(&id), &["a.example", "b.example"])] {
            let der = create(&key, id, dns).unwrap();
            let csr = VerifiedCsr::from_der(&der).unwrap();
            assert_eq!(csr.public_key(), key.public_key());
            assert_eq!(
                csr.uri_sans().first().map(String::as_str),
                id.map(SpiffeId::as_str)
            );
            assert_eq!(csr.dns_names(), dns);
            use x509_parser::prelude::FromDer as _;
            let (rest, theirs) =
                x509_parser::certification_request::X509CertificationRequest::from_der(&der).unwrap();
            assert!(rest.is_empty());
            theirs.verify_signature().unwrap();
        }
    }
}

#[test]
fn requests_of_another_maker_verify() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let uri = "spiffe://example.org/a".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    let csr = params.serialize_request(&key).unwrap();
    let csr = VerifiedCsr::from_der(csr.der()).unwrap();
    assert_eq!((csr.uri_sans().len(), csr.dns_names().len()), (1, 1));
}
