use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::x509::{CaSubject, LeafParams, X509Ca};
use credence_crypto::{KeyType, PrivateKey, Signer};
use credence_identity::{Timestamp, X509Authority};
use credence_runtime::clock::ManualClock;
use serde_json::{Value, json};

use super::*;

const CLIENT: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

struct Bench {
    ca: X509Ca,
    key: PrivateKey,
    leaf: Certificate,
    attestor: X509Pop,
}

fn bench(key_type: KeyType, template: &str) -> Bench {
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let signer = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let (from, to) = (NOW - Duration::from_secs(60), NOW + Duration::from_secs(3600));
    let ca = X509Ca::self_sign(signer, &trust_domain, &CaSubject::default(), from, to).unwrap();
    let key = PrivateKey::generate(key_type).unwrap();
    let params = LeafParams {
        id: &SpiffeId::parse("spiffe://example.org/machine").unwrap(),
        public_key: key.public_key(),
        dns_names: &[Arc::from("host1")],
        subject: None,
        not_before: from,
        not_after: to,
    };
    let leaf = ca.sign_svid(&params).unwrap().leaf().unwrap();
    let config = X509PopConfig {
        path: PathTemplate::parse(template).unwrap(),
        ..X509PopConfig::external(vec![ca.certificate().clone()])
    };
    let mut bundle = Bundle::empty(trust_domain.clone());
    bundle.x509_authorities.push(X509Authority {
        der: ca.certificate().der().clone(),
        tainted: false,
    });
    let bundle = Arc::new(bundle);
    let attestor = X509Pop::new(
        trust_domain,
        config,
        Arc::new(move || Some(bundle.clone())),
        Arc::new(ManualClock::new(NOW)),
    );
    Bench {
        ca,
        key,
        leaf,
        attestor,
    }
}

impl Bench {
    fn payload(&self) -> Vec<u8> {
        json!({ "certificates": [STANDARD.encode(self.leaf.der())] })
            .to_string()
            .into_bytes()
    }

    /// The challenge as JSON, and what judges the answer.
    fn challenged(&self) -> (Value, Box<dyn Challenger>) {
        match self.attestor.attest(&self.payload(), CLIENT).unwrap() {
            Step::Challenge { challenge, then } => (serde_json::from_slice(&challenge).unwrap(), then),
            Step::Attested(node) => panic!("attested without a challenge: {node:?}"),
        }
    }

    fn answer(&self, challenge: &Value, key: &PrivateKey) -> Vec<u8> {
        let (member, _) = challenge
            .as_object()
            .unwrap()
            .iter()
            .find(|(_, value)| !value.is_null())
            .unwrap();
        let theirs = STANDARD
            .decode(challenge[member]["nonce"].as_str().unwrap())
            .unwrap();
        let ours = [7_u8; NONCE];
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let proof = match key
            .prove_possession(&[theirs.as_slice(), &ours].concat())
            .unwrap()
        {
            PopSignature::Rsa(signature) => json!({ "nonce": text(&ours), "signature": text(&signature) }),
            PopSignature::Ecdsa { r, s } => json!({ "nonce": text(&ours), "r": text(&r), "s": text(&s) }),
        };
        json!({ member: proof }).to_string().into_bytes()
    }
}

fn attested(step: Step) -> AttestedNode {
    match step {
        Step::Attested(node) => node,
        Step::Challenge { .. } => panic!("challenged again"),
    }
}

#[test]
fn a_node_that_has_the_key_is_attested() {
    for (key_type, used, unused) in [
        (KeyType::EcP256, "ecdsa_signature", "rsa_signature"),
        (KeyType::EcP384, "ecdsa_signature", "rsa_signature"),
        (KeyType::Rsa2048, "rsa_signature", "ecdsa_signature"),
    ] {
        let bench = bench(key_type, "/{{ .PluginName }}/{{ .Fingerprint }}");
        let (challenge, then) = bench.challenged();
        assert!(challenge[unused].is_null() && challenge.as_object().unwrap().contains_key(unused));
        assert!(!challenge[used].is_null());
        let node = attested(then.answered(&bench.answer(&challenge, &bench.key)).unwrap());
        let fingerprint = bench.leaf.sha1_fingerprint();
        assert_eq!(
            node.id.as_str(),
            format!("spiffe://example.org/spire/agent/x509pop/{fingerprint}")
        );
        assert!(node.can_reattest);
        let mut selectors: Vec<_> = node.selectors.iter().map(Selector::as_str).collect();
        selectors.sort_unstable();
        let ca = format!(
            "x509pop:ca:fingerprint:{}",
            bench.ca.certificate().sha1_fingerprint()
        );
        let serial = format!("x509pop:serialnumber:{}", bench.leaf.serial_hex());
        assert_eq!(
            selectors,
            [ca.as_str(), serial.as_str(), "x509pop:subject:cn:host1"]
        );
    }
}

#[test]
fn the_template_makes_the_id() {
    let bench = bench(
        KeyType::EcP256,
        "{{ .PluginName }}/{{ .Subject.CommonName }}/{{ .SerialNumberHex }}",
    );
    let (challenge, then) = bench.challenged();
    let node = attested(then.answered(&bench.answer(&challenge, &bench.key)).unwrap());
    let serial = bench.leaf.serial_hex();
    assert_eq!(node.id.path(), format!("/spire/agent/x509pop/host1/{serial}"));
}

#[test]
fn another_key_a_wrong_nonce_or_no_signature_are_refused() {
    let bench = bench(KeyType::EcP256, "x");
    let other = PrivateKey::generate(KeyType::EcP256).unwrap();
    let (challenge, then) = bench.challenged();
    let error = then.answered(&bench.answer(&challenge, &other)).unwrap_err();
    assert!(matches!(error, AttestError::Denied(_)), "{error:?}");
    let (challenge, _) = bench.challenged();
    let (_, then) = bench.challenged();
    let stale = then.answered(&bench.answer(&challenge, &bench.key)).unwrap_err();
    assert!(
        matches!(stale, AttestError::Denied(_)),
        "an answer to another challenge: {stale:?}"
    );
    for (answer, malformed) in [("{}", false), ("nonsense", true), ("", true)] {
        let (_, then) = bench.challenged();
        let error = then.answered(answer.as_bytes()).unwrap_err();
        assert_eq!(matches!(error, AttestError::Malformed(_)), malformed, "{error:?}");
    }
}

#[test]
fn a_stranger_and_nonsense_are_refused_before_any_challenge() {
    let (ours, theirs) = (bench(KeyType::EcP256, "x"), bench(KeyType::EcP256, "x"));
    let error = ours.attestor.attest(&theirs.payload(), CLIENT).unwrap_err();
    assert!(
        matches!(&error, AttestError::Denied(text) if text.starts_with("nodeattestor(x509pop): ")),
        "{error:?}"
    );
    let five = vec![STANDARD.encode(ours.leaf.der()); 6];
    for payload in [
        "",
        "{}",
        "{\"certificates\":[]}",
        "{\"certificates\":[\"AAAA\"]}",
        "{\"certificates\":[\"!\"]}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([json!({ "certificates": five }).to_string()])
    {
        let error = ours.attestor.attest(payload.as_bytes(), CLIENT).unwrap_err();
        assert!(matches!(error, AttestError::Malformed(_)), "{payload}: {error:?}");
    }
}

#[test]
fn sans_of_the_own_trust_domain_become_selectors() {
    let own = TrustDomain::parse("domain.test").unwrap();
    let uris = [
        "x509pop://domain.test/cluster/test",
        "x509pop://other.test/cluster/evil",
        "x509pop://domain.test/nothing",
        "x509pop://domain.test/a/b/c",
        "spiffe://domain.test/x",
    ];
    let found = san_selectors(&own, &uris.map(str::to_owned));
    let found: Vec<_> = found
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(found, [("a", "b/c"), ("cluster", "test")]);
}

/// A node that shows an SVID of the trust domain, by its prefix.
#[test]
fn svids_of_the_own_trust_domain_prove_nodes_below_their_prefix() {
    let bench = bench(KeyType::EcP256, "unused");
    let of = |prefix: &str| {
        X509PopConfig::of(Trust::OwnSvids {
            prefix: prefix.to_owned(),
        })
    };
    for (prefix, path) in [
        ("/", Some("/spire/agent/x509pop/machine")),
        ("/spire-exchange/", None),
        ("/mach", Some("/spire/agent/x509pop/ine")),
    ] {
        bench.attestor.configure(of(prefix));
        let (challenge, then) = bench.challenged();
        let outcome = then.answered(&bench.answer(&challenge, &bench.key));
        match (path, outcome) {
            (Some(path), outcome) => assert_eq!(attested(outcome.unwrap()).id.path(), path),
            (None, outcome) => assert!(matches!(outcome.unwrap_err(), AttestError::Denied(_)), "{prefix}"),
        }
    }
    let stranger = self::bench(KeyType::EcP256, "unused");
    let error = bench.attestor.attest(&stranger.payload(), CLIENT).unwrap_err();
    assert!(matches!(error, AttestError::Denied(_)), "{error:?}");
}

#[test]
fn the_clients_address_must_be_in_the_certificate_where_that_is_asked() {
    let bench = bench(KeyType::EcP256, "x");
    bench.attestor.configure(X509PopConfig {
        verify_client_ip: true,
        ..X509PopConfig::external(vec![bench.ca.certificate().clone()])
    });
    let error = bench.attestor.attest(&bench.payload(), CLIENT).unwrap_err();
    assert!(
        matches!(&error, AttestError::Denied(text) if text.contains("client IP 192.0.2.7 does not match any certificate IP SAN")),
        "{error:?}"
    );
    let error = bench.attestor.attest(&bench.payload(), None).unwrap_err();
    assert!(matches!(error, AttestError::Internal(_)), "{error:?}");
    let leaf = with_addresses();
    for (client, passes) in [
        ("192.0.2.7", true),
        ("::ffff:192.0.2.7", true),
        ("2001:db8::7", true),
        ("192.0.2.8", false),
    ] {
        assert_eq!(
            check_address(&leaf, Some(client.parse().unwrap())).is_ok(),
            passes,
            "{client}"
        );
    }
}

/// A certificate with IP addresses, which we never issue.
fn with_addresses() -> Certificate {
    let mut params =
        rcgen::CertificateParams::new(vec!["192.0.2.7".to_owned(), "2001:db8::7".to_owned()]).unwrap();
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let key = rcgen::KeyPair::generate().unwrap();
    Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap()
}

#[test]
fn keys_longer_than_allowed_and_leaves_that_may_not_sign_are_refused() {
    let bench = bench(KeyType::Rsa2048, "x");
    bench.attestor.configure(X509PopConfig {
        max_rsa_bits: 2047,
        ..X509PopConfig::external(vec![bench.ca.certificate().clone()])
    });
    let error = bench.attestor.attest(&bench.payload(), CLIENT).unwrap_err();
    assert!(
        matches!(&error, AttestError::Malformed(text) if text.contains("leaf certificate key size too large")),
        "{error:?}"
    );
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let leaf = Certificate::from_der(
        params
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .der(),
    )
    .unwrap();
    bench
        .attestor
        .configure(X509PopConfig::external(vec![leaf.clone()]));
    let payload = json!({ "certificates": [STANDARD.encode(leaf.der())] }).to_string();
    let error = bench.attestor.attest(payload.as_bytes(), CLIENT).unwrap_err();
    assert!(
        matches!(&error, AttestError::Internal(text) if text.contains("not intended for digital signature use")),
        "{error:?}"
    );
}
