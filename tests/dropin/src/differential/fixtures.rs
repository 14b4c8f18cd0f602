//! Values that both sides get: certificate signing requests, certificates and keys, good ones and bad ones.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
    SanType,
};

/// Each by the name that steps write as `${name}`.
pub(super) static FIXTURES: LazyLock<BTreeMap<&'static str, String>> = LazyLock::new(|| {
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    let web = "spiffe://example.org/web";
    let mut all: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
    all.insert("csr", request(&p256, "", &[]));
    all.insert("csr.web", request(&p256, "", &[uri(web)]));
    all.insert("csr.p384", request(&p384, "", &[uri(web)]));
    all.insert("csr.p521", request(&p521, "", &[uri(web)]));
    all.insert("csr.ed25519", request(&ed25519, "", &[uri(web)]));
    all.insert("csr.rsa", request(&rsa, "", &[uri(web)]));
    all.insert("csr.subject", request(&p256, "someone", &[uri(web)]));
    let dns = [uri(web), dns("a.example.org"), dns("b.example.org")];
    all.insert("csr.dns", request(&p256, "", &dns));
    all.insert("csr.dnssubject", request(&p256, "someone", &dns));
    all.insert(
        "csr.baddns",
        request(&p256, "", &[uri(web), self::dns("-a.example.org")]),
    );
    let wild = [uri(web), self::dns("*.example.org"), self::dns("a.example.org")];
    all.insert("csr.wild", request(&p256, "", &wild));
    all.insert(
        "csr.two",
        request(&p256, "", &[uri(web), uri("spiffe://example.org/b")]),
    );
    all.insert("csr.other", request(&p256, "", &[uri("spiffe://other.org/web")]));
    all.insert("csr.root", request(&p256, "", &[uri("spiffe://example.org")]));
    all.insert("csr.https", request(&p256, "", &[uri("https://example.org/web")]));
    all.insert(
        "csr.agent",
        request(&p256, "", &[uri("spiffe://example.org/spire/agent/x")]),
    );
    all.insert(
        "csr.malformed",
        request(&p256, "", &[uri("spiffe://example.org/a//b")]),
    );
    let mut broken = request(&p256, "", &[uri(web)]);
    if let Some(last) = broken.last_mut() {
        *last ^= 1;
    }
    all.insert("csr.broken", broken);
    all.insert("key.p256", p256.subject_public_key_info());
    all.insert("key.p384", p384.subject_public_key_info());
    all.insert("key.rsa", rsa.subject_public_key_info());
    all.insert("key.ed25519", ed25519.subject_public_key_info());
    all.insert("ca.other", authority(&p256, "spiffe://other.org"));
    all.insert("ca.third", authority(&p384, "spiffe://third.org"));
    all.insert("ca.own", authority(&p384, "spiffe://example.org"));
    all.insert("leaf.other", leaf(&p256));
    let mut texts: BTreeMap<&'static str, String> = all
        .into_iter()
        .map(|(name, bytes)| (name, STANDARD.encode(bytes)))
        .collect();
    let pem = |base64: &str| {
        format!(
            "-----BEGIN CERTIFICATE-----\\n{}\\n-----END CERTIFICATE-----\\n",
            wrapped(base64)
        )
    };
    let (other, third) = (
        pem(texts.get("ca.other").expect("was made")),
        pem(texts.get("ca.third").expect("was made")),
    );
    texts.insert("pem.other", other);
    texts.insert("pem.third", third);
    texts
});

fn wrapped(base64: &str) -> String {
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    lines.join("\\n")
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ASCII"))
}

fn request(key: &KeyPair, common_name: &str, names: &[SanType]) -> Vec<u8> {
    let mut params = parameters(names);
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.serialize_request(key).expect("sign").der().to_vec()
}

fn parameters(names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names.to_vec();
    params
}

fn authority(key: &KeyPair, name: &str) -> Vec<u8> {
    let mut params = parameters(&[uri(name)]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(key).expect("sign").der().to_vec()
}

fn leaf(key: &KeyPair) -> Vec<u8> {
    let params = parameters(&[uri("spiffe://other.org/web")]);
    params.self_signed(key).expect("sign").der().to_vec()
}
