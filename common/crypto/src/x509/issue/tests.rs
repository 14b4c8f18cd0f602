//! The profiles, field by field, and as another parser sees them.

use x509_parser::extensions::ParsedExtension;

use super::*;
use crate::csr::VerifiedCsr;
use crate::keys::{KeyType, PrivateKey};
use crate::x509::verify_svid;

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

fn ca(key_type: KeyType) -> X509Ca {
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let key = Arc::new(PrivateKey::generate(key_type).unwrap());
    X509Ca::self_sign(key, &trust_domain, &CaSubject::default(), at(0), at(24 * HOUR)).unwrap()
}

struct Wanted {
    id: SpiffeId,
    key: PublicKey,
    dns: Vec<Arc<str>>,
    subject: Option<Subject>,
}

impl Wanted {
    fn new() -> Self {
        let key = PrivateKey::generate(KeyType::EcP256)
            .unwrap()
            .public_key()
            .clone();
        let id = SpiffeId::parse("spiffe://example.org/workload").unwrap();
        Self {
            id,
            key,
            dns: Vec::new(),
            subject: None,
        }
    }

    fn params(&self, from: i64, to: i64) -> LeafParams<'_> {
        LeafParams {
            id: &self.id,
            public_key: &self.key,
            dns_names: &self.dns,
            subject: self.subject.as_ref(),
            not_before: at(from),
            not_after: at(to),
        }
    }
}

fn critical_extensions(der: &[u8]) -> Vec<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
    let critical = parsed.extensions().iter().filter(|extension| extension.critical);
    critical.map(|extension| extension.oid.to_id_string()).collect()
}

/// Conforms: X5S-01, X5S-03, X5S-12, X5S-15, X5S-17, X5S-18, X5S-19, X5S-20, X5S-33
#[test]
fn leaf_profile_as_another_parser_sees_it() {
    let ca = ca(KeyType::EcP256);
    let mut wanted = Wanted::new();
    wanted.dns = vec![
        "db.example.org".into(),
        "*.example.org".into(),
        "db.example.org".into(),
    ];
    let svid = ca.sign_svid(&wanted.params(10, HOUR)).unwrap();
    let (rest, leaf) = x509_parser::parse_x509_certificate(&svid.chain[0]).unwrap();
    assert!(rest.is_empty());
    let (_, root) = x509_parser::parse_x509_certificate(ca.certificate().der()).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();

    assert_eq!(leaf.version(), x509_parser::x509::X509Version::V3);
    assert_eq!(leaf.subject().to_string(), "C=US, O=SPIRE, CN=db.example.org");
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    assert_eq!(leaf.validity().not_before.timestamp(), 10);
    assert_eq!(leaf.validity().not_after.timestamp(), HOUR);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && usage.key_agreement());
    assert!(!usage.key_cert_sign() && !usage.crl_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.server_auth && extended.value.client_auth && !extended.critical);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let names: Vec<String> = names
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        [
            "DNSName(db.example.org)",
            "DNSName(*.example.org)",
            "DNSName(db.example.org)",
            "URI(spiffe://example.org/workload)"
        ]
    );
    assert_eq!(critical_extensions(&svid.chain[0]), ["2.5.29.15", "2.5.29.19"]);
    let key_ids: Vec<Vec<u8>> = leaf
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0.to_vec()),
            _ => None,
        })
        .collect();
    assert_eq!(
        key_ids,
        [
            wanted.key.key_id().to_vec(),
            ca.signer().public_key().key_id().to_vec()
        ]
    );
}

/// Conforms: SID-25, SID-26, X5S-07, X5S-08, X5S-09, X5S-15, X5S-16, X5S-21
#[test]
fn ca_profile_as_another_parser_sees_it() {
    let ca = ca(KeyType::EcP384);
    let (_, root) = x509_parser::parse_x509_certificate(ca.certificate().der()).unwrap();
    root.verify_signature(None).unwrap();
    assert_eq!(
        root.signature_algorithm.algorithm.to_id_string(),
        "1.2.840.10045.4.3.3"
    );
    assert!(root.is_ca() && root.basic_constraints().unwrap().unwrap().critical);
    let usage = root.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature() && root.extended_key_usage().unwrap().is_none());
    assert_eq!(ca.certificate().uri_sans(), ["spiffe://example.org"]);
    let serial = root.tbs_certificate.serial.to_string();
    assert_eq!(
        root.subject().to_string(),
        format!("C=US, O=SPIFFE, serialNumber={serial}")
    );
    assert_eq!(ca.certificate().serial(), serial);
}

#[test]
fn every_type_of_ca_key_issues_what_verifies() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let ca = ca(key_type);
        let svid = ca.sign_svid(&Wanted::new().params(0, HOUR)).unwrap();
        let authority = credence_identity::X509Authority {
            der: ca.certificate().der().clone(),
            tainted: false,
        };
        let verified = verify_svid(&svid.chain, &[authority], at(60)).unwrap();
        assert_eq!(verified.id, svid.id);
        assert_eq!(verified.leaf.serial(), svid.serial);
    }
}

/// A trap of libraries: a library's default serial number is a hash of the key.
#[test]
fn serials_of_one_key_differ() {
    let (ca, wanted) = (ca(KeyType::EcP256), Wanted::new());
    let serials: std::collections::HashSet<String> = (0..64)
        .map(|_| ca.sign_svid(&wanted.params(0, HOUR)).unwrap().serial)
        .collect();
    assert_eq!(serials.len(), 64);
    assert!(
        serials
            .iter()
            .all(|serial| serial.parse::<u128>().is_ok_and(|number| number > 0))
    );
}

/// A trap of libraries: a library's defaults are a validity of two thousand years and a common name of its own.
#[test]
fn nothing_of_the_profile_is_left_to_a_default() {
    let svid = ca(KeyType::EcP256)
        .sign_svid(&Wanted::new().params(7, HOUR))
        .unwrap();
    let leaf = svid.leaf().unwrap();
    assert_eq!((leaf.not_before(), leaf.not_after()), (at(7), at(HOUR)));
    assert_eq!(leaf.subject().to_string(), "O=SPIRE,C=US");
    assert_eq!(leaf.subject().common_name(), None);
}

/// Conforms: X5S-33
#[test]
fn no_leaf_outlives_its_ca() {
    let ca = ca(KeyType::EcP256);
    let svid = ca.sign_svid(&Wanted::new().params(0, 48 * HOUR)).unwrap();
    assert_eq!(svid.not_after, at(24 * HOUR));
    assert_eq!(svid.leaf().unwrap().not_after(), at(24 * HOUR));
    let refused = ca.sign_svid(&Wanted::new().params(24 * HOUR, 48 * HOUR));
    assert!(matches!(refused, Err(IssueError::EmptyLifetime { .. })));
}

/// Conforms: X5S-05
#[test]
fn without_a_subject_the_name_is_critical() {
    let mut wanted = Wanted::new();
    wanted.subject = Some(Subject::empty());
    let ca = ca(KeyType::EcP256);
    let svid = ca.sign_svid(&wanted.params(0, HOUR)).unwrap();
    assert_eq!(
        critical_extensions(&svid.chain[0]),
        ["2.5.29.15", "2.5.29.19", "2.5.29.17"]
    );
    wanted.dns = vec!["a.example".into()];
    let svid = ca.sign_svid(&wanted.params(0, HOUR)).unwrap();
    assert_eq!(critical_extensions(&svid.chain[0]), ["2.5.29.15", "2.5.29.19"]);
}

#[test]
fn the_first_dns_name_replaces_a_requested_common_name() {
    let csr = VerifiedCsr::from_der(include_bytes!("../../../tests/csr/p256.der")).unwrap();
    let mut wanted = Wanted::new();
    wanted.subject = Some(csr.subject().clone());
    let ca = ca(KeyType::EcP256);
    let subject = |wanted: &Wanted| {
        ca.sign_svid(&wanted.params(0, HOUR))
            .unwrap()
            .leaf()
            .unwrap()
            .subject()
            .to_string()
    };
    assert_eq!(subject(&wanted), "CN=asked,O=Requester,C=DE");
    wanted.dns = vec!["given.example".into()];
    assert_eq!(subject(&wanted), "CN=given.example,O=Requester,C=DE");
}

/// Conforms: X5S-04
#[test]
fn what_must_not_be_signed() {
    let ca = ca(KeyType::EcP256);
    let mut wanted = Wanted::new();
    wanted.dns = vec!["bücher.example".into()];
    assert!(matches!(
        ca.sign_svid(&wanted.params(0, HOUR)),
        Err(IssueError::DnsName(_))
    ));
    let mut wanted = Wanted::new();
    wanted.id = SpiffeId::parse("spiffe://example.org").unwrap();
    assert!(matches!(
        ca.sign_svid(&wanted.params(0, HOUR)),
        Err(IssueError::RootPath(_))
    ));

    let leaf = ca
        .sign_svid(&Wanted::new().params(0, HOUR))
        .unwrap()
        .leaf()
        .unwrap();
    let other = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let mismatch = X509Ca::new(other, ca.certificate().clone(), Vec::new());
    assert_eq!(mismatch.unwrap_err(), IssueError::KeyMismatch);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let mut wanted = Wanted::new();
    wanted.key = key.public_key().clone();
    let own = ca.sign_svid(&wanted.params(0, HOUR)).unwrap().leaf().unwrap();
    assert_eq!(
        X509Ca::new(Arc::new(key), own, Vec::new()).unwrap_err(),
        IssueError::NotACa
    );
    assert!(!leaf.is_ca());
}

/// Conforms: X5S-32
#[test]
fn the_upstream_chain_follows_the_leaf() {
    let root = ca(KeyType::EcP256);
    let der = root.certificate().der().clone();
    let below = X509Ca::new(
        root.signer().clone(),
        root.certificate().clone(),
        vec![der.clone()],
    )
    .unwrap();
    let svid = below.sign_svid(&Wanted::new().params(0, HOUR)).unwrap();
    assert_eq!(svid.chain.len(), 2);
    assert_eq!(svid.chain[1], der);
    assert_eq!(X509Svid::parse_chain(&svid.chain_der()).unwrap(), svid);
}

/// Conforms: X5S-07, X5S-08, X5S-09, X5S-16, X5S-21
#[test]
fn downstream_ca_profile_as_another_parser_sees_it() {
    let root = ca(KeyType::EcP384);
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let key = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let chain = root
        .sign_downstream(&trust_domain, key.public_key(), at(10), at(HOUR))
        .unwrap();
    assert_eq!(chain.len(), 1, "the root is not in the chain");
    let (rest, made) = x509_parser::parse_x509_certificate(chain[0].der()).unwrap();
    let (_, parent) = x509_parser::parse_x509_certificate(root.certificate().der()).unwrap();
    assert!(rest.is_empty());
    made.verify_signature(Some(parent.public_key())).unwrap();
    assert_eq!(made.issuer().as_raw(), parent.subject().as_raw());
    let wanted = parent
        .subject()
        .to_string()
        .replace("O=SPIFFE", "O=SPIFFE, OU=DOWNSTREAM-1");
    assert_eq!(made.subject().to_string(), wanted);
    assert_eq!(
        (
            made.validity().not_before.timestamp(),
            made.validity().not_after.timestamp()
        ),
        (10, HOUR)
    );
    let constraints = made.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca && constraints.value.path_len_constraint.is_none());
    let usage = made.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert_eq!(chain[0].uri_sans(), ["spiffe://example.org"]);
    assert_eq!(chain[0].authority_key_id(), root.certificate().subject_key_id());
    assert!(made.extended_key_usage().unwrap().is_none());

    // What it signs verifies by the root, and a CA below it counts on.
    let below = X509Ca::new(key, chain[0].clone(), vec![chain[0].der().clone()]).unwrap();
    let svid = below.sign_svid(&Wanted::new().params(10, 24 * HOUR)).unwrap();
    assert_eq!((svid.chain.len(), svid.not_after), (2, at(HOUR)));
    let authority = credence_identity::X509Authority {
        der: root.certificate().der().clone(),
        tainted: false,
    };
    verify_svid(&svid.chain, &[authority], at(20)).unwrap();
    let other = PrivateKey::generate(KeyType::EcP256).unwrap();
    let chain = below
        .sign_downstream(&trust_domain, other.public_key(), at(10), at(24 * HOUR))
        .unwrap();
    assert_eq!((chain.len(), chain[0].not_after()), (2, at(HOUR)));
    assert!(chain[0].subject().to_string().contains("OU=DOWNSTREAM-1,"));
    let outcome = root.sign_downstream(&trust_domain, other.public_key(), at(24 * HOUR), at(25 * HOUR));
    assert!(matches!(outcome, Err(IssueError::EmptyLifetime { .. })));
}

/// Conforms: SID-27, X5S-22
#[test]
fn no_byte_of_a_certificate_can_be_changed() {
    let ca = ca(KeyType::EcP256);
    let svid = ca.sign_svid(&Wanted::new().params(0, HOUR)).unwrap();
    let authorities = [credence_identity::X509Authority {
        der: ca.certificate().der().clone(),
        tainted: false,
    }];
    verify_svid(&svid.chain, &authorities, at(60)).unwrap();
    for position in 0..svid.chain[0].len() {
        let mut changed = svid.chain[0].to_vec();
        changed[position] ^= 1;
        assert!(
            verify_svid(&[changed], &authorities, at(60)).is_err(),
            "byte {position}"
        );
    }
}
