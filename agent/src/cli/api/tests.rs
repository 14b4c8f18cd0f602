use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use credence_crypto::{
    KeyType, PrivateKey, Signer,
    x509::{CaSubject, LeafParams, X509Ca},
};
use credence_identity::{SpiffeId, Timestamp, TrustDomain};
use credence_proto::spiffe_workload::{
    JwtBundlesResponse, Jwtsvid, JwtsvidResponse, X509svid, X509svidResponse,
};

use super::{received::Received, *};

const START: i64 = 1_787_426_917;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(START + seconds)
}

pub(super) fn ca() -> X509Ca {
    let key = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let trust_domain = TrustDomain::parse("domain.test").unwrap();
    X509Ca::self_sign(key, &trust_domain, &CaSubject::default(), at(0), at(3600)).unwrap()
}

/// An SVID that lives a minute, as an agent would hand it out.
pub(super) fn svid(ca: &X509Ca, hint: &str) -> X509svid {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let leaf = LeafParams {
        id: &SpiffeId::parse("spiffe://domain.test/w").unwrap(),
        public_key: key.public_key(),
        dns_names: &[],
        subject: None,
        not_before: at(0),
        not_after: at(60),
    };
    X509svid {
        spiffe_id: "spiffe://domain.test/w".into(),
        x509_svid: ca.sign_svid(&leaf).unwrap().chain_der(),
        x509_svid_key: key.pkcs8_der().to_vec(),
        bundle: ca.certificate().der().to_vec(),
        hint: hint.into(),
    }
}

pub(super) fn response(svids: Vec<X509svid>) -> X509svidResponse {
    X509svidResponse {
        svids,
        crl: Vec::new(),
        federated_bundles: BTreeMap::new(),
    }
}

#[test]
fn svids_as_text() {
    let ca = ca();
    let mut response = response(vec![svid(&ca, ""), svid(&ca, "second")]);
    let federated = ca.certificate().der().to_vec();
    response
        .federated_bundles
        .insert("spiffe://f.test".into(), federated);
    let received = Received::parse(&response).unwrap();
    received.verify(at(1)).unwrap();
    let mut out = Vec::new();
    received
        .print(&mut out, GoDuration::from(Duration::from_micros(1_500)))
        .unwrap();
    let rest = "SVID Valid After:\t2026-08-22 19:28:37 +0000 UTC
SVID Valid Until:\t2026-08-22 19:29:37 +0000 UTC
CA #1 Valid After:\t2026-08-22 19:28:37 +0000 UTC
CA #1 Valid Until:\t2026-08-22 20:28:37 +0000 UTC
[spiffe://f.test] CA #1 Valid After:\t2026-08-22 19:28:37 +0000 UTC
[spiffe://f.test] CA #1 Valid Until:\t2026-08-22 20:28:37 +0000 UTC
";
    let expected = format!(
        "Received 2 svids after 1.5ms\n\nSPIFFE ID:\t\tspiffe://domain.test/w\n{rest}\n\
         SPIFFE ID:\t\tspiffe://domain.test/w\nHint:\t\t\tsecond\n{rest}\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

/// Conforms: X5S-34
#[test]
fn what_does_not_verify_is_refused() {
    let (ca, other) = (ca(), ca());
    let fault = |svid: X509svid, now| {
        let received = Received::parse(&response(vec![svid])).unwrap();
        received.verify(now).unwrap_err().to_string()
    };
    let prefix = "\"spiffe://domain.test/w\" SVID failed verification against bundle: ";
    let good = svid(&ca, "");
    assert!(fault(good.clone(), at(120)).starts_with(prefix));
    let foreign_bundle = X509svid {
        bundle: other.certificate().der().to_vec(),
        ..good.clone()
    };
    assert!(fault(foreign_bundle, at(1)).starts_with(prefix));
    let foreign_key = X509svid {
        x509_svid_key: svid(&ca, "").x509_svid_key,
        ..good.clone()
    };
    assert!(fault(foreign_key, at(1)).starts_with(prefix));
    let foreign_id = X509svid {
        spiffe_id: "spiffe://domain.test/other".into(),
        ..good
    };
    assert!(fault(foreign_id, at(1)).contains("SVID failed verification against bundle: "));
}

/// Conforms: WAP-13
#[test]
fn junk_is_named() {
    let fault = |response: &X509svidResponse| Received::parse(response).unwrap_err().to_string();
    assert_eq!(
        fault(&response(Vec::new())),
        "workload response contains no svids"
    );
    let mut junk = svid(&ca(), "");
    junk.x509_svid = vec![1, 2, 3];
    let expected = "failed to parse svid entry 0 for spiffe id \"spiffe://domain.test/w\": ";
    assert!(fault(&response(vec![junk])).starts_with(expected));
}

#[test]
fn files_have_spires_names_and_their_modes() {
    use std::os::unix::fs::PermissionsExt;
    let ca = ca();
    let mut response = response(vec![svid(&ca, "")]);
    response
        .federated_bundles
        .insert("spiffe://f.test".into(), ca.certificate().der().to_vec());
    let folder = tempfile::tempdir().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console {
        input: &mut std::io::empty(),
        out: &mut out,
        err: &mut err,
        terminal: None,
    };
    let received = Received::parse(&response).unwrap();
    received.write(folder.path(), false, &mut console).unwrap();
    for (name, label, mode) in [
        ("svid.0.pem", "CERTIFICATE", 0o644),
        ("svid.0.key", "PRIVATE KEY", 0o600),
        ("bundle.0.pem", "CERTIFICATE", 0o644),
        ("federated_bundle.0.0.pem", "CERTIFICATE", 0o644),
    ] {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("-----BEGIN {label}-----\n")), "{name}");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            mode,
            "{name}"
        );
    }
    let folder = folder.path().display();
    let expected = format!(
        "Writing SVID #0 to file {folder}/svid.0.pem.\nWriting key #0 to file {folder}/svid.0.key.\n\
         Writing bundle #0 to file {folder}/bundle.0.pem.\nWriting federated bundle #0 for trust domain \
         spiffe://f.test to file {folder}/federated_bundle.0.0.pem.\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn tokens_as_text() {
    let svids = JwtsvidResponse {
        svids: vec![Jwtsvid {
            spiffe_id: "spiffe://domain.test/w".into(),
            svid: "a.b.c".into(),
            hint: "h".into(),
        }],
    };
    let bundles = JwtBundlesResponse {
        bundles: BTreeMap::from([("spiffe://domain.test".to_owned(), b"{}".to_vec())]),
    };
    let mut out = Vec::new();
    fetch_jwt::print(&mut out, &svids, &bundles).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "token(spiffe://domain.test/w):\n\ta.b.c\nhint(spiffe://domain.test/w):\n\th\n\
         bundle(spiffe://domain.test):\n\t{}\n"
    );
}
